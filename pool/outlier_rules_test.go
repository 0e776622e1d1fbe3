package pool

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

func TestOutlierTrialBringsItBack(t *testing.T) {
	f := newFleet(t, site.MethodRoundRobin, 5, 5, 6, fixed(50*time.Millisecond))
	f.run(t, 100, 5*time.Second)
	f.nth(1).fails = 1
	f.run(t, 100, 80*time.Second)
	// First 30 s, then 60 s.
	if n := f.count("endpoint_ejected"); n != 2 {
		t.Fatalf("%d ejections in 80s, want 2\n%s", n, f.log.String())
	}
	if want := "answers still fail: 2 of 2 on trial; ejected for 1m0s, the 2nd time in a row"; !strings.Contains(f.log.String(), want) {
		t.Errorf("no %q in\n%s", want, f.log.String())
	}
	f.nth(1).fails = 0
	f.run(t, 100, 90*time.Second)
	f.begin()
	f.run(t, 100, 10*time.Second)
	if m := f.p.members[1]; m.state(f.now) != StateUp || math.Abs(f.share(1)-0.2) > 0.02 {
		t.Errorf("well again, it is %s with a share of %.3f, want up with 0.2\n%s", m.state(f.now), f.share(1), f.log.String())
	}
}

// A probe that stays green speaks of something else.
func TestOutlierProbesDoNotBringItBack(t *testing.T) {
	f := newFleet(t, site.MethodRoundRobin, 3, 5, 6, fixed(50*time.Millisecond))
	f.run(t, 100, 5*time.Second)
	f.nth(1).fails = 1
	f.run(t, 100, 5*time.Second)
	m := f.p.members[1]
	if m.state(f.now) != StateEjected {
		t.Fatalf("it is %s, want ejected", m.state(f.now))
	}
	f.p.heard(m, m.born, probe.Verdict{At: f.now, Healthy: true})
	if m.state(f.now) != StateEjected {
		t.Errorf("after a good probe it is %s, want ejected for its time", m.state(f.now))
	}
	if err := f.p.SetState(m.Address, StateUp); err != nil || m.state(f.now) == StateEjected {
		t.Errorf("an operator's up: %v, and it is %s, want it back", err, m.state(f.now))
	}
}

func TestOutlierKeepsWhatThePoolNeeds(t *testing.T) {
	one := newFleet(t, site.MethodLeastRequests, 1, 5, 7, fixed(50*time.Millisecond))
	one.run(t, 50, 5*time.Second)
	one.nth(0).fails = 1
	one.run(t, 50, 20*time.Second)
	if n := one.count("endpoint_ejected") + one.count("endpoint_kept"); n != 0 {
		t.Errorf("the only endpoint of a pool was judged %d times, want never", n)
	}
	// Two of five may go; the third would leave less than half.
	f := newFleet(t, site.MethodLeastRequests, 5, 5, 7, fixed(50*time.Millisecond))
	f.run(t, 100, 5*time.Second)
	for i := range 2 {
		f.nth(i).fails, f.nth(i).failIn = 1, time.Millisecond
	}
	f.run(t, 100, 5*time.Second)
	f.nth(2).fails = 1
	f.run(t, 100, 15*time.Second)
	if f.count("endpoint_ejected") != 2 || f.p.members[2].state(f.now) == StateEjected {
		t.Errorf("%d ejections, want 2\n%s", f.count("endpoint_ejected"), f.log.String())
	}
	f.begin()
	f.run(t, 100, 5*time.Second)
	if f.share(2) > 0.15 {
		t.Errorf("the third sick one gets %.3f, want about a tenth of a share\n%s", f.share(2), f.log.String())
	}
}

// Endpoints that are sick together, but fewer than half, do not hide one another, though the fast failures are most answers.
func TestOutlierTwoSick(t *testing.T) {
	for _, method := range []string{site.MethodLeastRequests, site.MethodRoundRobin} {
		f := newFleet(t, method, 5, 50, 8, fixed(100*time.Millisecond))
		f.run(t, 125, 5*time.Second)
		for i := range 2 {
			f.nth(i).fails, f.nth(i).failIn = 1, time.Millisecond
		}
		f.run(t, 125, 5*time.Second)
		if f.count("endpoint_ejected") != 2 {
			t.Errorf("%s: %d ejections, want 2\n%s", method, f.count("endpoint_ejected"), f.log.String())
		}
	}
}

func TestOutlierPartlySick(t *testing.T) {
	f := newFleet(t, site.MethodLeastRequests, 5, 5, 9, fixed(20*time.Millisecond))
	f.run(t, 100, 5*time.Second)
	f.nth(4).fails = 0.5
	f.run(t, 100, 30*time.Second)
	if f.count("endpoint_ejected") != 1 {
		t.Errorf("%d ejections of one that fails half, want 1\n%s", f.count("endpoint_ejected"), f.log.String())
	}
	f = newFleet(t, site.MethodLeastRequests, 5, 5, 9, fixed(20*time.Millisecond))
	f.run(t, 100, 5*time.Second)
	f.nth(4).service = heavy(150 * time.Millisecond)
	f.run(t, 100, 60*time.Second)
	if f.count("endpoint_ejected") == 0 {
		t.Errorf("%d ejections of one that is mostly slow, want some\n%s", f.count("endpoint_ejected"), f.log.String())
	}
}

// What an endpoint says about its load, or about the request, is no failure.
func TestOutlierStatusesThatAreNoFailure(t *testing.T) {
	for _, status := range []int{400, 404, 429, 501, 503, 505} {
		f := newFleet(t, site.MethodLeastRequests, 5, 5, 10, fixed(20*time.Millisecond))
		f.run(t, 100, 5*time.Second)
		f.nth(0).fails, f.nth(0).status = 1, status
		f.run(t, 100, 20*time.Second)
		if n := f.count("endpoint_ejected"); n != 0 {
			t.Errorf("status %d: %d ejections, want none\n%s", status, n, f.log.String())
		}
	}
}

// A pause costs the share for a while, not the place.
func TestOutlierPauses(t *testing.T) {
	for _, method := range httpMethods {
		f := newFleet(t, method, 5, 50, 11, fixed(20*time.Millisecond))
		f.run(t, 200, 5*time.Second)
		for range length(20, 6) {
			f.nth(3).stall = f.now.Add(600 * time.Millisecond)
			f.run(t, 200, 10*time.Second)
		}
		if n := f.count("endpoint_ejected"); n != 0 {
			t.Errorf("%s: %d ejections for pauses of 0.6s, want none\n%s", method, n, f.log.String())
		}
	}
}

// Another zone is further away, which is no illness.
func TestOutlierDistance(t *testing.T) {
	f := newFleet(t, site.MethodRoundRobin, 6, 50, 12, fixed(5*time.Millisecond))
	cfg := *f.p.cfg
	cfg.Endpoints = append([]site.Endpoint(nil), cfg.Endpoints...)
	for i := range 3 {
		cfg.Endpoints[i].Zone = "far"
		f.nodes[cfg.Endpoints[i].Address].service = fixed(90 * time.Millisecond)
	}
	if err := f.p.Update(&cfg); err != nil {
		t.Fatal(err)
	}
	f.run(t, 200, time.Minute)
	if n := f.count("endpoint_ejected"); n != 0 {
		t.Errorf("%d ejections for distance, want none\n%s", n, f.log.String())
	}
}

func TestOutlierDryRunOnlyTells(t *testing.T) {
	f := newFleet(t, site.MethodRoundRobin, 5, 5, 13, fixed(50*time.Millisecond))
	cfg := *f.p.cfg
	cfg.Outliers.Mode = site.ModeDryRun
	if err := f.p.Update(&cfg); err != nil {
		t.Fatal(err)
	}
	f.run(t, 100, 5*time.Second)
	f.nth(1).fails = 1
	f.begin()
	f.run(t, 100, 20*time.Second)
	if f.count("endpoint_outlier") != 1 || f.count("endpoint_ejected") != 0 || math.Abs(f.share(1)-0.2) > 0.01 {
		t.Errorf("told %d times, ejected %d times, share %.3f; want 1, 0 and 0.2\n%s",
			f.count("endpoint_outlier"), f.count("endpoint_ejected"), f.share(1), f.log.String())
	}
}

func TestLedgerSteps(t *testing.T) {
	last := -1
	for d := time.Duration(1); d < 300*time.Second; d += d/16 + 1 {
		i := step(d)
		if i < last || i >= ledgerLen || d < stepFloor(i) || i < ledgerLen-1 && d >= stepFloor(i+1) {
			t.Fatalf("%v is step %d from %v to %v, after step %d", d, i, stepFloor(i), stepFloor(i+1), last)
		}
		last = i
	}
	var l ledger
	var w window
	for ms := 1; ms <= 1000; ms++ {
		l.note(&exchange.Result{Status: 200, Latency: time.Duration(ms) * time.Millisecond})
	}
	for i := range w.steps {
		w.steps[i] = float32(l.steps[i].Load())
	}
	w.good = 1000
	if m := w.median(); m < 480*time.Millisecond || m > 520*time.Millisecond {
		t.Errorf("median of 1 to 1000 ms: %v", m)
	}
	if n := w.above(700 * time.Millisecond); n < 230 || n > 370 {
		t.Errorf("%v of 1 to 1000 ms are above 700 ms", n)
	}
}

func TestUnlikely(t *testing.T) {
	for _, c := range []struct {
		k, n, p, alpha float64
		want           bool
	}{
		{5, 5, 0.1, 1.1e-5, true}, {5, 5, 0.1, 0.9e-5, false}, {5, 5, 1, 0.5, false}, {0, 0, 0.1, 0.5, false},
		{30, 100, 0.3, 0.5, false}, {60, 100, 0.3, 1e-7, true}, {5, 5, 0, 1e-9, true},
	} {
		if got := unlikely(c.k, c.n, c.p, c.alpha); got != c.want {
			t.Errorf("unlikely(%v of %v, %v, %v) = %v", c.k, c.n, c.p, c.alpha, got)
		}
	}
}

// All that may be inside hang at one endpoint, so that nobody comes after them: neither to it, nor to the others.
func TestOutlierHoldsAllPlaces(t *testing.T) {
	for _, method := range []string{site.MethodRoundRobin, site.MethodLeastRequests} {
		f := newFleet(t, method, 3, 50, 3, func(r *rand.Rand) time.Duration {
			if r.IntN(50) == 0 {
				return 500 * time.Millisecond // so that it takes three seconds until an endpoint is ejected: longer than rows that do not grow are remembered
			}
			return 5 * time.Millisecond
		})
		f.run(t, 100, 5*time.Second)
		sick := f.nth(1)
		sick.service = fixed(time.Hour)
		f.run(t, 4000, 30*time.Millisecond)
		f.until(f.now.Add(5 * time.Second))
		if n := f.count("endpoint_ejected"); n != 1 {
			t.Errorf("%s: %d ejections though requests hang\n%s", method, n, f.log.String())
		}
		// Nothing is answered after it began.
		f = newFleet(t, method, 3, 50, 3, fixed(5*time.Millisecond))
		f.run(t, 100, 5*time.Second)
		x := &exchange.Exchange{Request: &wire.Request{}}
		for m, n := f.p.members[1], 0; n < 6; n++ {
			m.InFlight.Add(1)
			m.Await(x)
		}
		f.until(f.now.Add(2 * time.Second))
		if n := f.count("endpoint_ejected"); n != 1 {
			t.Errorf("%s: %d ejections though all that is inside hangs at one\n%s", method, n, f.log.String())
		}
		// They may all be long.
		g := newFleet(t, method, 3, 50, 3, fixed(5*time.Millisecond))
		g.run(t, 100, 5*time.Second)
		for i := range 3 {
			g.nth(i).service = fixed(time.Hour)
		}
		g.run(t, 1000, 30*time.Millisecond)
		g.until(g.now.Add(10 * time.Second))
		if n := g.count("endpoint_ejected"); n != 0 {
			t.Errorf("%s: %d ejections though all endpoints hang\n%s", method, n, g.log.String())
		}
	}
}
