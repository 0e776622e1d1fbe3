package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// An answer that breaks off is a failure, whatever its status: an endpoint that resets every body must not look the best of all.
func TestOutlierBrokenOff(t *testing.T) {
	for _, method := range httpMethods {
		f := newFleet(t, method, 5, 5, 3, fixed(20*time.Millisecond))
		f.run(t, 200, 5*time.Second)
		f.nth(2).fails, f.nth(2).reason, f.nth(2).status, f.nth(2).failIn = 1, "truncated", 200, time.Millisecond
		f.begin()
		f.run(t, 200, time.Minute)
		if part := float64(f.errors) / float64(f.sent); part > 0.003 {
			t.Errorf("%s: %.4f of the answers of a minute broke off, want at most 0.003\n%s", method, part, f.log.String())
		}
	}
}

// Fixed bounds hold without others to compare with, and obey what the pool can do without.
func TestBounds(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*site.Pool)
		sick func(*node)
		want string
	}{
		"row": {func(p *site.Pool) { p.Breaker.Endpoint.Row = 5 }, func(n *node) { n.fails = 1 }, "answers fail: 5 in a row; ejected for 30s"},
		"share": {func(p *site.Pool) { p.Breaker.Endpoint.Failures = 0.4 }, func(n *node) { n.fails = 0.6 },
			"answers fail: "},
		"slow":  {func(p *site.Pool) { p.Breaker.Endpoint.Slow = 200 * time.Millisecond }, func(n *node) { n.service = fixed(300 * time.Millisecond) }, "took 200ms or longer"},
		"hangs": {func(p *site.Pool) { p.Breaker.Endpoint.Slow = 200 * time.Millisecond }, func(n *node) { n.service = fixed(time.Hour) }, "took 200ms or longer"},
		"dry":   {func(p *site.Pool) { p.Breaker.Mode, p.Breaker.Endpoint.Row = site.ModeDryRun, 5 }, func(n *node) { n.fails = 1 }, "would be ejected: answers fail: 5 in a row"},
	} {
		f := newFleet(t, site.MethodRoundRobin, 3, 50, 3, fixed(20*time.Millisecond))
		cfg := *f.p.cfg
		cfg.Outliers.Mode = site.ModeOff
		cfg.Breaker.Mode = site.ModeOn
		cfg.Breaker.Endpoint = site.EndpointBreaker{Samples: 20, SlowShare: 0.5}
		c.set(&cfg)
		if err := f.p.Update(&cfg); err != nil {
			t.Fatal(err)
		}
		f.run(t, 100, 5*time.Second)
		if f.count("endpoint_ejected") != 0 {
			t.Fatalf("%s: ejected while all were well\n%s", name, f.log.String())
		}
		c.sick(f.nth(1))
		f.run(t, 100, 10*time.Second)
		if !strings.Contains(f.log.String(), c.want) {
			t.Errorf("%s: no %q in\n%s", name, c.want, f.log.String())
		}
		if want := map[bool]string{false: BreakerOpen, true: BreakerClosed}[name == "dry"]; f.p.members[1].breaker() != want {
			t.Errorf("%s: its breaker is %s, want %s", name, f.p.members[1].breaker(), want)
		}
	}
	// Of two, both sick, one stays.
	f := newFleet(t, site.MethodRoundRobin, 2, 50, 3, fixed(20*time.Millisecond))
	cfg := *f.p.cfg
	cfg.Breaker = site.Breaker{Mode: site.ModeOn, Endpoint: site.EndpointBreaker{Row: 3, Samples: 20}}
	if err := f.p.Update(&cfg); err != nil {
		t.Fatal(err)
	}
	f.nth(0).fails, f.nth(1).fails = 1, 1
	f.run(t, 100, 10*time.Second)
	if n := f.p.InService(); n != 1 {
		t.Errorf("%d of two sick endpoints are in service, want 1\n%s", n, f.log.String())
	}
}

// A pool of tcp connections brings an endpoint back that was held open by hand: there are no answers to try it by.
func TestHeldOpenComesBackWithoutRequests(t *testing.T) {
	f := newFleet(t, site.MethodRoundRobin, 2, 5, 3, fixed(time.Millisecond))
	m := f.p.members[0]
	if err := f.p.SetBreaker(m.Address, BreakerOpen, f.now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(time.Minute)
	f.p.look(f.now)
	f.p.Done(&exchange.Exchange{}, &m.Endpoint, exchange.Result{})
	if m.breaker() != BreakerClosed {
		t.Errorf("its breaker is %s after a good connection, want closed", m.breaker())
	}
}

// Who waits for an endpoint as it leaves service is told apart, however it leaves, and when it is back too.
func TestStraysOfAPool(t *testing.T) {
	for name, leave := range map[string]func(f *fleet, m *member){
		"held open": func(f *fleet, m *member) {
			if err := f.p.SetBreaker(m.Address, BreakerOpen, f.now.Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			f.now = f.now.Add(time.Minute)
			f.p.look(f.now)
		},
		"no member any more": func(f *fleet, m *member) {
			cfg := *f.p.cfg
			cfg.Endpoints = cfg.Endpoints[1:]
			if err := f.p.Update(&cfg); err != nil {
				t.Fatal(err)
			}
		},
	} {
		f := newFleet(t, site.MethodRoundRobin, 2, 5, 3, fixed(time.Millisecond))
		at := map[string][]*exchange.Exchange{}
		for range 10 {
			x := &exchange.Exchange{Request: &wire.Request{}}
			e, r := f.p.Pick(x)
			if r != nil {
				t.Fatal(r)
			}
			x.Endpoint = e
			at[e.Address] = append(at[e.Address], x)
		}
		m := f.p.members[0]
		leave(f, m)
		if n := f.p.Strays(); n != 5 {
			t.Errorf("%s: %d strays, want 5", name, n)
		}
		for address, list := range at {
			for _, x := range list {
				f.p.Done(x, x.Endpoint, exchange.Result{Kind: exchange.Cancelled})
				if x.Stray != (address == m.Address) {
					t.Errorf("%s: stray is %v at %s", name, x.Stray, address)
				}
			}
		}
		if n := f.p.Strays(); n != 0 {
			t.Errorf("%s: %d strays in the end", name, n)
		}
	}
}

// TestAutoOfWhatIsNotHeld: leaving an endpoint to itself that nobody holds tells nothing, and forgets nothing of its answers.
func TestAutoOfWhatIsNotHeld(t *testing.T) {
	f := newFleet(t, site.MethodRoundRobin, 3, 5, 3, fixed(time.Millisecond))
	f.run(t, 100, 2*time.Second)
	m, told := f.p.members[0], f.count("breaker")
	if err := f.p.SetBreaker(m.Address, BreakerAuto, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if f.count("breaker") != told || m.standing.long.answers() == 0 {
		t.Errorf("%v answers are known after auto\n%s", m.standing.long.answers(), f.log.String())
	}
}

// TestOrdersOutliveLeaving: what people want of an endpoint's breaker holds for one that leaves and comes again, forgotten meanwhile or not, until its time is over.
func TestOrdersOutliveLeaving(t *testing.T) {
	for away, want := range map[time.Duration]string{0: BreakerOpen, time.Second: BreakerOpen, time.Minute: BreakerClosed} {
		f := newFleet(t, site.MethodRoundRobin, 3, 5, 3, fixed(time.Millisecond))
		full := f.p.cfg
		less := *full
		less.Endpoints = less.Endpoints[1:]
		address := f.p.members[0].Address
		come := func() *member {
			for _, cfg := range []*site.Pool{&less, full} {
				if err := f.p.Update(cfg); err != nil {
					t.Fatal(err)
				}
				if cfg == &less {
					f.now = f.now.Add(away)
					f.p.look(f.now)
				}
			}
			return f.p.byName[address]
		}
		if err := f.p.SetBreaker(address, BreakerOpen, f.now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		m := come()
		if m.breaker() != want || len(f.p.orders) != 0 {
			t.Errorf("away for %v, its breaker is %s, want %s, and %d orders are kept: %s", away, m.breaker(), want, len(f.p.orders), m.why)
		}
		f.run(t, 100, 2*time.Second)
		if served := f.picks[address] > 0; served != (want == BreakerClosed) {
			t.Errorf("away for %v, it served %d requests", away, f.picks[address])
		}
	}
	// Auto ends the order of one that is not there.
	f := newFleet(t, site.MethodRoundRobin, 2, 5, 3, fixed(time.Millisecond))
	address, less := f.p.members[0].Address, *f.p.cfg
	less.Endpoints = less.Endpoints[1:]
	if err := f.p.SetBreaker(address, BreakerOpen, f.now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := f.p.Update(&less); err != nil {
		t.Fatal(err)
	}
	if err := f.p.SetBreaker(address, BreakerAuto, time.Time{}); err != nil || len(f.p.orders) != 0 {
		t.Errorf("auto of an endpoint that left: %v, %d orders are kept", err, len(f.p.orders))
	}
}
