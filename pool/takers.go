package pool

import (
	"math"
	"sort"
	"sync/atomic"
)

// roundRobin takes the members in turn, whatever their weights. Members that must not have a full share are
// passed over now and then.
type roundRobin struct {
	list []*member
	turn *atomic.Uint64
}

func (c *roundRobin) choose(q ask) *member {
	rnd := q.rnd
	for range min(tries, 2*len(c.list)) {
		m := c.list[(c.turn.Add(1)-1)%uint64(len(c.list))]
		if m.accepts(q, rnd) {
			return m
		}
		rnd = mix(rnd)
	}
	return anyOf(c.list, q)
}

// weighted takes the members in turn along a sequence made beforehand in which each stands as often as its weight says,
// spread out as evenly as can be: weights 5, 1, 1 make a a b a c a a. One atomic addition replaces the lock that
// nginx's smooth weighted round robin needs around its state.
type weighted struct {
	list  []*member
	order []uint16 // members at most endpointsMax
	turn  *atomic.Uint64
}

// orderMax is the length of a sequence at the most: weights are rounded to it. 2 bytes each; with 10,000
// members every one of them still stands in it six times on average.
const orderMax = 1 << 16

// exactMax is the work, sequence length times members, up to which the sequence is nginx's own.
const exactMax = 1 << 20

func newWeighted(list []*member, turn *atomic.Uint64) *weighted {
	weights := make([]int, len(list))
	for i, m := range list {
		weights[i] = m.weight
	}
	return &weighted{list: list, order: smooth(weights), turn: turn}
}

func (c *weighted) choose(q ask) *member {
	rnd := q.rnd
	for range tries {
		m := c.list[c.order[(c.turn.Add(1)-1)%uint64(len(c.order))]]
		if m.accepts(q, rnd) {
			return m
		}
		rnd = mix(rnd)
	}
	return anyOf(c.list, q)
}

// smooth is the sequence for weights, all above 0.
func smooth(weights []int) []uint16 {
	slots := slotsOf(weights)
	total := 0
	for _, n := range slots {
		total += n
	}
	if total*len(slots) > exactMax {
		return spread(slots, total)
	}
	out := make([]uint16, 0, total)
	state := make([]int, len(slots))
	for range total {
		best := 0
		for i, n := range slots {
			state[i] += n
			if state[i] > state[best] {
				best = i
			}
		}
		state[best] -= total
		out = append(out, uint16(best))
	}
	return out
}

// slotsOf is how often each stands in the sequence: the weights in lowest terms, scaled down when they are too many.
func slotsOf(weights []int) []int {
	div, sum := 0, 0
	for _, w := range weights {
		for a, b := div, w; ; a, b = b, a%b {
			if b == 0 {
				div = a
				break
			}
		}
		sum += w
	}
	out := make([]int, len(weights))
	for i, w := range weights {
		out[i] = w / div
	}
	if sum/div > orderMax {
		for i, w := range weights {
			out[i] = max(1, int(math.Round(float64(w)*orderMax/float64(sum))))
		}
	}
	return out
}

// spread puts the k-th turn of a member with n slots at (k + phase) / n and sorts: as even as nginx's order for
// each member, in n log n. Phases along the golden ratio keep members of equal weight apart.
func spread(slots []int, total int) []uint16 {
	type turn struct {
		at float64
		of uint16
	}
	turns := make([]turn, 0, total)
	for i, n := range slots {
		_, phase := math.Modf(float64(i) * math.Phi)
		for k := range n {
			turns = append(turns, turn{(float64(k) + phase) / float64(n), uint16(i)})
		}
	}
	sort.Slice(turns, func(i, j int) bool {
		return turns[i].at < turns[j].at || turns[i].at == turns[j].at && turns[i].of < turns[j].of
	})
	out := make([]uint16, len(turns))
	for i, t := range turns {
		out[i] = t.of
	}
	return out
}
