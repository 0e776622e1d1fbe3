package node

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/site"
)

// flooded is a node with real sockets whose guard refuses everything that is not critical, and how often its endpoint was probed.
func flooded(t *testing.T) (n *Node, probes *atomic.Int64) {
	t.Helper()
	probes = new(atomic.Int64)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/probe" {
			probes.Add(1)
		}
	}))
	t.Cleanup(endpoint.Close)
	s, err := site.Parse("site.yaml", []byte(`
admin: {listen: "127.0.0.1:0"}
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: ["`+strings.TrimPrefix(endpoint.URL, "http://")+`"], probe: {http: {path: /probe}, every: 100ms, timeout: 10s}}}
routes: [{name: pay, paths: [/pay], pool: shop, class: critical}, {name: all, pool: shop}]
`))
	if err != nil {
		t.Fatal(err)
	}
	s.Guard.Memory = 1e-9 // so that there always is too little
	ready, ended := make(chan struct{}), make(chan error, 1)
	if n, err = New(Options{Site: s, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("node ended: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("node ended: %v", err)
	}
	return n, probes
}

// got is what a GET brings; 0: no answer.
func got(url string) (int, string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// TestOwnWorkGoesOnUnderAFlood: while the guard refuses everything that is not critical, the admin listener answers, probes go on
// and find the endpoints healthy, and critical requests are served.
func TestOwnWorkGoesOnUnderAFlood(t *testing.T) {
	n, probes := flooded(t)
	web, admin := "http://"+n.front.Addr("web").String(), "http://"+n.AdminAddr().String()
	for until := time.Now().Add(20 * time.Second); ; {
		if code, body := got(web + "/x"); code == 503 && strings.Contains(body, "node_memory") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("nothing is refused: %+v", n.guard.Status())
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop()
	for range 16 {
		flood.Go(func() {
			for ctx.Err() == nil {
				if code, body := got(web + "/x"); code != 503 {
					t.Errorf("a flooding client got %d: %s", code, body)
					return
				}
			}
		})
	}
	for seen, until := probes.Load(), time.Now().Add(20*time.Second); probes.Load() < seen+5; {
		if time.Now().After(until) {
			t.Fatalf("%d probes during the flood", probes.Load()-seen)
		}
		if code, body := got(web + "/pay"); code != 200 {
			t.Errorf("a critical request got %d: %s", code, body)
		}
		if code, body := got(admin + "/healthz"); code != 200 {
			t.Errorf("/healthz: %d %s", code, body)
		}
		var v console.View
		code, body := got(admin + "/api/v1/status")
		if err := json.Unmarshal([]byte(body), &v); code != 200 || err != nil || len(v.Pools) != 1 || v.Pools[0].Endpoints[0].State != console.StateUp {
			t.Fatalf("status: %d, %v: %s", code, err, body)
		}
	}
	if st := n.guard.Status(); !st.Overloaded || st.Refused == 0 || st.Why == "" || st.StreamsShare >= 1 || st.RefuseStandard != 1 || st.RefuseCritical != 0 {
		t.Errorf("status %+v", st)
	}
	if _, body := got(admin + "/metrics"); !strings.Contains(body, `evenkeel_guard_refused_share{class="standard"} 1`) {
		t.Error("the metrics do not tell of the guard")
	}
}
