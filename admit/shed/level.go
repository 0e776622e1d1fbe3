package shed

import (
	"math"
	"time"
)

// Numbers of the levels.
const (
	levelTurns    = 8.0         // answers for each place make a level known: those that come soon after a change of the limit are not what lasts
	levelNoise    = 8.0         // …and so many times their variance
	levelLasts    = time.Minute // without new answers, or…
	levelServices = 400.0       // …so many service times
	levelMost     = 0.5         // of the limit is taken off at once, at the most: what was true at a level may not be any more, and is seen on the way
	levelMore     = 0.2         // of a rate's logarithm: so much more must have been answered at a higher limit for that to be tried again…
	levelSure     = 2.5         // …and so many standard deviations…
	levelFar      = 3.0         // times the limit must have been inside in calm times: with fewer, capacity may just have fallen. When five places became two, calm times made the limit grow again and again
	trialSure     = 1.25        // …half of which are enough in a trial: with twice the limit, and as many answers as make a conclusion, all of them would be more than twice as much
	trialTurns    = 4           // conclusions, at the most, until it is decided
	trialMost     = 2.0         // times the limit
	trialEvery    = 40.0        // times as long as one took, when it was in vain…
	trialFell     = 0.6         // …unless the limit has fallen to this part since
	blindFell     = 0.5         // of what was answered in calm times: with less than that a higher limit is tried though nothing tells of one…
	blindBelow    = 1.4         // …below so many times the doubt, where a dip has too few answers…
	blindKnown    = 32.0        // …and many are known here, in units of the doubt…
	blindSure     = 2.0         // …and so many standard deviations then are proof
)

// level is what was answered at limits of about the same height.
type level struct {
	gauge
	last time.Duration
}

// rung is the level that a limit belongs to: two for each doubling.
func rung(limit float64) int { return min(int(math.Round(2*math.Log2(max(limit, 1)))), 31) }

// note keeps what was answered at the limit. After a surprise all others are of another time.
func (k *Knee) note(part gauge, surprise bool) {
	if surprise {
		k.levels = [32]level{}
	}
	k.levels[rung(k.limit)].note(part, k.at, k.doubt())
}

func (l *level) note(part gauge, now time.Duration, doubt float64) {
	l.add(part, math.Exp(-part.count/max(100+200*doubt, 2*levelTurns*part.inside())))
	l.last = now
}

// holds reports whether what was answered at a level is known, and not long ago.
func (k *Knee) holds(l *level, doubt float64) bool {
	return l.count >= max(levelNoise*max(doubt, 1), levelTurns*l.inside()) && k.at-l.last <= max(levelLasts, seconds(levelServices*k.service))
}

// recall bounds S by what was answered at lower limits: as many times as more is answered now there can be more places than were used there. Where all share and some
// of the work is heavy, a dip's answers are of what was left from before it, and tell an S that is far too long: from 8 the limit went to 60 for five processors, each further
// dip showed a queue of its own, and nothing but memory could tell that as much was answered before.
func (k *Knee) recall() {
	if k.high.count < k.limit {
		return
	}
	doubt := k.doubt()
	for i := range k.levels[:rung(k.limit)] {
		l := &k.levels[i]
		if !k.holds(l, doubt) {
			continue
		}
		unsure := math.Sqrt(doubt * (1/l.count + 1/k.high.count))
		k.atMost(max(l.inside()*max(1, k.high.rate()/l.rate())*math.Exp(unsure), levelMost*k.limit))
	}
}

// atMost bounds S so that there are no more places than most.
func (k *Knee) atMost(most float64) {
	if k.high.rate()*k.low.mean() > most {
		k.low = latency{count: k.low.count, seconds: k.low.count * most / k.high.rate()}
	}
}

// trial is a higher limit that is tried, since more was answered at one.
type trial struct {
	limit  float64 // of before; 0: there is none
	before gauge   // what was answered at it
	turns  int     // conclusions that have not decided
	blind  bool    // nothing tells that more was answered at it
	began  time.Duration
	next   time.Duration // no other before this…
	vain   float64       // …while the limit is about this one, at which it was in vain
}

// tries begins and ends trials, and reports whether nothing else is to be concluded. Where S came out too short the limit fell, and less was answered, and W, which is that times S, looked
// smaller for it, and the limit fell again, a little each time: 380 places had 56 in use and 18 a minute and a half later. What was answered before tells that it was not always so.
func (k *Knee) tries(surprise bool, f Flow) bool {
	t := &k.trial
	switch {
	case surprise:
		t.limit = 0
	case t.limit > 0:
		return k.tried()
	case (k.at >= t.next || k.limit <= trialFell*t.vain) && k.ceilingEnd == 0 && !f.full() && k.here.count >= k.limit:
		to := k.higher()
		blind := to == 0 && k.blind(f)
		if blind {
			to = trialMost * k.limit
		}
		if to > 0 {
			t.limit, t.before, t.began, t.turns, t.blind = k.limit, k.here, k.at, 0, blind
			k.high, k.recent = gauge{}, gauge{}
			k.set(min(to, trialMost*k.limit))
			return true
		}
	}
	return false
}

// blind reports whether a higher limit is to be tried though nothing tells that more was answered at one. Work became three times as slow before six places: the limit fell to two, a dip to one was nine
// answers in nine minutes, which showed nothing, and for half an hour, in which there were fifteen places at last, two were used.
func (k *Knee) blind(f Flow) bool {
	d := k.doubt()
	return f.Waiting > 0 && k.known && k.limit < blindBelow*d && k.here.count >= blindKnown*d && k.here.rate() < blindFell*k.rest.rate()
}

// higher is a limit at which more was answered than at this one, by more than chance, or so many inside in calm times; 0: none is known. What calm times showed outlasts surprises: after a stall
// that ten answers told an S of, five of 150 places were used, and half a minute went by until all were, though fifteen times as much had been answered before it.
func (k *Knee) higher() float64 {
	doubt := k.doubt()
	more := func(l *level) bool {
		is, _ := k.gains(k.here, l.gauge, levelSure*math.Sqrt(doubt))
		return is && k.holds(l, doubt)
	}
	for i := rung(k.limit) + 1; i < len(k.levels); i++ {
		if l := &k.levels[i]; more(l) {
			return l.inside()
		}
	}
	if k.rest.inside() > levelFar*k.limit && more(&k.rest) {
		return k.rest.inside()
	}
	return 0
}

// gains reports whether more was answered with more inside, by more than chance: unsure is as many standard deviations of one answer as that takes. may: half of it was, and more answers may
// show it. Of 150 places 106 were used for eight minutes, as the 167 answers of a trial at 167 were only a tenth more than before, by chance.
func (k *Knee) gains(few, more gauge, unsure float64) (is, may bool) {
	gain, least := math.Log(more.rate()/few.rate()), max(levelMore, math.Log(more.inside()/few.inside())/2)
	unsure *= math.Sqrt(1/few.count + 1/more.count)
	return gain > max(least, unsure), gain > least/2
}

// tried ends a trial. When more is answered indeed then nobody had waited at the limit of before, and S is what all took there; else what is known of higher limits is of another time.
func (k *Knee) tried() bool {
	t := &k.trial
	sure := trialSure
	if t.blind {
		sure = blindSure
	}
	is, may := k.gains(t.before, k.here, sure*math.Sqrt(k.doubt()))
	if t.turns++; may && !is && t.turns < trialTurns {
		return true
	}
	from := t.limit
	t.limit = 0
	if is {
		k.low = latency{count: t.before.count, seconds: t.before.area}
		return false
	}
	for i := rung(from) + 1; i < len(k.levels); i++ {
		k.levels[i] = level{}
	}
	t.next, t.vain = k.at+time.Duration(trialEvery*float64(k.at-t.began)), from
	k.set(from)
	k.high, k.recent = t.before, gauge{}
	return true
}
