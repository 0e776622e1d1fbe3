package node

import (
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// guardBatch is how many places a shard takes from the common stock at once, so that cores meet there once in 16
// requests and not in each. At the most 2*guardBatch places per shard lie unused while others are refused.
const guardBatch = 16

// bytesInFlight is what one request in flight may hold: two 16 KiB heads, copy buffers of both sides, two stacks.
const bytesInFlight = 64 << 10

// Bounds of the number of exchanges in flight, whatever the memory.
const (
	minInFlight = 1 << 12
	maxInFlight = 1 << 20
)

var refuseOverloaded = &exchange.Refusal{
	Stage: "guard", Reason: "node_overloaded", Status: 503, RetryAfter: time.Second,
	Detail: "The gateway has as many requests in flight as it can hold.",
}

// guard refuses when evenkeel itself is overloaded: when more exchanges are in flight than its memory can hold.
// One guard serves all listeners, and outlives reloads.
type guard struct {
	stock  atomic.Int64 // places that no shard holds
	limit  int64
	shards [shardCount]guardShard
}

type guardShard struct {
	places atomic.Int64
	_      [56]byte
}

// newGuard makes a guard that lets limit exchanges be in flight at once.
func newGuard(limit int64) *guard {
	g := &guard{limit: limit}
	g.stock.Store(limit)
	return g
}

// limitInFlight derives the limit from the bytes that this process may use: half of them for requests.
func limitInFlight(memory int64) int64 {
	return max(minInFlight, min(maxInFlight, memory/2/bytesInFlight))
}

// Serve implements exchange.Stage.
func (g *guard) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	s := &g.shards[x.Shard%shardCount]
	if s.places.Add(-1) < 0 && !g.restock(s) {
		return refuseOverloaded
	}
	r := next.Do(x)
	if s.places.Add(1) >= 2*guardBatch {
		s.places.Add(-guardBatch)
		g.stock.Add(guardBatch)
	}
	return r
}

// restock moves a batch to s, which owes one place. Near the end of the stock it takes just that one.
func (g *guard) restock(s *guardShard) bool {
	for _, n := range [...]int64{guardBatch, 1} {
		if g.stock.Add(-n) >= 0 {
			s.places.Add(n)
			return true
		}
		g.stock.Add(n)
	}
	s.places.Add(1)
	return false
}

// inFlight is how many exchanges are in flight, about.
func (g *guard) inFlight() int64 {
	n := g.limit - g.stock.Load()
	for i := range g.shards {
		n -= g.shards[i].places.Load()
	}
	return max(n, 0)
}
