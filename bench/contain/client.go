package contain

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// stream is requests of one kind that come by themselves, answered or not.
type stream struct {
	url, class string
	rate       float64 // per second
	patience   time.Duration
}

// request is what became of one.
type request struct {
	of     *stream
	due    time.Duration // since the run began
	took   time.Duration // since due
	status int           // 0: no whole answer came in time
}

// good says whether a whole answer came.
func (r *request) good() bool { return r.status == http.StatusOK }

// drive is one run of clients.
type drive struct {
	start    time.Time
	requests []request
	lag      []time.Duration // how late each was sent
}

// happens is what is done at a moment of a run.
type happens struct {
	at time.Duration
	do func()
}

// run sends what streams say for a time, as Poisson processes drawn from a seed, so that every proxy gets the same.
func run(ctx context.Context, long time.Duration, seed uint64, streams []stream, doing ...happens) *drive {
	rnd, sum := rand.New(rand.NewPCG(seed, 5)), 0.0
	for _, s := range streams {
		sum += s.rate
	}
	var due []request
	for at := time.Duration(0); ; {
		at += time.Duration(rnd.ExpFloat64() / sum * float64(time.Second))
		if at >= long {
			break
		}
		lot, of := rnd.Float64()*sum, 0
		for of < len(streams)-1 && lot >= streams[of].rate {
			lot -= streams[of].rate
			of++
		}
		due = append(due, request{of: &streams[of], due: at})
	}
	var kept lines
	defer kept.close()
	d := &drive{start: time.Now(), requests: due, lag: make([]time.Duration, len(due))}
	var all sync.WaitGroup
	for i := range due {
		r := &due[i]
		for len(doing) > 0 && doing[0].at <= r.due {
			doing[0].do()
			doing = doing[1:]
		}
		if !sleep(ctx, time.Until(d.start.Add(r.due))) {
			d.requests, d.lag = due[:i], d.lag[:i]
			break
		}
		d.lag[i] = time.Since(d.start) - r.due
		all.Go(func() { r.status = kept.once(ctx, r.of); r.took = time.Since(d.start) - r.due })
	}
	all.Wait()
	return d
}

// lines are connections that wait for their next request. An http.Client has two goroutines and some timers for each, which take as much of the
// machine as all that is measured.
type lines struct {
	mu   sync.Mutex
	free map[string][]*line // by address
}

// line is a connection to a proxy.
type line struct {
	net.Conn
	in   *bufio.Reader
	used bool
}

// once sends one request; status is 0 when no whole answer came in time. A kept connection that ended before the answer began is tried once more on a
// new one, as RFC 9112 §9.3.1 has clients do.
func (k *lines) once(ctx context.Context, of *stream) (status int) {
	until := time.Now().Add(of.patience)
	host, path, _ := strings.Cut(strings.TrimPrefix(of.url, "http://"), "/")
	ask := "GET /" + path + " HTTP/1.1\r\nHost: " + host + "\r\nX-Class: " + of.class + "\r\n\r\n"
	for {
		l, err := k.take(ctx, host, until)
		if err != nil {
			return 0
		}
		status, again := l.ask(ask, until)
		if status > 0 && !again {
			k.keep(host, l)
			return status
		}
		_ = l.Close()
		if !again || status > 0 {
			return status
		}
	}
}

// ask sends a request and reads the answer: again says, of status 0, that it may be sent once more, and else that the connection is at its end.
func (l *line) ask(ask string, until time.Time) (status int, again bool) {
	stale := l.used
	l.used = true
	if err := l.SetDeadline(until); err != nil {
		return 0, stale
	}
	if _, err := io.WriteString(l, ask); err != nil {
		return 0, stale
	}
	if _, err := l.in.Peek(1); err != nil {
		return 0, stale && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	answer, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return 0, false
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0, false
	}
	return answer.StatusCode, answer.Close
}

func (k *lines) take(ctx context.Context, host string, until time.Time) (*line, error) {
	k.mu.Lock()
	if n := len(k.free[host]); n > 0 {
		l := k.free[host][n-1]
		k.free[host] = k.free[host][:n-1]
		k.mu.Unlock()
		return l, nil
	}
	k.mu.Unlock()
	c, err := (&net.Dialer{Deadline: until}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	return &line{Conn: c, in: bufio.NewReaderSize(c, 4<<10)}, nil
}

func (k *lines) keep(host string, l *line) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.free == nil {
		k.free = map[string][]*line{}
	}
	k.free[host] = append(k.free[host], l)
}

// close ends the connections that wait.
func (k *lines) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, all := range k.free {
		for _, l := range all {
			_ = l.Close()
		}
	}
	k.free = nil
}

// counts is what became of the requests of a time.
type counts struct {
	sent, good int
	refused    int             // 503
	took       []time.Duration // of good ones
}

// share is the good part; of nothing it is 1, as nothing went wrong.
func (c counts) share() float64 {
	if c.sent == 0 {
		return 1
	}
	return float64(c.good) / float64(c.sent)
}

// between counts the requests that were due in a time and that only holds for; nil: all.
func (d *drive) between(from, to time.Duration, only func(*request) bool) (c counts) {
	for i := range d.requests {
		r := &d.requests[i]
		if r.due < from || r.due >= to || only != nil && !only(r) {
			continue
		}
		c.sent++
		if r.status == http.StatusServiceUnavailable {
			c.refused++
		}
		if r.good() {
			c.good++
			c.took = append(c.took, r.took)
		}
	}
	return c
}
