package overload

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// What clients do and expect.
const (
	patience = time.Second            // a client leaves after this
	goodIn   = 500 * time.Millisecond // an answer is good within this, counted from when the request was due
)

// stream is requests of one kind that come by themselves, answered or not.
type stream struct {
	class, tenant string
	rate          float64 // per second
}

// phase is a time with the same demand.
type phase struct {
	long    time.Duration
	streams []stream
	begin   func() // called as it begins; nil: nothing
}

// request is what became of one.
type request struct {
	due      time.Duration // since the run began
	took     time.Duration // since due
	class    string
	tenant   string
	status   int  // of the last attempt; 0: none came in time
	refused  bool // the proxy said no
	attempts int
}

// good says whether the client got what it wanted in time.
func (r *request) good() bool { return r.status == http.StatusOK && r.took <= goodIn }

// drive is one run of a client: when phases began, what became of all requests, and how late they were sent.
type drive struct {
	requests []request
	began    []time.Duration // of phases, and the end
	lag      []time.Duration
}

// arrival is one request to send.
type arrival struct {
	at time.Duration
	of stream
}

// arrivals draws a Poisson process for every stream, from a seed: every proxy gets the same.
func arrivals(phases []phase, seed uint64) (list []arrival, began []time.Duration) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	start := time.Duration(0)
	for _, p := range phases {
		began = append(began, start)
		sum := 0.0
		for _, s := range p.streams {
			sum += s.rate
		}
		for at := start; sum > 0; {
			at += time.Duration(rnd.ExpFloat64() / sum * float64(time.Second))
			if at >= start+p.long {
				break
			}
			lot, of := rnd.Float64()*sum, 0
			for of < len(p.streams)-1 && lot >= p.streams[of].rate {
				lot -= p.streams[of].rate
				of++
			}
			list = append(list, arrival{at, p.streams[of]})
		}
		start += p.long
	}
	return list, append(began, start)
}

// run sends what phases say to url. retries is how often a client tries again at once.
func run(ctx context.Context, url string, phases []phase, retries int, seed uint64) *drive {
	list, began := arrivals(phases, seed)
	d := &drive{requests: make([]request, len(list)), began: began, lag: make([]time.Duration, len(list))}
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, IdleConnTimeout: time.Minute, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	start, next := time.Now(), 0
	for i, a := range list {
		for next < len(phases) && a.at >= began[next] {
			if phases[next].begin != nil && sleep(ctx, time.Until(start.Add(began[next]))) {
				phases[next].begin()
			}
			next++
		}
		if !sleep(ctx, time.Until(start.Add(a.at))) {
			d.requests = d.requests[:i]
			break
		}
		d.lag[i] = time.Since(start) - a.at
		all.Go(func() { d.requests[i] = ask(ctx, client, url, a, start, retries) })
	}
	all.Wait()
	sleep(ctx, time.Until(start.Add(began[len(began)-1])))
	return d
}

// ask sends one request, and again after a failure.
func ask(ctx context.Context, client *http.Client, url string, a arrival, start time.Time, retries int) request {
	r := request{due: a.at, class: a.of.class, tenant: a.of.tenant}
	for r.attempts <= retries && r.status != http.StatusOK {
		r.attempts++
		from := start.Add(a.at)
		if r.attempts > 1 {
			from = time.Now()
		}
		r.status, r.refused = once(ctx, client, url, a.of, from)
	}
	r.took = time.Since(start) - a.at
	return r
}

func once(ctx context.Context, client *http.Client, url string, of stream, from time.Time) (status int, refused bool) {
	ctx, cancel := context.WithDeadline(ctx, from.Add(patience))
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, false
	}
	q.Header.Set("X-Class", of.class)
	q.Header.Set("X-Tenant", of.tenant)
	answer, err := client.Do(q)
	if err != nil {
		return 0, false
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0, false
	}
	busy := answer.StatusCode == http.StatusServiceUnavailable || answer.StatusCode == http.StatusTooManyRequests
	return answer.StatusCode, busy && answer.Header.Get(markField) == ""
}
