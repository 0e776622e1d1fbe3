package contain

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Faults of an endpoint. Its probe path is answered well in all but mute and gone: probes look at something else.
const (
	well    = ""
	slow    = "slow"    // ten times slower
	hang    = "hang"    // takes requests and never answers them
	fail    = "fail"    // 500 in a millisecond
	mute    = "mute"    // takes connections and never says a word
	garbage = "garbage" // answers what is no HTTP
	reset   = "reset"   // breaks off in the middle of the body
)

// bodyLen is the length of an answer: enough for a middle.
const bodyLen = 2000

// endpoint is a server with some workers and one queue in front of them. What has begun to wait is worked on though its client has left.
type endpoint struct {
	address string
	server  *http.Server
	done    chan struct{}
	fault   *faulty

	mu      sync.Mutex
	work    time.Duration
	free    []time.Time // when each worker will be
	deep    bool        // probes wait behind requests too
	flight  int
	most    int         // in flight since the last begin
	arrived []time.Time // requests, not probes
	hanging int
	hung    int // most that were never answered at once
	late    []time.Duration
}

// faulty is the listener of an endpoint, with what is wrong with it.
type faulty struct {
	net.Listener
	mu   sync.Mutex
	kind string
	held []net.Conn // mute: nobody reads them
}

func (f *faulty) now() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kind
}

// Accept implements net.Listener.
func (f *faulty) Accept() (net.Conn, error) {
	for {
		c, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		isMute := f.kind == mute
		if isMute {
			f.held = append(f.held, c)
		}
		f.mu.Unlock()
		if !isMute {
			return c, nil
		}
	}
}

func (f *faulty) letGo() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.held {
		_ = c.Close()
	}
	f.held = nil
}

// startEndpoint serves on a free port of 127.0.0.1 with so many workers; 0: as many as it takes.
func startEndpoint(workers int, work time.Duration) (*endpoint, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("an endpoint cannot listen: %w", err)
	}
	e := &endpoint{address: l.Addr().String(), done: make(chan struct{}), work: work, free: make([]time.Time, workers), fault: &faulty{Listener: l}}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(e.done)
		_ = e.server.Serve(e.fault)
	}()
	return e, nil
}

func (e *endpoint) stop() {
	_ = e.server.Close()
	e.fault.letGo()
	<-e.done
}

// sicken gives the endpoint a fault.
func (e *endpoint) sicken(kind string) {
	e.fault.mu.Lock()
	defer e.fault.mu.Unlock()
	e.fault.kind = kind
}

// begin forgets what was counted.
func (e *endpoint) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.most, e.arrived = e.flight, nil
}

// mostInFlight is the highest number of requests that it had at once since begin.
func (e *endpoint) mostInFlight() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.most
}

// arrivals are when requests came since begin.
func (e *endpoint) arrivals() []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.arrived)
}

// hangs is how many requests hung at once at the most.
func (e *endpoint) hangs() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hung
}

func (e *endpoint) hangOne(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hanging += n
	e.hung = max(e.hung, e.hanging)
}

// lateness is the delay of its own sleeping that one in a hundred answers exceeded.
func (e *endpoint) lateness() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return quantile(e.late, 0.99)
}

// forget forgets how late it was.
func (e *endpoint) forget() {
	e.mu.Lock()
	e.late = nil
	e.mu.Unlock()
}

// assign gives a request to the worker that is free first, and returns when it is due.
func (e *endpoint) assign(now time.Time, times float64) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	work := time.Duration(float64(e.work) * times)
	if len(e.free) == 0 {
		return now.Add(work)
	}
	first := 0
	for i := range e.free {
		if e.free[i].Before(e.free[first]) {
			first = i
		}
	}
	due := now
	if e.free[first].After(now) {
		due = e.free[first]
	}
	e.free[first] = due.Add(work)
	return e.free[first]
}

// came notes a request.
func (e *endpoint) came(now time.Time) {
	e.mu.Lock()
	e.arrived = append(e.arrived, now)
	e.mu.Unlock()
}

func (e *endpoint) enter(now time.Time) {
	e.came(now)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flight++
	e.most = max(e.most, e.flight)
}

func (e *endpoint) leave(due time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flight--
	if len(e.late) < 1<<20 {
		e.late = append(e.late, time.Since(due))
	}
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := e.fault.now()
	if kind == mute { // on a connection from before: what comes on others nobody reads or counts
		if r.URL.Path != "/healthz" {
			e.came(time.Now())
		}
		<-r.Context().Done()
		return
	}
	if r.URL.Path == "/healthz" {
		if e.deep {
			sleep(r.Context(), time.Until(e.assign(time.Now(), 0.1)))
		}
		return
	}
	now := time.Now()
	e.enter(now)
	times := 1.0
	if kind == slow {
		times = 10
	}
	due := now.Add(time.Millisecond)
	if kind == well || kind == slow || kind == reset {
		due = e.assign(now, times)
	}
	time.Sleep(time.Until(due)) // its client may leave, the work goes on
	e.leave(due)
	switch kind {
	case fail:
		w.WriteHeader(http.StatusInternalServerError)
	case hang:
		e.hangOne(1)
		<-r.Context().Done()
		e.hangOne(-1)
	case garbage, reset:
		e.spoil(w, kind)
	default:
		w.Header().Set("Content-Length", fmt.Sprint(bodyLen))
		_, _ = w.Write(make([]byte, bodyLen))
	}
}

// spoil answers what no server should.
func (e *endpoint) spoil(w http.ResponseWriter, kind string) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	if kind == garbage {
		_, _ = io.WriteString(c, "\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
		return
	}
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%0*d", bodyLen, bodyLen/2, 0)
	if tcp, is := c.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
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
