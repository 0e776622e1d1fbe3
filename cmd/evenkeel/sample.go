package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sampleService is what the demo stands in front of: five endpoints of different speed.
type sampleService struct {
	mu        sync.Mutex // guards killing and reviving
	endpoints []*sampleEndpoint
}

// sampleWorkers is how many requests one endpoint works on at once. More wait for it, as at a server with a pool of threads: so the
// five can do about 600 a second together, and have something to be protected from.
const sampleWorkers = 3

// sampleEndpoint is one small server. Its times scatter around the median like those of real services: few are much longer.
type sampleEndpoint struct {
	workers chan struct{} // as many as work at once
	name    string
	median  time.Duration
	address string
	sick    atomic.Bool
	server  *http.Server // nil: killed
	done    chan struct{}
}

// startSample starts all endpoints on ports that are free.
func startSample() (*sampleService, error) {
	s := &sampleService{}
	for i, median := range []time.Duration{10, 20, 30, 50, 200} {
		e := &sampleEndpoint{workers: make(chan struct{}, sampleWorkers), name: string(rune('a' + i)), median: median * time.Millisecond, address: "127.0.0.1:0"}
		if err := e.start(); err != nil {
			s.stop()
			return nil, err
		}
		s.endpoints = append(s.endpoints, e)
	}
	return s, nil
}

// start opens the endpoint, at its old address when it had one.
func (e *sampleEndpoint) start() error {
	ln, err := net.Listen("tcp", e.address)
	if err != nil {
		return fmt.Errorf("sample endpoint %s cannot listen: %w", e.name, err)
	}
	e.address = ln.Addr().String()
	server, done := &http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second}, make(chan struct{})
	e.server, e.done = server, done
	go func() {
		defer close(done)
		_ = server.Serve(ln)
	}()
	return nil
}

// ServeHTTP answers after a while, as a service does.
func (e *sampleEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sick := e.sick.Load()
	if r.URL.Path == "/healthz" {
		if sick {
			http.Error(w, "not well", http.StatusServiceUnavailable)
		}
		return
	}
	select {
	case e.workers <- struct{}{}:
		defer func() { <-e.workers }()
	case <-r.Context().Done():
		return
	}
	wait := time.Duration(float64(e.median) * math.Exp(rand.NormFloat64()*0.3))
	if sick {
		wait *= 5
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		return
	}
	w.Header().Set("X-Endpoint", e.name)
	fmt.Fprintf(w, "endpoint %s (%s) answered %s %s after %.1f ms\n", e.name, e.address, r.Method, r.URL.Path, float64(wait)/1e6)
}

// close ends the endpoint as a crash does: all connections break.
func (e *sampleEndpoint) close() {
	if e.server != nil {
		e.server.Close()
		<-e.done
		e.server = nil
	}
}

// stop ends all endpoints.
func (s *sampleService) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.endpoints {
		e.close()
	}
}

// kill ends the fastest endpoint that lives.
func (s *sampleService) kill(say func(string, ...any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := slices.DeleteFunc(slices.Clone(s.endpoints), func(e *sampleEndpoint) bool { return e.server == nil })
	if len(alive) < 2 {
		say("only one endpoint lives; r brings others back")
		return
	}
	alive[0].close()
	say("endpoint %s was killed: requests that it had go to others, then none is sent there", alive[0].name)
}

// revive brings all killed endpoints back.
func (s *sampleService) revive(say func(string, ...any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	for _, e := range s.endpoints {
		if e.server == nil {
			if err := e.start(); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			say("endpoint %s is back: after the next probe it gets a little, within 5 s its whole share", e.name)
		}
	}
	if failed != nil {
		say("%v", failed)
	}
}

// sicken makes one endpoint sick for a while, or until ctx ends.
func (s *sampleService) sicken(ctx context.Context, length time.Duration, say func(string, ...any)) {
	e := s.endpoints[3]
	e.sick.Store(true)
	defer e.sick.Store(false)
	say("endpoint %s turned sick: slow, and its probe fails", e.name)
	if pause(ctx, length) {
		say("endpoint %s is well again", e.name)
	}
}

// pause waits, and reports whether ctx lasted as long.
func pause(ctx context.Context, length time.Duration) bool {
	t := time.NewTimer(length)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
