package node

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/even-keel/evenkeel/exchange"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old"))
		w.send = func(x *exchange.Exchange) *exchange.Refusal { return ok(x) }
		h := w.handlers(w.site, parts(w.pools))
		for range 3 {
			h["web"](request(t, "GET / HTTP/1.1\nHost: a"))
		}
		h["web"](request(t, "GET /.. HTTP/1.1\nHost: a"))
		rec := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "/metrics", nil)
		req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		w.metrics.handler().ServeHTTP(rec, req)
		body, _ := io.ReadAll(rec.Body)
		for _, want := range []string{
			`evenkeel_requests_total{code="2xx",listener="web",route="to-a"} 3`,
			`evenkeel_requests_total{code="4xx",listener="web",route=""} 1`,
			`evenkeel_refused_total{reason="ambiguous_path",stage="route"} 1`,
			`evenkeel_request_seconds_count{listener="web",route="to-a"} 3`,
			`evenkeel_request_seconds_bucket{listener="web",route="to-a",le="+Inf"} 3`,
			`evenkeel_ready 1`, "go_goroutines", "# EOF",
		} {
			if !strings.Contains(string(body), want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
		if rec.Code != http.StatusOK || !strings.Contains(rec.Header().Get("Content-Type"), "openmetrics") {
			t.Errorf("status %d, %s", rec.Code, rec.Header().Get("Content-Type"))
		}
		problems, err := testutil.CollectAndLint(w.metrics)
		if err != nil || len(problems) > 0 {
			t.Errorf("the linter of Prometheus says: %v %v", problems, err)
		}
	})
}

func TestRates(t *testing.T) {
	var r rates
	at := time.Unix(1000, 0)
	r.step(at, map[string]uint64{nodeKey: 5})
	r.step(at.Add(time.Second), map[string]uint64{nodeKey: 105, "route a": 50})
	if r.of(nodeKey) != 100 || r.of("route a") != 0 {
		t.Errorf("rates %v, %v; want 100 and none of a new counter", r.of(nodeKey), r.of("route a"))
	}
	r.step(at.Add(3*time.Second), map[string]uint64{nodeKey: 5, "route a": 250})
	if r.of(nodeKey) != 0 || r.of("route a") != 100 {
		t.Errorf("rates %v, %v; want none of a counter that went back, and 100", r.of(nodeKey), r.of("route a"))
	}
	for i := range 300 {
		r.step(at.Add(time.Duration(4+i)*time.Second), map[string]uint64{nodeKey: uint64(10 * i)})
	}
	if h, mean := r.curve(); len(h) != rateHistory || mean != 10 {
		t.Errorf("%d points, mean %v", len(h), mean)
	}
}

func TestEventsAreBounded(t *testing.T) {
	var e events
	for i := range eventLimit + 10 {
		e.add(time.Unix(int64(i), 0), "k", fmt.Sprint(i))
	}
	got := e.newest(3)
	if len(e.ring) != eventLimit || len(got) != 3 || got[0].Text != fmt.Sprint(eventLimit+9) || got[2].Text != fmt.Sprint(eventLimit+7) {
		t.Errorf("%d kept, newest %v", len(e.ring), got)
	}
}

func TestCgroupMemory(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("fs/a/memory.max", "2000000\n")
	write("fs/a/b/memory.max", "max\n")
	write("fs/memory/c/memory.limit_in_bytes", "3000000\n")
	write("fs/memory/memory.limit_in_bytes", "9223372036854771712\n")
	for text, want := range map[string]int64{
		"0::/a/b\n": 2000000, "0::/\n": 0, "5:memory:/c\n4:cpu:/x\n0::/\n": 3000000, "nonsense": 0,
	} {
		if got := cgroupMemory(write("self", text), filepath.Join(dir, "fs")); got != want {
			t.Errorf("%q: limit %d, want %d", text, got, want)
		}
	}
	if rss, fds, cpu := processFacts(); rss == 0 || fds <= 0 || cpu < 0 {
		t.Errorf("process: %d bytes, %d files, %v s", rss, fds, cpu)
	}
}

func TestInheritedSocketsOfAnotherProcess(t *testing.T) {
	t.Setenv(envFDs, "2")
	t.Setenv(envNames, "web:@admin")
	t.Setenv(envPID, "1")
	s, err := InheritedSockets()
	if err != nil || len(s.Listeners) != 0 || s.admin != nil {
		t.Errorf("took sockets that are for process 1: %+v, %v", s, err)
	}
	if os.Getenv(envFDs) != "" {
		t.Error("the environment still announces them")
	}
	t.Setenv(envFDs, "many")
	t.Setenv(envPID, fmt.Sprint(os.Getpid()))
	if _, err := InheritedSockets(); err == nil || !strings.Contains(err.Error(), `"many"`) {
		t.Errorf("%v, want an error that shows the value", err)
	}
}

// scrape is what Prometheus would be told.
func scrape(t *testing.T, n *Node) string {
	t.Helper()
	rec := httptest.NewRecorder()
	n.metrics.handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}
