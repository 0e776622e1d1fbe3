package host

import (
	"math"
	"time"
)

// What a budget saves. The gateway's budget has a floor of repeats per second, so that a quiet pool may try again at all; a thousand
// clients with a floor of one would be a thousand repeats a second, however little they ask. So a client starts with one
// repeat, earns the others by its requests, and loses what it did not need for some minutes.
const (
	budgetFirst = 1.0
	budgetMost  = 10.0
	budgetFade  = time.Minute // what is beyond the first fades to a third in this time
)

// budget bounds repeats and hedges to a share of the requests. It is not for concurrent use.
type budget struct {
	share  float64
	tokens float64
	at     time.Time
}

func newBudget(share float64) budget {
	return budget{share: share, tokens: min(budgetFirst, share*budgetMost)}
}

// request earns for one request.
func (b *budget) request(now time.Time) {
	b.fade(now)
	b.tokens = min(b.tokens+b.share, budgetMost)
}

// take takes one repeat.
func (b *budget) take(now time.Time) bool {
	b.fade(now)
	if b.tokens < 1-1e-9 { // ten tenths are one
		return false
	}
	b.tokens = max(b.tokens-1, 0)
	return true
}

// giveBack returns a repeat that was taken and not made.
func (b *budget) giveBack() { b.tokens = min(b.tokens+1, budgetMost) }

func (b *budget) fade(now time.Time) {
	past := now.Sub(b.at)
	if past <= 0 {
		return
	}
	if extra := b.tokens - budgetFirst; extra > 0 && !b.at.IsZero() {
		b.tokens = budgetFirst + extra*math.Exp(-float64(past)/float64(budgetFade))
	}
	b.at = now
}
