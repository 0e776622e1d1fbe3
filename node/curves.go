package node

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Bounds of what is remembered for curves: at most 65 series of 600 seconds, 76 bytes each, are 3 MB.
const (
	curveSeconds = 600 // ten minutes: as long as people ask what just happened
	curvePools   = 64  // pools with a series of their own, the first that get traffic; the node as a whole has one too
	latencyReads = 512 // shards of latencies read for one pool in one second; with more the quantiles are of several seconds
)

// nodeLoad stands among names of pools for the node as a whole: no pool can be called that.
const nodeLoad = "(node)"

// curves remembers how pools fared, second by second. step is pure; the lock is for those who look.
type curves struct {
	mu     sync.Mutex
	at     time.Time
	series map[string]*curve
}

// loadNow is what one pool counted until now. Counters go up, gauges are of this moment.
type loadNow struct {
	demand
	of      *site.Site              // whose routes counted this
	shed    [classCount]uint64      // part of away
	latency *[latencyBuckets]uint64 // nil: not read this time
	gauges  loadGauges
}

// loadGauges are what the shedder of a pool says of this moment.
type loadGauges struct{ limit, capacity, inFlight, waiting, queueMS float64 }

// loadRates is one pool over the last second.
type loadRates struct {
	came, away, shed [classCount]float64 // per second
	gauges           loadGauges
	p50, p99         float64 // milliseconds; 0: nothing was admitted
}

// curve is one pool.
type curve struct {
	last    loadNow
	latency [latencyBuckets]uint64 // at the time they were last read
	read    bool                   // latency holds something
	now     loadRates
	ring    []loadSample
	next    int
}

// loadSample is what is kept of one second.
type loadSample struct {
	at             int64
	admitted, away [classCount]float32
	gauges         [5]float32
	p50, p99       float32
}

// step takes all counters at one moment. A pool that is new, or counts less than before because it was made anew, begins anew.
func (c *curves) step(now time.Time, loads map[string]loadNow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	past := now.Sub(c.at).Seconds()
	c.at = now
	if c.series == nil {
		c.series = map[string]*curve{}
	}
	maps.DeleteFunc(c.series, func(name string, _ *curve) bool { _, there := loads[name]; return !there })
	for _, name := range slices.Sorted(maps.Keys(loads)) {
		load := loads[name]
		s := c.series[name]
		if s == nil {
			if name != nodeLoad && (len(c.series) > curvePools || load.came == [classCount]uint64{}) {
				continue
			}
			s = &curve{last: load}
			c.series[name] = s
			s.quantiles(load.latency)
			continue
		}
		if past > 0 {
			s.step(now, past, load)
		}
	}
}

func (s *curve) step(now time.Time, past float64, load loadNow) {
	r := s.now
	if load.of == s.last.of {
		r = s.rates(past, load)
	} else { // Counters are of routes, and a reload may have led some to another pool: all that they counted ever is not of this second, which is taken for the one before.
		s.read = false
	}
	if known := s.read; load.latency != nil {
		if p50, p99 := s.quantiles(load.latency); known {
			r.p50, r.p99 = p50, p99
		}
	}
	r.gauges = load.gauges
	sample := loadSample{at: now.Unix()}
	for class := range r.came {
		sample.admitted[class], sample.away[class] = float32(r.came[class]-r.away[class]), float32(r.away[class])
	}
	g := r.gauges
	sample.gauges = [5]float32{float32(g.limit), float32(g.capacity), float32(g.inFlight), float32(g.waiting), float32(g.queueMS)}
	sample.p50, sample.p99 = float32(r.p50), float32(r.p99)
	s.last, s.now = load, r
	if len(s.ring) < curveSeconds {
		s.ring = append(s.ring, sample)
		return
	}
	s.ring[s.next] = sample
	s.next = (s.next + 1) % curveSeconds
}

// rates are what was counted since the last step.
func (s *curve) rates(past float64, load loadNow) (r loadRates) {
	r.p50, r.p99 = s.now.p50, s.now.p99
	for class := range r.came {
		r.came[class] = since(s.last.came[class], load.came[class]) / past
		r.away[class] = min(since(s.last.away[class], load.away[class])/past, r.came[class])
		r.shed[class] = min(since(s.last.shed[class], load.shed[class])/past, r.away[class])
	}
	return r
}

// since is how far a counter came; 0 when it began anew.
func since(before, now uint64) float64 {
	if now < before {
		return 0
	}
	return float64(now - before)
}

// quantiles are of what came since the last call, in milliseconds.
func (s *curve) quantiles(latency *[latencyBuckets]uint64) (p50, p99 float64) {
	if latency == nil {
		return 0, 0
	}
	var fresh [latencyBuckets]uint64
	for i, n := range latency {
		if n >= s.latency[i] {
			fresh[i] = n - s.latency[i]
		}
	}
	first := !s.read
	s.latency, s.read = *latency, true
	if first {
		return 0, 0
	}
	return milliseconds(quantileOf(&fresh, 0.5)), milliseconds(quantileOf(&fresh, 0.99))
}

// of is one pool over the last second; zero when it has no series.
func (c *curves) of(name string) loadRates {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.series[name]; s != nil {
		return s.now
	}
	return loadRates{}
}

// since returns what was sampled after t, the node first and then pools by name.
func (c *curves) since(t time.Time) []console.Series {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := slices.Sorted(maps.Keys(c.series))
	if i := slices.Index(names, nodeLoad); i > 0 {
		names = append([]string{nodeLoad}, slices.Delete(names, i, i+1)...)
	}
	var out []console.Series
	for _, name := range names {
		out = append(out, c.series[name].after(name, t.Unix()))
	}
	return out
}

func (s *curve) after(name string, unix int64) console.Series {
	out := console.Series{Pool: name, Admitted: map[string][]float64{}, Refused: map[string][]float64{}}
	if name == nodeLoad {
		out.Pool = ""
	}
	for i := range s.ring {
		p := s.ring[(s.next+i)%len(s.ring)]
		if p.at <= unix {
			continue
		}
		out.At = append(out.At, p.at)
		for class := range exchange.Class(classCount) {
			word := class.String()
			out.Admitted[word] = append(out.Admitted[word], tenth(p.admitted[class]))
			out.Refused[word] = append(out.Refused[word], tenth(p.away[class]))
		}
		for j, column := range []*[]float64{&out.Limit, &out.Capacity, &out.InFlight, &out.Waiting, &out.QueueMS} {
			*column = append(*column, tenth(p.gauges[j]))
		}
		out.P50MS, out.P99MS = append(out.P50MS, tenth(p.p50)), append(out.P99MS, tenth(p.p99))
	}
	return out
}

// tenth rounds: more digits say nothing in a curve and make answers long.
func tenth(v float32) float64 { return float64(int64(v*10+0.5)) / 10 }
