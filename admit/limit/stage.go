package limit

import (
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Stage is the limits as a stage. Those that hold for a route are asked in the order of the site file; when one says no, those before it
// take back what they had given, so that a refused request costs nothing.
//
// For a moment, of some hundred nanoseconds, such a request holds what it gives back, and another may be refused for it. Never is more let
// through than a limit allows.
type Stage struct {
	plans      []plan // by Route.Index
	any        bool
	epoch      time.Time
	clock      func() time.Time
	rand       func() uint32
	overloaded func(x *exchange.Exchange) bool
	further    func(x *exchange.Exchange) // makes the wait of one who is refused long enough for what comes behind; nil: nothing does
}

// Before is s where something comes behind it that refuses for long, too: further is called with each exchange that is refused, and may lengthen its RetryAfter.
func (s *Stage) Before(further func(x *exchange.Exchange)) *Stage {
	if s == nil {
		return nil
	}
	with := *s
	with.further = further
	return &with
}

// plan are the limits of one route.
type plan struct {
	checks   []check
	after    bool // some have to do with a request after its answer
	adaptive bool // some have to do with the state of the pool
}

// check is one limit on a route.
type check struct {
	l       *limiter
	cell    *cell    // nil: keys stand in the limit's tables
	numbers *numbers // of the cell
	classes uint8
	held    int8 // where the key is held until the answer is over; -1: nothing is to be done then
}

// tight in a set of checks says that the pool was overloaded when they were asked.
const tight uint64 = 1 << 63

// Shares of an adaptive limit while the request's pool is overloaded.
const (
	shareStandard = 0.5
	shareLow      = 0.25
)

// Serve implements exchange.Stage. A nil Stage passes everything on.
func (s *Stage) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if s == nil || x.Route == nil {
		return next.Do(x)
	}
	p := &s.plans[x.Route.Index]
	if p.after {
		return s.around(x, next, p)
	}
	if _, r := s.enter(x, p, nil); r != nil {
		return r
	}
	return next.Do(x)
}

// around is Serve for limits that have to do with the request after its answer.
//
//go:noinline
func (s *Stage) around(x *exchange.Exchange, next *exchange.Next, p *plan) *exchange.Refusal {
	var held [maxHeld]uint64
	took, r := s.enter(x, p, &held)
	if r != nil {
		return r
	}
	r = next.Do(x)
	s.leave(x, p, took, &held)
	return r
}

// at is a time as nanoseconds of budgets. It is above zero.
func (s *Stage) at(t time.Time) int64 { return max(1, int64(t.Sub(s.epoch))) }

// enter asks the limits of p. took has a bit for each that gave something, and tight.
//
//go:noinline
func (s *Stage) enter(x *exchange.Exchange, p *plan, held *[maxHeld]uint64) (took uint64, _ *exchange.Refusal) {
	// The first byte of a request is its arrival. Asking the clock once more would double the cost of a check.
	now := s.at(x.Start)
	if p.adaptive && x.Class != exchange.Critical && s.overloaded != nil && s.overloaded(x) {
		took = tight
	}
	for i := range p.checks {
		c := &p.checks[i]
		if c.classes&(1<<x.Class) == 0 {
			continue
		}
		n, h, ok := c.key(x)
		if !ok || n.unlimited {
			continue
		}
		if refusal := s.ask(x, c, n, h, now, c.l.share(x, took)); refusal != nil {
			c.l.refused(x, h, now)
			if c.l.cfg.DryRun {
				continue
			}
			s.giveBack(x, p, took, now)
			s.patience(x, p, i+1, now, took)
			if s.further != nil {
				s.further(x)
			}
			return 0, refusal
		}
		took |= 1 << i
		if c.held >= 0 && held != nil {
			held[c.held] = h
		}
	}
	return took, nil
}

// key is whose budget x uses, and its numbers. ok is false when x lacks a fact that the limit counts by.
func (c *check) key(x *exchange.Exchange) (n *numbers, h uint64, ok bool) {
	if c.cell != nil {
		return c.numbers, 0, true
	}
	if h, ok = c.l.maker.Hash(x); !ok {
		return nil, 0, false
	}
	return c.l.of(h), h, true
}

// price is what x costs before it is served: the cost of its route, or one when the rest is known after the answer only.
func (l *limiter) price(x *exchange.Exchange) float64 {
	if l.deferred() {
		return 1
	}
	return float64(x.Route.Cost)
}

// share is the share of an adaptive limit that requests like x have.
func (l *limiter) share(x *exchange.Exchange, took uint64) float64 {
	switch {
	case took&tight == 0 || !l.cfg.Adaptive:
		return 1
	case x.Class == exchange.Low:
		return shareLow
	}
	return shareStandard
}

// ask takes what x needs of one limit, or says why not.
func (s *Stage) ask(x *exchange.Exchange, c *check, n *numbers, h uint64, now int64, share float64) *exchange.Refusal {
	if n.concurrency > 0 {
		if most := max(1, int64(float64(n.concurrency)*share)); !c.begin(x, n, h, most) {
			return c.l.busyNo
		}
	}
	price := c.l.price(x)
	if n.rate == 0 || price == 0 {
		return nil
	}
	tat, wait := int64(0), time.Duration(0)
	if share < 1 {
		tat, wait = c.tight(x, n, h, now, price, share)
	} else if a := n.asks(now, price, 1); c.cell != nil {
		if at, ok := c.cell.tat.take(a); ok {
			tat = at
		} else {
			tat, wait = at, a.wait(at)
		}
	} else if at, ok := c.l.rate.take(h, a, true); ok {
		tat = at
	} else {
		tat, wait = at, a.wait(at)
	}
	if wait == 0 && c.cell != nil {
		c.l.counts[x.Shard%countShards].admitted.Add(1)
	}
	if told := n.told.rate; told != nil && (told.Always || wait > 0) && !c.l.cfg.DryRun {
		x.Allow(exchange.Allowance{Of: told, Left: c.l.left(n, tat, now), Reset: time.Duration(max(0, tat-now)), Violated: wait > 0})
	}
	if wait == 0 {
		return nil
	}
	if n.concurrency > 0 {
		c.end(n, h, false)
	}
	if !c.l.cfg.DryRun {
		x.RetryAfter = later(wait, s.rand())
	}
	return c.l.slow
}

// tight takes what x needs while its class has only a share: from the budget of its class, and from that of the key, of which it leaves
// the rest to classes above. wait is 0 when both have it.
//
//go:noinline
func (c *check) tight(x *exchange.Exchange, n *numbers, h uint64, now int64, price, share float64) (tat int64, wait time.Duration) {
	whole, part := n.asks(now, price, share), n.part(now, price, share)
	tat, ok := c.takePart(x.Class, h, part)
	if !ok {
		stands := c.stands(h)
		return max(stands, now), max(1, part.wait(tat), whole.wait(stands))
	}
	if c.cell != nil {
		tat, ok = c.cell.tat.take(whole)
	} else {
		tat, ok = c.l.rate.take(h, whole, true)
	}
	if !ok {
		c.chargePart(x.Class, h, now, -part.cost, 0)
		return tat, max(1, whole.wait(tat))
	}
	return tat, 0
}

// partKey is the key of a class's share beside that of the whole.
func partKey(h uint64, class exchange.Class) uint64 {
	return (h ^ (uint64(class)+1)*0xd6e8feb86659fd93) * 0x9e3779b97f4a7c15
}

func (c *check) takePart(class exchange.Class, h uint64, a ask) (tat int64, ok bool) {
	if c.cell != nil {
		return c.cell.parts[class].take(a)
	}
	return c.l.rate.take(partKey(h, class), a, false)
}

func (c *check) chargePart(class exchange.Class, h uint64, now, delta, ceiling int64) {
	if c.cell != nil {
		c.cell.parts[class].charge(now, delta, ceiling)
		return
	}
	c.l.rate.charge(partKey(h, class), now, delta, ceiling)
}

// partStands is where the budget of a class's share stands.
func (c *check) partStands(class exchange.Class, h uint64) int64 {
	if c.cell != nil {
		return c.cell.parts[class].Load()
	}
	return c.l.rate.look(partKey(h, class))
}

// wait is how long a request that costs price would have to wait now; 0: not at all. Nothing is taken.
func (c *check) wait(x *exchange.Exchange, n *numbers, h uint64, now int64, price, share float64) time.Duration {
	a := n.asks(now, price, share)
	wait := a.wait(c.stands(h))
	if share < 1 {
		a = n.part(now, price, share)
		wait = max(wait, a.wait(c.partStands(x.Class, h)))
	}
	return wait
}

// left is what a client is told to be left: requests, bytes or units.
func (l *limiter) left(n *numbers, tat, now int64) int64 {
	if l.cfg.Cost == site.CostBytes {
		return int64(n.left(tat, now) * float64(l.cfg.UnitBytes))
	}
	return int64(n.left(tat, now) + 1e-6)
}

// later is a wait with up to a tenth more, so that refused clients do not come back all at once; never less.
func later(wait time.Duration, random uint32) time.Duration {
	return wait + time.Duration(float64(wait)*float64(random)/(10*(1<<32)))
}

// begin counts x as under way.
func (c *check) begin(x *exchange.Exchange, n *numbers, h uint64, most int64) (ok bool) {
	var under int64
	if c.cell != nil {
		if under, ok = c.cell.enter(most); ok && n.rate == 0 {
			c.l.counts[x.Shard%countShards].admitted.Add(1)
		}
	} else {
		under, ok = c.l.busy.enter(h, most, n.rate == 0)
	}
	if c.l.cfg.DryRun {
		return ok
	}
	if !ok {
		x.RetryAfter = busyRetry
	}
	if told := n.told.busy; told != nil && (told.Always || !ok) {
		a := exchange.Allowance{Of: told, Left: max(0, n.concurrency-under), Violated: !ok}
		if !ok {
			a.Reset = busyRetry
		}
		x.Allow(a)
	}
	return ok
}

// end counts a request as not under way any more.
func (c *check) end(n *numbers, h uint64, uncount bool) {
	if c.cell != nil {
		c.cell.inFlight.Add(-1)
		return
	}
	c.l.busy.exit(h, uncount)
}

// giveBack undoes what the limits in took gave to a request that a later one refused. What they have left was noted before, and is told
// a request too low.
//
//go:noinline
func (s *Stage) giveBack(x *exchange.Exchange, p *plan, took uint64, now int64) {
	for i := range p.checks {
		c := &p.checks[i]
		if took&(1<<i) == 0 {
			continue
		}
		n, h, _ := c.key(x)
		if n.concurrency > 0 {
			c.end(n, h, n.rate == 0)
		}
		price := c.l.price(x)
		uncount := n.rate == 0
		if n.rate > 0 && price > 0 {
			uncount = true
			if share := c.l.share(x, took); share < 1 {
				c.chargePart(x.Class, h, now, -n.part(now, price, share).cost, 0)
			}
			if cost := n.of(price); c.cell != nil {
				c.cell.tat.charge(now, -cost, 0)
			} else {
				c.l.rate.undo(h, now, cost)
			}
		}
		if uncount && c.cell != nil {
			c.l.counts[x.Shard%countShards].admitted.Add(^uint64(0))
		}
	}
}

// patience makes x.RetryAfter long enough for the limits from the given one on, which were not asked: a client that comes back must not
// meet the next one.
//
//go:noinline
func (s *Stage) patience(x *exchange.Exchange, p *plan, from int, now int64, took uint64) {
	for i := from; i < len(p.checks); i++ {
		c := &p.checks[i]
		if c.classes&(1<<x.Class) == 0 || c.l.cfg.DryRun {
			continue
		}
		n, h, ok := c.key(x)
		price := c.l.price(x)
		if !ok || n.unlimited || n.rate == 0 || price == 0 {
			continue
		}
		if wait := c.wait(x, n, h, now, price, c.l.share(x, took)); wait > x.RetryAfter {
			x.RetryAfter = later(wait, s.rand())
		}
	}
}

// stands is where a budget stands.
func (c *check) stands(h uint64) int64 {
	if c.cell != nil {
		return c.cell.tat.Load()
	}
	return c.l.rate.look(h)
}

// leave does what is to be done after the answer: requests are not under way any more, and what they cost is charged.
//
//go:noinline
func (s *Stage) leave(x *exchange.Exchange, p *plan, took uint64, held *[maxHeld]uint64) {
	var now int64
	for i := range p.checks {
		c := &p.checks[i]
		if took&(1<<i) == 0 || c.held < 0 {
			continue
		}
		h, n := held[c.held], c.numbers
		if c.cell == nil {
			n = c.l.of(h)
		}
		if n.concurrency > 0 {
			c.end(n, h, false)
		}
		if !c.l.deferred() || n.rate == 0 {
			continue
		}
		if now == 0 {
			now = s.at(s.clock())
		}
		n, cost := c.inForce(x, h, n)
		c.charge(x.Class, now, h, n, cost-1, c.l.share(x, took))
	}
}

// inForce is by which numbers x, whose limit had n when it came, is charged, and what it cost. A reload may have changed them meanwhile,
// and with them what the key owes: by the old ones, a request of a minute could be a debt of an hour to a limit that was raised in between.
//
//go:noinline
func (c *check) inForce(x *exchange.Exchange, h uint64, n *numbers) (*numbers, float64) {
	is := c.l.now.Load()
	if is == c.l || is.cfg.Cost != c.l.cfg.Cost {
		return n, c.l.found(x)
	}
	now := is.of(h)
	switch {
	case c.cell != nil && c.l.cfg.By[0] == site.ByGlobal:
		now = is.numbersOf(site.ByGlobal)
	case c.cell != nil:
		now = is.numbersOf(x.Route.Name)
	}
	if now.rate == 0 {
		return n, c.l.found(x)
	}
	if c.l.cfg.Cost == site.CostHeader { // costs stand where the set said that x came by
		return now, c.l.found(x)
	}
	return now, is.found(x)
}

// charge adds so much cost to what a key owes, and to the share of its class when it has only one; below zero it is taken off.
func (c *check) charge(class exchange.Class, now int64, h uint64, n *numbers, cost, share float64) {
	sign := int64(1)
	if cost < 0 {
		cost, sign = -cost, -1
	}
	delta := sign * n.of(cost)
	if delta == 0 {
		return
	}
	if share < 1 {
		c.chargePart(class, h, now, sign*n.of(cost/share), c.l.ceiling)
	}
	if c.cell != nil {
		c.cell.tat.charge(now, delta, c.l.ceiling)
	} else {
		c.l.rate.charge(h, now, delta, c.l.ceiling)
	}
}

// found is what x turned out to cost. One was charged before.
func (l *limiter) found(x *exchange.Exchange) float64 {
	switch l.cfg.Cost {
	case site.CostBytes:
		return max(1, float64(x.Outcome.BytesIn+x.Outcome.BytesOut)/float64(l.cfg.UnitBytes))
	case site.CostMeasured:
		return max(1, float64(x.Work)/float64(l.cfg.Unit))
	case site.CostHeader:
		return x.Costs[l.costIndex].Or(1)
	}
	return 1
}
