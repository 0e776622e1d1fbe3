package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Limits of the demo's traffic.
const (
	trafficInFlight = 512             // requests at once; what would exceed it is not sent and counted
	trafficTimeout  = 5 * time.Second // for one request
	trafficSamples  = 4096            // latencies kept between two reports
)

// traffic sends requests at a fixed rate, whether or not earlier ones were answered: an open loop, as users are.
type traffic struct {
	url    string
	rate   int
	client *http.Client

	mu                    sync.Mutex
	sent, ok, failed      int
	notSent               int
	sinceOK, sinceFailed  int
	latencies             []time.Duration // since the last report
	worst                 string
	slots                 chan struct{}
	transport             *http.Transport
	beganAt, lastReported time.Time
}

func newTraffic(url string, rate int) *traffic {
	tr := &http.Transport{MaxIdleConnsPerHost: trafficInFlight, MaxConnsPerHost: trafficInFlight, IdleConnTimeout: time.Minute}
	return &traffic{url: url, rate: rate, transport: tr, client: &http.Client{Transport: tr, Timeout: trafficTimeout},
		slots: make(chan struct{}, trafficInFlight)}
}

// run sends until ctx ends, and returns when the last answer is there.
func (t *traffic) run(ctx context.Context) {
	defer t.transport.CloseIdleConnections()
	began := time.Now()
	t.mu.Lock()
	t.beganAt, t.lastReported = began, began
	t.mu.Unlock()
	if t.rate == 0 {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	// Timers are late by up to a millisecond or more: each tick sends what is due by then.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for due := 0; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for ; due < int(now.Sub(began).Seconds()*float64(t.rate)); due++ {
				select {
				case t.slots <- struct{}{}:
					wg.Go(t.one)
				default:
					t.mu.Lock()
					t.notSent++
					t.mu.Unlock()
				}
			}
		}
	}
}

// one sends one request.
func (t *traffic) one() {
	defer func() { <-t.slots }()
	began := time.Now()
	resp, err := t.client.Get(t.url)
	why := ""
	if err != nil {
		why = err.Error()
	} else {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			why = err.Error()
		} else if resp.StatusCode >= 400 {
			why = resp.Status
		}
	}
	took := time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	if why != "" {
		t.failed++
		t.sinceFailed++
		t.worst = why
		return
	}
	t.ok++
	t.sinceOK++
	if len(t.latencies) < trafficSamples {
		t.latencies = append(t.latencies, took)
	}
}

// lately is what happened since the last call.
func (t *traffic) lately() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	past := now.Sub(t.lastReported).Seconds()
	line := "no traffic"
	if n := t.sinceOK + t.sinceFailed; n > 0 {
		slices.Sort(t.latencies)
		line = fmt.Sprintf("%.0f req/s, %d failed, half within %s, 99%% within %s", float64(n)/past, t.sinceFailed, t.quantile(0.5), t.quantile(0.99))
		if t.sinceFailed > 0 {
			line += " (" + t.worst + ")"
		}
	}
	t.sinceOK, t.sinceFailed, t.latencies, t.lastReported = 0, 0, t.latencies[:0], now
	return line
}

// quantile is of the sorted latencies.
func (t *traffic) quantile(q float64) string {
	if len(t.latencies) == 0 {
		return "?"
	}
	d := t.latencies[int(q*float64(len(t.latencies)-1))]
	return fmt.Sprintf("%.1f ms", float64(d)/1e6)
}

// total is what became of all requests.
func (t *traffic) total() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := fmt.Sprintf("%d requests in %.0f s: %d answered, %d failed", t.sent, time.Since(t.beganAt).Seconds(), t.ok, t.failed)
	if t.notSent > 0 {
		line += fmt.Sprintf(", %d not sent because too many were open", t.notSent)
	}
	if t.failed > 0 {
		line += "; the last failure: " + t.worst
	}
	return line
}
