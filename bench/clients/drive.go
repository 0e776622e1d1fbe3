package clients

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// plan is one experiment: many clients of one kind ask a service; for a while much more than it can do.
type plan struct {
	Clients  int           `json:"clients"`
	Workers  int           `json:"workers"`
	Work     time.Duration `json:"work_ns"`
	Load     float64       `json:"load"`  // in parts of what the service can do
	Spike    float64       `json:"spike"` // times load
	Warm     time.Duration `json:"warm_ns"`
	SpikeFor time.Duration `json:"spike_for_ns"`
	After    time.Duration `json:"after_ns"`
	Seed     uint64        `json:"seed"`
}

// capacity is requests per second.
func (p plan) capacity() float64 { return float64(p.Workers) / p.Work.Seconds() }

// arrival is one request of one client.
type arrival struct {
	at     time.Duration
	client int
}

// arrivals are drawn from a seed: every kind of client gets the same. They come by themselves, whatever became of those before.
func (p plan) arrivals() (list []arrival) {
	rnd := rand.New(rand.NewPCG(p.Seed, 1))
	start := time.Duration(0)
	for _, phase := range []struct {
		long time.Duration
		rate float64
	}{{p.Warm, p.Load}, {p.SpikeFor, p.Load * p.Spike}, {p.After, p.Load}} {
		for at := start; ; {
			at += time.Duration(rnd.ExpFloat64() / (phase.rate * p.capacity()) * float64(time.Second))
			if at >= start+phase.long {
				break
			}
			list = append(list, arrival{at, rnd.IntN(p.Clients)})
		}
		start += phase.long
	}
	return list
}

// request is what became of one.
type request struct {
	due, took time.Duration
	good      bool
}

// counter is the way to the server that all clients share. It counts attempts.
type counter struct {
	base http.RoundTripper
	mu   sync.Mutex
	at   []time.Time
}

// RoundTrip implements http.RoundTripper.
func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.at = append(c.at, time.Now())
	c.mu.Unlock()
	return c.base.RoundTrip(r)
}

func (c *counter) between(from, to time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.at {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// run is what one kind of client did.
type run struct {
	plan     plan
	requests []request
	lag      []time.Duration // how late requests were sent
	start    time.Time
	service  *service
	sent     *counter
}

// drive lets clients of a kind ask the service at url by base.
func (p plan) drive(ctx context.Context, k kind, s *service, base http.RoundTripper, url string) *run {
	sent := &counter{base: base}
	asks := make([]ask, p.Clients)
	for i := range asks {
		asks[i] = k.make(sent, rand.New(rand.NewPCG(p.Seed, uint64(i+2))))
	}
	list := p.arrivals()
	r := &run{plan: p, requests: make([]request, len(list)), start: time.Now(), service: s, sent: sent}
	var all sync.WaitGroup
	for i, a := range list {
		if sleep(ctx, time.Until(r.start.Add(a.at))) != nil {
			break
		}
		r.lag = append(r.lag, time.Since(r.start)-a.at)
		all.Go(func() {
			ctx, stop := context.WithDeadline(ctx, r.start.Add(a.at+patience))
			defer stop()
			err := asks[a.client](ctx, url)
			took := time.Since(r.start) - a.at
			r.requests[i] = request{due: a.at, took: took, good: err == nil && took <= patience}
		})
	}
	all.Wait()
	return r
}

// late is how late one in a hundred requests was sent, at the least.
func (r *run) late() time.Duration {
	if len(r.lag) == 0 {
		return 0
	}
	slices.Sort(r.lag)
	return r.lag[len(r.lag)*99/100]
}

// window is what was due in a part of a run, and what was sent in that time.
type window struct {
	sent, good, attempts int
	long                 time.Duration
}

func (r *run) between(from, to time.Duration) window {
	w := window{long: to - from, attempts: r.sent.between(r.start.Add(from), r.start.Add(to))}
	for _, q := range r.requests {
		if q.due >= from && q.due < to {
			w.sent++
			if q.good {
				w.good++
			}
		}
	}
	return w
}

// Recovery: from the end of the spike until so many seconds in a row have good answers to so much of what was due.
const (
	row    = 3
	enough = 0.95
)

// recovery is how long after the spike all was well again; ok is false when it never was.
func (r *run) recovery() (took time.Duration, ok bool) {
	from, to := r.plan.Warm+r.plan.SpikeFor, r.plan.Warm+r.plan.SpikeFor+r.plan.After
	n := 0
	for at := from; at+time.Second <= to; at += time.Second {
		if w := r.between(at, at+time.Second); float64(w.good) < enough*float64(w.sent) {
			n = 0
		} else if n++; n == row {
			return at - (row-1)*time.Second - from, true
		}
	}
	return to - from, false
}
