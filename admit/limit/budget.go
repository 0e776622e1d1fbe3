package limit

import (
	"math"
	"sync/atomic"
	"time"
)

// A budget is one number, the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371, annex A): the time, in
// nanoseconds, at which all that was let through would have come at exactly the allowed rate. A budget whose time is past is whole.
// What is let through until any time t is never more than burst + rate × t, whatever the pattern.

const (
	// maxDebt is how long a key may have to wait at most for what was charged after an answer, beyond its burst. A wrong number in an
	// endpoint's header, or one download of a terabyte, must not lock a customer out for days; honest debts are shorter.
	maxDebt = time.Hour
	// maxSpan keeps sums of times far from the end of 63 bits: 292 years.
	maxSpan = int64(50 * 365 * 24 * time.Hour)
)

// numbers are what one key may have, made ready for arithmetic.
type numbers struct {
	rate, burst float64 // per second, and at once; rate 0: any
	interval    float64 // nanoseconds that one unit of cost takes
	span        int64   // nanoseconds that a whole burst takes
	concurrency int64   // 0: any
	unlimited   bool
	told        told
}

// newNumbers makes numbers ready. burst 0 is what the rate gives in a second.
func newNumbers(rate, burst float64, concurrency int) numbers {
	n := numbers{rate: rate, concurrency: int64(concurrency)}
	if rate > 0 {
		if burst == 0 {
			burst = math.Floor(rate)
		}
		n.burst = max(1, burst)
		n.interval = float64(time.Second) / rate
		n.span = n.of(n.burst)
	}
	return n
}

// of is the time that so much cost takes, at least a nanosecond.
func (n *numbers) of(cost float64) int64 {
	if cost <= 0 {
		return 0
	}
	return int64(min(max(cost*n.interval+0.5, 1), float64(maxSpan)))
}

// left is how much may come at once at a time when a budget stands at tat.
func (n *numbers) left(tat, now int64) float64 {
	if n.interval == 0 {
		return 0
	}
	return max(0, float64(n.span-max(tat-now, 0))/n.interval)
}

// ask is a question to a budget, and what it takes when the answer is yes. Times are nanoseconds.
type ask struct {
	now  int64
	need int64 // that must be left of span; never more than it
	cost int64 // that is taken; may be more than need, and then leaves a debt
	span int64
}

// asks is the question of a request that comes at now and costs so much. A request that costs more than a whole burst passes when the
// budget is whole, and those after it wait the rest out. With a share below 1, it leaves the rest of the burst to others.
func (n *numbers) asks(now int64, cost, share float64) ask {
	a := ask{now: now, cost: n.of(cost), span: n.span}
	if share < 1 {
		a.span = int64(float64(n.span) * share)
	}
	a.need = min(a.cost, a.span)
	return a
}

// part is the question to the budget of a class that has only a share of rate and burst: a unit takes 1/share of the time.
func (n *numbers) part(now int64, cost, share float64) ask {
	a := ask{now: now, cost: n.of(cost / share), span: n.span}
	a.need = min(a.cost, a.span)
	return a
}

// of is what becomes of a budget that stands at tat: its new time, or the old one and false.
func (a ask) of(tat int64) (int64, bool) {
	tat = max(tat, a.now)
	if tat-a.now > a.span-a.need {
		return tat, false
	}
	return tat + a.cost, true
}

// wait is how long a refused request has to wait when its budget stands at tat.
func (a ask) wait(tat int64) time.Duration {
	return time.Duration(max(0, tat-a.now-(a.span-a.need)))
}

// charged is a budget after delta more, or less, was found out. It owes at the most ceiling.
func charged(tat, now, delta, ceiling int64) int64 {
	if delta < 0 {
		return max(tat+delta, min(tat, now))
	}
	return max(tat, min(max(tat, now)+delta, now+ceiling))
}

// scaled is a budget that owes factor as much.
func scaled(tat, now int64, factor float64) int64 {
	if tat <= now {
		return tat
	}
	return now + int64(min(float64(tat-now)*factor, float64(2*maxSpan)))
}

// take asks the budget of h. counted says that an admission counts as one.
func (t *table) take(h uint64, a ask, counted bool) (tat int64, ok bool) {
	s := t.shard(h)
	s.mu.Lock()
	p := s.find(h)
	if p == nil {
		if p = s.place(h, a.now, int(t.most.Load())); p == nil {
			p = &s.spill
			s.spilled++
		}
	}
	if tat, ok = a.of(*p); ok {
		*p = tat
		if counted {
			s.admitted++
		}
	}
	s.mu.Unlock()
	return tat, ok
}

// look is the budget of h; 0: whole.
func (t *table) look(h uint64) (tat int64) {
	s := t.shard(h)
	s.mu.Lock()
	if p := s.find(h); p != nil {
		tat = *p
	}
	s.mu.Unlock()
	return tat
}

// charge adds delta to what h owes, or takes it off.
func (t *table) charge(h uint64, now, delta, ceiling int64) {
	s := t.shard(h)
	s.mu.Lock()
	p := s.find(h)
	if p == nil && delta > 0 {
		if p = s.place(h, now, int(t.most.Load())); p == nil {
			p = &s.spill
		}
	}
	if p != nil {
		*p = charged(*p, now, delta, ceiling)
	}
	s.mu.Unlock()
}

// undo takes an admission back that cost so much. The budget that was shared for want of a place keeps it.
func (t *table) undo(h uint64, now, cost int64) {
	s := t.shard(h)
	s.mu.Lock()
	if p := s.find(h); p != nil {
		*p = charged(*p, now, -cost, 0)
	}
	s.admitted--
	s.mu.Unlock()
}

// enter counts one more request of h under way, unless there are most already. count says that this is the admission to be counted.
func (t *table) enter(h uint64, most int64, count bool) (n int64, ok bool) {
	s := t.shard(h)
	s.mu.Lock()
	p := s.find(h)
	if p == nil {
		p = s.place(h, 0, anyLines) // as many keys as there are requests under way, which the guard bounds
	}
	if ok = *p < most; ok {
		*p++
		if count {
			s.admitted++
		}
	}
	n = *p
	s.mu.Unlock()
	return n, ok
}

// exit counts one request of h less. The slot of a key without requests is free. uncount takes the admission back.
func (t *table) exit(h uint64, uncount bool) {
	s := t.shard(h)
	s.mu.Lock()
	if p := s.find(h); p != nil && *p > 0 {
		*p--
	}
	if uncount {
		s.admitted--
	}
	s.mu.Unlock()
}

// cell is the budget and the count of a key that all requests of a route, or of all routes, have in common. It has no lock: there is
// nothing that all of them wait for but a cache line.
type cell struct {
	_        [56]byte
	tat      instant
	inFlight atomic.Int64
	parts    [3]instant // of classes that have only a share, by class
	_        [32]byte
}

// cellBytes is the size of a cell.
const cellBytes = 128

// instant is a budget of a cell.
type instant struct{ atomic.Int64 }

func (i *instant) take(a ask) (tat int64, ok bool) {
	for {
		old := i.Load()
		tat, ok = a.of(old)
		if !ok || i.CompareAndSwap(old, tat) {
			return tat, ok
		}
	}
}

func (i *instant) charge(now, delta, ceiling int64) {
	for {
		old := i.Load()
		if i.CompareAndSwap(old, charged(old, now, delta, ceiling)) {
			return
		}
	}
}

func (i *instant) scale(now int64, factor float64) {
	for {
		old := i.Load()
		if i.CompareAndSwap(old, scaled(old, now, factor)) {
			return
		}
	}
}

func (c *cell) enter(most int64) (n int64, ok bool) {
	for {
		if n = c.inFlight.Load(); n >= most {
			return n, false
		}
		if c.inFlight.CompareAndSwap(n, n+1) {
			return n + 1, true
		}
	}
}
