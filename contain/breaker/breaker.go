// Package breaker decides when to stop asking something that fails, and when to try again.
//
// A Breaker is closed (everything passes), open (nothing passes) or half-open (a few trials pass, and what becomes of them decides). It has
// no clock, no goroutine and no socket: time comes in as an argument, randomness as a function. It needs the standard library only, so
// that programs can use it for their own calls.
//
// While it is closed, Allow reads one word and Done of a success adds to one counter of its shard: no lock, no allocation.
package breaker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// State is what a breaker does with the next request.
type State uint8

// The states.
const (
	Closed   State = iota // everything passes
	HalfOpen              // a few trials pass
	Open                  // nothing passes
)

// String is the state's word.
func (s State) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// Outcome is what became of a request.
type Outcome uint8

// The outcomes.
const (
	Success  Outcome = iota
	Failure          // no answer, or one that says the other side is broken
	Pushback         // "too much", such as 429: load, not death. It counts for the share of failures, not for a row, and fails a trial
	Ignored          // says nothing: given up by the caller, refused before it was sent
)

// Why a breaker changed its state: a closed set, for metrics.
const (
	CauseRow   = "failures_in_row"
	CauseShare = "failure_share"
	CauseSlow  = "slow_share"
	CauseTrial = "trial_failed"
	CauseTime  = "time_over"
	CauseWell  = "trials_passed"
	CauseHand  = "by_hand"
)

// Config says when a breaker opens and closes. The zero value of a rule switches it off; a breaker without rules opens by hand only.
type Config struct {
	Row        int           // failures in a row that open; 0: not looked at
	RowFor     time.Duration // such a row must have lasted this long, so that a blink is none
	Failures   float64       // share of failures and pushback in the window that opens, above 0 to 1; 0: not looked at
	Slow       time.Duration // a success that took this long is slow; 0: none is
	SlowShare  float64       // share of slow successes in the window that opens, above 0 to 1; 0: not looked at
	Samples    int           // fewer outcomes in the window say nothing of shares; at least 1
	Window     time.Duration // shares are counted over this, in ten exact parts; 0: 10s
	OpenFor    time.Duration // how long it stays open the first time; doubles with each time in a row; 0: 1s
	OpenMax    time.Duration // and never longer than this, but for RetryAfter; 0: 30s
	RetryAfter time.Duration // how much of a Retry-After is believed; 0: nothing
	Trials     int           // good trials that close; no more are under way at once; 0: 3
	TrialFor   time.Duration // a trial without an end by then has failed, unless as many as close end well later; 0: 30s
}

// rules says whether anything but people opens a breaker.
func (c *Config) rules() bool {
	return c.Row > 0 || c.Failures > 0 || c.Slow > 0 && c.SlowShare > 0
}

// Deps is what a breaker is given. All of it may be left out.
type Deps struct {
	Random func() float64 // from 0 to 1, for jitter: an opening lasts from three quarters of its time to all of it; nil: all of it
	On     func(Change)   // told of each change, in order. It must not call the breaker
	Shards int            // counters are spread over as many cores, a power of two to 64; 0: 1
}

// Change is one change of state.
type Change struct {
	From, To State
	Cause    string // of the closed set above
	Why      string // one sentence for people
	At       time.Time
	For      time.Duration // Open: how long, at the least
}

// Ticket is the right to one request. Each Allow that said yes is followed by one Done with its ticket.
type Ticket struct {
	turn  uint64 // which time between two changes of state it belongs to
	shard uint32
	trial bool
}

// Trial says whether the request is one of the few that a half-open breaker lets through.
func (t Ticket) Trial() bool { return t.trial }

// Result is what became of one request.
type Result struct {
	Outcome    Outcome
	Took       time.Duration // until the answer; 0: unknown
	RetryAfter time.Duration // what the answer asked for; 0: nothing
}

// jitter is the part of an opening that randomness may take away, so that many breakers do not try again at one moment.
const jitter = 0.25

// Breaker is one breaker. All methods may be called from any goroutine.
type Breaker struct {
	deps Deps
	base time.Time
	cfg  atomic.Pointer[Config]

	word   atomic.Uint64 // turn<<2 | State: one word, so that a ticket never mixes two times
	row    atomic.Uint32 // failures in a row
	rowAt  atomic.Int64  // ns since base when it began
	asked  atomic.Int64  // ns since base until which answers asked to wait
	until  atomic.Int64  // Open: ns since base when a trial may be made. HalfOpen: when trials must have ended
	places atomic.Int32  // HalfOpen: trials that may still begin
	window window

	mu       sync.Mutex // guards what follows, and every change of word
	good     int        // HalfOpen: trials that went well
	lateFrom uint64     // turn of the first trials that had no end in time since one failed or it was closed; 0: none
	lateGood int        // of trials since then, those that went well all the same
	openings int        // in a row
	openFor  time.Duration
	closedAt int64
	since    time.Time
	why      string
	cause    string
	forced   bool
	force    State
	forceEnd time.Time
	opened   uint64 // changes to Open
}

// New makes a closed breaker.
func New(cfg Config, deps Deps, now time.Time) *Breaker {
	b := &Breaker{deps: deps, base: now, since: now, why: "as it was made", window: newWindow(deps.Shards)}
	b.Update(cfg)
	return b
}

// Update gives other settings. The state stays.
func (b *Breaker) Update(cfg Config) {
	if cfg.Window <= 0 {
		cfg.Window = 10 * time.Second
	}
	if cfg.OpenFor <= 0 {
		cfg.OpenFor = time.Second
	}
	if cfg.OpenMax <= 0 {
		cfg.OpenMax = 30 * time.Second
	}
	if cfg.TrialFor <= 0 {
		cfg.TrialFor = 30 * time.Second
	}
	if cfg.Trials <= 0 {
		cfg.Trials = 3
	}
	cfg.OpenMax = max(cfg.OpenMax, cfg.OpenFor)
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.cfg.Swap(&cfg)
	if old == nil || old.Window != cfg.Window {
		b.window.setLength(cfg.Window)
	}
}

// State is the state as it was last decided; an opening whose time is over is open until the next Allow or Tick.
func (b *Breaker) State() State { return State(b.word.Load() & 3) }

func (b *Breaker) nanos(now time.Time) int64 { return int64(now.Sub(b.base)) }

// Allow says whether a request may be made at now. shard spreads counters over cores: any value, best steady for one connection.
func (b *Breaker) Allow(now time.Time, shard uint32) (Ticket, bool) {
	word := b.word.Load()
	if State(word&3) == Closed { // nearly always
		return Ticket{turn: word >> 2, shard: shard}, true
	}
	return b.allowFew(word, now, shard)
}

// allowFew is Allow of a breaker that is not closed. What it refuses costs no lock.
func (b *Breaker) allowFew(word uint64, now time.Time, shard uint32) (Ticket, bool) {
	over := b.nanos(now) >= b.until.Load()
	if !over && (State(word&3) == Open || b.places.Load() <= 0) && b.word.Load() == word { // until belongs to that state
		return Ticket{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tick(now)
	word = b.word.Load()
	switch State(word & 3) {
	case Closed:
		return Ticket{turn: word >> 2, shard: shard}, true
	case HalfOpen:
		if b.places.Load() > 0 {
			b.places.Add(-1)
			b.until.Store(b.nanos(now) + int64(b.cfg.Load().TrialFor))
			return Ticket{turn: word >> 2, shard: shard, trial: true}, true
		}
	}
	return Ticket{}, false
}

// Refuses says whether Allow would refuse at now, and changes nothing.
func (b *Breaker) Refuses(now time.Time) bool {
	word := b.word.Load()
	waits := b.nanos(now) < b.until.Load()
	switch State(word & 3) {
	case Closed:
		return false
	case HalfOpen:
		waits = waits && b.places.Load() <= 0
	}
	return waits && b.word.Load() == word
}

// Done tells what became of a request that was allowed. What was allowed before the last change of state says nothing any more: requests
// that waited for something dead end long after it has come back.
func (b *Breaker) Done(t Ticket, now time.Time, r Result) {
	if b.word.Load()>>2 != t.turn {
		if t.trial && r.Outcome == Success {
			b.late(t, now, r)
		}
		return
	}
	if t.trial {
		b.tried(t, now, r)
		return
	}
	cfg := b.cfg.Load()
	at := b.nanos(now)
	switch r.Outcome {
	case Success: // nearly always
		if b.row.Load() != 0 {
			b.row.Store(0)
		}
		if cfg.Slow == 0 || r.Took < cfg.Slow {
			b.window.count(t.shard, at, kindGood)
			return
		}
		b.window.count(t.shard, at, kindSlow)
	case Failure:
		if b.row.Add(1) == 1 {
			b.rowAt.Store(at)
		}
		b.window.count(t.shard, at, kindBad)
		b.ask(at, r.RetryAfter, cfg)
	case Pushback:
		b.window.count(t.shard, at, kindLoad)
		b.ask(at, r.RetryAfter, cfg)
	default:
		return
	}
	b.decide(t, now)
}

// ask remembers a Retry-After.
func (b *Breaker) ask(at int64, after time.Duration, cfg *Config) {
	end := at + int64(min(after, cfg.RetryAfter))
	for old := b.asked.Load(); end > old && end > at; old = b.asked.Load() {
		if b.asked.CompareAndSwap(old, end) {
			return
		}
	}
}

// decide opens a closed breaker when it is time to.
func (b *Breaker) decide(t Ticket, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.word.Load()>>2 != t.turn {
		return
	}
	b.tick(now)
	if b.forced {
		return
	}
	cfg, at := b.cfg.Load(), b.nanos(now)
	row := int(b.row.Load())
	if cfg.Row > 0 && row >= cfg.Row && at-b.rowAt.Load() >= int64(cfg.RowFor) {
		b.open(now, CauseRow, many(row, "failure")+" in a row")
		return
	}
	if cfg.Failures <= 0 && (cfg.Slow <= 0 || cfg.SlowShare <= 0) {
		return
	}
	n := b.window.sum(at)
	all := n.total()
	if all < uint64(max(cfg.Samples, 1)) {
		return
	}
	if bad := n[kindBad] + n[kindLoad]; cfg.Failures > 0 && float64(bad) >= cfg.Failures*float64(all) {
		why := fmt.Sprintf("%d of the last %d failed", bad, all)
		if n[kindLoad] > 0 {
			why += fmt.Sprintf(", %d of them with too much to do", n[kindLoad])
		}
		b.open(now, CauseShare, why)
		return
	}
	if slow := n[kindSlow]; cfg.Slow > 0 && cfg.SlowShare > 0 && float64(slow) >= cfg.SlowShare*float64(all) {
		b.open(now, CauseSlow, fmt.Sprintf("%d of the last %d took %v or longer", slow, all, cfg.Slow))
	}
}

// tried takes the end of a trial in.
func (b *Breaker) tried(t Ticket, now time.Time, r Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.word.Load()>>2 != t.turn {
		return
	}
	cfg := b.cfg.Load()
	what := "failed"
	switch {
	case r.Outcome == Ignored:
		b.places.Add(1)
		return
	case r.Outcome == Pushback:
		what = "found it with too much to do"
	case cfg.slow(r):
		what = fmt.Sprintf("took %v", r.Took.Round(time.Millisecond))
	case r.Outcome == Success:
		if b.good++; b.good >= cfg.Trials {
			b.closedAt = b.nanos(now)
			b.turn(now, Closed, CauseWell, many(b.good, "trial")+" went well")
		}
		return
	}
	b.ask(b.nanos(now), r.RetryAfter, cfg)
	b.lateFrom = 0
	b.open(now, CauseTrial, "a trial "+what)
}

// slow says whether a result is a success that took too long.
func (c *Config) slow(r Result) bool {
	return r.Outcome == Success && c.Slow > 0 && c.SlowShare > 0 && r.Took >= c.Slow
}

// late takes a trial in that went well after the time for it, if no trial has failed since. Who answers everything after 40 seconds, as it should, was never asked again but
// for trials.
func (b *Breaker) late(t Ticket, now time.Time, r Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg := b.cfg.Load()
	if b.forced || b.State() == Closed || b.lateFrom == 0 || t.turn < b.lateFrom || cfg.slow(r) {
		return
	}
	if b.lateGood++; b.lateGood >= cfg.Trials {
		b.closedAt = b.nanos(now)
		b.turn(now, Closed, CauseWell, many(b.lateGood, "trial")+" went well, though late")
	}
}

// many says how many in words.
func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// open opens. The lock is held.
func (b *Breaker) open(now time.Time, cause, why string) {
	cfg, at := b.cfg.Load(), b.nanos(now)
	if b.State() == Closed && at-b.closedAt > max(int64(cfg.Window), 2*int64(b.openFor)) {
		b.openings = 0 // it has served long enough for the past to be past
	}
	b.openFor = min(cfg.OpenFor<<min(b.openings, 20), cfg.OpenMax)
	if b.openFor <= 0 {
		b.openFor = cfg.OpenMax
	}
	b.openings++
	lasts := b.openFor
	if b.deps.Random != nil {
		lasts -= time.Duration(jitter * min(max(b.deps.Random(), 0), 1) * float64(lasts))
	}
	end := max(at+int64(lasts), b.asked.Load())
	b.until.Store(end)
	b.turn(now, Open, cause, why)
}

// turn changes the state. The lock is held. until is set before for Open. For HalfOpen it is set when the state is there: who reads the state, until and the state again, both
// times the same, without the lock, has read what belongs together. Before, one of three trials at once was refused now and then.
func (b *Breaker) turn(now time.Time, to State, cause, why string) {
	word := b.word.Load()
	from, lasts := State(word&3), time.Duration(0)
	switch to {
	case Open:
		b.opened++
		lasts = time.Duration(b.until.Load() - b.nanos(now))
	case HalfOpen:
		cfg := b.cfg.Load()
		b.good = 0
		b.places.Store(int32(min(cfg.Trials, 1<<20)))
	}
	if to == Closed || cause == CauseHand {
		b.lateFrom = 0
	}
	b.row.Store(0)
	b.asked.Store(0)
	b.since, b.why, b.cause = now, why, cause
	b.word.Store((word>>2+1)<<2 | uint64(to))
	if to == HalfOpen {
		b.until.Store(b.nanos(now) + int64(b.cfg.Load().TrialFor))
	}
	b.window.clear()
	if b.deps.On != nil {
		b.deps.On(Change{From: from, To: to, Cause: cause, Why: why, At: now, For: lasts})
	}
}

// Tick lets time pass: an opening or an order by hand ends. Requests do the same; call it where none may come for long.
func (b *Breaker) Tick(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tick(now)
}

// shut closes a breaker that nothing but people opens. The lock is held.
func (b *Breaker) shut(now time.Time) {
	b.closedAt = b.nanos(now)
	b.turn(now, Closed, CauseHand, "only people open it")
}

func (b *Breaker) tick(now time.Time) {
	if b.forced {
		if now.Before(b.forceEnd) {
			return
		}
		b.forced = false
		if b.force == Closed {
			b.row.Store(0)
			b.window.clear()
			b.why = "the order to stay closed is over"
		}
	}
	if b.State() != Closed && !b.cfg.Load().rules() { // a trial that fails would open it, and the next one too, for as long as nobody looks
		b.shut(now)
		return
	}
	if b.nanos(now) < b.until.Load() {
		return
	}
	switch b.State() {
	case Open:
		b.turn(now, HalfOpen, CauseTime, "time for a trial")
	case HalfOpen:
		if int(b.places.Load())+b.good < b.cfg.Load().Trials {
			if b.lateFrom == 0 {
				b.lateFrom, b.lateGood = b.word.Load()>>2, 0
			}
			b.open(now, CauseTrial, "a trial had no end in time")
		}
	}
}
