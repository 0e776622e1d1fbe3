package trace

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Whose word counts about whether a request is recorded.
const (
	ParentsAll     = "all"     // who sends a traceparent says so
	ParentsTrusted = "trusted" // only trusted proxies do
	ParentsNone    = "none"    // nobody does: the share decides
)

// Rules say which requests are recorded.
type Rules struct {
	Share   float64 // of the traces that begin here, from 0 to 1
	Parents string  // whose word counts for the others
	Rate    float64 // no more than so many in a second; 0: no limit
}

// Sampler decides at the head of a request whether it is recorded. It reads; only requests that are recorded write, to a meter that they share.
type Sampler struct {
	rules Rules
	below uint64 // ids below it are recorded
	gap   int64  // ns between two at Rate; 0: no limit
	next  atomic.Int64
	over  atomic.Uint64
}

// burst is how many seconds' worth of Rate may come at once.
const burst = int64(time.Second)

// NewSampler makes a sampler.
func NewSampler(r Rules) *Sampler {
	s := &Sampler{rules: r, below: uint64(r.Share * (1 << 63))}
	if r.Share >= 1 {
		s.below = 1 << 63
	}
	if r.Rate > 0 {
		s.gap = int64(float64(time.Second) / r.Rate)
	}
	return s
}

// Sample decides. parent is where the sender stands, or a trace that begins here; begins says which. now is read for requests that are to be recorded
// only, in ns.
//
// The share is taken from the id of the trace, as OpenTelemetry's SDKs do it: gateways behind each other record the same traces.
func (s *Sampler) Sample(parent *Context, begins, trusted bool, now func() int64) bool {
	follows := !begins && (s.rules.Parents == ParentsAll || s.rules.Parents == ParentsTrusted && trusted)
	if follows && !parent.Sampled() || !follows && binary.BigEndian.Uint64(parent.ID[8:])>>1 >= s.below {
		return false
	}
	return s.gap == 0 || s.take(now())
}

// take lets one through when the rate allows it.
func (s *Sampler) take(now int64) bool {
	for {
		next := s.next.Load()
		at := max(next, now-burst)
		if at > now {
			s.over.Add(1)
			return false
		}
		if s.next.CompareAndSwap(next, at+s.gap) {
			return true
		}
	}
}

// Rules are what the sampler decides by.
func (s *Sampler) Rules() Rules { return s.rules }

// Over is how many were not recorded because of the rate.
func (s *Sampler) Over() uint64 { return s.over.Load() }
