// Package otlp sends what a node records to collectors that speak OpenTelemetry's protocol: spans, figures, and log records.
package otlp

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
)

// scope names who made what is sent.
const scope = "github.com/even-keel/evenkeel"

// Gatherer is where the node's own figures are read. It is a *prometheus.Registry.
type Gatherer interface {
	Gather() ([]*dto.MetricFamily, error)
}

// Deps is what the node gives.
type Deps struct {
	Site     string       // name of the site
	Instance string       // of this node
	Version  string       // of the program
	Self     Gatherer     // required
	Log      *slog.Logger // nil: none
}

// Config is where everything goes. nil: nowhere.
type Config struct {
	Traces  *site.OTLP
	Logs    *site.OTLP
	Metrics *site.OTLP
	Every   time.Duration // between two messages of figures
}

// ConfigOf is what a site says.
func ConfigOf(s *site.Site) Config {
	c := Config{Metrics: s.Monitor.OTLP, Every: s.Monitor.OTLPEvery}
	if s.Traces != nil {
		c.Traces = &s.Traces.OTLP
	}
	if s.Logs != nil {
		c.Logs = &s.Logs.OTLP
	}
	return c
}

// Exporter sends. Its methods may be called by any goroutine, Run once. Nothing waits for it: what finds a queue full is dropped and counted.
type Exporter struct {
	deps    Deps
	change  chan struct{} // has one place: the settings are other ones than those that run
	cfg     atomic.Pointer[Config]
	traces  lane[*trace.Span]
	logs    lane[Record]
	figures tally
}

// New makes an exporter. It opens nothing and starts nothing.
func New(cfg Config, deps Deps) *Exporter {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	e := &Exporter{deps: deps, change: make(chan struct{}, 1)}
	e.traces.queue, e.logs.queue = make(chan bound[*trace.Span], spansWaiting), make(chan bound[Record], recordsWaiting)
	e.cfg.Store(&cfg)
	return e
}

// Update changes where everything goes. Only one call may run at a time.
func (e *Exporter) Update(cfg Config) {
	if reflect.DeepEqual(e.cfg.Load(), &cfg) {
		return
	}
	e.cfg.Store(&cfg)
	select {
	case e.change <- struct{}{}:
	default:
	}
}

// Span takes a recorded request, which nobody writes to any more.
func (e *Exporter) Span(s *trace.Span) {
	if to := e.cfg.Load().Traces; to != nil {
		e.traces.offer(s, to)
	}
}

// Log takes a record of what happened.
func (e *Exporter) Log(r Record) {
	if to := e.cfg.Load().Logs; to != nil {
		e.logs.offer(r, to)
	}
}

// Full reports that Log would drop a record, and counts that it is not even made: refusals come fastest when there is least to spend on them.
func (e *Exporter) Full() bool {
	if len(e.logs.queue) < cap(e.logs.queue) {
		return false
	}
	e.logs.full.Add(1)
	return true
}

// Run sends until ctx ends, and then what waits. It never returns an error: what cannot be sent is dropped, counted, and shown by Status.
func (e *Exporter) Run(ctx context.Context) error {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { // what a collector took a part of only
		e.deps.Log.Warn("a collector says that something is wrong", "err", err)
	}))
	for { // once at the least, so that what waits is sent
		cfg := e.cfg.Load()
		inner, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer cancel()
			select {
			case <-e.change:
			case <-inner.Done():
			}
		})
		if cfg.Traces != nil {
			wg.Go(func() { e.sendSpans(inner, cfg.Traces) })
		}
		if cfg.Logs != nil {
			wg.Go(func() { e.sendRecords(inner, cfg.Logs) })
		}
		if cfg.Metrics != nil && cfg.Every > 0 {
			wg.Go(func() { e.sendFigures(inner, cfg.Metrics, cfg.Every) })
		}
		<-inner.Done()
		cancel()
		if wg.Wait(); ctx.Err() != nil {
			return nil
		}
	}
}

// resource is who sends, by OpenTelemetry's names.
func (e *Exporter) resource() *resource.Resource {
	all := []attribute.KeyValue{semconv.ServiceName("evenkeel")}
	for _, a := range []attribute.KeyValue{semconv.ServiceNamespace(e.deps.Site), semconv.ServiceInstanceID(e.deps.Instance), semconv.ServiceVersion(e.deps.Version)} {
		if a.Value.AsString() != "" {
			all = append(all, a)
		}
	}
	return resource.NewWithAttributes(semconv.SchemaURL, all...)
}

// Status is what was sent, by signal; nil: it goes nowhere.
type Status struct {
	Traces  *SignalStatus `json:"traces,omitempty"`
	Logs    *SignalStatus `json:"logs,omitempty"`
	Metrics *SignalStatus `json:"metrics,omitempty"`
}

// SignalStatus is what was sent of one signal: requests, records or metrics.
type SignalStatus struct {
	URL     string `json:"url"`
	Waiting int    `json:"waiting"`
	Sent    uint64 `json:"sent"`
	Full    uint64 `json:"dropped_queue"`     // because the queue was full
	Unsent  uint64 `json:"dropped_collector"` // because the collector did not take them
	Problem string `json:"problem,omitempty"` // of the last message; empty: it was taken
}

// Status is what was sent.
func (e *Exporter) Status() (s Status) {
	cfg := e.cfg.Load()
	at := func(to *site.OTLP, st SignalStatus) *SignalStatus {
		if to == nil {
			return nil
		}
		st.URL = to.URL
		return &st
	}
	s.Traces, s.Logs, s.Metrics = at(cfg.Traces, e.traces.status()), at(cfg.Logs, e.logs.status()), at(cfg.Metrics, e.figures.status())
	return s
}
