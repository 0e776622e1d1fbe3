package node

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/contain/cache"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// switchedCause is the cause of a fallback that no refusal brought: a switch of the route is on. It stands behind those of package cache.
const switchedCause = cache.CauseDeadline + 1

const causeCount = switchedCause + 1

// causeNames are the words for causes in the site file, metrics and answers. The client's own doing has none.
var causeNames = [causeCount]string{"", "overloaded", "down", "failed", "deadline", "switched"}

// fallback answers instead of pools that cannot. It stands around the cache, so that something stale goes before it, and what it answers is not kept.
type fallback struct {
	plans   []*fallbackPlan // by Route.Index; nil for routes without one
	answer  answerer
	change  exchange.Stage // nil: no route keeps answers
	way     way            // to the pools that it uses
	through exchange.Handler
}

// fallbackPlan is the fallback of one route.
type fallbackPlan struct {
	on         [causeCount]bool
	pool       exchange.Picker
	overloaded func() bool // whether that is; nil: nobody knows
	respond    *exchange.Answer
	calls      bool // it is one to calls of gRPC
	redirect   *exchange.Redirect
	tally      *fallbackTally
}

// refuseSwitched is for calls of gRPC whose feature is switched off.
var refuseSwitched = &exchange.Refusal{Stage: "fallback", Reason: "switched", Status: 503, Detail: "This feature is switched off for a while."}

// fits reports whether the fallback is an answer to x. To a call of gRPC no text or redirect is: its client would see an unknown error instead of one that
// it may try again. And who already is where a redirect leads would be led round in circles.
func (p *fallbackPlan) fits(x *exchange.Exchange) bool {
	call := exchange.GRPCType(x.Request)
	switch {
	case p.respond != nil:
		return !call || p.calls
	case p.redirect != nil:
		return !call && !leadsBack(x, p.redirect)
	}
	return true
}

// leadsBack reports whether a redirect leads to what x asks for, or nowhere because the request names no host.
func leadsBack(x *exchange.Exchange, to *exchange.Redirect) bool {
	return bytes.Equal(location(x, to), location(x, &exchange.Redirect{}))
}

// nameFallback tells clients that a fallback answered, and why.
var nameFallback = []byte("Evenkeel-Fallback")

// fallbacks makes the stage of one listener; nil: no route has a fallback.
func (n *Node) fallbacks(s *site.Site, listener string, pools map[string]poolPart) *fallback {
	f := &fallback{answer: n.answer, change: n.changes(s), way: n.newWay(len(s.Routes)), plans: make([]*fallbackPlan, len(s.Routes))}
	any := false
	for i, r := range s.Routes {
		cfg := r.Fallback
		if cfg == nil || len(r.Listeners) > 0 && !slices.Contains(r.Listeners, listener) {
			continue
		}
		any = true
		p := &fallbackPlan{tally: n.fallbackTally(routeName(i, r), fallbackKind(cfg))}
		for cause, word := range causeNames {
			p.on[cause] = word != "" && slices.Contains(cfg.On, word)
		}
		switch {
		case cfg.Pool != "":
			n.lead(&f.way, s, i, cfg.Pool, pools[cfg.Pool])
			p.pool, p.overloaded = n.traced(pools[cfg.Pool]), f.way.overloaded(i)
		case cfg.Respond != nil:
			p.respond = newAnswer(cfg.Respond)
			p.calls = exchange.GRPCType(&wire.Request{Fields: p.respond.Fields})
		default:
			p.redirect = newRedirect((*site.Redirect)(cfg.Redirect))
		}
		f.plans[i] = p
	}
	if !any {
		return nil
	}
	return f
}

// fallbackKind is what a fallback does, in a word.
func fallbackKind(cfg *site.Fallback) string {
	switch {
	case cfg.Pool != "":
		return "pool"
	case cfg.Respond != nil:
		return "respond"
	}
	return "redirect"
}

// sendBy makes the way that a request takes to a pool that stands in: that to its own, without what has come before. What it changes there makes
// stored answers out of date all the same.
func (f *fallback) sendBy(send exchange.Handler) exchange.Stage {
	if f == nil {
		return nil
	}
	f.through = exchange.Chain(send, append([]exchange.Stage{f.change}, f.way.stages()...)...)
	return f
}

// Serve implements exchange.Stage.
func (f *fallback) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	p := f.plans[x.Route.Index]
	if p == nil {
		return next.Do(x)
	}
	if len(x.Degrade) > 0 && p.on[switchedCause] {
		switch {
		case p.fits(x):
			return f.take(x, p, switchedCause, nil)
		case exchange.GRPCType(x.Request):
			return refuseSwitched
		}
	}
	r := next.Do(x)
	if r == nil || x.Outcome.Started {
		return r
	}
	if c := cause(r); p.on[c] && p.fits(x) {
		return f.take(x, p, c, r)
	}
	return r
}

// take answers by the fallback. r is why, nil for a switch; it stands when the fallback cannot answer either.
func (f *fallback) take(x *exchange.Exchange, p *fallbackPlan, why cache.Cause, r *exchange.Refusal) *exchange.Refusal {
	told := wire.Field{Name: nameFallback, Value: []byte(causeNames[why])}
	switch {
	case p.respond != nil:
		p.tally.count(why, x.Shard)
		return f.answer(x, p.respond.Status, append(slices.Clone(p.respond.Fields), told), p.respond.Body)
	case p.redirect != nil:
		p.tally.count(why, x.Shard)
		return (&route{answer: f.answer}).redirect(x, p.redirect, told)
	}
	// What may have changed something, or whose body is gone, is not sent to another place, and what has no time left is not sent anywhere.
	if x.Outcome.Reached && !(x.Replayable && x.Request.IsIdempotent()) || !x.Deadline.IsZero() && !time.Now().Before(x.Deadline) {
		return cmp.Or(r, refuseLate) // a switch brings no refusal that could stand; with none the connection would be closed without an answer
	}
	was, wait, noRetry := x.Route, x.RetryAfter, x.NoRetry
	other := *was
	other.Pool, other.Overloaded = p.pool, p.overloaded
	other.Response.Add = append(slices.Clip(was.Response.Add), told)
	x.Route = &other
	anew(x)
	second := f.through(x)
	x.Route = was
	if second == nil {
		p.tally.count(why, x.Shard)
		return nil
	}
	if r == nil || x.Outcome.Started {
		return second
	}
	x.RetryAfter, x.NoRetry = wait, noRetry
	return r
}

// anew makes x forget what it did at its own pool. What the other is to learn of it begins now.
func anew(x *exchange.Exchange) {
	x.Endpoint, x.Attempt, x.Result, x.Place, x.SetCookie = nil, 0, exchange.Result{}, 0, nil
	x.Tried, x.Judge, x.Again, x.Anew, x.NoRetry = [exchange.MaxTried]*exchange.Endpoint{}, nil, false, false, false
	x.Begun, x.RetryAfter = time.Now(), 0
}

// fallbackTally counts the fallbacks of one route. It is found by name again after a reload.
type fallbackTally struct {
	counts [causeCount][shardCount]paddedCount
}

func (t *fallbackTally) count(why cache.Cause, shard uint32) {
	t.counts[why][shard%shardCount].n.Add(1)
}

// sum is how often the fallback answered because of a cause.
func (t *fallbackTally) sum(why cache.Cause) (n uint64) {
	for i := range t.counts[why] {
		n += t.counts[why][i].n.Load()
	}
	return n
}

// fallbackKey names a tally.
type fallbackKey struct{ route, kind string }

// fallbackTallies finds tallies by name.
type fallbackTallies struct {
	mu     sync.Mutex
	byName map[fallbackKey]*fallbackTally
}

// fallbackTally finds or makes the tally of a route's fallback.
func (n *Node) fallbackTally(route, kind string) *fallbackTally {
	t := &n.fellBack
	t.mu.Lock()
	defer t.mu.Unlock()
	key := fallbackKey{route, kind}
	if t.byName == nil {
		t.byName = map[fallbackKey]*fallbackTally{}
	}
	if t.byName[key] == nil {
		t.byName[key] = new(fallbackTally)
	}
	return t.byName[key]
}

// keep forgets the tallies of routes that are gone, or fall back in another way by now.
func (t *fallbackTallies) keep(s *site.Site) {
	t.mu.Lock()
	defer t.mu.Unlock()
	named := map[fallbackKey]bool{}
	for i, r := range s.Routes {
		if r.Fallback != nil {
			named[fallbackKey{routeName(i, r), fallbackKind(r.Fallback)}] = true
		}
	}
	for key := range t.byName {
		if !named[key] {
			delete(t.byName, key)
		}
	}
}
