package node

import "github.com/even-keel/evenkeel/exchange"

// pick asks the route's pool for an endpoint and tells it what became of the attempt. When the pool is asked again,
// x.Endpoint still is the endpoint that failed and x.Attempt is above 1, so that the pool avoids it.
type pick struct{}

// Serve implements exchange.Stage.
func (*pick) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	pool := x.Route.Pool
	e, refusal := pool.Pick(x)
	if refusal != nil {
		// The result of an earlier attempt must not look like that of this one.
		x.Result = exchange.Result{}
		return refusal
	}
	x.Endpoint, x.Result = e, exchange.Result{}
	whole := false
	defer func() {
		if !whole { // a panic says nothing about the endpoint, but must not leave a request in flight for ever
			x.Result = exchange.Result{Kind: exchange.Cancelled}
		}
		settle(x)
	}()
	refusal = next.Do(x)
	whole = true
	return refusal
}

// settle notes and tells the pool what became of an attempt, at the endpoint that x.Endpoint is now: a hedged one may have won. It is not inlined, so that the copy of the result is not on the
// stack of every exchange that waits for an endpoint.
//
//go:noinline
func settle(x *exchange.Exchange) {
	if !x.Result.Unsent {
		x.Outcome.Reached = true
	}
	x.Route.Pool.Done(x, x.Endpoint, x.Result)
}
