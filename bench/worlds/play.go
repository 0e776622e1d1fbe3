package worlds

import (
	"math/rand/v2"
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/exchange"
)

// kind is what happens at an event.
type kind uint8

const (
	arrives kind = iota
	served       // a worker is done, first come first served
	shared       // work may be done at a server that shares
	tired        // the queue's patience is over
	steps
	looks // who waits, while nothing is known
	rests // a ghost's place is free
	tick
)

type event struct {
	kind    kind
	server  *server
	request *request
	version int
	took    float64
	no      int
}

// agenda is what will happen, soonest first, and in the order in which it was noted. Its heap holds no pointers: most of the time of a play is
// spent moving its entries.
type agenda struct {
	heap  []entry
	slots []event
	free  []int32
	order uint32
}

type entry struct {
	at    time.Duration
	order uint32
	slot  int32
}

func (a entry) before(b entry) bool { return a.at < b.at || a.at == b.at && a.order < b.order }

func (a *agenda) push(at time.Duration, e event) {
	slot := int32(len(a.slots))
	if n := len(a.free); n > 0 {
		slot, a.free = a.free[n-1], a.free[:n-1]
		a.slots[slot] = e
	} else {
		a.slots = append(a.slots, e)
	}
	a.order++
	a.heap = append(a.heap, entry{at, a.order, slot})
	for i := len(a.heap) - 1; i > 0; {
		up := (i - 1) / 4
		if !a.heap[i].before(a.heap[up]) {
			break
		}
		a.heap[i], a.heap[up] = a.heap[up], a.heap[i]
		i = up
	}
}

// next is when the next happens; ok: there is one.
func (a *agenda) next() (at time.Duration, ok bool) {
	if len(a.heap) == 0 {
		return 0, false
	}
	return a.heap[0].at, true
}

func (a *agenda) pop() event {
	top, last := a.heap[0], len(a.heap)-1
	a.heap[0] = a.heap[last]
	a.heap = a.heap[:last]
	for i := 0; ; {
		least := i
		for c := 4*i + 1; c <= min(4*i+4, last-1); c++ {
			if a.heap[c].before(a.heap[least]) {
				least = c
			}
		}
		if least == i {
			break
		}
		a.heap[i], a.heap[least] = a.heap[least], a.heap[i]
		i = least
	}
	a.free = append(a.free, top.slot)
	e := a.slots[top.slot]
	a.slots[top.slot] = event{}
	return e
}

// request is one on its way.
type request struct {
	shed.Waiter
	came    time.Duration
	began   time.Duration
	size    float64 // in units of the mean
	n       int     // in flight with it when it was let in
	rank    int     // of these, at its server
	era     uint32
	server  *server
	waits   bool
	inside  bool
	left    bool
	settled bool
}

// knows is where a gate has its knowledge from.
type knows uint8

const (
	learns knows = iota // it finds out: ours
	told                // it is told each change at once: what could be won at best
	late                // it is told when answers could have shown the change to one who only counts them: what could be won by learning
)

// play is one run of a world.
type play struct {
	world   *World
	knows   knows
	places  float64 // as the gate was told
	hears   int     // answers until it is
	now     time.Duration
	agenda  agenda
	patient []*request // who came, in order: all have the same patience
	gone    int        // of these
	rand    *rand.Rand // arrivals and picks
	servers []*server
	demand  float64 // requests per second
	slow    float64
	failing bool
	workers float64 // by which those of the beginning are multiplied
	serial  int
	calmAt  time.Duration // nothing changed since some time before this, and demand is low

	core     *shed.Core
	waiting  map[*shed.Waiter]*request
	inFlight int
	era      uint32  // of the gate
	old      int     // in flight since before it
	area     float64 // of those in flight since the last look, over time
	oldArea  float64 // and of those in flight since before the era
	since    time.Duration
	answers  int           // since then
	toOld    int           // of these, to those from before the era
	hasty    int           // clients that left since then…
	stayed   float64       // …and the seconds that they were inside
	recent   time.Duration // the last answer
	win      shed.Window
	nextLook time.Duration
	mean     float64

	Result
}

// Result is what came of a run.
type Result struct {
	Sent, Good         int
	CriticalSent       int // while critical demand could be served
	CriticalGood       int
	CalmSent, CalmShed int // while nothing needed refusing
	ModestSent         int // of others than the greedy tenant, from when a fifth of the time was over until nine tenths were
	ModestGood         int
	Refused            int
	Story              []Moment
}

// Moment is one line of a story.
type Moment struct {
	At                      time.Duration
	Demand, Capacity, Good  float64 // per second
	Refused                 float64
	Limit, Workers          float64
	Service                 float64
	InFlight, Waiting, True int
}

func (p *play) at(t time.Duration, e event) { p.agenda.push(t, e) }

// run plays the world; every: how far moments of the story are apart, 0 for none.
func run(w *World, gate knows, every time.Duration) Result {
	p := &play{world: w, knows: gate, rand: rand.New(rand.NewPCG(w.Seed, 0xface)), slow: 1, workers: 1, waiting: map[*shed.Waiter]*request{}}
	for i := range w.Endpoints {
		one := &server{workers: float64(w.Workers), service: w.Service.Seconds(), sharing: w.Sharing}
		if w.Uneven != nil {
			one.service *= w.Uneven[i]
		}
		p.servers = append(p.servers, one)
	}
	p.core = shed.NewCore(shed.Config{Endpoints: w.Endpoints, ReserveStandard: 0.04, ReserveLow: 0.01, SwitchLow: true})
	for i := range w.Steps {
		p.at(w.Steps[i].At, event{kind: steps, no: i})
	}
	p.at(0, event{kind: arrives})
	p.at(0, event{kind: looks})
	if every > 0 {
		p.at(every, event{kind: tick})
	}
	last := Result{}
	for {
		at, ok := p.agenda.next()
		if p.gone < len(p.patient) {
			if x := p.patient[p.gone]; !ok || x.came+w.Timeout < at {
				p.patient[p.gone] = nil
				p.gone++
				if p.now = x.came + w.Timeout; p.now > w.Length {
					break
				}
				p.leave(x)
				continue
			}
		}
		if !ok || at > w.Length {
			break
		}
		p.now = at
		e := p.agenda.pop()
		if e.kind == tick {
			p.tell(every, &last)
			p.at(p.now+every, event{kind: tick})
			continue
		}
		p.happen(e)
	}
	return p.Result
}

func (p *play) happen(e event) {
	switch e.kind {
	case steps:
		p.step(p.world.Steps[e.no])
	case arrives:
		p.at(p.now+seconds(p.rand.ExpFloat64()/p.rate()), event{kind: arrives})
		p.arrive()
	case served:
		e.server.busy--
		e.server.inside--
		p.answered(e.request, 200, e.took)
		e.server.dispatch(p)
	case shared:
		if e.server.version == e.version {
			e.server.done(p)
		}
	case tired:
		if e.request.waits && p.core.Expire(p.now, &e.request.Waiter) {
			p.refused(p.take(&e.request.Waiter))
		}
	case looks:
		p.look()
		p.grant()
		if next := p.core.Opens(p.now); next > 0 {
			p.at(next, event{kind: looks})
		}
	case rests:
		p.inside(-1)
		p.grant()
	}
}

// rate is how many requests come per second.
func (p *play) rate() float64 {
	return p.demand + p.world.Critical*p.world.Capacity() + p.world.Others.rate(p.now)
}

// capacity is what the servers could answer now, per second.
func (p *play) capacity() float64 { return p.world.Capacity() * p.workers / p.slow }

func (p *play) step(s Step) {
	w := p.world
	if s.Demand > 0 {
		p.demand = max(s.Demand-w.Critical, min(0.05, s.Demand)) * w.Capacity()
	}
	if s.Workers > 0 {
		p.workers = 0
		for _, one := range p.servers {
			one.resize(p, max(1, float64(int(float64(w.Workers)*s.Workers+0.5))))
			p.workers += one.workers / float64(w.Workers*w.Endpoints)
		}
	}
	if s.Slow > 0 {
		p.slow = s.Slow
	}
	p.failing = s.Failing
	p.calmAt = p.now + max(100*seconds(w.Service.Seconds()*p.slow), 2*time.Second)
	switch {
	case p.knows == told:
		p.tellTruth()
	case p.knows == late && (s.Workers > 0 || s.Slow > 0 || p.places == 0 && p.hears == 0):
		p.hears = w.shows(p.workers)
	}
}

// calm reports whether nothing needs refusing: the load is low, and old trouble is over.
func (p *play) calm() bool {
	return p.now > p.calmAt && !p.failing && p.rate() < 0.7*p.capacity() && p.servers[0].workers*float64(len(p.servers)) >= 10
}

func (p *play) arrive() {
	w := p.world
	x := &request{came: p.now, size: w.draw(p.serial)}
	p.serial++
	if more := w.Others.rate(p.now); more > 0 && p.rand.Float64() < more/p.rate() {
		x.size = w.Others.Times
	}
	lot := p.rand.Float64() * p.rate()
	switch {
	case lot < w.Critical*w.Capacity():
		x.Class = exchange.Critical
	case p.rand.Float64() < w.Low:
		x.Class = exchange.Low
	}
	x.Tenant = uint64(p.rand.IntN(w.Tenants))
	if w.Greedy > 0 && p.rand.Float64() < w.Greedy {
		x.Tenant = greedy
	}
	p.Sent++
	if p.fair(x) {
		p.CriticalSent++
	}
	if p.modest(x) {
		p.ModestSent++
	}
	if p.calm() {
		p.CalmSent++
	}
	p.patient = append(p.patient, x)
	p.look()
	answer, out := p.core.Arrive(p.now, &x.Waiter, p.inFlight < p.limit())
	if out != nil {
		p.refused(p.take(out))
	}
	switch answer {
	case shed.Enter:
		p.enter(x)
	case shed.Wait:
		x.waits = true
		p.waiting[&x.Waiter] = x
		p.nextLook = p.core.Again(p.now)
		p.at(p.now+p.core.Patience(p.now, &x.Waiter), event{kind: tired, request: x})
		p.grant()
	default:
		p.refused(x)
	}
}
