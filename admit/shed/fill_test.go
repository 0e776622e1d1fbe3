package shed

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
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
				f.add(0, []First{{nil, place, wait + c.work(r)}})
			}
			v, w, s, _ := f.tells()
			if (v == queued) != c.sure {
				continue
			}
			if c.sure && (math.Abs(math.Log(w/c.places)) > 1 || math.Abs(math.Log(s/0.1)) > 1) {
				continue
			}
			right++
		}
		if right < c.right {
			t.Errorf("%s: right in %d of 100", name, right)
		}
	}
}

// TestFillOfEndpointsThatAreNotAlike: each has its own queue and takes its own time, and all have as many places.
func TestFillOfEndpointsThatAreNotAlike(t *testing.T) {
	for places := 1.0; places <= 4; places++ {
		var f fill
		for who, service := range []float64{0.01, 0.02, 0.05, 0.2} {
			for rank := 1; rank <= 16>>who+4; rank++ { // the slow ones have answered fewer
				f.add(0, []First{{who, rank, service * max(1, float64(rank)/places)}})
			}
		}
		v, w, s, _ := f.tells()
		rate := 1/0.01 + 1/0.02 + 1/0.05 + 1/0.2
		if want := 4 / rate; v != queued || w != places || math.Abs(math.Log(s/want)) > 0.01 {
			t.Errorf("%v places of each: it shows %v, %v places, %v s; want %v s", places, v, w, s, want)
		}
	}
}

// TestFillShowsRoom: work that always takes the same time, whatever was found inside, is no queue, however often answers are thinned out; and the queue is seen
// that comes after them.
func TestFillShowsRoom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	var f fill
	took := func(places float64, rank int) float64 {
		return 0.1 * max(1, float64(rank)/places) * math.Exp(0.1*r.NormFloat64())
	}
	for rank := 1; rank <= 200; rank++ {
		f.add(0, []First{{nil, rank, took(200, rank)}})
		f.thin(0, true)
	}
	if v, _, s, _ := f.tells(); v != roomier || math.Abs(s-0.1) > 0.01 {
		t.Errorf("before 200 places it shows %v, %v s; want room, 0.1 s", v, s)
	}
	for rank := 201; rank <= 1000; rank++ {
		f.add(0, []First{{nil, rank, took(200, rank)}})
		f.thin(0, true)
	}
	if v, w, s, _ := f.tells(); v != queued || w < 130 || w > 300 || math.Abs(math.Log(s/0.1)) > 0.5 {
		t.Errorf("with 1000 before 200 places it shows %v, %v places, %v s; want a queue before some 200, 0.1 s", v, w, s)
	}
}

// TestKneeOpens: who does not know lets few in, and soon more.
func TestKneeOpens(t *testing.T) {
	k := NewKnee(2)
	for _, c := range []struct {
		at   time.Duration
		want float64
	}{{0, 16}, {49 * time.Millisecond, 16}, {50 * time.Millisecond, 32}, {120 * time.Millisecond, 64}, {150 * time.Millisecond, 91}, {time.Minute, 91}} {
		k.Look(c.at, nil, Flow{InFlight: 1, Endpoints: 2})
		if k.Limit() != c.want {
			t.Errorf("after %v without an answer the limit is %v, want %v", c.at, k.Limit(), c.want)
		}
	}
}
