package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// A limit by header reads its cost in answers, keeps it from clients, and refuses with a time after which the same request passes.
func TestLimits(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Rows", r.URL.Query().Get("rows"))
		w.Header().Set("X-Other", "1")
		io.WriteString(w, "hello")
	}))
	defer service.Close()
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q]}}
identify: {customer: {header: X-Api-Key}}
routes: [{name: all, pool: shop}]
limits:
  - {name: rows, by: customer, rate: 2/s, burst: 10, cost: header, cost_header: x-rows}
  - {name: under-way, by: customer, concurrency: 5}
`, strings.TrimPrefix(service.URL, "http://")))
	get := func(customer, query string) *http.Response {
		t.Helper()
		req, _ := http.NewRequest("GET", "http://"+g.at["web"]+"/?"+query, nil)
		req.Header.Set("X-Api-Key", customer)
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r
	}
	r := get("a", "rows=60")
	if r.StatusCode != 200 || r.Header.Get("X-Rows") != "" || r.Header.Get("X-Other") != "1" {
		t.Errorf("%s with %v", r.Status, r.Header)
	}
	r = get("a", "rows=1")
	wait, _ := strconv.Atoi(r.Header.Get("Retry-After"))
	if r.StatusCode != 429 || wait < 20 || wait > 30 { // 51 above the burst at two per second
		t.Errorf("%s with %v", r.Status, r.Header)
	}
	for range 20 {
		if r := get("b", "rows=0"); r.StatusCode != 200 {
			t.Fatalf("what costs nothing: %s", r.Status)
		}
	}
	r, err := http.Get("http://" + g.at["console"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(r.Body)
	r.Body.Close()
	for _, want := range []string{`limit_requests_total{limit="rows",result="refused"} 1`, `limit_requests_total{limit="under-way",result="admitted"} 21`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// TestExplainSteersNoTerminal: facts that a path or a query spells out with escapes are shown without control characters.
func TestExplainSteersNoTerminal(t *testing.T) {
	g := runSite(t, `
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: ["127.0.0.1:1"], probe: {off: true}}}
identify: {user: {query: key}}
limits: [{name: l, by: user, rate: 1/s}]
quotas: [{name: q, by: user, calls: 1, period: day}]
`)
	out := tool(t, "evenkeel", "limits", "explain", "--admin", g.at["console"], "--path", "/?key=%1b%5b31mred%0ablue")
	if strings.Contains(out, "\x1b") || strings.Count(out, "\n") != 3 || strings.Count(out, "red blue") != 3 {
		t.Errorf("explain prints %q", out)
	}
}
