package shed

import "math"

// Window is what answers showed since the last one.
type Window struct {
	Total            int64
	Seconds, Squares float64 // of their latencies: all together, and their squares
	Logs             float64 // the natural logarithms of their latencies in seconds, all together…
	Sorted           bool    // …each compared with what its kind takes in calm times
	Heard, Quick     float64 // answers of the count that Core.Quick tells, each endpoint's by how many are inside there, and the share of quick ones among them
	Peak             float64 // most in flight at one of them
	First            []First // the first answers, while they tell something
}

// Add adds one answer: n exchanges were in flight meanwhile, and it took so many seconds.
func (w *Window) Add(n int, seconds float64) {
	w.Total++
	w.Seconds += seconds
	w.Squares += seconds * seconds
	w.Logs += math.Log(max(seconds, 1e-6))
	w.Peak = max(w.Peak, float64(n))
}

// join adds what others than the first answers showed.
func (w *Window) join(o *Window) {
	w.Total += o.Total
	w.Seconds += o.Seconds
	w.Squares += o.Squares
	w.Logs += o.Logs
	w.Sorted = w.Sorted || o.Sorted
	w.Peak = max(w.Peak, o.Peak)
}

// leave adds clients that left without an answer and were inside for so many seconds together: theirs would have taken longer still. Where all share the processor and clients wait for a
// second, those who asked for something heavy leave first, and the light answers that remain looked quick, and as sure as a clock.
func (w *Window) leave(n int, seconds float64) {
	each := seconds / float64(n)
	w.Total += int64(n)
	w.Seconds += seconds
	w.Squares += seconds * each
	w.Logs += float64(n) * math.Log(max(each, 1e-6))
}

// gauge is how many answers came in how many seconds, and how many were inside, over time.
type gauge struct{ count, time, area float64 }

// add lets what is known fade to the part keep, and adds o.
func (g *gauge) add(o gauge, keep float64) {
	g.count, g.time, g.area = g.count*keep+o.count, g.time*keep+o.time, g.area*keep+o.area
}

// inside is how many were, in the mean.
func (g gauge) inside() float64 { return g.area / max(g.time, 1e-9) }

// rate is answers per second; 0: not known.
func (g gauge) rate() float64 {
	if g.time <= 0 {
		return 0
	}
	return g.count / g.time
}

// latency is of answers at few in flight.
type latency struct {
	count, seconds float64
	told, logs     float64 // how many of them with the logarithms of their seconds, and these
}

func (l *latency) add(count, seconds, logs, keep float64) {
	l.count, l.seconds = l.count*keep+count, l.seconds*keep+seconds
	l.told, l.logs = l.told*keep, l.logs*keep
	if logs != 0 {
		l.told, l.logs = l.told+count, l.logs+logs
	}
}

// mean is S; 0: not known.
func (l latency) mean() float64 {
	if l.count < 1 {
		return 0
	}
	return l.seconds / l.count
}

// typical is the mean of the logarithms: a few that take long do not change it.
func (l latency) typical() float64 { return l.logs / l.told }

// apart reports whether two rates differ by more than chance.
func apart(a, b, doubt float64, na, nb float64) bool {
	d := math.Abs(math.Log(a / b))
	return d > differs && d > deviations*math.Sqrt(doubt*(1/na+1/nb))
}

// scatter learns how far answers scatter within a window. From one to the next they change with the limit, which says nothing of the work.
func (k *Knee) scatter(win *Window) {
	n := float64(win.Total)
	if n < 2 {
		return
	}
	keep := math.Exp(-n / scattered)
	m := &k.moments
	mean := win.Seconds / n
	m[0], m[1], m[2] = m[0]*keep+n-1, m[1]*keep+(n-1)*mean, m[2]*keep+max(win.Squares-n*mean*mean, 0)
}

// noise is the squared coefficient of variation of answers, as far as known.
func (k *Knee) noise() float64 { return k.variance(math.Inf(1)) }

// doubt is the variance of the number of answers for each one that is due: noise, but relative to S, for an answer that queued at the endpoints scatters
// as one that did not and takes longer. Where some are worked on before others who came earlier, queues make answers scatter that do not by themselves: two places of
// fixed work looked as unsure as work can be, and it took five seconds and three dips to know them. Nor is it far less than answers scattered that found no queue: where work is
// of very different lengths, the heavy requests are those whose clients leave first, and the light answers that remain looked as sure as a clock. What minutes of calm showed does not fade with those that remain.
func (k *Knee) doubt() float64 {
	v := k.noise()
	if k.service > 0 {
		v = k.variance(k.service)
	}
	if alone := k.alone.variance(); alone > 0 {
		v = max(min(v, noiseQueued*alone), noiseHidden*alone)
	}
	if k.founded() {
		v = max(v, noiseHidden*k.spread.variance())
	}
	return v
}

// variance is that of answers in units of the square of their mean, or of most when that is less.
func (k *Knee) variance(most float64) float64 {
	m := &k.moments
	if m[0] < 10 || m[1] <= 0 {
		return noiseFirst
	}
	mean := m[1] / m[0]
	v := m[2] / m[0]
	mean = min(mean, most)
	return min(max(v/(mean*mean), noiseLeast), noiseMost)
}

// wanted is how many answers make S known well enough.
func (k *Knee) wanted() float64 { return 10 + 25*k.doubt() }

// sample is how far some answers scatter.
type sample struct{ count, seconds, squares float64 }

func (m *sample) add(count, seconds, squares, keep float64) {
	m.count, m.seconds, m.squares = m.count*keep+count, m.seconds*keep+seconds, m.squares*keep+squares
}

func (m *sample) join(o sample) { m.add(o.count, o.seconds, o.squares, math.Exp(-o.count/scattered)) }

// variance is that of answers in units of the square of their mean; 0: not known.
func (m *sample) variance() float64 {
	if m.count < 10 || m.seconds <= 0 {
		return 0
	}
	mean := m.seconds / m.count
	return min(max(m.squares/m.count/(mean*mean)-1, noiseLeast), noiseMost)
}
