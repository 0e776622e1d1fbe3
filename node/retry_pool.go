package node

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// retries is what all routes to one pool share of trying again. It outlives reloads.
type retries struct {
	pool    string
	budget  *retry.Budget
	event   func(kind, text string) // nil allowed
	done    [retry.ReasonCount]atomic.Uint64
	denied  [retry.DenialCount]atomic.Uint64
	told    atomic.Int64 // when people were last told that the budget is spent, in ns
	fastest atomic.Int64 // ns of the quickest answer lately; 0: unknown
}

// tellEvery is how often people are told that a budget is spent.
const tellEvery = time.Minute

func newRetries(pool string, now time.Time, event func(kind, text string)) *retries {
	return &retries{pool: pool, budget: retry.NewBudget(now, retry.Share, retry.Floor), event: event}
}

// take takes a repeat from the budget.
func (r *retries) take(now time.Time) bool {
	ok, spent := r.budget.Take(now)
	if !spent || r.event == nil {
		return ok
	}
	if last := r.told.Load(); now.UnixNano()-last >= int64(tellEvery) && r.told.CompareAndSwap(last, now.UnixNano()) {
		r.event("retry_budget", fmt.Sprintf("pool %s: the retry budget is spent; what fails is not tried again until there are more requests", r.pool))
	}
	return ok
}

// learn takes in how quickly an answer came. Failures may come quicker than work.
func (r *retries) learn(res *exchange.Result) {
	if res.Kind != exchange.Answered || res.Status >= 400 || res.Latency <= 0 {
		return
	}
	if f := r.fastest.Load(); f == 0 || int64(res.Latency) < f {
		r.fastest.Store(int64(res.Latency))
	}
}

// late reports whether no answer comes within left: not even the quickest of late was quick enough.
func (r *retries) late(left time.Duration) bool { return left <= 0 || int64(left) < r.fastest.Load() }

// tick is called once a second: the quickest answer is forgotten by and by, so that a pool that became quicker is found to be, and the budget
// learns when its requests came.
func (r *retries) tick(now time.Time) {
	f := r.fastest.Load()
	r.fastest.CompareAndSwap(f, f-f/10)
	r.budget.Left(now)
}

// retriesOf finds or makes what the pool's routes share.
func (n *Node) retriesOf(pool string) *retries {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.retried == nil {
		n.retried = map[string]*retries{}
	}
	if n.retried[pool] == nil {
		n.retried[pool] = newRetries(pool, time.Now(), n.event)
	}
	return n.retried[pool]
}

// retriedRoute makes what of a route counts for repeats.
func (n *Node) retriedRoute(s *site.Site, cfg *site.Route, gate *shed.Gate) *retried {
	r := &retried{rules: rulesOf(cfg.Retry), pool: n.retriesOf(cfg.Pool), gate: gate}
	if p := s.Pools[cfg.Pool]; p != nil {
		r.pool.budget.Update(float64(p.RetryBudget), retry.Floor)
	}
	return r
}

// rulesOf are the retry rules of a route.
func rulesOf(cfg site.Retry) retry.Rules {
	r := retry.Rules{Attempts: cfg.Attempts, MaxWait: cfg.MaxWait}
	for _, name := range cfg.On {
		if reason, ok := retry.Named(name); ok {
			r.On = r.On.With(reason)
		}
	}
	return r
}
