package node

import (
	"sync/atomic"
	"time"

	read "github.com/even-keel/evenkeel/contain/deadline"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// refusePassed answers requests whose deadline had passed as they came.
var refusePassed = &exchange.Refusal{Stage: "deadline", Reason: "deadline", Status: 504,
	Detail: "The deadline of the request had passed before it came."}

// deadline sets until when the whole answer must be there: as the route says, or as the client says when that is sooner. It counts from
// the first byte of the request, so that time spent reading a slow head is the client's own.
type deadline struct {
	cut []*atomic.Uint64 // answers that were cut off, by Route.Index
	now func() time.Time
}

// Serve implements exchange.Stage.
func (s *deadline) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	d := x.Route.Deadline
	if told, ok := toldBy(x.Request); ok && (d <= 0 || told < d) {
		if d = told; d <= 0 {
			x.NoRetry = true
			return refusePassed
		}
	}
	if d <= 0 {
		return next.Do(x)
	}
	x.Deadline = x.Start.Add(d)
	refusal := next.Do(x)
	switch {
	case refusal != nil && refusal.Reason == "deadline":
		x.NoRetry = true // whoever asked has given up, or is about to
	case x.Outcome.Truncated && !s.now().Before(x.Deadline):
		s.cut[x.Route.Index].Add(1)
	}
	return refusal
}

// toldBy is how long the client waits, by the shortest of the fields in which it may say so. What is malformed says nothing.
func toldBy(r *wire.Request) (told time.Duration, ok bool) {
	for i := range r.Fields {
		f := &r.Fields[i]
		var d time.Duration
		var good bool
		switch f.ID {
		case wire.EvenkeelDeadline, wire.EnvoyTimeout:
			d, good = read.Millis(f.Value)
			if f.ID == wire.EnvoyTimeout && d == 0 {
				good = false // Envoy's way to say: none
			}
		case wire.GRPCTimeout:
			d, good = read.GRPC(f.Value)
		}
		if good && (!ok || d < told) {
			told, ok = d, true
		}
	}
	return told, ok
}

// cutOf finds or makes the counter of a route's answers that were cut off by a deadline.
func (n *Node) cutOf(route string) *atomic.Uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut == nil {
		n.cut = map[string]*atomic.Uint64{}
	}
	if n.cut[route] == nil {
		n.cut[route] = new(atomic.Uint64)
	}
	return n.cut[route]
}
