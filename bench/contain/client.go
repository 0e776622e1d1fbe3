package contain

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
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
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: 8192, MaxIdleConnsPerHost: 8192, IdleConnTimeout: time.Minute, DisableCompression: true}}
	defer client.CloseIdleConnections()
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
		all.Go(func() { r.status = once(ctx, client, r.of); r.took = time.Since(d.start) - r.due })
	}
	all.Wait()
	return d
}

func once(ctx context.Context, client *http.Client, of *stream) (status int) {
	ctx, cancel := context.WithTimeout(ctx, of.patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, of.url, nil)
	if err != nil {
		return 0
	}
	q.Header.Set("X-Class", of.class)
	answer, err := client.Do(q)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0
	}
	return answer.StatusCode
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
