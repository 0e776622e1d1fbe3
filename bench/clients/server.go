package clients

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// service is a server with some workers and one queue without bound, first come first served. Its work is slept: what it can do is exact
// and costs no processor. What has begun to wait is worked on though its client has left, as a pool of threads does.
type service struct {
	work time.Duration

	mu   sync.Mutex
	free []time.Time // when each worker will be; the first is the earliest
}

func newService(workers int, work time.Duration) *service {
	return &service{work: work, free: make([]time.Time, workers)}
}

// take gives a request to the worker that is free first, and returns when it is done.
func (s *service) take(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.free[0]
	if done.Before(now) {
		done = now
	}
	done = done.Add(s.work)
	// All work takes the same time, so that whoever gets work now is free last.
	s.free = append(s.free[1:], done)
	return done
}

// backlog is how long a request that comes now waits before its work begins.
func (s *service) backlog(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.free[0].Sub(now), 0)
}

// ServeHTTP implements http.Handler. /healthz is always well: a shallow probe sees nothing of a long queue.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/healthz" && sleep(r.Context(), time.Until(s.take(time.Now()))) != nil {
		return
	}
	fmt.Fprint(w, "done")
}

// RoundTrip implements http.RoundTripper: the same without a network.
func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := sleep(r.Context(), time.Until(s.take(time.Now()))); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader("done")), ContentLength: 4, Request: r}, nil
}

// listen serves on a free port of 127.0.0.1 until stop is called.
func (s *service) listen() (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("the server cannot listen: %w", err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	return l.Addr().String(), func() {
		_ = server.Close()
		<-done
	}, nil
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
