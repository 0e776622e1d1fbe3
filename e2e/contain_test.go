package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// get asks a gateway, and returns status, Retry-After and body. An answer that breaks off has status 0.
func get(t testing.TB, url string) (status int, after, body string) {
	t.Helper()
	c := &http.Client{Timeout: patience}
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err.Error()
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(text)
}

// metric finds a line of the metrics.
func metric(t testing.TB, g *gateway, line string) bool {
	t.Helper()
	_, _, text := get(t, "http://"+g.at["console"]+"/metrics")
	return strings.Contains(text, "\n"+line+"\n")
}

// TestBreakerOfPool: behind a pool where everything fails nothing is asked any more, people can say otherwise, and the pool comes back by a
// trial.
func TestBreakerOfPool(t *testing.T) {
	var asked, sick atomic.Int64
	sick.Store(1)
	one := service(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1); sick.Load() == 1 {
			w.WriteHeader(500)
		}
	})
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q], probe: {off: true}, breaker: {row: 5, row_for: 0s, open: 1h, open_max: 1h, trials: 1}}}
routes: [{name: all, pool: shop}]
`, one))
	url, admin := "http://"+g.at["web"]+"/", "http://"+g.at["console"]
	for i := range 20 {
		status, after, body := get(t, url)
		if i < 5 && status != 500 || i >= 5 && (status != 503 || after == "" || !strings.Contains(body, "pool_open")) {
			t.Fatalf("request %d was answered %d, Retry-After %q, %q", i, status, after, body)
		}
	}
	if n := asked.Load(); n != 5 {
		t.Errorf("the dead pool was asked %d times, want 5", n)
	}
	for _, line := range []string{`evenkeel_breaker_state{pool="shop"} 2`, `evenkeel_breaker_refused_total{pool="shop"} 15`,
		`evenkeel_breaker_transitions_total{cause="failures_in_row",pool="shop",to="open"} 1`,
		`evenkeel_refused_total{class="standard",limit="",reason="pool_open",route="all",stage="breaker"} 15`} {
		if !metric(t, g, line) {
			t.Errorf("no metric %s", line)
		}
	}
	order := func(query string) string {
		resp, err := http.Post(admin+"/api/v1/breaker?"+query, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(text))
	}
	if got := order("pool=shop&state=closed&for=10m"); !strings.HasPrefix(got, "200") || !strings.Contains(got, "closed by hand") {
		t.Errorf("closing by hand: %s", got)
	}
	if status, _, _ := get(t, url); status != 500 {
		t.Errorf("closed by hand it answers %d, want the endpoint's 500", status)
	}
	order("pool=shop&state=open&for=10m")
	if status, _, _ := get(t, url); status != 503 {
		t.Errorf("open by hand it answers %d, want 503", status)
	}
	sick.Store(0)
	order("pool=shop&state=auto")
	for range 3 {
		if status, _, body := get(t, url); status != 200 {
			t.Errorf("left to itself, with the pool well again, it answers %d: %s", status, body)
		}
	}
	for query, want := range map[string]string{"pool=shop&state=ajar": "bad_breaker", "pool=none&state=auto": "unknown_pool", "pool=shop&state=open": "bad_breaker",
		"pool=shop&endpoint=nobody:1&state=auto": "unknown_endpoint", "pool=shop&state=open&for=25h": "bad_breaker"} {
		if got := order(query); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// TestHungPool: a pool that hangs has its part of the node and no more, and one beside it goes on.
func TestHungPool(t *testing.T) {
	var inside atomic.Int64
	wake := make(chan struct{})
	hung := service(t, func(_ http.ResponseWriter, _ *http.Request) {
		inside.Add(1)
		<-wake
	})
	well := service(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "well") })
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
bulkhead: {concurrency: 50}
pools:
  hung: {endpoints: [%q], probe: {off: true}}
  well: {endpoints: [%q], probe: {off: true}}
routes:
  - {name: hung, paths: [/hung], pool: hung}
  - {name: well, pool: well}
`, hung, well))
	url := "http://" + g.at["web"]
	var all sync.WaitGroup
	var full, others atomic.Int64
	for range 150 {
		all.Go(func() {
			switch status, _, body := get(t, url+"/hung"); {
			case status == 503 && strings.Contains(body, "pool_full"):
				full.Add(1)
			case status != 200:
				others.Add(1)
			}
		})
	}
	until(t, "the pool has taken its part", func() bool { return full.Load() == 110 && inside.Load() == 40 })
	for range 100 {
		if status, _, body := get(t, url+"/"); status != 200 || body != "well" {
			t.Fatalf("the healthy pool answers %d %q beside a hung one", status, body)
		}
	}
	if !metric(t, g, `evenkeel_bulkhead_in_use{by="pool",name="hung",pool="hung"} 40`) {
		t.Error("the places in use are not shown")
	}
	close(wake)
	all.Wait()
	if others.Load() != 0 {
		t.Errorf("%d requests failed in another way", others.Load())
	}
	until(t, "all places are given back", func() bool { return metric(t, g, `evenkeel_bulkhead_in_use{by="pool",name="hung",pool="hung"} 0`) })
}

// TestBrokenOffCounts: an answer that breaks off is a failure of its endpoint.
func TestBrokenOffCounts(t *testing.T) {
	one := service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(make([]byte, 500))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q], probe: {off: true}}}
routes: [{name: all, pool: shop}]
`, one))
	if status, _, _ := get(t, "http://"+g.at["web"]+"/"); status != 0 {
		t.Errorf("a client saw a whole answer, %d", status)
	}
	line := fmt.Sprintf(`evenkeel_endpoint_failures_total{endpoint=%q,pool="shop"} 1`, one)
	until(t, "the failure is counted", func() bool { return metric(t, g, line) })
}
