package client

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/contain/throttle"
)

// hosts are those that were asked lately.
type hosts struct {
	o     *Options
	clock atomic.Uint64 // counts requests: who was asked when

	mu    sync.RWMutex
	known map[string]*host
}

func (s *hosts) init(o *Options) { s.o, s.known = o, map[string]*host{} }

// of is the host of that name, with the count of this request.
func (s *hosts) of(name string) *host {
	s.mu.RLock()
	h := s.known[name]
	s.mu.RUnlock()
	if h == nil {
		h = s.add(name)
	}
	h.used.Store(s.clock.Add(1))
	return h
}

// add remembers a new host. The one that was asked longest ago goes for it: requests under way keep theirs.
func (s *hosts) add(name string) *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.known[name]; h != nil {
		return h
	}
	if len(s.known) >= s.o.Hosts {
		oldest := ""
		for n, h := range s.known {
			if oldest == "" || h.used.Load() < s.known[oldest].used.Load() {
				oldest = n
			}
		}
		delete(s.known, oldest)
	}
	h := newHost(name, s.o)
	s.known[name] = h
	return h
}

// host is what is remembered of one.
type host struct {
	name    string
	o       *Options
	used    atomic.Uint64
	breaker *breaker.Breaker

	requests, attempts, repeats, hedges, throttled, broken atomic.Uint64

	mu       sync.Mutex // guards what follows. The breaker is never called with it held: it calls back
	throttle [classes]*throttle.Throttle
	budget   budget
}

func newHost(name string, o *Options) *host {
	h := &host{name: name, o: o, budget: newBudget(o.Share)}
	h.forgive()
	h.breaker = breaker.New(o.Breaker, breaker.Deps{Random: o.Random, On: func(c breaker.Change) {
		if c.From == breaker.HalfOpen && c.To == breaker.Closed {
			h.forgive()
		}
	}}, time.Now())
	return h
}

// forgive forgets what the host has refused: trials went well, and what was before them says nothing any more.
func (h *host) forgive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.throttle {
		h.throttle[i] = throttle.New(h.o.Throttle)
	}
}

// ask says whether an attempt may be sent. Who gets a ticket tells done what became of it.
func (h *host) ask(now time.Time, class Class, random float64) (ticket breaker.Ticket, refused *Refused) {
	if !h.o.NoBreaker {
		var ok bool
		if ticket, ok = h.breaker.Allow(now, 0); !ok {
			h.broken.Add(1)
			return ticket, &Refused{Host: h.name, Stage: StageBreaker, Why: h.breaker.Why(now), Wait: h.breaker.Wait(now)}
		}
	}
	if h.o.NoThrottle || ticket.Trial() {
		return ticket, nil
	}
	h.mu.Lock()
	t := h.throttle[class.index()]
	held := t.Refuse(now, random)
	requests, accepts := t.Seen(now)
	h.mu.Unlock()
	if !held {
		return ticket, nil
	}
	h.throttled.Add(1)
	return ticket, &Refused{Host: h.name, Stage: StageThrottle, Why: fmt.Sprintf("of the last %d requests it accepted %d", requests, accepts)}
}

// done takes the end of an attempt in. accepted counts for the throttle, when it says anything.
func (h *host) done(ticket breaker.Ticket, now time.Time, class Class, r breaker.Result, accepted bool) {
	if !h.o.NoBreaker {
		h.breaker.Done(ticket, now, r)
	}
	if h.o.NoThrottle || r.Outcome == breaker.Ignored {
		return
	}
	h.mu.Lock()
	h.throttle[class.index()].Done(now, accepted)
	h.mu.Unlock()
}

// earn counts a request for the budget.
func (h *host) earn(now time.Time) {
	h.requests.Add(1)
	h.mu.Lock()
	h.budget.request(now)
	h.mu.Unlock()
}

// take takes one repeat from the budget.
func (h *host) take(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.budget.take(now)
}

// giveBack returns a repeat that was taken and not made.
func (h *host) giveBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.budget.tokens = min(h.budget.tokens+1, budgetMost)
}

// Status is what a Transport knows of one host.
type Status struct {
	Host      string
	Requests  uint64 // that were asked for
	Attempts  uint64 // that were sent
	Repeats   uint64 // attempts after a failed one
	Hedges    uint64 // attempts beside another one
	Throttled uint64 // not sent: the throttle held them back
	Broken    uint64 // not sent: the breaker was open
	Budget    float64
	Breaker   breaker.Status
	Throttle  map[Class]float64 // chance that a request is held back
}

// Status is what is known of each host, by name.
func (t *Transport) Status() []Status {
	t.hosts.mu.RLock()
	list := make([]*host, 0, len(t.hosts.known))
	for _, h := range t.hosts.known {
		list = append(list, h)
	}
	t.hosts.mu.RUnlock()
	slices.SortFunc(list, func(a, b *host) int { return cmp.Compare(a.name, b.name) })
	now := time.Now()
	out := make([]Status, 0, len(list))
	for _, h := range list {
		out = append(out, h.status(now))
	}
	return out
}

func (h *host) status(now time.Time) Status {
	s := Status{Host: h.name, Requests: h.requests.Load(), Attempts: h.attempts.Load(), Repeats: h.repeats.Load(), Hedges: h.hedges.Load(),
		Throttled: h.throttled.Load(), Broken: h.broken.Load(), Breaker: h.breaker.Status(now), Throttle: map[Class]float64{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Budget = h.budget.tokens
	for _, c := range []Class{Critical, Standard, Low} {
		s.Throttle[c] = h.throttle[c.index()].Chance(now)
	}
	return s
}
