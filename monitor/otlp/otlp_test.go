package otlp_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/even-keel/evenkeel/monitor/otlp"
	"github.com/even-keel/evenkeel/monitor/otlp/collector"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
)

const patience = 20 * time.Second

// start starts a collector and what sends to it by protocol, until the test ends. stop ends the exporter early, so that it sends what waits.
func start(t *testing.T, protocol string, self *prometheus.Registry) (c *collector.Collector, e *otlp.Exporter, stop func()) {
	t.Helper()
	c, err := collector.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	at := &site.OTLP{URL: "http://" + c.HTTP, Protocol: protocol, Token: "open", Timeout: 5 * time.Second}
	if protocol == "grpc" {
		at.URL = "http://" + c.GRPC
	}
	e = otlp.New(otlp.Config{Traces: at, Logs: at, Metrics: at, Every: time.Hour}, otlp.Deps{Site: "shop", Instance: "a", Version: "v1", Self: self})
	return c, e, running(t, e)
}

func running(t *testing.T, e *otlp.Exporter) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// until waits for what must happen.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !is(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// tried is a request with two attempts: the second was answered.
func tried(t *testing.T) *trace.Span {
	t.Helper()
	parent, ok := trace.Parse([]byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
	if !ok {
		t.Fatal("no parent")
	}
	s := &trace.Span{Context: parent, Parent: parent.Span, Remote: true, State: "vendor=1", Begun: time.Now(), Took: 30 * time.Millisecond}
	s.Span = trace.NewSpan()
	s.Request = trace.Request{Listener: "web", Route: "checkout", Pattern: "/checkout/*", Class: "critical", Method: "BREW", Scheme: "https", Path: "/checkout/\xff", Host: "shop.example:8443",
		Version: "1.1", Agent: "test", Client: netip.MustParseAddr("192.0.2.7"), Peer: netip.MustParseAddrPort("10.0.0.1:4711")}
	s.Answer = trace.Answer{Status: 200, Cache: "miss", Body: 12}
	_, a := s.Try("shop", "10.0.0.1:8000", 1)
	a.Failure, a.Took = "broken", time.Millisecond
	_, b := s.Try("shop", "10.0.0.2:8000", 2)
	b.Status, b.Took, b.Scheme, b.Path = 200, 2*time.Millisecond, "http", "/pay"
	return s
}

func TestSpans(t *testing.T) {
	for _, protocol := range []string{"http", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			c, e, _ := start(t, protocol, prometheus.NewRegistry())
			s := tried(t)
			e.Span(s)
			until(t, "three spans came", func() bool { return len(c.Spans()) == 3 })
			all := c.Spans()
			server, first, second := all[0], all[1], all[2]
			if server.Kind != "SERVER" || server.Parent != "00f067aa0ba902b7" || server.State != "vendor=1" || server.Name != "HTTP checkout" || server.Failed || server.Nanos != 30e6 {
				t.Errorf("server span: %+v", server)
			}
			for _, one := range all {
				if one.Trace != "4bf92f3577b34da6a3ce929d0e0e4736" || one.Of["service.name"] != "evenkeel" || one.Of["service.namespace"] != "shop" || one.Of["service.instance.id"] != "a" || one.Of["service.version"] != "v1" {
					t.Errorf("span %s of trace %s is of %v", one.Name, one.Trace, one.Of)
				}
			}
			if first.Kind != "CLIENT" || first.Parent != server.ID || second.Parent != server.ID || first.ID == second.ID || !first.Failed || second.Failed {
				t.Errorf("attempts: %+v\n%+v", first, second)
			}
			for key, want := range map[string]string{
				"http.request.method": "_OTHER", "http.request.method_original": "BREW", "http.route": "/checkout/*", "http.response.status_code": "200", "url.scheme": "https",
				"url.path": "/checkout/\ufffd", "server.address": "shop.example", "server.port": "8443", "client.address": "192.0.2.7", "network.peer.address": "10.0.0.1",
				"network.protocol.version": "1.1", "user_agent.original": "test", "evenkeel.route": "checkout", "evenkeel.class": "critical", "evenkeel.cache": "miss", "evenkeel.attempts": "2",
			} {
				if server.Is[key] != want {
					t.Errorf("%s is %q, want %q", key, server.Is[key], want)
				}
			}
			for key, want := range map[string]string{"http.request.resend_count": "1", "http.response.status_code": "200", "server.address": "10.0.0.2", "server.port": "8000", "url.full": "http://10.0.0.2:8000/pay", "evenkeel.pool": "shop"} {
				if second.Is[key] != want {
					t.Errorf("%s of the second attempt is %q, want %q", key, second.Is[key], want)
				}
			}
			if first.Is["error.type"] != "broken" || first.Is["http.request.resend_count"] != "" {
				t.Errorf("first attempt: %v", first.Is)
			}
			until(t, "it is counted", func() bool { return e.Status().Traces.Sent == 1 })
			if shown := c.Shown(); shown[0] != "Bearer open" {
				t.Errorf("shown is %q", shown)
			}
		})
	}
}

func TestRecordsAndFigures(t *testing.T) {
	for _, protocol := range []string{"http", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			self := prometheus.NewRegistry()
			n := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "served_total", Help: "Served."}, []string{"route"})
			h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: "Took."})
			self.MustRegister(n, h)
			n.WithLabelValues("a").Add(3)
			n.WithLabelValues("b").Add(4)
			h.Observe(1)
			c, e, stop := start(t, protocol, self)
			s := tried(t)
			s.Answer = trace.Answer{Status: 429, RefusedBy: "limit", Reason: "rate"}
			e.Log(otlp.Record{Request: s})
			e.Log(otlp.Record{At: time.Now(), Kind: "eject", Text: "a:1 fails", Grave: true, More: map[string]string{"pool": "shop"}})
			stop() // sends what waits, and the figures once more
			all := c.Records()
			if len(all) != 2 {
				t.Fatalf("%d records came, want 2", len(all))
			}
			if r := all[0]; r.Event != "evenkeel.request" || r.Severity != "WARN" || r.Trace != "4bf92f3577b34da6a3ce929d0e0e4736" || !strings.HasSuffix(r.Body, " 429 refused by limit: rate") || r.Is["evenkeel.reason"] != "rate" {
				t.Errorf("request: %+v", r)
			}
			if r := all[1]; r.Event != "evenkeel.eject" || r.Severity != "WARN" || r.Body != "a:1 fails" || r.Is["evenkeel.pool"] != "shop" {
				t.Errorf("event: %+v", r)
			}
			if f := c.Figures(); f["served_total"]+f["served"] != 2 || f["took_seconds"] != 1 {
				t.Errorf("figures: %v", f)
			}
			if st := e.Status(); st.Logs.Sent != 2 || st.Metrics.Sent != 2 || st.Logs.Problem != "" {
				t.Errorf("status: %+v", st)
			}
		})
	}
}

// TestGravity: what was turned away is no error, by 503 and in gRPC neither; what could not be served is.
func TestGravity(t *testing.T) {
	for _, c := range []struct {
		answer trace.Answer
		want   string
	}{
		{trace.Answer{Status: 200}, "INFO"},
		{trace.Answer{Status: 404}, "INFO"},
		{trace.Answer{Status: 500}, "ERROR"},
		{trace.Answer{Status: 200, Call: "UNAVAILABLE"}, "ERROR"},
		{trace.Answer{Status: 503, RefusedBy: "shed", Reason: "overloaded", Away: true}, "WARN"},
		{trace.Answer{Status: 200, Call: "UNAVAILABLE", RefusedBy: "bulkhead", Reason: "pool_full", Away: true}, "WARN"},
		{trace.Answer{Status: 503, RefusedBy: "breaker", Reason: "pool_open"}, "ERROR"},
		{trace.Answer{Status: 413, RefusedBy: "send", Reason: "body_too_large"}, "WARN"},
		{trace.Answer{Status: 502, RefusedBy: "send", Reason: "endpoint_broken"}, "ERROR"},
	} {
		collected, e, stop := start(t, "http", prometheus.NewRegistry())
		s := tried(t)
		s.Answer = c.answer
		e.Log(otlp.Record{Request: s})
		stop()
		if all := collected.Records(); len(all) != 1 || all[0].Severity != c.want {
			t.Errorf("%+v: %+v, want %s", c.answer, all, c.want)
		}
	}
}

// TestNobodyWaits: a collector that is not there, or that never answers, costs records, not time.
func TestNobodyWaits(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deaf.Close() })
	for name, at := range map[string]*site.OTLP{
		"nobody listens":     {URL: "http://127.0.0.1:1", Protocol: "http", Timeout: 100 * time.Millisecond},
		"nobody answers":     {URL: "http://" + deaf.Addr().String(), Protocol: "http", Timeout: 100 * time.Millisecond},
		"nobody speaks gRPC": {URL: "http://" + deaf.Addr().String(), Protocol: "grpc", Timeout: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			e := otlp.New(otlp.Config{Traces: at}, otlp.Deps{Self: prometheus.NewRegistry()})
			const sent = 10_000
			for range sent { // nobody takes them out yet: the queue is the bound
				e.Span(&trace.Span{Begun: time.Now()})
			}
			st := e.Status().Traces
			if st.Waiting == 0 || st.Waiting+int(st.Full) != sent {
				t.Fatalf("%d wait and %d were dropped, want %d in all", st.Waiting, st.Full, sent)
			}
			stop := running(t, e)
			until(t, "a message was given up", func() bool { return e.Status().Traces.Unsent > 0 })
			if p := e.Status().Traces.Problem; p == "" {
				t.Error("nothing says why")
			}
			began := time.Now()
			stop()
			if took := time.Since(began); took > patience {
				t.Errorf("stopping took %v", took)
			}
		})
	}
}

// TestUpdate: what goes to another place after a reload goes there, and nothing where nothing is to go.
func TestUpdate(t *testing.T) {
	c, e, _ := start(t, "http", prometheus.NewRegistry())
	e.Update(otlp.Config{})
	e.Span(tried(t))
	if e.Status().Traces != nil {
		t.Error("spans that go nowhere have a status")
	}
	d, err := collector.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	e.Update(otlp.Config{Traces: &site.OTLP{URL: "http://" + d.HTTP, Protocol: "http", Timeout: time.Second}})
	e.Span(tried(t))
	until(t, "the new collector has it", func() bool { return len(d.Spans()) == 3 })
	if n := len(c.Spans()); n != 0 {
		t.Errorf("the old collector has %d spans", n)
	}
	if slices.Contains(d.Shown(), "Bearer open") {
		t.Error("the old token was shown to the new collector")
	}
}

// TestFailedCall: a call of gRPC that failed is an error in both its spans, though its status is 200.
func TestFailedCall(t *testing.T) {
	c, e, _ := start(t, "http", prometheus.NewRegistry())
	s := tried(t)
	s.Answer.Call, s.Attempts[1].Failure = "UNAVAILABLE", "UNAVAILABLE"
	e.Span(s)
	until(t, "three spans came", func() bool { return len(c.Spans()) == 3 })
	for _, i := range []int{0, 2} {
		if one := c.Spans()[i]; !one.Failed || one.Is["error.type"] != "UNAVAILABLE" || one.Is["http.response.status_code"] != "200" {
			t.Errorf("%+v", one)
		}
	}
}
