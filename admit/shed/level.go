package shed

import "math/bits"

// Levels of concurrency: exact to 16, then 8 for each doubling, so that one is known to 6 % over four decades in 112 numbers.
const (
	levels     = 112
	exactTo    = 16
	perOctave  = 8
	levelShift = 3 // 1<<levelShift is perOctave
)

// levelOf is the level of n exchanges in flight.
func levelOf(n int) int {
	if n <= exactTo {
		return max(n, 1) - 1
	}
	e := bits.Len(uint(n)) - 1
	return min(exactTo+(e-4)*perOctave+n>>(e-levelShift)&(perOctave-1), levels-1)
}

// middle is the concurrency that a level stands for.
func middle(level int) float64 {
	if level < exactTo {
		return float64(level + 1)
	}
	e, part := (level-exactTo)/perOctave+4, (level-exactTo)%perOctave
	low := (perOctave + part) << (e - levelShift)
	return float64(low) + float64(int(1)<<(e-levelShift)-1)/2
}

// Window is what answers showed since the last look: how many there were at each level, and how long they took together.
type Window struct {
	Count [levels]int64
	Sum   [levels]float64 // seconds
	Total int64
	// Seconds are all together, and Squares are theirs.
	Seconds, Squares float64
}

// Add adds one answer: n exchanges were in flight with it as it was admitted, and it took so many seconds.
func (w *Window) Add(n int, seconds float64) {
	i := levelOf(n)
	w.Count[i]++
	w.Sum[i] += seconds
	w.Seconds += seconds
	w.Squares += seconds * seconds
	w.Total++
}

// top is the highest concurrency at which an answer came.
func (w *Window) top() float64 {
	for i := levels - 1; i >= 0; i-- {
		if w.Count[i] > 0 {
			return middle(i)
		}
	}
	return 0
}

// table remembers windows, older ones with less weight.
type table struct {
	weight [levels]float64
	sum    [levels]float64
	total  float64
	top    int // highest level that weighs
}

// add lets what is known fade to the part keep of its weight, and adds w.
func (t *table) add(w *Window, keep float64) {
	t.total, t.top = 0, 0
	for i := range t.weight {
		weight := t.weight[i]*keep + float64(w.Count[i])
		sum := t.sum[i]*keep + w.Sum[i]
		if weight < faint && w.Sum[i] == 0 {
			weight, sum = 0, 0
		}
		t.weight[i], t.sum[i] = weight, sum
		if sum == 0 {
			continue
		}
		t.total += weight
		t.top = i
	}
}

// put lets what is known fade to the part keep, and adds to a level.
func (t *table) put(level int, weight, sum, keep float64) {
	for i := range t.top + 1 {
		t.weight[i] *= keep
		t.sum[i] *= keep
	}
	t.weight[level] += weight
	t.sum[level] += sum
	t.total = t.total*keep + weight
	t.top = max(t.top, level)
}

// faint is the weight below which a level is forgotten: the tenth of one answer.
const faint = 0.1
