package pool

import (
	"fmt"
	"maps"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// An endpoint's breaker is no second mechanism: it is open while the endpoint is ejected, and half-open while it is on trial. What ejects is
// its answers beside the others' (outlier.go), exchanges without an answer (vitals.go), fixed bounds, and people (both here).

// The states of breakers, and what people want of one.
const (
	BreakerClosed   = "closed"
	BreakerHalfOpen = "half-open"
	BreakerOpen     = "open"
	BreakerAuto     = "auto"
)

// hold is what people want of an endpoint's breaker.
type hold struct {
	state string // BreakerOpen, BreakerClosed, or empty: nothing
	until time.Time
}

// breaker is the state of the endpoint's breaker.
func (v *vitals) breaker() string {
	switch {
	case v.ejected || v.held.state == BreakerOpen:
		return BreakerOpen
	case v.reluctant || v.probation.on || v.trial:
		return BreakerHalfOpen
	}
	return BreakerClosed
}

// holdBreaker holds the breaker, or leaves it to itself. ramp is the slow start of what comes back.
func (v *vitals) holdBreaker(now time.Time, state string, until time.Time, ramp time.Duration) {
	was := v.held.state
	switch state {
	case BreakerOpen:
		v.held = hold{state, until}
		v.ejected, v.reluctant, v.trial, v.probation, v.doubt = false, false, false, probation{}, 0
		v.why = "breaker open by hand until " + until.Format("15:04:05")
	case BreakerClosed:
		v.held = hold{state, until}
		if was == BreakerOpen || v.ejected || v.reluctant || v.probation.on {
			v.byAnswers = false
			v.comeBack(now, ramp, "")
		}
		v.trial, v.probation, v.doubt = false, probation{}, 0
		v.why = "breaker closed by hand until " + until.Format("15:04:05")
	default:
		v.letGo(now, ramp, "breaker no longer held by hand")
	}
}

// letGo ends an order by hand. Who was out comes back on trial.
func (v *vitals) letGo(now time.Time, ramp time.Duration, why string) {
	was := v.held.state
	v.held = hold{}
	switch was {
	case BreakerOpen:
		v.byAnswers, v.proof = false, 0
		if v.sick() {
			v.why = why + "; probes fail"
		}
		v.comeBack(now, ramp, why)
	case BreakerClosed:
		v.why = why
	}
}

// heldOver ends an order whose time is over, and reports whether it did.
func (v *vitals) heldOver(now time.Time, ramp time.Duration) bool {
	if v.held.state == "" || now.Before(v.held.until) {
		return false
	}
	v.letGo(now, ramp, "breaker no longer held by hand: the time is over")
	return true
}

// SetBreaker holds the breaker of the endpoint at address open or closed until a moment, or leaves it to itself (BreakerAuto). Held open
// it gets nothing, even in panic; held closed nothing ejects it but its probe. It outlives Update, and the endpoint's leaving if that comes again.
func (p *Pool) SetBreaker(address, state string, until time.Time) error {
	if state != BreakerOpen && state != BreakerClosed && state != BreakerAuto {
		return fmt.Errorf("cannot set the breaker of endpoint %s of pool %s to %q: %w", address, p.name, state, errUnknownHold)
	}
	p.mu.Lock()
	defer p.unlock()
	m := p.byName[address]
	if m == nil || m.left {
		if _, kept := p.orders[address]; kept && state == BreakerAuto {
			delete(p.orders, address)
			return nil
		}
		return fmt.Errorf("cannot set the breaker of endpoint %s of pool %s: %w", address, p.name, errNoEndpoint)
	}
	if state == BreakerAuto && m.held.state == "" {
		return nil // it is left to itself already, and keeps what is known of its answers
	}
	now := p.clock()
	m.holdBreaker(now, state, until, p.cfg.SlowStart)
	m.standing.forget(&m.ledger, now)
	shown := m.shown
	p.settle(m, now)
	if shown == m.shown {
		p.tell("breaker", "endpoint %s: %s", m.Address, m.why)
	}
	return nil
}

// keepOrder remembers what people want of the breaker of an endpoint that leaves. A reload that is refused at its end takes endpoints away for a moment, and discovery may do
// so at any time: one that was held open came back and served. The lock is held.
func (p *Pool) keepOrder(m *member, now time.Time) {
	maps.DeleteFunc(p.orders, func(_ string, h hold) bool { return !now.Before(h.until) })
	if m.held.state != "" && len(p.orders) < adminMax {
		p.orders[m.Address] = m.held
	}
}

// recall holds an endpoint that comes again as it was held when it left. The lock is held.
func (p *Pool) recall(m *member, now time.Time) {
	h, kept := p.orders[m.Address]
	delete(p.orders, m.Address)
	if kept && now.Before(h.until) {
		m.holdBreaker(now, h.state, h.until, p.cfg.SlowStart)
	}
}

// bounds judges m by the fixed bounds of the site file.
func (p *Pool) bounds(m *member, beat time.Duration) finding {
	b := &p.cfg.Breaker.Endpoint
	if p.cfg.Breaker.Mode != site.ModeOn && p.cfg.Breaker.Mode != site.ModeDryRun {
		return finding{}
	}
	if row := int(m.badRow.Load()); b.Row > 0 && row >= b.Row {
		return finding{sure, false, fmt.Sprintf("answers fail: %d in a row", row)}
	}
	for _, w := range []*window{&m.standing.soon, &m.standing.long} {
		all := w.answers()
		if all < float64(b.Samples) {
			continue
		}
		if b.Failures > 0 && w.bad >= float64(b.Failures)*all {
			return finding{sure, false, fmt.Sprintf("answers fail: %.0f of the last %.0f", w.bad, all)}
		}
		if b.Slow <= 0 {
			continue
		}
		slow := w.above(b.Slow)
		if beats := int((b.Slow + beat - 1) / beat); beats < exchange.BeatsKept { // who waits that long already is slow too
			waiting := float64(m.Overdue(beats))
			slow, all = slow+waiting, all+waiting
		}
		if slow >= float64(b.SlowShare)*all {
			return finding{sure, true, fmt.Sprintf("answers are slow: %.0f of the last %.0f took %v or longer", slow, all, b.Slow)}
		}
	}
	return finding{}
}

// broken says whether an answer ended before its end.
func broken(r *exchange.Result) bool { return r.Kind == exchange.Answered && r.Reason != "" }
