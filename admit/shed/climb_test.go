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

// TestClimbRounds: work that always takes as long tells itself whether answers take longer, and is answered in bursts that a round must outlast. A dip ends the climb.
func TestClimbRounds(t *testing.T) {
	for _, c := range []struct {
		name             string
		spread, slower   float64 // of the answers from empty; how much longer those of the last round took
		goes, grows, now bool    // now: the round is not over yet
		noise, time      float64
		told             float64 // answers of each round that say how long they took
	}{
		{"they take as long", 0, 1, true, true, false, 0.1, 0.2, 16},
		{"they take longer", 0, 4, false, false, false, 0.1, 0.5, 16},
		{"what may be chance", 0, 1.97, true, false, true, 0.1, 0.2, 16},
		{"too few say so", 0, 1, false, false, false, 0.1, 0.2, 7},
		{"work that differs", 3, 1, false, false, false, 0.1, 0.2, 16},
		{"before a burst is over", 0, 1, true, false, true, 0.1, 0.05, 16},
		{"work that comes in no bursts", 0, 4, false, false, false, 1, 0.05, 16},
	} {
		k := NewKnee(1)
		k.hold = 0
		for rank := range 16 {
			k.fill.keep(First{nil, rank + 1, 0.1 * (1 + c.spread*float64(rank%2))})
		}
		k.moments = [3]float64{100, 10, c.noise}
		climb := &k.climb
		climb.on, climb.want = true, 16
		climb.last, climb.now = gauge{64, c.time, 16 * c.time}, gauge{16, c.time, 64 * c.time} // for each that came, many more are inside
		climb.lastTook.add(c.told, 0.1*c.told, 0, 0)
		climb.took.add(c.told, 0.1*c.slower*c.told, 0, 0)
		goes := k.climbs(gauge{}, Flow{Waiting: 1})
		if goes != c.goes || climb.grows != c.grows || (climb.now.count > 0) != (c.now || !c.goes) {
			t.Errorf("%s (noise %v): goes on %v, grows %v, %v answers in this round; want %v, %v", c.name, k.noise(), goes, climb.grows, climb.now.count, c.goes, c.grows)
		}
		if c.grows && k.fewest != 16 {
			t.Errorf("%s: the fewest inside are %v, want the 16 of the round before", c.name, k.fewest)
		}
	}
	k := NewKnee(1)
	k.fill.top = 1
	if k.climbs(gauge{}, Flow{}) {
		t.Error("it climbs where nobody waits")
	}
	k.dip = 1
	k.begins(0, gauge{}, Flow{Waiting: 1})
	if !k.climb.over {
		t.Error("a dip does not end the climb")
	}
}
