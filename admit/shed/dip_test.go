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

// TestDipsInVain: calm times told S = 10 ms, then 40 are inside all the time and 200 a second are answered, so two places do. Dips tell nothing, since those inside take long.
func TestDipsInVain(t *testing.T) {
	for _, c := range []struct {
		name  string
		calm  float64 // answers of calm times
		rate  float64
		stood bool    // S of calm times stands
		limit float64 // after dips in vain
	}{
		{"calm times told S", 100, 200, true, 3},
		{"they told little of it", 20, 200, false, 40},
		{"W would be near the limit", 100, 3000, false, 40},
	} {
		k := NewKnee(1)
		k.limit, k.known, k.workers, k.first = 40, true, 40, false
		k.low = latency{count: c.calm, seconds: 0.01 * c.calm}
		k.alone = sample{count: c.calm, seconds: 0.01 * c.calm, squares: 1.01e-4 * c.calm}
		k.moments = [3]float64{1000, 10, 0.001}
		k.high = gauge{count: 10000, time: 10000 / c.rate, area: 40 * 10000 / c.rate}
		k.free = 0
		for range inVain {
			k.dip, k.dipFrom = 20, 0
			k.endDip(time.Second, Flow{InFlight: 40, Waiting: 1})
		}
		if k.stood != c.stood || k.limit != c.limit {
			t.Errorf("%s: stood %v, limit %v, S %.3f s; want %v, %v", c.name, k.stood, k.limit, k.low.mean(), c.stood, c.limit)
		}
	}
}
