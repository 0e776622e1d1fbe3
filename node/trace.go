package node

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
	"github.com/even-keel/evenkeel/wire"
)

// traceText is how many bytes of a text that a client sent are kept of it. tracestate may have 512 at the least (W3C Trace Context §3.3.1.5).
const traceText = 1 << 10

// tracing finds where requests stand in a trace, and records those that are sampled. Others cost a look at their fields, and an id when
// they brought none.
type tracing struct {
	sampler *trace.Sampler
	trusted []netip.Prefix    // proxies whose word counts, where that of others does not
	offer   func(*trace.Span) // takes what was recorded, and never waits
	now     func() time.Time
}

// newTracing makes the stage; nil: the site traces nothing.
func (n *Node) newTracing(s *site.Site) exchange.Stage {
	if n.sampler == nil {
		return nil
	}
	return &tracing{sampler: n.sampler, trusted: s.Identify.TrustedProxies, offer: n.otlp.Span, now: time.Now}
}

// useSampler makes what decides about requests of s. All listeners share it, so that their rate is one.
func (n *Node) useSampler(s *site.Site) {
	cfg := s.Traces
	if cfg == nil {
		n.sampler = nil
		return
	}
	rules := trace.Rules{Share: float64(cfg.Sample), Parents: cfg.Parents, Rate: float64(cfg.Rate)}
	if n.sampler == nil || n.sampler.Rules() != rules {
		n.sampler = trace.NewSampler(rules)
	}
}

// Serve implements exchange.Stage.
func (t *tracing) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	t.begin(x)
	refusal := next.Do(x)
	if x.Trace.Record != nil {
		t.end(x, refusal)
	}
	return refusal
}

// begin finds out where x stands, and whether it is recorded. It is not inlined, so that its work is not on the stack of an exchange that waits.
//
//go:noinline
func (t *tracing) begin(x *exchange.Exchange) {
	var parent trace.Context
	state, begins, seen := []byte(nil), true, false
	for i := range x.Request.Fields {
		switch f := &x.Request.Fields[i]; f.ID {
		case wire.Traceparent:
			c, ok := trace.Parse(f.Value)
			begins, seen, parent = !ok || seen, true, c // two of them say nothing
		case wire.Tracestate:
			if state == nil {
				state = f.Value
			}
		}
	}
	if begins {
		parent, x.Trace.Anew = trace.New(), true
	}
	if !t.sampler.Sample(&parent, begins, !begins && t.trusts(x), t.nanos) {
		if begins {
			x.Trace.Told = parent
		}
		return
	}
	r := &trace.Span{Context: parent, Begun: x.Start}
	r.Flags |= trace.FlagSampled
	if !begins {
		r.Parent, r.Remote, r.Span, r.State = parent.Span, true, trace.NewSpan(), shortText(state)
	}
	x.Trace.Record, x.Trace.Told = r, r.Context
}

func (t *tracing) nanos() int64 { return t.now().UnixNano() }

// trusts reports whether who sent x is a trusted proxy.
func (t *tracing) trusts(x *exchange.Exchange) bool {
	from := exchange.Plain(x.Client.Addr())
	for _, p := range t.trusted {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// end fills in what became of x, and hands it on. The stages behind have returned: nobody writes to the record any more.
func (t *tracing) end(x *exchange.Exchange, refusal *exchange.Refusal) {
	r := x.Trace.Record
	r.Took = t.now().Sub(x.Start)
	describe(r, x, refusal)
	t.offer(r)
}

// describe fills in what was asked and what became of it.
func describe(r *trace.Span, x *exchange.Exchange, refusal *exchange.Refusal) {
	q := x.Request
	r.Request = trace.Request{
		Listener: x.Listener.Name, Class: x.Class.String(), Method: shortText(q.Method), Scheme: "http", Path: shortText(x.Path), Host: shortText(q.Host),
		Version: "1." + string('0'+rune(q.Minor%10)), Agent: shortText(q.Field(wire.UserAgent)), ID: string(x.RequestID),
		Client: clientAddr(x), Peer: x.Client, Body: x.Outcome.BytesIn,
	}
	if x.Secure {
		r.Request.Scheme = "https"
	}
	if x.Protocol == exchange.HTTP2 {
		r.Request.Version = "2"
	}
	if x.Route != nil {
		r.Request.Route, r.Request.Pattern = x.Route.Name, x.Route.Pattern
	}
	r.Answer = trace.Answer{Status: x.Outcome.Status, Call: failedCall(&x.Result), Cache: x.Cached, Body: x.Outcome.BytesOut, Aborted: x.Outcome.Aborted, Truncated: x.Outcome.Truncated}
	if refusal != nil {
		r.Answer.RefusedBy, r.Answer.Reason, r.Answer.Limit = refusal.Stage, refusal.Reason, refusal.Limit
		r.Answer.Away = whyAway[refusal.Stage] != nil
		if r.Answer.Status == 0 && !x.Outcome.Aborted { // the engine writes it after the stages have returned, to who is still there
			r.Answer.Status = refusal.Status
		}
	}
}

// shortText is the beginning of what a client sent.
func shortText(b []byte) string { return string(b[:min(len(b), traceText)]) }

// tracedPool records attempts at the endpoints of a pool.
type tracedPool struct{ exchange.Picker }

// traced makes a pool record attempts, when the site traces.
func (n *Node) traced(p exchange.Picker) exchange.Picker {
	if n.sampler == nil {
		return p
	}
	return tracedPool{p}
}

// Pick implements exchange.Picker.
func (p tracedPool) Pick(x *exchange.Exchange) (*exchange.Endpoint, *exchange.Refusal) {
	e, refusal := p.Picker.Pick(x)
	if refusal == nil {
		x.Try(e)
	}
	return e, refusal
}

// Done implements exchange.Picker. The body of the answer has been passed on, or the attempt was given up.
func (p tracedPool) Done(x *exchange.Exchange, e *exchange.Endpoint, r exchange.Result) {
	if rec := x.Trace.Record; rec != nil {
		if a := rec.Of(x.Trace.At); a != nil {
			a.Took, a.Status, a.FirstByte, a.Cancelled = time.Since(a.Begun), r.Status, r.Latency, r.Kind == exchange.Cancelled
			if a.Failure = failureOf(r); r.Code != 0 {
				a.Status = http.StatusOK
			}
		}
	}
	p.Picker.Done(x, e, r)
}

// failureOf says in a word why an attempt brought no whole answer; empty: it did, or nobody waited for it any more.
func failureOf(r exchange.Result) string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Kind == exchange.ConnectFailed:
		return "connect_failed"
	case r.Kind == exchange.Broken:
		return "broken"
	case r.Kind == exchange.TimedOut:
		return "timeout"
	}
	return failedCall(&r)
}

// failedCall is the name of the code by which a call of gRPC failed; empty: it did not, or is none.
func failedCall(r *exchange.Result) string {
	if exchange.StatusOfCode(r.Code) == 0 {
		return ""
	}
	return exchange.CodeName(r.Code)
}
