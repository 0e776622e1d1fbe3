package node

import (
	"github.com/even-keel/evenkeel/admit/limit"
	"github.com/even-keel/evenkeel/admit/quota"
	"github.com/even-keel/evenkeel/exchange"
)

// stages are the stages of one listener, built anew with every site and never changed afterwards.
type stages struct {
	record   *record
	entry    *guardEntry
	byClass  *guardByClass
	identify *identify
	route    *route
	deadline *deadline
	limit    *limit.Stage   // nil: nothing is limited
	quota    *quota.Set     // nil: there are none
	screen   exchange.Stage // nil: the site has no rules and screens nothing
	foresee  *foresee
	replay   *replay
	shed     *shedding
	bulk     *bulkheads
	breaking *breaking
	retry    *retrying
	pick     pick
}

// serveHTTP is THE way of a request through evenkeel, in order. What a later issue adds is one more line here.
func (s *stages) serveHTTP(send exchange.Handler) exchange.Handler {
	return exchange.Chain(send,
		s.record,   // first, so that it counts whatever becomes of a request, refusals of every later stage too
		s.entry,    // before any other work: a node at its limit must say no cheaper than it says yes
		s.identify, // before routing, because routes, limits and logs speak about the real client and host
		s.route,    // before everything that has settings per route; answers redirects and fixed texts itself
		s.byClass,  // the guard once more, now that the class is known: the less important go first when evenkeel is overloaded
		s.deadline, // before all waiting, so that no wait outlasts it
		s.limit,    // before all that costs more than it, and before retry, so that a request counts once
		s.quota,    // after limits, so that what is too fast costs no quota; before all waiting
		s.screen,   // behind the limits, because it costs most; before places at endpoints, so that attacks take none
		s.foresee,  // before all waiting for places: who is refused by a breaker should know at once
		s.replay,   // before places at endpoints, so that who sends a body slowly holds none; reads what may have to be sent again
		s.shed,     // before retrying, so that an exchange holds one place for all of its attempts
		s.bulk,     // behind the shedder, so that what waits there holds no place; refuses at once, so that nothing waits here
		s.breaking, // behind the shedder, so that no trial waits; around retrying, as what another endpoint makes good is no failure
		s.retry,    // around picking, so that a second attempt goes to another endpoint
		&s.pick,    // last before the wire, so that the choice is as fresh as can be; learns from the result
	)
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
