package node

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// record counts every exchange of one listener, with what became of it, and writes the access log.
type record struct {
	routes  []*tally   // by Route.Index
	none    *tally     // no route was found
	reasons []*reasons // by Route.Index
	noRoute *reasons
	flight  *flight
	log     *atomic.Pointer[accessLog] // nil inside: off
	telling *atomic.Pointer[telling]   // nil inside: no collector is told
	keep    *sampler                   // nil: no requests are kept
}

// flight is how many exchanges a listener has in flight.
type flight struct{ shards [shardCount]paddedGauge }

// paddedGauge is a gauge that shares its cache line with no other.
type paddedGauge struct {
	n atomic.Int64
	_ [56]byte
}

// sum is the number of exchanges in flight.
func (f *flight) sum() (n int64) {
	for i := range f.shards {
		n += f.shards[i].n.Load()
	}
	return n
}

// Serve implements exchange.Stage.
func (s *record) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	gauge := &s.flight.shards[x.Shard%shardCount].n
	gauge.Add(1)
	defer gauge.Add(-1) // after a panic too
	refusal := next.Do(x)

	took := time.Since(x.Start)
	t, why := s.none, s.noRoute
	if x.Route != nil {
		t, why = s.routes[x.Route.Index], s.reasons[x.Route.Index]
	}
	status := x.Outcome.Status
	if refusal != nil {
		// The engine writes it after the stages have returned, to who is still there.
		if status == 0 && x.Request != nil && !x.Outcome.Aborted {
			status = refusal.Status
		}
		why.count(refusal, x.Class, x.Shard)
	}
	said := meant(x, refusal, status)
	t.shard(x.Shard).count(x, said, refusal != nil, took)
	if r := x.Trace.Record; r != nil && (refusal == nil || x.Attempt > 0) {
		t.samples.note(r, took)
	}
	if log := s.log.Load(); log != nil {
		log.note(x, refusal, status, took)
	}
	if to := s.telling.Load(); to != nil {
		to.note(x, refusal, status)
	}
	if s.keep != nil {
		s.keep.note(x, refusal, said, took)
	}
	return refusal
}

// meant is what an answer says as a status of HTTP: a call of gRPC that failed at its endpoint has 200 in its head.
func meant(x *exchange.Exchange, refusal *exchange.Refusal, status int) int {
	if status == http.StatusOK && x.Result.Code != 0 && refusal == nil {
		return x.Result.Status
	}
	return status
}
