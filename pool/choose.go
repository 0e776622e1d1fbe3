package pool

import (
	"math"

	"github.com/even-keel/evenkeel/exchange"
)

// ask is what one pick knows. Choosers are pure over it, over the endpoints' counters and, for the two
// methods that take turns, one counter.
type ask struct {
	rnd uint64  // random
	now int64   // ns; only for methods that look at time
	key uint64  // hash method: of what the site file names
	cap float64 // hash method: bound of requests in flight per weight; 0: none
	// not are endpoints that failed this exchange, to be avoided when there is another; nots of them are set.
	not  [1 + exchange.MaxTried]*member
	nots int
}

// avoids says whether m has failed this exchange.
func (q *ask) avoids(m *member) bool {
	return q.nots > 0 && (m == q.not[0] || m == q.not[1] || m == q.not[2])
}

// avoid adds an endpoint to those that are avoided.
func (q *ask) avoid(e *exchange.Endpoint) {
	if e == nil || q.nots == len(q.not) {
		return
	}
	q.not[q.nots] = seat(e)
	q.nots++
}

// A chooser picks one of the members it was made of, or nil when it has none. It allocates nothing and takes no lock.
type chooser interface {
	choose(q ask) *member
}

// tries is how often a chooser draws anew when a member may not be picked, before it looks through all of them.
const tries = 6

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): it makes independent draws of one random number.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below maps the upper half of a random number to 0…n-1 (Lemire 2019, without the rejection: n is far below 2^32).
func below(rnd uint64, n int) int { return int(rnd >> 32 * uint64(n) >> 32) }

// accepts says whether m may be picked at this draw: it is in use, is not the one to be avoided, and of its
// draws as many pass as slow start and throttling allow.
func (m *member) accepts(q ask, rnd uint64) bool {
	if m.skip.Load() || q.avoids(m) {
		return false
	}
	f := m.factor.Load()
	return f >= whole || uint32(rnd)>>16 < f && !m.tested()
}

// tested says whether m is on trial and has the one request that it gets at a time.
func (m *member) tested() bool { return m.alert.Load() && m.InFlight.Load() > m.before.Load() }

// anyOf is the way out when draws did not find a member: the first in use from a random place on, if need be the one to be avoided.
func anyOf(list []*member, q ask) *member {
	if len(list) == 0 {
		return nil
	}
	at := below(mix(q.rnd), len(list))
	var second *member
	for i := range list {
		m := list[(at+i)%len(list)]
		switch {
		case m.skip.Load():
		case !q.avoids(m):
			return m
		default:
			second = m
		}
	}
	if second == nil {
		second = list[at] // all of them went since the snapshot was made; the next one is on its way
	}
	return second
}

// sampler draws members in proportion to their weights.
type sampler struct {
	list  []*member
	alias []aliasCell // nil: all weights are equal
}

// aliasCell is one column of Walker's alias method (Walker 1977, Vose 1991): one comparison per draw whatever the weights.
type aliasCell struct {
	keep  uint32 // draws below this keep the column
	other uint32
}

func newSampler(list []*member) sampler {
	s := sampler{list: list}
	weights := make([]float64, len(list))
	sum, same := 0.0, true
	for i, m := range list {
		weights[i] = float64(m.weight)
		sum += weights[i]
		same = same && m.weight == list[0].weight
	}
	if !same {
		s.alias = aliases(weights, sum)
	}
	return s
}

func aliases(weights []float64, sum float64) []aliasCell {
	n := len(weights)
	out := make([]aliasCell, n)
	var small, large []int
	for i, w := range weights {
		weights[i] = w * float64(n) / sum
		if weights[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		out[s] = aliasCell{keep: uint32(weights[s] * math.MaxUint32), other: uint32(l)}
		weights[l] -= 1 - weights[s]
		if weights[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range append(small, large...) {
		out[i] = aliasCell{keep: math.MaxUint32, other: uint32(i)}
	}
	return out
}

func (s *sampler) draw(rnd uint64) int {
	i := below(rnd, len(s.list))
	if s.alias == nil {
		return i
	}
	if c := s.alias[i]; uint32(rnd) > c.keep {
		return int(c.other)
	}
	return i
}

// pair draws two different members that may be picked. They are the same when only one can be had, and nil without any.
func (s *sampler) pair(q ask) (a, b *member) {
	n := len(s.list)
	rnd, first := q.rnd, -1
	for range tries {
		i := s.draw(rnd)
		rnd = mix(rnd)
		if first >= 0 && i == first {
			// Weighted draws of a heavy member repeat; a step aside keeps two choices two.
			i = (i + 1 + below(rnd, max(n-1, 1))) % n
		}
		if i == first || !s.list[i].accepts(q, rnd) {
			continue
		}
		if first >= 0 {
			return s.list[first], s.list[i]
		}
		first = i
		if n == 1 {
			break
		}
	}
	if first >= 0 {
		return s.list[first], s.list[first]
	}
	m := anyOf(s.list, q)
	return m, m
}

// leastRequests takes the better of two random members by (in flight + 1) / weight (power of two choices,
// Mitzenmacher 2001), and looks at more of them while the better one is busy. When both are idle the first drawn wins, so that
// weights hold at low load too. While one of them fails, what failures cost counts as well: who fails at once is always idle.
type leastRequests struct {
	sampler
	clock func() int64
}

func (c *leastRequests) choose(q ask) *member {
	a, b := c.pair(q)
	if a == b {
		return a
	}
	x, y := a.InFlight.Load(), b.InFlight.Load()
	u, v := a.load(), b.load()
	switch {
	case a.fault.word.Load()|b.fault.word.Load() != 0:
		now := c.clock()
		u, v = a.blame(now), b.blame(now)
	case x == 0 && y == 0:
		return a
	}
	if u, v = float64(x+1)*u, float64(y+1)*v; v < u {
		return c.further(q, b, v)
	}
	return c.further(q, a, u)
}

// looks is how many more members are looked at beyond two. Where each works on one request at a time, two thirds of the load leave
// both of two busy at 44 % of arrivals, which wait beside idle members, and all of eight at 4 %.
const looks = 6

// further is m, the better of two with this load, or a lighter one of those drawn while it is busy. Whoever failed lately is none:
// it is always idle, and would get all that comes instead of its part in the draws of two.
func (c *leastRequests) further(q ask, m *member, load float64) *member {
	n := len(c.list)
	rnd := mix(q.rnd ^ 0x6c6f6f6b)
	at := below(rnd, n)
	for range min(n, looks) {
		if m.InFlight.Load() == 0 {
			break
		}
		rnd = mix(rnd)
		at = (at + 1) % n
		if n > looks {
			at = c.draw(rnd)
		}
		o := c.list[at]
		if l := float64(o.InFlight.Load()+1) * o.load(); l < load && o.fault.word.Load() == 0 && o.accepts(q, rnd) {
			m, load = o, l
		}
	}
	return m
}

// blameMax is how many times heavier a request weighs on a member that fails all. It must not be so much that nothing comes any more
// that could show the failures to be over; the doubt about its answers does the rest.
const blameMax = 9

// blame is load, and more the more often m failed lately.
func (m *member) blame(now int64) float64 {
	return m.load() * (1 + (blameMax-1)*m.fault.at(now, 0)/penalty)
}

// load is what one request weighs on m: 1 / (weight × factor).
func (m *member) load() float64 { return math.Float64frombits(m.inv.Load()) }
