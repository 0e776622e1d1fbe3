package console

import (
	"math"
	"slices"
	"strconv"
)

// Charts are drawn by the node as SVG paths: the page needs no drawing program, and is whole without scripts.
const (
	chartSlots = 120  // points across: one a second in two minutes, one each five seconds in ten
	chartWide  = 1190 // units across: ten for each slot
	chartHigh  = 300
)

// chart is one drawing, with what stands beside it.
type chart struct {
	Name   string
	Areas  []stroke
	Lines  []stroke
	Top    string // what the upper edge means
	Middle string
	Text   string // the same in words, for those who do not see it
	Empty  bool
}

// stroke is one path and what it stands for.
type stroke struct {
	Kind string // names its colour
	Name string
	Now  string // its latest value
	D    string
}

// slots puts values at their places in a chart that ends at the time end: means where several fall into one slot, NaN where none does.
func slots(at []int64, values []float64, end, span int64) []float64 {
	step := max(1, span/chartSlots)
	last := end / step
	out, n := make([]float64, chartSlots), make([]int, chartSlots)
	for i, t := range at {
		if slot := t/step - last + chartSlots - 1; slot >= 0 && slot < chartSlots && i < len(values) {
			out[slot] += values[i]
			n[slot]++
		}
	}
	for i := range out {
		switch {
		case n[i] > 0:
			out[i] /= float64(n[i])
		case i > 0 && n[i-1] > 0: // a second without a sample: the clock ticked between two
			out[i] = out[i-1]
		default:
			out[i] = math.NaN()
		}
	}
	return out
}

// niceTop is a round number that is not below v, so that the scale rarely changes.
func niceTop(v float64) float64 {
	if !(v > 0) || math.IsInf(v, 0) {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if v <= k*unit*1.0001 {
			return k * unit
		}
	}
	return 10 * unit
}

// most is the largest known value.
func most(lists ...[]float64) (top float64) {
	for _, list := range lists {
		for _, v := range list {
			if v > top {
				top = v
			}
		}
	}
	return top
}

// latest is the last known value.
func latest(list []float64) float64 {
	for _, v := range slices.Backward(list) {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

// pen writes a path in relative steps of whole units, which are the fewest bytes.
type pen struct {
	b    []byte
	x, y int
}

func (p *pen) move(x, y int) {
	p.b = append(p.b, 'M')
	p.b = strconv.AppendInt(p.b, int64(x), 10)
	p.b = append(p.b, ' ')
	p.b = strconv.AppendInt(p.b, int64(y), 10)
	p.x, p.y = x, y
}

func (p *pen) line(x, y int) {
	switch {
	case x == p.x && y == p.y:
	case y == p.y:
		p.b = strconv.AppendInt(append(p.b, 'h'), int64(x-p.x), 10)
	case x == p.x:
		p.b = strconv.AppendInt(append(p.b, 'v'), int64(y-p.y), 10)
	default:
		p.b = strconv.AppendInt(append(p.b, 'l'), int64(x-p.x), 10)
		if y > p.y {
			p.b = append(p.b, ' ')
		}
		p.b = strconv.AppendInt(p.b, int64(y-p.y), 10)
	}
	p.x, p.y = x, y
}

// height is where v stands when top is the upper edge.
func height(v, top float64) int {
	return chartHigh - int(math.Round(min(max(v, 0), top)/top*chartHigh))
}

// linePath is a curve, interrupted where values are unknown; zero is none of them.
func linePath(list []float64, top float64) string {
	var p pen
	down := false
	for i, v := range list {
		if math.IsNaN(v) {
			down = false
			continue
		}
		x, y := i*10, height(v, top)
		if down {
			p.line(x, y)
		} else {
			p.move(x, y)
		}
		down = true
	}
	return string(p.b)
}

// areaPath is what lies between two curves, low and high.
func areaPath(low, high []float64, top float64) string {
	var p pen
	for i := 0; i < len(high); {
		for i < len(high) && math.IsNaN(high[i]) {
			i++
		}
		from := i
		for i < len(high) && !math.IsNaN(high[i]) {
			i++
		}
		if i-from < 2 {
			continue
		}
		p.move(from*10, height(high[from], top))
		for j := from + 1; j < i; j++ {
			p.line(j*10, height(high[j], top))
		}
		for j := i - 1; j >= from; j-- {
			p.line(j*10, height(low[j], top))
		}
		p.b = append(p.b, 'Z')
	}
	return string(p.b)
}

// flat reports whether nothing of list can be seen.
func flat(list []float64) bool { return most(list) <= 0 }

// rateChart shows what comes: admitted by class from below, refused on top, and what the endpoints can do.
func rateChart(s Series, capacity []float64, end, span int64) chart {
	c := chart{Name: "Requests per second"}
	base := make([]float64, chartSlots)
	type layer struct {
		kind, name string
		values     []float64
	}
	var layers []layer
	refused := make([]float64, chartSlots)
	for _, class := range classWords {
		layers = append(layers, layer{class, class, slots(s.At, s.Admitted[class], end, span)})
		add(refused, slots(s.At, s.Refused[class], end, span))
	}
	layers = append(layers, layer{"refused", "refused", refused})
	demand := slices.Clone(base)
	for _, l := range layers {
		add(demand, l.values)
	}
	can := unknownZero(slots(s.At, capacity, end, span))
	top := niceTop(max(1, 1.04*max(most(demand), min(most(can), 3*most(demand)))))
	for _, l := range layers {
		high := slices.Clone(base)
		add(high, l.values)
		a := stroke{Kind: l.kind, Name: l.name, Now: rateText(latest(l.values)) + "/s"}
		if !flat(l.values) {
			a.D = areaPath(base, high, top)
		}
		c.Areas = append(c.Areas, a)
		base = high
	}
	if most(can) > 0 {
		c.Lines = append(c.Lines, stroke{Kind: "capacity", Name: "can be done", Now: rateText(latest(can)) + "/s", D: linePath(can, top)})
	}
	c.Top, c.Middle = rateText(top), rateText(top/2)
	c.Text = "Requests per second: " + rateText(latest(demand)) + " asked for, " + rateText(latest(refused)) + " refused"
	c.Empty = math.IsNaN(latest(demand))
	return c
}

// flightChart shows how many requests are at the endpoints and how many wait, against the limit that was found.
func flightChart(s Series, end, span int64) chart {
	flight, waiting := slots(s.At, s.InFlight, end, span), slots(s.At, s.Waiting, end, span)
	limit := unknownZero(slots(s.At, s.Limit, end, span))
	all := slices.Clone(flight)
	add(all, waiting)
	top := niceTop(max(1, 1.04*max(most(all), min(most(limit), 3*max(most(all), 4)))))
	c := chart{Name: "Requests at once", Top: countText(uint64(top)), Empty: math.IsNaN(latest(flight)) || flat(limit) && flat(flight)}
	if top >= 2 {
		c.Middle = rateText(top / 2)
	}
	zero := make([]float64, chartSlots)
	c.Areas = []stroke{
		{Kind: "flight", Name: "at endpoints", Now: rateText(latest(flight)), D: areaPath(zero, flight, top)},
		{Kind: "waiting", Name: "waiting", Now: rateText(latest(waiting))},
	}
	if !flat(waiting) {
		c.Areas[1].D = areaPath(flight, all, top)
	}
	c.Lines = []stroke{{Kind: "limit", Name: "limit found", Now: rateText(latest(limit)), D: linePath(limit, top)}}
	c.Text = "Requests at once: " + rateText(latest(flight)) + " at endpoints, " + rateText(latest(waiting)) + " waiting, limit " + rateText(latest(limit))
	return c
}

// timeChart shows how long the admitted took, and what of that they waited.
func timeChart(s Series, end, span int64) chart {
	wait := slots(s.At, s.QueueMS, end, span)
	p50, p99 := unknownZero(slots(s.At, s.P50MS, end, span)), unknownZero(slots(s.At, s.P99MS, end, span))
	top := niceTop(max(1, 1.04*most(wait, p50, p99)))
	c := chart{Name: "Time of admitted requests", Top: msText(top), Middle: msText(top / 2), Empty: math.IsNaN(latest(p50))}
	zero := make([]float64, chartSlots)
	c.Areas = []stroke{{Kind: "waiting", Name: "in the queue", Now: msText(latest(wait))}}
	if !flat(wait) {
		c.Areas[0].D = areaPath(zero, wait, top)
	}
	c.Lines = []stroke{
		{Kind: "half", Name: "median", Now: msText(latest(p50)), D: linePath(p50, top)},
		{Kind: "tail", Name: "99th", Now: msText(latest(p99)), D: linePath(p99, top)},
	}
	c.Text = "Time of admitted requests: median " + msText(latest(p50)) + ", 99th percentile " + msText(latest(p99)) + ", in the queue " + msText(latest(wait))
	return c
}

// add adds values to sums, slot by slot.
func add(sums, values []float64) {
	for i := range sums {
		sums[i] += values[i]
	}
}

// unknownZero makes zeros unknown: for what is never zero in truth.
func unknownZero(list []float64) []float64 {
	for i, v := range list {
		if v == 0 {
			list[i] = math.NaN()
		}
	}
	return list
}
