package overload

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// How long an endpoint works on a request.
const (
	fixed = "fixed" // always the same
	exp   = "exp"   // exponential
	heavy = "heavy" // log-normal, the 99th percentile is 20 times the median
)

// markField tells the endpoint's own answers from those of the proxy.
const markField = "X-Worked-By"

// works is what an endpoint can do. Its work is slept: the capacity is exact, and costs no processor.
type works struct {
	workers int
	mean    time.Duration
	kind    string
	times   float64       // all work takes so many times as long; 0: 1
	fails   float64       // this share is answered with status
	status  int           // 0: 500
	failIn  time.Duration // after this and without work; 0: after the work
}

// capacity is requests per second.
func (w works) capacity() float64 {
	return float64(w.workers) / (w.mean.Seconds() * max(w.times, 1e-9))
}

// endpoint is a server with some workers and one queue in front of them, first come first served. What has begun to wait is
// worked on though its client has left, as a pool of threads does.
type endpoint struct {
	address string
	server  *http.Server
	done    chan struct{}

	mu       sync.Mutex
	can      works
	free     []time.Time // when each worker will be
	rnd      *rand.Rand
	attempts int
	late     []time.Duration // how late answers came that were due: how true the sleeping was
}

// startEndpoint serves on a free port of 127.0.0.1.
func startEndpoint(can works, seed uint64) (*endpoint, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("an endpoint cannot listen: %w", err)
	}
	e := &endpoint{address: l.Addr().String(), done: make(chan struct{}), rnd: rand.New(rand.NewPCG(seed, 2))}
	e.change(can)
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(e.done)
		_ = e.server.Serve(l)
	}()
	return e, nil
}

func (e *endpoint) stop() {
	_ = e.server.Close()
	<-e.done
}

// change makes the endpoint another while it runs. Work that was given out stays as it is.
func (e *endpoint) change(can works) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if can.times == 0 {
		can.times = 1
	}
	e.can = can
	slices.SortFunc(e.free, time.Time.Compare)
	for len(e.free) < can.workers {
		e.free = append(e.free, time.Time{})
	}
	e.free = e.free[len(e.free)-can.workers:] // the busiest stay, or their work would be lost
}

// counted is how many requests came so far.
func (e *endpoint) counted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.attempts
}

// failure is the status of failures.
func (e *endpoint) failure() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cmp.Or(e.can.status, http.StatusInternalServerError)
}

// lateness is the delay that one in a hundred answers exceeded.
func (e *endpoint) lateness() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return quantile(e.late, 0.99)
}

// assign gives a request to the worker that is free first, and returns when it is due and whether it fails.
func (e *endpoint) assign(now time.Time) (due time.Time, fails bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attempts++
	fails = e.rnd.Float64() < e.can.fails
	if fails && e.can.failIn > 0 {
		return now.Add(e.can.failIn), true
	}
	first := 0
	for i := range e.free {
		if e.free[i].Before(e.free[first]) {
			first = i
		}
	}
	due = now
	if e.free[first].After(now) {
		due = e.free[first]
	}
	due = due.Add(e.can.draw(e.rnd))
	e.free[first] = due
	return due, fails
}

// draw is how long one request takes.
func (w works) draw(rnd *rand.Rand) time.Duration {
	mean := float64(w.mean) * w.times
	switch w.kind {
	case exp:
		mean *= rnd.ExpFloat64()
	case heavy:
		const sigma = 1.2877 // ln 20 / 2.3263
		mean *= math.Exp(sigma*rnd.NormFloat64() - sigma*sigma/2)
	}
	return time.Duration(mean)
}

// ServeHTTP implements http.Handler. /healthz is always well: a shallow probe sees nothing of what the tests do.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(markField, e.address)
	if r.URL.Path == "/healthz" {
		return
	}
	due, fails := e.assign(time.Now())
	if !sleep(r.Context(), time.Until(due)) {
		return
	}
	e.mu.Lock()
	e.late = append(e.late, time.Since(due))
	e.mu.Unlock()
	if fails {
		w.WriteHeader(e.failure())
	}
}

// sleep waits for d and says whether ctx still holds.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// quantile is a value that q of the list do not exceed; 0 of none.
func quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
