package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/site"
)

// breakable is a pool whose endpoints can be held open or closed by hand.
type breakable interface {
	SetBreaker(address, state string, until time.Time) error
}

// Break holds the breaker of a pool, or of one of its endpoints, open or closed until a moment, or leaves it to itself again (auto).
func (n *Node) Break(pool, endpoint, state string, until time.Time) error {
	n.mu.Lock()
	p, cfg := n.pools[pool], n.site.Pools[pool]
	n.mu.Unlock()
	if p == nil || cfg == nil {
		return fmt.Errorf("there is no pool %q", pool)
	}
	if endpoint != "" {
		one, can := p.poolPart.(breakable)
		if !can {
			return fmt.Errorf("the endpoints of pool %s have no breakers", pool)
		}
		return one.SetBreaker(endpoint, state, until)
	}
	b, now := n.breaker(pool, cfg), time.Now()
	switch state {
	case console.BreakerOpen:
		b.Force(now, breaker.Open, until)
	case console.BreakerClosed:
		b.Force(now, breaker.Closed, until)
		n.event("breaker", "pool "+pool+": the breaker stays closed by hand until "+until.Format("15:04:05"))
	default:
		b.Auto(now)
		n.event("breaker", "pool "+pool+": the breaker is left to itself")
	}
	return nil
}

// viewBreaker is the breaker of a pool; nil: it is off and nobody holds it.
func (n *Node) viewBreaker(pool string, now time.Time) *console.Breaker {
	n.mu.Lock()
	cfg, b := n.site.Pools[pool], n.breakers[pool]
	n.mu.Unlock()
	if cfg == nil || b == nil {
		return nil
	}
	s := b.Status(now)
	if !s.Forced && s.State == breaker.Closed && (cfg.Breaker.Mode == site.ModeOff || cfg.Breaker.Mode == "") {
		return nil
	}
	v := &console.Breaker{
		State: s.State.String(), Why: b.Why(now), Since: s.Since, Until: s.Until, Mode: cfg.Breaker.Mode, ByHand: s.End, Refused: b.refused.Load(),
		Failed: s.Failed + s.Pushed, Seen: s.Good + s.Slow + s.Failed + s.Pushed,
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for turn, count := range b.turns {
		v.Turns = append(v.Turns, console.BreakerTurn{To: turn.to, Cause: turn.cause, Count: count})
	}
	slices.SortFunc(v.Turns, func(a, b console.BreakerTurn) int { return strings.Compare(a.To+" "+a.Cause, b.To+" "+b.Cause) })
	return v
}

// tickBreakers lets time pass for breakers that nothing asks, and tells of orders by hand that have ended.
func (n *Node) tickBreakers(now time.Time) {
	n.mu.Lock()
	all := maps.Clone(n.breakers)
	n.mu.Unlock()
	for name, b := range all {
		was := b.Forced()
		if b.Tick(now); was && !b.Forced() {
			n.event("breaker", "pool "+name+": the breaker is no longer held by hand: the time is over")
		}
	}
}
