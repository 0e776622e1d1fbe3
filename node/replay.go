package node

import (
	"sync/atomic"

	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/exchange"
)

// replayMemory bounds what all bodies that are kept for repeats hold at once, in bytes; beyond it bodies are streamed, and cannot be sent again.
const replayMemory = 64 << 20

// replayRoom is what a kept body holds: the sizes of the buffers that are lent for it.
const (
	replaySmall = 16 << 10
	replayLarge = 128 << 10
)

// replay reads short bodies of requests that may be repeated before a place is taken, so that they can be sent again.
type replay struct {
	most []int64       // bytes by Route.Index; 0: none is kept
	held *atomic.Int64 // bytes held, by all listeners
	peek func(x *exchange.Exchange, n int) (body []byte, whole bool, err error)
}

// Serve implements exchange.Stage.
func (s *replay) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if x.Replayable || !s.keeps(x) {
		return next.Do(x)
	}
	n := x.Request.ContentLength
	if n < 0 { // a call of gRPC, which need not tell its length
		n = s.most[x.Route.Index]
	}
	room := int64(replaySmall)
	if n > replaySmall {
		room = replayLarge
	}
	if s.held.Add(room) > replayMemory {
		s.held.Add(-room)
		return next.Do(x)
	}
	defer s.held.Add(-room)
	if _, _, err := s.peek(x, int(n)); err != nil {
		refusal, _ := err.(*exchange.Refusal) // any other: the client has left
		return refusal
	}
	return next.Do(x)
}

// keeps reports whether the body of x is worth keeping: its length is told and short, or it is a call that only reads; it may be repeated, and its client does not ask first.
func (s *replay) keeps(x *exchange.Exchange) bool {
	r := x.Request
	n := r.ContentLength
	if n < 0 {
		return s.most[x.Route.Index] > 0 && x.SafeCall()
	}
	return n > 0 && n <= s.most[x.Route.Index] && !r.Expect100 && (retry.Idempotent(r.Method) || keyed(r) || x.SafeCall())
}
