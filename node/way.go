package node

import (
	"math/rand/v2"
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/proxy"
	"github.com/even-keel/evenkeel/site"
)

// way is the way of a request to a pool: all that stands between what answers instead of a pool and its endpoints. Each listener has one to the
// pools of its routes, and one to the pools that stand in for them.
type way struct {
	foresee  *foresee
	replay   *replay
	shed     *shedding
	bulk     *bulkheads
	breaking *breaking
	retry    *retrying
	pick     pick
}

// newWay makes a way that leads nowhere yet, for so many routes.
func (n *Node) newWay(routes int) way {
	breakers := make([]*poolBreaker, routes)
	return way{
		foresee:  &foresee{breakers},
		replay:   newReplay(routes, &n.held),
		shed:     &shedding{make([]*shed.Gate, routes)},
		bulk:     &bulkheads{make([]*berths, routes)},
		breaking: &breaking{breakers},
		retry:    &retrying{routes: make([]*retried, routes), now: time.Now, random: rand.Float64, sleep: time.Sleep, gone: proxy.Gone},
	}
}

// lead makes the way of route i lead to a pool.
func (n *Node) lead(w *way, s *site.Site, i int, pool string, part poolPart) {
	rc := s.Routes[i]
	w.foresee.breakers[i] = n.breaker(pool, s.Pools[pool])
	w.bulk.routes[i] = n.hull.berths(s, i, pool)
	w.shed.gates[i] = n.gate(s, pool, part)
	w.retry.routes[i] = n.retriedRoute(s, rc, pool)
	w.retry.routes[i].gate, w.retry.routes[i].berths = w.shed.gates[i], w.bulk.routes[i]
	if rc.Retry.Attempts > 1 {
		w.replay.most[i] = int64(rc.Retry.BodyBytes)
	}
}

// overloaded says whether the pool that route i leads to has less to give than is asked for; nil: nobody knows.
func (w *way) overloaded(i int) func() bool {
	if g := w.shed.gates[i]; g != nil {
		return g.Overloaded
	}
	return nil
}

// stages are the stages of the way, in order.
func (w *way) stages() []exchange.Stage {
	return []exchange.Stage{
		w.foresee,  // before all waiting for places: who is refused by a breaker should know at once
		w.replay,   // before places at endpoints, so that who sends a body of known length slowly holds none; keeps what may have to be sent again
		w.shed,     // before retrying, so that an exchange holds one place for all of its attempts
		w.bulk,     // behind the shedder, so that what waits there holds no place; refuses at once, so that nothing waits here
		w.breaking, // behind the shedder, so that no trial waits; around retrying, as what another endpoint makes good is no failure
		w.retry,    // around picking, so that a second attempt goes to another endpoint
		&w.pick,    // last before the wire, so that the choice is as fresh as can be; learns from the result
	}
}
