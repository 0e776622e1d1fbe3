package bulkhead

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// fill enters until it may not, at most n times, and returns how often it could and which places were borrowed.
func fill(p *Part, n int) (got int, borrowed []bool) {
	for range n {
		b, ok := p.Enter()
		if !ok {
			break
		}
		got, borrowed = got+1, append(borrowed, b)
	}
	return got, borrowed
}

// A part that hangs gets its most and no more, and never what is kept for the others.
func TestHungPartLeavesTheOthersTheirs(t *testing.T) {
	b := New(1000, []Share{{Name: "hung", Kept: 0.05, Most: 0.8}, {Name: "slow", Kept: 0.05, Most: 0.8}, {Name: "well", Kept: 0.05, Most: 0.8}})
	if got, _ := fill(b.Part("hung"), 5000); got != 800 {
		t.Errorf("the first got %d places, want its most, 800", got)
	}
	if got, _ := fill(b.Part("slow"), 5000); got != 150 {
		t.Errorf("the second got %d places, want what is left but for the third's own, 150", got)
	}
	if got, _ := fill(b.Part("well"), 5000); got != 50 {
		t.Errorf("the third got %d places, want its own 50", got)
	}
	if s := b.Part("hung").Status(); s.Refused != 1 || s.Used != 800 || b.Idle() != 0 {
		t.Errorf("%+v, idle %d", s, b.Idle())
	}
}

// What is idle is lent but for a quarter, and comes back as borrowers leave.
func TestLending(t *testing.T) {
	b := New(100, []Share{{Name: "day", Kept: 0.5}, {Name: "night", Kept: 0.4}})
	day, night := b.Part("day"), b.Part("night")
	now := start
	pass := func(d time.Duration) {
		for range int(d / time.Second) {
			now = now.Add(time.Second)
			b.Lend(now)
		}
	}
	got, _ := fill(day, 60)
	if got != 60 {
		t.Fatalf("day got %d, want its 50 and 10 of nobody's", got)
	}
	pass(20 * time.Second)
	more, words := fill(day, 100)
	if more != 30 {
		t.Errorf("day borrowed %d more of an idle night, want 30 of its 40", more)
	}
	if n, _ := fill(night, 100); n != 10 {
		t.Errorf("night woke up with %d places, want a quarter of its 40", n)
	}
	pass(time.Second)
	if n, _ := fill(night, 100); n != 0 {
		t.Errorf("night got %d places that day still has", n)
	}
	for _, w := range words[:5] {
		day.Leave(w)
	}
	// Another looks, and the five belong to night again.
	if n, _ := fill(day, 100); n != 5 {
		t.Errorf("day got %d of five places back before anybody looked, want 5", n)
	}
	for range 5 {
		day.Leave(true)
	}
	pass(time.Second)
	if n, _ := fill(day, 100); n != 0 {
		t.Errorf("day borrowed %d places that are night's again", n)
	}
	if n, _ := fill(night, 100); n != 5 {
		t.Errorf("night got %d of five places that came back", n)
	}
}

func TestUpdateKeepsWhatIsHeld(t *testing.T) {
	b := New(10, []Share{{Name: "a", Kept: 0.5}, {Name: "b"}})
	a := b.Part("a")
	fill(a, 8)
	b.Update(20, []Share{{Name: "a", Kept: 0.1, Cap: 9}})
	if b.Part("a") != a || b.Part("b") != nil || a.Status().Used != 8 || a.Status().Most != 9 {
		t.Fatalf("after an update a is %+v", a.Status())
	}
	if n, _ := fill(a, 10); n != 1 {
		t.Errorf("a got %d more, want 1 up to its cap", n)
	}
	b.Update(100, []Share{{Name: "a", Kept: 0.8}, {Name: "c", Kept: 0.8}})
	if k := a.Status().Due; k != 50 {
		t.Errorf("of shares that come to more than all, a keeps %d places, want 50", k)
	}
}

// TestUpdateWaitsForBorrowers: a part that woke up gets what others borrowed of it as they leave, also when a reload comes before the next look.
func TestUpdateWaitsForBorrowers(t *testing.T) {
	shares := []Share{{Name: "day"}, {Name: "night", Kept: 0.5}}
	b := New(100, shares)
	for i := range 20 {
		b.Lend(start.Add(time.Duration(i) * time.Second))
	}
	day, night := b.Part("day"), b.Part("night")
	got, words := fill(day, 200)
	woken, _ := fill(night, 200)
	if got < 80 || woken == 0 || got+woken > 100 {
		t.Fatalf("%d and %d places", got, woken)
	}
	b.Update(100, shares)
	if n, _ := fill(night, 200); got+woken+n > 100 {
		t.Errorf("%d of 100 places are used", got+woken+n)
	}
	for _, w := range words[got-10:] {
		day.Leave(w)
	}
	b.Update(100, shares)
	if n, _ := fill(night, 200); n != 10 {
		t.Errorf("night got %d of ten places that came back", n)
	}
}

// FuzzPlaces: whatever comes in whatever order, never are more places used than there are, none by a part above its most, a part may always
// enter up to a quarter of its own, and at the end nothing is left.
func FuzzPlaces(f *testing.F) {
	f.Add(uint64(1), uint16(300))
	f.Add(uint64(7), uint16(2000))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		places := 1 + rnd.IntN(200)
		shares := make([]Share, 1+rnd.IntN(5))
		for i := range shares {
			shares[i] = Share{Name: fmt.Sprint(i), Kept: rnd.Float64() / float64(len(shares)), Most: rnd.Float64()}
		}
		b := New(places, shares)
		held := make([][]bool, len(shares))
		now, used := start, 0
		for range steps {
			i := rnd.IntN(len(shares))
			p := b.Part(shares[i].Name)
			switch rnd.IntN(6) {
			case 5: // a reload
				b.Update(places, shares)
			case 0:
				now = now.Add(time.Duration(rnd.IntN(3000)) * time.Millisecond)
				b.Lend(now)
			case 1, 2:
				if n := len(held[i]); n > 0 {
					at := rnd.IntN(n)
					p.Leave(held[i][at])
					held[i] = append(held[i][:at], held[i][at+1:]...)
					used--
				}
			default:
				s := p.Status()
				borrowed, ok := p.Enter()
				if ok {
					held[i] = append(held[i], borrowed)
					used++
				}
				if !ok && s.Used < int(math.Ceil(keepLeast*float64(s.Due))) {
					t.Fatalf("part %+v was refused one of the quarter that is its own", s)
				}
				if s = p.Status(); s.Used > s.Most || used > places || s.Used != len(held[i]) {
					t.Fatalf("%d of %d places are used, %+v, held %d", used, places, s, len(held[i]))
				}
			}
			sum := int(b.open.Load())
			for _, p := range b.parts {
				sum += int(p.kept.Load())
			}
			if sum != places {
				t.Fatalf("places came to %d, want %d", sum, places)
			}
		}
		for i, words := range held {
			for _, w := range words {
				b.Part(shares[i].Name).Leave(w)
			}
		}
		if b.Idle() != places || b.common.Load() != 0 {
			t.Fatalf("%d of %d places are idle in the end, %d borrowed", b.Idle(), places, b.common.Load())
		}
	})
}

// TestManyAtOnce: with all entering, leaving and lending at once, no place is given twice and none is lost.
func TestManyAtOnce(t *testing.T) {
	b := New(64, []Share{{Name: "a", Kept: 0.5}, {Name: "b", Kept: 0.25, Most: 0.5}})
	k := NewKeyed(0.25, 64)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			p := b.Part([]string{"a", "b"}[w%2])
			for i := range 20_000 {
				if borrowed, ok := p.Enter(); ok {
					if s, ok := k.Enter([]byte{byte(i), byte(w)}); ok {
						k.Leave(s)
					}
					p.Leave(borrowed)
				}
				if i%1000 == 0 {
					b.Lend(start.Add(time.Duration(i) * time.Minute))
				}
			}
		})
	}
	wg.Wait()
	if b.Idle() != 64 || k.used.Load() != 0 {
		t.Errorf("%d of 64 places are idle in the end; keys hold %d", b.Idle(), k.used.Load())
	}
}

// One customer gets its share when others are there, and half of all when it is alone.
func TestKeyed(t *testing.T) {
	k := NewKeyed(0.1, 100)
	greedy := 0
	var seats []Seat
	for range 500 {
		if s, ok := k.Enter([]byte("greedy")); ok {
			greedy++
			seats = append(seats, s)
		}
	}
	if greedy != 50 {
		t.Errorf("alone it got %d places, want half", greedy)
	}
	others := 0
	for i := range 45 {
		if _, ok := k.Enter(fmt.Append(nil, "customer ", i)); ok {
			others++
		}
	}
	if others != 45 {
		t.Errorf("%d of 45 others got a place, want all", others)
	}
	for _, s := range seats {
		k.Leave(s)
	}
	n := 0
	for range 500 {
		if _, ok := k.Enter([]byte("second")); ok {
			n++
		}
	}
	if n < 25 || n > 30 {
		t.Errorf("beside 45 others it got %d places, want half of the rest", n)
	}
	if k.Refused() == 0 {
		t.Error("no refusal was counted")
	}
}

// However many of one key come at once, they never have more than half.
func TestKeyedAtOnce(t *testing.T) {
	const places, workers = 40, 8
	for range 500 {
		k := NewKeyed(0.1, places)
		start := make(chan struct{})
		var in atomic.Int64
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				<-start
				for range 5 {
					if _, ok := k.Enter([]byte("greedy")); ok {
						in.Add(1)
					}
				}
			})
		}
		close(start)
		wg.Wait()
		if in.Load() > places/2 {
			t.Fatalf("alone it got %d of %d places, want half at the most", in.Load(), places)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	b, k := New(10, []Share{{Name: "a", Kept: 0.1}}), NewKeyed(0.1, 10)
	p, name := b.Part("a"), []byte("customer")
	if n := testing.AllocsPerRun(1000, func() {
		borrowed, _ := p.Enter()
		s, ok := k.Enter(name)
		if ok {
			k.Leave(s)
		}
		p.Leave(borrowed)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	p := New(1000, []Share{{Name: "a", Kept: 0.1}, {Name: "b", Kept: 0.1}}).Part("a")
	for b.Loop() {
		borrowed, _ := p.Enter()
		p.Leave(borrowed)
	}
}
