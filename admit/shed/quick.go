package shed

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Numbers of quick answers.
const (
	quickShare = 0.25  // of an endpoint's answers in calm times are quick
	quickNear  = 1.1   // times what they take counts as quick: where all answers take the same, the bound lies now above them, now below
	quickKnown = 100   // answers tell which
	quickGain  = 4.6   // by which each of the first moves the bound, over how many there were: one over the density of the logarithms there, where work is exponential…
	quickFirst = 0.4   // …and no more than this…
	quickKeeps = 0.01  // …and no less
	quickMore  = 1.4   // times as many as a queue would leave are quick, when there is none…
	quickSure  = 3.0   // …and the logarithm of how much likelier that makes them…
	quickMaybe = 0.5   // …from which it is waited for more answers…
	quickMost  = 200.0 // …up to so many
	quickOther = 0.5   // of the S of calm times: when S has become shorter than this, other answers are quick…
	quickAgain = 1.3   // …but when those inside take no longer than so many of it, it is S that is wrong
	quickFell  = 0.5   // of what was answered since S was learned for them: when it falls to this, they are believed again
)

// Quick is which answers of an endpoint are quick: a quarter of those of calm times are. A queue there leaves few of them, whatever else is asked for meanwhile. The zero value knows
// nothing yet. Any goroutine may use it; a note may get lost when two are taken at once, which counts for one answer.
type Quick struct {
	most         atomic.Uint64 // seconds, as bits: what takes no longer is quick
	known        atomic.Uint32 // answers that told it
	part         atomic.Uint64 // of these that were quick, or nearly, as bits
	count        atomic.Uint32 // which one this is:
	heard, found atomic.Uint32 // answers, and quick ones
}

// Note notes one answer, which took so many seconds. learn: it tells what is quick. counts: it belongs to this count.
func (q *Quick) Note(seconds float64, learn, counts bool, count uint32) {
	most, known := math.Float64frombits(q.most.Load()), q.known.Load()
	quick, near := seconds <= most, seconds <= quickNear*most
	if counts && known >= quickKnown {
		if q.count.Load() != count {
			q.heard.Store(0)
			q.found.Store(0)
			q.count.Store(count)
		}
		q.heard.Add(1)
		if near {
			q.found.Add(1)
		}
	}
	if !learn {
		return
	}
	step := min(quickFirst, max(quickKeeps, quickGain/float64(known+10)))
	switch {
	case most == 0:
		most = seconds
	case quick:
		most *= 1 - step*(1-quickShare)
	default:
		most *= 1 + step*quickShare
	}
	q.most.Store(math.Float64bits(most))
	part, is := math.Float64frombits(q.part.Load()), 0.0
	if near {
		is = 1
	}
	part += max(quickKeeps, 1/float64(known+1)) * (is - part)
	q.part.Store(math.Float64bits(part))
	q.known.Store(min(known+1, math.MaxUint32-1))
}

// Signs adds up what quick answers show of all endpoints. The zero value knows of none.
type Signs struct{ inside, found, vary float64 }

// Add adds an endpoint where so many are inside. It counts as they do: of endpoints that are unlike, nearly all answers come from those that are quick, while nearly all who are inside may
// wait at another. Before five of which the slowest takes twenty times as long a limit that grew for it let in so many that a tenth of what can be done was good.
func (s *Signs) Add(q *Quick, count uint32, inside float64) {
	s.inside += inside
	if n := float64(q.heard.Load()); n > 0 && q.count.Load() == count {
		part := max(math.Float64frombits(q.part.Load()), quickShare)
		s.found += inside * quickShare * min(float64(q.found.Load())/(n*part), 1)
		s.vary += inside * inside / n
	}
}

// Tell is how many answers were heard, were all endpoints alike, and which share of them was quick.
func (s *Signs) Tell() (heard, quick float64) {
	if s.vary == 0 {
		return 0, 0
	}
	return s.inside * s.inside / s.vary, s.found / s.inside
}

// quickly is what the search knows of quick answers.
type quickly struct {
	count        uint32  // grows as a new one begins
	heard, share float64 // answers of this one, and the share of quick ones
	service      float64 // S in the calm times that told which are
	used         bool    // since then S was learned anew for them…
	best         float64 // …and this is the most that was answered per second since
}

func (q *quickly) begin() { q.count, q.heard = q.count+1, 0 }

// heavier learns S from those inside when answers show that there is no queue: too many of them are quick. Then it takes those inside so long because others came than in calm times. It reports whether that may be
// so, but is not sure yet. Every third request of 300 a second became ten times as heavy, and nothing but time told which: those inside were taken for a queue, all were refused for three
// seconds, and where work scatters far three of four for half a minute, before sixty places of which half were idle. Where endpoints work on some newcomers first, or share their processors, a queue can look like this, too:
// so it is believed once, until calm times come or far less is answered: S of the first answers was half of what it is, 1000 heavy ones a second came to room for all, and as the limit fell from 80 to 11
// what was answered fell with it, from 380 a second to 10.
func (k *Knee) heavier() (unsure bool) {
	q, w := &k.quick, k.high.rate()*k.low.mean()
	q.best = max(q.best, k.high.rate())
	if q.used && k.high.rate() > quickFell*q.best || q.service == 0 || q.heard < firstFew/2 || w <= 0 {
		return false
	}
	if takes := k.high.area / k.high.count; k.low.mean() < quickOther*q.service && takes > quickAgain*q.service && !k.crept {
		return false
	}
	left := quickShare * w / k.limit // would be quick, if all who are inside shared what can be done. One after the other leaves fewer
	if q.share <= quickMore*left {
		return false
	}
	sign := q.heard * (q.share*math.Log(q.share/left) + (1-q.share)*math.Log((1-q.share)/(1-left)))
	if sign <= quickSure {
		return sign > quickMaybe && q.heard < quickMost
	}
	k.low = latency{count: k.high.count, seconds: k.high.area}
	k.rebase()
	q.used, q.best, k.ceilingEnd = true, k.high.rate(), 0
	return false
}

// What a gate notes of quick answers: these bits, and above them the count.
const (
	notesLearn = 1 << iota // which are quick: calm times show it
	notesAll               // how many are, of all: the limit is used
	notesShift = iota
)

// learnEvery is of how many answers of calm times one tells what is quick. Of all it would be a fifth of what the gate costs.
const learnEvery = 4

// notes is what is to be noted from now on, and of those who entered with how many inside.
func (c *Core) notes() (n uint64, crowd int64) {
	learn, count, inside := c.Quick()
	n = uint64(count) << notesShift
	if learn {
		n |= notesLearn
	}
	if c.knee.full { // else nothing is concluded, and it would cost for nothing
		n |= notesAll
	}
	return n, int64(inside)
}

// usual is what a gate keeps for an endpoint.
type usual struct {
	Quick
	of *Gate
}

// metMore is how many more endpoints than are in service a gate keeps something for: those that were taken out come back.
const metMore = 64

// noteQuick notes whether an answer was quick.
//
//go:noinline
func (g *Gate) noteQuick(x *exchange.Exchange, took time.Duration, notes uint64) {
	if x.Endpoint == nil {
		return
	}
	u, _ := x.Endpoint.Usual.Load().(*usual)
	if u == nil || u.of != g {
		u = g.meet(x.Endpoint)
	}
	u.Note(took.Seconds(), notes&notesLearn != 0, int64(x.Place) >= g.crowd.Load(), uint32(notes>>notesShift))
}

// meet begins to keep something for an endpoint, and ends it for those that are gone, or the oldest when too many are not.
func (g *Gate) meet(e *exchange.Endpoint) *usual {
	g.mu.Lock()
	defer g.mu.Unlock()
	if u, _ := e.Usual.Load().(*usual); u != nil && u.of == g {
		return u
	}
	most := g.core.knee.endpoints + metMore
	crowd := len(g.met) >= most
	g.met = slices.DeleteFunc(g.met, func(e *exchange.Endpoint) bool {
		forget := crowd && (e.Gone.Load() || e == g.met[0] && len(g.met) >= most)
		if forget {
			e.Usual.Store(&usual{}) // of nobody: should it answer again, it is met again
		}
		return forget
	})
	u := &usual{of: g}
	e.Usual.Store(u)
	g.met = append(g.met, e)
	return u
}

// signs tells win what quick answers showed. The lock is held.
func (g *Gate) signs(inside float64) {
	_, count, _ := g.core.Quick()
	var all Signs
	for _, e := range g.met {
		if u, _ := e.Usual.Load().(*usual); u != nil && u.of == g {
			all.Add(&u.Quick, count, float64(max(e.InFlight.Load(), 0)))
		}
	}
	all.inside = max(all.inside, inside) // some may be at endpoints that never answered
	g.win.Heard, g.win.Quick = all.Tell()
}
