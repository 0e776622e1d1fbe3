// Package pool chooses the endpoint of each exchange: who is a member, who is well, who leaves, and how the load is spread.
package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// endpointsMax is how many endpoints a pool has at the most: as many as one node can probe.
const endpointsMax = 10_000

// adminMax is how many endpoints may be down or draining by an operator at once, members or not.
const adminMax = endpointsMax

// Deps is what a pool needs of its surroundings. Nil functions, prober and log are allowed.
type Deps struct {
	// Concurrency is how many requests at once the endpoints in use were found to work on; nil or 0: nobody knows.
	Concurrency func() int
	Zone        string                                    // the node's own; empty: none
	Prober      *probe.Prober                             // nil: no probes, and every endpoint counts as healthy
	ProbeTLS    func(cfg *site.Pool) (*tls.Config, error) // how probes speak TLS; nil: plain
	Attach      func(*exchange.Endpoint)                  // called once before an endpoint is first picked
	Detach      func(*exchange.Endpoint)                  // called once after it left and has ended what it had
	Log         *slog.Logger                              // state changes; nil discards
	// Event gets state changes for people, with their cause: endpoint_ and the new state (up, down, drain, ejected,
	// unknown, slow_start), endpoint_ with joined, left, drained or kept (not ejected, for want of capacity);
	// pool_ready, pool_panic, pool_calm; membership_held, membership_applied. Attach, Detach and Event must not call the pool.
	Event func(kind, text string)
	Seed  uint64 // of random picks; 0: a random one
}

// watchFunc starts probing; stop ends it.
type watchFunc func(t probe.Target, cfg *site.Probe, on func(probe.Verdict)) (stop func())

// Pool is a set of endpoints and the way one of them is chosen. All methods may be called from any goroutine. Pick, and
// Done of an answer, take no lock and allocate nothing.
//
// An endpoint is picked once its first probe was good. When none is known to be well and of some nothing is known, those are tried;
// when the healthy part of the capacity is below the panic share, all are used that no operator took out.
type Pool struct {
	name  string
	deps  Deps
	watch watchFunc // nil: no probes
	clock func() time.Time
	base  time.Time

	snap   atomic.Pointer[snapshot]
	dice   [diceCount]die
	total  atomic.Int64 // in flight in all members, kept for the hash method only
	strays atomic.Int64 // exchanges that wait for endpoints which were taken out of service meanwhile
	turns  [lastSlot + 1]atomic.Uint64
	hot    quantile
	ready  atomic.Bool

	asleep   atomic.Bool   // nobody looks: the next pick must wake Run
	reported atomic.Bool   // some endpoint tells its utilisation
	looked   atomic.Int64  // ns on the pool's clock of the last look for a failure
	kicked   chan struct{} // holds one: look at everything again
	changed  chan struct{} // holds one: the way members are found has changed

	change sync.Mutex // held by one change of configuration or membership at a time; taken before mu

	mu       sync.Mutex // guards what follows and what members say it guards; never taken by Pick
	cfg      *site.Pool
	tls      *tls.Config
	members  []*member
	leaving  []*member
	byName   map[string]*member // by address; members and leaving
	ids      map[uint64]*member // never changed: replaced
	admin    map[string]string  // by address; only down and drain
	orders   map[string]hold    // by address; of breakers of endpoints that left, as far as they hold still
	tables   map[int]*maglev
	found    membership
	sourceNo int // which source may change found
	running  bool
	dirty    bool
	panicked bool
	startBy  time.Time // Ready by then, whatever is missing
	queue    []event
	court    court
	spill    spillState
	spilt    atomic.Int64 // refused for want of room, or would have been in a dry run
	spillDry atomic.Bool
	missed   atomic.Int64 // critical ones of them
	// classRoom is the part of the room that a class may fill, a float32; not for critical.
	classRoom [3]atomic.Uint32
	levelled  time.Time // when shares were last moved by utilisation
}

// diceCount spreads random numbers over cores; a power of two.
const diceCount = 64

// die makes random numbers for the connections of one shard. It fills a cache line.
type die struct {
	n atomic.Uint64
	_ [56]byte
}

var _ exchange.Picker = (*Pool)(nil)

var (
	errRunsAlready  = errors.New("pool runs already")
	errUnknownState = errors.New("state is not one of up, down, drain")
	errUnknownHold  = errors.New("state is not one of open, closed, auto")
	errNoEndpoint   = errors.New("pool has no such endpoint")
	errTooManyAdmin = fmt.Errorf("more than %d endpoints are down or draining by an operator", adminMax)
)

// New makes a pool of cfg, whose defaults are applied. An address with a host name is one endpoint; the name is looked up
// at each connect. Nothing is probed or discovered before Run. It fails when there
// are more than 10,000 endpoints, when one stands there twice, and when the TLS material for probes cannot be had.
func New(cfg *site.Pool, deps Deps) (*Pool, error) { return newPool(cfg, deps, time.Now) }

func newPool(cfg *site.Pool, deps Deps, clock func() time.Time) (*Pool, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Seed == 0 {
		deps.Seed = rand.Uint64()
	}
	p := &Pool{name: cfg.Name, deps: deps, clock: clock, kicked: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	p.byName, p.admin, p.tables = make(map[string]*member), make(map[string]string), make(map[int]*maglev)
	p.orders = make(map[string]hold)
	if deps.Prober != nil {
		p.watch = func(t probe.Target, cfg *site.Probe, on func(probe.Verdict)) func() {
			return deps.Prober.Add(t, cfg, on).Stop
		}
	}
	p.base = p.clock()
	for i := range p.dice {
		p.dice[i].n.Store(mix(deps.Seed + uint64(i)<<32))
	}
	if err := p.Update(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// roll makes the next random number of a shard.
func (p *Pool) roll(shard uint32) uint64 { return mix(p.dice[shard%diceCount].n.Add(1)) }

// nanos is the pool's clock for the hot path.
func (p *Pool) nanos() int64 { return int64(p.clock().Sub(p.base)) }

// Pick implements exchange.Picker. When x is tried again (x.Attempt above 1), the endpoints of its attempts are
// avoided if another can be had. With affinity, Pick sets or clears x.SetCookie. Refusals: no_endpoint when
// the pool has none in service, pool_down when none is healthy and panic is off.
func (p *Pool) Pick(x *exchange.Exchange) (*exchange.Endpoint, *exchange.Refusal) {
	s := p.snap.Load()
	if s.refusal != nil {
		return nil, s.refusal
	}
	q := ask{rnd: p.roll(x.Shard)}
	if x.Attempt > 1 {
		q.avoid(x.Endpoint)
		for _, e := range x.Tried {
			q.avoid(e)
		}
	}
	var m, bound *member
	if s.affinity != nil {
		bound = s.bound(x, &q)
	}
	if m = bound; m == nil {
		p.measure(x, s, &q)
		if m = s.choose(q); m == nil {
			return nil, refuseNone
		}
	}
	if !p.roomy(m, x.Class) { // nor for who is bound to it: cookies that were set while there was room led around the bound
		if bound != nil {
			p.measure(x, s, &q)
		}
		switch other := p.elsewhere(x, s, q); {
		case p.spillDry.Load(): // it is counted, and stays as it is
		case other == nil:
			return nil, refuseSpill
		default:
			m = other
		}
	}
	if s.affinity != nil && m != bound {
		bind(x, m)
	}
	p.take(x, s, m)
	return &m.Endpoint, nil
}

// measure fills in what the method looks at.
func (p *Pool) measure(x *exchange.Exchange, s *snapshot, q *ask) {
	if s.timed {
		q.now = p.nanos()
	}
	if s.hash != nil {
		q.key = s.hash.key(x)
		q.cap = s.cap * float64(p.total.Load()+1)
	}
}

func (p *Pool) take(x *exchange.Exchange, s *snapshot, m *member) {
	x.Rank = int32(m.InFlight.Add(1))
	if x.Request != nil {
		m.Await(x)
		if s.wakes && p.asleep.Load() && p.asleep.CompareAndSwap(true, false) {
			p.kick()
		}
	}
	if s.hash != nil && !m.away.Load() {
		p.total.Add(1)
	}
}

// Done implements exchange.Picker. A result without an answer may take the lock of the pool, which changes hands only when
// endpoints come and go.
func (p *Pool) Done(x *exchange.Exchange, e *exchange.Endpoint, r exchange.Result) {
	m := seat(e)
	if m == nil {
		return
	}
	s := p.snap.Load()
	busy := m.InFlight.Add(-1) + 1
	if s.hash != nil && !m.away.Load() {
		p.total.Add(-1)
	}
	m.done.Add(1)
	bad := failed(&r)
	if bad {
		m.failures.Add(1)
	}
	if x.Request != nil {
		m.Heard(x)
	}
	if s.compare && x.Request != nil {
		if m.note(&r) {
			p.hurry()
		}
		if m.alert.Load() {
			p.tryOut(m, &r)
		}
	}
	if r.Utilisation > 0 {
		p.reports(m, r.Utilisation)
	}
	switch s.learn {
	case learnFaults:
		if bad || m.fault.word.Load() != 0 {
			m.learnFaults(p, &r)
		}
	case learnLatency:
		m.learnLatency(p.nanos(), &r)
	case learnCurve:
		m.learnCurve(p.nanos(), &r, busy)
	}
	switch r.Kind {
	case exchange.Answered:
		if r.Latency > 0 {
			m.took.Store(meanOf(m.took.Load(), int64(r.Latency)))
		}
		p.answered(m, &r)
	case exchange.Cancelled:
	default:
		p.unanswered(m, &r)
	}
}

// hurry has the pool look at once after failures, though not at each of a flood.
func (p *Pool) hurry() {
	now := p.nanos()
	if last := p.looked.Load(); now-last >= int64(quickLook) && p.looked.CompareAndSwap(last, now) {
		p.kick()
	}
}

// tryOut takes an answer on probation in.
func (p *Pool) tryOut(m *member, r *exchange.Result) {
	p.mu.Lock()
	defer p.unlock()
	if m.probation.on {
		p.onTrial(m, r)
	}
}

// meanOf moves a mean towards a sample, as far as one in 16 counts.
func meanOf(mean, sample int64) int64 {
	if mean == 0 {
		return sample
	}
	return mean + (sample-mean)/16
}

// bound is the member that the client's cookie names, when it may be picked.
func (s *snapshot) bound(x *exchange.Exchange, q *ask) *member {
	x.SetCookie = nil
	if x.Request == nil {
		return nil
	}
	for i := range x.Request.Fields {
		f := &x.Request.Fields[i]
		if f.ID != wire.Cookie {
			continue
		}
		id, ok := readID(cookieIn(f.Value, s.affinity))
		if !ok {
			continue
		}
		if m := s.ids[id]; m != nil && !m.skip.Load() && !q.avoids(m) && !m.tested() {
			return m
		}
	}
	return nil
}

// bind makes the answer carry the cookie of m.
func bind(x *exchange.Exchange, m *member) {
	b := m.bond.Load()
	switch {
	case b == nil || x.Request == nil:
	case x.Secure:
		x.SetCookie = b.secure
	default:
		x.SetCookie = b.plain
	}
}

// Ready says whether the first verdicts on the first members are there, or the time for them has passed. Until then node
// keeps its listeners closed. Once true it stays true.
func (p *Pool) Ready() bool { return p.ready.Load() }

// SetState makes the endpoint at address up, down or drain, by an operator. It is remembered over Update and when
// the endpoint leaves and comes again, not over a restart.
func (p *Pool) SetState(address, state string) error {
	if state != StateUp && state != StateDown && state != StateDrain {
		return fmt.Errorf("cannot set endpoint %s of pool %s to %q: %w", address, p.name, state, errUnknownState)
	}
	p.mu.Lock()
	defer p.unlock()
	m, old := p.byName[address], p.admin[address]
	if m == nil && old == "" {
		return fmt.Errorf("cannot set endpoint %s of pool %s to %s: %w", address, p.name, state, errNoEndpoint)
	}
	if state == StateUp {
		delete(p.admin, address)
	} else {
		if old == "" && len(p.admin) >= adminMax {
			return fmt.Errorf("cannot set endpoint %s of pool %s to %s: %w", address, p.name, state, errTooManyAdmin)
		}
		p.admin[address] = state
	}
	// Up also ends an ejection: the operator knows better.
	if m != nil && !m.left && (m.admin != state || state == StateUp && (m.ejected || m.reluctant)) {
		p.setAdmin(m, state, p.clock())
	}
	return nil
}

// Run probes the endpoints and follows membership until ctx ends. It returns once everything it started has ended.
func (p *Pool) Run(ctx context.Context) error {
	if err := p.start(); err != nil {
		return err
	}
	defer p.stopAll()
	var wg sync.WaitGroup
	defer wg.Wait()
	end := p.discover(ctx, &wg)
	defer func() { end() }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		began := time.Now()
		wait := p.look(p.clock())
		// A storm of changes in a large pool must not cost more than a fifth of a core. What went away is out of the
		// picks already.
		if !pause(ctx, 4*time.Since(began)) {
			return nil
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
			end()
			end = p.discover(ctx, &wg)
		case <-p.kicked:
		case <-due:
		}
	}
}

// pause waits for d when it is worth it, and says whether ctx still holds.
func pause(ctx context.Context, d time.Duration) bool {
	if d < time.Millisecond {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
