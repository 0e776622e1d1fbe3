package node

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// defaults are the retry rules of a route that says nothing.
func defaults() site.Retry {
	return site.Retry{Attempts: 3, On: []string{"connect", "reset", "timeout", "502", "503", "504", "429", "grpc_unavailable", "grpc_resource_exhausted"},
		MaxWait: time.Second, BodyBytes: 64 << 10}
}

// tryOut runs one exchange whose attempts end in results; after them all is well. An answered result goes by the judge, as it does in proxy.
type tryOut struct {
	stages  *stages
	pool    *fakePool
	results []exchange.Result
	started bool // the client has seen a byte of the failed answer
	during  func(x *exchange.Exchange)
	ends    []*exchange.Endpoint
	waited  time.Duration
}

func newTryOut(route *site.Route, results ...exchange.Result) *tryOut {
	p := &fakePool{keep: true}
	t := &tryOut{pool: p, stages: newStages(p, route), results: results}
	t.stages.retry.sleep = func(d time.Duration) { t.waited += d }
	t.stages.retry.gone = func(*exchange.Exchange) bool { return false }
	t.stages.retry.random = func() float64 { return 0.5 }
	return t
}

var refuseTest = &exchange.Refusal{Stage: "send", Reason: "broken", Status: 502}

func (t *tryOut) serve(x *exchange.Exchange) *exchange.Refusal {
	return t.stages.serveHTTP(func(x *exchange.Exchange) *exchange.Refusal {
		t.ends = append(t.ends, x.Endpoint)
		if len(t.ends) > len(t.results) {
			x.Result = exchange.Result{Status: 200, Latency: time.Millisecond}
			return ok(x)
		}
		if t.during != nil {
			t.during(x)
		}
		x.Result, x.Outcome.Started = t.results[len(t.ends)-1], t.started
		if x.Result.Kind != exchange.Answered || x.Judge.Again(x) {
			return refuseTest
		}
		x.Outcome.Status, x.Outcome.Started = x.Result.Status, true
		return nil
	})(x)
}

func TestRetry(t *testing.T) {
	connect := exchange.Result{Kind: exchange.ConnectFailed, Unsent: true}
	broken := exchange.Result{Kind: exchange.Broken}
	busy := exchange.Result{Status: 503, Latency: time.Millisecond}
	off, timed := defaults(), defaults()
	off.Attempts, timed.AttemptTimeout = 1, time.Second
	for _, c := range []struct {
		name     string
		head     string
		rules    *site.Retry
		results  []exchange.Result
		started  bool
		streamed bool // the body is not in memory
		kept     bool // but a copy of it
		late     bool // the deadline passed during the first attempt
		want     int  // attempts
		failed   bool // the client got no answer of an endpoint
		noRetry  bool // and is told not to try again
		status   int
	}{
		{name: "all well", head: "GET /", want: 1, status: 200},
		{name: "connect failed", head: "POST /", results: []exchange.Result{connect}, want: 2, status: 200},
		{name: "connect failed twice", head: "POST /", results: []exchange.Result{connect, connect}, want: 3, status: 200},
		{name: "connect failed thrice", head: "GET /", results: []exchange.Result{connect, connect, connect, connect}, want: 3, failed: true, noRetry: true},
		{name: "broken, idempotent", head: "PUT /", results: []exchange.Result{broken}, want: 2, status: 200},
		{name: "broken, not idempotent", head: "POST /", results: []exchange.Result{broken}, want: 1, failed: true},
		{name: "broken, with a key", head: "POST / HTTP/1.1\nIdempotency-Key: \"a\"", results: []exchange.Result{broken}, want: 2, status: 200},
		{name: "broken, provably unsent", head: "POST /", results: []exchange.Result{{Kind: exchange.Broken, Unsent: true}}, want: 2, status: 200},
		{name: "broken, body gone", head: "PUT /", results: []exchange.Result{broken}, streamed: true, want: 1, failed: true},
		{name: "broken, body kept", head: "PUT /", results: []exchange.Result{broken}, streamed: true, kept: true, want: 2, status: 200},
		{name: "broken, body kept for nothing", head: "POST /", results: []exchange.Result{broken}, streamed: true, kept: true, want: 1, failed: true},
		{name: "broken, answer started", head: "GET /", results: []exchange.Result{broken}, started: true, want: 1, failed: true},
		{name: "the pool's time is over", head: "GET /", results: []exchange.Result{{Kind: exchange.TimedOut}}, want: 1, failed: true},
		{name: "the attempt's time is over", head: "GET /", rules: &timed, results: []exchange.Result{{Kind: exchange.TimedOut}}, want: 2, status: 200},
		{name: "client left", head: "GET /", results: []exchange.Result{{Kind: exchange.Cancelled}}, want: 1, failed: true},
		{name: "deadline over", head: "GET /", results: []exchange.Result{connect}, late: true, want: 1, failed: true, noRetry: true},
		{name: "busy", head: "GET /", results: []exchange.Result{busy}, want: 2, status: 200},
		{name: "busy, not idempotent", head: "POST /", results: []exchange.Result{busy}, want: 1, status: 503},
		{name: "busy thrice", head: "GET /", results: []exchange.Result{busy, busy, busy}, want: 3, status: 503, noRetry: true},
		{name: "busy, forbidden", head: "GET /", results: []exchange.Result{{Status: 503, NoRetry: true}}, want: 1, status: 503},
		{name: "busy, our sender tries again", head: "GET / HTTP/1.1\nEvenkeel-Attempt: 2", results: []exchange.Result{busy}, want: 1, status: 503},
		{name: "busy, a gRPC client tries again", head: "PUT / HTTP/1.1\ngrpc-previous-rpc-attempts: 1", results: []exchange.Result{busy}, want: 1, status: 503},
		{name: "busy, no retry here", head: "GET /", rules: &off, results: []exchange.Result{busy}, want: 1, status: 503},
		{name: "broken inside", head: "GET /", results: []exchange.Result{{Status: 500}}, want: 1, status: 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := c.rules
			if rules == nil {
				all := defaults()
				rules = &all
			}
			try := newTryOut(&site.Route{Name: "all", Pool: "shop", Deadline: time.Hour, Retry: *rules}, c.results...)
			try.started = c.started
			if c.late {
				try.during = func(x *exchange.Exchange) { x.Deadline = time.Now().Add(-time.Second) }
			}
			head := c.head
			if !strings.Contains(head, "HTTP") {
				head += " HTTP/1.1"
			}
			x := request(t, head+"\nHost: a")
			x.Replayable, x.Kept = !c.streamed, c.kept
			refusal := try.serve(x)
			if len(try.ends) != c.want || (refusal != nil) != c.failed || x.NoRetry != c.noRetry || x.Outcome.Status != c.status {
				t.Errorf("%d attempts, refusal %v, told not to retry %v, status %d; want %d, failed %v, %v, %d",
					len(try.ends), refusal, x.NoRetry, x.Outcome.Status, c.want, c.failed, c.noRetry, c.status)
			}
			if len(try.pool.done) != len(try.ends) {
				t.Errorf("pool learned %d results of %d attempts", len(try.pool.done), len(try.ends))
			}
			for i := 1; i < len(try.ends); i++ {
				if try.ends[i] == try.ends[i-1] {
					t.Errorf("attempt %d went to the endpoint that had failed", i+1)
				}
			}
		})
	}
}

func TestNoRetryWithoutEndpoint(t *testing.T) {
	none := &exchange.Refusal{Stage: "pick", Reason: "no_endpoint", Status: 503}
	p := &fakePool{refusal: none}
	st := newStages(p, &site.Route{Name: "all", Pool: "shop", Retry: defaults()})
	x := request(t, "GET / HTTP/1.1\nHost: a")
	x.Result = exchange.Result{Kind: exchange.ConnectFailed, Unsent: true} // of an earlier exchange
	if r := st.serveHTTP(ok)(x); r != none || x.Attempt != 1 {
		t.Errorf("refusal %v after %d attempts, want the pool's after 1", r, x.Attempt)
	}
}

func TestRetryWaits(t *testing.T) {
	route := func() *site.Route {
		return &site.Route{Name: "all", Pool: "shop", Deadline: 10 * time.Second, Retry: defaults()}
	}
	busy := exchange.Result{Status: 503}
	t.Run("backoff", func(t *testing.T) {
		try := newTryOut(route(), busy, busy)
		try.serve(request(t, "GET / HTTP/1.1\nHost: a"))
		if want := 12500*time.Microsecond + 25*time.Millisecond; try.waited != want {
			t.Errorf("waited %v, want %v", try.waited, want)
		}
	})
	t.Run("as asked for", func(t *testing.T) {
		try := newTryOut(route(), exchange.Result{Status: 429, RetryAfter: time.Second})
		try.serve(request(t, "GET / HTTP/1.1\nHost: a"))
		if want := time.Second + 12500*time.Microsecond; try.waited != want || len(try.ends) != 2 {
			t.Errorf("waited %v and tried %d times, want %v and 2", try.waited, len(try.ends), want)
		}
	})
	t.Run("not beyond the deadline", func(t *testing.T) {
		try := newTryOut(route(), exchange.Result{Status: 503, RetryAfter: time.Second})
		x := request(t, "GET / HTTP/1.1\nHost: a\nEvenkeel-Deadline: 500")
		if r := try.serve(x); r != nil || len(try.ends) != 1 || x.Outcome.Status != 503 || !x.NoRetry {
			t.Errorf("refusal %v, %d attempts, status %d; want the endpoint's answer at once", r, len(try.ends), x.Outcome.Status)
		}
	})
	t.Run("not for a client that left", func(t *testing.T) {
		try := newTryOut(route(), exchange.Result{Status: 429, RetryAfter: time.Second})
		try.stages.retry.gone = func(*exchange.Exchange) bool { return try.waited >= 300*time.Millisecond }
		x := request(t, "GET / HTTP/1.1\nHost: a")
		if r := try.serve(x); r != refuseLeft || try.waited != 300*time.Millisecond || !x.Outcome.Aborted {
			t.Errorf("refusal %v after %v, want that the client left after 300ms", r, try.waited)
		}
		if left := try.stages.retry.routes[0].pool.budget.Left(time.Now()); left != 10 {
			t.Errorf("the budget has %v left, want back what was not used", left)
		}
	})
	t.Run("without a place", func(t *testing.T) {
		try := newTryOut(route(), busy)
		h := new(holder)
		try.during = func(x *exchange.Exchange) { x.Held = h }
		try.serve(request(t, "GET / HTTP/1.1\nHost: a"))
		if h.freed != 1 {
			t.Errorf("the place was given back %d times before the wait, want once", h.freed)
		}
	})
}

type holder struct{ freed int }

func (h *holder) Answered(x *exchange.Exchange, _ bool) { h.freed++; x.Held = nil }

// TestRetryStorm plays a pool of which a share of the attempts fails, with clients that try twice more at once, and holds that endpoints see no
// more than a tenth more requests than there are.
func TestRetryStorm(t *testing.T) {
	for _, share := range []float64{0.3, 1} {
		now, rnd := time.Unix(1000, 0), rand.New(rand.NewPCG(1, 2))
		var events []string
		r := newRetries("shop", now, func(kind, text string) { events = append(events, kind+" "+text) })
		rules, requests, attempts, told := rulesOf(defaults()), 0, 0, 0
		for range 30 * 500 {
			for range 3 { // the client's own
				requests++
				r.budget.Request(0)
				failed := true
				for n := 1; ; n++ {
					attempts++
					if failed = rnd.Float64() < share; !failed {
						break
					}
					if v := rules.Judge(retry.Request{Idempotent: true}, retry.Attempt{Number: n, Status: 503}); v.Denial != retry.Granted {
						told++
						break
					}
					if !r.take(now) {
						told++
						break
					}
				}
				if !failed {
					break
				}
			}
			now = now.Add(2 * time.Millisecond)
		}
		if amplified := float64(attempts) / float64(requests); amplified > 1.1 {
			t.Errorf("at %v failing endpoints see %.3f attempts per request, want 1.1 at the most", share, amplified)
		}
		if len(events) != 1 || !strings.Contains(events[0], "retry_budget pool shop: the retry budget is spent") {
			t.Errorf("at %v failing people were told %q, want once that the budget is spent", share, events)
		}
	}
}

func TestDeadline(t *testing.T) {
	for _, c := range []struct {
		name  string
		route time.Duration
		head  string
		want  time.Duration // from the start; 0: none
		late  bool
	}{
		{name: "none"},
		{name: "the route's", route: time.Second, want: time.Second},
		{name: "a shorter one", route: time.Second, head: "Evenkeel-Deadline: 250", want: 250 * time.Millisecond},
		{name: "a longer one does not count", route: time.Second, head: "Evenkeel-Deadline: 5000", want: time.Second},
		{name: "one where the route has none", head: "Evenkeel-Deadline: 5000", want: 5 * time.Second},
		{name: "of Envoy", head: "X-Envoy-Expected-Rq-Timeout-Ms: 150", want: 150 * time.Millisecond},
		{name: "none of Envoy", head: "X-Envoy-Expected-Rq-Timeout-Ms: 0"},
		{name: "of gRPC", head: "Grpc-Timeout: 3S", want: 3 * time.Second},
		{name: "the shortest of several", head: "Grpc-Timeout: 3S\nEvenkeel-Deadline: 2000", want: 2 * time.Second},
		{name: "malformed", route: time.Second, head: "Evenkeel-Deadline: soon", want: time.Second},
		{name: "passed", head: "Evenkeel-Deadline: 0", late: true},
		{name: "passed, of gRPC", head: "Grpc-Timeout: 0m", late: true},
	} {
		st := newStages(new(fakePool), &site.Route{Name: "all", Pool: "shop", Deadline: c.route, Retry: defaults()})
		x := request(t, strings.TrimSpace("GET / HTTP/1.1\nHost: a\n"+c.head))
		reached := false
		r := st.serveHTTP(func(x *exchange.Exchange) *exchange.Refusal { reached = true; return ok(x) })(x)
		if (r != nil) != c.late || reached == c.late {
			t.Errorf("%s: refusal %v, reached %v", c.name, r, reached)
		}
		if c.late && !x.NoRetry {
			t.Errorf("%s: the client is not told that trying again is of no use", c.name)
		}
		var got time.Duration
		if !x.Deadline.IsZero() {
			got = x.Deadline.Sub(x.Start)
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestHopelessDeadline: a request that not even the quickest answer of late would have made in time goes to no endpoint.
func TestHopelessDeadline(t *testing.T) {
	try := newTryOut(&site.Route{Name: "all", Pool: "shop", Deadline: time.Hour, Retry: defaults()})
	pool := try.stages.retry.routes[0].pool
	pool.learn(&exchange.Result{Status: 200, Latency: 100 * time.Millisecond})
	ask := func() *exchange.Refusal {
		return try.serve(request(t, "GET / HTTP/1.1\nHost: a\nEvenkeel-Deadline: 50"))
	}
	if r := ask(); r != refuseLate || len(try.ends) != 0 {
		t.Errorf("refusal %v after %d attempts, want none to be made", r, len(try.ends))
	}
	for range 8 { // seconds
		pool.tick(time.Now())
	}
	if r := ask(); r != nil {
		t.Errorf("refusal %v, want that a pool may have become quicker", r)
	}
}

// TestReplay: bodies are kept that are short, as long as there is memory: ahead, or, of requests that may be repeated, as they pass when their length is not told or
// their client asks first.
func TestReplay(t *testing.T) {
	for name, c := range map[string]struct {
		head    string
		held    int64
		want    bool
		passing bool
	}{
		"short":           {head: "PUT / HTTP/1.1\nHost: a\nContent-Length: 1000", want: true},
		"the longest":     {head: "PUT / HTTP/1.1\nHost: a\nContent-Length: 65536", want: true},
		"long":            {head: "PUT / HTTP/1.1\nHost: a\nContent-Length: 65537"},
		"unknown":         {head: "PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked", passing: true},
		"unknown, a key":  {head: "POST / HTTP/1.1\nHost: a\nIdempotency-Key: x\nTransfer-Encoding: chunked", passing: true},
		"unknown, unsafe": {head: "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked"},
		"unknown, patch":  {head: "PATCH / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked"},
		"unknown, a call": {head: "POST /a.B/Get HTTP/1.1\nHost: a\nContent-Type: application/grpc\nTransfer-Encoding: chunked", want: true},
		"upgrades":        {head: "PUT / HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: x\nTransfer-Encoding: chunked"},
		"not repeatable":  {head: "POST / HTTP/1.1\nHost: a\nContent-Length: 1000", want: true},
		"asks, unsafe":    {head: "POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 1000"},
		"with a key":      {head: "POST / HTTP/1.1\nHost: a\nIdempotency-Key: x\nContent-Length: 1000", want: true},
		"asks first":      {head: "PUT / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 1000", passing: true},
		"asks, and long":  {head: "PUT / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 65537"},
		"no memory left":  {head: "PUT / HTTP/1.1\nHost: a\nContent-Length: 1000", held: replayMemory},
		"nearly no place": {head: "PUT / HTTP/1.1\nHost: a\nContent-Length: 20000", held: replayMemory - replaySmall},
	} {
		st := newStages(new(fakePool), &site.Route{Name: "all", Pool: "shop", Retry: defaults(), SafeCalls: []string{"/a.B/*"}})
		peeked, keeps := false, 0
		st.replay.peek = func(x *exchange.Exchange, n int) ([]byte, bool, error) {
			peeked, x.Replayable = true, true
			return nil, true, nil
		}
		st.replay.keep = func(_ *exchange.Exchange, most int, reserve func(int64) bool) {
			keeps++
			if most != 64<<10 || !reserve(replaySmall) {
				t.Errorf("%s: up to %d are kept, and there is no memory", name, most)
			}
			reserve(-replaySmall)
		}
		st.replay.unkeep = func(*exchange.Exchange) { keeps++ }
		st.replay.held.Store(c.held)
		x := request(t, c.head)
		x.Replayable = false
		if r := st.serveHTTP(ok)(x); r != nil {
			t.Errorf("%s: %v", name, r)
		}
		if peeked != c.want || (keeps == 2) != c.passing {
			t.Errorf("%s: read ahead %v, want %v; kept as it passes %v, want %v", name, peeked, c.want, keeps == 2, c.passing)
		}
		if got := st.replay.held.Load(); got != c.held {
			t.Errorf("%s: %d bytes are held afterwards, want %d", name, got, c.held)
		}
	}
}
