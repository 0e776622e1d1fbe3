package pool

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Numbers of peak-EWMA, as in Linkerd's balancer (tower's peak_ewma and, for failures, its load biaser of 2026).
const (
	rttSeed  = float64(30 * time.Millisecond) // what an endpoint without answers is thought to take
	decay    = float64(10 * time.Second)      // time constant of forgetting
	penalty  = float64(5 * time.Second)       // what a failure costs when it named no Retry-After
	faultFor = 1.0 / 16                       // part of a failure that one answer moves the expected cost by
)

// estimate is a value in ns that fades with time: a float32 and the moment of its last change in ms, in one word, so that
// a reader never sees one without the other. The zero value was never set.
type estimate struct{ word atomic.Uint64 }

// stampOf makes ms of the pool's clock; 0 is kept for never. Stamps wrap after 49 days, which only differences see.
func stampOf(now int64) uint32 { return max(uint32(now/int64(time.Millisecond)), 1) }

func packEstimate(value float64, stamp uint32) uint64 {
	return uint64(math.Float32bits(float32(value)))<<32 | uint64(stamp)
}

// unpack returns the value as last set, the part of it left by now, and whether it was ever set.
func unpackEstimate(word uint64, now int64) (value, left float64, ok bool) {
	stamp := uint32(word)
	if stamp == 0 {
		return 0, 0, false
	}
	value = float64(math.Float32frombits(uint32(word >> 32)))
	gone := int32(stampOf(now) - stamp)
	if gone <= 0 || value == 0 {
		return value, 1, true
	}
	x := float64(gone) * float64(time.Millisecond) / decay
	if x < 0.1 { // within a second, as nearly always, the series is right to 2 in 10,000 and three times as fast
		return value, 1 - x + x*x/2, true
	}
	return value, math.Exp(-x), true
}

// at is the value faded to now, or unset when there was none.
func (e *estimate) at(now int64, unset float64) float64 {
	value, left, ok := unpackEstimate(e.word.Load(), now)
	if !ok {
		return unset
	}
	return value * left
}

// peak takes a sample in: a higher one counts at once, a lower one as far as the old value has faded.
func (e *estimate) peak(now int64, sample float64) {
	for {
		old := e.word.Load()
		value, left, ok := unpackEstimate(old, now)
		next := sample
		if ok && sample < value {
			next = value*left + sample*(1-left)
		}
		stamp := stampOf(now)
		if ok && sample < value && left == 1 {
			return // within the same millisecond nothing fades
		}
		if e.word.CompareAndSwap(old, packEstimate(next, stamp)) {
			return
		}
	}
}

// blend moves the faded value towards sample by part.
func (e *estimate) blend(now int64, sample, part float64) {
	for {
		old := e.word.Load()
		value, left, ok := unpackEstimate(old, now)
		if !ok {
			value, left = 0, 1
		}
		next := value * left
		next += (sample - next) * part
		if e.word.CompareAndSwap(old, packEstimate(next, stampOf(now))) {
			return
		}
	}
}

// follow moves the value towards sample by part, or by as much as has faded when that is more.
func (e *estimate) follow(now int64, sample, part float64) {
	for {
		old := e.word.Load()
		value, left, ok := unpackEstimate(old, now)
		next := sample
		if ok {
			next = value + (sample-value)*max(part, 1-left)
		}
		if e.word.CompareAndSwap(old, packEstimate(next, stampOf(now))) {
			return
		}
	}
}

// failed says whether a result is a failure of the endpoint, in counters and for latency: no answer, a
// 5xx, or a 429. Cancelled says nothing.
func failed(r *exchange.Result) bool {
	switch r.Kind {
	case exchange.Answered:
		return r.Status >= 500 || r.Status == 429 || r.Reason != ""
	case exchange.Cancelled:
		return false
	}
	return true
}

// forgiven is the part of penalty below which failures are forgotten.
const forgiven = 0.01

// learnFaults takes a result in for least_requests. A 429 or 503 lowers the share by itself, and more would be too much.
func (m *member) learnFaults(p *Pool, r *exchange.Result) {
	now := p.nanos()
	switch {
	case atFault(r):
		m.fault.blend(now, penalty, faultFor)
	case r.Kind != exchange.Answered:
	case m.fault.at(now, 0) < forgiven*penalty:
		m.fault.word.Store(0)
	default:
		m.fault.blend(now, 0, faultFor)
	}
}

// learnLatency takes a result in for ewma. The cost of failures is kept apart from latency, as failure rate times
// penalty: one failure in a thousand then costs little, and an endpoint that fails everything fast costs seconds.
func (m *member) learnLatency(now int64, r *exchange.Result) {
	switch {
	case r.Kind == exchange.Cancelled:
	case failed(r):
		cost := penalty
		if r.RetryAfter > 0 {
			cost = float64(min(r.RetryAfter, throttleMax))
		}
		m.fault.blend(now, cost, faultFor)
	default:
		if m.fault.word.Load() != 0 {
			m.fault.blend(now, 0, faultFor)
		}
		if r.Latency > 0 {
			m.rtt.peak(now, float64(r.Latency))
		}
	}
}

// cost is what one more request on m is expected to take, in ns, times what waits there, by weight.
func (m *member) cost(now int64) float64 {
	each := m.rtt.at(now, rttSeed) + m.fault.at(now, 0)
	return each * float64(m.InFlight.Load()+1) * m.load()
}

// ewma takes the cheaper of two random members by peak-EWMA.
type ewma struct{ sampler }

func (c *ewma) choose(q ask) *member {
	a, b := c.pair(q)
	if a != b && b.cost(q.now) < a.cost(q.now) {
		return b
	}
	return a
}

// Numbers of prequal (Wydrowski et al., NSDI 2024), as far as they carry over.
const (
	curveLen    = 12           // latency is kept for 0, 1, 2-3, 4-7, … requests in flight
	hotQuantile = 0.84         // members above this quantile of requests in flight are hot
	prequalPool = 5            // members looked at per pick; the paper's pool of 16 probes is filled by 3 each
	sinkhole    = penalty / 10 // members that failures cost more than this are the last choice: failing fast, they are never hot
	curveFor    = 0.1          // part that one answer moves the latency at its load by
)

// prequal looks at a few random members, sets the hot ones apart (in flight above the 0.84 quantile of what was
// seen), and takes the one with the lowest latency to be expected at its present load; when all are hot, the one
// with the least in flight. The paper asks servers for both numbers; here they are known from the exchanges themselves: in
// flight exactly as far as this node sends it, latency from answers at the same load.
type prequal struct {
	sampler
	hot *quantile
}

// quantile follows a quantile of the samples it sees, by steps (Robbins-Monro). It is a float64 in a word; a lost
// update among several at once does no harm.
type quantile struct{ word atomic.Uint64 }

func (t *quantile) at() float64 { return math.Float64frombits(t.word.Load()) }

func (t *quantile) see(x float64) {
	old := t.at()
	step := 0.2 * max(1, old/8)
	if x > old {
		old += step * hotQuantile
	} else {
		old = max(0, old-step*(1-hotQuantile))
	}
	t.word.Store(math.Float64bits(old))
}

func (c *prequal) choose(q ask) *member {
	var cold, least, failing *member
	var coldCost, leastLoad float64
	limit, rnd := c.hot.at(), q.rnd
	for i := range prequalPool + tries {
		if i >= prequalPool && least != nil {
			break
		}
		m := c.list[c.draw(rnd)]
		rnd = mix(rnd)
		if !m.accepts(q, rnd) {
			continue
		}
		busy := m.InFlight.Load()
		if i == 0 && q.rnd&7 == 0 { // a sample of picks will do, and keeps the shared word out of most of them
			c.hot.see(float64(busy))
		}
		if m.fault.at(q.now, 0) > sinkhole {
			failing = m
			continue
		}
		if load := float64(busy+1) * m.load(); least == nil || load < leastLoad {
			least, leastLoad = m, load
		}
		if float64(busy) > limit+1e-9 && busy > 0 {
			continue
		}
		if cost := m.expected(q.now, busy); cold == nil || cost < coldCost {
			cold, coldCost = m, cost
		}
	}
	switch {
	case cold != nil:
		return cold
	case least != nil:
		return least
	case failing != nil:
		return failing
	}
	return anyOf(c.list, q)
}

func curveAt(busy int64) int { return min(bits.Len64(uint64(max(busy, 0))), curveLen-1) }

// expected is the latency to be expected with busy requests in flight, and what failures add. An
// estimate of less load is taken as it is: latency hardly falls with load. Unknown is 0: it is worth a try.
func (m *member) expected(now int64, busy int64) float64 {
	f := float64(m.factor.Load()) / whole
	for i := curveAt(busy); i >= 0; i-- {
		if m.curve[i].word.Load() != 0 {
			return (m.curve[i].at(now, 0) + m.fault.at(now, 0)) / f
		}
	}
	return m.fault.at(now, 0) / f
}

// learnCurve takes a result in for prequal. busy is what was in flight with it.
func (m *member) learnCurve(now int64, r *exchange.Result, busy int64) {
	m.learnLatency(now, r)
	if r.Kind != exchange.Answered || r.Latency <= 0 || failed(r) {
		return
	}
	m.curve[curveAt(busy)].follow(now, float64(r.Latency), curveFor)
}
