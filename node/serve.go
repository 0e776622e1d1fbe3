package node

import (
	"github.com/even-keel/evenkeel/admit/limit"
	"github.com/even-keel/evenkeel/admit/quota"
	"github.com/even-keel/evenkeel/exchange"
)

// stages are the stages of one listener, built anew with every site and never changed afterwards.
type stages struct {
	record   *record
	trace    exchange.Stage // nil: the site traces nothing
	entry    *guardEntry
	byClass  *guardByClass
	identify *identify
	route    *route
	deadline *deadline
	limit    *limit.Stage   // nil: nothing is limited
	quota    *quota.Set     // nil: there are none
	screen   exchange.Stage // nil: the site has no rules and screens nothing
	degrade  exchange.Stage // nil: no route has switches
	fallback *fallback      // nil: no route has one
	cache    exchange.Stage // nil: the site keeps no answers
	way                     // to the pool
}

// serveHTTP is THE way of a request through evenkeel, in order. What a later issue adds is one more line here, or in way.go.
func (s *stages) serveHTTP(send exchange.Handler) exchange.Handler {
	return exchange.Chain(send, append([]exchange.Stage{
		s.record,                // first, so that it counts whatever becomes of a request, refusals of every later stage too
		s.trace,                 // around all that may refuse, so that traces show it; inside record, whose figures name traces as examples
		s.entry,                 // before any other work: a node at its limit must say no cheaper than it says yes
		s.identify,              // before routing, because routes, limits and logs speak about the real client and host
		s.route,                 // before everything that has settings per route; answers redirects and fixed texts itself
		s.byClass,               // the guard once more, now that the class is known: the less important go first when evenkeel is overloaded
		s.deadline,              // before all waiting, so that no wait outlasts it
		s.limit,                 // before all that costs more than it, and before retry, so that a request counts once
		s.quota,                 // after limits, so that what is too fast costs no quota; before all waiting
		s.screen,                // behind the limits, because it costs most; before places at endpoints, so that attacks take none
		s.degrade,               // before what answers instead of the pool, so that it knows what is switched off
		s.fallback.sendBy(send), // around the cache, so that something stale goes before it; behind all that refuses for other reasons than the pool's
		s.cache,                 // before the pool, so that a hit takes no place, and a refusal further in can become a stale answer
	}, s.way.stages()...)...)
}

// serveL4 is the way of a tcp connection or udp session: no head to identify by, no deadline but idleness.
func (s *stages) serveL4(send exchange.Handler) exchange.Handler {
	return exchange.Chain(send,
		s.record, // first, as for requests
		s.entry,  // connections and sessions in flight count like requests
		s.route,  // by listener and SNI
		s.byClass,
		s.foresee,
		s.breaking,
		s.retry, // only connecting is tried again
		&s.pick,
	)
}
