package node

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/site"
)

// firing are the names of alerts that fire.
func (w *world) firing() (names []string) {
	for _, a := range w.viewAlerts().Alerts {
		if a.State == alert.Firing && !slices.Contains(names, a.Name) {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names
}

// until lets fake time pass until something holds, and says after how long.
func (f *traffic) until(t *testing.T, most time.Duration, busy bool, what func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !what() {
		if time.Since(began) >= most {
			t.Fatalf("not within %v; firing are %q", most, f.firing())
		}
		if busy {
			f.run(t, time.Second)
		} else {
			pass(time.Second)
			synctest.Wait()
		}
	}
	return time.Since(began)
}

// refuse is what a stage says no with.
func refuse(stage string, status int) func(x *exchange.Exchange) *exchange.Refusal {
	return func(x *exchange.Exchange) *exchange.Refusal {
		return &exchange.Refusal{Stage: stage, Reason: "overloaded", Status: status}
	}
}

// healthy is a pool that is well and was probed just now.
func (w *world) healthy() {
	w.show("a", console.Endpoint{Address: "x", State: console.StateUp, History: []console.Verdict{{At: time.Now(), Healthy: true}}})
}

// trouble makes an alert fire and ends that again.
type trouble struct {
	name  string
	most  time.Duration // within which it fires
	site  func(t *testing.T, s *site.Site)
	begin func(t *testing.T, f *traffic)
	end   func(t *testing.T, f *traffic)
	over  time.Duration // within which it is over; 0: not looked at
	busy  bool          // requests come meanwhile
}

func causes() []trouble {
	answer := func(a func(*exchange.Exchange) *exchange.Refusal) func(*testing.T, *traffic) {
		return func(_ *testing.T, f *traffic) { f.answer = a }
	}
	front := func(change func(l *console.Listener)) func(*testing.T, *traffic) {
		return func(_ *testing.T, f *traffic) {
			l := console.Listener{Name: "web"}
			change(&l)
			f.mu.Lock()
			f.fronts = map[string]console.Listener{"web": l}
			f.mu.Unlock()
		}
	}
	certificate := func(left time.Duration) func(*testing.T, *traffic) {
		return front(func(l *console.Listener) {
			l.Certificates = []console.Certificate{{Hosts: []string{"shop.example"}, NotAfter: time.Now().Add(left)}}
		})
	}
	objective := func(_ *testing.T, s *site.Site) {
		s.Objectives = []*site.Objective{promise("o", func(o *site.Objective) { o.Window = "7d" })}
	}
	nothing := func(*testing.T, *traffic) {}
	return []trouble{
		{name: alert.BurnPage, most: time.Minute, site: objective, begin: answer(fail), end: answer(ok), over: 8 * time.Minute, busy: true},
		{name: alert.BurnTicket, most: time.Minute, site: objective, begin: answer(fail), end: nothing, busy: true},
		{name: alert.BudgetSpent, most: time.Minute, site: objective, begin: answer(fail), end: nothing, busy: true},
		{name: alert.Many503, most: 90 * time.Second, begin: answer(refuse("shed", 503)), end: answer(ok), over: 7 * time.Minute, busy: true},
		{name: alert.Many429, most: 90 * time.Second, begin: answer(refuse("other", 429)), end: answer(ok), over: 7 * time.Minute, busy: true},
		{name: alert.NearCap, most: 75 * time.Second, site: func(_ *testing.T, s *site.Site) { s.Listeners["web"].Limits.Connections = 100 },
			begin: front(func(l *console.Listener) { l.Open = 80 }), end: front(func(l *console.Listener) { l.Open = 79 }), over: 15 * time.Second},
		{name: alert.PoolCapacity, most: 45 * time.Second, begin: func(_ *testing.T, f *traffic) {
			f.show("a", console.Endpoint{Address: "x", State: console.StateSick})
			f.mu.Lock()
			f.shown["a"] = console.Pool{HealthyShare: 0.5, Endpoints: f.shown["a"].Endpoints}
			f.mu.Unlock()
		}, end: func(_ *testing.T, f *traffic) { f.healthy() }, over: 80 * time.Second},
		{name: alert.BreakerOpen, most: 30 * time.Second, site: func(_ *testing.T, s *site.Site) {
			s.Pools["a"].Breaker = site.Breaker{Mode: site.ModeOn, Row: 20, RowFor: 2 * time.Second, Failures: 1, Samples: 50, Window: 10 * time.Second, Open: time.Second, OpenMax: 5 * time.Second, Trials: 3}
		}, begin: answer(func(x *exchange.Exchange) *exchange.Refusal {
			x.Attempt, x.Result = 1, exchange.Result{Kind: exchange.ConnectFailed}
			return &exchange.Refusal{Stage: "send", Reason: "broken", Status: 502}
		}), end: answer(func(x *exchange.Exchange) *exchange.Refusal {
			x.Attempt, x.Result = 1, exchange.Result{Status: 200}
			x.Outcome.Status = 200
			if x.Held != nil {
				x.Held.Answered(x, false)
			}
			return nil
		}), over: 2 * time.Minute, busy: true},
		{name: alert.ProbeFlapping, most: 15 * time.Second, begin: func(_ *testing.T, f *traffic) {
			e := console.Endpoint{Address: "x", State: console.StateUp}
			for i := range 8 {
				e.History = append(e.History, console.Verdict{At: time.Now().Add(time.Duration(i-8) * time.Second), Healthy: i%2 == 0})
			}
			f.show("a", e)
		}, end: func(_ *testing.T, f *traffic) { f.healthy() }, over: 6 * time.Minute},
		{name: alert.ProberSilent, most: time.Minute, site: func(_ *testing.T, s *site.Site) {
			s.Pools["a"].Probe = &site.Probe{TCP: &site.ProbeTCP{}, Every: 5 * time.Second, Timeout: 2 * time.Second}
		}, begin: nothing, end: func(_ *testing.T, f *traffic) { f.healthy() }, over: 15 * time.Second},
		{name: alert.CertExpiry, most: 15 * time.Second, begin: certificate(20 * 24 * time.Hour), end: certificate(90 * 24 * time.Hour), over: 15 * time.Second},
		{name: alert.CertSoon, most: 15 * time.Second, begin: certificate(50 * time.Hour), end: certificate(90 * 24 * time.Hour), over: 15 * time.Second},
		{name: alert.ReloadFailed, most: 15 * time.Second, begin: func(t *testing.T, f *traffic) {
			f.nextErr = errors.New("site.yaml:3:1: no")
			if f.Reload() == nil {
				t.Fatal("it was taken")
			}
		}, end: func(t *testing.T, f *traffic) {
			f.next, f.nextErr = f.site, nil
			if err := f.Reload(); err != nil {
				t.Fatal(err)
			}
		}, over: 15 * time.Second},
		{name: alert.StateNotKept, most: 15 * time.Second, site: func(t *testing.T, s *site.Site) {
			objective(t, s)
			s.StateDir = filepath.Join(t.TempDir(), "state")
		}, begin: func(t *testing.T, f *traffic) {
			if err := os.RemoveAll(f.site.StateDir); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f.site.StateDir, []byte("in the way"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, end: nothing, busy: true},
		{name: alert.DiskFull, most: 15 * time.Second, site: func(t *testing.T, s *site.Site) { s.StateDir = filepath.Join(t.TempDir(), "state") },
			begin: disk(3), end: disk(50), over: 80 * time.Second},
		{name: alert.ReceiverFails, most: 3 * time.Minute, site: func(t *testing.T, s *site.Site) {
			s.Alerts.Receivers = []*site.Receiver{{Name: "gone", Alerts: []string{alert.Watchdog}, Exec: &site.ToExec{Command: []string{filepath.Join(t.TempDir(), "none")}, Timeout: time.Second}}}
		}, begin: nothing, end: nothing},
		{name: alert.Watchdog, most: 15 * time.Second, site: func(_ *testing.T, s *site.Site) {
			s.Alerts.Receivers = []*site.Receiver{{Name: "snitch", Alerts: []string{alert.Watchdog}, Exec: &site.ToExec{Command: []string{"true"}, Timeout: time.Second}}}
		}, begin: nothing, end: nothing},
		{name: alert.SelfOverloaded, most: 45 * time.Second, site: func(_ *testing.T, s *site.Site) {
			s.Guard = site.Guard{Mode: site.ModeOn, Memory: 0.9, Scheduler: time.Hour, Files: 0.99}
		}, begin: resident(99), end: resident(1), over: 80 * time.Second},
		{name: alert.AcceptDrops, most: 15 * time.Second, begin: netstat(100), end: nothing, over: 6 * time.Minute},
		{name: alert.LimitBreached, most: 80 * time.Second, site: func(_ *testing.T, s *site.Site) {
			s.Limits = []*site.Limit{{Name: "all", By: []string{"global"}, Rate: 1, Burst: 1, Cost: site.CostRequest, Keys: 1000, Headers: "off"}}
			s.Routes[0].Cost = 1
		}, begin: nothing, end: nothing, busy: true},
	}
}

// disk is a file system of which so many percent are left.
func disk(left uint64) func(*testing.T, *traffic) {
	return func(_ *testing.T, f *traffic) {
		f.alerting.mu.Lock()
		defer f.alerting.mu.Unlock()
		f.alerting.space = func(string) (free, all uint64, err error) { return left * 1e7, 1e9, nil }
	}
}

// ownKernel is a machine with 100 GB of memory that a test makes up.
func ownKernel(t *testing.T) *senses {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("meminfo", "MemTotal: 100000000 kB\n")
	put("self/statm", "1 1 1\n")
	put("net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 0 0\n")
	return newSenses(dir, dir)
}

// netstat is a kernel that has dropped n connections.
func netstat(n int) func(*testing.T, *traffic) {
	return func(t *testing.T, f *traffic) {
		text := fmt.Appendf(nil, "TcpExt: ListenOverflows ListenDrops\nTcpExt: %d %d\n", n, n)
		if err := os.WriteFile(filepath.Join(f.guard.senses.proc, "net/netstat"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// resident is a process that uses so many percent of the memory.
func resident(percent int) func(*testing.T, *traffic) {
	return func(t *testing.T, f *traffic) {
		pages := percent * 1_000_000_000 / os.Getpagesize() * 1024 / 1000
		if err := os.WriteFile(filepath.Join(f.guard.senses.proc, "self/statm"), fmt.Appendf(nil, "%d %d 1\n", pages, pages), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryShippedAlertFires: each is made to fire by its cause, in fake time, with the waits that are shipped, and is over when that ends.
func TestEveryShippedAlertFires(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range causes() {
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testSite("web", "a=old")
				s.Guard.Mode = site.ModeOff
				if c.site != nil {
					c.site(t, s)
				}
				f := newTraffic(t, s, func(n *Node) { n.guard.senses = ownKernel(t) })
				f.healthy()
				f.run(t, 30*time.Second)
				if c.most > 15*time.Second && c.busy && slices.Contains(f.firing(), c.name) && c.name != alert.LimitBreached {
					t.Fatal("it fires without a cause")
				}
				c.begin(t, f)
				took := f.until(t, c.most, c.busy, func() bool { return slices.Contains(f.firing(), c.name) })
				t.Logf("fires after %v", took)
				c.end(t, f)
				if c.over > 0 {
					f.until(t, c.over, c.busy, func() bool { return !slices.Contains(f.firing(), c.name) })
				}
			})
		})
	}
	for _, r := range alert.Shipped() {
		if !seen[r.Name] {
			t.Errorf("%s is fired by no test", r.Name)
		}
	}
}

// TestNearOtherCaps: listeners are not all that has a cap.
func TestNearOtherCaps(t *testing.T) {
	rules := alertConfig(testSite("web", "a=old")).Rules
	for _, c := range []struct {
		http  string
		tls   *site.EndpointTLS
		busy  int64
		holds bool
	}{{"auto", nil, 80, true}, {"auto", nil, 79, false}, {"h1", &site.EndpointTLS{}, 90, true}, {"h2", nil, 90, false}, {"auto", &site.EndpointTLS{}, 90, false}} {
		cfg := &site.Pool{Name: "a", HTTP: c.http, TLS: c.tls, Connections: site.Connections{Max: 100}}
		v := console.Pool{HealthyShare: 1, Endpoints: []console.Endpoint{{Address: "x", InFlight: c.busy}, {Address: "y"}}}
		out := poolSignals(time.Now(), time.Now(), cfg, v, rules)
		if len(out) > 1 || (len(out) == 1) != c.holds || c.holds && (out[0].Name != alert.NearCap || out[0].Labels["endpoint"] != "x") {
			t.Errorf("%+v: %+v", c, out)
		}
	}
	if len(fileSignals(0.79, rules)) != 0 || len(fileSignals(0.8, rules)) != 1 || len(fileSignals(1, nil)) != 0 {
		t.Error("file descriptors are not looked at")
	}
	for want, st := range map[string]monitor.Status{"": {State: monitor.StateStarting, Why: "another process has the store"}, "figures are not kept: full": {State: monitor.StateRunning, Why: "full"},
		"figures are not kept: not a folder": {State: monitor.StateFailed, Why: "not a folder"}} {
		if got := historyTrouble(st); got != want {
			t.Errorf("%+v: %q", st, got)
		}
	}
}

// TestCatalog: site, alert and the document know the same alerts, and what can be set of them.
func TestCatalog(t *testing.T) {
	text, err := os.ReadFile("../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range alert.Shipped() {
		names[r.Name] = true
		i := slices.IndexFunc(site.AlertNames, func(n struct {
			Name      string
			Threshold bool
			Within    bool
		}) bool {
			return n.Name == r.Name
		})
		if i < 0 || site.AlertNames[i].Threshold != (r.Threshold > 0) || site.AlertNames[i].Within != (r.Within > 0) {
			t.Errorf("package site says otherwise of %s", r.Name)
		}
		if !strings.Contains(string(text), "\n### "+r.Name+"\n") {
			t.Errorf("docs/alerts.md has no section %s", r.Name)
		}
	}
	if len(names) != len(site.AlertNames) {
		t.Errorf("package site knows %d alerts, %d are shipped: %v", len(site.AlertNames), len(names), slices.Sorted(maps.Keys(names)))
	}
}

// TestAlertsOutliveRestarts: what fires goes on, silences hold, and nobody is told twice.
func TestAlertsOutliveRestarts(t *testing.T) {
	dir := t.TempDir()
	start := func(t *testing.T, play func(w *traffic)) {
		synctest.Test(t, func(t *testing.T) {
			s := testSite("web", "a=old")
			s.StateDir = dir
			f := newTraffic(t, s)
			f.healthy()
			play(f)
		})
	}
	var fired time.Time
	start(t, func(f *traffic) {
		f.nextErr = errors.New("site.yaml:3:1: no")
		_ = f.Reload()
		f.until(t, time.Minute, false, func() bool { return slices.Contains(f.firing(), alert.ReloadFailed) })
		fired = f.viewAlerts().Alerts[0].Fired
		if _, err := f.Silence(console.SilenceOrder{Matchers: map[string]string{"alert": "reload-*"}, Length: time.Hour, By: "me", Comment: "known"}); err != nil {
			t.Fatal(err)
		}
	})
	start(t, func(f *traffic) {
		pass(15 * time.Second)
		synctest.Wait()
		v := f.viewAlerts()
		if len(v.Alerts) != 1 || !v.Alerts[0].Fired.Equal(fired) || len(v.Alerts[0].Silences) != 1 || len(v.Silences) != 1 || v.Silences[0].Comment != "known" {
			t.Errorf("after a restart: %+v", v)
		}
		// Its cause is gone with the process: it is over, once that is certain.
		f.until(t, 3*time.Minute, false, func() bool { return len(f.firing()) == 0 })
		if err := f.EndSilence("s1"); err != nil {
			t.Error(err)
		}
		if err := f.EndSilence("s1"); err == nil {
			t.Error("ended twice")
		}
	})
}

func TestSampleNeedsSomebody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old"))
		if err := w.TestAlert(alert.Many503); !errors.Is(err, errNobody) {
			t.Error(err)
		}
		if err := w.TestAlert("many-504"); !errors.Is(err, console.ErrUnknownAlert) {
			t.Error(err)
		}
	})
}

// What a breaker says of itself begins with its state.
func TestBreakerSignalNamesTheStateOnce(t *testing.T) {
	v := console.Pool{HealthyShare: 1, Breaker: &console.Breaker{Mode: site.ModeOn, State: "half-open", Why: "half-open: trials decide"}}
	got := poolSignals(time.Now(), time.Now(), &site.Pool{Name: "a"}, v, map[string]alert.Rule{})
	if len(got) == 0 || got[0].Name != alert.BreakerOpen || got[0].Text != "it is half-open: trials decide" {
		t.Errorf("%+v", got)
	}
}
