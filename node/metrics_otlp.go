package node

import (
	"encoding/hex"
	"sort"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/even-keel/evenkeel/monitor/otlp"
	"github.com/even-keel/evenkeel/trace"
)

var (
	descOTLPSent    = desc("otlp_sent_total", "What collectors took: recorded requests (traces), log records (logs), metrics (metrics).", "signal")
	descOTLPDropped = desc("otlp_dropped_total", "What they did not get: the queue was full (queue), or they did not take it (collector).", "signal", "reason")
	descOTLPWaiting = desc("otlp_waiting", "What waits to be sent to a collector.", "signal")
	descOTLPUp      = desc("otlp_up", "1 when the collector took the last message, or there was none yet.", "signal")
	descTracesOver  = desc("traces_over_rate_total", "Requests that were not recorded because of the rate of traces.")
)

// otlp shows what was sent to collectors. A site without one shows nothing.
func (s sink) otlp(st otlp.Status, sampler *trace.Sampler) {
	for signal, one := range map[string]*otlp.SignalStatus{"traces": st.Traces, "logs": st.Logs, "metrics": st.Metrics} {
		if one == nil {
			continue
		}
		s.counter(descOTLPSent, one.Sent, signal)
		s.counter(descOTLPDropped, one.Full, signal, "queue")
		s.counter(descOTLPDropped, one.Unsent, signal, "collector")
		s.gauge(descOTLPWaiting, float64(one.Waiting), signal)
		s.gauge(descOTLPUp, number(one.Problem == ""), signal)
	}
	if sampler != nil {
		s.counter(descTracesOver, sampler.Over())
	}
}

// traceSamples are traces of requests that took as long as a bucket of evenkeel_request_seconds says: the newest of each. Only requests that are recorded write.
type traceSamples [16 + 1]atomic.Pointer[traceSample]

// traceSample is one of them.
type traceSample struct {
	id   [16]byte
	span [8]byte
	took time.Duration
	at   time.Time
}

// note keeps a recorded request as an example.
func (e *traceSamples) note(r *trace.Span, took time.Duration) {
	i := sort.SearchFloat64s(bounds, took.Seconds())
	e[min(i, len(e)-1)].Store(&traceSample{r.ID, r.Span, took, r.Begun})
}

// exemplars are the examples as OpenMetrics has them.
func (e *traceSamples) exemplars() (out []prometheus.Exemplar) {
	for i := range e {
		if one := e[i].Load(); one != nil {
			out = append(out, prometheus.Exemplar{Value: one.took.Seconds(), Timestamp: one.at.Add(one.took),
				Labels: prometheus.Labels{"trace_id": hex.EncodeToString(one.id[:]), "span_id": hex.EncodeToString(one.span[:])}})
		}
	}
	return out
}
