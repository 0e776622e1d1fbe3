package pool

import (
	"fmt"
	"math"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// court is where endpoints are compared with one another. The pool's lock guards it.
type court struct {
	beat    time.Time // when answers were last taken in
	active  time.Time // when exchanges were last seen
	picked  int64     // exchanges so far, to see new ones
	calm    peers     // of all whose last answer did not fail
	near    map[place]*peers
	serving float64 // weight of those that are compared
}

// place is where an endpoint stands: latency is compared only within.
type place struct {
	zone     string
	priority int
}

// compares says whether answers are compared at all.
func compares(cfg *site.Pool) bool {
	return judged(cfg) || cfg.Breaker.Endpoint.Any()
}

// judged says whether endpoints are judged beside one another.
func judged(cfg *site.Pool) bool {
	return cfg.Outliers.Mode == site.ModeOn || cfg.Outliers.Mode == site.ModeDryRun
}

// compared says whether m stands for the others: it serves, and not on probation.
func (m *member) compared() bool { return m.healthy() && !m.probation.on && m.weight > 0 }

// compares says whether m is compared with: it has also shown something lately.
func (m *member) compares() bool { return m.compared() && m.standing.long.answers() >= 0.5 }

// compare takes in what came since the last beat, when one is due, and judges all endpoints. It returns when to look again; 0: not before
// something happens. The lock is held.
func (p *Pool) compare(now time.Time) time.Duration {
	if !compares(p.cfg) {
		return 0
	}
	beat, due := beatOf(len(p.members)), false
	if passed := now.Sub(p.court.beat); passed >= beat {
		p.takeIn(now, passed, beat)
		due = true
	}
	for _, m := range p.members {
		s := &m.standing
		s.fails.see(now, int(m.badRow.Load()), false)
		if s.slowAt != 0 {
			row, goesOn := s.slowRow(now, int(m.ledger.slowRow.Load()), p.overdue(m, beat))
			s.slow.see(now, row, goesOn)
		}
	}
	doubted := 0.0
	for _, m := range p.members {
		if !m.compared() || m.reluctant || m.held.state == BreakerClosed {
			continue
		}
		if got := p.bounds(m, beat); got.grade == sure {
			p.act(m, now, got, p.cfg.Breaker.Mode, 0)
			if p.cfg.Breaker.Mode == site.ModeOn { // bounds that are only tried out must not keep it from being judged
				continue
			}
		}
		if !judged(p.cfg) {
			continue
		}
		if got := p.judge(m, now); got.grade == clean {
			p.believe(m, now, due)
		} else {
			doubted += float64(m.weight)
			p.act(m, now, got, p.cfg.Outliers.Mode, doubted)
		}
	}
	if p.court.active.IsZero() || now.Sub(p.court.active) > idleFor {
		p.asleep.Store(true)
		return 0
	}
	return max(beat-now.Sub(p.court.beat), time.Millisecond)
}

// busy says whether there were exchanges lately. Without, the pool falls asleep, and the next pick wakes it. It stands in for takeIn where answers are not compared.
func (p *Pool) busy(now time.Time) bool {
	c, picked := &p.court, int64(0)
	for _, m := range p.members {
		picked += m.done.Load() + m.InFlight.Load()
	}
	if picked != c.picked {
		c.picked, c.active = picked, now
	}
	if c.active.IsZero() || now.Sub(c.active) > idleFor {
		p.asleep.Store(true)
	}
	return !p.asleep.Load()
}

// takeIn takes in what the exchanges wrote down in the time passed, and makes what to compare with.
func (p *Pool) takeIn(now time.Time, passed, beat time.Duration) {
	c := &p.court
	c.beat = now
	leftSoon := math.Exp(-passed.Seconds() / soonFor.Seconds())
	leftLong := math.Exp(-passed.Seconds() / longFor.Seconds())
	if c.near == nil {
		c.near = make(map[place]*peers)
	}
	clear(c.near)
	c.calm, c.serving = peers{}, 0
	picked := int64(0)
	for _, m := range p.members {
		picked += m.done.Load() + m.InFlight.Load()
		m.Tick()
		m.standing.absorb(&m.ledger, now, leftSoon, leftLong, p.overdue(m, beat))
		m.standing.calm = false
		if !m.compares() {
			continue
		}
		c.serving += float64(m.weight)
		if m.standing.calm = m.badRow.Load() == 0; m.standing.calm {
			c.calm.add(&m.standing, 1)
		}
		at := place{m.zone, m.priority}
		if c.near[at] == nil {
			c.near[at] = &peers{}
		}
		c.near[at].add(&m.standing, 1)
	}
	if picked != c.picked {
		c.picked, c.active = picked, now
	}
	times := float64(p.cfg.Outliers.Slow)
	if sticky(p.cfg) {
		times *= 2 // an endpoint's own keys may be the costly ones
	}
	for _, m := range p.members {
		if near := c.near[place{m.zone, m.priority}]; near != nil {
			others := p.without(near, m, m.compares())
			m.standing.learnOthers(&m.ledger, now, others, times)
		}
		m.slowAt.Store(int64(m.standing.slowAt))
	}
}

// without is what is left of others when m's own part is taken out.
func (p *Pool) without(others *peers, m *member, within bool) *peers {
	out := *others
	if within {
		out.add(&m.standing, -1)
	}
	return &out
}

// overdue is how many exchanges of m wait longer for their answer than what is slow, as far as can be told.
func (p *Pool) overdue(m *member, beat time.Duration) int {
	if m.standing.slowAt == 0 {
		return 0
	}
	beats := int((m.standing.slowAt + beat - 1) / beat)
	if beats >= exchange.BeatsKept {
		return 0
	}
	return m.Overdue(beats)
}

// judge compares m with the others.
func (p *Pool) judge(m *member, now time.Time) finding {
	s := &m.standing
	if s.fails.row < doubtRow && s.soon.bad+s.long.bad < 1 && s.slowAt == 0 {
		return finding{}
	}
	var got finding
	if s.fails.row >= doubtRow || s.soon.bad+s.long.bad >= 1 {
		more := failsMore
		if sticky(p.cfg) {
			more = stickyMore
		}
		got = s.judgeFails(now, p.without(&p.court.calm, m, m.standing.calm), more, func(from time.Time) bool {
			return p.witnessed(m, func(o *member) bool { return o.standing.fails.row == 0 && o.standing.fails.good.After(from) })
		})
	}
	if near := p.court.near[place{m.zone, m.priority}]; got.grade != sure && near != nil && s.slowAt != 0 {
		if s.slow.row < doubtRow && s.soon.above(s.slowAt)+s.long.above(s.slowAt) < windowSlow/2 {
			return got
		}
		slow := s.judgeSlow(now, p.without(near, m, m.compares()), func(from time.Time) bool {
			return p.witnessed(m, func(o *member) bool {
				if o.zone != m.zone || o.priority != m.priority {
					return true
				}
				// Where all that may be inside hang at m, nobody comes to the others, and nobody waits for them.
				idle := s.slow.goesOn && o.Overdue(0) == 0 && !sticky(p.cfg)
				return o.standing.slow.row < doubtRow+1 && (idle || o.standing.slow.good.After(from))
			})
		})
		if slow.grade > got.grade {
			got = slow
		}
	}
	return got
}

// witnessed says whether at least half of the others' capacity is as ok says: what is common to all is nobody's own fault.
func (p *Pool) witnessed(m *member, ok func(*member) bool) bool {
	good, all := 0.0, 0.0
	for _, o := range p.members {
		if o == m || !o.compares() {
			continue
		}
		all += float64(o.weight)
		if ok(o) {
			good += float64(o.weight)
		}
	}
	return good > 0 && good >= all/2
}

// believe gives back by and by what a doubt took.
func (p *Pool) believe(m *member, now time.Time, due bool) {
	if m.doubt == 0 || !due {
		return
	}
	m.standing.suspect = ""
	if m.doubt *= 2; m.doubt >= 1 {
		m.doubt = 0
	}
	p.weigh(m, now)
}

// act lowers the share of m, or ejects it; in a dry run it only tells. doubted is the weight of what is doubted so far, m with it.
func (p *Pool) act(m *member, now time.Time, got finding, mode string, doubted float64) {
	if mode == site.ModeDryRun {
		if got.grade == sure && (m.standing.told.IsZero() || now.Sub(m.standing.told) >= p.cfg.Outliers.First) {
			m.standing.told = now
			p.tell("endpoint_outlier", "endpoint %s would be ejected: %s", m.Address, got.why)
		}
		return
	}
	if got.grade == doubtful {
		if doubted > p.court.serving/2 {
			p.believe(m, now, true)
			return
		}
		m.standing.suspect, m.doubt = got.why, seldom
		p.weigh(m, now)
		return
	}
	p.eject(m, now, got)
}

// eject takes m out because of its answers, or keeps it reluctantly.
func (p *Pool) eject(m *member, now time.Time, got finding) {
	m.convict(now, p.cfg.Outliers, got, func() bool { return p.spares(m) })
	m.standing.forget(&m.ledger, now)
	if m.ejected {
		m.ejections.Add(1)
	}
	if m.reluctant {
		p.tell("endpoint_kept", "endpoint %s is not ejected: %s", m.Address, m.why)
	}
	p.settle(m, now)
	p.rebuild(now) // at once, so that one look does not eject more than the pool can do without
}

// onTrial judges the first answers after an ejection. The lock is held.
func (p *Pool) onTrial(m *member, r *exchange.Result) {
	now := p.clock()
	slowAt := time.Duration(m.slowAt.Load())
	slow := slowAt != 0 && r.Latency >= slowAt
	switch {
	case atFault(r):
	case r.Kind == exchange.Answered && r.Status != 429 && r.Status != 503:
	case r.Kind == exchange.Cancelled && slow:
	default:
		return
	}
	if !m.tried(now, atFault(r), slow, p.cfg.SlowStart) {
		p.weigh(m, now)
		return
	}
	got := finding{sure, slow, fmt.Sprintf("answers still fail: %d of %d on trial", m.probation.bad, m.probation.bad+m.probation.good)}
	if slow {
		got.why = fmt.Sprintf("answers are still slow: the last took %v, the others' typically %v", short(r.Latency), short(m.standing.typical))
	}
	p.eject(m, now, got)
}
