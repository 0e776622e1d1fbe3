package node

import (
	"sync/atomic"

	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/proxy"
)

// replayMemory bounds what all bodies that are kept for repeats hold at once, in bytes; beyond it bodies are streamed, and cannot be sent again.
const replayMemory = 64 << 20

// replayRoom is what a kept body holds: the sizes of the buffers that are lent for it.
const (
	replaySmall = 16 << 10
	replayLarge = 128 << 10
)

// replay sees to it that short bodies of requests that may be repeated can be sent again. Those whose length is told are read before a place is taken, of whatever request, so
// that who sends slowly holds none: two callers that posted a line over ten seconds had all others refused at a pool with two places. Of others nobody knows how long they are, or go on: they stream, and a copy is kept until it is too long.
type replay struct {
	most   []int64       // bytes by Route.Index; 0: none is kept
	held   *atomic.Int64 // bytes held, by all listeners
	peek   func(x *exchange.Exchange, n int) (body []byte, whole bool, err error)
	keep   func(x *exchange.Exchange, most int, reserve func(bytes int64) bool)
	unkeep func(x *exchange.Exchange)
	room   func(bytes int64) bool // reserve, made once: a method value per request would allocate
}

// newReplay makes the stage for so many routes.
func newReplay(routes int, held *atomic.Int64) *replay {
	s := &replay{held: held, most: make([]int64, routes), peek: proxy.Peek, keep: proxy.Keep, unkeep: proxy.Unkeep}
	s.room = s.reserve
	return s
}

// reserve takes room for bodies, or gives it back: that of less than nothing.
func (s *replay) reserve(bytes int64) bool {
	if s.held.Add(bytes) > replayMemory && bytes > 0 {
		s.held.Add(-bytes)
		return false
	}
	return true
}

// Serve implements exchange.Stage.
func (s *replay) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if x.Replayable {
		return next.Do(x)
	}
	switch s.keeps(x) {
	case keepAhead:
		return s.ahead(x, next)
	case keepPassing:
		defer s.unkeep(x)
		s.keep(x, int(s.most[x.Route.Index]), s.room)
	}
	return next.Do(x)
}

// ahead reads the body of x, and carries x on.
func (s *replay) ahead(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	n := x.Request.ContentLength
	if n < 0 { // a call of gRPC, which need not tell its length
		n = s.most[x.Route.Index]
	}
	room := int64(replaySmall)
	if n > replaySmall {
		room = replayLarge
	}
	if !s.reserve(room) {
		return next.Do(x)
	}
	defer s.held.Add(-room)
	if _, _, err := s.peek(x, int(n)); err != nil {
		refusal, _ := err.(*exchange.Refusal) // any other: the client has left
		return refusal
	}
	return next.Do(x)
}

// manner is how a body is kept.
type manner uint8

const (
	keepNot     manner = iota
	keepAhead          // it is read before anything is sent to an endpoint
	keepPassing        // on its way to the endpoint
)

// keeps says how the body of x is kept, if it is worth it: the body is not known to be long, and x may be repeated or its client can be waited for. Calls that only read are read ahead
// whether their length is told or not, because only what is whole can be hedged; who asks before it sends a body would have to be answered for that.
func (s *replay) keeps(x *exchange.Exchange) manner {
	r, most := x.Request, s.most[x.Route.Index]
	n := r.ContentLength
	switch {
	case most == 0 || n == 0 || n > most || r.Upgrade != nil:
		return keepNot
	case n < 0 && x.SafeCall(), n > 0 && !r.Expect100:
		return keepAhead
	case !retry.Idempotent(r.Method) && !keyed(r) && !x.SafeCall():
		return keepNot
	}
	return keepPassing
}
