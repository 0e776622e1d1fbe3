package shed

import (
	"math"
	"testing"
	"time"
)

// TestRecall: forty are inside, a hundred a second are answered, and S is taken for 0.4 s. Half a minute ago ninety a second were with eight.
func TestRecall(t *testing.T) {
	for _, c := range []struct {
		name  string
		level gauge
		ago   time.Duration
		most  float64 // places that S may tell of
	}{
		{"as many were answered with eight", gauge{900, 10, 80}, 30 * time.Second, 20}, // no less than half at once
		{"twenty were inside then", gauge{900, 10, 200}, 30 * time.Second, 23.3},       // 20 x 100/90, and chance
		{"a third was answered", gauge{300, 10, 80}, 30 * time.Second, 28.5},
		{"of few answers", gauge{9, 0.1, 0.8}, 30 * time.Second, 40},
		{"long ago", gauge{900, 10, 80}, 10 * time.Minute, 40},
	} {
		k := NewKnee(1)
		k.at, k.service, k.limit, k.moments = time.Hour, 0.4, 40, [3]float64{1000, 100, 10}
		k.low, k.high = alike(100, 0.4), gauge{1000, 10, 400}
		k.levels[rung(c.level.inside())] = level{c.level, k.at - c.ago}
		k.recall()
		if got := k.high.rate() * k.low.mean(); math.Abs(got-c.most) > 0.1 {
			t.Errorf("%s: %.1f places, want %.1f", c.name, got, c.most)
		}
	}
}

// TestSurpriseForgetsLevels: what was answered before capacity changed says nothing of now.
func TestSurpriseForgetsLevels(t *testing.T) {
	k := NewKnee(1)
	k.limit = 8
	k.note(gauge{90, 1, 8}, false)
	k.limit = 40
	k.note(gauge{10, 1, 40}, true)
	if k.levels[rung(8)].count != 0 || k.levels[rung(40)].count != 10 {
		t.Errorf("%v answers at 8 and %v at 40, want 0 and 10", k.levels[rung(8)].count, k.levels[rung(40)].count)
	}
}
