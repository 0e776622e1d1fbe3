package node

import "github.com/even-keel/evenkeel/exchange"

// pick asks the route's pool for an endpoint and tells it what became of the attempt. When the pool is asked again,
// x.Endpoint still is the endpoint that failed and x.Attempt is above 1, so that the pool avoids it.
type pick struct{}

// Serve implements exchange.Stage.
func (pick) Serve(x *exchange.Exchange, next exchange.Handler) *exchange.Refusal {
	pool := x.Route.Pool
	e, refusal := pool.Pick(x)
	if refusal != nil {
		// The result of an earlier attempt must not look like that of this one.
		x.Result = exchange.Result{}
		return refusal
	}
	x.Endpoint, x.Result = e, exchange.Result{}
	refusal = next(x)
	pool.Done(x, e, x.Result)
	return refusal
}
