package host

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
)

// What a quiet client saved up does not come out at one moment: it is what a tenth of its last minutes is, and never more than budgetMost.
func TestBudgetFades(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBudget(retry.Share)
	if !b.take(now) || b.take(now) {
		t.Error("a new client has one repeat")
	}
	for range 10 {
		b.request(now)
	}
	if !b.take(now) || b.take(now) {
		t.Error("ten requests earn one repeat")
	}
	for range 10_000 {
		b.request(now)
	}
	n := 0
	for b.take(now) {
		n++
	}
	if n != budgetMost {
		t.Errorf("%d repeats are saved", n)
	}
	for range 100 {
		b.request(now)
	}
	if b.take(now.Add(10*budgetFade)) != true || b.take(now.Add(10*budgetFade)) {
		t.Error("old savings do not fade to the first repeat")
	}
}

// However requests and failures come, no more is repeated than a tenth of the requests, and the first.
func TestBudgetHolds(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		now, b := time.Unix(0, 0), newBudget(retry.Share)
		requests, repeats := 0, 0
		for range 5000 {
			now = now.Add(time.Duration(rnd.ExpFloat64() * float64(time.Second)))
			for range rnd.IntN(3) {
				b.request(now)
				requests++
			}
			for range rnd.IntN(4) {
				if b.take(now) {
					if repeats++; rnd.IntN(10) == 0 {
						b.giveBack()
						repeats--
					}
				}
			}
			if float64(repeats) > budgetFirst+retry.Share*float64(requests)+1e-6 {
				t.Fatalf("seed %d: %d repeats of %d requests", seed, repeats, requests)
			}
		}
		if repeats < requests/12 {
			t.Errorf("seed %d: only %d repeats of %d requests, though many are wanted", seed, repeats, requests)
		}
	}
}

// A host that is new for a clock that goes back, or whose share is none, gives nothing it should not.
func TestBudgetEdges(t *testing.T) {
	none, now := newBudget(0), time.Unix(0, 0)
	for range 100 {
		none.request(now)
	}
	if none.take(now) {
		t.Error("a share of nothing gives a repeat")
	}
	b := newBudget(1)
	b.request(now)
	b.request(now.Add(-time.Hour))
	if !b.take(now.Add(-time.Minute)) {
		t.Error("a clock that goes back takes repeats away")
	}
}
