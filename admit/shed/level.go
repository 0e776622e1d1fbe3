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
	l := &k.levels[rung(k.limit)]
	l.add(part, math.Exp(-part.count/(100+200*k.doubt())))
	l.last = k.at
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
		if l.count < max(levelNoise*max(doubt, 1), levelTurns*l.inside()) || k.at-l.last > max(levelLasts, seconds(levelServices*k.service)) {
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
