// Package shed keeps the endpoints of a pool from more requests at once than they can work on, and decides who is refused then.
package shed

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/key"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Modes as the site file writes them.
const (
	modeOn  = "on"
	fairOff = "off"
)

// The refusals of gates.
var (
	refuseBusy = &exchange.Refusal{Stage: "shed", Reason: "overloaded", Status: 503, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "The service has more requests than it can answer now."}
	refuseQueue = &exchange.Refusal{Stage: "shed", Reason: "queue_time", Status: 503, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "The service has more requests than it can answer now."}
	refuseLate = &exchange.Refusal{Stage: "shed", Reason: "deadline", Status: 503, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "The request could not be answered before its deadline."}
	refuseOff = &exchange.Refusal{Stage: "shed", Reason: "class_off", Status: 503, RetryAfter: time.Second,
		Problem: exchange.ProblemReduced, Detail: "Requests of this kind are switched off for the time being."}
	refuseGone = &exchange.Refusal{Stage: "shed", Reason: "client_gone", Status: 503, Close: true,
		Detail: "The client left while it waited."}
)

// Deps is what a gate needs of its surroundings. Functions may be called by any goroutine.
type Deps struct {
	Endpoints func() int                    // in service now; nil: 1
	Strays    func() int                    // exchanges at endpoints that are not, or were not at a time since they came there; nil: 0
	Shared    func() bool                   // whether a connection to an endpoint carries many exchanges at once, so that Connections bound nothing; nil: it does not
	Gone      func(*exchange.Exchange) bool // whether the client has left; nil: nobody knows. Asked once, before a waiter is admitted
	Event     func(kind, text string)       // gets shed_low_off and shed_low_on; nil allowed
}

// Settings is what the site file says.
type Settings struct {
	site.Shed
	IPv6        int // bits of an IPv6 address that make one client; 0: 64
	Connections int // to one endpoint at once, where each carries one exchange; 0: they bound nothing
}

// Gate is the shedder of one pool. Serve is a stage; all methods may be called by any goroutine. An exchange that
// finds nobody waiting and a place free takes no lock and allocates nothing.
type Gate struct {
	pool  string
	deps  Deps
	epoch time.Time

	set      atomic.Pointer[settings]
	limit    atomic.Int64
	bound    atomic.Int64 // how many might wait; for the dry run
	waiting  atomic.Int32
	off      atomic.Uint32 // a bit for each class that is off
	behind   atomic.Bool   // as of the last look
	calmAt   atomic.Int64  // ns since epoch from which, with nobody waiting, it is no longer
	inFlight atomic.Int64  // with ghosts and strays
	strays   atomic.Int64  // as of the last look: the limit is higher by them
	recent   atomic.Int64  // when a place was last given back, on the gate's clock
	looked   atomic.Int64  // the last look, on the same
	tells    atomic.Int64  // the rank above which the first answers are kept
	notes    atomic.Uint64 // what is noted of quick answers
	crowd    atomic.Int64  // how many were inside as they entered who count for them
	era      atomic.Uint32 // the core's
	_        [64]byte
	old      atomic.Int64 // in flight since before the era; one too many or too few where it began just then
	oldArea  atomic.Int64 // ns since the last look at which these ended
	toOld    atomic.Int64 // answers to these since then
	nextLook atomic.Int64 // on the gate's clock
	longest  atomic.Int64 // an answer that took longer counts as if it took this
	pushback atomic.Int64 // 429 and 503 since the last look
	hasty    atomic.Int64 // clients that left since then, later than an answer was due…
	stayed   atomic.Int64 // …and the nanoseconds that they were inside, each no longer than longest
	pressure atomic.Int32
	told     bool          // that low requests are off; guarded by mu
	busy     atomic.Uint32 // highest utilisation told since the last look, in 1/1000
	shards   []shard

	refused, would [3]atomic.Uint64 // by class
	waiters        sync.Pool

	mu      sync.Mutex // guards what follows; taken when somebody waits or is refused, and for a look
	core    *Core
	win     Window
	answers uint64 // the same
	kinds   kinds
	met     []*exchange.Endpoint // that answered, and what is usual there is known or will be
	ghosts  []ghost
	mean    float64 // seconds of an answer, lately
	line    dryLine
}

// settings are Settings made ready.
type settings struct {
	Settings
	tenants *key.Maker
	byIP    *key.Maker
}

// shard spreads counters over cores.
type shard struct {
	answers  atomic.Uint64 // that mean work, ever
	timed    atomic.Uint64 // of these, since the last study, those whose time is the endpoint's alone
	micros   atomic.Uint64 // their time together, in µs
	squares  atomic.Uint64 // of their times, in units of 1<<squareShift µs
	peak     atomic.Int64  // most in flight at one of them
	area     atomic.Int64  // ns since the last look at which places were given back, less those at which they were taken
	admitted [3]atomic.Uint64
	kinds    *[kindsMost]kindCount
	_        [48]byte
}

// kindCount counts answers of one kind.
type kindCount struct {
	count atomic.Uint64 // since the last study
	logs  atomic.Uint64 // the binary logarithms of their times in µs, in units of 1/(1<<logShift)
}

const (
	shardsMax   = 8
	squareShift = 4
	logShift    = 10
)

// log is the binary logarithm of n in units of 1/(1<<logShift), too small by 0.09 at the most.
func log(n uint64) uint64 {
	whole := bits.Len64(n|1) - 1
	return uint64(whole)<<logShift | n<<(63-whole)>>(63-logShift)&(1<<logShift-1)
}

// ghost is a place that an endpoint may still work for, though its client left.
type ghost struct{ until time.Duration }

// ghostsMax bounds the places that are kept for clients that left.
const ghostsMax = 4096

// New makes the gate of a pool.
func New(pool string, cfg Settings, deps Deps) *Gate {
	if deps.Endpoints == nil {
		deps.Endpoints = func() int { return 1 }
	}
	if deps.Strays == nil {
		deps.Strays = func() int { return 0 }
	}
	n := 1
	for n < min(runtime.GOMAXPROCS(0), shardsMax) {
		n *= 2
	}
	g := &Gate{pool: pool, deps: deps, epoch: time.Now(), shards: make([]shard, n)}
	for i := range g.shards {
		g.shards[i].kinds = new([kindsMost]kindCount)
	}
	g.core = NewCore(Config{Endpoints: deps.Endpoints()})
	g.longest.Store(int64(time.Hour))
	g.waiters.New = func() any { return &waiting{Waiter: Waiter{wake: make(chan verdict, 1)}} }
	g.Update(cfg)
	return g
}

// Update makes cfg the settings in force. What was learned stays. Who waits gets in when there is room by them, and when nobody is to be refused any more.
func (g *Gate) Update(cfg Settings) {
	s := &settings{Settings: cfg}
	bits := cfg.IPv6
	if bits == 0 {
		bits = 64
	}
	if cfg.Fair != fairOff {
		s.tenants, s.byIP = key.New([]string{cfg.Fair}, bits), key.New([]string{site.ByIP}, bits)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &g.core.cfg
	c.ReserveStandard, c.ReserveLow, c.SwitchLow = float64(cfg.ReserveStd), float64(cfg.ReserveLow), cfg.SwitchLow
	g.core.queue.share = [3]float64{0, c.ReserveStandard, c.ReserveLow}
	g.set.Store(s)
	g.publish(g.now())
	g.grant(g.now())
}

// now is the gate's clock.
func (g *Gate) now() time.Duration { return time.Since(g.epoch) }

// Overloaded says whether requests came faster than they were answered, as of the last look. While nobody comes nobody looks: then an overload is over when the
// core would find it so, or the first who come after a quiet hour would be taken for part of it. A nil Gate never is.
func (g *Gate) Overloaded() bool {
	return g != nil && g.behind.Load() && (g.waiting.Load() > 0 || g.now() < time.Duration(g.calmAt.Load()))
}

// Serve implements exchange.Stage.
func (g *Gate) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if r := g.enter(x); r != nil {
		return r
	}
	defer g.end(x) // a panic of a later stage must not keep the place
	return next.Do(x)
}

// end gives back the place of an exchange that has ended without an answer.
func (g *Gate) end(x *exchange.Exchange) {
	if x.Held != nil {
		g.unanswered(x)
	}
}

// Enter gives an exchange that gave its place back as its answer began a place for another attempt, in the same way as Serve does.
func (g *Gate) Enter(x *exchange.Exchange) *exchange.Refusal { return g.enter(x) }

// enter gives x a place, at once when nobody waits.
func (g *Gate) enter(x *exchange.Exchange) *exchange.Refusal {
	if g.waiting.Load() == 0 && g.off.Load()>>x.Class&1 == 0 {
		era := g.era.Load() // before the place counts, or it would be among the old ones and never leave them
		n := g.inFlight.Add(1)
		if n <= g.limit.Load() {
			// Of a client that sends slowly, the start was long ago.
			g.take(x.Shard, max(x.Start.Sub(g.epoch), time.Duration(g.recent.Load())))
			g.admit(x, n, era)
			return nil
		}
		return g.crowded(x, n)
	}
	return g.crowded(x, 0)
}

// Answered implements exchange.Holder: the endpoint has done its work, and the place is free.
func (g *Gate) Answered(x *exchange.Exchange, long bool) {
	x.Held = nil
	if x.Stray {
		g.strayed()
		return
	}
	took, works := x.Result.Latency, true
	if s := x.Result.Status; s >= 500 || s == 429 || took <= 0 || !x.Replayable {
		took, works = g.doubtful(x)
	}
	now := x.Start.Sub(g.epoch) + x.Outcome.FirstByte
	g.give(x.Shard, now)
	g.recent.Store(int64(now))
	old := g.ends(x.Era, now)
	n := g.inFlight.Add(-1) + 1
	if works {
		if old {
			g.toOld.Add(1)
		}
		g.note(x, took, (int64(x.Place)+max(n-g.strays.Load(), 1)+1)/2)
	}
	if x.Result.Utilisation > 0 {
		g.hear(x.Result.Utilisation)
	}
	g.left()
	g.lookSoon(now)
}

// lookSoon looks when it is time to.
func (g *Gate) lookSoon(now time.Duration) {
	if int64(now) >= g.nextLook.Load() {
		g.look(now)
	}
}

// note counts one answer, with n in flight meanwhile. took is 0 when it was not the endpoint's time alone.
func (g *Gate) note(x *exchange.Exchange, took time.Duration, n int64) {
	s := &g.shards[x.Shard&uint32(len(g.shards)-1)]
	answers := s.answers.Add(1)
	if took <= 0 {
		return
	}
	if int64(x.Rank) > g.tells.Load() {
		g.keepFirst(x, took)
	}
	us := uint64(min(took, time.Duration(g.longest.Load())) / time.Microsecond)
	s.timed.Add(1)
	s.micros.Add(us)
	s.squares.Add((us >> squareShift) * (us >> squareShift))
	kind := &s.kinds[kindOf(x)]
	kind.count.Add(1)
	kind.logs.Add(log(uint64(took / time.Microsecond))) // one of an hour is no more than twenty times a short one
	if notes := g.notes.Load(); notes&notesAll != 0 || notes&notesLearn != 0 && answers%learnEvery == 0 {
		g.noteQuick(x, took, notes)
	}
	for peak := s.peak.Load(); n > peak && !s.peak.CompareAndSwap(peak, n); peak = s.peak.Load() {
	}
}

// keepFirst keeps one of the first answers.
//
//go:noinline
func (g *Gate) keepFirst(x *exchange.Exchange, took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(x.Rank) > g.core.Tells() && len(g.win.First) < fillMost {
		g.win.First = append(g.win.First, First{Endpoint: x.Endpoint, Rank: int(x.Rank), Seconds: took.Seconds()})
	} else {
		g.tells.Store(math.MaxInt64) // until the next look
	}
}

// ends counts one that was let in in an era no more among the old ones, and reports whether it was.
func (g *Gate) ends(era uint32, now time.Duration) (old bool) {
	if old = era != g.era.Load(); old {
		g.old.Add(-1)
		g.oldArea.Add(int64(now) - g.looked.Load())
	}
	return old
}

// leave gives a place back.
func (g *Gate) leave() {
	g.free(g.now())
	g.left()
}

// free counts a place down that is given back without an answer.
func (g *Gate) free(now time.Duration) {
	g.give(0, now)
	g.inFlight.Add(-1)
}

// take and give note when a place was taken and given back. The time since the last look counts, so that who looks just between a place and its
// note is wrong by no more than that.
func (g *Gate) take(shard uint32, now time.Duration) {
	g.shards[shard&uint32(len(g.shards)-1)].area.Add(g.looked.Load() - int64(now))
}

func (g *Gate) give(shard uint32, now time.Duration) {
	g.shards[shard&uint32(len(g.shards)-1)].area.Add(int64(now) - g.looked.Load())
}

// left hands a place that became free to who waits.
func (g *Gate) left() {
	if g.waiting.Load() > 0 {
		g.mu.Lock()
		g.grant(g.now())
		g.mu.Unlock()
	}
}

// doubtful is the latency of an answer that may say nothing about work, 0: none that is the endpoint's alone; and whether it means work. Refusals of the
// endpoint, and failures that come quicker than work, would make it look fast.
//
//go:noinline
func (g *Gate) doubtful(x *exchange.Exchange) (took time.Duration, works bool) {
	switch s := x.Result.Status; {
	case s == 429 || s == 503:
		g.pushback.Add(1)
		return 0, false
	case s >= 500:
		g.mu.Lock()
		typical := g.core.knee.service
		g.mu.Unlock()
		if x.Result.Latency < seconds(typical/2) {
			return 0, false
		}
	}
	if !x.Replayable { // the client's sending is part of it
		return 0, true
	}
	return max(x.Result.Latency, 0), true
}

// hear takes in what an endpoint says of its utilisation.
//
//go:noinline
func (g *Gate) hear(busy float32) {
	v := uint32(min(busy, 100) * 1000)
	for old := g.busy.Load(); v > old && !g.busy.CompareAndSwap(old, v); old = g.busy.Load() {
	}
}

// unanswered gives back the place of an exchange that got no answer. An endpoint may go on with the work for a client that left: the
// place is free when the work should be done, not before.
//
//go:noinline
func (g *Gate) unanswered(x *exchange.Exchange) {
	x.Held = nil
	if x.Stray {
		g.strayed()
		return
	}
	now := g.now()
	g.ends(x.Era, now)
	if k := x.Result.Kind; x.Endpoint == nil || k != exchange.Cancelled && k != exchange.TimedOut {
		g.leave()
		return
	}
	began := x.Start
	if !x.Begun.IsZero() {
		began = x.Begun
	}
	took := now - began.Sub(g.epoch)
	defer g.lookSoon(now)
	g.mu.Lock()
	defer g.mu.Unlock()
	typical := min(g.core.Typical(int(x.Place)), max(seconds(1.5*g.core.knee.service), 2*took)) // who waited for long has seen most of it
	// An early leave says nothing, unless nobody was answered meanwhile: then what is typical is wrong. With a typical time far over the clients' patience none
	// of them was ever heard, and the limit stayed for good where no answer came in time. Nor is it early when those who are answered wait for less.
	if took > min(typical/3, seconds(g.mean)) || g.recent.Load() < int64(began.Sub(g.epoch)) {
		g.hasty.Add(1)
		g.stayed.Add(min(int64(took), g.longest.Load()))
	}
	if took >= typical || len(g.ghosts) >= ghostsMax {
		g.free(now)
	} else {
		g.ghosts = append(g.ghosts, ghost{until: now + typical - took})
	}
	g.grant(now)
}

// lay lets ghosts whose time is over rest. The lock is held.
func (g *Gate) lay(now time.Duration) {
	kept := g.ghosts[:0]
	for _, one := range g.ghosts {
		if one.until > now {
			kept = append(kept, one)
		} else {
			g.free(now)
		}
	}
	g.ghosts = kept
}

// look takes in what was answered since the last look and sets the limit anew.
//
//go:noinline
func (g *Gate) look(now time.Duration) {
	if !g.mu.TryLock() {
		return // the next answer looks
	}
	g.lookLocked(now)
	g.mu.Unlock()
}

// lookLocked is look with the lock held.
func (g *Gate) lookLocked(now time.Duration) {
	if int64(now) < g.nextLook.Load() {
		return
	}
	strays := int64(g.deps.Strays())
	g.strays.Store(strays)
	inside, old := max(g.inFlight.Load()-strays, 0), max(g.old.Load(), 0)
	past := int64(now) - g.looked.Swap(int64(now))
	area, oldArea, answers := inside*past, old*past+g.oldArea.Swap(0), uint64(0)
	for i := range g.shards {
		area += g.shards[i].area.Swap(0)
		answers += g.shards[i].answers.Load()
	}
	f := Flow{InFlight: int(inside), Old: int(old), Endpoints: g.deps.Endpoints(),
		Answers: int(answers - g.answers), OldAnswers: int(g.toOld.Swap(0)), Area: max(time.Duration(area).Seconds(), 0), OldArea: max(time.Duration(oldArea).Seconds(), 0),
		Left: int(g.hasty.Swap(0)), Stayed: time.Duration(g.stayed.Swap(0)).Seconds(), Busy: float64(g.busy.Load()) / 1000}
	f.Pushback = float64(g.pushback.Load()) / max(1, float64(g.pushback.Load())+float64(g.win.Total)+float64(f.Answers))
	g.answers = answers
	g.lay(now)
	if g.core.Studies(now) {
		g.collect()
		study := g.core.Batches(now)
		if study {
			g.sort()
			g.signs(float64(inside))
		}
		g.core.Look(now, &g.win, f)
		if study {
			g.kinds.learn(now, g.core)
		}
		g.win = Window{}
		g.pushback.Store(0)
		g.busy.Store(0)
	} else {
		g.core.Look(now, nil, f)
	}
	g.publish(now)
	g.grant(now)
}

// collect takes what answers showed out of the counters.
func (g *Gate) collect() {
	for i := range g.shards {
		one := &g.shards[i]
		n := int64(one.timed.Swap(0))
		g.win.Total += n
		g.win.Seconds += float64(one.micros.Swap(0)) / 1e6
		g.win.Squares += float64(one.squares.Swap(0)) * (1 << (2 * squareShift)) / 1e12
		g.win.Peak = max(g.win.Peak, float64(one.peak.Swap(0)))
	}
	g.winsor()
}

// winsor sets what the longest answers count as: ten times the mean, so that one of a minute among thousands does not count as an overload.
func (g *Gate) winsor() {
	if g.win.Total == 0 {
		return
	}
	part := min(1, float64(g.win.Total)/100)
	if g.mean == 0 {
		part = 1
	}
	g.mean += part * (g.win.Seconds/float64(g.win.Total) - g.mean)
	g.longest.Store(int64(seconds(outlier*g.mean)) + int64(time.Millisecond))
}

const outlier = 10

// publish makes what was decided visible to those who do not take the lock. The lock is held.
func (g *Gate) publish(now time.Duration) {
	set := g.set.Load()
	c := g.core
	c.cfg.Max = set.Max
	if c.cfg.Max == 0 && set.Connections > 0 && (g.deps.Shared == nil || !g.deps.Shared()) {
		c.cfg.Max = set.Connections * max(1, c.knee.endpoints)
	}
	g.limit.Store(g.room(g.strays.Load()))
	g.tells.Store(int64(c.Tells()))
	notes, crowd := c.notes()
	g.crowd.Store(crowd)
	g.notes.Store(notes)
	if era := c.Era(); era != g.era.Load() {
		g.era.Store(era)
		g.old.Store(max(g.inFlight.Load()-g.strays.Load(), 0))
	}
	g.bound.Store(int64(c.bound()))
	var off uint32
	for class := range exchange.Low + 1 {
		if c.off(now, class) {
			off |= 1 << class
		}
	}
	g.off.Store(off)
	pressure := int32(0)
	if c.behind {
		pressure = 1
	}
	if c.lowOff {
		pressure = 2
	}
	g.pressure.Store(pressure)
	g.say()
	g.calmAt.Store(int64(c.calmAt))
	g.behind.Store(c.behind)
	g.nextLook.Store(int64(c.Again(now)))
}

// say tells people when low requests were switched off or on. The lock is held.
func (g *Gate) say() {
	if g.core.lowOff == g.told {
		return
	}
	g.told = g.core.lowOff
	switch {
	case g.deps.Event == nil:
	case g.told:
		g.deps.Event("shed_low_off", "pool "+g.pool+": low requests are refused, as standard ones have to be")
	default:
		g.deps.Event("shed_low_on", "pool "+g.pool+": low requests are let in again")
	}
}

// grant gives free places to those who wait. The lock is held.
func (g *Gate) grant(now time.Duration) {
	on := g.set.Load().Mode == modeOn
	for g.core.queue.Len() > 0 {
		n := g.inFlight.Add(1)
		if strays := int64(g.deps.Strays()); on && n > g.room(strays) && (n > g.most(strays) || !g.core.Pass(now)) {
			g.inFlight.Add(-1)
			return
		}
		w, a := g.core.Next(now)
		for ; w != nil && a != Enter; w, a = g.core.Next(now) {
			why := expired
			if a == TooLate {
				why = late
			}
			g.tell(w, why, 0)
		}
		if w == nil {
			g.inFlight.Add(-1)
			return
		}
		g.take(0, now)
		g.tell(w, admitted, int32(n))
	}
}

// tell ends the wait of w. The lock is held.
func (g *Gate) tell(w *Waiter, v verdict, place int32) {
	g.waiting.Add(-1)
	w.place, w.era = place, g.era.Load()
	w.wake <- v
}

// lot is a random number from 0 to 1.
func lot() float64 { return rand.Float64() }
