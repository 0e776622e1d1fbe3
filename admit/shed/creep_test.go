package shed

import (
	"math"
	"testing"
	"time"
)

// alike are answers that took so many seconds each.
func alike(count, each float64) latency {
	return latency{count, count * each, count, count * math.Log(each)}
}

// TestCreep: for two minutes of calm S was 100 ms, and has followed what answers take now, with ten inside and nobody waiting.
func TestCreep(t *testing.T) {
	for _, c := range []struct {
		name  string
		took  float64 // by an answer
		based float64 // seconds of calm
		crept bool
	}{
		{"four times as long", 0.4, 120, true},
		{"twice", 0.2, 120, false},
		{"after three seconds of calm", 0.4, 3, false},
	} {
		k := NewKnee(1)
		k.at, k.moments, k.period, k.limit = 2*time.Minute, [3]float64{1000, 100, 10}, gauge{30, 1, 10}, 40
		k.low, k.calmer, k.service = alike(200, c.took), alike(50, c.took), c.took
		k.base, k.based = alike(200, 0.1), c.based
		k.calm(&Window{Total: 3, Seconds: 3 * c.took, Logs: 3 * math.Log(c.took)}, Flow{InFlight: 10, Endpoints: 1})
		if k.crept != c.crept {
			t.Errorf("%s: crept %v", c.name, k.crept)
		}
		if c.crept && (k.limit != 10 || k.low.mean() > 0.101 || k.verified) {
			t.Errorf("%s: limit %v, S %.3f s, verified %v; want 10, as many as are inside, 0.1 s, and no", c.name, k.limit, k.low.mean(), k.verified)
		}
	}
}

// TestCreptLowersNothing: with an S that is a guess, only a dip may say that there are fewer places.
func TestCreptLowersNothing(t *testing.T) {
	for _, crept := range []bool{false, true} {
		k := NewKnee(1)
		k.known, k.workers, k.limit, k.verified, k.crept, k.moments = true, 30, 40, true, crept, [3]float64{1000, 100, 0.5}
		k.low, k.high = alike(1000, 0.1), gauge{2600, 10, 400}
		k.judge(time.Minute, Flow{InFlight: 40, Waiting: 5, Endpoints: 1})
		if crept != (k.limit == 40) || crept != (k.dip > 0) {
			t.Errorf("crept %v: limit %v, dip to %v", crept, k.limit, k.dip)
		}
	}
}

// TestBaseFades: after a minute of calm in which answers take twice as long, the base has followed by 1-1/e, however many came before.
func TestBaseFades(t *testing.T) {
	k := NewKnee(1)
	k.service = 0.01
	for i := range 700 {
		k.period.time = 1
		if i == 640 {
			k.service = 0.02
		}
		k.settle(50, 50*k.service, 50*math.Log(k.service))
	}
	if got := k.base.mean(); math.Abs(got-0.0163) > 0.0002 {
		t.Errorf("base of %.4f s, want 0.0163", got)
	}
}

// TestLeaversCount: who left after a second counts as an answer that took one.
func TestLeaversCount(t *testing.T) {
	var w Window
	for range 90 {
		w.Add(20, 0.1)
	}
	w.leave(10, 10)
	if w.Total != 100 || math.Abs(w.Seconds-19) > 1e-9 || math.Abs(w.Squares-10.9) > 1e-9 || math.Abs(w.Logs-90*math.Log(0.1)) > 1e-9 {
		t.Errorf("%+v", w)
	}
	for _, c := range []struct {
		s    float64 // that is known; 0: none
		top  int     // 0: nothing was answered ever
		want int64
	}{{0, 0, 0}, {0, 1, 3}, {1.5, 1, 3}, {2.5, 1, 0}} {
		k := NewKnee(1)
		k.fill.top = c.top
		if c.s > 0 {
			k.low = alike(100, c.s)
		}
		if k.gone(Flow{Left: 3, Stayed: 3}); k.batch.Total != c.want {
			t.Errorf("%+v: %d of those who left after a second count", c, k.batch.Total)
		}
	}
}
