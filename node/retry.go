package node

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Limits of trying again. Three attempts find a healthy endpoint when a third of a pool died since the last probe
// in 96 of 100 cases; more would multiply the load of an outage.
const (
	maxAttempts    = 3
	retryShare     = 0.1             // of a pool's requests
	retryFloor     = 10.0            // per second, so that a quiet pool may try again at all
	retryHoard     = 2 * time.Second // unused budget older than this is gone
	retryMinWindow = 10 * time.Millisecond
)

// retry repeats an attempt that failed before the client saw a byte, on another endpoint, as long as the pool's budget lasts.
type retry struct {
	budgets []*budget // by Route.Index; nil for routes without a pool
	now     func() time.Time
}

// Serve implements exchange.Stage.
func (t *retry) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	b := t.budgets[x.Route.Index]
	b.requests[x.Shard%shardCount].n.Add(1)
	for x.Attempt = 1; ; x.Attempt++ {
		refusal := next.Do(x)
		if refusal == nil || !repeatable(x) {
			return refusal
		}
		now := t.now()
		if !x.Deadline.IsZero() && !now.Before(x.Deadline) {
			return refusal
		}
		if !b.take(now) {
			return refusal
		}
	}
}

// repeatable reports whether the attempt that x just had may be made again.
func repeatable(x *exchange.Exchange) bool {
	if x.Outcome.Started || x.Attempt >= maxAttempts {
		return false
	}
	switch x.Result.Kind {
	case exchange.ConnectFailed, exchange.Broken:
	default:
		return false
	}
	if x.Result.Unsent {
		return true
	}
	return x.Request != nil && x.Replayable && x.Request.IsIdempotent()
}

// budget bounds the repeats of one pool to a share of its requests (Google SRE book, "Handling overload": 10 %), so
// that a dead pool is not hammered. It outlives reloads.
type budget struct {
	requests [shardCount]paddedCount

	mu     sync.Mutex // only repeats take it
	tokens float64
	seen   uint64    // requests at the last take
	at     time.Time // of the last take

	repeats atomic.Uint64
	denied  atomic.Uint64
}

// paddedCount is a counter that shares its cache line with no other.
type paddedCount struct {
	n atomic.Uint64
	_ [56]byte
}

// newBudget makes a budget that earns from now on.
func newBudget(now time.Time) *budget { return &budget{at: now, tokens: retryFloor} }

// take takes one repeat from the budget.
func (b *budget) take(now time.Time) bool {
	total := b.total()
	b.mu.Lock()
	ok := b.step(now, total)
	b.mu.Unlock()
	if ok {
		b.repeats.Add(1)
	} else {
		b.denied.Add(1)
	}
	return ok
}

// step is the pure part of take: total is the number of requests so far.
func (b *budget) step(now time.Time, total uint64) bool {
	if past := now.Sub(b.at); past > 0 {
		requests := float64(total - b.seen)
		earned := retryFloor*past.Seconds() + retryShare*requests
		// What may be hoarded follows the rate since the last repeat.
		perSecond := retryFloor + retryShare*requests/max(past, retryMinWindow).Seconds()
		b.tokens = min(b.tokens+earned, max(b.tokens, perSecond*retryHoard.Seconds()))
		b.at, b.seen = now, total
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// total is the number of requests of the pool so far.
func (b *budget) total() uint64 {
	var n uint64
	for i := range b.requests {
		n += b.requests[i].n.Load()
	}
	return n
}
