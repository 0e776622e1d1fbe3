package pool

import (
	"fmt"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
)

// lookEvery is how often the pool looks at its endpoints while time alone changes something (slow start,
// ejections, drains). A quiet pool sleeps.
const lookEvery = 250 * time.Millisecond

// settleFor is how long a removed endpoint is kept at least, so that a pick on the old snapshot has counted itself in.
const settleFor = lookEvery

// verdictGrace on top of the probe's timeout is how long Ready waits for first verdicts.
const verdictGrace = time.Second

// event is one that waits for the lock to be given back.
type event struct{ kind, text string }

// tell queues an event; unlock sends it. The lock is held.
func (p *Pool) tell(kind, format string, args ...any) {
	p.queue = append(p.queue, event{kind, "pool " + p.name + ": " + fmt.Sprintf(format, args...)})
}

// unlock gives the lock back and sends the events that came up under it.
func (p *Pool) unlock() {
	queue := p.queue
	p.queue = nil
	p.mu.Unlock()
	for _, e := range queue {
		p.deps.Log.Info(e.text, "event", e.kind)
		if p.deps.Event != nil {
			p.deps.Event(e.kind, e.text)
		}
	}
}

// touch has the snapshot made anew: by Run when it runs, so that a storm of changes costs few snapshots, and
// else here. The lock is held.
func (p *Pool) touch(now time.Time) {
	if !p.running {
		p.rebuild(now)
		return
	}
	p.dirty = true
	p.kick()
}

func (p *Pool) kick() {
	select {
	case p.kicked <- struct{}{}:
	default:
	}
}

// settle brings everything about m that picks see in line with its vitals. At once: it leaves the picks when it may not be
// picked any more, unless the pool is in panic. The lock is held.
func (p *Pool) settle(m *member, now time.Time) {
	if !m.healthy() && (!p.snap.Load().panics || !m.allowed()) {
		m.retire()
		m.Gone.Store(true)
	}
	p.weigh(m, now)
	p.notice(m, now)
	p.touch(now)
}

// notice reports m's state when it is another than before. The lock is held.
func (p *Pool) notice(m *member, now time.Time) {
	state := m.state(now)
	if state == m.shown {
		return
	}
	was := m.shown
	m.shown, m.since = state, now
	switch {
	case was == "": // told as having joined
		return
	case was == StateSlowStart && state == StateUp:
		m.why = "slow start ended"
	case was == StateUnknown && state == StateUp && !p.ready.Load():
		return // told in one as the pool becomes ready
	}
	p.tell("endpoint_"+state, "endpoint %s is %s, was %s: %s", m.Address, state, was, m.why)
}

// heard takes a verdict of the prober in.
func (p *Pool) heard(m *member, born int, v probe.Verdict) {
	p.mu.Lock()
	defer p.unlock()
	if m.born != born {
		return // from a probe that was stopped
	}
	now := p.clock()
	healthy, known, ejected := m.healthy(), m.known(), m.ejected || m.reluctant
	m.verdict(now, v, p.cfg.SlowStart, !p.ready.Load())
	if healthy != m.healthy() || known != m.known() || ejected != (m.ejected || m.reluctant) {
		p.settle(m, now)
	}
	if !p.ready.Load() {
		p.kick()
	}
}

// answered learns from an answer what matters beyond counters. Most answers find nothing to do.
func (p *Pool) answered(m *member, r *exchange.Result) {
	if m.row.Load() != 0 {
		m.row.Store(0)
	}
	if m.alert.Load() {
		p.mu.Lock()
		m.vitals.answered()
		m.alert.Store(m.probation.on)
		p.unlock()
	}
	if r.Status != 429 && r.Status != 503 {
		return
	}
	at := p.nanos()
	if calm := m.calm.Load(); at < calm || !m.calm.CompareAndSwap(calm, at+int64(calmFor)) {
		return
	}
	p.mu.Lock()
	defer p.unlock()
	now := p.clock()
	m.pushBack(now, r.RetryAfter)
	p.weigh(m, now)
	p.kick()
}

// unanswered learns from an exchange that failed without an answer.
func (p *Pool) unanswered(m *member, r *exchange.Result) {
	if r.Kind == exchange.Broken && (r.Unsent || r.Refused) {
		return // a kept connection that the endpoint had closed, which tells of the past, or a stream that it did not begin with
	}
	row := m.row.Add(1)
	if r.Kind != exchange.ConnectFailed && row < brokenMax && !m.alert.Load() || m.hush.Load() {
		return
	}
	p.mu.Lock()
	defer p.unlock()
	now := p.clock()
	if !m.allowed() || m.held.state == BreakerClosed || !m.fail(now, r.Kind, int(row), func() bool { return p.spares(m) }) {
		return
	}
	m.row.Store(0)
	if m.ejected {
		m.ejections.Add(1)
	}
	if m.reluctant {
		p.tell("endpoint_kept", "endpoint %s is not ejected: %s", m.Address, m.why)
	}
	p.settle(m, now)
}

// spares says whether the pool can do without m: what stays healthy must not be less than the panic share, nor
// nothing. Capacity counts, not heads: of two endpoints with weights 9 and 1 only the second may go.
func (p *Pool) spares(m *member) bool {
	known, healthy := 0.0, 0.0
	for _, o := range p.members {
		if !o.allowed() || !o.known() {
			continue
		}
		known += float64(o.weight)
		if o.healthy() && !o.reluctant && o != m { // what is kept reluctantly is no capacity to rely on
			healthy += float64(o.weight)
		}
	}
	return healthy > 0 && healthy >= known*float64(p.cfg.Panic)
}

// setAdmin gives m the state an operator asked for. The lock is held.
func (p *Pool) setAdmin(m *member, state string, now time.Time) {
	was := m.admin
	m.admin, m.why = state, "set by an operator"
	switch state {
	case StateDrain:
		m.drainFrom, m.drained = now, false
	case StateUp:
		if m.sick() {
			m.why += "; probes fail"
		}
		if m.ejected || m.reluctant {
			m.byAnswers = false // the operator knows better
			m.comeBack(now, p.cfg.SlowStart, m.why)
		} else if was != StateUp && m.known() && p.ready.Load() {
			m.rampFrom, m.ramp = now, p.cfg.SlowStart
		}
	}
	p.settle(m, now)
}

// look lets time pass for all endpoints, makes a new snapshot when one is due, and says when to look again; 0: only
// when something happens.
func (p *Pool) look(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.unlock()
	restless := len(p.leaving) > 0
	soon := [...]time.Duration{p.compare(now), p.level(now), p.overflow(now)}
	for _, m := range p.members {
		if held := m.held.state; m.tick(now, p.cfg.SlowStart) {
			if held == BreakerClosed && m.held.state == "" {
				p.tell("breaker", "endpoint %s: %s", m.Address, m.why)
			}
			m.standing.forget(&m.ledger, now)
			p.dirty = true
		}
		p.notice(m, now)
		if m.admin == StateDrain {
			p.drain(m, now)
		}
		if m.factor.Load() != whole || m.restless(now) {
			p.weigh(m, now)
		}
		restless = restless || m.restless(now)
	}
	p.letGo(now)
	wait := time.Duration(0)
	if restless {
		wait = lookEvery
	}
	for _, d := range soon {
		if d > 0 && (wait == 0 || d < wait) {
			wait = d
		}
	}
	if !p.ready.Load() {
		p.becomeReady(now)
		if left := p.startBy.Sub(now); !p.ready.Load() && left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	if p.dirty {
		p.rebuild(now)
	}
	return wait
}

// becomeReady opens the pool once enough is known. The lock is held.
func (p *Pool) becomeReady(now time.Time) {
	up, unknown := 0, 0
	for _, m := range p.members {
		switch {
		case !m.known():
			unknown++
		case m.healthy():
			up++
		}
	}
	waiting := unknown > 0 || p.cfg.Discover != nil && !p.found.asked
	if p.startBy.IsZero() || waiting && now.Before(p.startBy) {
		return
	}
	p.ready.Store(true)
	text := fmt.Sprintf("ready: %d of %d endpoints are healthy", up, len(p.members))
	if unknown > 0 {
		text += fmt.Sprintf(", of %d nothing is known yet", unknown)
	}
	p.tell("pool_ready", "%s", text)
	p.dirty = true // what the snapshot had to say was kept back
}

// drain ends m's draining when nothing is in flight or its time is over. The lock is held.
func (p *Pool) drain(m *member, now time.Time) (ended bool) {
	if m.drained {
		return true
	}
	left, took := m.InFlight.Load(), now.Sub(m.drainFrom)
	switch {
	case left <= 0:
		m.why = fmt.Sprintf("drained in %v", took.Round(time.Millisecond))
	case took >= p.cfg.DrainTimeout:
		m.why = fmt.Sprintf("%d still in flight at the end of drain_timeout, after %v", left, took.Round(time.Millisecond))
	default:
		return false
	}
	m.drained = true
	p.tell("endpoint_drained", "endpoint %s: %s", m.Address, m.why)
	return true
}

// letGo forgets removed endpoints that have ended. The lock is held.
func (p *Pool) letGo(now time.Time) {
	kept := p.leaving[:0]
	for _, m := range p.leaving {
		if now.Sub(m.drainFrom) < settleFor || !p.drain(m, now) {
			kept = append(kept, m)
			continue
		}
		if p.byName[m.Address] == m {
			delete(p.byName, m.Address)
		}
		if p.deps.Detach != nil {
			p.deps.Detach(&m.Endpoint)
		}
	}
	clear(p.leaving[len(kept):])
	p.leaving = kept
}

// tellPanic reports when the panic rule begins or ends to hold. The lock is held.
func (p *Pool) tellPanic(do plan) {
	if do.panics == p.panicked || !p.ready.Load() {
		return // while first verdicts come in, the share says nothing
	}
	p.panicked = do.panics
	if do.panics {
		p.tell("pool_panic", "only %.0f%% of the capacity is healthy, less than %.0f%%: all endpoints are used, sick ones too",
			do.share*100, float64(p.cfg.Panic)*100)
		return
	}
	p.tell("pool_calm", "%.0f%% of the capacity is healthy: only healthy endpoints are used again", do.share*100)
}
