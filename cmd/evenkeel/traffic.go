package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of the demo's traffic.
const (
	trafficInFlight = 512             // requests at once; what would exceed it is not sent and counted
	trafficTimeout  = 5 * time.Second // for one request
	trafficSamples  = 4096            // latencies kept between two reports
	trafficSurge    = 6               // how many times as much comes in a surge
	trafficMost     = 5000            // requests a second, in a surge too
)

// kind is one sort of requests: what it asks for, and its share of all, usually and in a surge.
type kind struct {
	class, path, customer string
	usual, surge          float64
}

// kinds are what the demo's clients ask for: what earns money, what most do, what is nice to have, and somebody who takes too much.
var kinds = []kind{
	{"critical", "/checkout/pay", "", 0.20, 0.08},
	{"standard", "/browse", "", 0.50, 0.30},
	{"low", "/suggestions/for-you", "", 0.30, 0.42},
	{"standard", "/browse/all", "scraper", 0, 0.20},
}

// customers is how many others there are.
const customers = 40

// told is what became of the requests of one class.
type told struct{ sent, ok int }

// traffic sends requests at a given rate, whether or not earlier ones were answered: an open loop, as users are.
type traffic struct {
	url    string
	rate   int
	client *http.Client

	mu                    sync.Mutex
	surge                 time.Time // until then
	sent, ok, failed      int
	refused, notSent      int
	classes               map[string]told // since the last report
	sinceRefused          int
	sinceFailed           int
	latencies             []time.Duration // since the last report
	worst                 string
	slots                 chan struct{}
	transport             *http.Transport
	beganAt, lastReported time.Time
}

func newTraffic(url string, rate int) *traffic {
	tr := &http.Transport{MaxIdleConnsPerHost: trafficInFlight, MaxConnsPerHost: trafficInFlight, IdleConnTimeout: time.Minute}
	return &traffic{url: url, rate: rate, transport: tr, client: &http.Client{Transport: tr, Timeout: trafficTimeout},
		slots: make(chan struct{}, trafficInFlight), classes: map[string]told{}}
}

// surgeUntil lets six times as much come until then.
func (t *traffic) surgeUntil(until time.Time) {
	t.mu.Lock()
	t.surge = until
	t.mu.Unlock()
}

// rates is how many requests of each kind come in a second.
func (t *traffic) rates(now time.Time) []float64 {
	t.mu.Lock()
	surging := now.Before(t.surge)
	t.mu.Unlock()
	out := make([]float64, len(kinds))
	for i, k := range kinds {
		if out[i] = float64(t.rate) * k.usual; surging {
			out[i] = min(float64(t.rate)*trafficSurge, trafficMost) * k.surge
		}
	}
	return out
}

// run sends until ctx ends, and returns when the last answer is there.
func (t *traffic) run(ctx context.Context) {
	defer t.transport.CloseIdleConnections()
	last := time.Now()
	t.mu.Lock()
	t.beganAt, t.lastReported = last, last
	t.mu.Unlock()
	if t.rate == 0 {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	// Timers are late by up to a millisecond or more: each tick sends what is due by then.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	due := make([]float64, len(kinds))
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for i, rate := range t.rates(now) {
				for due[i] += min(now.Sub(last).Seconds(), 0.1) * rate; due[i] >= 1; due[i]-- {
					n++
					t.send(&wg, kinds[i], n)
				}
			}
			last = now
		}
	}
}

// send sends one request, if there is room for one more.
func (t *traffic) send(wg *sync.WaitGroup, k kind, n int) {
	select {
	case t.slots <- struct{}{}:
		wg.Go(func() { t.one(k, n) })
	default:
		t.mu.Lock()
		t.notSent++
		t.mu.Unlock()
	}
}

// one sends one request and notes what became of it.
func (t *traffic) one(k kind, n int) {
	defer func() { <-t.slots }()
	began := time.Now()
	status, err := t.ask(k, n)
	took := time.Since(began)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	told := t.classes[k.class]
	told.sent++
	switch {
	case err != nil:
		t.failed++
		t.sinceFailed++
		t.worst = err.Error()
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		t.refused++
		t.sinceRefused++
	case status >= 400:
		t.failed++
		t.sinceFailed++
		t.worst = http.StatusText(status)
	default:
		t.ok++
		told.ok++
		if len(t.latencies) < trafficSamples {
			t.latencies = append(t.latencies, took)
		}
	}
	t.classes[k.class] = told
}

func (t *traffic) ask(k kind, n int) (status int, err error) {
	r, err := http.NewRequest(http.MethodGet, t.url+k.path, nil)
	if err != nil {
		return 0, err
	}
	customer := k.customer
	if customer == "" {
		customer = fmt.Sprintf("customer-%02d", n%customers+1)
	}
	r.Header.Set("X-Customer", customer)
	resp, err := t.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// lately is what happened since the last call.
func (t *traffic) lately() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	past := now.Sub(t.lastReported).Seconds()
	line, n := "no traffic", 0
	for _, c := range t.classes {
		n += c.sent
	}
	if n > 0 {
		slices.Sort(t.latencies)
		line = fmt.Sprintf("%.0f req/s, %s%d failed, half within %s, 99%% within %s", float64(n)/past, t.refusals(past), t.sinceFailed, t.quantile(0.5), t.quantile(0.99))
		if t.sinceFailed > 0 {
			line += " (" + t.worst + ")"
		}
	}
	clear(t.classes)
	t.sinceRefused, t.sinceFailed, t.latencies, t.lastReported = 0, 0, t.latencies[:0], now
	return line
}

// refusals says how much was refused, and of which classes the rest is; empty when nothing was.
func (t *traffic) refusals(past float64) string {
	if t.sinceRefused == 0 {
		return ""
	}
	var words []string
	for _, class := range []string{"critical", "standard", "low"} {
		if c := t.classes[class]; c.sent > 0 {
			words = append(words, fmt.Sprintf("%d%% of %s", c.ok*100/c.sent, class))
		}
	}
	return fmt.Sprintf("%.0f/s refused (admitted %s), ", float64(t.sinceRefused)/past, strings.Join(words, ", "))
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
	line := fmt.Sprintf("%d requests in %.0f s: %d answered, %d refused, %d failed", t.sent, time.Since(t.beganAt).Seconds(), t.ok, t.refused, t.failed)
	if t.notSent > 0 {
		line += fmt.Sprintf(", %d not sent because too many were open", t.notSent)
	}
	if t.failed > 0 {
		line += "; the last failure: " + t.worst
	}
	return line
}
