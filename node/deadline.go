package node

import "github.com/even-keel/evenkeel/exchange"

// deadline sets until when the whole answer must be there. It counts from the first byte of the request, so that time
// spent reading a slow head is the client's own.
type deadline struct{}

// Serve implements exchange.Stage.
func (*deadline) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if d := x.Route.Deadline; d > 0 {
		x.Deadline = x.Start.Add(d)
	}
	return next.Do(x)
}
