package shed

import (
	"math"
	"time"
)

// Numbers of giving way when clients leave without an answer.
const (
	leaving     = 0.3      // clients that leave for each answer: more are a sign of too many inside…
	leftOf      = 32.0     // …of so many clients and answers…
	leftLeast   = 8.0      // …when they are more than chance…
	unheardMost = 3.0      // …or so many, while nothing was answered ever
	gives       = 0.5      // the limit falls to this part of what is inside…
	nobody      = 0.3      // …or, with fewer answers than this for each client that left…
	givesLeast  = 0.125    // …to this one: where all share the processor, nobody is answered until nearly all are gone…
	givesAll    = 1.0 / 32 // …and no lower than this part of what it was before the first time: an endpoint that goes on for clients who left needs time, not a lower limit
	leftTurn    = 0.5      // of the time for which those who leave were inside: until then what it fell for shows in who leaves next
	keepsS      = 50.0     // answers that told S, for it not to be forgotten then
	ceilings    = 20       // conclusions for which the limit stays below half of what it was then
	ghostsLast  = 200.0    // answers and clients that left show how many do in the long run…
	ghosts      = 0.1      // …and from this part of them on endpoints may still work for some of those…
	ghostly     = 1.2      // …so that a dip makes S no more than so many times as long
)

// leavers is what clients that leave without an answer show.
type leavers struct {
	left, all float64       // lately: they, and answers besides
	stay      float64       // seconds for which they were inside
	until     time.Duration // the limit does not fall for them before this
}

func (l *leavers) note(f Flow) {
	n := float64(f.Answers + f.Left)
	keep := math.Exp(-n / ghostsLast)
	l.left, l.all = l.left*keep+float64(f.Left), l.all*keep+n
	if f.Left > 0 {
		l.stay += 0.2 * (f.Stayed/float64(f.Left) - l.stay)
	}
}

// haunted is the S that a dip showed, which is more than before. Endpoints may still work for clients that left, though their places were given to others: then all who are inside get less,
// and a dip shows a queue of those who are gone. Before five processors that one heavy request in ten came to, each dip showed an S half as long again, S went from 0.11 to 0.6 s and the limit from 18 to 44, and
// ever more clients left. It may be the work, too: a few dips find out.
func (l *leavers) haunted(s, before float64) float64 {
	if l.left <= ghosts*l.all {
		return s
	}
	return min(s, ghostly*before)
}

// leaves reports whether many leave without an answer. It does not wait for a conclusion: where all share the processor and each takes seconds, those who leave are
// replaced by others who will, and hardly anybody is answered meanwhile.
func (k *Knee) leaves(f Flow) bool {
	n, left := float64(f.Answers), float64(f.Left)
	if k.pardon -= n + left; k.pardon > 0 && float64(f.InFlight) <= k.limit { // they are gone, some without notice
		k.pardon, k.skip = 0, min(k.skip, k.limit)
	}
	if k.pardon > 0 {
		return false
	}
	keep := math.Exp(-(n + left) / leftOf)
	k.lost, k.given = keep*k.lost+left, keep*k.given+n
	if k.at < k.leavers.until {
		return false
	}
	return k.lost > k.given*leaving && (k.lost >= leftLeast || k.lost >= unheardMost && k.unheard(f))
}

// gone counts clients that left after more than half of S as answers, once there were any. Those who leave sooner say nothing: with them, ten requests that gave endpoints ten milliseconds each made S of a pool that
// never answered, and the next was refused as its time would not do.
func (k *Knee) gone(f Flow) {
	if k.fill.top > 0 && f.Left > 0 && f.Stayed > k.low.mean()*float64(f.Left)/2 {
		k.batch.leave(f.Left, f.Stayed)
	}
}

// unheard reports whether nothing was answered ever, and more want to come in. While there is room, some who do not wait for a long answer show nothing.
func (k *Knee) unheard(f Flow) bool {
	return k.pressed(f) && k.fill.top == 0 && k.high.count == 0 && k.low.count == 0
}

// pressed reports whether the limit is used.
func (k *Knee) pressed(f Flow) bool { return k.full || f.Waiting > 0 }

// leave gives way when most leave without an answer. Whatever the reason, too many are inside, and nothing that was learned holds.
func (k *Knee) leave(f Flow) {
	k.leavers.until = k.at + seconds(leftTurn*k.leavers.stay)
	part := gives
	if k.given < nobody*k.lost && k.pressed(f) {
		part = givesLeast
	}
	to := part * min(k.limit, max(k.period.inside(), float64(f.InFlight), 1))
	switch {
	case k.unheard(f):
		to = 1
	case k.known && k.limit > headroom*k.workers+1:
		k.free /= 2 // it is minded
		to = k.roomy(k.workers, k.Capacity(), 0)
	default:
		if k.known = false; k.low.count < keepsS {
			k.low, k.crept, k.moments = latency{}, false, [3]float64{}
		}
		if k.ceilingEnd > 0 { // who works for those who left may need some time
			to = max(to, k.ceiling*givesAll/gives)
		}
	}
	if k.ceilingEnd == 0 {
		k.ceiling = max(gives*k.limit, to, float64(k.endpoints))
	}
	k.ceilingEnd = ceilings
	k.high, k.recent, k.deeper = gauge{}, gauge{}, false
	k.lost, k.given, k.trial.limit = 0, 0, 0
	k.set(to)
	k.pardon = max(float64(f.InFlight)-k.limit, 0)
	k.skip = max(k.skip, k.pardon)
}
