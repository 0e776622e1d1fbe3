package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// came makes counters of a pool: so many of each class, of which so many were turned away.
func came(critical, standard, low, away uint64) loadNow {
	var l loadNow
	l.demand.came[exchange.Critical], l.demand.came[exchange.Standard], l.demand.came[exchange.Low] = critical, standard, low
	l.demand.away[exchange.Low], l.shed[exchange.Low] = away, away
	return l
}

func TestCurves(t *testing.T) {
	var c curves
	at := time.Unix(1_000_000, 0)
	for i := range 5 {
		n := uint64(i)
		load := came(10*n, 20*n, 30*n, 25*n)
		load.gauges = loadGauges{limit: 7, capacity: 60, inFlight: 3, waiting: 1, queueMS: 2.26}
		load.latency = new([latencyBuckets]uint64)
		load.latency[latencyBucket(10*time.Millisecond)] = 99 * n
		load.latency[latencyBucket(300*time.Millisecond)] = n
		c.step(at.Add(time.Duration(i)*2*time.Second), map[string]loadNow{nodeLoad: {}, "shop": load})
	}
	r := c.of("shop")
	if r.came[exchange.Critical] != 5 || r.came[exchange.Low] != 15 || r.away[exchange.Low] != 12.5 || r.shed[exchange.Low] != 12.5 {
		t.Errorf("rates are %+v", r)
	}
	if r.p50 < 9.5 || r.p50 > 10.5 || r.p99 < 9.5 || r.p99 > 310 {
		t.Errorf("quantiles are %v and %v ms", r.p50, r.p99)
	}
	all := c.since(time.Time{})
	if len(all) != 2 || all[0].Pool != "" || all[1].Pool != "shop" {
		t.Fatalf("series are %+v", all)
	}
	s := all[1]
	// The pool is first counted in step 1, when it has traffic; rates need two.
	if fmt.Sprint(s.At) != "[1000004 1000006 1000008]" || fmt.Sprint(s.Admitted["low"]) != "[2.5 2.5 2.5]" || fmt.Sprint(s.Refused["low"]) != "[12.5 12.5 12.5]" || s.QueueMS[0] != 2.3 {
		t.Errorf("series is %+v", s)
	}
	if got := c.since(time.Unix(1_000_006, 0))[1]; fmt.Sprint(got.At) != "[1000008]" {
		t.Errorf("since the fourth second there is %v", got.At)
	}
}

// A route that a reload leads to another pool takes what it counted ever with it, which is no demand of that pool now.
func TestCurvesOverAReload(t *testing.T) {
	var c curves
	at := time.Unix(1_000_000, 0)
	blue, green := new(site.Site), new(site.Site)
	step := func(of *site.Site, n uint64) {
		load := came(n, 0, 0, 0)
		load.of, load.latency = of, new([latencyBuckets]uint64)
		load.latency[latencyBucket(time.Second)] = n / 2
		load.latency[latencyBucket(10*time.Millisecond)] = n - n/2 + 1
		c.step(at, map[string]loadNow{nodeLoad: {of: of}, "shop": load})
		at = at.Add(time.Second)
	}
	for i, n := range []uint64{100, 110, 120, 50_120, 50_140, 50_160} {
		of := blue
		if i > 2 {
			of = green
		}
		step(of, n)
	}
	if s := c.since(time.Time{})[1]; fmt.Sprint(s.At) != "[1000001 1000002 1000003 1000004 1000005]" || fmt.Sprint(s.Admitted["critical"]) != "[10 10 10 20 20]" || s.P50MS[2] != s.P50MS[1] {
		t.Errorf("series is %+v", s)
	}
}

// Counters that begin anew, as after a reload that removed a route, are no demand; pools that are gone leave no series.
func TestCurvesBeginAnew(t *testing.T) {
	var c curves
	at := time.Unix(1_000_000, 0)
	c.step(at, map[string]loadNow{nodeLoad: {}, "shop": came(100, 0, 0, 0)})
	c.step(at.Add(time.Second), map[string]loadNow{nodeLoad: {}, "shop": came(10, 0, 0, 0)})
	if r := c.of("shop"); r.came[exchange.Critical] != 0 {
		t.Errorf("a counter that went back gives %v/s", r.came)
	}
	c.step(at.Add(2*time.Second), map[string]loadNow{nodeLoad: {}})
	if len(c.since(time.Time{})) != 1 {
		t.Error("a pool that is gone has a series")
	}
}

// However many pools there are and however long it runs, memory is bounded.
func TestCurvesAreBounded(t *testing.T) {
	var c curves
	at := time.Unix(1_000_000, 0)
	for i := range curveSeconds + 50 {
		loads := map[string]loadNow{nodeLoad: {}}
		for p := range 3 * curvePools {
			loads[fmt.Sprintf("pool-%03d", p)] = came(uint64(i+1), 0, 0, 0)
		}
		c.step(at.Add(time.Duration(i)*time.Second), loads)
	}
	all := c.since(time.Time{})
	if len(all) != curvePools+1 {
		t.Errorf("%d series, want %d", len(all), curvePools+1)
	}
	for _, s := range all {
		if len(s.At) != curveSeconds || s.At[len(s.At)-1] != at.Unix()+curveSeconds+49 {
			t.Fatalf("series %q has %d seconds up to %d", s.Pool, len(s.At), s.At[len(s.At)-1])
		}
		for i := 1; i < len(s.At); i++ {
			if s.At[i] != s.At[i-1]+1 {
				t.Fatalf("series %q: %d follows %d", s.Pool, s.At[i], s.At[i-1])
			}
		}
	}
}

// Refusals are told apart by stage, reason, limit and class, and never by more kinds than the bound.
func TestReasonsAreBounded(t *testing.T) {
	var c reasons
	for i := range 2 * maxReasons {
		c.count(&exchange.Refusal{Stage: "limit", Reason: "rate", Limit: fmt.Sprint("limit-", i)}, exchange.Low, uint32(i))
	}
	c.count(&exchange.Refusal{Stage: "limit", Reason: "rate", Limit: "limit-0"}, exchange.Low, 3)
	sums := c.sums()
	if len(sums) > maxReasons+classCount || sums[reasonKey{"limit", "rate", "limit-0", exchange.Low}] != 2 {
		t.Errorf("%d kinds, the first with %d", len(sums), sums[reasonKey{"limit", "rate", "limit-0", exchange.Low}])
	}
	if other := sums[reasonKey{stage: "other", reason: "other", class: exchange.Low}]; other != maxReasons {
		t.Errorf("%d others, want %d", other, maxReasons)
	}
}

// The time of what was turned away does not count, that of a failed attempt does.
func TestTimesOfTheAdmitted(t *testing.T) {
	var s tallyShard
	away := &exchange.Exchange{Class: exchange.Low}
	s.count(away, 503, true, time.Millisecond)
	tried := &exchange.Exchange{Class: exchange.Critical, Attempt: 1}
	s.count(tried, 504, true, 3*time.Second)
	if n := s.latency[latencyBucket(time.Millisecond)].Load(); n != 0 {
		t.Errorf("a refusal counted %d times as fast", n)
	}
	if n := s.latency[latencyBucket(3*time.Second)].Load(); n != 1 {
		t.Errorf("a failed attempt counted %d times", n)
	}
	if s.away[exchange.Low].Load() != 1 || s.away[exchange.Critical].Load() != 0 || s.status[exchange.Low][5].Load() != 1 || s.failed[exchange.Critical].Load() != 1 || s.refused.Load() != 2 {
		t.Errorf("counted %d and %d away, %d failed", s.away[exchange.Low].Load(), s.away[exchange.Critical].Load(), s.failed[exchange.Critical].Load())
	}
}

func TestCountAllocs(t *testing.T) {
	var c reasons
	var s tallyShard
	r := &exchange.Refusal{Stage: "limit", Reason: "rate", Limit: "per-customer"}
	x := &exchange.Exchange{Class: exchange.Low}
	c.count(r, x.Class, 1)
	if n := testing.AllocsPerRun(100, func() { c.count(r, x.Class, 1); s.count(x, 429, true, time.Microsecond) }); n != 0 {
		t.Errorf("counting a refusal allocates %v times", n)
	}
}
