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
		{"longer than at the limit: of before", 0.1, 60, 40, 0.5, 0.05, 0.4, false},
		{"newcomers took longer than at the limit too", 0.1, 60, 40, 0.5, 0.45, 0.45, false},
		{"longer than at the limit, of few newcomers", 0.1, 60, 3, 0.5, 0.05, 0.5, false},
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

// TestAbove: S was 50 ms, of 24 answers, and 40 are inside. A dip of 64 answers shows 150 ms.
func TestAbove(t *testing.T) {
	const verified = 1.5 // of noise: there were dips since the last surprise
	for _, c := range []struct {
		name        string
		known, s    float64 // S in seconds
		dip, limit  float64 // answers per second…
		places      float64 // …of the dip
		noise       float64
		above, tell bool // tell: the dip told S
	}{
		{"nearly as many were answered as at the limit", 0.05, 0.15, 80, 100, 12, 1, true, false},
		{"more than at the limit", 0.05, 0.15, 120, 100, 12, 1, true, false},
		{"a third of it", 0.05, 0.15, 33, 100, 12, 1, false, true},
		{"by chance", 0.05, 0.06, 98, 100, 12, 1, false, true},
		{"S is shorter", 0.05, 0.02, 80, 100, 12, 1, false, true},
		{"ten times as long, and half as many", 0.05, 0.5, 50, 100, 12, 1, false, true}, // S that is known says no more against it than against 150 ms
		{"nearly as many, after other dips", 0.05, 0.15, 80, 100, 12, verified, true, false},
		{"of one place", 0.05, 0.15, 80, 100, 1, 1, true, true}, // there is none below it
		{"nothing was known", 0, 0.15, 80, 100, 12, 1, false, true},
	} {
		k := NewKnee(1)
		k.limit, k.dip, k.reached, k.turned, k.known = 40, c.places, true, true, true
		k.moments, k.service = [3]float64{100, 5, 0.25 * c.noise}, c.known
		k.verified = c.noise == verified
		k.high = gauge{60, 60 / c.limit, 60 * 40 / c.limit}
		if c.known > 0 {
			k.low = latency{count: 24, seconds: 24 * c.known}
		}
		part := gauge{64, 64 / c.dip, 64 * c.s}
		if got := k.above(c.s, part); got != c.above {
			t.Errorf("%s: above %v", c.name, got)
		}
		k.now = part
		k.endDip(time.Minute, Flow{InFlight: 12, Waiting: 8, Endpoints: 1})
		if s := k.low.mean(); (math.Abs(s-c.known) > 1e-9) != c.tell || !c.tell && (!k.deeper || !k.verified && k.dip != 1 || k.verified && k.nextDip != time.Minute) {
			t.Errorf("%s: S %.3f s after the dip, deeper %v, and one to %v follows", c.name, s, k.deeper, k.dip)
		}
	}
}

// TestAboveForgets: S that is known speaks for a queue as long as about as much is answered as when it was learned.
func TestAboveForgets(t *testing.T) {
	for learned, above := range map[float64]bool{0: true, 100: true, 120: true, 40: false, 250: false} {
		k := NewKnee(1)
		k.moments, k.service = [3]float64{100, 5, 0.25}, 0.05
		k.high, k.low, k.learned = gauge{60, 0.6, 24}, latency{count: 24, seconds: 24 * 0.05}, learned
		if got := k.above(0.15, gauge{64, 0.8, 64 * 0.15}); got != above {
			t.Errorf("100 a second are answered, and %v when S was learned: above %v", learned, got)
		}
	}
	k := NewKnee(1)
	k.limit, k.dip, k.reached, k.turned, k.verified = 40, 6, true, true, true
	k.high, k.low = gauge{100, 1, 40}, latency{count: 100, seconds: 10}
	k.now = gauge{60, 1, 6}
	if k.endDip(time.Minute, Flow{InFlight: 6, Endpoints: 1}); k.learned != 100 {
		t.Errorf("a dip told S while %v a second were answered, want 100", k.learned)
	}
}

// TestDeeperDip: after a dip that was above the knee comes one to half as many, whatever the least part of the limit is. S that it shows is no longer than what was seen before.
func TestDeeperDip(t *testing.T) {
	k := NewKnee(1)
	k.limit, k.known, k.workers, k.depth, k.deeper, k.verified = 20, true, 8, 0.75, true, true
	k.high, k.low, k.service, k.moments = gauge{100, 1, 20}, latency{count: 16, seconds: 0.8}, 0.05, [3]float64{100, 5, 0.25}
	k.startDip(time.Minute, 8, Flow{InFlight: 20, Waiting: 8, Endpoints: 1})
	if want := 4.0; k.dip != want { // 0.75/2 of 1.4 x 8
		t.Fatalf("a dip to %v, want %v", k.dip, want)
	}
	k.reached, k.now = true, gauge{8, 0.16, 8 * 0.08}
	k.endDip(time.Minute+time.Second, Flow{InFlight: 4, Waiting: 8, Endpoints: 1})
	if want := (fades*16*0.05 + 8*0.08) / (fades*16 + 8); math.Abs(k.low.mean()-want) > 1e-6 {
		t.Errorf("S %.4f s, want %.4f", k.low.mean(), want)
	}
}

// TestNeed: the more answers scatter, the more of them make a conclusion.
func TestNeed(t *testing.T) {
	for _, c := range []struct{ noise, limit, dip, want float64 }{
		{1, 5, 0, 8}, {4, 5, 0, 32}, {4, 100, 0, 100}, {1, 5, 3, 9}, {4, 5, 3, 27}, {8, 100, 50, 100},
	} {
		k := NewKnee(1)
		k.known, k.limit, k.dip, k.moments = true, c.limit, c.dip, [3]float64{100, 100, 100 * c.noise}
		if got := k.need(); got != c.want {
			t.Errorf("noise %v, limit %v, a dip to %v: %v answers, want %v", c.noise, c.limit, c.dip, got, c.want)
		}
	}
}

// TestNextDip: when a dip follows one that took two seconds, with a limit of 30 before it.
func TestNextDip(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers float64 // W by what the dip shows
		known   float64 // W that was known
		after   time.Duration
	}{
		{"the limit stays", 20, 40, 80 * time.Second},
		{"it rises", 25, 40, 80 * time.Second},
		{"it falls", 15, 40, 2 * time.Second},
		{"it falls by little to what was known", 18, 20, 80 * time.Second},
	} {
		k := NewKnee(1)
		k.limit, k.dip, k.reached, k.turned, k.known, k.verified, k.workers = 30, 10, true, true, true, true, c.known
		k.moments, k.service, k.high = [3]float64{100, 10, 0.05}, 0.1, gauge{1000, 10 / c.workers * 10, 300 / c.workers * 100}
		k.low, k.dipFrom, k.at = latency{count: 1000, seconds: 100}, time.Minute, time.Minute
		k.now = gauge{1000, 10, 100}
		k.endDip(time.Minute+2*time.Second, Flow{InFlight: 10, Waiting: 8, Endpoints: 1})
		if got := k.nextDip - time.Minute - 2*time.Second; k.dip > 0 || got != c.after || k.judged != k.limit {
			t.Errorf("%s: to %v, and the next dip after %v, want %v", c.name, k.limit, got, c.after)
		}
	}
}

// TestDipAgainWhenTheLimitFell: at a limit of 60 % of what it was after the last dip, what that one told is looked at again.
func TestDipAgainWhenTheLimitFell(t *testing.T) {
	for limit, again := range map[float64]bool{30: true, 45: false} {
		k := NewKnee(1)
		k.limit, k.judged, k.known, k.verified, k.workers, k.nextDip = limit, 50, true, true, limit/2, time.Hour
		k.moments, k.service = [3]float64{100, 10, 0.05}, 0.1
		k.high, k.low = gauge{1000, 1000 / (limit / 2) / 10, 200}, latency{count: 1000, seconds: 100}
		k.now = gauge{100, 100 / (limit / 2) / 10, 20}
		k.conclude(time.Minute, Flow{InFlight: int(limit), Waiting: 8, Endpoints: 1})
		if (k.dip > 0) != again {
			t.Errorf("limit %v: a dip to %v", limit, k.dip)
		}
	}
}
