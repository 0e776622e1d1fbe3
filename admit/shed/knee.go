package shed

import (
	"math"
	"time"
)

// Numbers of the estimate. They are without units, or relative to what is measured: none is a guess about the endpoints.
const (
	firstWorkers   = 8.0 // of each endpoint, before anything is known: most servers work on as many at once
	memoryLeast    = 300 // answers that are remembered when all take the same time…
	memoryMore     = 700 // …and how many more for each unit of the squared coefficient of variation
	recent         = 40  // answers that may contradict the rest
	contradiction  = 4.0 // standard deviations from which they do…
	differs        = 0.15
	noiseLeast     = 0.02 // squared coefficient of variation: what a network adds to service that always takes the same time
	noiseMost      = 8.0
	noiseFirst     = 1.0
	holdsOn        = 8.0 // how strongly the last estimate holds against a window: 1/holdsOn is the variance of its logarithm
	stepsUp        = 2.0 // the estimate looks this far above what was seen
	evidence       = 3.0 // how much better a bend must fit than none, in squares of standard deviations
	gives          = 0.7 // the estimate falls to this part when most clients leave
	grows          = 2.0 // the estimate does by this when there is no bend in sight
	usedForgets    = 60 * time.Second
	lowShare       = 0.05  // of what is remembered should be from below the knee…
	lowNoise       = 40.0  // …and so many answers for each unit of noise: they are then known to a sixth
	scatterAnswers = 500.0 // answers that are looked at for how they scatter
	lookLeast      = 20 * time.Millisecond
	lookFirst      = 50 * time.Millisecond
	lookMost       = 2 * time.Second
	// turnover is how many answers for each place must come after the estimate grew, before it grows again: those that come
	// first are the quick ones, and do not tell how it is with more at once.
	turnover = 0.7
	full     = 0.8 // share of the limit from which it counts as used
)

// Flow is what happened since the last look, beside the answers.
type Flow struct {
	InFlight  int     // now
	Waiting   int     // now
	Endpoints int     // in service
	Pushback  float64 // share of the answers that were 429 or 503: those are not in the window
	Behind    bool    // some are refused already
	Busy      float64 // utilisation that endpoints told of, 1 for full; 0: none did
}

// Knee finds out how many exchanges at once are right. It is pure: time comes in.
//
// A server with W places that works S seconds on each request answers after S while at most W are there, and after S·n/W with n
// there, whatever the order and (in the mean) whatever the distribution: latency over concurrency is a line
// with one bend, and the bend is the answer. Knee fits that line to the means of what was measured at each concurrency. A
// baseline that is the smallest latency seen, or a slow mean, drifts, and limits with it, as those of Vegas and of gradients
// do; here S and W are both fitted to the same data, and when there were none below the bend for a while, a dip of
// the limit by a seventh for a few answers fetches some.
type Knee struct {
	workers   float64 // W
	service   float64 // S in seconds; 0: nothing was measured yet
	noise     float64 // squared coefficient of variation of an answer's latency, with what answers have in common
	slow      table
	fast      table
	used      float64 // most in flight lately
	endpoints int
	at        time.Duration // of the last look
	limit     float64
	dipTo     float64       // limit while dipping; 0: not
	dipFrom   time.Duration // the limit is reached, about
	dipEnd    time.Duration
	nextDip   time.Duration
	saturated bool
	costs     [levels + 1]float64
	seen      Window        // what was learned from last
	deaf      time.Duration // nothing is learned before this: answers do not show yet what changed
	inside    float64       // in flight at the last look since then
	answers   float64       // since the limit last moved…
	measured  float64       // …in so many seconds
	before    float64       // answers per second before it grew on suspicion
	moments   [3]float64    // of answers lately: how many, their seconds, the squares of these
	raiseFrom float64       // answers that are needed before the estimate may grow again
}

// NewKnee starts with what is right for most.
func NewKnee(endpoints int) *Knee {
	e := max(endpoints, 1)
	k := &Knee{workers: firstWorkers * float64(e), noise: noiseFirst, endpoints: e}
	k.limit = k.target()
	return k
}

// Look takes in what was answered since the last look, and returns the limit that holds from now on.
func (k *Knee) Look(now time.Duration, win *Window, f Flow) float64 {
	past := now - k.at
	k.at = now
	k.scale(f.Endpoints)
	peak := float64(f.InFlight)
	for i := levels - 1; i >= 0; i-- {
		if win.Count[i] > 0 {
			peak = max(peak, middle(i))
			break
		}
	}
	k.used = max(peak, k.used*math.Exp2(-float64(past)/float64(usedForgets)))
	k.saturated = f.Waiting > 0 || peak >= full*k.limit
	was := k.Limit()
	if k.scatter(win); now >= k.deaf {
		k.read(win, past, f)
		k.learn(now, &k.seen, f)
	}
	if win.Left > win.Total && f.Pushback < 0.5 && k.saturated && now >= k.deaf && k.dipTo == 0 {
		// Most leave without an answer: whatever the reason, too many are inside.
		k.workers = max(k.workers*gives, float64(k.endpoints))
		k.before = 0
		k.limit = k.target()
	}
	k.dip(now, f.Behind)
	if k.service > 0 {
		k.settle(now, was)
	}
	return k.Limit()
}

// read makes of a window what the estimate learns from.
//
// While there is room, an answer's own latency at the concurrency at which it was inside is best: it is not blurred by what comes and
// goes meanwhile. While there is none, that would deceive: the answers that come are the quicker ones, those that take
// longer than their clients wait never come, and latency looks alike at any limit. So the time that all have spent inside
// is divided by the answers that came (Little's law): who does not come counts too.
func (k *Knee) read(win *Window, past time.Duration, f Flow) {
	k.seen = *win
	was := k.inside
	k.inside = float64(f.InFlight)
	if f.Waiting == 0 || past <= 0 {
		return
	}
	k.seen = Window{}
	if was == 0 { // the first after something changed: since when it was so is not known
		return
	}
	k.answers += float64(win.Total)
	k.measured += past.Seconds()
	n := (was + k.inside) / 2
	i := levelOf(int(n + 0.5))
	// What pushes back was inside too. Its time is not that of the others: else endpoints that only say "not now" would look ever slower,
	// and it took long to find out that they are well again.
	k.seen.Total, k.seen.Count[i], k.seen.Sum[i] = win.Total, win.Total, n*past.Seconds()*(1-min(f.Pushback, 1))
}

// settle lets nothing be learned until what is inside after the limit moved from was is what stays: those who came before met other
// numbers, and of those who came since the quick ones are answered first.
func (k *Knee) settle(now time.Duration, was float64) {
	to := k.Limit()
	if k.dipTo > 0 {
		return // its own times hold
	}
	if math.Abs(to-was) < 0.1*was+1 {
		return
	}
	wait := k.service * line(to, k.workers)
	if was > to {
		wait += (was - to) * k.service / k.workers
	}
	k.deaf = max(k.deaf, now+seconds(wait))
	k.inside, k.answers, k.measured = 0, 0, 0
}

// Limit is how many exchanges may be in flight.
func (k *Knee) Limit() float64 {
	if k.dipTo > 0 {
		return k.dipTo
	}
	return k.limit
}

// Capacity is how many exchanges per second the endpoints answer; 0: not known yet.
func (k *Knee) Capacity() float64 {
	if k.service == 0 {
		return 0
	}
	return k.workers / k.service
}

// scale follows the number of endpoints in service: a pool that lost one of five has four fifths of its places.
func (k *Knee) scale(endpoints int) {
	e := max(endpoints, 1)
	if e == k.endpoints {
		return
	}
	by := float64(e) / float64(k.endpoints)
	k.endpoints = e
	k.workers = max(k.workers*by, 1)
	k.used *= by
	// The levels that were seen mean another concurrency for each endpoint now.
	k.slow, k.fast = table{}, table{}
	k.limit = k.target()
}

// line is the fitted latency at n, in units of the service time.
func line(n, workers float64) float64 { return max(1, n/workers) }

// learn takes a window in.
func (k *Knee) learn(now time.Duration, win *Window, f Flow) {
	n := float64(win.Total)
	k.slow.add(win, math.Exp(-n/(memoryLeast+memoryMore*k.doubt())))
	k.fast.add(win, math.Exp(-n/recent))
	if k.service == 0 {
		if k.service = k.slow.scaleTo(k.workers); k.service == 0 {
			return
		}
	}
	k.raiseFrom = max(k.raiseFrom-n, 0)
	surprise := k.surprise()
	if surprise != 0 {
		k.slow = k.fast
	} else {
		k.listen(win)
	}
	k.fit(f)
	if surprise > 0 && f.Behind && now >= k.nextDip {
		k.startDip(now)
	}
	k.limit = k.target()
}

// scaleTo is the service time that fits best to a number of workers.
func (t *table) scaleTo(workers float64) float64 {
	sum, weight := 0.0, 0.0
	for i := 0; i <= t.top; i++ {
		sum += t.sum[i] / line(middle(i), workers)
		weight += t.weight[i]
	}
	if weight == 0 {
		return 0
	}
	return sum / weight
}

// surprise reports whether the latest answers contradict what is remembered: 1 slower, -1 quicker, 0 they do not.
func (k *Knee) surprise() int {
	ratio := k.fast.scaleTo(k.workers) / k.service
	if ratio <= 0 || k.fast.total < 3 {
		return 0
	}
	d := math.Log(ratio)
	if math.Abs(d) < differs || math.Abs(d)*math.Sqrt(k.fast.total) < contradiction*math.Sqrt(k.doubt()) {
		return 0
	}
	if d > 0 {
		return 1
	}
	return -1
}

// scatter learns how far single answers scatter: the least that there is of noise.
func (k *Knee) scatter(win *Window) {
	n := float64(win.Total)
	if n == 0 {
		return
	}
	keep, sum := math.Exp(-n/scatterAnswers), 0.0
	for _, s := range win.Sum {
		sum += s
	}
	m := &k.moments
	m[0], m[1], m[2] = m[0]*keep+n, m[1]*keep+sum, m[2]*keep+win.Squares
}

// doubt is the variance of the number of answers for each one that is due.
func (k *Knee) doubt() float64 { return max(k.noise, k.cv2(), 0.05) }

// cv2 is the squared coefficient of variation of answers, as far as known.
func (k *Knee) cv2() float64 {
	m := &k.moments
	if m[0] < 10 || m[1] <= 0 {
		return noiseFirst
	}
	return min(max(m[2]*m[0]/(m[1]*m[1])-1, 0), noiseMost)
}

// listen learns from a window how far answers scatter.
func (k *Knee) listen(win *Window) {
	sum, n := 0.0, 0.0
	for i := range win.Count {
		if win.Sum[i] > 0 {
			due := win.Sum[i] / (k.service * line(middle(i), k.workers))
			d := float64(win.Count[i]) - due
			sum, n = sum+d*d, n+due
		}
	}
	if n < 0.5 {
		return
	}
	one := min(sum/n, 4*k.noise+0.1)
	k.noise = min(max(k.noise+0.1*min(n/8, 1)*(one-k.noise), noiseLeast), noiseMost)
}

// fit moves the estimate to what the table says, as far as it says anything: each number of workers is weighed by how well its
// line fits and how near it is to the last estimate. Data that fit all equally well move nothing.
func (k *Knee) fit(f Flow) {
	t := &k.slow
	if t.total < 2 {
		return
	}
	seen := middle(t.top)
	top := levelOf(int(min(seen*stepsUp, math.MaxInt32)))
	if !k.saturated || f.Pushback > 0.1 || f.Busy > 0.95 {
		top = min(top, levelOf(int(seen)))
	}
	top = max(top, levelOf(int(k.workers*1.5)))
	best := math.Inf(1)
	for c := 0; c <= top; c++ {
		k.costs[c] = t.misfit(middle(c)) / k.doubt()
		best = min(best, k.costs[c])
	}
	here := math.Log(k.workers)
	var shift, weight, bias, plain float64
	for c := 0; c <= top; c++ {
		d := math.Log(middle(c)) - here
		width := 1.0 // of the level in the logarithm
		if c < exactTo {
			width = math.Log1p(1 / (float64(c) + 0.5))
		} else {
			width = math.Ln2 / perOctave
		}
		prior := width * math.Exp(-d*d*holdsOn/2)
		p := prior * math.Exp(-(k.costs[c]-best)/2)
		shift, weight = shift+p*d, weight+p
		bias, plain = bias+prior*d, plain+prior
	}
	step := shift/weight - bias/plain
	mayGrow := k.saturated && f.Pushback <= 0.1 && f.Busy <= 0.95 && k.raiseFrom <= 0
	flat := k.costs[min(t.top, top)] - best
	switch lowest := t.lowest(max(3, 4*k.doubt())); {
	case flat >= evidence && lowest >= 0 && k.costs[min(lowest, top)]-best < 1 && middle(lowest) < k.workers:
		// Latency rises all the way from the least that was seen: the bend may be there, or below.
		step = max(math.Log(middle(lowest)/k.workers), -math.Log(grows))
	case mayGrow && flat < evidence && k.paid():
		// Nothing says that there is a bend below what was seen: more at once will either answer more, or show the bend.
		step = math.Log(grows)
		k.before = k.rate()
		k.raiseFrom = max(turnover*k.limit*grows, 10*k.doubt())
	case step > 0 && !mayGrow:
		step = 0
	case step > 0.02:
		k.raiseFrom = turnover * k.limit
	}
	if step < -0.3 {
		k.before = 0
	}
	k.workers = max(k.workers*math.Exp(step), 1)
	k.service = t.scaleTo(k.workers)
}

// rate is how many answers per second came since the limit last moved.
func (k *Knee) rate() float64 {
	if k.measured <= 0 {
		return 0
	}
	return k.answers / k.measured
}

// paid reports whether growing the last time brought more answers. It ought to bring twice as many.
func (k *Knee) paid() bool { return k.rate() > 1.25*k.before }

// lowest is the lowest level with some weight; -1: none has it.
func (t *table) lowest(weight float64) int {
	for i := 0; i <= t.top; i++ {
		if t.weight[i] >= weight {
			return i
		}
	}
	return -1
}

// misfit is how badly the line with its bend at workers fits: squares of relative errors, weighed.
func (t *table) misfit(workers float64) float64 {
	s := t.scaleTo(workers)
	if s <= 0 {
		return 0
	}
	sum := 0.0
	for i := 0; i <= t.top; i++ {
		if t.sum[i] > 0 {
			due := t.sum[i] / (s * line(middle(i), workers))
			d := t.weight[i] - due
			sum += d * d / max(due, t.weight[i], 1)
		}
	}
	return sum
}

// target is the limit for the estimate: above the knee, because a place too many costs a little latency and one too few costs
// work that is never done, and the more so the fewer there are.
func (k *Knee) target() float64 {
	w := k.workers
	want := max(1.2*w, w+1.5*math.Sqrt(w))
	known := 2*k.used + firstWorkers*float64(k.endpoints)*1.6
	return max(min(want, known), float64(k.endpoints), 1)
}

// dip starts and ends dips. There are none before anybody has to be refused: calm times show how it is with few inside by themselves, and
// a dip would refuse somebody.
func (k *Knee) dip(now time.Duration, behind bool) {
	if k.dipTo > 0 && now >= k.dipEnd {
		k.dipTo = 0
	}
	if k.dipTo > 0 || !behind || !k.saturated || k.service == 0 || now < k.nextDip {
		return
	}
	low := 0.0
	for i := 0; i <= k.slow.top && middle(i) <= 0.6*k.limit+0.5; i++ {
		low += k.slow.weight[i]
	}
	if low < max(min(lowNoise*k.doubt(), k.slow.total/6), 4) {
		k.startDip(now)
	}
}

// Again is when to look again. Answers of endpoints that all take the same time come in bursts a service time apart, so that less than one
// says little; a dip has looks of its own.
func (k *Knee) Again(now time.Duration) time.Duration {
	switch {
	case k.dipTo > 0 && now < k.dipFrom:
		return max(k.dipFrom, now+lookLeast)
	case k.dipTo > 0:
		return max(k.dipEnd, now+lookLeast)
	case k.service == 0:
		return now + lookFirst
	}
	return now + clamp(seconds(k.service), lookLeast, lookMost)
}

// startDip halves the limit until some answers from there have come.
func (k *Knee) startDip(now time.Duration) {
	to := max(math.Floor(k.limit/2), 1, float64(k.endpoints))
	rate := k.workers / k.service
	need := 4 * max(1, k.doubt())
	drain := max(k.limit-to, 0) / rate
	last := seconds(drain + k.service + max(need/rate, k.service))
	k.dipTo, k.dipFrom, k.dipEnd = to, now+seconds(drain+k.service), now+last
	k.nextDip = k.dipEnd + 4*last
	k.deaf, k.inside, k.answers, k.measured = k.dipFrom, 0, 0, 0
}
