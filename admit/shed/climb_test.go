package shed

import (
	"math"
	"testing"
)

// TestClimb: before places enough the limit doubles with each round, and before few it ends with the first in which answers take longer. What does not tell does not let it grow.
func TestClimb(t *testing.T) {
	for _, c := range []struct {
		name    string
		places  float64
		first   float64 // times as long as they should the answers of the second round take
		rounds  int     // after the first two
		limit   float64
		over    bool
		waiting int
	}{
		{"room", 10_000, 1, 4, 1024, false, 1},
		{"room, and nobody waits", 10_000, 1, 1, 64, true, 0},
		{"a queue before as many places as came first", 16, 1, 0, 64, true, 1},
		{"a queue after two rounds", 150, 1, 3, 512, true, 1},
		{"answers that are in between", 10_000, 2, 0, 64, false, 1},
	} {
		k := NewKnee(1)
		k.hold = 0
		for rank := range 16 {
			k.fill.keep(First{nil, rank + 1, 0.1})
		}
		k.moments = [3]float64{100, 10, 0.6} // twice as far as regular
		round := func(n, most, longer float64) bool {
			for range int(n) {
				inside := min(k.limit, most)
				took := 0.1 * longer * max(1, inside/c.places)
				part := gauge{1, took / inside, took}
				k.climb.now.add(part, 1)
				if !k.climbs(part, Flow{Waiting: c.waiting}) {
					return false
				}
			}
			return true
		}
		k.climbs(gauge{}, Flow{Waiting: 1}) // somebody waits, as an answer has come
		goes := round(climbFew, 16, 1) && round(climbFirst*64, math.Inf(1), c.first)
		for range c.rounds {
			goes = goes && round(k.limit, math.Inf(1), 1)
		}
		if math.Abs(k.limit/c.limit-1) > 0.05 || k.climb.over != c.over || goes == c.over {
			t.Errorf("%s: the limit is %v, over %v; want %v, %v", c.name, k.limit, k.climb.over, c.limit, c.over)
		}
		if s := k.low.mean(); k.limit > 256 && math.Abs(s-0.1) > 0.001 {
			t.Errorf("%s: S is %v, want 0.1", c.name, s)
		}
	}
}
