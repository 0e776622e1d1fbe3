package shed

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestFill: a queue behind the first answers is told from work that takes as long as it takes.
func TestFill(t *testing.T) {
	steady := func(*rand.Rand) float64 { return 0.1 }
	chance := func(r *rand.Rand) float64 { return 0.1 * r.ExpFloat64() }
	mixed := func(r *rand.Rand) float64 {
		if r.IntN(2) == 0 {
			return 0.001
		}
		return 1
	}
	for name, c := range map[string]struct {
		places  float64
		answers int
		work    func(*rand.Rand) float64
		sure    bool
		right   int // of a hundred games, at least
	}{
		"five places":                  {5, 10, steady, true, 100},
		"one place":                    {1, 8, steady, true, 100},
		"five places, work by chance":  {5, 60, chance, true, 70}, // of the others nothing is said, and the search tells later
		"too few to tell":              {5, 7, steady, false, 100},
		"room for all":                 {400, 64, steady, false, 100},
		"room for all, work by chance": {400, 64, chance, false, 95},
		"room for all, two kinds":      {400, 64, mixed, false, 95},
	} {
		right := 0
		for seed := range uint64(100) {
			r := rand.New(rand.NewPCG(seed, 0))
			var f fill
			for place := 1; place <= c.answers; place++ { // in order: who is let in as the n-th waits for those before
				wait := 0.1 * max(float64(place)/c.places-1, 0)
				f.add(0, []First{{place, wait + c.work(r)}})
			}
			w, s, _, sure := f.tells()
			if sure != c.sure {
				continue
			}
			if sure && (math.Abs(math.Log(w/c.places)) > 1 || math.Abs(math.Log(s/0.1)) > 1) {
				continue
			}
			right++
		}
		if right < c.right {
			t.Errorf("%s: right in %d of 100", name, right)
		}
	}
}
