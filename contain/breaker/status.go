package breaker

import (
	"fmt"
	"time"
)

// Status is a breaker as people and programs see it.
type Status struct {
	State  State
	Since  time.Time
	Until  time.Time // Open: when a trial may be made; zero: not open
	Cause  string    // of the last change; empty: there was none
	Why    string
	Forced bool      // by hand
	End    time.Time // Forced: when the order ends
	Opened uint64    // how often it opened
	// Of the window.
	Good, Slow, Failed, Pushed uint64
}

// Status is the breaker at now.
func (b *Breaker) Status(now time.Time) Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tick(now)
	n := b.window.sum(b.nanos(now))
	s := Status{State: b.State(), Since: b.since, Cause: b.cause, Why: b.why, Forced: b.forced, Opened: b.opened,
		Good: n[kindGood], Slow: n[kindSlow], Failed: n[kindBad], Pushed: n[kindLoad]}
	if b.forced {
		s.End = b.forceEnd
	}
	if s.State == Open {
		s.Until = b.base.Add(time.Duration(b.until.Load()))
	}
	return s
}

// Why says in one sentence what the breaker does and why.
func (b *Breaker) Why(now time.Time) string {
	s := b.Status(now)
	out := s.State.String()
	if s.Forced {
		out += " by hand for " + round(s.End.Sub(now)).String()
		if s.State == Open {
			return out
		}
	}
	out += ": " + s.Why
	if s.State == Open {
		out += "; a trial in " + round(s.Until.Sub(now)).String()
	}
	if all := s.Good + s.Slow + s.Failed + s.Pushed; s.State == Closed && all > 0 {
		out += fmt.Sprintf("; %d of the last %d failed", s.Failed+s.Pushed, all)
	}
	return out
}

// round makes a time readable.
func round(d time.Duration) time.Duration {
	if d >= 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(10 * time.Millisecond)
}

// Wait is how long a refused caller should wait at the least; 0 when requests pass.
func (b *Breaker) Wait(now time.Time) time.Duration {
	switch b.State() {
	case Open:
		return max(time.Duration(b.until.Load()-b.nanos(now)), 0)
	case HalfOpen:
		return b.cfg.Load().OpenFor
	}
	return 0
}

// Forced says whether it is held by hand.
func (b *Breaker) Forced() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.forced
}

// Force keeps the breaker open or closed until a moment, whatever happens. After an order to be open trials decide, if there are rules.
func (b *Breaker) Force(now time.Time, to State, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if to == HalfOpen || !until.After(now) {
		return
	}
	b.forced, b.force, b.forceEnd = true, to, until
	why := to.String() + " by hand until " + until.Format("15:04:05")
	switch {
	case to == Open:
		b.until.Store(b.nanos(until))
		b.turn(now, Open, CauseHand, why)
	case b.State() != Closed:
		b.closedAt = b.nanos(now)
		b.turn(now, Closed, CauseHand, why)
	default:
		b.why, b.cause = why, CauseHand
	}
}

// Auto ends an order by hand. A breaker that was held open goes on with trials.
func (b *Breaker) Auto(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.forced {
		return
	}
	b.forced = false
	if b.force == Open && !b.cfg.Load().rules() {
		b.shut(now)
		return
	}
	if b.force == Open {
		b.turn(now, HalfOpen, CauseHand, "no longer open by hand; trials decide")
		return
	}
	b.row.Store(0)
	b.window.clear()
	b.why, b.cause = "no longer closed by hand", CauseHand
}
