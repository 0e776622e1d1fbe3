package shed

import (
	"math"
	"testing"
	"time"
)

// TestShowed: at the limit of 40 there are 100 answers a second, so each is inside for 400 ms, and a dip to ten.
func TestShowed(t *testing.T) {
	for _, c := range []struct {
		name              string
		known             float64 // S in seconds; 0: not known
		answers, fresh    float64
		seconds, freshSec float64 // of an answer, all and those to newcomers
		want              float64 // S that the dip showed
		bound             bool
	}{
		{"what is known lies between", 0.1, 60, 40, 0.2, 0.05, 0.1, true},
		{"work takes longer, newcomers say so too", 0.1, 60, 40, 0.3, 0.15, 0.15, true},
		{"work takes less, all say so", 0.1, 60, 40, 0.08, 0.05, 0.08, true},
		{"nothing was known", 0, 60, 40, 0.2, 0.05, 0.2, false},
		{"too few newcomers were answered", 0.1, 60, 3, 0.2, 0.05, 0.2, false},
		{"newcomers took longer than all", 0.1, 60, 40, 0.2, 0.25, 0.2, false},
		{"nobody waited at the limit", 0.1, 60, 40, 0.35, 0.05, 0.35, false},
	} {
		k := NewKnee(1)
		k.dip, k.high = 10, gauge{count: 100, time: 1, area: 40}
		if c.known > 0 {
			k.low = latency{count: 50, seconds: 50 * c.known}
		}
		all := gauge{c.answers, c.answers * c.seconds / k.dip, c.answers * c.seconds}
		s, bound := k.showed(all, gauge{c.fresh, all.time, c.fresh * c.freshSec})
		if math.Abs(s-c.want) > 1e-9 || bound != c.bound {
			t.Errorf("%s: S %.3f s, bound %v; want %.3f, %v", c.name, s, bound, c.want, c.bound)
		}
	}
}

// TestDipBelowAnIdleLimit: S was 300 ms, sixteen are inside, and a dip shows 580 ms. Where answers take no longer at sixteen, there is no queue, and S is what the dip shows.
func TestDipBelowAnIdleLimit(t *testing.T) {
	for _, c := range []struct {
		name   string
		known  float64 // S in seconds
		inside float64 // seconds that an answer takes at sixteen
		fresh  float64 // of those that came since the dip began
		dip    float64 // places of it
		anew   bool    // S is what the dip shows, and not the mean of that and what was known
	}{
		{"no queue", 0.3, 0.61, 0.58, 5, true},
		{"a queue", 0.3, 1.8, 0.58, 5, false},
		{"quick ones came first", 0.3, 0.61, 0.4, 5, false},
		{"one place tells too little", 0.3, 0.61, 0.58, 1, false},
		{"as it was known, but for chance", 0.5, 0.61, 0.58, 5, false},
	} {
		k := NewKnee(1)
		k.moments = [3]float64{100, 60, 36} // by chance
		k.limit, k.dip, k.reached, k.turned, k.known, k.verified = 16, c.dip, true, true, true, true
		k.high, k.low, k.service = gauge{100, 100 * c.inside / 16, 100 * c.inside}, latency{count: 100, seconds: 100 * c.known}, c.known
		took := 30 * 0.58 / c.dip
		k.now, k.fresh = gauge{30, took, 30 * 0.58}, gauge{28, took, 28 * c.fresh}
		k.workers = k.high.rate() * c.known
		k.endDip(time.Minute, Flow{InFlight: int(c.dip), Waiting: 8, Endpoints: 1})
		if s := k.low.mean(); (math.Abs(s-0.58) < 1e-9) != c.anew {
			t.Errorf("%s: S %.3f s after the dip", c.name, s)
		}
	}
}
