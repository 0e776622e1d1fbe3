package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/monitor/otlp/collector"
	"github.com/even-keel/evenkeel/site"
)

// TestTracesUnderLoad: many requests at once, some of them asked twice beside each other, some again: every one becomes one trace, whole, and what each endpoint
// was told is an attempt of it. The race detector looks on.
func TestTracesUnderLoad(t *testing.T) {
	c, err := collector.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var asked atomic.Int64
	var told sync.Map // span of an attempt: true
	var ends [3]*httptest.Server
	for i := range ends {
		ends[i] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			told.Store(strings.Split(r.Header.Get("Traceparent")+"---", "-")[2], true)
			switch asked.Add(1) % 5 {
			case 0:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 1, 2: // slower than the hedge waits, and sometimes as long
				select {
				case <-time.After(time.Duration(asked.Load()%4) * time.Millisecond):
				case <-r.Context().Done():
				}
			}
			fmt.Fprint(w, "well")
		}))
		defer ends[i].Close()
	}
	s, err := site.Parse("site.yaml", []byte(fmt.Sprintf(`
admin: {listen: "off"}
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q, %q, %q], probe: {off: true}, retry_budget: 100%%, outliers: {mode: "off"}, breaker: {mode: "off"}}}
routes: [{name: all, pool: shop, hedge: {after: 1ms}}]
monitor: {off: true}
traces: {otlp: {url: "http://%s"}, sample: 100%%, rate: 0/s}
`, ends[0].Listener.Addr(), ends[1].Listener.Addr(), ends[2].Listener.Addr(), c.HTTP)))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	n, err := New(Options{Site: s, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	<-ready
	const workers, each = 8, 40
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			client := http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for range each {
				if a, err := client.Get("http://" + n.front.Addr("web").String() + "/"); err == nil {
					_, _ = io.Copy(io.Discard, a.Body)
					a.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	cancel() // what waits is sent before the node has stopped
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	servers, attempts, hedges, ofAttempts := map[string]string{}, 0, 0, map[string]bool{}
	for _, one := range c.Spans() {
		if one.Kind == "SERVER" {
			servers[one.Trace] = one.ID
		}
	}
	for _, one := range c.Spans() {
		if one.Kind != "CLIENT" {
			continue
		}
		attempts++
		if ofAttempts[one.ID] = true; one.Is["evenkeel.hedge"] == "true" {
			hedges++
		}
		if servers[one.Trace] != one.Parent {
			t.Fatalf("attempt %s of trace %s has the parent %s, want %s", one.ID, one.Trace, one.Parent, servers[one.Trace])
		}
	}
	if len(servers) != workers*each || attempts <= len(servers) || hedges == 0 || len(ofAttempts) != attempts {
		t.Errorf("%d traces with %d attempts, %d of them beside another, want %d traces", len(servers), attempts, hedges, workers*each)
	}
	told.Range(func(span, _ any) bool {
		if !ofAttempts[span.(string)] {
			t.Errorf("an endpoint was told %q, which is no attempt", span)
		}
		return true
	})
}
