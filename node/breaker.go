package node

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// refuseOpen is the refusal of a pool whose breaker is open.
var refuseOpen = &exchange.Refusal{Stage: "breaker", Reason: "pool_open", Status: 503, RetryAfter: time.Second,
	Problem: exchange.ProblemReduced, Detail: "The service fails at the moment and is not asked."}

// poolBreaker is the breaker of one pool with what it has done. It outlives reloads.
type poolBreaker struct {
	*breaker.Breaker
	dry     atomic.Bool   // only counts, unless it is held by hand
	off     atomic.Bool   // only opens by hand
	refused atomic.Uint64 // in a dry run: what would have been

	mu    sync.Mutex
	turns map[breakerTurn]uint64
}

// breakerTurn is a kind of change of state.
type breakerTurn struct{ to, cause string }

// count counts a change of state.
func (b *poolBreaker) count(c breaker.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turns[breakerTurn{c.To.String(), c.Cause}]++
}

// refuse says no, and for how long.
func (b *poolBreaker) refuse(x *exchange.Exchange, now time.Time) *exchange.Refusal {
	b.refused.Add(1)
	x.RetryAfter = max(b.Wait(now), time.Second)
	return refuseOpen
}

// bites says whether its refusals count.
func (b *poolBreaker) bites() bool { return !b.dry.Load() || b.Forced() }

// foresee refuses for breakers that are open before anything waits: the shedder's queue is no place to wait for a no.
type foresee struct{ breakers []*poolBreaker }

// Serve implements exchange.Stage.
func (s *foresee) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	b := s.breakers[x.Route.Index]
	if b == nil || b.State() == breaker.Closed {
		return next.Do(x)
	}
	if now := time.Now(); b.Refuses(now) && b.bites() {
		return b.refuse(x, now)
	}
	return next.Do(x)
}

// breaking asks the breaker of the pool, and tells it what became of the exchange after all its attempts: what another endpoint
// made good is no failure of the pool.
type breaking struct{ breakers []*poolBreaker }

// Serve implements exchange.Stage.
func (s *breaking) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	b := s.breakers[x.Route.Index]
	if b == nil || b.off.Load() && b.State() == breaker.Closed {
		return next.Do(x)
	}
	now := x.Start // which a closed breaker does not look at
	if b.State() != breaker.Closed {
		now = time.Now()
	}
	ticket, ok := b.Allow(now, x.Shard)
	switch {
	case !ok && !b.bites():
		b.refused.Add(1)
		return next.Do(x)
	case !ok:
		return b.refuse(x, time.Now())
	case ticket.Trial():
		return b.try(x, next, ticket)
	}
	refusal := next.Do(x)
	if r := resultOf(x, refusal); r.Outcome == breaker.Success && x.Outcome.FirstByte > 0 { // nearly always: no clock is asked
		b.Done(ticket, x.Start.Add(x.Outcome.FirstByte), r)
	} else if x.Result.Status != 429 { // which is about one caller, and says nothing of the pool
		b.Done(ticket, time.Now(), r)
	}
	return refusal
}

// try carries a trial. It has gone well once the head of its answer is there: a long answer must not keep others waiting. Of calls of gRPC see Answered.
func (b *poolBreaker) try(x *exchange.Exchange, next *exchange.Next, ticket breaker.Ticket) *exchange.Refusal {
	t := &trial{b: b, ticket: ticket, prev: x.Held}
	x.Held = t
	defer t.end(breaker.Result{Outcome: breaker.Ignored}) // after a panic too
	refusal := next.Do(x)
	if x.Held == t {
		x.Held = t.prev
	}
	t.end(resultOf(x, refusal))
	if t.timer != nil {
		t.timer.Stop()
	}
	return refusal
}

// trialCode is how long a trial of gRPC waits for the code behind its answer's head. Nobody can see whether a call has one answer or a stream of them, but a server writes
// head, message and code of the former one after the other, when the call has returned. What has no code by then is a stream, or a message that its client
// takes slowly: its head says that somebody answers, and waiting longer would keep a pool closed that is well.
const trialCode = 250 * time.Millisecond

// trial is one request that decides about a half-open breaker.
type trial struct {
	b      *poolBreaker
	ticket breaker.Ticket
	prev   exchange.Holder
	timer  *time.Timer // nil: nothing is waited for
	ended  atomic.Bool
}

func (t *trial) end(r breaker.Result) {
	if t.ended.CompareAndSwap(false, true) {
		t.b.Done(t.ticket, time.Now(), r)
	}
}

// Answered implements exchange.Holder. The head of a call of gRPC says 200 whatever became of it: unless it is all that comes, the trial waits for what follows, but not
// for long.
func (t *trial) Answered(x *exchange.Exchange, long bool) {
	x.Held = nil
	if t.prev != nil {
		t.prev.Answered(x, long)
	}
	if x.Again { // what is repeated is judged by its last attempt
		x.Trial = t
		return
	}
	r := resultOf(x, nil)
	if r.Outcome != breaker.Success || x.Request == nil || !x.GRPC() {
		t.end(r)
		return
	}
	t.timer = time.AfterFunc(trialCode, func() { t.end(r) })
}

// rejoin has the trial of x told of the head of another attempt, once x has its places again: when it was told only of the end, a stream for longer
// than a trial may take counted as a failure.
func rejoin(x *exchange.Exchange) {
	if t, is := x.Trial.(*trial); is {
		t.prev, x.Held, x.Trial = x.Held, t, nil
	}
}

// resultOf is what an exchange that has ended, with refusal or without, says about its pool.
func resultOf(x *exchange.Exchange, refusal *exchange.Refusal) breaker.Result {
	r := &x.Result
	switch {
	case r.Kind == exchange.Cancelled || x.Attempt == 0:
		return breaker.Result{Outcome: breaker.Ignored}
	case r.Kind != exchange.Answered:
		return breaker.Result{Outcome: breaker.Failure}
	case refusal != nil || x.Request != nil && r.Status == 0: // no endpoint was found for the last attempt
		return breaker.Result{Outcome: breaker.Ignored}
	case r.Reason != "": // the answer broke off
		return breaker.Result{Outcome: breaker.Failure, Took: r.Latency}
	case r.Status == 429 || r.Status == 503:
		return breaker.Result{Outcome: breaker.Pushback, Took: r.Latency, RetryAfter: r.RetryAfter}
	case r.Status >= 500 && r.Status != 501 && r.Status != 505: // those two are about the request
		return breaker.Result{Outcome: breaker.Failure, Took: r.Latency}
	}
	return breaker.Result{Took: r.Latency}
}

// breakerConfig is what the site file says, in the words of the breaker.
func breakerConfig(cfg site.Breaker) breaker.Config {
	out := breaker.Config{
		Row: cfg.Row, RowFor: cfg.RowFor, Failures: float64(cfg.Failures), Slow: cfg.Slow, SlowShare: float64(cfg.SlowShare), Samples: cfg.Samples,
		Window: cfg.Window, OpenFor: cfg.Open, OpenMax: cfg.OpenMax, RetryAfter: cfg.RetryAfter, Trials: cfg.Trials,
	}
	if cfg.Mode == site.ModeOff || cfg.Mode == "" { // by hand only
		out.Row, out.Failures, out.Slow = 0, 0, 0
	}
	return out
}

// breaker finds or makes the breaker of a pool, with the settings of cfg. One that is off still obeys orders by hand.
func (n *Node) breaker(name string, cfg *site.Pool) *poolBreaker {
	if cfg == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.breakers[name]
	if b == nil {
		b = &poolBreaker{turns: map[breakerTurn]uint64{}}
		b.Breaker = breaker.New(breakerConfig(cfg.Breaker), breaker.Deps{
			Random: rand.Float64, Shards: min(runtime.GOMAXPROCS(0), shardCount),
			On: func(c breaker.Change) {
				b.count(c)
				n.event("breaker", "pool "+name+": the breaker is "+c.To.String()+", was "+c.From.String()+": "+c.Why)
			},
		}, time.Now())
		if n.breakers == nil {
			n.breakers = map[string]*poolBreaker{}
		}
		n.breakers[name] = b
	}
	b.dry.Store(cfg.Breaker.Mode == site.ModeDryRun)
	b.off.Store(cfg.Breaker.Mode == site.ModeOff || cfg.Breaker.Mode == "")
	b.Update(breakerConfig(cfg.Breaker))
	b.Tick(time.Now()) // one that is open and has no rules any more lets requests through at once
	return b
}
