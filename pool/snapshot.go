package pool

import (
	"math"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// snapshot is what picks work on: never changed, swapped whole. What moves every moment (in flight, factors, skip) stands in
// the members.
type snapshot struct {
	groups  []group
	beyond  chooser           // who else may take what spills; nil: nobody
	refusal *exchange.Refusal // set when there is nothing to pick

	affinity []byte // cookie name; nil: none
	ids      map[uint64]*member

	hash    *keyer  // what the hash method looks at; nil: another method
	cap     float64 // hash: mean in flight per weight × balance is the bound; this is balance / weight in use
	timed   bool    // the method looks at the clock
	compare bool    // answers are compared
	wakes   bool    // Run looks at what exchanges do, and the first after a pause wakes it
	learn   learner
	inUse   int
	panics  bool
	share   float64 // healthy part of the known capacity
	unknown bool    // used though nothing is known
}

// learner says what Done teaches the members.
type learner uint8

const (
	learnNothing learner = iota
	learnFaults
	learnLatency
	learnCurve
)

// group is a part of the members that gets a part of the traffic.
type group struct {
	upTo uint64 // random numbers below this belong here; what is left falls to the last group
	by   chooser
}

// choose picks among the groups, then within the group.
func (s *snapshot) choose(q ask) *member {
	g := &s.groups[len(s.groups)-1]
	if len(s.groups) > 1 {
		lot := mix(q.rnd ^ 0x6c6f74)
		if s.hash != nil {
			lot = mix(q.key) // the same key must fall into the same group
		}
		for i := range s.groups {
			if lot < s.groups[i].upTo {
				g = &s.groups[i]
				break
			}
		}
	}
	return g.by.choose(q)
}

// The refusals of pools.
var (
	refuseNone = &exchange.Refusal{Stage: "pick", Reason: "no_endpoint", Status: 503,
		Detail: "no endpoint is in service", RetryAfter: time.Second}
	refuseDown = &exchange.Refusal{Stage: "pick", Reason: "pool_down", Status: 503,
		Detail: "no endpoint is healthy", RetryAfter: time.Second}
)

// part is a group before choosers are made.
type part struct {
	slot   int  // which turn counter and table: twice the priority from 0, plus one for other zones
	whole  bool // near and far zones together
	beyond bool // this priority and all later ones, for what finds no room
	list   []*member
	share  float64
}

// plan says which members are used now and how the traffic is parted.
type plan struct {
	parts    []part
	capacity float64 // weight of members whose health is known and who may be picked
	share    float64
	panics   bool
	unknown  bool
}

// lastSlot is for the group of everybody.
const (
	prioritiesMax = 16
	lastSlot      = 2*prioritiesMax + 2
)

// arrange makes the plan for members. It is pure.
//
// The panic rule holds when less than the panic share of the known capacity is healthy and no priority, nor all of
// them together, can carry everything by the rule of spill: a whole second site that waits for the loss of the first is no
// reason to send to the first. Within panic a priority that lost too much uses all its members; when nothing is healthy
// at all, everybody is used.
func arrange(members []*member, zone string, cfg *site.Pool) plan {
	tiers, out := tally(members, zone), plan{share: 1}
	over := max(float64(cfg.Overprovision), 1)
	known, healthy := 0.0, 0.0
	for _, m := range members {
		if m.allowed() && m.known() {
			known += float64(m.weight)
			if m.healthy() {
				healthy += float64(m.weight)
			}
		}
	}
	out.capacity = known
	if known > 0 {
		out.share = healthy / known
	}
	if healthy == 0 {
		// None is known to be well, right after the start: trying those of which nothing is known beats refusing.
		out.add(lastSlot, 1, members, func(m *member) bool { return m.allowed() && !m.known() })
		if out.unknown = len(out.parts) > 0; out.unknown {
			return out
		}
	}
	out.panics = out.share < float64(cfg.Panic) && !carries(tiers[:], over)
	if healthy == 0 {
		if out.panics {
			out.add(lastSlot, 1, members, func(m *member) bool { return m.allowed() })
		}
		return out
	}
	for i, share := range spill(tiers[:], over) {
		if share <= 0 {
			continue
		}
		of := func(m *member) bool { return m.priority == i+1 && m.allowed() }
		if out.panics && tiers[i].share() < float64(cfg.Panic) {
			out.add(2*i, share, members, of)
			out.parts[len(out.parts)-1].whole = true
			continue
		}
		near := local(tiers[i], over)
		out.add(2*i, share*near, members, func(m *member) bool { return of(m) && m.healthy() && m.zone == zone })
		out.add(2*i+1, share*(1-near), members, func(m *member) bool {
			return of(m) && m.healthy() && (m.zone != zone || zone == "")
		})
	}
	return out
}

// tally adds up the capacity of each priority. What an operator took out is missing from what is healthy, not from
// the total: its load has to go elsewhere. Members whose health is not known yet do not count.
func tally(members []*member, zone string) (tiers [prioritiesMax]tier) {
	for _, m := range members {
		if m.left || m.allowed() && !m.known() {
			continue
		}
		t, w := &tiers[min(m.priority, prioritiesMax)-1], float64(m.weight)
		here := zone != "" && m.zone == zone
		t.total += w
		if here {
			t.localTotal += w
		}
		if m.healthy() {
			t.healthy += w
			if here {
				t.localHealthy += w
			}
		}
	}
	return tiers
}

// add makes a part of the members that want holds for, unless it would be empty.
func (p *plan) add(slot int, share float64, members []*member, want func(*member) bool) {
	if share <= 0 {
		return
	}
	var list []*member
	for _, m := range members {
		if m.weight > 0 && want(m) {
			list = append(list, m)
		}
	}
	if len(list) > 0 {
		p.parts = append(p.parts, part{slot: slot, list: list, share: share})
	}
}

// rebuild makes the snapshot of what is known now and swaps it in. The pool's lock is held.
func (p *Pool) rebuild(now time.Time) {
	do := arrange(p.members, p.deps.Zone, p.cfg)
	s := &snapshot{share: do.share, panics: do.panics, unknown: do.unknown, ids: p.ids}
	if a := p.cfg.Affinity; a != nil {
		s.affinity = []byte(a.Cookie)
	}
	tiers := tally(p.members, p.deps.Zone)
	used, spill := make(map[*member]bool), spillsNot
	for _, m := range p.members {
		m.spills = spillsNot
	}
	weight, sum, upTo := 0.0, 0.0, 0.0
	for _, part := range do.parts {
		sum += part.share
		to := p.spillsTo(part, &tiers)
		spill = max(spill, to)
		for _, m := range part.list {
			used[m], m.spills = true, to
			weight += float64(m.weight)
		}
	}
	if last := do.parts; spill == spillsTier && p.spillCounts() && len(last) > 0 {
		if more := p.beyond(last[len(last)-1].slot / 2); len(more.list) > 0 {
			s.beyond = p.chooserOf(more)
			for _, m := range more.list {
				used[m], m.spills = true, spillsTier
			}
		}
	}
	for _, m := range p.members {
		// Weight 0 means no new picks; what the endpoint has may stay.
		gone := !used[m] && (m.weight > 0 || !m.healthy())
		if used[m] {
			m.skip.Store(false)
		} else {
			m.retire()
		}
		m.Gone.Store(gone)
		p.weigh(m, now)
	}
	for _, part := range do.parts {
		upTo += part.share / sum
		s.groups = append(s.groups, group{upTo: uint64(min(upTo, 0.9999999) * (1 << 63) * 2), by: p.chooserOf(part)})
	}
	s.inUse = len(used)
	if spill != spillsNot && !p.spill.active {
		p.spill.at = time.Time{} // at once: what fails over comes all together
		p.overflow(now)
		p.kick()
	}
	if len(s.groups) == 0 {
		s.refusal = refuseDown
		if do.capacity == 0 {
			s.refusal = refuseNone
		}
	}
	p.methodOf(s, weight)
	p.snap.Store(s)
	p.dirty = false
	p.tellPanic(do)
}

// weigh brings the factor of m up to date.
func (p *Pool) weigh(m *member, now time.Time) {
	m.setFactor(m.vitals.factor(now), m.believed())
	trial := m.trial || m.probation.on
	if busy := m.InFlight.Load(); trial && (!m.alert.Load() || busy < m.before.Load()) {
		m.before.Store(busy) // what hangs there since before is not the one request of the trial
	}
	m.alert.Store(trial)
	m.hush.Store(m.ejected || m.reluctant)
	insure := int64(0)
	if trial || m.doubt != 0 {
		insure = m.slowAt.Load()
	}
	m.Insure.Store(insure)
}

// methodOf fills in what the method needs.
func (p *Pool) methodOf(s *snapshot, weight float64) {
	s.compare = compares(p.cfg)
	s.wakes = s.compare || p.spillCounts() && p.apart()
	switch p.cfg.Method {
	case site.MethodHash:
		s.hash = newKeyer(p.cfg.Hash)
		s.cap = max(float64(p.cfg.Hash.Balance), 1) / max(weight, 1)
		var sum int64
		for _, m := range p.members {
			sum += m.InFlight.Load()
		}
		p.total.Store(sum)
	case site.MethodEWMA:
		s.timed, s.learn = true, learnLatency
	case site.MethodPrequal:
		s.timed, s.learn = true, learnCurve
	case site.MethodLeastRequests:
		s.learn = learnFaults
	}
	if math.IsInf(s.cap, 0) {
		s.cap = 0
	}
}

// chooserOf makes the chooser of one part by the pool's method.
func (p *Pool) chooserOf(of part) chooser {
	turn := &p.turns[of.slot]
	switch p.cfg.Method {
	case site.MethodRoundRobin:
		return &roundRobin{list: of.list, turn: turn}
	case site.MethodWeighted:
		return newWeighted(of.list, turn)
	case site.MethodEWMA:
		return &ewma{newSampler(of.list)}
	case site.MethodHash:
		return p.tableOf(of)
	case site.MethodPrequal:
		return &prequal{sampler: newSampler(of.list), hot: &p.hot}
	}
	return &leastRequests{newSampler(of.list), p.nanos}
}
