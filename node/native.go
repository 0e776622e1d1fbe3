package node

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The node's own store has latencies as native histograms too, one series where the classic buckets are seventeen. Serving a
// request counts nothing for them: they are made from the buckets of tally when somebody looks.
//
// Their buckets are powers of 2^(1/8) seconds: 9.1 % wide, where those of tally are 3.1 to 6.3 %. A finer schema would have buckets
// that no latency can fall into.
const (
	nativeSchema = 3
	nativeZero   = 1e-6 // seconds: what took less than the first bucket of tally tells apart
)

// nativeBucket is which native bucket has what lies in bucket i of tally, told by its middle: a latency close to a border may be
// found beside it, by half a bucket of tally at the most. It is n where a bucket ends with 2^(n/8) seconds. The first bucket of tally is the
// zero bucket. What the last one takes, whatever took longer than it tells, stays there, as in quantiles of tally.
func nativeBucket(i int) int {
	middle := (bucketTop(i-1) + bucketTop(i)).Seconds() / 2
	return int(math.Ceil(math.Log2(middle) * (1 << nativeSchema)))
}

// native are latencies in exponential buckets.
type native struct {
	zero   uint64
	first  int32   // the first bucket
	counts []int64 // from there on, without gaps: a store takes empty buckets out
}

// native makes the buckets.
func (s *sums) native() (h native) {
	h.zero = s.Latency[0]
	for i := 1; i < latencyBuckets; i++ {
		if s.Latency[i] == 0 {
			continue
		}
		at := int32(nativeBucket(i))
		if h.counts == nil {
			h.first = at
		}
		for h.first+int32(len(h.counts)) <= at {
			h.counts = append(h.counts, 0)
		}
		h.counts[at-h.first] += int64(s.Latency[i])
	}
	return h
}

// doubled is a classic histogram that says the same in native buckets. Who reads a text sees the classic ones alone.
type doubled struct {
	prometheus.Metric
	native
}

// Write implements prometheus.Metric.
func (d doubled) Write(to *dto.Metric) error {
	if err := d.Metric.Write(to); err != nil {
		return err
	}
	h, schema, threshold := to.Histogram, int32(nativeSchema), nativeZero
	h.Schema, h.ZeroThreshold, h.ZeroCount = &schema, &threshold, &d.zero
	if len(d.counts) == 0 {
		return nil
	}
	length, before := uint32(len(d.counts)), int64(0)
	h.PositiveSpan = []*dto.BucketSpan{{Offset: &d.first, Length: &length}}
	for _, n := range d.counts {
		h.PositiveDelta = append(h.PositiveDelta, n-before)
		before = n
	}
	return nil
}
