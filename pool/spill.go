package pool

import (
	"math"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// When a zone or priority fails, its traffic falls on others, which have their own. Without a bound the next one drowns, then the one after
// it. So endpoints that are spilled to get room for a number of requests at once: at first what they should have left, then more while
// they answer as fast as ours did, and less when they do not. What finds no room is refused, the less important first.

// Numbers of spilling.
const (
	spillEvery = 250 * time.Millisecond
	// spillMemory is the time constant of what is known about our own endpoints.
	spillMemory = 30 * time.Second
	// roomFirst is the least room at first when nobody told what an endpoint can do: so few drown nobody.
	roomFirst = 8
	// roomGrows and roomShrinks change the room at each look. It grows only while most of it is used.
	roomGrows, roomShrinks = 1.5, 0.7
	roomUsed               = 0.5
	// Slower than slowTimes what our own took, and slowMore, is drowning; within fastTimes there is room for more. The time on top is for the
	// way between zones.
	slowTimes, fastTimes = 2.0, 1.5
	slowMore             = 5 * time.Millisecond
)

// The part of the room that less important requests may fill: at first, and at the least change. When critical ones find no room they
// get less, down to nothing, and come back by and by.
const (
	standardRoom, lowRoom     = 0.85, 0.6
	standardGives, lowGives   = 0.7, 0.4
	standardReturns, lowComes = 0.03, 0.02
)

// refuseSpill says that the endpoints that are left have as much as they can take.
var refuseSpill = &exchange.Refusal{Stage: "pick", Reason: "spill_full", Status: 503, RetryAfter: time.Second, Problem: exchange.ProblemReduced,
	Detail: "Part of the service is lost, and the rest has as much as it can take."}

// spills is how an endpoint is used.
type spills uint8

const (
	spillsNot  spills = iota // by its own traffic
	spillsZone               // instead of lost ones of this node's zone: it has traffic of its own
	spillsTier               // instead of lost ones of a better priority, or of other zones where the node has none: it has none of its own that we do not know
)

// spillState is what is known of our own endpoints while nothing spills. The pool's lock guards it.
type spillState struct {
	at     time.Time
	found  float64 // requests at once that one of weight 1 was found to work on; 0: unknown
	most   float64 // requests at once that one of weight 1 had at the most, lately
	load   float64 // of that, what it has in the mean
	took   float64 // ns of an answer; 0: ours have not answered since the start
	active bool    // something spills
	each   float64 // when it began: what one of weight 1 can work on at once
	told   bool    // somebody told that
	missed int64   // critical requests that had found no room by the last look
}

// spillsTo says how the endpoints of part are used. tiers are those of the plan.
func (p *Pool) spillsTo(of part, tiers *[prioritiesMax]tier) spills {
	i := of.slot / 2
	switch {
	case of.whole || of.slot == lastSlot:
		return spillsNot
	case i > 0:
		return spillsTier
	case p.deps.Zone != "" && tiers[0].localTotal > 0:
		if of.slot%2 == 1 {
			return spillsZone
		}
		return spillsNot
	case p.zoneLost():
		return spillsTier
	}
	return spillsNot
}

// zoneLost says whether all endpoints of a zone of the first priority are out while those of another serve.
func (p *Pool) zoneLost() bool {
	healthy := map[string]bool{}
	for _, m := range p.members {
		if m.priority == 1 && m.weight > 0 && m.zone != "" && m.known() {
			healthy[m.zone] = healthy[m.zone] || m.healthy()
		}
	}
	for _, well := range healthy {
		if !well {
			return len(healthy) > 1
		}
	}
	return false
}

// each is how many requests at once an endpoint of weight 1 can work on, and whether somebody told: the site file, or the shedder.
func (p *Pool) each() (n float64, told bool) {
	if c := p.cfg.Spill.Concurrency; c > 0 {
		return float64(c), true
	}
	if p.spill.found > 0 {
		return p.spill.found, true
	}
	return p.spill.most, false
}

// spillCounts says whether what is spilled is counted, and bounded unless it is a dry run.
func (p *Pool) spillCounts() bool {
	return p.cfg.Spill.Mode == site.ModeOn || p.cfg.Spill.Mode == site.ModeDryRun
}

// apart says whether endpoints stand in more than one zone or priority, so that something may spill one day.
func (p *Pool) apart() bool {
	for _, m := range p.members {
		if first := p.members[0]; m.zone != first.zone || m.priority != first.priority {
			return true
		}
	}
	return false
}

// learnsAlone says whether nobody but overflow looks at a pool that is well: where answers are not compared, nothing was known of our own endpoints as they were lost,
// and what spilled had no bound.
func (p *Pool) learnsAlone() bool {
	return !compares(p.cfg) && p.spillCounts() && !p.asleep.Load() && p.apart()
}

// overflow gives endpoints that are spilled to their room, or learns what ours do. It returns when to look again; 0: nothing spills.
// The lock is held.
func (p *Pool) overflow(now time.Time) time.Duration {
	s := &p.spill
	passed := now.Sub(s.at)
	if passed < spillEvery {
		if s.active || p.learnsAlone() {
			return spillEvery - passed
		}
		return 0
	}
	s.at = now
	spilling := false
	for _, m := range p.members {
		spilling = spilling || m.spills != spillsNot
	}
	if !spilling || !p.spillCounts() {
		p.learnOwn(passed)
		for _, m := range p.members {
			m.room.Store(0)
		}
		s.active = false
		if p.learnsAlone() && p.busy(now) {
			return spillEvery
		}
		return 0
	}
	each, told := s.each, s.told
	if !s.active || p.cfg.Spill.Concurrency > 0 { // which a reload may change meanwhile
		s.each, s.told = p.each()
		each, told = s.each, s.told
	}
	if !s.active {
		p.classRoom[exchange.Standard].Store(math.Float32bits(standardRoom))
		p.classRoom[exchange.Low].Store(math.Float32bits(lowRoom))
	}
	s.active = true
	p.spillDry.Store(p.cfg.Spill.Mode == site.ModeDryRun)
	p.classes()
	for _, m := range p.members {
		if m.spills == spillsNot || each == 0 || s.took == 0 && !told {
			m.room.Store(0)
			continue
		}
		m.room.Store(p.roomFor(m, each, told))
	}
	return spillEvery
}

// classes moves the room of less important requests.
func (p *Pool) classes() {
	s := &p.spill
	missed := p.missed.Load()
	full := missed > s.missed
	s.missed = missed
	move := func(class exchange.Class, first, gives, returns float32) {
		part := math.Float32frombits(p.classRoom[class].Load())
		if full {
			part *= gives
		} else {
			part = min(part+returns, first)
		}
		p.classRoom[class].Store(math.Float32bits(part))
	}
	move(exchange.Standard, standardRoom, standardGives, standardReturns)
	move(exchange.Low, lowRoom, lowGives, lowComes)
}

// learnOwn takes in how our own endpoints do.
func (p *Pool) learnOwn(passed time.Duration) {
	s := &p.spill
	left := math.Exp(-min(passed, time.Minute).Seconds() / spillMemory.Seconds())
	peak, sum, took, weight := 0.0, 0.0, 0.0, 0.0
	for _, m := range p.members {
		if m.skip.Load() || m.weight == 0 {
			continue
		}
		n, w := float64(m.InFlight.Load()), float64(m.weight)
		peak, sum, weight = max(peak, n/w), sum+n, weight+w
		took += float64(m.took.Load()) * w
	}
	if weight == 0 || sum == 0 {
		return
	}
	s.found = 0
	if p.deps.Concurrency != nil {
		s.found = float64(p.deps.Concurrency()) / weight
	}
	s.most = max(s.most*left, peak)
	s.load = s.load*left + sum/weight*(1-left)
	if s.took == 0 {
		s.took = took / weight
	}
	s.took = s.took*left + took/weight*(1-left)
}

// roomFor is how many requests at once m may have from here.
func (p *Pool) roomFor(m *member, each float64, told bool) int64 {
	s := &p.spill
	most := each * float64(m.weight)
	room, busy, took := float64(m.room.Load()), float64(m.InFlight.Load()), float64(m.took.Load())
	if room == 0 {
		room = most
		if m.spills == spillsZone {
			room *= max(1-s.load/each, 0)
		}
		if u, ok := m.utilisation(p.nanos()); ok {
			room = busy + most*max(nearFull-u, 0)
		}
		if !told {
			room = max(room, roomFirst)
		}
		if s.took > 0 {
			m.took.Store(int64(s.took)) // what it took long ago says nothing
		}
		return int64(max(math.Ceil(room), 1))
	}
	switch u, ok := m.utilisation(p.nanos()); {
	case s.took > 0 && took > slowTimes*s.took+float64(slowMore) || m.badRow.Load() > 0 || m.throttle != 0 || ok && u > nearFull:
		room = max(room*roomShrinks, 1)
	case took <= fastTimes*s.took+float64(slowMore) && busy >= roomUsed*room:
		room = room*roomGrows + 1
	}
	if told {
		room = min(room, math.Ceil(most))
	}
	return int64(math.Ceil(room))
}

// roomy says whether m may have one more of a class.
func (p *Pool) roomy(m *member, class exchange.Class) bool {
	room, busy := m.room.Load(), m.InFlight.Load()
	if room == 0 || class == exchange.Critical {
		return room == 0 || busy < room
	}
	return float32(busy) < math.Float32frombits(p.classRoom[class%3].Load())*float32(room)
}

// beyond are the endpoints of the next priorities that could take what those of part have no room for.
func (p *Pool) beyond(last int) (out part) {
	out.slot, out.beyond = 2*min(last+1, prioritiesMax-1), true
	for _, m := range p.members {
		if m.priority > last+1 && m.weight > 0 && m.healthy() {
			out.list = append(out.list, m)
		}
	}
	return out
}

// elsewhere finds another endpoint when the one that was chosen has no room; nil: none was found.
func (p *Pool) elsewhere(x *exchange.Exchange, s *snapshot, q ask) *member {
	for range tries {
		q.rnd = mix(q.rnd)
		if q.key != 0 {
			q.key = mix(q.key)
		}
		if m := s.choose(q); m != nil && p.roomy(m, x.Class) {
			return m
		}
	}
	if s.beyond != nil {
		for range tries {
			q.rnd = mix(q.rnd)
			if m := s.beyond.choose(q); m != nil && p.roomy(m, x.Class) {
				return m
			}
		}
	}
	p.spilt.Add(1)
	if x.Class == exchange.Critical {
		p.missed.Add(1)
	}
	return nil
}
