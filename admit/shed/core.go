package shed

import (
	"math"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Bounds of waiting. The queue is bounded in time, not in number: a wait that is right for 400 requests a second is an hour for one
// a minute.
const (
	calmServices   = 2.5                    // service times that a request may wait while the queue does not grow all the time, so that bursts pass…
	calmLeast      = 500 * time.Millisecond // …and callers who wait for each other: a hundred of them at once are no overload of a server that answers within a millisecond
	calmMost       = time.Second
	staleLeast     = 100 * time.Millisecond // …while it does: who waits for longer is behind all who came later
	behindServices = 1.0                    // …and newcomers: more waiting would add to every latency and win nothing
	behindLeast    = 5 * time.Millisecond
	behindMost     = 200 * time.Millisecond
	growServices   = 5.0 // how long it is measured whether a queue grows
	growLeast      = 100 * time.Millisecond
	growMost       = 2500 * time.Millisecond
	growShare      = 0.05 // of those who got a place meanwhile: callers who wait for each other are as many all the time
	growMin        = 2
	growWindows    = 3   // in each of them, or it does not grow all the time
	calmAgain      = 5.0 // service times without a refusal after which an empty queue means calm
	queueLeast     = 2
	queueFew       = 8
	queueMost      = 10_000 // waiting exchanges at once: some 10 KB each
)

// Numbers of those who pass while more are inside than the limit is.
const (
	passShare = 0.5 // of the answers that come meanwhile may make room for them…
	passMost  = 4.0 // …which is kept for no more of them at once…
	passWaits = 0.5 // …once a critical one has waited for so many times as long as newcomers should

	silence      = 10.0                   // service times without any answer, while all places are taken, after which one more may enter…
	silenceLeast = 250 * time.Millisecond // …and then another…
	silenceMost  = 10 * time.Second
	silentMost   = 4.0 // …as long as there are no more inside than so many times the limit
)

// Numbers of the switch for low requests. The queue orders classes anyway: the switch only spares low requests a wait that is in vain.
const (
	lowOffAfter  = time.Second            // standard ones were refused in some number for so long
	lowOffShare  = 0.25                   // of standard ones
	lowOffLeast  = 4.0                    // standard ones lately, or their share says nothing
	lowBackAfter = 250 * time.Millisecond // without refusing a standard one. Longer would keep low ones out after the overload…
	lately       = 500 * time.Millisecond
	overForgets  = 5 * time.Second // without refusals, after which the next is another overload
)

// Answer is what a newcomer is told.
type Answer uint8

// The answers to newcomers.
const (
	Enter      Answer = iota // there is a place
	Wait                     // it was queued
	Overloaded               // no: too many wait
	TooLate                  // no: its deadline cannot be met
	Off                      // no: its class is switched off
)

// Config of a core.
type Config struct {
	Endpoints       int     // in service
	ReserveStandard float64 // share of grants for waiting standard requests before critical ones
	ReserveLow      float64
	SwitchLow       bool
	Max             int // hard limit of what is in flight; 0: none
}

// Core decides who gets a place, waits or is refused: the limit and the queue together. It is pure, and not safe for concurrent use.
type Core struct {
	cfg   Config
	knee  *Knee
	queue *Queue

	refused  int           // since the queue was empty
	mark     time.Duration // when it was measured whether it grows; meaningful while somebody waits
	waited   int           // how many did then
	granted  int           // who got a place since then
	passes   float64       // how many may pass: room that answers made while too many were inside
	inside   float64       // as of the last look
	filled   bool          // all places were taken then
	heard    time.Duration // an answer came, or not all were taken
	grown    int           // for so many windows before then
	dipped   time.Duration // how long dips had lasted then
	held     int           // for so many it did not, and nobody was refused
	steady   bool          // as Flow has it
	behind   bool
	calmAt   time.Duration // not calm before this
	overFrom time.Duration // refusals began
	overLast time.Duration // the last one

	stdSeen, stdNo   float64       // standard requests lately, and of these the refused
	stdAt            time.Duration // when these were brought up to date
	stdOver, stdLast time.Duration // since when too many were refused; the last one; 0: none
	lowOff           bool
	byHand           [3]time.Duration // by rank: switched off until then
}

// NewCore makes a core.
func NewCore(cfg Config) *Core {
	return &Core{cfg: cfg, knee: NewKnee(cfg.Endpoints), queue: NewQueue(cfg.ReserveStandard, cfg.ReserveLow)}
}

// Look takes in what was answered since the last look.
func (c *Core) Look(now time.Duration, win *Window, f Flow) {
	f.Waiting, f.Steady = c.queue.Len(), c.steady
	c.knee.Look(now, win, f)
	filled := f.InFlight >= c.Limit()
	if f.Answers > 0 || !filled || !c.filled {
		c.heard = now
	}
	c.inside, c.filled = float64(f.InFlight), filled
	if f.InFlight > c.Limit() {
		c.passes = min(c.passes+passShare*float64(f.Answers), passMost)
	} else {
		c.passes = 0
	}
	c.watch(now)
}

// Limit is how many exchanges may be in flight.
func (c *Core) Limit() int {
	n := int(math.Ceil(c.knee.Limit() - 0.5))
	if c.cfg.Max > 0 {
		n = min(n, c.cfg.Max)
	}
	return max(n, 1)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func clamp(v, low, high time.Duration) time.Duration { return max(low, min(v, high)) }

// CalmWait is how long a request may wait at the most.
func (c *Core) CalmWait() time.Duration {
	return clamp(seconds(calmServices*c.knee.service), calmLeast, calmMost)
}

// StaleWait is how long a request may wait at the most in a queue that grows all the time.
func (c *Core) StaleWait() time.Duration {
	return clamp(seconds(calmServices*c.knee.service), staleLeast, calmMost)
}

// BehindWait is how long a request should wait in a queue that grows all the time.
func (c *Core) BehindWait() time.Duration {
	return clamp(seconds(behindServices*c.knee.service), behindLeast, behindMost)
}

// bound is how many may wait now.
func (c *Core) bound() int {
	wait := c.CalmWait()
	if c.behind {
		wait = c.BehindWait()
	}
	n := float64(queueMost) // they wait no longer than they may
	capacity := c.knee.Capacity()
	if !c.behind { // then it may be a guess
		capacity = c.knee.paced(capacity)
	}
	if capacity > 0 {
		n = capacity * wait.Seconds()
	}
	n = max(n, min(queueFew, 1.5*c.knee.limit)) // fewer would leave no choice between classes and tenants
	return int(max(queueLeast, min(math.Ceil(n), queueMost)))
}

// Arrive decides about a newcomer; place: one is free. With Wait it was queued, and evicted, when it is not nil, had to leave for it.
func (c *Core) Arrive(now time.Duration, w *Waiter, place bool) (a Answer, evicted *Waiter) {
	if w.Class == exchange.Standard {
		c.standard(now, 1, 0)
	}
	c.watch(now)
	if c.off(now, w.Class) {
		return Off, nil
	}
	if place && c.queue.Len() == 0 {
		return Enter, nil
	}
	if w.Deadline > 0 && now+seconds(c.knee.service) > w.Deadline {
		return TooLate, nil
	}
	if n, bound := c.queue.Len(), c.bound(); n >= bound {
		spared := false
		if evicted, spared = c.queue.Victim(w.Class, w.Tenant, w.Weight, n >= bound+bound/2); evicted == nil && !spared && c.behind {
			evicted = c.queue.Stale(now, w.Class, w.Tenant, c.BehindWait())
		}
		if evicted != nil {
			c.queue.Remove(evicted)
			c.Refused(now, evicted.Class)
		} else if !spared {
			c.Refused(now, w.Class)
			return Overloaded, nil
		}
	}
	if c.queue.Len() == 0 {
		c.refused = 0
		c.measure(now, 0)
		c.knee.quiet = false // answers are looked at each, not only when S has passed: of a first few slow ones it is far too long
	}
	c.queue.Push(w, now)
	return Wait, evicted
}

// Next takes out who gets the next free place: nil when nobody waits. With another answer than Enter it must be told so, and the next be asked for.
func (c *Core) Next(now time.Duration) (*Waiter, Answer) {
	critical, others := c.CalmWait(), c.CalmWait()
	if c.behind {
		critical, others = c.StaleWait(), c.BehindWait()
	}
	w := c.queue.Next(now, critical, others)
	switch {
	case w == nil:
		return nil, Enter
	case w.Deadline > 0 && now+seconds(c.knee.service) > w.Deadline:
		return w, TooLate
	case c.behind && now-w.since > c.StaleWait():
		c.Refused(now, w.Class)
		return w, Overloaded
	}
	c.granted++
	return w, Enter
}

// Pass reports whether one more may enter though all places are taken, and counts it. A limit that is lowered, for good or for a dip, lets nobody in before enough were answered, and with many too
// many inside that takes longer than anybody may wait: in the first second of a surge nearly all critical requests were refused, though they were a tenth of what was answered. So they are
// let in for half of what is answered then, and it takes twice as long at the most.
//
// Where nothing is answered at all, whatever is inside hangs, perhaps at one endpoint of many, which nobody finds out if nobody comes to the others: one enters now and then.
func (c *Core) Pass(now time.Duration) bool {
	if at := c.silent(); at > 0 && now >= at {
		c.heard = now
		return true
	}
	if c.passes < 1 || c.queue.OldestOf(now, exchange.Critical) <= time.Duration(passWaits*float64(c.BehindWait())) {
		return false
	}
	c.passes--
	return true
}

// silent is when the silence has lasted for long enough that one more enters; 0: there is none, or too many are inside.
func (c *Core) silent() time.Duration {
	if !c.filled || c.inside >= silentMost*float64(c.Limit()) {
		return 0
	}
	return c.heard + clamp(seconds(silence*c.knee.service), silenceLeast, silenceMost)
}

// Typical is when an exchange that was let in with n in flight should be answered, with half as much again for chance.
func (c *Core) Typical(n int) time.Duration {
	return seconds(1.5 * c.knee.service * line(float64(n), c.knee.workers))
}

// Era grows with each dip. Those who were let in in another one than that of now are Old in the next Flow.
func (c *Core) Era() uint32 { return c.knee.dips }

// Opens is when more may be inside though nothing was answered yet; 0: never.
func (c *Core) Opens(now time.Duration) time.Duration {
	at := c.knee.Opens(now)
	if more := c.silent(); more > 0 && (at == 0 || more < at) {
		return more
	}
	return at
}

// Studies reports whether the next look wants to know what answers showed.
func (c *Core) Studies(now time.Duration) bool { return c.knee.Studies(now) }

// Batches reports whether the next look wants to know how answers compare with what their kinds take.
func (c *Core) Batches(now time.Duration) bool { return now >= c.knee.study }

// Tells is the rank above which the first answers are to be told of one by one.
func (c *Core) Tells() int {
	if c.knee.done || len(c.knee.fill.list) >= fillMost {
		return math.MaxInt
	}
	return c.knee.fill.above
}

// Quick is what is to be noted of quick answers: whether those that come now show which are, and the count that those belong to who entered with so many inside. Others of whom met no queue, if
// there is one: half a second after a surge began all were as quick as ever, as they had come before it.
func (c *Core) Quick() (learn bool, count uint32, inside int) {
	return c.knee.learns, c.knee.quick.count, int(used * c.knee.limit)
}

// Again is when to look again.
func (c *Core) Again(now time.Duration) time.Duration { return c.knee.Again(now) }

// Waiting is how many wait.
func (c *Core) Waiting() int { return c.queue.Len() }

// Estimate is how many places the endpoints have, and how many seconds they work on one request; 0: not known yet.
func (c *Core) Estimate() (workers, service float64) { return c.knee.workers, c.knee.service }

// Told makes the core believe what it is told of the endpoints until the next look. It is for comparisons with who knows the truth.
func (c *Core) Told(workers, service float64) {
	c.knee.workers, c.knee.service = workers, service
	c.knee.limit, c.knee.first, c.knee.known = math.Ceil(workers*headroom), false, true
	c.knee.high = gauge{count: 1, time: service / workers, area: service}
}

// Patience is how long w, which was just queued, may wait.
func (c *Core) Patience(now time.Duration, w *Waiter) time.Duration {
	d := c.CalmWait()
	if w.Deadline > 0 {
		d = min(d, w.Deadline-now-seconds(c.knee.service))
	}
	return max(d, time.Millisecond)
}

// Expire takes out a waiter that has waited too long; it reports whether it still waited.
func (c *Core) Expire(now time.Duration, w *Waiter) bool {
	if !c.queue.Remove(w) {
		return false
	}
	c.Refused(now, w.Class)
	return true
}

// Refused notes that one of a class was refused for want of places.
func (c *Core) Refused(now time.Duration, class exchange.Class) {
	c.Gone(now)
	if now-c.overLast > overForgets || c.overLast == 0 {
		c.overFrom = now
	}
	c.overLast = now
	if class == exchange.Standard {
		c.standard(now, 0, 1)
		c.stdLast = max(now, 1)
	}
}

// Gone notes that the client of one whose turn had come was not there any more: who waits here for longer than clients do answers nobody. A queue that
// they leave does not grow, and without this it looked calm.
func (c *Core) Gone(now time.Duration) {
	c.refused++
	c.held, c.steady = 0, false
	c.calmAt = now + max(2*calmLeast, seconds(calmAgain*c.knee.service))
}

// standard counts standard requests that came and that were refused.
func (c *Core) standard(now time.Duration, seen, refused float64) {
	keep := math.Exp(-float64(now-c.stdAt) / float64(lately))
	c.stdAt = now
	c.stdSeen, c.stdNo = c.stdSeen*keep+seen, c.stdNo*keep+refused
	if c.stdSeen < lowOffLeast || c.stdNo < lowOffShare*c.stdSeen {
		c.stdOver = 0
	} else if c.stdOver == 0 {
		c.stdOver = now
	}
}

// watch brings what depends on time up to date.
func (c *Core) watch(now time.Duration) {
	if c.queue.Len() == 0 {
		c.refused = 0
		if c.behind && now >= c.calmAt {
			c.behind = false
		}
	} else if !c.behind {
		c.behind = c.grows(now) || c.refused >= max(5, int(c.knee.limit)/2)
	}
	c.switchLow(now)
}

// grows reports whether the queue grew all the time. It notes whether it did not, too.
func (c *Core) grows(now time.Duration) bool {
	window := clamp(seconds(growServices*c.knee.service), growLeast, growMost)
	if c.knee.Dips() || now-c.mark < window {
		return false
	}
	if c.knee.InDips()-c.dipped > window/8 { // that lets the queue grow
		c.measure(now, 0)
		return false
	}
	grew := float64(c.queue.Len()-c.waited) > max(growMin, growShare*float64(c.granted))
	n := 0
	if c.held++; grew {
		n, c.held = c.grown+1, 0
	}
	c.steady = c.held >= growWindows
	c.measure(now, n)
	return n >= growWindows && c.queue.Oldest(now) > c.StaleWait()
}

// measure begins to measure whether the queue grows.
func (c *Core) measure(now time.Duration, grown int) {
	c.mark, c.waited, c.granted, c.grown, c.dipped = now, c.queue.Len(), 0, grown, c.knee.InDips()
}

// switchLow switches low requests off and on again.
func (c *Core) switchLow(now time.Duration) {
	switch {
	case !c.cfg.SwitchLow:
		c.lowOff = false
	case c.lowOff:
		c.lowOff = now-c.stdLast < lowBackAfter
	default:
		c.lowOff = c.stdOver > 0 && now-c.stdOver >= lowOffAfter && now-c.stdLast < lowBackAfter
	}
}

// off reports whether a class is switched off.
func (c *Core) off(now time.Duration, class exchange.Class) bool {
	return now < c.byHand[class.Rank()] || c.lowOff && class == exchange.Low
}

// RetryAfter is when a refused request can succeed: an overload that has lasted for some time will last for about as long again. Its end is a guess, and chance may
// shorten the wait; that of a class that is switched off by hand is known, and who came before it would be refused once more. Without an overload nothing but that is in the way.
func (c *Core) RetryAfter(now time.Duration, class exchange.Class, lot float64) time.Duration {
	wait := time.Second
	if c.overLast > 0 && now-c.overLast <= overForgets {
		wait = clamp(now-c.overFrom, time.Second, 30*time.Second)
	}
	if until := c.byHand[class.Rank()]; now < until {
		return time.Duration(float64(clamp(until-now, wait, time.Hour)) * (1 + lot/4))
	}
	return time.Duration(float64(wait) * (0.75 + lot/2))
}
