// Package probe finds out whether endpoints are well: it asks each of them on a fixed schedule, judges the answer, and keeps the verdicts.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Limits of one Prober.
const (
	// inFlightMax is how many probes run at once. 10,000 endpoints of which every one hangs until the default
	// timeout of 2s, each asked every 5s, keep 4,000 in flight; each costs one descriptor and some 20 KiB.
	inFlightMax = 4096
	// commandsMax is how many of them are commands: processes cost a thousand times more than connections.
	commandsMax = 64
	// tick is the shortest sleep of the scheduler: 2,000 probes per second then cost at most 1,000 wake-ups.
	tick = time.Millisecond
	// complainEvery keeps a node without descriptors from filling its log with that one message.
	complainEvery = time.Minute
)

// Target is what is asked. It must not be changed once it was given away.
type Target struct {
	Address string      // host:port
	TLS     *tls.Config // how the pool speaks TLS to its endpoints; nil: it does not
	H2      bool        // the endpoint speaks HTTP/2 only: by prior knowledge, or by ALPN with TLS
}

// Verdict is the result of one probe.
type Verdict struct {
	At      time.Time // when the probe ended
	Healthy bool
	// Void says that the probe could not be made for want of something on this side (descriptors, ports, memory).
	// It says nothing about the endpoint: a node that runs out of descriptors must not call all endpoints sick.
	Void   bool
	Reason string        // why, for people: "status 503, want 200-399"; at most 200 bytes
	Took   time.Duration // from the start of the probe to its end
}

// Status is what a Prober does at one moment.
type Status struct {
	Targets int    // endpoints probed
	Running int    // probes in flight
	Waiting int    // probes that are due and wait for one of those to end
	Probes  uint64 // probes ended since the start
	Skipped uint64 // turns left out, because the endpoint's last probe still ran or the node stood still
	Void    uint64 // probes that could not be made; see Verdict.Void
	// LagMax is how late a probe began at the worst within the last one to two minutes.
	LagMax time.Duration
}

// Prober asks endpoints. All methods may be called from any goroutine.
type Prober struct {
	log *slog.Logger
	ask func(p *plan, ctx context.Context, t Target) finding

	wake chan struct{} // holds one: look at the schedule again
	wg   sync.WaitGroup

	mu         sync.Mutex
	sched      schedule
	plans      map[*site.Probe]*plan
	running    bool
	probes     uint64
	void       uint64
	complained time.Time
}

// Handle is one endpoint that is being probed.
type Handle struct {
	turns // guarded by prober.mu

	prober *Prober
	target Target
	plan   *plan
	on     func(Verdict)
	cancel context.CancelFunc // ends the probe in flight; guarded by prober.mu
}

var errRunsAlready = errors.New("prober runs already")

// New makes a Prober. It probes nothing before Run. A nil log discards.
func New(log *slog.Logger) *Prober {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	return &Prober{
		log:   log,
		ask:   (*plan).ask,
		wake:  make(chan struct{}, 1),
		sched: newSchedule(rnd, inFlightMax, commandsMax),
		plans: make(map[*site.Probe]*plan),
	}
}

// Add starts to probe t as cfg says: once at once, and then at its own phase of cfg.Every, each turn up to a tenth of
// Every early or late. A nil cfg, and zero fields in it, mean the site file's defaults; cfg must not change any more.
// on gets every verdict, one at a time, on a goroutine of Run; it may call Stop. It is not called for
// a probe that Stop or the end of Run cut short. A cfg that Check would refuse yields that mistake as
// the verdict of every turn.
func (p *Prober) Add(t Target, cfg *site.Probe, on func(Verdict)) *Handle {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &Handle{prober: p, target: t, plan: p.planOf(cfg), on: on}
	h.turns.owner = h
	lane := laneNet
	if h.plan.command() {
		lane = laneExec
	}
	p.sched.add(&h.turns, time.Now(), h.plan.every, lane)
	p.nudge()
	return h
}

// Stop ends probing and cuts a probe in flight short. It does not wait, so that it may be called
// under a lock that the callback takes too: one verdict that is already on its way may still come.
func (h *Handle) Stop() {
	p := h.prober
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sched.remove(&h.turns) {
		return
	}
	if h.cancel != nil {
		h.cancel()
	}
	if h.plan.users--; h.plan.users == 0 {
		delete(p.plans, h.plan.cfg)
	}
	p.nudge()
}

// Run probes until ctx ends, and returns nil once the last probe in flight was cut short and has ended.
func (p *Prober) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.running {
		p.mu.Unlock()
		return errRunsAlready
	}
	p.running = true
	p.mu.Unlock()
	defer func() {
		p.wg.Wait()
		p.mu.Lock()
		p.running = false
		p.mu.Unlock()
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		var due <-chan time.Time
		if wait, ok := p.turn(ctx); ok {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-due:
		}
	}
	return nil
}

// turn starts what is due and says how long to sleep; false: until something changes.
func (p *Prober) turn(ctx context.Context) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.sched.start(time.Now()) {
		h := t.owner
		c, cancel := context.WithTimeout(ctx, h.plan.timeout)
		h.cancel = cancel
		p.wg.Go(func() { p.one(ctx, c, h) })
	}
	due, ok := p.sched.next()
	return max(time.Until(due), tick), ok
}

// one makes one probe. run is the context of the whole prober, ctx that of this probe.
func (p *Prober) one(run, ctx context.Context, h *Handle) {
	v := h.plan.verdict(ctx, h.target, p.ask)
	p.mu.Lock()
	h.cancel()
	h.cancel = nil
	cut := run.Err() != nil || h.turns.gone
	if !cut {
		p.count(h, v)
	}
	p.mu.Unlock()
	if !cut && h.on != nil {
		h.on(v)
	}
	// Only now is the target's turn over: a slow callback skips turns and never runs twice at once.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sched.done(&h.turns) {
		p.nudge()
	}
}

// count keeps the figures of Status. The caller holds mu.
func (p *Prober) count(h *Handle, v Verdict) {
	p.probes++
	if !v.Void {
		return
	}
	p.void++
	if v.At.Sub(p.complained) >= complainEvery {
		p.complained = v.At
		p.log.Warn("probe could not be made, the endpoint's health stays as it was", "address", h.target.Address, "reason", v.Reason)
	}
}

// Status says what the prober does now.
func (p *Prober) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sched.status(time.Now())
	s.Probes = p.probes
	s.Void = p.void
	return s
}

// nudge makes Run look at the schedule again.
func (p *Prober) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// planOf compiles cfg, once for all targets that share it: 10,000 copies of one regular expression would
// weigh tens of megabytes. The caller holds mu.
func (p *Prober) planOf(cfg *site.Probe) *plan {
	pl := p.plans[cfg]
	if pl == nil {
		pl = compile(cfg)
		p.plans[cfg] = pl
	}
	pl.users++
	return pl
}
