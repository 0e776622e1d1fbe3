package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/monitor/otlp/collector"
)

// tracedSite is a site whose traces, records and figures go to a collector by a protocol.
func tracedSite(t *testing.T, protocol, sick, well string) (*gateway, *collector.Collector) {
	t.Helper()
	c, err := collector.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	to := fmt.Sprintf("{url: \"http://%s\", protocol: %s, token: \"${TOKEN}\"}", map[string]string{"http": c.HTTP, "grpc": c.GRPC}[protocol], protocol)
	t.Setenv("TOKEN", "open-sesame")
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools:
  shop: {endpoints: [%q, %q], probe: {off: true}, outliers: {mode: "off"}, breaker: {mode: "off"}, retry_budget: 100%%, method: round_robin}
  slow: {endpoints: [%q, %q], probe: {off: true}, outliers: {mode: "off"}, breaker: {mode: "off"}, retry_budget: 100%%, method: round_robin}
routes:
  - {name: kept, paths: [/kept], pool: shop, cache: {ttl: 1m}}
  - {name: hedged, paths: [/hedged], pool: slow, hedge: {after: 20ms}}
  - {name: cart, paths: [/cart/*], pool: shop, class: critical}
limits: [{name: few, by: ip, rate: 1/h, burst: 1, routes: [kept]}]
traces: {otlp: %s, sample: 0%%}
logs: {otlp: %s, sample: 0%%}
monitor: {otlp: %s, otlp_every: 1s}
`, sick, well, sick, well, to, to, to))
	return g, c
}

// visit asks the gateway with fields, and returns the answer without its body.
func visit(t *testing.T, g *gateway, path string, fields map[string]string) *http.Response {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+g.at["web"]+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range fields {
		r.Header.Set(k, v)
	}
	a, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, a.Body)
	a.Body.Close()
	return a
}

// traced remembers what endpoints were told of the trace, by their address.
type traced struct {
	mu     sync.Mutex
	fields []http.Header
	by     []string
}

func (s *traced) add(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fields, s.by = append(s.fields, r.Header.Clone()), append(s.by, r.Context().Value(http.LocalAddrContextKey).(fmt.Stringer).String())
}

func (s *traced) take() (fields []http.Header, by []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields, by = s.fields, s.by
	s.fields, s.by = nil, nil
	return fields, by
}

const caller = "00-%032x-00f067aa0ba902b7-%02x"

// tracing is a gateway between two endpoints, one of which is sick, and a collector.
type tracing struct {
	g    *gateway
	c    *collector.Collector
	seen traced
	slow atomic.Bool // the sick one does not answer; else it says that it is busy
	n    int         // of the last trace
}

func startTracing(t *testing.T, protocol string) *tracing {
	s, release := new(tracing), make(chan struct{})
	t.Cleanup(func() { close(release) })
	sick := service(t, func(w http.ResponseWriter, r *http.Request) {
		s.seen.add(r)
		if !s.slow.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	well := service(t, func(w http.ResponseWriter, r *http.Request) {
		s.seen.add(r)
		fmt.Fprint(w, "well")
	})
	s.g, s.c = tracedSite(t, protocol, sick, well)
	return s
}

// spans asks with a trace of its own until it was made with so many attempts, and returns its spans: evenkeel's first. It checks who is whose parent.
func (s *tracing) spans(t *testing.T, path string, attempts int) []collector.Span {
	t.Helper()
	for range 20 {
		s.n++
		s.seen.take()
		visit(t, s.g, path, map[string]string{"traceparent": fmt.Sprintf(caller, s.n, 1), "tracestate": "vendor=7"})
		fields, by := s.seen.take()
		if len(fields) != attempts {
			continue
		}
		var mine []collector.Span
		until(t, "its spans came", func() bool {
			mine = mine[:0]
			for _, one := range s.c.Spans() {
				if one.Trace == fmt.Sprintf("%032x", s.n) {
					mine = append(mine, one)
				}
			}
			return len(mine) == attempts+1
		})
		s.family(t, mine, fields, by)
		return mine
	}
	t.Fatalf("%s was never made with %d attempts", path, attempts)
	return nil
}

// family: evenkeel's span is a child of the caller's, those of attempts are its children, and each endpoint was told the span of the attempt at it.
func (s *tracing) family(t *testing.T, mine []collector.Span, fields []http.Header, by []string) {
	t.Helper()
	if own := mine[0]; own.Kind != "SERVER" || own.Parent != "00f067aa0ba902b7" || own.State != "vendor=7" {
		t.Fatalf("evenkeel's own span: %+v", own)
	}
	at := map[string]string{}
	for i, f := range fields {
		at[by[i]] = f.Get("Traceparent")
		if f.Get("Tracestate") != "vendor=7" || len(f.Values("Traceparent")) != 1 {
			t.Errorf("an endpoint was told %v", f)
		}
	}
	for _, one := range mine[1:] {
		address := one.Is["server.address"] + ":" + one.Is["server.port"]
		if want := "00-" + one.Trace + "-" + one.ID + "-01"; one.Kind != "CLIENT" || one.Parent != mine[0].ID || at[address] != want {
			t.Errorf("%s was told %q, want the span of the attempt at it, %q: %+v", address, at[address], want, one)
		}
	}
}

// TestTraces: a collector gets the traces of requests through evenkeel, by gRPC and by HTTP, with the right parents: the caller's span, evenkeel's, those
// of its attempts, and what each endpoint was told is the attempt at it.
func TestTraces(t *testing.T) {
	for _, protocol := range []string{"http", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			s := startTracing(t, protocol)
			retried := s.spans(t, "/cart/7?secret=1", 2)
			if a, b := retried[1], retried[2]; retried[0].Name != "GET cart" || retried[0].Failed || retried[0].Is["http.route"] != "/cart/*" || retried[0].Is["url.path"] != "/cart/7" ||
				!a.Failed || a.Is["error.type"] != "503" || b.Failed || b.Is["http.request.resend_count"] != "1" || !strings.HasSuffix(b.Is["url.full"], "/cart/7") {
				t.Errorf("tried twice: %+v", retried)
			}
			s.slow.Store(true)
			hedged := s.spans(t, "/hedged", 2)
			if lost, won := hedged[1], hedged[2]; lost.Is["evenkeel.cancelled"] != "true" || won.Is["evenkeel.hedge"] != "true" || won.Is["http.response.status_code"] != "200" {
				t.Errorf("asked beside the first: %+v", hedged)
			}
			s.slow.Store(false)
			s.quiet(t)
			kept(t, s.g, s.c)
			signals(t, s.g, s.c)
		})
	}
}

// quiet: what is not recorded still is one trace: the caller's, untouched, or one that begins here.
func (s *tracing) quiet(t *testing.T) {
	t.Helper()
	s.seen.take()
	parent := fmt.Sprintf(caller, 4711, 0)
	visit(t, s.g, "/cart/1", map[string]string{"traceparent": parent})
	for _, f := range take(s.seen.take()) {
		if f.Get("Traceparent") != parent {
			t.Errorf("an endpoint was told %q, want %q", f.Get("Traceparent"), parent)
		}
	}
	visit(t, s.g, "/cart/1", map[string]string{"traceparent": "nonsense", "tracestate": "a=b"})
	for _, f := range take(s.seen.take()) {
		if p := f.Get("Traceparent"); len(p) != 55 || !strings.HasSuffix(p, "-02") || f.Get("Tracestate") != "" {
			t.Errorf("an endpoint was told %q, %q, want a new trace that is not recorded", p, f.Get("Tracestate"))
		}
	}
}

func take(fields []http.Header, _ []string) []http.Header { return fields }

// kept: what the cache and a limit did stands in the span.
func kept(t *testing.T, g *gateway, c *collector.Collector) {
	t.Helper()
	status := map[int]bool{}
	for i := range 2 {
		status[visit(t, g, "/kept", map[string]string{"traceparent": fmt.Sprintf(caller, 1000+i, 1)}).StatusCode] = true
	}
	if !status[200] || !status[429] {
		t.Fatalf("answers are %v", status)
	}
	span := func(n int) (out collector.Span) {
		until(t, "its span came", func() bool {
			for _, s := range c.Spans() {
				if s.Kind == "SERVER" && s.Trace == fmt.Sprintf("%032x", n) {
					out = s
					return true
				}
			}
			return false
		})
		return out
	}
	if s := span(1000); s.Is["evenkeel.cache"] != "miss" {
		t.Errorf("at the cache: %+v", s)
	}
	if s := span(1001); s.Is["evenkeel.refused_by"] != "limit" || s.Is["evenkeel.limit"] != "few" || s.Is["http.response.status_code"] != "429" || s.Failed {
		t.Errorf("refused: %+v", s)
	}
}

// signals: log records and figures come too, metrics name a trace as an example, and the node says what it sent.
func signals(t *testing.T, g *gateway, c *collector.Collector) {
	t.Helper()
	until(t, "the refused request was told of", func() bool {
		for _, r := range c.Records() {
			if r.Is["evenkeel.refused_by"] == "limit" && r.Trace == fmt.Sprintf("%032x", 1001) && r.Severity == "WARN" {
				return true
			}
		}
		return false
	})
	until(t, "the start was told of", func() bool {
		for _, r := range c.Records() {
			if r.Event == "evenkeel.start" {
				return true
			}
		}
		return false
	})
	until(t, "figures came", func() bool { return c.Figures()["evenkeel_request_seconds"] > 0 })
	for _, shown := range c.Shown() {
		if shown != "Bearer open-sesame" {
			t.Fatalf("shown is %q", shown)
		}
	}
	r, err := http.NewRequest("GET", "http://"+g.at["console"]+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/openmetrics-text")
	a, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	example := false
	for line := range strings.Lines(string(body)) {
		example = example || strings.HasPrefix(line, "evenkeel_request_seconds_bucket{") && strings.Contains(line, "# {") && strings.Contains(line, fmt.Sprintf(`trace_id="%032x"`, 1))
	}
	for _, want := range []string{`evenkeel_otlp_sent_total{signal="traces"}`, `evenkeel_otlp_sent_total{signal="logs"}`, `evenkeel_otlp_sent_total{signal="metrics"}`, `evenkeel_otlp_dropped_total{reason="queue",signal="traces"} 0`, `evenkeel_traces_over_rate_total 0`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if !example {
		t.Error("no bucket names a trace as an example")
	}
}
