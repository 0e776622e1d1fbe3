package shed

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

func TestKindOf(t *testing.T) {
	of := func(method, path string, route int) int {
		return kindOf(&exchange.Exchange{Request: &wire.Request{Method: []byte(method)}, Path: []byte(path), Route: &exchange.Route{Index: route}})
	}
	same := [][2]string{{"/a/b", "/a/b/c"}, {"/users/17", "/users/4"}, {"/users/17/orders", "/users/u4/carts"}, {"/v1.Shop/Buy", "/v1.Shop/Buy"}, {"/a/b", "/a/b"}, {"", ""}}
	for _, c := range same {
		if of("GET", c[0], 0) != of("GET", c[1], 0) {
			t.Errorf("%q and %q are two kinds", c[0], c[1])
		}
	}
	other := [][2]string{{"/a/b", "/a/c"}, {"/a", "/b"}, {"/a", "/a/b"}, {"/poll", "/fast"}, {"/users/17", "/carts/17"}, {"/v1.Shop/Buy", "/v1.Shop/Find"}, {"/", "/a"}, {"/ab/c", "/a/bc"}}
	for _, c := range other {
		if of("GET", c[0], 0) == of("GET", c[1], 0) {
			t.Errorf("%q and %q are one kind", c[0], c[1])
		}
	}
	if get := of("GET", "/a", 0); get == of("POST", "/a", 0) || get == of("GET", "/a", 1) {
		t.Error("another method or route is the same kind")
	}
	if n := kindOf(&exchange.Exchange{}); n < 0 || n >= kindsMost {
		t.Errorf("an exchange of tcp is of kind %d", n)
	}
}

// add takes in one answer of a kind.
func (k *kinds) add(kind int, seconds float64) {
	k.places[kind].batch.add(kindSum{1, math.Log(seconds)}, 1)
}

// sorted is what a batch looks like: so many answers of each kind.
func sorted(k *kinds, counts [3]int, seconds [3]float64) float64 {
	n := 0
	for kind, count := range counts {
		n += count
		for range count {
			k.add(kind, seconds[kind])
		}
	}
	var win Window
	k.compare(&win)
	return win.Logs / float64(n)
}

func TestKinds(t *testing.T) {
	c, usual := NewCore(Config{Endpoints: 1}), [3]float64{0.005, 0.2, 20}
	k, now := new(kinds), time.Second
	next := func(calm bool) {
		now += 20 * time.Millisecond
		c.knee.sound, c.knee.learns = calm, calm
		k.learn(now, c)
	}
	if got := sorted(k, [3]int{30, 30}, usual); math.Abs(got-math.Log(math.Sqrt(0.005*0.2))) > 1e-6 {
		t.Errorf("as long as nothing is known: %.3f, want the mean of the logarithms", got)
	}
	if next(true); k.ref != 0 {
		t.Error("60 answers tell kinds apart")
	}
	for range 5 {
		sorted(k, [3]int{30, 30}, usual)
		next(true)
	}
	ref := k.ref
	if ref == 0 {
		t.Fatal("nothing is known after 360 answers")
	}
	for _, s := range []struct {
		name    string
		counts  [3]int
		seconds [3]float64
		want    float64 // over ref
	}{
		{"the same", [3]int{30, 30}, usual, 0},
		{"more long ones", [3]int{10, 90}, usual, 0},
		{"all take twice as long", [3]int{30, 30}, [3]float64{0.01, 0.4}, math.Ln2},
		{"one kind in four does", [3]int{75, 25}, [3]float64{0.005, 0.4}, 0},
		{"three in four do", [3]int{75, 25}, [3]float64{0.01, 0.2}, math.Ln2},
		{"one of two kinds does", [3]int{30, 30}, [3]float64{0.01, 0.2}, 0},
		{"one that nobody knows", [3]int{50, 0, 50}, usual, 0},
	} {
		if got := sorted(k, s.counts, s.seconds); math.Abs(got-ref-s.want) > 1e-6 {
			t.Errorf("%s: %.3f over what is usual, want %.3f", s.name, got-ref, s.want)
		}
		next(false)
	}
	sorted(k, [3]int{0, 0, 10}, usual)
	next(true)
	if got := sorted(k, [3]int{0, 0, 10}, [3]float64{0, 0, 40}); math.Abs(got-ref) > 1e-6 {
		t.Errorf("ten answers of a new kind are enough to say that it takes longer: %.3f", got-ref)
	}
	next(false)
	sorted(k, [3]int{0, 0, 30}, usual)
	next(true)
	if got := sorted(k, [3]int{0, 0, 10}, [3]float64{0, 0, 40}); math.Abs(got-ref-math.Ln2) > 1e-6 {
		t.Errorf("the new kind takes twice as long: %.3f over what is usual, want 0.693", got-ref)
	}
	c.knee.rebase()
	if next(true); k.ref != 0 || k.places[0].calm.count != 0 {
		t.Error("what calm times showed outlasts that S was learned anew")
	}
}

// Where only one kind is known nothing is compared, and a kind that is known does not follow what is not learned from.
func TestKindsFollow(t *testing.T) {
	c, k := NewCore(Config{Endpoints: 1}), new(kinds)
	c.knee.sound, c.knee.learns = true, true
	show := func(kind, n int, took float64) (win Window) {
		for range n {
			k.add(kind, took)
		}
		k.compare(&win)
		k.learn(k.at+20*time.Millisecond, c)
		return win
	}
	near := func(what string, got, want float64) {
		if t.Helper(); math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: %.4f, want %.4f", what, got, want)
		}
	}
	show(0, 400, 0.01)
	win := show(0, 10, 0.02)
	near("the only kind", win.Logs, 10*math.Log(0.02))
	show(1, 100, 0.5)
	c.knee.learns = false
	show(1, 100, 1)
	near("a kind that took twice as long, which nobody learned", show(1, 10, 0.5).Logs, 10*k.ref)
	show(2, 100, 3)
	near("a new kind, though nobody learned S", show(2, 10, 6).Logs, 10*(k.ref+math.Ln2))
}

// TestGateLetsOthersCome: 300 short requests a second, and callers that wait for 200 ms each, or 20 s, come by and by: nobody is refused, before endpoints with room for all. It was nearly all for 15 s.
func TestGateLetsOthersCome(t *testing.T) {
	for _, took := range []time.Duration{200 * time.Millisecond, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			g := New("shop", on, Deps{Endpoints: func() int { return 3 }})
			var refused, answered atomic.Int64
			ask := func(path string, took time.Duration) {
				x := newExchange(exchange.Standard)
				x.Request.Method, x.Path = []byte("GET"), []byte(path)
				if g.Serve(x, answer(took)) != nil {
					refused.Add(1)
					return
				}
				answered.Add(1)
			}
			var all sync.WaitGroup
			const seconds = 45
			end := time.Now().Add(seconds * time.Second)
			for i := range 100 {
				all.Go(func() {
					for <-time.After(5*time.Second + time.Duration(i)*100*time.Millisecond); time.Now().Before(end); {
						ask("/poll", took)
						<-time.After(time.Millisecond)
					}
				})
			}
			for i := range 300 * seconds {
				all.Go(func() {
					<-time.After(time.Duration(i) * time.Second / 300)
					ask("/fast", 5*time.Millisecond)
				})
			}
			all.Wait()
			if refused.Load() > 0 || answered.Load() < 300*seconds {
				t.Errorf("with callers of %v %d were refused, %d answered", took, refused.Load(), answered.Load())
			}
		})
	}
}
