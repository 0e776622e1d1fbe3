package pool

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// zones simulates three zones, each with a node and endpoints of its own, in simulated time. Endpoints work on a few requests at once and
// queue the rest; clients leave after a second, which endpoints do not notice; probes are answered behind what waits, so that who drowns fails
// them too.
type zones struct {
	now   time.Time
	rnd   *rand.Rand
	pools []*Pool
	ends  map[string]*zoneEnd
	queue happenings
	ok    [3]int // by class
	sent  [3]int
	no    [3]int // refused at once
	most  int    // in flight at one endpoint
}

type zoneEnd struct {
	free   workers
	flight int
	lost   bool
}

const (
	zoneWorkers = 10
	zoneService = 50 * time.Millisecond
	zonePatient = time.Second
)

func newZones(t *testing.T, mode string, prioritised bool, seed uint64) *zones {
	w := &zones{now: time.Unix(1_700_000_000, 0), rnd: rand.New(rand.NewPCG(seed, 9)), ends: map[string]*zoneEnd{}}
	names := []string{"a", "b", "c"}
	for here, zone := range names {
		cfg := &site.Pool{Name: "p", Method: site.MethodLeastRequests, Panic: 0.5, Overprovision: 1.4, SlowStart: 0,
			Outliers: site.Outliers{Mode: site.ModeOn, Slow: 4, First: 30 * time.Second, Max: 5 * time.Minute}, Spill: site.Spill{Mode: mode}}
		for i, z := range names {
			for n := range 2 {
				e := site.Endpoint{Address: fmt.Sprint(z, n), Zone: z, Weight: 1, Priority: 1}
				if prioritised {
					e.Priority = 1 + (i-here+3)%3
				}
				cfg.Endpoints = append(cfg.Endpoints, e)
				if w.ends[e.Address] == nil {
					w.ends[e.Address] = &zoneEnd{free: make(workers, zoneWorkers)}
				}
			}
		}
		p, err := newPool(cfg, Deps{Seed: 1 + seed + uint64(here), Zone: zone, Prober: probe.New(nil)}, func() time.Time { return w.now })
		if err != nil {
			t.Fatal(err)
		}
		w.pools = append(w.pools, p)
	}
	return w
}

func (w *zones) later(d time.Duration, do func()) {
	heap.Push(&w.queue, happening{w.now.Add(d), do})
}

// work is when an endpoint has done one more request.
func (e *zoneEnd) work(now time.Time) time.Time {
	at := now
	if e.free[0].After(at) {
		at = e.free[0]
	}
	at = at.Add(zoneService)
	e.free.busy(at)
	return at
}

// send sends one request of a class from the node of a zone.
func (w *zones) send(here int, class exchange.Class) {
	p := w.pools[here]
	x := &exchange.Exchange{Shard: uint32(w.rnd.Uint32()), Request: &wire.Request{}, Class: class}
	w.sent[class]++
	e, no := p.Pick(x)
	if no != nil {
		w.no[class]++
		return
	}
	end, start := w.ends[e.Address], w.now
	if end.lost {
		w.later(time.Millisecond, func() { p.Done(x, e, exchange.Result{Kind: exchange.ConnectFailed, Unsent: true}) })
		return
	}
	end.flight++
	w.most = max(w.most, end.flight)
	took := end.work(w.now).Sub(start)
	w.later(took, func() { end.flight-- })
	if took > zonePatient {
		w.later(zonePatient, func() { p.Done(x, e, exchange.Result{Kind: exchange.Cancelled, Latency: zonePatient}) })
		return
	}
	w.ok[class]++
	w.later(took, func() { p.Done(x, e, exchange.Result{Status: 200, Latency: took}) })
}

// run lets each zone's clients send rate requests a second, and nodes look and probe, for a time.
func (w *zones) run(rate float64, long time.Duration) {
	end := w.now.Add(long)
	var client, look, ask func(here int)
	client = func(here int) {
		class := [...]exchange.Class{exchange.Critical, exchange.Standard, exchange.Standard, exchange.Standard, exchange.Low}[w.rnd.IntN(5)]
		w.send(here, class)
		if next := time.Duration(w.rnd.ExpFloat64() / rate * float64(time.Second)); w.now.Add(next).Before(end) {
			w.later(next, func() { client(here) })
		}
	}
	look = func(here int) {
		w.pools[here].look(w.now)
		if w.now.Add(100 * time.Millisecond).Before(end) {
			w.later(100*time.Millisecond, func() { look(here) })
		}
	}
	ask = func(here int) {
		p := w.pools[here]
		for _, m := range p.members {
			e := w.ends[m.Address]
			p.heard(m, m.born, probe.Verdict{At: w.now, Healthy: !e.lost && e.free[0].Sub(w.now) < zonePatient})
		}
		if w.now.Add(time.Second).Before(end) {
			w.later(time.Second, func() { ask(here) })
		}
	}
	for here := range w.pools {
		ask(here)
		look(here)
		client(here)
	}
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		h := heap.Pop(&w.queue).(happening)
		w.now = h.at
		h.do()
	}
	w.now = end
}

func (w *zones) begin() { w.ok, w.sent, w.no, w.most = [3]int{}, [3]int{}, [3]int{}, 0 }

func (w *zones) lose(zone string) {
	for name, e := range w.ends {
		if name[:1] == zone {
			e.lost = true
		}
	}
}

// good is the share of what came that was answered in time.
func (w *zones) good() float64 {
	return float64(w.ok[0]+w.ok[1]+w.ok[2]) / float64(w.sent[0]+w.sent[1]+w.sent[2])
}

// Three zones at 65 %, one is lost, and its traffic goes to the next by priority. Without a bound that one drowns, and the last one too; with
// it both go on, what does not fit is refused at once, and critical requests fit.
func TestSpillDrownsNobody(t *testing.T) {
	const rate = 0.65 * 2 * zoneWorkers / 0.05 // of one zone
	for seed := range length[uint64](3, 1) {
		plain := newZones(t, site.ModeOff, true, seed)
		plain.run(rate, 20*time.Second)
		plain.lose("a")
		plain.run(rate, 10*time.Second)
		plain.begin()
		plain.run(rate, length(time.Minute, 20*time.Second))

		w := newZones(t, site.ModeOn, true, seed)
		w.run(rate, 20*time.Second)
		if w.no != [3]int{} || w.good() < 1 {
			t.Fatalf("seed %d: before anything was lost, %v were refused and %.3f answered", seed, w.no, w.good())
		}
		w.lose("a")
		w.run(rate, 10*time.Second)
		w.begin()
		w.run(rate, length(time.Minute, 20*time.Second))
		t.Logf("seed %d: plain %.2f answered, most in flight %d; bounded %.2f answered, most in flight %d, refused %v of %v", seed, plain.good(), plain.most, w.good(), w.most, w.no, w.sent)
		if plain.good() > 0.7 {
			t.Errorf("seed %d: plain failover answered %.2f in time, so the world shows nothing", seed, plain.good())
		}
		if w.good() < 0.8 {
			t.Errorf("seed %d: %.2f were answered in time, want at least 0.8", seed, w.good())
		}
		if c := exchange.Critical; float64(w.ok[c]) < 0.999*float64(w.sent[c]) {
			t.Errorf("seed %d: of %d critical requests %d were answered, want 99.9%%", seed, w.sent[c], w.ok[c])
		}
		if w.most > 8*zoneWorkers {
			t.Errorf("seed %d: an endpoint had %d in flight that works on %d", seed, w.most, zoneWorkers)
		}
	}
}

// A dry run counts what would be refused, and sends as if there were no bound.
func TestSpillDryRun(t *testing.T) {
	worlds := map[string]*zones{}
	for _, mode := range []string{site.ModeOff, site.ModeDryRun} {
		w := newZones(t, mode, true, 1)
		w.run(260, 10*time.Second)
		w.lose("a")
		w.run(260, 10*time.Second)
		worlds[mode] = w
	}
	off, dry := worlds[site.ModeOff], worlds[site.ModeDryRun]
	if dry.no != [3]int{} || dry.sent != off.sent || dry.ok != off.ok || dry.most != off.most {
		t.Errorf("a dry run refused %v and answered %v of %v, most in flight %d; without a bound %v of %v, %d", dry.no, dry.ok, dry.sent, dry.most, off.ok, off.sent, off.most)
	}
	would := 0
	for _, p := range dry.pools {
		would += int(p.Status().Spilt)
	}
	if would < 100 || off.pools[0].Status().Spilt != 0 {
		t.Errorf("%d would have been refused in a world that drowns; off counts %d", would, off.pools[0].Status().Spilt)
	}
}

// With room everywhere nothing is refused: neither at little load, nor when the others idle.
func TestSpillHarmsNobody(t *testing.T) {
	for name, c := range map[string]struct {
		rate        float64
		prioritised bool
	}{"little load, by priority": {40, true}, "little load, by zone": {40, false}, "by zone": {200, false}} {
		w := newZones(t, site.ModeOn, c.prioritised, 5)
		w.run(c.rate, 10*time.Second)
		w.lose("a")
		w.run(c.rate, 5*time.Second)
		w.begin()
		w.run(c.rate, 20*time.Second)
		if w.no != [3]int{} || w.good() < 1 {
			t.Errorf("%s: %v of %v were refused, %.3f answered", name, w.no, w.sent, w.good())
		}
	}
	// One node alone, whose second zone has nothing else to do.
	w := newZones(t, site.ModeOn, true, 6)
	w.pools = w.pools[:1]
	w.run(260, 10*time.Second)
	w.lose("a")
	w.run(260, 5*time.Second)
	w.begin()
	w.run(260, 20*time.Second)
	if sum := w.no[0] + w.no[1] + w.no[2]; float64(sum) > 0.002*float64(w.sent[0]+w.sent[1]+w.sent[2]) {
		t.Errorf("alone: %v of %v were refused though the next zone was idle", w.no, w.sent)
	}
}

// TestSpillBoundedWithoutOutliers: where answers are not compared, nobody looked at a pool that was well, so that nothing was known of the lost endpoints, and the next
// ones got all of theirs.
func TestSpillBoundedWithoutOutliers(t *testing.T) {
	for _, mode := range []string{site.ModeOff, site.ModeOn} {
		f := newFleet(t, site.MethodLeastRequests, 4, 5, 3, fixed(50*time.Millisecond))
		cfg := *f.p.cfg
		cfg.Outliers.Mode, cfg.Spill = mode, site.Spill{Mode: site.ModeOn, Concurrency: 5}
		cfg.Endpoints[2].Priority, cfg.Endpoints[3].Priority = 2, 2
		if err := f.p.Update(&cfg); err != nil {
			t.Fatal(err)
		}
		f.run(t, 150, 10*time.Millisecond)
		f.until(f.now.Add(time.Minute)) // the pool falls asleep
		if !f.p.asleep.Load() || !f.lookAt.IsZero() {
			t.Errorf("outliers %s: a pool without requests is looked at", mode)
		}
		f.run(t, 150, 2*time.Second)
		for _, m := range f.p.members[:2] {
			if err := f.p.SetState(m.Address, StateDown); err != nil {
				t.Fatal(err)
			}
		}
		f.run(t, 150, time.Second)
		for _, m := range f.p.members[2:] {
			if room := m.room.Load(); room == 0 || room > 5 {
				t.Errorf("outliers %s: %s has room for %d, want up to 5, and 0 is for any number", mode, m.Address, room)
			}
		}
	}
}

// TestSpillBoundedFromTheStart: a node that starts while its own endpoints are lost has seen no answer of them. What the site file says that endpoints
// can work on bounds it all the same.
func TestSpillBoundedFromTheStart(t *testing.T) {
	f := newFleet(t, site.MethodLeastRequests, 4, 5, 3, fixed(50*time.Millisecond))
	cfg := *f.p.cfg
	cfg.Spill = site.Spill{Mode: site.ModeOn, Concurrency: 5}
	cfg.Endpoints[2].Priority, cfg.Endpoints[3].Priority = 2, 2
	if err := f.p.Update(&cfg); err != nil {
		t.Fatal(err)
	}
	for _, m := range f.p.members[:2] {
		if err := f.p.SetState(m.Address, StateDown); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		f.run(t, 400, time.Second)
		for _, m := range f.p.members[2:] {
			if room := m.room.Load(); room != 5 {
				t.Errorf("%s has room for %d, want 5", m.Address, room)
			}
			if n := m.InFlight.Load(); n > 5 {
				t.Errorf("%s has %d in flight, want at most 5", m.Address, n)
			}
		}
	}
	if f.p.spilt.Load() == 0 || f.errors > f.sent*3/4 {
		t.Errorf("of %d requests, twice what there is room for, %d were refused", f.sent, f.errors)
	}
	// A reload that says otherwise holds at once.
	other := cfg
	other.Spill.Concurrency = 2
	if err := f.p.Update(&other); err != nil {
		t.Fatal(err)
	}
	f.run(t, 400, time.Second)
	if a, b := f.p.members[2].room.Load(), f.p.members[3].room.Load(); a != 2 || b != 2 {
		t.Errorf("after a reload there is room for %d and %d, want 2 each", a, b)
	}
}
