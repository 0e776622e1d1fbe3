package shed

import (
	"math"
	"time"
)

// Numbers of the first answers.
const (
	fillMost  = 64                     // first answers that are looked at for a queue behind them
	fillLeast = 8                      // of them tell something
	fillSure  = 14.0                   // what the queue must explain, in units of what it leaves unexplained: F of 1 and n-2, as W is searched for too
	fillPause = 250 * time.Millisecond // from the first answer on: who waits at the gate meanwhile loses nothing
	fillExact = 0.02                   // standard deviation of a logarithm below which nothing counts as exact: clocks and networks
)

// First is one of the first answers a gate ever saw.
type First struct {
	Place   int // how many were in flight as it was let in, itself among them
	Seconds float64
}

// fill is what the first answers show of endpoints that were filled from empty: who found n inside waits behind them, so that the answer takes max(1, n/W) times
// as long as the work where requests are worked on in order. Where they share, or where some work takes much longer than other, it shows little, and the search has to tell.
type fill struct {
	list  []First
	top   int           // most in flight at one of those
	since time.Duration // the first answer
}

// add takes answers in.
func (f *fill) add(now time.Duration, list []First) {
	if len(f.list) == 0 {
		f.since = now
	}
	for _, one := range list {
		if len(f.list) < fillMost && one.Seconds > 0 {
			f.list = append(f.list, one)
			f.top = max(f.top, one.Place)
		}
	}
}

// tells reports whether a queue of its own explains how long the answers took, and what W and S are then. S is unsure by a logarithm's standard deviation of unsure.
func (f *fill) tells() (workers, service, unsure float64, sure bool) {
	n := float64(len(f.list))
	if n < fillLeast {
		return 0, 0, 0, false
	}
	flat := f.fits(math.Inf(1))
	best := math.Inf(1)
	for w := 1.0; w <= float64(f.top)/2; w = max(w+1, math.Floor(w*1.1)) {
		if left := f.fits(w); left < best {
			best, workers = left, w
		}
	}
	spread := max(best, n*fillExact*fillExact) / (n - 2)
	return workers, f.mean(workers), math.Sqrt(spread / n), (flat-best)/spread > fillSure
}

// mean is S with W: of logarithms it would be far too small where some work takes much longer than most.
func (f *fill) mean(workers float64) float64 {
	sum := 0.0
	for _, one := range f.list {
		sum += one.Seconds / line(float64(one.Place), workers)
	}
	return sum / float64(len(f.list))
}

// fits is what W leaves unexplained of the logarithms, squared.
func (f *fill) fits(workers float64) float64 {
	var sum, squares float64
	for _, one := range f.list {
		r := math.Log(one.Seconds / line(float64(one.Place), workers))
		sum += r
		squares += r * r
	}
	return max(squares-sum*sum/float64(len(f.list)), 0)
}

// begins learns from the first answers.
func (k *Knee) begins(now time.Duration, f Flow) {
	k.hold = 0
	if k.done = k.known; k.done || k.dip > 0 || k.fill.top == 0 {
		return
	}
	if w, s, unsure, sure := k.fill.tells(); sure && float64(f.InFlight) > 2*w {
		k.done, k.first = true, false
		w = max(w, float64(len(k.fill.list))*s/max(now-k.fill.since, lookLeast).Seconds()) // so many answers came meanwhile
		k.workers, k.service, k.known, k.verified = max(w, 1), s, true, true
		k.low = latency{count: float64(len(k.fill.list)) / 4, seconds: s * float64(len(k.fill.list)) / 4}
		k.calmer, k.high, k.recent = latency{}, gauge{}, gauge{}
		k.set(k.roomy(w, w/s, unsure))
		k.skip = max(k.skip, float64(f.InFlight))
		return
	}
	k.done = len(k.fill.list) >= fillMost
	if k.first && !k.done && now-k.fill.since < fillPause {
		k.hold = max(firstPlaces*float64(k.endpoints), 2*float64(k.fill.top)) // what is inside will soon tell whether there was a queue
	}
}
