package shed

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// TestQuick: once calm times have told which answers are quick, a quarter of them are, in each shape of work, and fewer of those that queue.
func TestQuick(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) float64{
		"by chance":    func(r *rand.Rand) float64 { return 0.1 * r.ExpFloat64() },
		"far apart":    func(r *rand.Rand) float64 { return 0.1 * math.Exp(1.29*r.NormFloat64()) },
		"nearly fixed": func(r *rand.Rand) float64 { return 0.1 * (1 + 0.5*r.Float64()) },
		"all the same": func(*rand.Rand) float64 { return 0.1 },
	} {
		r := rand.New(rand.NewPCG(1, 2))
		var q Quick
		note := func(n int, times, more float64, learn bool, count uint32) (heard, share float64) {
			for range n {
				q.Note(draw(r)*times+more, learn, true, count)
			}
			var all Signs
			all.Add(&q, count, 7)
			return all.Tell()
		}
		if heard, _ := note(quickKnown, 1, 0, true, 1); heard != 0 {
			t.Errorf("%s: %v answers were heard before any was known to be quick", name, heard)
		}
		note(900, 1, 0, true, 1)
		if heard, share := note(2000, 1, 0, false, 2); heard != 2000 || math.Abs(share-quickShare) > 0.06 {
			t.Errorf("%s: %.3f of %v are quick", name, share, heard)
		}
		if _, share := note(2000, 4, 0, false, 3); share > 0.1 {
			t.Errorf("%s: where all share, %.3f are quick of those that take four times as long", name, share)
		}
		if _, share := note(2000, 1, 0.3, false, 4); share > 0.001 {
			t.Errorf("%s: one after the other, %.3f are quick of those that wait for three times as long", name, share)
		}
		if heard, _ := note(1, 1, 0, false, 5); heard != 1 {
			t.Errorf("%s: a new count begins with %v", name, heard)
		}
		q.Note(0.01, false, false, 5)
		if n := q.heard.Load(); n != 1 {
			t.Errorf("%s: of those who entered before it was full one more is heard: %d", name, n)
		}
		var all Signs
		if all.Add(&q, 6, 7); all.inside != 7 || all.vary != 0 {
			t.Errorf("%s: what was noted for another count counts: %+v", name, all)
		}
	}
}

// TestQuickAllTheSame: where all answers take the same, nearly all are quick as long as nobody waits. Of these a third is a third, as others came or as a queue lets some pass.
func TestQuickAllTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q Quick
	for range 2000 {
		q.Note(0.1*(1+0.02*r.Float64()), true, false, 0)
	}
	for i := range 300 {
		q.Note([]float64{0.1, 0.4, 0.4}[i%3], false, true, 1)
	}
	var all Signs
	all.Add(&q, 1, 7)
	if heard, share := all.Tell(); heard != 300 || math.Abs(share-quickShare/3) > 0.01 {
		t.Errorf("%.4f of %.0f are quick, want a third of a quarter", share, heard)
	}
}

// TestSigns: nine of ten answers come from an endpoint where nobody waits, and nine of ten of those inside are at another, which answers nobody quickly.
func TestSigns(t *testing.T) {
	var idle, full Quick
	for i := range 1000 {
		for _, q := range []*Quick{&idle, &full} {
			q.Note(float64(1+i%100), true, false, 0)
		}
	}
	for i := range 90 {
		idle.Note(float64(i%2), false, true, 1) // half of them, but no more than a quarter count
	}
	for range 10 {
		full.Note(1000, false, true, 1)
	}
	var all Signs
	all.Add(&idle, 1, 10)
	all.Add(&full, 1, 90)
	heard, share := all.Tell()
	if want := quickShare / 10; math.Abs(share-want) > 1e-9 || math.Abs(heard-100*100/(10.0*10/90+90*90/10.0)) > 1e-9 {
		t.Errorf("%.4f of %.1f are quick, want %.4f, and as sure as the ten of the full one make it", share, heard, want)
	}
	if heard, share := new(Signs).Tell(); heard != 0 || share != 0 {
		t.Errorf("of nothing: %v of %v", share, heard)
	}
}

// TestHeavier: forty are inside though ten places would do, by the S of calm times. When as many as ever are quick, S is what those inside take.
func TestHeavier(t *testing.T) {
	for _, c := range []struct {
		name            string
		heard, share, s float64 // S: that of calm times is 0.1
		used, crept     bool
		unsure, learns  bool
	}{
		{"a quarter is quick", 40, 0.25, 0.1, false, false, false, true},
		{"a third are others", 60, 0.16, 0.1, false, false, false, true},
		{"all of a few", 12, 0.25, 0.1, false, false, true, false},
		{"very few answers", 7, 0.25, 0.1, false, false, false, false},
		{"as many as a queue leaves", 400, 0.0625, 0.1, false, false, false, false},
		{"some more, but that is the model", 4000, 0.085, 0.1, false, false, false, false},
		{"none is", 40, 0, 0.1, false, false, false, false},
		{"more than chance, not by enough", 40, 0.12, 0.1, false, false, true, false},
		{"still not, after very many", 210, 0.095, 0.1, false, false, false, false},
		{"believed already", 40, 0.25, 0.1, true, false, false, false},
		{"other answers are quick now", 40, 0.25, 0.04, false, false, false, false},
		{"S is that of the long run until a dip tells", 40, 0.25, 0.04, false, true, false, true},
	} {
		k := calmed(1)
		k.high, k.crept = gauge{100 * 0.1 / c.s, 1, 40}, c.crept
		k.low = alike(400, c.s)
		k.quick = quickly{count: 3, heard: c.heard, share: c.share, service: 0.1, used: c.used}
		unsure := k.heavier()
		learns := math.Abs(k.low.mean()-k.high.area/k.high.count) < 1e-9
		if unsure != c.unsure || learns != c.learns {
			t.Errorf("%s: unsure %v, learns %v", c.name, unsure, learns)
		}
		if c.learns && (!k.quick.used || k.base.count != 0) {
			t.Errorf("%s: it is not noted that S was learned anew", c.name)
		}
	}
	for best, again := range map[float64]bool{150: false, 250: true} { // 100 are answered per second now
		k := calmed(1)
		k.low, k.high = alike(400, 0.1), gauge{100, 1, 40}
		k.quick = quickly{heard: 40, share: 0.25, service: 0.1, used: true, best: best}
		k.heavier()
		if learns := k.low.mean() > 0.39; learns != again || again && k.quick.best != 100 {
			t.Errorf("believed already, and %v a second were answered since: learns %v, best now %v", best, learns, k.quick.best)
		}
	}
	k := calmed(1)
	k.low, k.high, k.quick, k.ceilingEnd = alike(400, 0.03), gauge{320, 1, 40}, quickly{heard: 400, share: 0.25, service: 0.1}, 20
	if k.heavier() || math.Abs(k.low.mean()-0.125) > 1e-9 || k.ceilingEnd != 0 {
		t.Errorf("those inside take hardly longer than in calm times: S is %.3f s, and nobody tries more for %d conclusions", k.low.mean(), k.ceilingEnd)
	}
	k = calmed(1)
	k.quick = quickly{heard: 40, share: 0.25}
	if k.heavier() || k.low.mean() > 0.11 {
		t.Error("without calm times")
	}
	k = calmed(1)
	k.high, k.quick = gauge{380, 1, 40}, quickly{heard: 40, share: 0.25, service: 0.1}
	if k.heavier() || k.low.mean() > 0.101 {
		t.Error("as many places as the limit, nearly")
	}
}

// TestGateLetsHeavierCome: 300 requests a second, and from the tenth second on 150 that are ten times as heavy, before three endpoints with room for all, by the same path. Refused were thousands.
func TestGateLetsHeavierCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New("shop", on, Deps{Endpoints: func() int { return 3 }})
		r := rand.New(rand.NewPCG(3, 4))
		var refused, answered atomic.Int64
		var all sync.WaitGroup
		endpoints := make([]*exchange.Endpoint, 3)
		for i := range endpoints {
			endpoints[i] = new(exchange.Endpoint)
		}
		ask := func(e *exchange.Endpoint, took time.Duration) {
			x := newExchange(exchange.Standard)
			x.Endpoint = e
			e.InFlight.Add(1)
			defer e.InFlight.Add(-1)
			if g.Serve(x, answer(took)) != nil {
				refused.Add(1)
				return
			}
			answered.Add(1)
		}
		begin := time.Now()
		for time.Since(begin) < 25*time.Second {
			rate, times := 300.0, 1.0
			if time.Since(begin) > 10*time.Second {
				if rate = 450; r.Float64() < 1.0/3 {
					times = 10
				}
			}
			e, took := endpoints[r.IntN(3)], seconds(0.03*times*r.ExpFloat64())
			all.Go(func() { ask(e, took) })
			<-time.After(seconds(r.ExpFloat64() / rate))
		}
		all.Wait()
		if n := answered.Load() + refused.Load(); n < 9000 || refused.Load() > n/100 {
			t.Errorf("%d of %d were refused", refused.Load(), n)
		}
		if len(g.met) != 3 {
			t.Errorf("%d endpoints were met", len(g.met))
		}
	})
}

// TestCalmLetsBelieveAgain: what answers show is believed once between two calm times.
func TestCalmLetsBelieveAgain(t *testing.T) {
	for took, again := range map[float64]bool{0.1: true, 0.4: false} {
		k := calmed(1)
		k.quick.used, k.usual, k.period = true, 10, gauge{60, 1, 60 * took}
		k.calm(&Window{Total: 60, Seconds: 60 * took, Logs: 60 * math.Log(took)}, Flow{InFlight: 6, Endpoints: 1})
		if k.quick.used == again {
			t.Errorf("after answers of %v s: again %v", took, !k.quick.used)
		}
	}
}

// TestGateSigns: who entered when there was room tells nothing, and those inside at an endpoint that never answered count as slow.
func TestGateSigns(t *testing.T) {
	g := New("shop", on, Deps{Endpoints: func() int { return 2 }})
	e := new(exchange.Endpoint)
	for i := range 1000 {
		g.meet(e).Note(float64(1+i%100), true, false, 0)
	}
	e.InFlight.Store(5)
	count := uint32(7)
	g.core.knee.quick.count = count
	g.crowd.Store(10)
	for place := range int32(20) {
		x := newExchange(exchange.Standard)
		x.Endpoint, x.Place = e, place
		took := time.Duration(place%5) * time.Minute
		if place < 10 {
			took = time.Minute
		}
		g.noteQuick(x, took, uint64(count)<<notesShift|notesAll)
	}
	for inside, want := range map[float64]float64{0: 0.2, 5: 0.2, 20: 0.05} {
		if g.signs(inside); math.Abs(g.win.Quick-want) > 1e-9 {
			t.Errorf("with %v inside %v are quick, want %v", inside, g.win.Quick, want)
		}
	}
}

// TestMeet: what is kept for endpoints is bounded, whether they are gone or not.
func TestMeet(t *testing.T) {
	g := New("shop", on, Deps{Endpoints: func() int { return 2 }})
	first := new(exchange.Endpoint)
	u := g.meet(first)
	if g.meet(first) != u {
		t.Error("an endpoint is met twice")
	}
	for i := range 1000 {
		e := new(exchange.Endpoint)
		e.Gone.Store(i%2 == 0)
		if g.meet(e); len(g.met) > g.core.knee.endpoints+metMore {
			t.Fatalf("%d are kept", len(g.met))
		}
	}
	if again := g.meet(first); again == u || again.of != g {
		t.Error("it was not forgotten")
	}
	other := New("other", on, Deps{})
	if other.meet(first).of != other {
		t.Error("another gate goes on with what this one knows")
	}
	g.signs(3)
	if g.win.Heard != 0 {
		t.Errorf("%v answers were heard, though there were none", g.win.Heard)
	}
}
