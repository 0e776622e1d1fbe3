package node

import (
	"math/bits"
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
// A shard is made when it is first needed, so that routes without traffic cost 128 bytes.
type tally struct {
	shards [shardCount]atomic.Pointer[tallyShard]
}

// tallyShard is written by few cores and read when somebody looks. Size: 3.3 KB.
type tallyShard struct {
	status   [6]atomic.Uint64 // by first digit; 0: no answer, or not HTTP
	refused  atomic.Uint64
	failed   atomic.Uint64 // 5xx of endpoints and evenkeel, cut off answers
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

// count adds one exchange that took so long.
func (s *tallyShard) count(x *exchange.Exchange, status int, refused bool, took time.Duration) {
	class := status / 100
	if class < 0 || class > 5 {
		class = 0
	}
	s.status[class].Add(1)
	if refused {
		s.refused.Add(1)
	}
	if failed(x, status) {
		s.failed.Add(1)
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
	Status                                       [6]uint64
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
		for j := range p.status {
			n := p.status[j].Load()
			s.Status[j] += n
			s.Requests += n
		}
		s.Refused += p.refused.Load()
		s.Failed += p.failed.Load()
		s.BytesIn += p.bytesIn.Load()
		s.BytesOut += p.bytesOut.Load()
		s.Micros += p.micros.Load()
		for j := range p.latency {
			s.Latency[j] += p.latency[j].Load()
		}
	}
}

// requests is the number of exchanges alone, for rates.
func (t *tally) requests() (n uint64) {
	for i := range t.shards {
		if p := t.shards[i].Load(); p != nil {
			for j := range p.status {
				n += p.status[j].Load()
			}
		}
	}
	return n
}

// quantile is the latency below which the share q of the exchanges stayed; 0 when there were none.
func (s *sums) quantile(q float64) time.Duration {
	var total uint64
	for _, n := range s.Latency {
		total += n
	}
	if total == 0 {
		return 0
	}
	want := uint64(q*float64(total-1)) + 1
	var seen uint64
	for i, n := range s.Latency {
		if seen += n; seen >= want {
			return bucketMiddle(i)
		}
	}
	return latencyMax
}

// maxReasons bounds the refusals that are told apart. Reasons are of closed sets; the bound only guards against a mistake.
const maxReasons = 256

// reasonKey names a refusal, and on which listener and route it happened.
type reasonKey struct{ stage, reason string }

// reasons counts refusals by stage and reason. Looking one up takes no lock; only the first of its kind does.
type reasons struct {
	known atomic.Pointer[map[reasonKey]*[shardCount]paddedCount]
	mu    sync.Mutex
}

// count adds one refusal.
func (c *reasons) count(r *exchange.Refusal, shard uint32) {
	key := reasonKey{r.Stage, r.Reason}
	m := c.known.Load()
	var counter *[shardCount]paddedCount
	if m != nil {
		counter = (*m)[key]
	}
	if counter == nil {
		counter = c.add(key)
	}
	counter[shard%shardCount].n.Add(1)
}

// add makes the counter of a new kind of refusal.
func (c *reasons) add(key reasonKey) *[shardCount]paddedCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	grown := map[reasonKey]*[shardCount]paddedCount{}
	if m := c.known.Load(); m != nil {
		if counter := (*m)[key]; counter != nil {
			return counter
		}
		for k, v := range *m {
			grown[k] = v
		}
	}
	if len(grown) >= maxReasons {
		key = reasonKey{"other", "other"}
	}
	if grown[key] == nil {
		grown[key] = new([shardCount]paddedCount)
	}
	c.known.Store(&grown)
	return grown[key]
}

// sums is the number of refusals of each kind.
func (c *reasons) sums() map[reasonKey]uint64 {
	out := map[reasonKey]uint64{}
	if m := c.known.Load(); m != nil {
		for k, counter := range *m {
			for i := range counter {
				out[k] += counter[i].n.Load()
			}
		}
	}
	return out
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

// refusedAll is the number of refusals by stage and reason, of all routes.
func (t *tallies) refusedAll() map[reasonKey]uint64 {
	t.mu.Lock()
	all := make([]*reasons, 0, len(t.refusals))
	for _, c := range t.refusals {
		all = append(all, c)
	}
	t.mu.Unlock()
	out := map[reasonKey]uint64{}
	for _, c := range all {
		for k, n := range c.sums() {
			out[k] += n
		}
	}
	return out
}
