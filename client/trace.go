package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/even-keel/evenkeel/trace"
)

// Names of fields that say where in a trace a request stands (W3C Trace Context).
const (
	FieldTraceparent = "Traceparent"
	FieldTracestate  = "Tracestate"
)

// stateMost is how long a tracestate may be to be passed on. The standard asks for 512 octets at the least.
const stateMost = 4 << 10

// place is where in a trace the work of a context stands.
type place struct{ parent, state string }

// WithTrace says where in a trace the work of ctx is: requests of ctx tell it to their servers. What is no traceparent changes nothing, as the
// standard wants it; a tracestate that no field can hold is left out.
func WithTrace(ctx context.Context, traceparent, tracestate string) context.Context {
	if _, ok := trace.Parse([]byte(traceparent)); !ok {
		return ctx
	}
	if len(tracestate) > stateMost || strings.ContainsFunc(tracestate, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') }) {
		tracestate = ""
	}
	return context.WithValue(ctx, keyTrace, place{traceparent, tracestate})
}

// TraceOf is what WithTrace, or Receive, says of ctx; empty when nobody said anything.
func TraceOf(ctx context.Context) (traceparent, tracestate string) {
	p, _ := ctx.Value(keyTrace).(place)
	return p.parent, p.state
}

// traceOf is where in a trace a request is, as its fields say. Two places are none.
func traceOf(ctx context.Context, h http.Header) context.Context {
	if parent := h.Values(FieldTraceparent); len(parent) == 1 {
		return WithTrace(ctx, parent[0], strings.Join(h.Values(FieldTracestate), ","))
	}
	return ctx
}

// traced puts into h where an attempt is in a trace, as ask says of ctx, or else ctx itself; ask may be nil. A traceparent that the program has put
// there itself stays.
func traced(ctx context.Context, h http.Header, ask func(context.Context) (string, string)) {
	if h.Get(FieldTraceparent) != "" {
		return
	}
	if ask != nil {
		parent, state := ask(ctx)
		ctx = WithTrace(ctx, parent, state)
	}
	parent, state := TraceOf(ctx)
	if parent == "" {
		return
	}
	h.Set(FieldTraceparent, parent)
	if h.Del(FieldTracestate); state != "" { // that of another place
		h.Set(FieldTracestate, state)
	}
}
