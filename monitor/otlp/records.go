package otlp

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
)

// Record is something that happened: a request, or an event.
type Record struct {
	Request *trace.Span // nil: an event
	At      time.Time   // of an event
	Kind    string      // what kind of event, in a word
	Text    string
	Grave   bool              // somebody should look at it
	More    map[string]string // what else is known; nil: nothing. Nobody writes to it any more
}

// sendRecords sends records until ctx ends.
func (e *Exporter) sendRecords(ctx context.Context, cfg *site.OTLP) {
	p, err := newPlace(cfg, "/v1/logs")
	if err != nil {
		e.logs.note(0, err, e.deps.Log, "log records")
		<-ctx.Done()
		return
	}
	to, err := p.records(context.WithoutCancel(ctx))
	if err != nil {
		e.logs.note(0, err, e.deps.Log, "log records")
		<-ctx.Done()
		return
	}
	defer to.Shutdown(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is lost by it
	defer p.client.CloseIdleConnections()
	var made collected
	maker := sdklog.NewLoggerProvider(sdklog.WithResource(e.resource()), sdklog.WithProcessor(&made), sdklog.WithAttributeCountLimit(-1)).
		Logger(scope, log.WithInstrumentationVersion(e.deps.Version), log.WithSchemaURL(semconv.SchemaURL))
	e.logs.run(ctx, cfg, func() *site.OTLP { return e.cfg.Load().Logs }, func(ctx context.Context, batch []Record) {
		made.list = made.list[:0]
		for i := range batch {
			emit(maker, &batch[i])
		}
		e.logs.note(len(batch), to.Export(ctx, made.list), e.deps.Log, "log records")
		clear(made.list)
	})
}

// collected is a processor that keeps the records of one message.
type collected struct{ list []sdklog.Record }

func (c *collected) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }
func (c *collected) Shutdown(context.Context) error                         { return nil }
func (c *collected) ForceFlush(context.Context) error                       { return nil }
func (c *collected) OnEmit(_ context.Context, r *sdklog.Record) error {
	c.list = append(c.list, r.Clone())
	return nil
}

// emit makes a log record.
func emit(to log.Logger, r *Record) {
	var out log.Record
	ctx := context.Background()
	out.SetObservedTimestamp(time.Now())
	if s := r.Request; s != nil {
		out.SetTimestamp(s.Begun.Add(s.Took))
		out.SetEventName("evenkeel.request")
		out.SetBody(attribute.StringValue(valid(requestLine(s))))
		severity(&out, gravityOf(s))
		out.AddAttributes(utf8(serverAttributes(s))...)
		out.AddAttributes(attribute.Float64("evenkeel.took", s.Took.Seconds()))
		if s.Sampled() {
			ctx = oteltrace.ContextWithSpanContext(ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: s.ID, SpanID: s.Span, TraceFlags: oteltrace.FlagsSampled}))
		}
	} else {
		out.SetTimestamp(r.At)
		out.SetEventName("evenkeel." + r.Kind)
		out.SetBody(attribute.StringValue(valid(r.Text)))
		gravity := log.SeverityInfo
		if r.Grave {
			gravity = log.SeverityWarn
		}
		severity(&out, gravity)
		out.AddAttributes(attribute.String("evenkeel.event", r.Kind))
		for k, v := range r.More {
			out.AddAttributes(attribute.String("evenkeel."+k, valid(v)))
		}
	}
	to.Emit(ctx, out)
}

func severity(out *log.Record, s log.Severity) {
	out.SetSeverity(s)
	out.SetSeverityText(s.String())
}

// gravityOf: a request that failed is an error, one that was refused a warning. Who is called for errors is not called for each request that
// the node sheds as it was told to, by 503 too.
func gravityOf(s *trace.Span) log.Severity {
	switch {
	case s.Answer.Away && !s.Answer.Truncated:
		return log.SeverityWarn
	case failedAnswer(s) != "":
		return log.SeverityError
	case s.Answer.RefusedBy != "":
		return log.SeverityWarn
	}
	return log.SeverityInfo
}

// requestLine is a request in one line for people.
func requestLine(s *trace.Span) string {
	line := s.Request.Method + " " + s.Request.Path + " " + strconv.Itoa(s.Answer.Status)
	if s.Answer.RefusedBy != "" {
		line += " refused by " + s.Answer.RefusedBy + ": " + s.Answer.Reason
	}
	return line
}

// utf8 makes the texts of attributes fit to be sent.
func utf8(list []attribute.KeyValue) []attribute.KeyValue {
	for i := range list {
		if list[i].Value.Type() == attribute.STRING {
			list[i] = list[i].Key.String(valid(list[i].Value.AsString()))
		}
	}
	return list
}

// valid is s as UTF-8, which protobuf insists on: what clients send need not be.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
