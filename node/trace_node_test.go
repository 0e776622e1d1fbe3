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

// tracedEnds are three endpoints: a fifth of what they are asked they answer with 503, two fifths later than a hedge waits. told are the spans they were told.
func tracedEnds(t *testing.T) (addresses []any, told *sync.Map) {
	var asked atomic.Int64
	told = new(sync.Map)
	for range 3 {
		end := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			told.Store(strings.Split(r.Header.Get("Traceparent")+"---", "-")[2], true)
			switch asked.Add(1) % 5 {
			case 0:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 1, 2:
				select {
				case <-time.After(time.Duration(asked.Load()%4) * time.Millisecond):
				case <-r.Context().Done():
				}
			}
			fmt.Fprint(w, "well")
		}))
		t.Cleanup(end.Close)
		addresses = append(addresses, end.Listener.Addr().String())
	}
	return addresses, told
}

// playTraces runs a node of the site while so many clients ask it so often each, until everything was sent.
func playTraces(t *testing.T, s *site.Site, clients, each int) {
	t.Helper()
	ready := make(chan struct{})
	n, err := New(Options{Site: s, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range clients {
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
}

// TestTracesUnderLoad: many requests at once, some of them asked twice beside each other, some again: every one becomes one trace, whole, and what each endpoint
// was told is an attempt of it. The race detector looks on.
func TestTracesUnderLoad(t *testing.T) {
	c, err := collector.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	addresses, told := tracedEnds(t)
	s, err := site.Parse("site.yaml", fmt.Appendf(nil, `
admin: {listen: "off"}
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q, %q, %q], probe: {off: true}, retry_budget: 100%%, outliers: {mode: "off"}, breaker: {mode: "off"}}}
routes: [{name: all, pool: shop, hedge: {after: 1ms}}]
monitor: {off: true}
traces: {otlp: {url: "http://`+c.HTTP+`"}, sample: 100%%, rate: 0/s}
`, addresses...))
	if err != nil {
		t.Fatal(err)
	}
	const clients, each = 8, 40
	playTraces(t, s, clients, each)
	servers, hedges, attempts := map[string]string{}, 0, map[string]bool{}
	for _, one := range c.Spans() {
		if one.Kind == "SERVER" {
			servers[one.Trace] = one.ID
		}
	}
	for _, one := range c.Spans() {
		if one.Kind != "CLIENT" {
			continue
		}
		if one.Is["evenkeel.hedge"] == "true" {
			hedges++
		}
		if attempts[one.ID] || servers[one.Trace] != one.Parent {
			t.Fatalf("attempt %s of trace %s has the parent %s, want %s, and to be there once", one.ID, one.Trace, one.Parent, servers[one.Trace])
		}
		attempts[one.ID] = true
	}
	if len(servers) != clients*each || len(attempts) <= len(servers) || hedges == 0 {
		t.Errorf("%d traces with %d attempts, %d of them beside another, want %d traces", len(servers), len(attempts), hedges, clients*each)
	}
	told.Range(func(span, _ any) bool {
		if !attempts[span.(string)] {
			t.Errorf("an endpoint was told %q, which is no attempt", span)
		}
		return true
	})
}
