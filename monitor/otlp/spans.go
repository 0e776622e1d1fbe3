package otlp

import (
	"context"
	"net"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
)

// sendSpans sends recorded requests until ctx ends.
func (e *Exporter) sendSpans(ctx context.Context, cfg *site.OTLP) {
	p, err := newPlace(cfg, "/v1/traces")
	if err != nil {
		e.traces.note(0, err, e.deps.Log, "traces")
		<-ctx.Done()
		return
	}
	c := p.traces()
	if err := c.Start(context.WithoutCancel(ctx)); err != nil {
		e.traces.note(0, err, e.deps.Log, "traces")
		<-ctx.Done()
		return
	}
	defer c.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is lost by it
	defer p.client.CloseIdleConnections()
	who := &resourcepb.Resource{Attributes: protoAttributes(e.resource().Attributes())}
	e.traces.run(ctx, cfg, func() *site.OTLP { return e.cfg.Load().Traces }, func(ctx context.Context, batch []*trace.Span) {
		var spans []*tracepb.Span
		for _, s := range batch {
			spans = appendSpans(spans, s)
		}
		err := c.UploadTraces(ctx, []*tracepb.ResourceSpans{{
			Resource: who, SchemaUrl: semconv.SchemaURL,
			ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: scope, Version: e.deps.Version}, Spans: spans, SchemaUrl: semconv.SchemaURL}},
		}})
		e.traces.note(len(batch), err, e.deps.Log, "traces")
	})
}

// flagsLocal and flagsRemote say in Span.flags that it is known where the parent is, and that it is elsewhere.
const (
	flagsLocal  = uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
	flagsRemote = flagsLocal | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
)

// appendSpans makes the spans of one request: of evenkeel as a server, and of each attempt as a client.
func appendSpans(out []*tracepb.Span, s *trace.Span) []*tracepb.Span {
	begun := uint64(s.Begun.UnixNano())
	server := &tracepb.Span{
		TraceId: s.ID[:], SpanId: s.Span[:], TraceState: s.State, Flags: uint32(s.Flags) | flagsLocal, Name: spanName(s.Request.Method, s.Request.Route),
		Kind: tracepb.Span_SPAN_KIND_SERVER, StartTimeUnixNano: begun, EndTimeUnixNano: begun + uint64(max(s.Took, 0)),
		Attributes: protoAttributes(serverAttributes(s)),
	}
	if s.Remote {
		server.ParentSpanId, server.Flags = s.Parent[:], uint32(s.Flags)|flagsRemote
	}
	if failedAnswer(s) != "" {
		server.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR}
	}
	if n := s.Count - trace.MaxAttempts; n > 0 {
		server.Attributes = append(server.Attributes, protoAttributes([]attribute.KeyValue{attribute.Int("evenkeel.attempts.dropped", n)})...)
	}
	out = append(out, server)
	for i := range s.Attempts {
		a := &s.Attempts[i]
		at := uint64(a.Begun.UnixNano())
		one := &tracepb.Span{
			TraceId: s.ID[:], SpanId: a.Span[:], ParentSpanId: s.Span[:], TraceState: s.State, Flags: uint32(s.Flags) | flagsLocal, Name: spanName(s.Request.Method, a.Pool),
			Kind: tracepb.Span_SPAN_KIND_CLIENT, StartTimeUnixNano: at, EndTimeUnixNano: at + uint64(max(a.Took, 0)),
			Attributes: protoAttributes(attemptAttributes(s, a)),
		}
		if a.Failure != "" || a.Status >= 400 {
			one.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR}
		}
		out = append(out, one)
	}
	return out
}

// spanName is of low cardinality: a method that is known, and where it leads by a name of the site file.
func spanName(method, to string) string {
	if !knownMethod(method) {
		method = "HTTP" // as the conventions have it
	}
	if to == "" {
		return method
	}
	return method + " " + to
}

func knownMethod(m string) bool {
	switch m {
	case "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY":
		return true
	}
	return false
}

// failedAnswer says why the answer counts as an error of this side: a status from 500, one cut off, a call of gRPC that failed; empty: it does not.
func failedAnswer(s *trace.Span) string {
	switch {
	case s.Answer.Truncated:
		return "truncated"
	case s.Answer.Status >= 500 && s.Answer.Reason != "":
		return s.Answer.Reason
	case s.Answer.Status >= 500:
		return strconv.Itoa(s.Answer.Status)
	}
	return s.Answer.Call
}

// attributes collects what is known: what is empty is left out.
type attributes []attribute.KeyValue

func (l *attributes) text(k attribute.Key, v string) {
	if v != "" {
		*l = append(*l, k.String(v))
	}
}

func (l *attributes) number(k attribute.Key, v int64) {
	if v != 0 {
		*l = append(*l, k.Int64(v))
	}
}

// method tells it by the conventions' closed set.
func (l *attributes) method(m string) {
	if knownMethod(m) {
		l.text(semconv.HTTPRequestMethodKey, m)
		return
	}
	l.text(semconv.HTTPRequestMethodKey, "_OTHER")
	l.text(semconv.HTTPRequestMethodOriginalKey, m)
}

// address tells host and port under their two keys.
func (l *attributes) address(host, port attribute.Key, address string) {
	h, p, err := net.SplitHostPort(address)
	if err != nil {
		l.text(host, address)
		return
	}
	l.text(host, h)
	if n, err := strconv.Atoi(p); err == nil {
		l.number(port, int64(n))
	}
}

// serverAttributes are by the semantic conventions for HTTP servers, and what only evenkeel knows under its own name. The query is not
// told: secrets stand in it.
func serverAttributes(s *trace.Span) attributes {
	var l attributes
	q, a := &s.Request, &s.Answer
	l.method(q.Method)
	l.text(semconv.URLSchemeKey, q.Scheme)
	l.text(semconv.URLPathKey, q.Path)
	l.text(semconv.HTTPRouteKey, q.Pattern)
	l.number(semconv.HTTPResponseStatusCodeKey, int64(a.Status))
	l.text(semconv.ErrorTypeKey, failedAnswer(s))
	l.text(semconv.NetworkProtocolVersionKey, q.Version)
	l.address(semconv.ServerAddressKey, semconv.ServerPortKey, q.Host)
	if q.Client.IsValid() {
		l.text(semconv.ClientAddressKey, q.Client.String())
	}
	if q.Peer.IsValid() {
		l.text(semconv.NetworkPeerAddressKey, q.Peer.Addr().Unmap().String())
		l.number(semconv.NetworkPeerPortKey, int64(q.Peer.Port()))
	}
	l.text(semconv.UserAgentOriginalKey, q.Agent)
	l.number(semconv.HTTPRequestBodySizeKey, q.Body)
	l.number(semconv.HTTPResponseBodySizeKey, a.Body)
	return append(l, ownAttributes(s)...)
}

// ownAttributes are those that only evenkeel knows.
func ownAttributes(s *trace.Span) attributes {
	var l attributes
	q, a := &s.Request, &s.Answer
	l.text("evenkeel.route", q.Route)
	l.text("evenkeel.listener", q.Listener)
	l.text("evenkeel.class", q.Class)
	l.text("evenkeel.request_id", q.ID)
	l.text("evenkeel.refused_by", a.RefusedBy)
	l.text("evenkeel.reason", a.Reason)
	l.text("evenkeel.limit", a.Limit)
	l.text("evenkeel.cache", a.Cache)
	l.number("evenkeel.attempts", int64(s.Count))
	if a.Aborted {
		l = append(l, attribute.Bool("evenkeel.aborted", true))
	}
	return l
}

// attemptAttributes are by the semantic conventions for HTTP clients.
func attemptAttributes(s *trace.Span, a *trace.Attempt) attributes {
	var l attributes
	l.method(s.Request.Method)
	l.address(semconv.ServerAddressKey, semconv.ServerPortKey, a.Endpoint)
	if a.Path != "" {
		l.text(semconv.URLFullKey, a.Scheme+"://"+a.Endpoint+a.Path)
	}
	l.number(semconv.HTTPRequestResendCountKey, int64(a.Number-1))
	l.number(semconv.HTTPResponseStatusCodeKey, int64(a.Status))
	switch {
	case a.Failure != "":
		l.text(semconv.ErrorTypeKey, a.Failure)
	case a.Status >= 400:
		l.text(semconv.ErrorTypeKey, strconv.Itoa(a.Status))
	}
	l.text("evenkeel.pool", a.Pool)
	l.number("evenkeel.attempt", int64(a.Number))
	if a.Hedge {
		l = append(l, attribute.Bool("evenkeel.hedge", true))
	}
	if a.Cancelled {
		l = append(l, attribute.Bool("evenkeel.cancelled", true))
	}
	if a.FirstByte > 0 {
		l = append(l, attribute.Float64("evenkeel.first_byte", a.FirstByte.Seconds()))
	}
	return l
}

// protoAttributes are attributes as they are sent.
func protoAttributes(list []attribute.KeyValue) []*commonpb.KeyValue {
	out := make([]*commonpb.KeyValue, 0, len(list))
	for _, a := range list {
		v := &commonpb.AnyValue{}
		switch a.Value.Type() {
		case attribute.INT64:
			v.Value = &commonpb.AnyValue_IntValue{IntValue: a.Value.AsInt64()}
		case attribute.FLOAT64:
			v.Value = &commonpb.AnyValue_DoubleValue{DoubleValue: a.Value.AsFloat64()}
		case attribute.BOOL:
			v.Value = &commonpb.AnyValue_BoolValue{BoolValue: a.Value.AsBool()}
		default:
			v.Value = &commonpb.AnyValue_StringValue{StringValue: valid(a.Value.AsString())}
		}
		out = append(out, &commonpb.KeyValue{Key: string(a.Key), Value: v})
	}
	return out
}
