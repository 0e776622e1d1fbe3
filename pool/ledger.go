package pool

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Answers are counted by latency in steps of a quarter octave (19%), from 1 ms, below which no endpoint is called slow, to 131 s.
const (
	stepsPerOctave = 4
	ledgerLen      = 17*stepsPerOctave + 2
	ledgerUnit     = time.Millisecond
)

// ledger is what the exchanges themselves write down about their endpoint: counters that only grow, and rows. Everything
// else is worked out beside the way of the exchanges, from what has come since it was last looked at.
type ledger struct {
	steps   [ledgerLen]atomic.Uint32 // answers that did not fail
	bad     atomic.Uint32            // failures
	badRow  atomic.Uint32            // of them, in a row until now
	slowRow atomic.Uint32            // answers at or above slowAt in a row until now
	slowAt  atomic.Int64             // ns from which an answer is slow; 0: not known
}

// step is where a latency is counted.
func step(d time.Duration) int {
	u := uint64(d) * stepsPerOctave / uint64(ledgerUnit) // in quarters of a ms, so that two bits below the first are there
	if d < ledgerUnit {
		return 0
	}
	n := bits.Len64(u) - 1
	return min(1+(n-2)*stepsPerOctave+int(u>>(n-2)&3), ledgerLen-1)
}

// stepFloor is the least latency of a step.
func stepFloor(i int) time.Duration {
	if i <= 0 {
		return 0
	}
	octave, part := (i-1)/stepsPerOctave, (i-1)%stepsPerOctave
	return time.Duration(float64(ledgerUnit) * math.Ldexp(1+float64(part)/stepsPerOctave, octave))
}

// atFault says whether a result counts as a failure when endpoints are compared: no answer, one that breaks off, or a 5xx but for 501 and 505, which are about
// the request, and 503, by which an endpoint says that it has too much to do.
func atFault(r *exchange.Result) bool {
	switch r.Kind {
	case exchange.Answered:
		return r.Status >= 500 && r.Status != 501 && r.Status != 503 && r.Status != 505 || broken(r)
	case exchange.Broken:
		return !r.Unsent && !r.Refused
	case exchange.TimedOut:
		return true
	}
	return false
}

// note writes a result down. It reports a failure that did not come alone, which is worth a look at once.
func (l *ledger) note(r *exchange.Result) (look bool) {
	if r.Kind == exchange.Answered && r.Status < 500 && r.Status != 429 && r.Reason == "" { // nearly always
		l.well(r.Latency)
		return false
	}
	return l.noteOther(r)
}

func (l *ledger) noteOther(r *exchange.Result) (look bool) {
	switch {
	case atFault(r):
		l.bad.Add(1)
		return l.badRow.Add(1) >= doubtRow
	case r.Kind == exchange.Answered && r.Status != 429 && r.Status != 503:
		l.well(r.Latency)
	case r.Kind == exchange.Cancelled:
		// Who left after a while tells that it took at least that long, and who left soon tells nothing. Neither is an answer.
		if at := l.slowAt.Load(); at != 0 && int64(r.Latency) >= at {
			l.took(r.Latency, at)
		}
	}
	return false
}

// well writes an answer down that did not fail.
func (l *ledger) well(took time.Duration) {
	if l.badRow.Load() != 0 {
		l.badRow.Store(0)
	}
	if took > 0 {
		l.took(took, l.slowAt.Load())
	}
}

func (l *ledger) took(d time.Duration, slowAt int64) {
	l.steps[step(d)].Add(1)
	if slowAt != 0 && int64(d) >= slowAt {
		l.slowRow.Add(1)
	} else if l.slowRow.Load() != 0 {
		l.slowRow.Store(0)
	}
}

// window is what was counted of an endpoint lately; older counts fade.
type window struct {
	steps [ledgerLen]float32
	good  float64 // sum of steps
	bad   float64
}

// fade lets what was counted grow older.
func (w *window) fade(left float64) {
	if w.good+w.bad == 0 {
		return
	}
	if w.good+w.bad < 0.01 {
		*w = window{}
		return
	}
	for i := range w.steps {
		w.steps[i] *= float32(left)
	}
	w.good *= left
	w.bad *= left
}

// add takes another window in, times n: -1 takes it out again.
func (w *window) add(o *window, n float64) {
	for i := range w.steps {
		w.steps[i] += o.steps[i] * float32(n)
	}
	w.good += o.good * n
	w.bad += o.bad * n
}

// answers is how many there are.
func (w *window) answers() float64 { return w.good + w.bad }

// median is the middle of the latencies, to about a tenth; 0 when there are none.
func (w *window) median() time.Duration {
	left := w.good / 2
	if left <= 0 {
		return 0
	}
	for i, n := range w.steps {
		if left -= float64(n); left <= 0 && n > 0 {
			from := float64(stepFloor(i))
			return time.Duration(from + (float64(stepFloor(i+1))-from)*(1+left/float64(n)))
		}
	}
	return stepFloor(ledgerLen)
}

// quantile is the floor of the step in which a share of the latencies is exceeded.
func (w *window) exceededBy(share float64) time.Duration {
	left := w.good * share
	for i := ledgerLen - 1; i > 0; i-- {
		if left -= float64(w.steps[i]); left < 0 {
			return stepFloor(i + 1)
		}
	}
	return ledgerUnit
}

// above is how many latencies are at or above d, by whole steps: the step of d itself counts when d stands in its lower half.
func (w *window) above(d time.Duration) float64 {
	from, sum := step(d), 0.0
	if d > (stepFloor(from)+stepFloor(from+1))/2 {
		from++
	}
	for i := from; i < ledgerLen; i++ {
		sum += float64(w.steps[i])
	}
	return sum
}

// unlikely says whether k or more of n would come to pass with a chance of less than alpha when each has the chance p: by
// Chernoff's bound, which is exact for k = n and never too small (Hoeffding 1963, theorem 1).
func unlikely(k, n, p, alpha float64) bool {
	if n <= 0 || p >= 1 || k <= n*p {
		return false
	}
	q := min(k/n, 1)
	kl := q * math.Log(q/p)
	if q < 1 {
		kl += (1 - q) * math.Log((1-q)/(1-p))
	}
	return n*kl > -math.Log(alpha)
}
