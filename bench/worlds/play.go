package worlds

import (
	"container/heap"
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
	leaves       // the client's patience is over
	tired        // the queue's patience is over
	steps
	rests // a ghost's place is free
	tick
)

type event struct {
	at      time.Duration
	order   int
	kind    kind
	server  *server
	request *request
	version int
	took    float64
	no      int
}

type events []event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// request is one on its way.
type request struct {
	shed.Waiter
	came    time.Duration
	began   time.Duration
	size    float64 // in units of the mean
	n       int     // in flight with it when it was let in
	server  *server
	waits   bool
	inside  bool
	left    bool
	settled bool
}

// play is one run of a world.
type play struct {
	world   *World
	told    bool // the gate is told the truth: what could be won at best
	now     time.Duration
	events  events
	order   int
	rand    *rand.Rand // arrivals and picks
	servers []*server
	demand  float64 // requests per second
	slow    float64
	failing bool
	workers float64 // by which those of the beginning are multiplied
	serial  int
	stepNo  int
	calmAt  time.Duration // nothing changed since some time before this, and demand is low

	core     *shed.Core
	waiting  map[*shed.Waiter]*request
	inFlight int
	win      shed.Window
	nextLook time.Duration
	pushed   int
	mean     float64

	Result
}

// Result is what came of a run.
type Result struct {
	Sent, Good         int
	CriticalSent       int // while critical demand could be served
	CriticalGood       int
	CalmSent, CalmShed int // while nothing needed refusing
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

func (p *play) at(t time.Duration, e event) {
	p.order++
	e.at, e.order = t, p.order
	heap.Push(&p.events, e)
}

// run plays the world; told: with a gate that knows the truth; every: how far moments of the story are apart, 0 for none.
func run(w *World, told bool, every time.Duration) Result {
	p := &play{world: w, told: told, rand: rand.New(rand.NewPCG(w.Seed, 0xface)), slow: 1, workers: 1, waiting: map[*shed.Waiter]*request{}}
	for range w.Endpoints {
		p.servers = append(p.servers, &server{workers: float64(w.Workers), sharing: w.Sharing})
	}
	p.core = shed.NewCore(shed.Config{Endpoints: w.Endpoints, ReserveStandard: 0.04, ReserveLow: 0.01, SwitchLow: true})
	for i := range w.Steps {
		p.at(w.Steps[i].At, event{kind: steps, no: i})
	}
	p.at(0, event{kind: arrives})
	if every > 0 {
		p.at(every, event{kind: tick})
	}
	last := Result{}
	for len(p.events) > 0 {
		e := heap.Pop(&p.events).(event)
		if e.at > w.Length {
			break
		}
		p.now = e.at
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
	case leaves:
		p.leave(e.request)
	case tired:
		if e.request.waits && p.core.Expire(p.now, &e.request.Waiter) {
			p.refused(p.take(&e.request.Waiter))
		}
	case rests:
		p.inFlight--
		p.grant()
	}
}

// rate is how many requests come per second.
func (p *play) rate() float64 { return p.demand + p.world.Critical*p.world.Capacity() }

// capacity is what the servers could answer now, per second.
func (p *play) capacity() float64 { return p.world.Capacity() * p.workers / p.slow }

func (p *play) step(s Step) {
	w := p.world
	if s.Demand > 0 {
		p.demand = max(s.Demand-w.Critical, 0.05) * w.Capacity()
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
	if p.told {
		p.core.Told(float64(w.Workers*w.Endpoints)*p.workers, w.Service.Seconds()*p.slow)
		p.grant()
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
	lot := p.rand.Float64() * p.rate()
	switch {
	case lot < w.Critical*w.Capacity():
		x.Class = exchange.Critical
	case p.rand.Float64() < w.Low:
		x.Class = exchange.Low
	}
	x.Tenant = uint64(p.rand.IntN(w.Tenants))
	if w.Greedy && p.rand.IntN(2) == 0 {
		x.Tenant = 99
	}
	p.Sent++
	if p.fair(x) {
		p.CriticalSent++
	}
	if p.calm() {
		p.CalmSent++
	}
	p.at(p.now+w.Timeout, event{kind: leaves, request: x})
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
		p.at(p.now+p.core.Patience(p.now, &x.Waiter), event{kind: tired, request: x})
		p.grant()
	default:
		p.refused(x)
	}
}
