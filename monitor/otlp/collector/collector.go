// Package collector is a receiver of OpenTelemetry's protocol for tests: it takes spans, figures and log records by gRPC and by HTTP, and remembers them.
package collector

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // what comes is compressed
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Collector listens on two ports of loopback until Close.
type Collector struct {
	GRPC, HTTP string // addresses

	rpc *grpc.Server
	web *http.Server
	wg  sync.WaitGroup

	mu      sync.Mutex
	traces  []*tracepb.ExportTraceServiceRequest
	metrics []*metricspb.ExportMetricsServiceRequest
	logs    []*logspb.ExportLogsServiceRequest
	shown   []string // authorizations
}

// bodyMost bounds a message by HTTP.
const bodyMost = 64 << 20

// Start starts a collector.
func Start() (*Collector, error) {
	c := &Collector{rpc: grpc.NewServer()}
	tracepb.RegisterTraceServiceServer(c.rpc, traceService{c: c})
	metricspb.RegisterMetricsServiceServer(c.rpc, metricsService{c: c})
	logspb.RegisterLogsServiceServer(c.rpc, logsService{c: c})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", take(c, func() proto.Message { return new(tracepb.ExportTraceServiceRequest) }, &tracepb.ExportTraceServiceResponse{}))
	mux.HandleFunc("POST /v1/metrics", take(c, func() proto.Message { return new(metricspb.ExportMetricsServiceRequest) }, &metricspb.ExportMetricsServiceResponse{}))
	mux.HandleFunc("POST /v1/logs", take(c, func() proto.Message { return new(logspb.ExportLogsServiceRequest) }, &logspb.ExportLogsServiceResponse{}))
	c.web = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("no port for gRPC: %w", err)
	}
	two, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		one.Close()
		return nil, fmt.Errorf("no port for HTTP: %w", err)
	}
	c.GRPC, c.HTTP = one.Addr().String(), two.Addr().String()
	c.wg.Go(func() { _ = c.rpc.Serve(one) })
	c.wg.Go(func() { _ = c.web.Serve(two) })
	return c, nil
}

// Close ends it.
func (c *Collector) Close() {
	c.rpc.Stop()
	c.web.Close()
	c.wg.Wait()
}

// take makes a handler of one signal.
func take(c *Collector, empty func() proto.Message, answer proto.Message) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in := io.Reader(http.MaxBytesReader(w, r.Body, bodyMost))
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(in)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			in = io.LimitReader(z, bodyMost)
		}
		body, err := io.ReadAll(in)
		m := empty()
		if err == nil {
			err = proto.Unmarshal(body, m)
		}
		if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			http.Error(w, fmt.Sprint("not protobuf: ", err), http.StatusBadRequest)
			return
		}
		c.keep(m, r.Header.Get("Authorization"))
		out, _ := proto.Marshal(answer)
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(out)
	}
}

// keep remembers a message.
func (c *Collector) keep(m proto.Message, shown string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = append(c.shown, shown)
	switch m := m.(type) {
	case *tracepb.ExportTraceServiceRequest:
		c.traces = append(c.traces, m)
	case *metricspb.ExportMetricsServiceRequest:
		c.metrics = append(c.metrics, m)
	case *logspb.ExportLogsServiceRequest:
		c.logs = append(c.logs, m)
	}
}

func shownBy(ctx context.Context) string {
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("authorization")) > 0 {
		return md.Get("authorization")[0]
	}
	return ""
}

type traceService struct {
	tracepb.UnimplementedTraceServiceServer
	c *Collector
}

// Export implements the service.
func (s traceService) Export(ctx context.Context, m *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	s.c.keep(m, shownBy(ctx))
	return &tracepb.ExportTraceServiceResponse{}, nil
}

type metricsService struct {
	metricspb.UnimplementedMetricsServiceServer
	c *Collector
}

// Export implements the service.
func (s metricsService) Export(ctx context.Context, m *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	s.c.keep(m, shownBy(ctx))
	return &metricspb.ExportMetricsServiceResponse{}, nil
}

type logsService struct {
	logspb.UnimplementedLogsServiceServer
	c *Collector
}

// Export implements the service.
func (s logsService) Export(ctx context.Context, m *logspb.ExportLogsServiceRequest) (*logspb.ExportLogsServiceResponse, error) {
	s.c.keep(m, shownBy(ctx))
	return &logspb.ExportLogsServiceResponse{}, nil
}

// Span is a span that came, in a form that tests like.
type Span struct {
	Trace, ID, Parent, State, Name string // ids in hexadecimal
	Kind                           string // SERVER, CLIENT
	Failed                         bool
	Nanos                          int64 // how long it lasted
	Is                             map[string]string
	Of                             map[string]string // attributes of the resource
}

// Spans are all that came so far.
func (c *Collector) Spans() (out []Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.traces {
		for _, r := range m.ResourceSpans {
			for _, scope := range r.ScopeSpans {
				for _, s := range scope.Spans {
					out = append(out, Span{
						Trace: fmt.Sprintf("%x", s.TraceId), ID: fmt.Sprintf("%x", s.SpanId), Parent: fmt.Sprintf("%x", s.ParentSpanId), State: s.TraceState, Name: s.Name,
						Kind: s.Kind.String()[len("SPAN_KIND_"):], Failed: s.Status.GetCode() != 0, Nanos: int64(s.EndTimeUnixNano - s.StartTimeUnixNano),
						Is: texts(s.Attributes), Of: texts(r.Resource.GetAttributes()),
					})
				}
			}
		}
	}
	return out
}

// Record is a log record that came.
type Record struct {
	Event, Body, Severity, Trace string
	Is                           map[string]string
}

// Records are all that came so far.
func (c *Collector) Records() (out []Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.logs {
		for _, r := range m.ResourceLogs {
			for _, scope := range r.ScopeLogs {
				for _, l := range scope.LogRecords {
					out = append(out, Record{Event: l.EventName, Body: l.Body.GetStringValue(), Severity: l.SeverityText, Trace: fmt.Sprintf("%x", l.TraceId), Is: texts(l.Attributes)})
				}
			}
		}
	}
	return out
}

// Figures are the names of the figures that came in the last message, with how many series each has.
func (c *Collector) Figures() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	if len(c.metrics) == 0 {
		return out
	}
	for _, r := range c.metrics[len(c.metrics)-1].ResourceMetrics {
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				out[m.Name] = len(m.GetSum().GetDataPoints()) + len(m.GetGauge().GetDataPoints()) + len(m.GetHistogram().GetDataPoints()) + len(m.GetSummary().GetDataPoints())
			}
		}
	}
	return out
}

// Shown are the authorizations of all messages.
func (c *Collector) Shown() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.shown...)
}

// texts are attributes as texts.
func texts(list []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range list {
		switch v := a.Value.GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[a.Key] = fmt.Sprint(v.IntValue)
		case *commonpb.AnyValue_BoolValue:
			out[a.Key] = fmt.Sprint(v.BoolValue)
		case *commonpb.AnyValue_DoubleValue:
			out[a.Key] = fmt.Sprint(v.DoubleValue)
		}
	}
	return out
}
