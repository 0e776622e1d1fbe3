package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// world is a node whose pools and proxy have no sockets, and what they were told.
type world struct {
	*Node
	mu       sync.Mutex
	said     []string
	next     *site.Site
	nextErr  error
	failPool string        // its Update fails
	failOpen bool          // the proxy cannot open a listener
	drain    time.Duration // how long draining takes; more than it may: as long as it may
	busy     map[string]int64
	shown    map[string]console.Pool // instead of what it would show
	fronts   map[string]console.Listener
}

// show makes a pool show endpoints.
func (w *world) show(pool string, endpoints ...console.Endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shown == nil {
		w.shown = map[string]console.Pool{}
	}
	w.shown[pool] = console.Pool{Name: pool, HealthyShare: 1, Endpoints: slices.Clone(endpoints)}
}

func (w *world) say(text string) {
	w.mu.Lock()
	w.said = append(w.said, text)
	w.mu.Unlock()
}

// told returns what was said since the last call.
func (w *world) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(w.said, ", ")
	w.said = nil
	return out
}

type worldPool struct {
	fakePool
	w    *world
	name string
}

func (p *worldPool) Run(ctx context.Context) error {
	<-ctx.Done()
	p.w.say("end " + p.name)
	return nil
}

func (p *worldPool) Update(cfg *site.Pool) error {
	if p.w.failPool == p.name && cfg.Method != "old" {
		return errors.New("no certificate")
	}
	p.w.say("update " + p.name + " " + cfg.Method)
	return nil
}

func (p *worldPool) SetState(address, state string) error { return nil }
func (p *worldPool) Ready() bool                          { return true }
func (p *worldPool) view() console.Pool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if e, is := p.w.shown[p.name]; is {
		return e
	}
	return console.Pool{Endpoints: []console.Endpoint{{InFlight: p.w.busy[p.name]}}}
}

type worldFront struct{ w *world }

func (f *worldFront) Update(listeners map[string]*site.Listener, handlers func() (map[string]exchange.Handler, error)) error {
	if f.w.failOpen {
		return errors.New("port is taken")
	}
	made, err := handlers()
	if err != nil {
		return err
	}
	f.w.say("listen " + strings.Join(slices.Sorted(maps.Keys(made)), "+"))
	return nil
}

func (f *worldFront) Run(ctx context.Context) error {
	<-ctx.Done()
	f.w.say("proxy ended")
	return nil
}

func (f *worldFront) Drain(ctx context.Context) error {
	t := time.NewTimer(f.w.drain)
	defer t.Stop()
	select {
	case <-t.C:
		f.w.say("drained")
		return nil
	case <-ctx.Done():
		f.w.say("cut")
		return errors.New("1 request was left")
	}
}

func (f *worldFront) Files() (map[string][]*os.File, error) { return nil, nil }
func (f *worldFront) Addr(string) net.Addr                  { return nil }
func (f *worldFront) views() map[string]console.Listener {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return maps.Clone(f.w.fronts)
}

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }

// testSite is a site with pools a and b: name=method.
func testSite(listener string, pools ...string) *site.Site {
	s := &site.Site{Name: "test", Admin: site.Admin{Listen: "off"}, Stop: site.Stop{Drain: 30 * time.Second},
		Listeners: map[string]*site.Listener{listener: {Name: listener, Protocol: site.ProtocolHTTP}}, Pools: map[string]*site.Pool{}}
	for _, p := range pools {
		name, method, _ := strings.Cut(p, "=")
		s.Pools[name] = &site.Pool{Name: name, Method: method, DrainTimeout: 10 * time.Second}
		s.Routes = append(s.Routes, &site.Route{Name: "to-" + name, Pool: name})
	}
	return s
}

// newWorld makes a node that serves s. prepare is called before it runs.
func newWorld(t *testing.T, s *site.Site, prepare ...func(n *Node)) *world {
	w := &world{busy: map[string]int64{}, drain: time.Second}
	ready := make(chan struct{})
	n, err := New(Options{Site: s, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
		Load: func() (*site.Site, error) { return w.next, w.nextErr }})
	if err != nil {
		t.Fatal(err)
	}
	w.Node = n
	n.front, n.prober = &worldFront{w}, func(ctx context.Context) error { <-ctx.Done(); return nil }
	n.newPool = func(cfg *site.Pool) (poolPart, error) {
		if cfg.Method == "impossible" {
			return nil, errors.New("no authority")
		}
		w.say("build " + cfg.Name)
		return &worldPool{w: w, name: cfg.Name}, nil
	}
	for _, f := range prepare {
		f(n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("node ended: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("node ended: %v", err)
		}
	})
	synctest.Wait()
	return w
}

// withKey makes a site believe tokens by the key in a file.
func withKey(s *site.Site, file string) *site.Site {
	s.Identify.Customer = &site.Source{JWT: &site.JWT{Claim: "sub", Key: file}}
	return s
}

func TestReload(t *testing.T) {
	for _, c := range []struct {
		name  string
		next  *site.Site
		err   error
		setup func(*world)
		told  string
		wrong string // part of the error; empty: the reload is done
	}{
		{name: "new, changed and unchanged pools", next: testSite("web", "a=new", "b=old", "c=old"),
			told: "build c, update a new, listen web"},
		{name: "a pool is gone", next: testSite("web2", "a=old"), told: "listen web2, end b"},
		{name: "a broken file", err: errors.New("site.yaml:3:1: no"), wrong: "site.yaml:3:1"},
		{name: "a pool cannot be built", next: testSite("web", "c=old", "d=impossible"), told: "build c, end c", wrong: "no authority"},
		{name: "a pool cannot be changed", next: testSite("web", "a=new", "b=new", "c=old"), setup: func(w *world) { w.failPool = "b" },
			told: "build c, update a new, update a old, end c", wrong: "no certificate"},
		{name: "a key of tokens is missing", next: withKey(testSite("web", "a=new", "b=old"), "none.pem"), wrong: "identify.customer: jwt: open none.pem"},
		{name: "a listener cannot be opened", next: testSite("web9", "a=new", "c=old"), setup: func(w *world) { w.failOpen = true },
			told: "build c, end c", wrong: "port is taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, testSite("web", "a=old", "b=old"))
				w.told()
				before := w.View().Node.SiteRevision
				w.next, w.nextErr = c.next, c.err
				if c.setup != nil {
					c.setup(w)
				}
				err := w.Reload()
				pass(time.Second)
				synctest.Wait()
				told := w.told()
				if told != c.told {
					t.Errorf("the parts were told %q, want %q", told, c.told)
				}
				v := w.View()
				if c.wrong == "" {
					if err != nil || v.Node.SiteRevision == before || !v.Node.LastReload.OK {
						t.Errorf("reload: %v, revision %s, %+v", err, v.Node.SiteRevision, v.Node.LastReload)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("reload: %v, want %q", err, c.wrong)
				}
				if v.Node.SiteRevision != before || v.Node.LastReload.OK || !strings.Contains(v.Node.LastReload.Error, c.wrong) {
					t.Errorf("the old site should be in force: %+v", v.Node)
				}
				if w.finder == nil {
					t.Error("the old site's facts are found no more")
				}
				if len(v.Pools) != 2 {
					t.Errorf("%d pools after a reload that failed, want 2", len(v.Pools))
				}
			})
		})
	}
}

// What outlives reloads keeps the settings of the old site when the new one is refused, and knows nothing of its pools.
func TestRefusedReloadChangesNoPart(t *testing.T) {
	shedding := func(mode string, pools ...string) *site.Site {
		s := testSite("web", pools...)
		for _, p := range s.Pools {
			p.Shed = site.Shed{Mode: mode, Max: 7}
			p.Breaker = site.Breaker{Mode: mode}
		}
		return s
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shedding(site.ModeDryRun, "a=old"))
		w.failOpen, w.next = true, shedding(site.ModeOn, "a=old", "b=old")
		w.next.Pools["a"].Shed.Max, w.next.Screening.Concurrency = 1, 7
		if err := w.Reload(); err == nil {
			t.Fatal("the reload was done")
		}
		if got := w.viewShed("a"); got.Mode != site.ModeDryRun || got.Max != 7 {
			t.Errorf("the shedder follows a site that was refused: %+v", got)
		}
		if !w.breakers["a"].dry.Load() {
			t.Error("the breaker follows a site that was refused")
		}
		if len(w.gates) != 1 || len(w.breakers) != 1 {
			t.Errorf("%d shedders and %d breakers, want those of pool a alone", len(w.gates), len(w.breakers))
		}
		if got := w.screen.Status().Concurrency; got == 7 {
			t.Error("screening follows a site that was refused")
		}
	})
}

// TestReloadTellsOfZone: a zone that a reload cannot change is told of, or an operator thinks that traffic has moved.
func TestReloadTellsOfZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old"))
		w.next = testSite("web", "a=old")
		w.next.Zone = "b"
		if err := w.Reload(); err != nil {
			t.Fatal(err)
		}
		for _, e := range w.events.newest(10) {
			if strings.HasPrefix(e.Text, "zone changes with the next start") {
				return
			}
		}
		t.Errorf("nothing is told of the zone: %v", w.events.newest(10))
	})
}

func TestRemovedPoolFinishesItsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old", "b=old"))
		w.busy["b"] = 1
		w.next = testSite("web", "a=old")
		if err := w.Reload(); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		synctest.Wait()
		if told := w.told(); strings.Contains(told, "end b") {
			t.Errorf("the pool ended with a request in flight: %s", told)
		}
		w.mu.Lock()
		w.busy["b"] = 0
		w.mu.Unlock()
		pass(time.Second)
		synctest.Wait()
		if told := w.told(); !strings.Contains(told, "end b") {
			t.Errorf("the pool did not end when nothing was in flight: %s", told)
		}
	})
}

func TestCountersOutliveAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old", "b=old"))
		w.send = ok
		h := w.handlers(w.site, parts(w.pools))["web"]
		h(request(t, "GET / HTTP/1.1\nHost: a"))
		w.next = testSite("web", "a=new")
		if err := w.Reload(); err != nil {
			t.Fatal(err)
		}
		h(request(t, "GET / HTTP/1.1\nHost: a")) // under way on the old stages
		w.handlers(w.site, parts(w.pools))["web"](request(t, "GET / HTTP/1.1\nHost: a"))
		if v := w.View(); v.Totals.Requests != 3 || v.Routes[0].Requests != 3 || v.Routes[0].Status["2xx"] != 3 {
			t.Errorf("counted %+v, want 3 requests", v.Routes)
		}
		if v := w.View(); len(v.Routes) != 1 || v.Pools[0].Requests != 3 {
			t.Errorf("routes %d, pool's requests %d", len(v.Routes), v.Pools[0].Requests)
		}
	})
}

func TestStopInOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		drain time.Duration
		act   func(*world)
		want  string
		took  time.Duration
	}{
		{"all finish", 2 * time.Second, func(w *world) { w.Stop() }, "drained, proxy ended, end a", 2 * time.Second},
		{"some do not", time.Hour, func(w *world) { w.Stop() }, "cut, proxy ended, end a", 30 * time.Second},
		{"told twice", time.Hour, func(w *world) {
			w.Stop()
			pass(3 * time.Second)
			w.Abort()
		}, "cut, proxy ended, end a", 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, testSite("web", "a=old"))
				w.drain = c.drain
				w.told()
				began := time.Now()
				c.act(w)
				synctest.Wait()
				if ok, why := w.ready(); ok || why != "draining" {
					t.Errorf("ready %v %q while draining", ok, why)
				}
				w.tasks.wg.Wait()
				if told, took := w.told(), time.Since(began); told != c.want || took != c.took {
					t.Errorf("%q in %v, want %q in %v", told, took, c.want, c.took)
				}
				w.next = testSite("web", "a=new")
				if err := w.Reload(); err == nil {
					t.Error("a reload was taken after the stop")
				}
				if v := w.View().Node.LastReload; v != nil || len(w.changed.list) > 0 {
					t.Errorf("a reload after the stop counts as refused: %+v, %+v", v, w.changed.list)
				}
			})
		})
	}
}
