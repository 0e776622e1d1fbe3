package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
)

const sentParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"

// traceStage makes the stage alone, and what it hands on.
func traceStage(rules trace.Rules) (*tracing, *[]*trace.Span) {
	var out []*trace.Span
	return &tracing{sampler: trace.NewSampler(rules), offer: func(s *trace.Span) { out = append(out, s) }, now: time.Now}, &out
}

// TestTraceAllocatesNothing: a request that is not recorded costs no memory, whether it brought a traceparent or gets one.
func TestTraceAllocatesNothing(t *testing.T) {
	st, out := traceStage(trace.Rules{Share: 0, Parents: trace.ParentsAll})
	next := exchange.Then(ok)
	for name, head := range map[string]string{
		"begins":  "GET / HTTP/1.1\nHost: a",
		"follows": "GET / HTTP/1.1\nHost: a\nTraceparent: " + sentParent + "0\nTracestate: a=b",
	} {
		x := request(t, head)
		r := x.Request
		if got := testing.AllocsPerRun(200, func() {
			st.Serve(x, next)
			x.Reset()
			x.Request = r
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
	if len(*out) != 0 {
		t.Errorf("%d were recorded", len(*out))
	}
}

// TestTraceTellsEndpoints: what an endpoint is told of the trace.
func TestTraceTellsEndpoints(t *testing.T) {
	for _, one := range []struct {
		name, fields         string
		share                float64
		told, anew, recorded bool
		follows              bool // the trace is the sender's
	}{
		{"none came, none is recorded", "", 0, true, true, false, false},
		{"none came, all are recorded", "", 1, true, true, true, false},
		{"one came that is not recorded", "\nTraceparent: " + sentParent + "0", 1, false, false, false, false},
		{"one came that is recorded", "\nTraceparent: " + sentParent + "1", 0, true, false, true, true},
		{"what came says nothing", "\nTraceparent: nonsense\nTracestate: a=b", 0, true, true, false, false},
		{"two came", "\nTraceparent: " + sentParent + "1\nTraceparent: " + sentParent + "1", 0, true, true, false, false},
	} {
		st, out := traceStage(trace.Rules{Share: one.share, Parents: trace.ParentsAll})
		var saw exchange.Trace
		x := request(t, "GET / HTTP/1.1\nHost: a"+one.fields)
		st.Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			saw = x.Trace
			return ok(x)
		}))
		if saw.Told.Valid() != one.told || saw.Anew != one.anew || (len(*out) == 1) != one.recorded || saw.Told.Sampled() != one.recorded {
			t.Errorf("%s: told %s, anew %v, %d recorded", one.name, saw.Told.Append(nil), saw.Anew, len(*out))
		}
		if one.recorded {
			s := (*out)[0]
			if s.Remote != one.follows || one.follows && string(saw.Told.Append(nil)[:35]) != sentParent[:35] || one.follows && s.Parent == [8]byte{} || s.Span == s.Parent {
				t.Errorf("%s: span %+v", one.name, s)
			}
		}
	}
}

// TestTraceTrustsProxies: with parents: trusted the word of a stranger does not count.
func TestTraceTrustsProxies(t *testing.T) {
	st, out := traceStage(trace.Rules{Parents: trace.ParentsTrusted})
	st.trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for _, from := range []string{"192.0.2.7:1", "10.0.0.1:1", "[fe80::1%eth0]:1"} {
		x := request(t, "GET / HTTP/1.1\nHost: a\nTraceparent: "+sentParent+"1")
		x.Client = netip.MustParseAddrPort(from)
		st.Serve(x, exchange.Then(ok))
	}
	if len(*out) != 2 || (*out)[0].Request.Peer.String() != "10.0.0.1:1" {
		t.Errorf("%d are recorded, want those of the two proxies", len(*out))
	}
}

// TestTraceThroughTheStages: a request that is tried twice and one that is refused, as the stages of a site record them.
func TestTraceThroughTheStages(t *testing.T) {
	n := &Node{sampler: trace.NewSampler(trace.Rules{Share: 1, Parents: trace.ParentsAll})}
	p := &fakePool{}
	pool := n.traced(p)
	st, out := traceStage(trace.Rules{Share: 1})
	x := request(t, "GET /cart?secret=1 HTTP/1.1\nHost: shop.example\nUser-Agent: test")
	x.Path = []byte("/cart")
	var told []string
	st.Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		x.Route = &exchange.Route{Name: "cart", Pattern: "/cart", Pool: pool}
		for x.Attempt = 1; x.Attempt <= 2; x.Attempt++ {
			_ = (&pick{}).Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
				told = append(told, string(x.Trace.Told.Append(nil)))
				if x.Attempt == 1 {
					x.Result = exchange.Result{Kind: exchange.Broken}
					return refuseLate
				}
				x.Result = exchange.Result{Status: 200, Latency: time.Millisecond}
				return ok(x)
			}))
		}
		x.Attempt = 2
		return nil
	}))
	if len(*out) != 1 {
		t.Fatalf("%d recorded", len(*out))
	}
	s := (*out)[0]
	if s.Request.Route != "cart" || s.Request.Path != "/cart" || s.Request.Agent != "test" || s.Answer.Status != 200 || s.Count != 2 || len(s.Attempts) != 2 {
		t.Errorf("recorded is %+v", s)
	}
	a, b := s.Attempts[0], s.Attempts[1]
	if a.Failure != "broken" || a.Number != 1 || b.Number != 2 || b.Status != 200 || b.FirstByte != time.Millisecond || told[0] == told[1] {
		t.Errorf("attempts are %+v\n%+v\ntold %v", a, b, told)
	}
	st.Serve(request(t, "GET / HTTP/1.1\nHost: a"), exchange.Then(func(*exchange.Exchange) *exchange.Refusal { return refuseNoRoute }))
	if r := (*out)[1]; r.Answer.RefusedBy != "route" || r.Answer.Reason != "no_route" || r.Answer.Status != 404 || !r.Answer.Away {
		t.Errorf("refused: %+v", r.Answer)
	}
	st.Serve(request(t, "GET / HTTP/1.1\nHost: a"), exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		x.Outcome.Aborted = true // while it waited for a place
		return refuseNoRoute
	}))
	if r := (*out)[2]; r.Answer.Reason != "no_route" || r.Answer.Status != 0 || !r.Answer.Aborted {
		t.Errorf("refused, and nobody was there to hear it: %+v", r.Answer)
	}
	st.Serve(request(t, "GET / HTTP/1.1\nHost: a"), exchange.Then(func(*exchange.Exchange) *exchange.Refusal { return refuseOpen }))
	if r := (*out)[3]; r.Answer.RefusedBy != "breaker" || r.Answer.Away {
		t.Errorf("not turned away, but not served: %+v", r.Answer)
	}
}

// TestTraceIsLeftOut: a site that traces nothing has no stage for it, and pools as they are.
func TestTraceIsLeftOut(t *testing.T) {
	n := &Node{}
	n.useSampler(&site.Site{})
	p := &fakePool{}
	if n.newTracing(&site.Site{}) != nil || n.traced(p) != exchange.Picker(p) {
		t.Error("a site without traces pays for them")
	}
	n.useSampler(&site.Site{Traces: &site.Traces{Sample: 1}})
	was := n.sampler
	n.useSampler(&site.Site{Traces: &site.Traces{Sample: 1}})
	if n.sampler != was {
		t.Error("a reload that changes nothing begins a new second of the rate")
	}
}

// without is what the benchmark takes off.
type without struct{}

func (*without) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal { return next.Do(x) }

// BenchmarkTrace is what the stage costs a request: one that begins a trace which is not recorded, one that follows one which is not, and one that is recorded.
func BenchmarkTrace(b *testing.B) {
	for _, one := range []struct {
		name, fields string
		share        float64
	}{
		{"without the stage", "", 0},
		{"begins", "", 0},
		{"follows", "\nTraceparent: " + sentParent + "0", 0},
		{"recorded", "\nTraceparent: " + sentParent + "1", 0},
	} {
		b.Run(one.name, func(b *testing.B) {
			st, _ := traceStage(trace.Rules{Share: one.share, Parents: trace.ParentsAll})
			st.offer = func(*trace.Span) {}
			next := exchange.Then(ok)
			x := request(b, "GET /a/b HTTP/1.1\nHost: shop.example\nUser-Agent: test\nAccept: */*"+one.fields)
			r := x.Request
			b.ReportAllocs()
			stage := exchange.Stage(st)
			if one.name == "without the stage" {
				stage = &without{}
			}
			for b.Loop() {
				stage.Serve(x, next)
				x.Reset()
				x.Request = r
			}
		})
	}
}
