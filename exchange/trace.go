package exchange

import (
	"bytes"

	"github.com/even-keel/evenkeel/trace"
)

// tracedPath is how many bytes of a path are kept of an attempt.
const tracedPath = 1 << 10

// Trace is the part of an exchange in a trace. The zero value: evenkeel takes none, and the sender's fields pass as they are.
type Trace struct {
	Told   trace.Context // what the endpoint is told instead of the sender's traceparent; none: that
	Anew   bool          // the trace begins here: the sender's tracestate is not passed on
	Record *trace.Span   // nil: the exchange is not recorded
	At     int           // the attempt under way in Record
}

// Try begins to record an attempt at e, and has the endpoint told of it.
func (x *Exchange) Try(e *Endpoint) {
	r := x.Trace.Record
	if r == nil {
		return
	}
	at, a := r.Try(e.Pool, e.Address, max(x.Attempt, 1))
	if x.Trace.At = at; a != nil {
		x.Trace.Told.Span = a.Span
	}
}

// Forget takes the attempt under way back: it was not made after all.
func (t *Trace) Forget() {
	if t.Record != nil {
		t.Record.Forget()
	}
}

// Beside notes that the attempt under way is one beside the first.
func (t *Trace) Beside() {
	if t.Record != nil {
		if a := t.Record.Of(t.At); a != nil {
			a.Hedge = true
		}
	}
}

// Asked notes what the endpoint of the attempt under way is asked for. The query is left out: secrets stand in it.
func (t *Trace) Asked(target []byte, secure bool) {
	a := t.Record.Of(t.At)
	if a == nil || len(target) == 0 || target[0] != '/' {
		return
	}
	path, _, _ := bytes.Cut(target, []byte("?"))
	a.Scheme, a.Path = "http", string(path[:min(len(path), tracedPath)])
	if secure {
		a.Scheme = "https"
	}
}
