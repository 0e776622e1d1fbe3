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
	flat, _ := f.fits(math.Inf(1))
	best := math.Inf(1)
	for w := 1.0; w <= float64(f.top)/2; w = max(w+1, math.Floor(w*1.1)) {
		if left, s := f.fits(w); left < best {
			best, workers, service = left, w, s
		}
	}
	spread := max(best, n*fillExact*fillExact) / (n - 2)
	return workers, service, math.Sqrt(spread / n), (flat-best)/spread > fillSure
}

// fits is what W leaves unexplained of the logarithms, squared, and S with it.
func (f *fill) fits(workers float64) (left, service float64) {
	var sum, squares float64
	for _, one := range f.list {
		r := math.Log(one.Seconds / line(float64(one.Place), workers))
		sum += r
		squares += r * r
	}
	n := float64(len(f.list))
	return max(squares-sum*sum/n, 0), math.Exp(sum / n)
}

// begins learns from the first answers while the limit is used and nothing else is known.
func (k *Knee) begins(now time.Duration, f Flow) {
	k.hold = 0
	if k.done = !k.first || k.known; k.done || k.dip > 0 || k.fill.top == 0 {
		return
	}
	w, s, unsure, sure := k.fill.tells()
	switch {
	case sure:
		k.done, k.first = true, false
		k.workers, k.service, k.known, k.verified = max(w, 1), s, true, true
		k.low = latency{count: float64(len(k.fill.list)) / 4, seconds: s * float64(len(k.fill.list)) / 4}
		k.set(k.roomy(w, w/s, unsure))
		k.skip = max(k.skip, float64(f.InFlight))
		k.high, k.recent = gauge{}, gauge{}
	case len(k.fill.list) >= fillMost || now-k.fill.since >= fillPause:
		k.done = true
	default:
		k.hold = max(firstPlaces*float64(k.endpoints), 2*float64(k.fill.top)) // what is inside will soon tell whether there was a queue
	}
}
