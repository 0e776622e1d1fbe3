package proxy

import (
	"cmp"
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// race is an attempt with a second one beside it, at another endpoint, that begins when the first has no answer in time. The first that
// answers wins; the other is called off. The second runs on a goroutine of its own with a copy of the exchange, and end waits for it, so that nothing of the
// exchange is used after its end.
type race struct {
	of    *exchange.Exchange // the first
	f     front
	first back
	timer *time.Timer
	ctx   context.Context // of connecting for the second
	stop  context.CancelFunc
	done  chan struct{} // closed when the second has ended
	body  []byte        // of the request, which is whole

	mu    sync.Mutex // guards what follows
	over  bool       // the second is not wanted any more
	begun bool
	alone bool // the first has failed: when the client leaves the second is called off
	b     back // of the second while it may be cancelled
	won   bool
	never bool // the second's endpoint forbade to try again

	x     exchange.Exchange // of the second
	s     scratch
	start time.Time
	lost  time.Duration // that the second's endpoint worked for nothing
}

// connecting is what a front cancels of a second attempt that is not connected yet.
type connecting struct {
	back
	stop context.CancelFunc
}

func (c connecting) cancel() { c.stop() }

// hedge starts a race, if the route asks for it or the endpoint is being tried out, and x only reads; nil: there is none.
func (a *attempt) hedge(body []byte, whole bool) *race {
	x := a.x
	after := hedgeAfter(x)
	if after <= 0 || x.Judge == nil || x.Attempt != 1 || !whole || x.Request.Upgrade != nil {
		return nil
	}
	if m := string(x.Request.Method); (m != "GET" && m != "HEAD" || len(body) > 0) && !x.SafeCall() {
		return nil
	}
	r := &race{of: x, f: a.f, first: a.b, done: make(chan struct{}), body: body} // without a, which would be on the heap then for all
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.timer = time.AfterFunc(after, r.second)
	return r
}

// hedgeAfter is when a second attempt at x begins; 0: never.
func hedgeAfter(x *exchange.Exchange) time.Duration {
	after := x.Endpoint.Insure.Load()
	if x.Route == nil {
		return 0
	}
	if h := x.Route.Hedge; h != nil {
		if own := h.After.Load(); own > 0 && (after <= 0 || own < after) {
			after = own
		}
	}
	return time.Duration(after)
}

// second is the second attempt.
func (r *race) second() {
	defer close(r.done)
	defer r.recovered()
	if !r.begin() {
		return
	}
	x := &r.x
	b, _, err := x.Endpoint.Link.(*Link).reachWithin(r.ctx, x, false)
	if err != nil {
		x.Result = exchange.Result{Kind: exchange.ConnectFailed, Reason: connectReason(err), Unsent: true}
		if r.ctx.Err() != nil || x.Result.Reason == "connections" || x.Result.Reason == "own_limit" {
			x.Result.Kind = exchange.Cancelled
		}
		r.lose(nil)
		return
	}
	r.start = time.Now()
	r.mu.Lock()
	over := r.over
	r.b = b
	if r.alone {
		r.f.watchCancel(b)
	}
	r.mu.Unlock()
	if over {
		x.Result = exchange.Result{Kind: exchange.Cancelled}
		r.lose(b)
		return
	}
	r.s.requestFields(x)
	unsent, err := b.send(x, &r.s, r.body, true)
	for n := 0; err == nil && n <= maxInformational; n++ {
		if unsent, err = b.head(x, &r.s.resp); err != nil || r.s.resp.Status >= 200 {
			break
		}
	}
	if err == nil {
		x.Result = exchange.Result{}
		mind(x, &r.s)
		if r.win() {
			return
		}
	}
	r.judge(unsent, err)
	r.lose(b)
}

// begin makes the copy of the exchange and picks another endpoint. It fails when the first has answered meanwhile.
func (r *race) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	x := &r.x
	*x = *r.of
	x.Tried, x.Attempt, x.Beat = [exchange.MaxTried]*exchange.Endpoint{x.Endpoint}, 2, 0
	x.Held, x.Judge, x.Result = nil, nil, exchange.Result{}
	r.begun = r.of.Judge.Hedge(x)
	return r.begun
}

// win ends the first attempt, unless it has answered or this answer is worth nothing.
func (r *race) win() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if res := &r.x.Result; r.over || r.s.resp.Status >= 500 || r.s.resp.Status == 429 || exchange.StatusOfCode(res.Code) != 0 {
		r.never = res.NoRetry
		return false
	}
	r.won = true
	r.first.cancel()
	return true
}

// judge says what the second attempt, which lost, showed of its endpoint.
func (r *race) judge(unsent bool, err error) {
	res, took := &r.x.Result, time.Since(r.start)
	if !unsent {
		r.lost = took
	}
	r.mu.Lock()
	over := r.over
	r.mu.Unlock()
	switch {
	case err == nil:
		*res = exchange.Result{Kind: exchange.Answered, Status: cmp.Or(res.Status, r.s.resp.Status), Latency: took, Code: res.Code, RetryAfter: res.RetryAfter, NoRetry: res.NoRetry}
	case over || errors.Is(err, errClientGone):
		*res = exchange.Result{Kind: exchange.Cancelled, Latency: took}
	case errors.Is(err, os.ErrDeadlineExceeded):
		*res = exchange.Result{Kind: exchange.TimedOut, Reason: "timeout"}
	default:
		*res = exchange.Result{Kind: exchange.Broken, Reason: "broken", Unsent: unsent}
	}
}

// lose gives back what the second attempt had.
func (r *race) lose(b back) {
	r.mu.Lock()
	r.b = nil
	r.mu.Unlock()
	if b != nil {
		b.release(false)
	}
	r.x.Route.Pool.Done(&r.x, r.x.Endpoint, r.x.Result)
}

// recovered makes a panic cost the second attempt, not the process.
func (r *race) recovered() {
	if v := recover(); v != nil && r.begun {
		r.x.Result = exchange.Result{Kind: exchange.Cancelled}
		r.lose(r.b)
		r.x.Endpoint.Link.(*Link).up.proxy.panicked("a second attempt panicked", v)
	}
}

// end ends the race when the first attempt has a head, or failed with err. It returns what is to be gone on with: after a victory of the
// second all of the attempt is its.
func (r *race) end(a *attempt, s *scratch, unsent bool, err error) (bool, error) {
	stopped := r.timer.Stop()
	r.mu.Lock()
	failed := err != nil && !r.won && !errors.Is(err, errClientGone)
	if failed && r.begun { // the second may still answer
		r.alone = true
		if r.b != nil {
			r.f.watchCancel(r.b)
		} else {
			r.f.watchCancel(connecting{stop: r.stop})
		}
		r.mu.Unlock()
		<-r.done
		r.mu.Lock()
	}
	r.over = true
	if !r.won {
		r.stop()
		if r.b != nil {
			r.b.cancel()
		}
	}
	r.mu.Unlock()
	if !stopped {
		<-r.done
	}
	r.stop()
	x := r.of
	if r.begun { // it was an attempt as any other: a request has three in all, and the next is not for an endpoint that has failed it
		x.Attempt = 2
		if !r.won && r.x.Result.Kind != exchange.Cancelled {
			x.Tried[0] = r.x.Endpoint
		}
	}
	if !r.won {
		a.never = r.never
		x.Work += r.lost
		return unsent, err
	}
	if !unsent {
		x.Work += time.Since(a.start)
	}
	lost := exchange.Result{Kind: exchange.Cancelled, Latency: time.Since(a.start)}
	if failed {
		lost = exchange.Result{Kind: exchange.Broken, Reason: "broken", Unsent: unsent}
	}
	a.b.release(false)
	x.Route.Pool.Done(x, x.Endpoint, lost)
	x.Endpoint, x.Beat, x.Rank, x.Trace = r.x.Endpoint, r.x.Beat, r.x.Rank, r.x.Trace
	x.SetCookie = r.x.SetCookie // binds the client to who answers, as after a repeat
	a.b, a.start, s.resp = r.b, r.start, r.s.resp
	a.f.watchCancel(a.b)
	return false, nil
}
