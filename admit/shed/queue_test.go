package shed

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

func TestQueueOrdersClassesAndReserves(t *testing.T) {
	q := NewQueue(0.1, 0.05)
	for i := range 3000 {
		q.Push(&Waiter{Class: ranked[i%3], Tenant: 1}, time.Duration(i))
	}
	var got [3]int
	for range 1000 {
		got[q.Next(0, time.Hour, time.Hour).Class.Rank()]++
	}
	if got[1] < 99 || got[1] > 100 || got[2] < 49 || got[2] > 50 {
		t.Errorf("of 1000 grants %d critical, %d standard, %d low; reserved are 100 and 50", got[0], got[1], got[2])
	}
}

func TestQueueIsFairToTenants(t *testing.T) {
	q := NewQueue(0, 0)
	for i := range 500 {
		q.Push(&Waiter{Tenant: 7}, time.Duration(i))
	}
	q.Push(&Waiter{Tenant: 8}, 500)
	q.Push(&Waiter{Tenant: 9, Weight: 2}, 500)
	q.Push(&Waiter{Tenant: 9, Weight: 2}, 500)
	seen := map[uint64]int{}
	for range 6 {
		seen[q.Next(500, time.Hour, time.Hour).Tenant]++
	}
	if seen[8] != 1 || seen[9] != 2 {
		t.Errorf("after six grants the small tenants had %d of 1 and %d of 2", seen[8], seen[9])
	}
	if v, _ := q.Victim(exchange.Standard, 8, 1, false); v == nil || v.Tenant != 7 {
		t.Errorf("a newcomer of a small tenant pushes out %v, want one of the large tenant", v)
	}
	if v, _ := q.Victim(exchange.Standard, 7, 1, false); v != nil {
		t.Errorf("a newcomer of the large tenant pushes out %v, want nobody", v)
	}
	if v, _ := q.Victim(exchange.Low, 8, 1, false); v != nil {
		t.Errorf("a low newcomer pushes out %v, want nobody", v)
	}
	if v, _ := q.Victim(exchange.Critical, 7, 1, false); v == nil || v.Class != exchange.Standard {
		t.Errorf("a critical newcomer pushes out %v, want a standard one", v)
	}
}

// TestQueueSparesThoseWhoSendLittle is about a queue that is full with one or two of each tenant, and one tenant that comes all the time.
func TestQueueSparesThoseWhoSendLittle(t *testing.T) {
	q := NewQueue(0, 0)
	const heavy = 7
	for range 2 {
		q.Push(&Waiter{Tenant: heavy}, 0)
		q.Push(&Waiter{Tenant: 1}, 0)
	}
	q.Push(&Waiter{Tenant: 2}, 0)
	for range 3 * heavyLeast {
		if v, spared := q.Victim(exchange.Standard, heavy, 1, false); v != nil || spared {
			t.Fatalf("who has two waiting pushes out %v, or is spared: %v", v, spared)
		}
	}
	if v, _ := q.Victim(exchange.Standard, 2, 1, false); v == nil || v.Tenant != heavy {
		t.Errorf("the second of a small tenant pushes out %v, want the second of the one that sends most", v)
	} else {
		q.Remove(v)
	}
	if v, spared := q.Victim(exchange.Standard, 2, 1, false); v != nil || !spared {
		t.Errorf("the next of a small tenant pushes out %v, spared %v; want it to wait beside the others", v, spared)
	}
	if v, spared := q.Victim(exchange.Standard, 3, 1, true); v == nil || v.Tenant != 1 || spared {
		t.Errorf("where there is no room beside, a newcomer pushes out %v, spared %v; want the tenant with two", v, spared)
	}
	q.Remove(q.lanes[1].by[heavy].first)
	if v, spared := q.Victim(exchange.Standard, heavy, 1, false); v != nil || !spared {
		t.Errorf("the only one of the tenant that sends most pushes out %v, spared %v; want it to wait beside the others", v, spared)
	}
	for range heavyMost * heavyRecall {
		for key := range uint64(heavyMost + 1) {
			q.Victim(exchange.Standard, 10+key, 1, false)
		}
	}
	if q.lanes[1].hasHeavy() {
		t.Error("a tenant that comes no more is still held to send most")
	}
}

// TestQueueOfFewTenants: of two, one sends twenty times as much, and goes on. Counts that nothing made fall called both the ones who send most in the end.
func TestQueueOfFewTenants(t *testing.T) {
	q := NewQueue(0, 0)
	q.Push(&Waiter{Tenant: 1}, 0)
	for i := range 21 * 100 {
		q.Victim(exchange.Standard, uint64(min(i%21, 1)), 1, true)
	}
	if l := &q.lanes[1]; l.isHeavy(0) || !l.isHeavy(1) {
		t.Errorf("who sends little counts as sending most: %v; who does: %v", l.isHeavy(0), l.isHeavy(1))
	}
}

func TestQueueServesTheNewestWhenTheOldestIsStale(t *testing.T) {
	q := NewQueue(0, 0)
	old, young := &Waiter{}, &Waiter{}
	q.Push(old, 0)
	q.Push(young, 90*time.Millisecond)
	if w := q.Next(100*time.Millisecond, time.Second, 50*time.Millisecond); w != young {
		t.Error("the stale one was served first")
	}
	q.Push(young, 90*time.Millisecond)
	for range heavyLeast {
		q.Victim(exchange.Standard, 7, 1, false)
	}
	if w := q.Next(100*time.Millisecond, time.Second, 50*time.Millisecond); w != old {
		t.Error("two of a tenant are not served in order while another sends most")
	}
}

// TestQueueKeepsItsBooks plays random calls against counts kept beside.
func TestQueueOldest(t *testing.T) {
	for _, class := range []exchange.Class{exchange.Critical, exchange.Standard, exchange.Low} {
		q := NewQueue(0, 0)
		for i, other := range []exchange.Class{exchange.Critical, exchange.Standard, exchange.Low} {
			q.Push(&Waiter{Class: other, Tenant: 1}, time.Duration(5+i)*time.Second)
		}
		q.Push(&Waiter{Class: class, Tenant: 2}, time.Second)
		if all, one := q.Oldest(10*time.Second), q.OldestOf(10*time.Second, class); all != 9*time.Second || one != all {
			t.Errorf("the oldest is of class %s and waits for 9 s: %v and %v", class, all, one)
		}
	}
}

func TestQueueKeepsItsBooks(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		q := NewQueue(0.04, 0.01)
		in := map[*Waiter]bool{}
		for i := range 2000 {
			switch r.IntN(5) {
			case 0, 1:
				w := &Waiter{Class: exchange.Class(r.IntN(3)), Tenant: r.Uint64N(12), Weight: float64(r.IntN(4))}
				q.Push(w, time.Duration(i))
				in[w] = true
			case 2:
				if w := q.Next(time.Duration(i), 100, 100); w != nil && !in[w] {
					t.Fatalf("seed %d: served twice", seed)
				} else {
					delete(in, w)
				}
			case 3:
				for w := range in {
					if !q.Remove(w) || q.Remove(w) {
						t.Fatalf("seed %d: removing once did not remove once", seed)
					}
					delete(in, w)
					break
				}
			case 4:
				if w, _ := q.Victim(exchange.Class(r.IntN(3)), r.Uint64N(12), 1, r.IntN(2) == 0); w != nil && !in[w] {
					t.Fatalf("seed %d: the victim does not wait", seed)
				}
			}
			if q.Len() != len(in) {
				t.Fatalf("seed %d: %d wait, counted %d", seed, len(in), q.Len())
			}
		}
		total := 0
		for _, c := range ranked {
			total += q.Waiting(c)
		}
		if total != len(in) {
			t.Fatalf("seed %d: %d wait, the classes count %d", seed, len(in), total)
		}
	}
}
