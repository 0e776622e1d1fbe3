package host

import (
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
