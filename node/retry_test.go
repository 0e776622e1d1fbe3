package node

import (
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func TestRetry(t *testing.T) {
	bad := &exchange.Refusal{Stage: "send", Reason: "broken", Status: 502}
	connect := exchange.Result{Kind: exchange.ConnectFailed, Unsent: true}
	broken := exchange.Result{Kind: exchange.Broken}
	for _, c := range []struct {
		name     string
		head     string
		results  []exchange.Result // of the attempts; after them all is well
		started  bool              // the client has seen a byte of the failed answer
		streamed bool              // the body is not in memory
		late     bool              // the deadline passed during the first attempt
		want     int               // attempts
		failed   bool
	}{
		{name: "all well", head: "GET /", want: 1},
		{name: "connect failed", head: "POST /", results: []exchange.Result{connect}, want: 2},
		{name: "connect failed twice", head: "POST /", results: []exchange.Result{connect, connect}, want: 3},
		{name: "connect failed thrice", head: "GET /", results: []exchange.Result{connect, connect, connect, connect}, want: 3, failed: true},
		{name: "broken, idempotent", head: "PUT /", results: []exchange.Result{broken}, want: 2},
		{name: "broken, not idempotent", head: "POST /", results: []exchange.Result{broken}, want: 1, failed: true},
		{name: "broken, provably unsent", head: "POST /", results: []exchange.Result{{Kind: exchange.Broken, Unsent: true}}, want: 2},
		{name: "broken, body gone", head: "PUT /", results: []exchange.Result{broken}, streamed: true, want: 1, failed: true},
		{name: "broken, answer started", head: "GET /", results: []exchange.Result{broken}, started: true, want: 1, failed: true},
		{name: "timed out", head: "GET /", results: []exchange.Result{{Kind: exchange.TimedOut}}, want: 1, failed: true},
		{name: "client left", head: "GET /", results: []exchange.Result{{Kind: exchange.Cancelled}}, want: 1, failed: true},
		{name: "refused after an answer", head: "GET /", results: []exchange.Result{{Kind: exchange.Answered}}, want: 1, failed: true},
		{name: "deadline over", head: "GET /", results: []exchange.Result{connect}, late: true, want: 1, failed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &fakePool{keep: true}
			st := newStages(p, &site.Route{Name: "all", Pool: "shop", Deadline: time.Hour})
			x := request(t, c.head+" HTTP/1.1\nHost: a")
			x.Replayable = !c.streamed
			var ends []*exchange.Endpoint
			refusal := st.serveHTTP(func(x *exchange.Exchange) *exchange.Refusal {
				ends = append(ends, x.Endpoint)
				if len(ends) > len(c.results) {
					return ok(x)
				}
				if c.late {
					x.Deadline = time.Now().Add(-time.Second)
				}
				x.Result, x.Outcome.Started = c.results[len(ends)-1], c.started
				return bad
			})(x)
			if len(ends) != c.want || (refusal != nil) != c.failed {
				t.Errorf("%d attempts, refusal %v; want %d, failed %v", len(ends), refusal, c.want, c.failed)
			}
			if len(p.done) != len(ends) {
				t.Errorf("pool learned %d results of %d attempts", len(p.done), len(ends))
			}
			for i := 1; i < len(ends); i++ {
				if ends[i] == ends[i-1] {
					t.Errorf("attempt %d went to the endpoint that had failed", i+1)
				}
			}
		})
	}
}

func TestNoRetryWithoutEndpoint(t *testing.T) {
	none := &exchange.Refusal{Stage: "pick", Reason: "no_endpoint", Status: 503}
	p := &fakePool{refusal: none}
	st := newStages(p, &site.Route{Name: "all", Pool: "shop"})
	x := request(t, "GET / HTTP/1.1\nHost: a")
	x.Result = exchange.Result{Kind: exchange.ConnectFailed, Unsent: true} // of an earlier exchange
	if r := st.serveHTTP(ok)(x); r != none || x.Attempt != 1 {
		t.Errorf("refusal %v after %d attempts, want the pool's after 1", r, x.Attempt)
	}
}

func TestBudget(t *testing.T) {
	start := time.Unix(1000, 0)
	take := func(b *budget, now time.Time, total uint64, n int) (got int) {
		for range n {
			if b.step(now, total) {
				got++
			}
		}
		return got
	}
	b := newBudget(start)
	if got := take(b, start, 0, 100); got != 10 {
		t.Errorf("a new quiet pool may repeat %d times at once, want 10", got)
	}
	if got := take(b, start.Add(time.Second), 0, 100); got != 10 {
		t.Errorf("a quiet pool may repeat %d times a second, want 10", got)
	}
	if got := take(b, start.Add(2*time.Second), 1000, 1000); got != 110 {
		t.Errorf("at 1,000 req/s %d repeats, want 110", got)
	}
	if got := take(b, start.Add(time.Hour), 1000, 1000); got != 20 {
		t.Errorf("after an hour of rest %d repeats at once, want the hoard of 2 s", got)
	}
	// A pool that is dead at 5,000 req/s: every request wants to be repeated.
	b, total, done := newBudget(start), uint64(0), 0
	for ms := range 10_000 {
		total += 5
		done += take(b, start.Add(time.Duration(ms)*time.Millisecond), total, 5)
	}
	if share := float64(done) / float64(total); share > 0.11 || share < 0.09 {
		t.Errorf("a dead pool saw %.1f%% more requests, want 10%%", 100*share)
	}
}
