package node

import (
	"net/http"
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

var (
	refuseLate = &exchange.Refusal{Stage: "retry", Reason: "deadline", Status: 504,
		Detail: "The request could not be answered before its deadline."}
	refuseLeft = &exchange.Refusal{Stage: "retry", Reason: "client_gone", Status: 503, Close: true,
		Detail: "The client left while it waited."}
)

// retrying repeats an attempt that failed before the client saw a byte, on another endpoint, as the rules of its route and the budget of its
// pool allow. It is the Judge of answers: those that say "not now" are thrown away when there will be another attempt.
type retrying struct {
	routes []*retried // by Route.Index; nil for routes without a pool
	now    func() time.Time
	random func() float64
	sleep  func(time.Duration)
	gone   func(*exchange.Exchange) bool // whether the client has left
}

// retried is what of a route counts for repeats.
type retried struct {
	rules  retry.Rules
	pool   *retries
	gate   *shed.Gate // gives places for attempts; nil: nobody does
	berths *berths    // gives further ones; nil: none
}

// Serve implements exchange.Stage.
func (t *retrying) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	r := t.routes[x.Route.Index]
	r.pool.budget.Request(x.Shard)
	if !x.Deadline.IsZero() && r.pool.late(x.Deadline.Sub(t.now())) {
		return refuseLate
	}
	x.Judge = t
	for x.Attempt = 1; ; x.Attempt++ {
		refusal := next.Do(x)
		if !x.Again {
			if refusal == nil {
				if !x.Deadline.IsZero() {
					r.pool.learn(&x.Result)
				}
				return nil
			}
			if x.Again = t.judge(x); !x.Again {
				return refusal
			}
		}
		if refusal = t.pause(x, r); refusal != nil {
			return refusal
		}
	}
}

// Again implements exchange.Judge. The endpoint has done what it did: its place is free for others while x waits.
func (t *retrying) Again(x *exchange.Exchange) bool {
	if !t.judge(x) {
		return false
	}
	x.Again = true
	if x.Held != nil {
		x.Held.Answered(x, false)
	}
	return true
}

// Hedge implements exchange.Judge: it takes a second attempt from the budget and picks its endpoint. Who tries out an endpoint for the pool is insured whatever
// the budget and the load are: there is one at a time for an endpoint on trial, and a tenth of its share for one in doubt. As a trial comes when the pool
// has just lost an endpoint, it often was overloaded, and the client waited for a minute. A route that allows one attempt says that a second one may do harm.
func (t *retrying) Hedge(x *exchange.Exchange) bool {
	r, first, now := t.routes[x.Route.Index], x.Endpoint, t.now()
	if r.rules.Attempts < 2 {
		return false
	}
	insured := first.Insure.Load() > 0
	if o := x.Route.Overloaded; !insured && (o != nil && o() || requestOf(x).Caller > 1) || !x.Deadline.IsZero() && r.pool.late(x.Deadline.Sub(now)) {
		return false
	}
	paid := r.pool.take(now)
	if !paid && !insured {
		r.pool.denied[retry.Spent].Add(1)
		return false
	}
	giveBack := func() {
		if paid {
			r.pool.budget.Return()
		}
	}
	e, refusal := x.Route.Pool.Pick(x)
	if refusal != nil {
		giveBack()
		return false
	}
	if e == first { // there is no other
		x.Route.Pool.Done(x, e, exchange.Result{Kind: exchange.Cancelled})
		x.Trace.Forget()
		giveBack()
		return false
	}
	x.Endpoint = e
	x.Trace.Beside()
	r.pool.done[retry.Hedge].Add(1)
	return true
}

// judge decides whether the attempt that x just had is made again, and takes it from the budget.
func (t *retrying) judge(x *exchange.Exchange) bool {
	r := t.routes[x.Route.Index]
	a := attemptOf(x)
	v := r.rules.Judge(requestOf(x), a)
	if v.Denial == retry.Final {
		return false
	}
	if v.Denial == retry.Granted {
		v.Denial = t.grant(x, r, a)
	}
	if v.Denial != retry.Granted {
		r.pool.denied[v.Denial].Add(1)
		// Who asked need not try again what was tried as often as it may be.
		x.NoRetry = x.NoRetry || v.Denial == retry.Spent || v.Denial == retry.NoTime || v.Denial == retry.Exhausted && x.Attempt > 1
		return false
	}
	r.pool.done[v.Reason].Add(1)
	x.Anew = a.Kind == retry.Reset || a.Kind == retry.Unsent
	x.Tried[(x.Attempt-1)%exchange.MaxTried] = x.Endpoint
	return true
}

// grant says whether there is time and budget for a repeat, and how long x waits before it.
func (t *retrying) grant(x *exchange.Exchange, r *retried, a retry.Attempt) retry.Denial {
	now := t.now()
	x.Pause = retry.Wait(a, t.random())
	if !x.Deadline.IsZero() && r.pool.late(x.Deadline.Sub(now)-x.Pause) {
		return retry.NoTime
	}
	if !r.pool.take(now) {
		return retry.Spent
	}
	return retry.Granted
}

// lookEvery is how often who waits for its next attempt looks whether its client is still there.
const lookEvery = 100 * time.Millisecond

// pause waits before the next attempt, and asks for places again if those of the last were given back. What it returns is the end of x.
func (t *retrying) pause(x *exchange.Exchange, r *retried) *exchange.Refusal {
	x.Again = false
	for left := x.Pause; left > 0; left -= lookEvery {
		t.sleep(min(left, lookEvery))
		if t.gone(x) {
			x.Outcome.Aborted = true
			r.pool.budget.Return()
			r.pool.denied[retry.Left].Add(1)
			return refuseLeft
		}
	}
	if x.Held != nil || x.Request == nil {
		return nil
	}
	if r.gate != nil {
		if refusal := r.gate.Enter(x); refusal != nil {
			return refusal
		}
	}
	if refusal := r.berths.enterAgain(x); refusal != nil {
		return refusal
	}
	rejoin(x)
	return nil
}

// attemptOf says how the last attempt ended.
func attemptOf(x *exchange.Exchange) retry.Attempt {
	res := &x.Result
	a := retry.Attempt{Number: x.Attempt, Status: res.Status, Code: int(res.Code), RetryAfter: res.RetryAfter, NoRetry: res.NoRetry}
	if res.Code != 0 { // a call of gRPC: its status was 200
		a.Status = http.StatusOK
	}
	switch {
	case x.Outcome.Started:
		a.Kind = retry.Started
	case res.Kind == exchange.ConnectFailed:
		a.Kind = retry.Connect
	case res.Kind == exchange.Broken && res.Unsent:
		a.Kind = retry.Unsent
	case res.Kind == exchange.Broken:
		a.Kind = retry.Reset
	case res.Kind == exchange.TimedOut && x.Route.AttemptTimeout > 0:
		a.Kind = retry.TimedOut
	case res.Kind != exchange.Answered:
		a.Kind = retry.Cancelled
	}
	return a
}

// requestOf says what of the request counts. Only what has failed pays for it.
func requestOf(x *exchange.Exchange) retry.Request {
	r := x.Request
	if r == nil { // a tcp connection: nothing was sent yet
		return retry.Request{}
	}
	if x.Caller == 0 {
		x.Caller = 1
		if v := r.Field(wire.EvenkeelAttempt); v != nil {
			x.Caller = uint8(retry.CallerAttempt(v))
		} else if v, ok := wire.FieldNamed(r.Fields, retry.FieldPrevious); ok {
			x.Caller = uint8(retry.PreviousAttempts(v))
		}
	}
	return retry.Request{
		Idempotent: retry.Idempotent(r.Method) || x.SafeCall(), Keyed: keyed(r), Gone: !x.Replayable && !x.Kept && !x.Result.Unsent, Caller: int(x.Caller),
	}
}

// keyed reports whether the endpoint can tell a repeat from a new request.
func keyed(r *wire.Request) bool { return len(r.Field(wire.IdempotencyKey)) > 0 }
