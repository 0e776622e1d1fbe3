package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// get asks for a path and returns the answer with its body.
func get(t testing.TB, base, path string, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

// Ten thousand requests for one thing that is not stored yet are one request at the endpoint.
func TestCacheHoldsMissesTogether(t *testing.T) {
	const clients = 10_000
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		time.Sleep(2 * time.Second)
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	defer service.Close()
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0", limits: {connections_per_ip: 20000, streams: 1000}}}
pools: {shop: {endpoints: [%q]}}
routes: [{name: all, pool: shop, cache: {wait: 60s}}]
`, strings.TrimPrefix(service.URL, "http://")))
	client := &http.Client{Transport: h2cTransport()}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	var good, collapsed atomic.Int64
	for range clients {
		wg.Go(func() {
			r, err := client.Get("http://" + g.at["web"] + "/thing")
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			body, _ := io.ReadAll(r.Body)
			if r.StatusCode == 200 && string(body) == "hello" {
				good.Add(1)
			}
			if strings.Contains(r.Header.Get("Cache-Status"), "collapsed") {
				collapsed.Add(1)
			}
		})
	}
	wg.Wait()
	if asked.Load() != 1 || good.Load() != clients {
		t.Errorf("%d requests at the endpoint, %d good answers, %d collapsed", asked.Load(), good.Load(), collapsed.Load())
	}
}

func h2cTransport() *http.Transport {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: p}
}

func TestCacheSmoke(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"a"`)
		io.WriteString(w, "hello")
	}))
	defer service.Close()
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q]}}
routes: [{name: all, pool: shop, cache: {}}]
`, strings.TrimPrefix(service.URL, "http://")))
	for range 3 {
		r, body := get(t, "http://"+g.at["web"], "/x")
		t.Log(r.Status, r.Header, body)
	}
	r, body := get(t, "http://"+g.at["web"], "/x", "If-None-Match", `"a"`)
	t.Log(r.Status, r.Header, body)
}
