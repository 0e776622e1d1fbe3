package node

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/guard"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
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

// Clients of a node that is overloaded come back after one to four seconds: not all at once.
const (
	guardWait   = time.Second
	guardJitter = 3 * time.Second
)

// guardRefusals are ready made, by guard.Why. The first is for more exchanges in flight than memory can hold.
var guardRefusals = [...]*exchange.Refusal{
	guard.Calm: {Stage: "guard", Reason: "node_overloaded", Status: 503, RetryAfter: guardWait, Problem: exchange.ProblemReduced,
		Detail: "The gateway has as many requests in flight as it can hold."},
	guard.Scheduler: {Stage: "guard", Reason: "node_busy", Status: 503, RetryAfter: guardWait, Problem: exchange.ProblemReduced,
		Detail: "The gateway is too busy."},
	guard.Accept: {Stage: "guard", Reason: "node_accept_queue", Status: 503, RetryAfter: guardWait, Problem: exchange.ProblemReduced,
		Detail: "The gateway is too busy."},
	guard.Memory: {Stage: "guard", Reason: "node_memory", Status: 503, RetryAfter: guardWait, Problem: exchange.ProblemReduced,
		Detail: "The gateway is short of memory."},
}

// A level is what is refused just now, in one word that every request reads: 16 bits for the share of each class, by its number,
// then the reason and two flags. 0 is calm.
type level uint64

const (
	levelAll   = 1<<16 - 1 // of 16 bits: everything
	levelWhy   = 48
	levelCount = 1 << 56 // requests are counted by class
	levelDry   = 1 << 57 // nothing is refused, but counted
)

// levelOf packs orders.
func levelOf(o guard.Orders, dry bool) (l level) {
	for class, share := range o.Refuse {
		l |= level(min(max(share, 0), 1)*levelAll) << (16 * class)
	}
	if l == 0 && !o.Watch {
		return 0
	}
	l |= level(o.Why) << levelWhy
	if o.Watch {
		l |= levelCount
	}
	if dry {
		l |= levelDry
	}
	return l
}

// share is that of a class, up to levelAll.
func (l level) share(c exchange.Class) uint32 { return uint32(l>>(16*c)) & levelAll }

// refusal is what those are told that are refused.
func (l level) refusal() *exchange.Refusal { return guardRefusals[l>>levelWhy&0xff] }

// selfGuard keeps evenkeel itself from being overloaded. One serves all listeners, and outlives reloads.
type selfGuard struct {
	level  atomic.Uint64 // a level; read by every request, written when it changes
	stock  atomic.Int64  // places in flight that no shard holds
	limit  int64
	shards [shardCount]guardShard

	softener softener // nil: there is none
	event    func(kind, text string)
	senses   *senses
	cfg      atomic.Pointer[site.Guard]
	closed   atomic.Uint64 // idle connections

	mu       sync.Mutex // guards what follows; never taken on the way of a request
	status   guard.Status
	warnings []string
}

// softener is what the guard asks of the proxy, before it refuses anything and beside that. It is *proxy.Proxy.
type softener interface {
	Soften(streams float64, idle time.Duration) (closed int)
	AcceptQueue() float64
	Room() (used, limit int64)
}

type guardShard struct {
	places  atomic.Int64
	demand  [3]atomic.Uint64 // by class, while they are counted
	refused atomic.Uint64
	would   atomic.Uint64
	_       [16]byte
}

// newGuard makes a guard that lets limit exchanges be in flight at once.
func newGuard(limit int64) *selfGuard {
	g := &selfGuard{limit: limit}
	g.stock.Store(limit)
	g.cfg.Store(&site.Guard{Mode: site.ModeOff})
	return g
}

// limitInFlight derives the limit from the bytes that this process may use: half of them for requests.
func limitInFlight(memory int64) int64 {
	return max(minInFlight, min(maxInFlight, memory/2/bytesInFlight))
}

// guardEntry is the first look, before any other work. It refuses what would be too much in flight; and where all requests of a
// listener are of one class, it refuses the share of that class, which nobody has to route for.
type guardEntry struct {
	*selfGuard
	class exchange.Class
	blind bool // the class of all requests is known to be class, or lower where a client says so itself
}

// Serve implements exchange.Stage.
func (s *guardEntry) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	g := s.selfGuard
	if l := level(g.level.Load()); l != 0 && s.blind {
		if r := g.look(x, l, s.class); r != nil {
			return r
		}
	}
	own := &g.shards[x.Shard%shardCount]
	if own.places.Add(-1) < 0 && !g.restock(own) {
		return g.full(x, own)
	}
	defer g.leave(own) // a panic of a later stage must not keep the place
	return next.Do(x)
}

// leave gives a place back.
func (g *selfGuard) leave(s *guardShard) {
	if s.places.Add(1) >= 2*guardBatch {
		s.places.Add(-guardBatch)
		g.stock.Add(guardBatch)
	}
}

// full refuses what would be too much in flight.
//
//go:noinline
func (g *selfGuard) full(x *exchange.Exchange, own *guardShard) *exchange.Refusal {
	own.refused.Add(1)
	x.RetryAfter = guardWait + rand.N(guardJitter)
	return guardRefusals[guard.Calm]
}

// guardByClass is the second look, when the route and with it the class are known. A request that gets here and is refused costs
// a fifteenth more than one that is refused at the entry, and no critical request pays for that others are too many.
type guardByClass struct{ *guardEntry }

// Serve implements exchange.Stage.
func (s *guardByClass) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if l := level(s.level.Load()); l != 0 {
		if !s.blind || x.Class != s.class { // else it had its look
			if r := s.look(x, l, x.Class); r != nil {
				return r
			}
		}
		if l&levelCount != 0 {
			s.shards[x.Shard%shardCount].demand[x.Class].Add(1)
		}
	}
	return next.Do(x)
}

// look draws whether a request of that class is refused, and counts it when it is, or would be.
//
//go:noinline
func (g *selfGuard) look(x *exchange.Exchange, l level, class exchange.Class) *exchange.Refusal {
	share := l.share(class)
	if share == 0 || share < levelAll && rand.Uint32N(levelAll) >= share {
		return nil
	}
	s := &g.shards[x.Shard%shardCount]
	if l&levelDry != 0 {
		s.would.Add(1)
		return nil
	}
	s.demand[class].Add(1)
	s.refused.Add(1)
	x.RetryAfter = guardWait + rand.N(guardJitter)
	return l.refusal()
}

// restock moves a batch to s, which owes one place. Near the end of the stock it takes just that one.
func (g *selfGuard) restock(s *guardShard) bool {
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
func (g *selfGuard) inFlight() int64 {
	n := g.limit - g.stock.Load()
	for i := range g.shards {
		n -= g.shards[i].places.Load()
	}
	return max(n, 0)
}
