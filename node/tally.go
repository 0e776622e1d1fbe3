package node

import (
	"maps"
	"math/bits"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// shardCount is over how many places counters are spread, so that cores do not write to the same cache line. A
// connection keeps to one of them (Exchange.Shard). 16 is enough for the cores that one listener keeps busy; more would only cost memory.
const shardCount = 16

// The buckets of latencies are log-linear: 16 to every doubling, so that a value is known to within 1/32 = 3.2 %.
// They are counted in microseconds: exact below 16 us, up to 134 s, and the last takes all above.
const (
	latencySub     = 16
	latencyBuckets = latencySub * (1 + 23)
	latencyMax     = time.Microsecond << 27
)

// tally counts what became of the exchanges of one route on one listener. It is found by name again after a reload.
// A shard is made when it is first needed, so that routes without traffic cost 264 bytes.
type tally struct {
	shards  [shardCount]atomic.Pointer[tallyShard]
	samples traceSamples
}

// classCount is how many classes of requests there are.
const classCount = 3

// tallyShard is written by few cores and read when somebody looks. Size: 3.4 KB.
type tallyShard struct {
	status   [classCount][6]atomic.Uint64 // by class, and first digit of the status; 0: no answer, or not HTTP
	away     [classCount]atomic.Uint64    // turned away before any endpoint was tried
	refused  atomic.Uint64
	failed   [classCount]atomic.Uint64 // 5xx of endpoints and evenkeel, cut off answers
	told     [2]atomic.Uint64          // answers with 429 and with 503, whoever gave them: the first signs of overload
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	micros   atomic.Uint64 // sum of the latencies
	latency  [latencyBuckets]atomic.Uint64
}

// shard is the part of t for one connection.
func (t *tally) shard(n uint32) *tallyShard {
	p := &t.shards[n%shardCount]
	if s := p.Load(); s != nil {
		return s
	}
	p.CompareAndSwap(nil, new(tallyShard))
	return p.Load()
}

// count adds one exchange that took so long. The time of those that were turned away counts nowhere: under overload they are
// the most and the quickest, and would hide how long the others take.
func (s *tallyShard) count(x *exchange.Exchange, status int, refused bool, took time.Duration) {
	code, class := status/100, x.Class%classCount
	if code < 0 || code > 5 {
		code = 0
	}
	s.status[class][code].Add(1)
	switch status {
	case http.StatusTooManyRequests:
		s.told[0].Add(1)
	case http.StatusServiceUnavailable:
		s.told[1].Add(1)
	}
	if refused {
		s.refused.Add(1)
		if x.Attempt == 0 {
			s.away[class].Add(1)
			if n := x.Outcome.BytesIn; n > 0 {
				s.bytesIn.Add(uint64(n))
			}
			return
		}
	}
	if failed(x, status) {
		s.failed[class].Add(1)
	}
	if n := x.Outcome.BytesIn; n > 0 {
		s.bytesIn.Add(uint64(n))
	}
	if n := x.Outcome.BytesOut; n > 0 {
		s.bytesOut.Add(uint64(n))
	}
	if took < 0 {
		took = 0
	}
	s.micros.Add(uint64(took / time.Microsecond))
	s.latency[latencyBucket(took)].Add(1)
}

// failed reports whether an exchange went wrong on our side: a 5xx answer, one cut off, a tcp connection that reached no endpoint.
func failed(x *exchange.Exchange, status int) bool {
	return status >= 500 || x.Outcome.Truncated
}

// latencyBucket is the place of d.
func latencyBucket(d time.Duration) int {
	us := uint64(d / time.Microsecond)
	if us < latencySub {
		return int(us)
	}
	if d >= latencyMax {
		return latencyBuckets - 1
	}
	// The highest bit says which doubling, the four after it which bucket of that.
	shift := bits.Len64(us) - 5
	return shift*latencySub + int(us>>shift)
}

// bucketTop is the first latency that does not belong to bucket i any more.
func bucketTop(i int) time.Duration {
	if i < 2*latencySub {
		return time.Duration(i+1) * time.Microsecond
	}
	shift := i/latencySub - 1
	return time.Duration(uint64(i%latencySub+latencySub+1)<<shift) * time.Microsecond
}

// bucketMiddle is the latency that stands for bucket i.
func bucketMiddle(i int) time.Duration {
	bottom := time.Duration(0)
	if i > 0 {
		bottom = bucketTop(i - 1)
	}
	return (bottom + bucketTop(i) - time.Microsecond) / 2
}

// sums is what a tally holds at one moment. Shards are read one after the other: sums that belong together may differ by
// the exchanges that end in between.
type sums struct {
	Requests, Refused, Failed, BytesIn, BytesOut uint64
	Status                                       [classCount][6]uint64
	Away, FailedOf                               [classCount]uint64
	Told                                         [2]uint64 // 429, 503
	Micros                                       uint64
	Latency                                      [latencyBuckets]uint64
}

// addTo adds everything t counted to s.
func (t *tally) addTo(s *sums) {
	for i := range t.shards {
		p := t.shards[i].Load()
		if p == nil {
			continue
		}
		for class := range p.status {
			for code := range p.status[class] {
				n := p.status[class][code].Load()
				s.Status[class][code] += n
				s.Requests += n
			}
			s.Away[class] += p.away[class].Load()
			f := p.failed[class].Load()
			s.FailedOf[class] += f
			s.Failed += f
		}
		for i := range p.told {
			s.Told[i] += p.told[i].Load()
		}
		s.Refused += p.refused.Load()
		s.BytesIn += p.bytesIn.Load()
		s.BytesOut += p.bytesOut.Load()
		s.Micros += p.micros.Load()
		for j := range p.latency {
			s.Latency[j] += p.latency[j].Load()
		}
	}
}

// code is the number of exchanges of all classes whose status begins with digit.
func (s *sums) code(digit int) (n uint64) {
	for class := range s.Status {
		n += s.Status[class][digit]
	}
	return n
}

// demand is what came and what was turned away, by class.
type demand struct{ came, away [classCount]uint64 }

// addDemand adds the number of exchanges alone, for rates, and returns how many shards it read.
func (t *tally) addDemand(d *demand) (shards int) {
	for i := range t.shards {
		p := t.shards[i].Load()
		if p == nil {
			continue
		}
		shards++
		for class := range p.status {
			for code := range p.status[class] {
				d.came[class] += p.status[class][code].Load()
			}
			d.away[class] += p.away[class].Load()
		}
	}
	return shards
}

// addLatency adds the latencies alone.
func (t *tally) addLatency(to *[latencyBuckets]uint64) {
	for i := range t.shards {
		if p := t.shards[i].Load(); p != nil {
			for j := range p.latency {
				to[j] += p.latency[j].Load()
			}
		}
	}
}

// quantile is the latency below which the share q of the exchanges stayed; 0 when there were none.
func (s *sums) quantile(q float64) time.Duration { return quantileOf(&s.Latency, q) }

func quantileOf(latency *[latencyBuckets]uint64, q float64) time.Duration {
	var total uint64
	for _, n := range latency {
		total += n
	}
	if total == 0 {
		return 0
	}
	want := uint64(q*float64(total-1)) + 1
	var seen uint64
	for i, n := range latency {
		if seen += n; seen >= want {
			return bucketMiddle(i)
		}
	}
	return latencyMax
}

// tallies finds counters by name, so that they outlive a reload.
type tallies struct {
	mu       sync.Mutex
	byName   map[tallyKey]*tally
	refusals map[string]*reasons // by route
}

// tallyKey names a tally. An empty route counts what met no route.
type tallyKey struct{ listener, route string }

func newTallies() *tallies {
	return &tallies{byName: map[tallyKey]*tally{}, refusals: map[string]*reasons{}}
}

// get finds or makes the tally of a route on a listener.
func (t *tallies) get(listener, route string) *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := tallyKey{listener, route}
	if t.byName[key] == nil {
		t.byName[key] = new(tally)
	}
	return t.byName[key]
}

// reasons finds or makes the refusal counters of a route.
func (t *tallies) reasons(route string) *reasons {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refusals[route] == nil {
		t.refusals[route] = new(reasons)
	}
	return t.refusals[route]
}

// keep forgets every tally that is not named any more, so that reloads with ever new names do not grow memory.
func (t *tallies) keep(named func(tallyKey) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	routes := map[string]bool{}
	for key := range t.byName {
		if !named(key) {
			delete(t.byName, key)
			continue
		}
		routes[key.route] = true
	}
	for route := range t.refusals {
		if !routes[route] {
			delete(t.refusals, route)
		}
	}
}

// each calls f with every tally. f must not call t.
func (t *tallies) each(f func(tallyKey, *tally)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, v := range t.byName {
		f(key, v)
	}
}

// refused is the number of refusals of a route by reason.
func (t *tallies) refused(route string) map[string]uint64 {
	t.mu.Lock()
	c := t.refusals[route]
	t.mu.Unlock()
	out := map[string]uint64{}
	if c != nil {
		for k, n := range c.sums() {
			out[k.reason] += n
		}
	}
	return out
}

// refusedAll is the number of refusals of each kind, by route.
func (t *tallies) refusedAll() map[string]map[reasonKey]uint64 {
	t.mu.Lock()
	all := maps.Clone(t.refusals)
	t.mu.Unlock()
	out := map[string]map[reasonKey]uint64{}
	for route, c := range all {
		out[route] = c.sums()
	}
	return out
}
