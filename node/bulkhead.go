package node

import (
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/contain/bulkhead"
	"github.com/even-keel/evenkeel/exchange"
)

// The refusals of bulkheads.
var (
	refusePoolFull = &exchange.Refusal{Stage: "bulkhead", Reason: "pool_full", Status: 503, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "The service has as many requests under way as it may have."}
	refuseRouteFull = &exchange.Refusal{Stage: "bulkhead", Reason: "route_full", Status: 503, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "As many requests of this kind are under way as may be."}
	refuseClassFull = &exchange.Refusal{Stage: "bulkhead", Reason: "class_full", Status: 503, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "As many requests of this class are under way as may be."}
	refuseCustomerFull = &exchange.Refusal{Stage: "bulkhead", Reason: "customer_full", Status: 429, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "The sender has as many requests under way as its share allows."}
)

// bulkheads gives each request its places, or refuses at once: nobody waits here.
type bulkheads struct{ routes []*berths } // by Route.Index; nil: nothing is asked for

// Serve implements exchange.Stage.
func (s *bulkheads) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	b := s.routes[x.Route.Index]
	if b == nil {
		return next.Do(x)
	}
	if r := b.enter(x); r != nil {
		b.refused.Add(1)
		if b.dry.Load() {
			return next.Do(x)
		}
		return r
	}
	prev := x.Held
	x.Held, x.Berth.Prev = b, prev
	defer func() { // after a panic too
		if x.Held == exchange.Holder(b) { // there was no answer
			x.Held, x.Berth.Prev = prev, nil
		}
		b.leave(x, hasAll)
	}()
	return next.Do(x)
}

// berths is what requests of one route need: a place of the pool until they end, and places of the route, its class and its customer
// until their answer begins, as those are shares of what endpoints work on at once. A nil part asks for none.
type berths struct {
	pool, route *bulkhead.Part
	class       [classCount]*bulkhead.Part
	customers   *bulkhead.Keyed
	dry         *atomic.Bool
	refused     *atomic.Uint64 // in a dry run: would have been
}

// What a request has, in the bits of exchange.Berth.
const (
	hasPool = 1 << iota
	hasRoute
	hasClass
	hasCustomer
	lentPool // borrowed
	lentRoute
	lentClass

	hasInner = hasRoute | hasClass | hasCustomer
	hasAll   = hasPool | hasInner
)

// enter takes all places, or none.
func (b *berths) enter(x *exchange.Exchange) *exchange.Refusal {
	has := &x.Berth.Has
	*has = 0
	if !take(b.pool, has, hasPool, lentPool) {
		return refusePoolFull
	}
	if !take(b.route, has, hasRoute, lentRoute) {
		b.leave(x, hasAll)
		return refuseRouteFull
	}
	if !take(b.class[x.Class%classCount], has, hasClass, lentClass) {
		b.leave(x, hasAll)
		return refuseClassFull
	}
	if b.customers == nil {
		return nil
	}
	seat, ok := b.customer(x)
	if !ok {
		b.leave(x, hasAll)
		return refuseCustomerFull
	}
	x.Berth.Seat = seat
	*has |= hasCustomer
	return nil
}

// customer takes a place for who pays, or else for the address.
func (b *berths) customer(x *exchange.Exchange) (bulkhead.Seat, bool) {
	if len(x.Customer) > 0 {
		return b.customers.Enter(x.Customer)
	}
	ip := x.IP.As16()
	if !x.IP.Is4() {
		clear(ip[8:]) // a /64 is one
	}
	return b.customers.Enter(ip[:])
}

// take takes a place of one part and notes it.
func take(p *bulkhead.Part, has *uint8, got, lent uint8) bool {
	if p == nil {
		return true
	}
	borrowed, ok := p.Enter()
	if !ok {
		return false
	}
	*has |= got
	if borrowed {
		*has |= lent
	}
	return true
}

// leave gives back those of what that x has.
func (b *berths) leave(x *exchange.Exchange, what uint8) {
	has := x.Berth.Has & what
	if has == 0 {
		return
	}
	if has&hasPool != 0 {
		b.pool.Leave(x.Berth.Has&lentPool != 0)
	}
	if has&hasRoute != 0 {
		b.route.Leave(x.Berth.Has&lentRoute != 0)
	}
	if has&hasClass != 0 {
		b.class[x.Class%classCount].Leave(x.Berth.Has&lentClass != 0)
	}
	if has&hasCustomer != 0 {
		b.customers.Leave(x.Berth.Seat)
	}
	x.Berth.Has &^= has
}

// Answered implements exchange.Holder. The pool's place stays taken while the answer goes out, except by an upgraded connection, which
// may last for days and is bounded by the listener.
func (b *berths) Answered(x *exchange.Exchange, long bool) {
	prev := x.Berth.Prev
	x.Held, x.Berth.Prev = nil, nil
	if x.Result.Status == 101 {
		b.leave(x, hasAll)
	} else {
		b.leave(x, hasInner)
	}
	if prev != nil {
		prev.Answered(x, long)
	}
}
