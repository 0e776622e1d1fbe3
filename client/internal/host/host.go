// Package host remembers what the hosts that a program calls can do, and decides for each whether an attempt is sent, and sent again.
package host

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/contain/throttle"
)

// Classes is how many classes of requests are told apart.
const Classes = 3

// Class is the number of a class by its word. What is none is standard.
func Class(word string) int {
	switch word {
	case "critical":
		return 1
	case "low":
		return 2
	}
	return 0
}

// Config is how hosts are dealt with. Zero values are replaced by defaults.
type Config struct {
	Rules      retry.Rules
	Share      float64 // of the requests may be repeats and hedges; 0: retry.Share
	Throttle   throttle.Config
	NoThrottle bool
	Breaker    breaker.Config
	NoBreaker  bool
	Most       int // hosts that are remembered; 0: 1024
	Random     func() float64
}

const defaultMost = 1024

// defaultBreaker looks at failures in a row only: refusals among answers are load, which the throttle sees to. Of the values that were tried with
// bench clients, for crowds of clients that each ask seldom and for few that ask much, these let a server come back soonest.
func defaultBreaker() breaker.Config {
	return breaker.Config{Row: 3, RowFor: time.Second, OpenFor: 2 * time.Second, OpenMax: 15 * time.Second, RetryAfter: 5 * time.Minute, Trials: 1}
}

// Hosts are those that were asked lately. All methods may be called from any goroutine.
type Hosts struct {
	c     Config
	clock atomic.Uint64 // counts requests: who was asked when

	mu    sync.RWMutex
	known map[string]*Host
}

// New makes Hosts that know none.
func New(c Config) *Hosts {
	usual := retry.Default()
	c.Rules.Attempts, c.Rules.On, c.Rules.MaxWait = cmp.Or(c.Rules.Attempts, usual.Attempts), cmp.Or(c.Rules.On, usual.On), cmp.Or(c.Rules.MaxWait, retry.CallerMaxWait)
	if c.Share == 0 {
		c.Share = retry.Share
	}
	c.Share = min(max(c.Share, 0), 1)
	if c.Breaker == (breaker.Config{}) {
		c.Breaker = defaultBreaker()
	}
	if c.Most <= 0 {
		c.Most = defaultMost
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	return &Hosts{c: c, known: map[string]*Host{}}
}

// Of is the host of that name, with one more request for it.
func (s *Hosts) Of(name string, now time.Time) *Host {
	s.mu.RLock()
	h := s.known[name]
	s.mu.RUnlock()
	if h == nil {
		h = s.add(name)
	}
	h.used.Store(s.clock.Add(1))
	h.requests.Add(1)
	h.mu.Lock()
	h.budget.request(now)
	h.mu.Unlock()
	return h
}

// add remembers a new host. The one that was asked longest ago goes for it: requests under way keep theirs.
func (s *Hosts) add(name string) *Host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.known[name]; h != nil {
		return h
	}
	if len(s.known) >= s.c.Most {
		oldest := ""
		for n, h := range s.known {
			if oldest == "" || h.used.Load() < s.known[oldest].used.Load() {
				oldest = n
			}
		}
		delete(s.known, oldest)
	}
	h := newHost(name, &s.c)
	s.known[name] = h
	return h
}

// Host is what is remembered of one.
type Host struct {
	Name    string
	c       *Config
	used    atomic.Uint64
	breaker *breaker.Breaker

	requests, attempts, repeats, hedges, throttled, broken atomic.Uint64

	mu       sync.Mutex // guards what follows. The breaker is never called with it held: it calls back
	throttle [Classes]*throttle.Throttle
	budget   budget
}

func newHost(name string, c *Config) *Host {
	h := &Host{Name: name, c: c, budget: newBudget(c.Share)}
	h.forgive()
	h.breaker = breaker.New(c.Breaker, breaker.Deps{Random: c.Random, On: func(change breaker.Change) {
		if change.From == breaker.HalfOpen && change.To == breaker.Closed {
			h.forgive()
		}
	}}, time.Now())
	return h
}

// forgive forgets what the host has refused: trials went well, and what was before them says nothing any more.
func (h *Host) forgive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.throttle {
		h.throttle[i] = throttle.New(h.c.Throttle)
	}
}

// Ticket is the right to one attempt. Each is given back by Done or Drop.
type Ticket struct {
	b     breaker.Ticket
	class int
}

// Trial says whether the attempt is one of the few that shall show whether the host is well again.
func (t Ticket) Trial() bool { return t.b.Trial() }

// Ask says whether an attempt may be sent.
func (h *Host) Ask(now time.Time, class int) (t Ticket, refused *Refused) {
	t.class = class
	if !h.c.NoBreaker {
		var ok bool
		if t.b, ok = h.breaker.Allow(now, 0); !ok {
			h.broken.Add(1)
			return t, &Refused{Host: h.Name, Stage: StageBreaker, Why: h.breaker.Why(now), Wait: h.breaker.Wait(now)}
		}
	}
	if h.c.NoThrottle || t.Trial() {
		return t, nil
	}
	h.mu.Lock()
	memory := h.throttle[class]
	held := memory.Refuse(now, h.c.Random())
	requests, accepts := memory.Seen(now)
	silence := memory.Silence(now)
	h.mu.Unlock()
	if !held {
		return t, nil
	}
	h.throttled.Add(1)
	refused = &Refused{Host: h.Name, Stage: StageThrottle, Why: fmt.Sprintf("of the last %d requests it accepted %d", requests, accepts), Wait: silence}
	if silence > 0 {
		refused.Why += fmt.Sprintf(", and it asked for %v more of silence", silence.Round(time.Second/10))
	}
	return t, refused
}

// Sent counts an attempt.
func (h *Host) Sent() { h.attempts.Add(1) }

// Done takes the end of an attempt in. accepted counts for the throttle, when the outcome says anything.
func (h *Host) Done(t Ticket, now time.Time, r breaker.Result, accepted bool) {
	if !h.c.NoBreaker {
		h.breaker.Done(t.b, now, r)
	}
	if h.c.NoThrottle || r.Outcome == breaker.Ignored {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	memory := h.throttle[t.class]
	if memory.Done(now, accepted); !accepted && r.RetryAfter > h.c.Rules.MaxWait { // what is shorter is waited for
		memory.Ask(now, r.RetryAfter)
	}
}

// Drop gives a ticket back that was not used, or whose attempt says nothing of the host.
func (h *Host) Drop(t Ticket, now time.Time) {
	h.Done(t, now, breaker.Result{Outcome: breaker.Ignored}, false)
}

// Verdict is what becomes of an attempt that ended.
type Verdict struct {
	Reason retry.Reason
	Kept   string // why what failed is not repeated: a word of retry.Denial, or a stage; empty: it is, or has not failed
	Spent  bool   // what is worth repeating has been tried here, or would be too late: nobody should begin anew
	Again  bool
	Wait   time.Duration // before it is repeated
	Ticket Ticket        // for the repeat
}

// Judge says whether and when another attempt follows the one that ended.
func (h *Host) Judge(ctx context.Context, q retry.Request, a retry.Attempt, class int) Verdict {
	j := h.c.Rules.Judge(q, a)
	v := Verdict{Reason: j.Reason, Spent: j.Denial == retry.Exhausted && a.Number > 1 || j.Denial == retry.Granted}
	if j.Denial != retry.Granted {
		if j.Denial != retry.Final {
			v.Kept = j.Denial.String()
		}
		return v
	}
	now := time.Now()
	v.Wait = retry.Wait(a, h.c.Random())
	if end, has := ctx.Deadline(); has && !now.Add(v.Wait).Before(end) {
		v.Kept = retry.NoTime.String()
		return v
	}
	if h.silent(now, class) {
		v.Kept = retry.TooLong.String()
		return v
	}
	ticket, refused, ok := h.more(now, class)
	switch {
	case !ok:
		v.Kept = retry.Spent.String()
	case refused != nil:
		v.Kept = refused.Stage
	default:
		h.repeats.Add(1)
		v.Again, v.Spent, v.Ticket = true, false, ticket
	}
	return v
}

// Reason is what failed in an attempt that nobody has to judge, as the one beside it goes on or has answered.
func (h *Host) Reason(a retry.Attempt) retry.Reason {
	return h.c.Rules.Judge(retry.Request{}, a).Reason
}

// silent says whether the host has asked for silence: what need not be sent is not.
func (h *Host) silent(now time.Time, class int) bool {
	if h.c.NoThrottle {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.throttle[class].Silence(now) > 0
}

// Hedge says whether a second attempt may be made beside the first.
func (h *Host) Hedge(now time.Time, class int) (Ticket, bool) {
	if h.silent(now, class) {
		return Ticket{}, false
	}
	ticket, refused, ok := h.more(now, class)
	if !ok || refused != nil {
		return ticket, false
	}
	h.hedges.Add(1)
	return ticket, true
}

// more takes one repeat from the budget and asks for its ticket; ok is false when the budget has none.
func (h *Host) more(now time.Time, class int) (t Ticket, refused *Refused, ok bool) {
	h.mu.Lock()
	ok = h.budget.take(now)
	h.mu.Unlock()
	if !ok {
		return t, nil, false
	}
	if t, refused = h.Ask(now, class); refused != nil {
		h.mu.Lock()
		h.budget.giveBack()
		h.mu.Unlock()
	}
	return t, refused, true
}

// Status is what is known of one host.
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
	Throttle  [Classes]float64       // chance that a request is held back: standard, critical, low
	Silence   [Classes]time.Duration // what is left of what the host asked for
}

// Status is what is known of each host, by name.
func (s *Hosts) Status() []Status {
	s.mu.RLock()
	list := make([]*Host, 0, len(s.known))
	for _, h := range s.known {
		list = append(list, h)
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b *Host) int { return cmp.Compare(a.Name, b.Name) })
	now := time.Now()
	out := make([]Status, 0, len(list))
	for _, h := range list {
		out = append(out, h.status(now))
	}
	return out
}

func (h *Host) status(now time.Time) Status {
	s := Status{Host: h.Name, Requests: h.requests.Load(), Attempts: h.attempts.Load(), Repeats: h.repeats.Load(), Hedges: h.hedges.Load(),
		Throttled: h.throttled.Load(), Broken: h.broken.Load(), Breaker: h.breaker.Status(now)}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Budget = h.budget.tokens
	for i, t := range h.throttle {
		s.Throttle[i], s.Silence[i] = t.Chance(now), t.Silence(now)
	}
	return s
}
