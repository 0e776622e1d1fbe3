package node

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// breakerBench is one route to one pool with a breaker, whose endpoints do as told.
type breakerBench struct {
	t    *testing.T
	n    *Node
	h    exchange.Handler
	does exchange.Result // what endpoints do
	asks atomic.Int32    // how often one was asked
	hold chan struct{}   // nil: answers come at once
	head string          // of requests
	ends exchange.Result // what the end of an answer says, if it has a status
}

func newBreakerBench(t *testing.T, mode string, stages ...exchange.Stage) *breakerBench {
	b := &breakerBench{t: t, does: exchange.Result{Status: 200}, head: "GET / HTTP/1.1\nHost: shop.example"}
	cfg := &site.Pool{Name: "shop", Breaker: site.Breaker{Mode: mode, Row: 20, RowFor: 2 * time.Second, Failures: 1, Samples: 50, Window: 10 * time.Second,
		Open: 500 * time.Millisecond, OpenMax: 1500 * time.Millisecond, RetryAfter: 10 * time.Second, Trials: 3}}
	b.n = &Node{log: slog.New(slog.DiscardHandler), site: &site.Site{Pools: map[string]*site.Pool{"shop": cfg}}, pools: map[string]*runningPool{"shop": {}}}
	list := []*poolBreaker{b.n.breaker("shop", cfg)}
	b.h = exchange.Chain(func(x *exchange.Exchange) *exchange.Refusal {
		b.asks.Add(1)
		x.Attempt, x.Result = 1, b.does
		if b.does.Kind != exchange.Answered {
			return &exchange.Refusal{Stage: "send", Reason: "broken", Status: 502}
		}
		x.Outcome = exchange.Outcome{Status: b.does.Status, Started: true, FirstByte: time.Since(x.Start)}
		if x.Held != nil {
			x.Held.Answered(x, false)
		}
		if b.hold != nil {
			<-b.hold
		}
		if b.ends.Status != 0 {
			x.Result = b.ends
		}
		return nil
	}, append([]exchange.Stage{&foresee{list}}, append(stages, &breaking{list})...)...)
	return b
}

// send sends one request, and says what refused it.
func (b *breakerBench) send() string {
	x := request(b.t, b.head)
	x.Route = &exchange.Route{}
	if r := b.h(x); r != nil {
		if r.Stage == "breaker" && x.RetryAfter < time.Second {
			b.t.Errorf("refused with Retry-After %v, want at least 1s", x.RetryAfter)
		}
		return r.Stage
	}
	return ""
}

// sends sends n requests, one every 100ms, and counts those that the breaker refused.
func (b *breakerBench) sends(n int) (refused int) {
	for range n {
		if b.send() == "breaker" {
			refused++
		}
		<-time.After(100 * time.Millisecond)
	}
	return refused
}

func (b *breakerBench) state() string { return b.n.viewBreaker("shop", time.Now()).State }

// A pool behind which everything fails is not asked but for trials, and is back within two seconds.
func TestPoolBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerBench(t, "on")
		b.sends(50)
		b.does = exchange.Result{Kind: exchange.ConnectFailed}
		if n := b.sends(20); n != 0 || b.state() != console.BreakerClosed {
			t.Fatalf("%d of the first 20 failures were refused, and it is %s", n, b.state())
		}
		b.sends(2) // the row has lasted 2s now
		if b.state() != console.BreakerOpen {
			t.Fatalf("it is %s, want open", b.state())
		}
		b.asks.Store(0)
		if refused, asks := b.sends(600), int(b.asks.Load()); asks > 60 || refused+asks != 600 {
			t.Errorf("%d requests reached the dead pool in a minute, want at most 60; %d were refused", asks, refused)
		}
		b.does = exchange.Result{Status: 200}
		b.sends(20)
		if b.state() != console.BreakerClosed || b.sends(100) != 0 {
			t.Errorf("2s after the pool is well the breaker is %s: %s", b.state(), b.n.viewBreaker("shop", time.Now()).Why)
		}
		kinds := map[string]int{}
		for _, e := range b.n.events.newest(eventLimit) {
			kinds[e.Kind]++
		}
		if kinds["breaker"] < 4 {
			t.Errorf("events %v, want each change", kinds)
		}
	})
}

// What a healthy pool does in bad times opens nothing: some failures, all of one kind of request, 429 to an eager caller, callers that leave.
func TestPoolBreakerHarmsNoHealthyPool(t *testing.T) {
	for name, bad := range map[string]exchange.Result{
		"failures":  {Status: 500},
		"unsent":    {Kind: exchange.Broken, Unsent: true},
		"pushback":  {Status: 503},
		"timeouts":  {Kind: exchange.TimedOut},
		"limited":   {Status: 429, RetryAfter: time.Hour},
		"cancelled": {Kind: exchange.Cancelled},
		"501":       {Status: 501},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBreakerBench(t, "on")
			for i := range 2000 {
				b.does = bad
				if i%19 == 0 && name != "limited" && name != "cancelled" && name != "501" { // of those three none need be good
					b.does = exchange.Result{Status: 200}
				}
				if b.send() == "breaker" {
					t.Fatalf("%s: request %d was refused: %s", name, i, b.n.viewBreaker("shop", time.Now()).Why)
				}
				<-time.After(100 * time.Millisecond)
			}
		})
	}
}

// A trial has gone well when its answer begins, and a Holder before it is still told.
func TestPoolBreakerTrialOfLongAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &countingHolder{}
		b := newBreakerBench(t, "on", told)
		if err := b.n.Break("shop", "", console.BreakerOpen, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if b.send() != "breaker" || b.asks.Load() != 0 {
			t.Fatal("a breaker held open let a request through")
		}
		<-time.After(time.Minute)
		b.hold = make(chan struct{})
		for range 3 {
			go b.send()
		}
		synctest.Wait()
		if asks, answered, inside := b.asks.Load(), told.answered.Load(), told.inside.Load(); asks != 3 || answered != 3 || inside != 0 || b.state() != console.BreakerClosed {
			t.Errorf("%d trials asked, %d answered, %d unanswered, and it is %s", asks, answered, inside, b.state())
		}
		close(b.hold)
	})
}

// A trial that is repeated has gone well when the answer of its last attempt begins.
func TestPoolBreakerTrialAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &countingHolder{}
		b := newBreakerBench(t, "on", told)
		if err := b.n.Break("shop", "", console.BreakerOpen, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		over := make(chan struct{})
		rules := &retrying{routes: []*retried{{rules: rulesOf(defaults()), pool: b.n.retriesOf("shop")}}, now: time.Now, sleep: func(d time.Duration) { <-time.After(d) },
			random: func() float64 { return 0.5 }, gone: func(*exchange.Exchange) bool { return false }}
		b.h = exchange.Chain(func(x *exchange.Exchange) *exchange.Refusal {
			x.Result = exchange.Result{Status: 503}
			if x.Attempt < 3 && x.Judge.Again(x) {
				return refuseTest
			}
			x.Result, x.Outcome = exchange.Result{Status: 200}, exchange.Outcome{Status: 200, Started: true}
			if x.Held != nil {
				x.Held.Answered(x, true)
			}
			<-over // a stream
			return nil
		}, told, &breaking{[]*poolBreaker{b.n.breakers["shop"]}}, rules)
		for range 3 {
			go b.send()
		}
		<-time.After(10 * time.Second)
		if b.state() != console.BreakerClosed || told.answered.Load() != 3 {
			t.Errorf("it is %s", b.state())
		}
		close(over)
	})
}

// A trial of gRPC counts by the code behind its answer, which for a call with one answer comes at once; a stream counts when it has begun.
func TestPoolBreakerTrialOfCall(t *testing.T) {
	down := exchange.Result{Status: 503, Code: 14}
	for name, c := range map[string]struct {
		lasts time.Duration   // from the head to the code
		ends  exchange.Result // what the code means
		want  string
	}{
		"fails":                     {ends: down, want: console.BreakerOpen},
		"fails, code a little late": {lasts: trialCode / 2, ends: down, want: console.BreakerOpen},
		"is about the call":         {ends: exchange.Result{Status: 200, Code: 5}, want: console.BreakerClosed},
		"well":                      {ends: exchange.Result{Status: 200}, want: console.BreakerClosed},
		"well, and long":            {lasts: time.Hour, ends: exchange.Result{Status: 200}, want: console.BreakerClosed},
		"fails after long":          {lasts: time.Hour, ends: down, want: console.BreakerClosed},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBreakerBench(t, "on")
			if err := b.n.Break("shop", "", console.BreakerOpen, time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			b.send()
			<-time.After(time.Minute)
			b.hold, b.ends = make(chan struct{}), c.ends
			b.head = "POST /shop.Catalogue/Get HTTP/1.1\nHost: shop.example\nContent-Type: application/grpc"
			for range 3 {
				go b.send()
			}
			synctest.Wait()
			if b.asks.Load() != 3 || b.state() == console.BreakerClosed {
				t.Errorf("%s: %d trials asked, and by their heads alone it is %s", name, b.asks.Load(), b.state())
			}
			if c.lasts > trialCode {
				<-time.After(trialCode)
				synctest.Wait()
				if b.state() != console.BreakerClosed {
					t.Errorf("%s: it is %s while streams go on, want closed", name, b.state())
				}
			}
			<-time.After(c.lasts)
			close(b.hold)
			synctest.Wait()
			if b.state() != c.want {
				t.Errorf("%s: it is %s, want %s: %s", name, b.state(), c.want, b.n.viewBreaker("shop", time.Now()).Why)
			}
		})
	}
}

// countingHolder is a stage that holds something for each exchange, as the shedder does.
type countingHolder struct{ answered, inside atomic.Int32 }

func (h *countingHolder) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	x.Held = h
	r := next.Do(x)
	if x.Held != nil {
		h.inside.Add(1)
	}
	return r
}

func (h *countingHolder) Answered(x *exchange.Exchange, _ bool) {
	x.Held = nil
	h.answered.Add(1)
}

func TestPoolBreakerByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerBench(t, "dry_run")
		until := time.Now().Add(10 * time.Minute)
		b.does = exchange.Result{Status: 500}
		b.sends(100)
		if v := b.n.viewBreaker("shop", time.Now()); v.State == console.BreakerClosed || v.Refused == 0 || b.asks.Load() != 100 {
			t.Errorf("a dry run is %s, would have refused %d, and %d of 100 were asked", v.State, v.Refused, b.asks.Load())
		}
		if err := b.n.Break("shop", "", console.BreakerOpen, until); err != nil {
			t.Fatal(err)
		}
		if n := b.sends(10); n != 10 {
			t.Errorf("%d of 10 were refused while it was held open in a dry run, want all", n)
		}
		if err := b.n.Break("shop", "", console.BreakerClosed, until); err != nil {
			t.Fatal(err)
		}
		if n := b.sends(100); n != 0 || !strings.Contains(b.n.viewBreaker("shop", time.Now()).Why, "closed by hand for") {
			t.Errorf("%d of 100 were refused while it was held closed: %+v", n, b.n.viewBreaker("shop", time.Now()))
		}
		<-time.After(10 * time.Minute)
		b.n.tickBreakers(time.Now())
		if e := b.n.events.newest(1)[0]; !strings.Contains(e.Text, "no longer held by hand") {
			t.Errorf("the last event is %q", e.Text)
		}
		if err := b.n.Break("nothing", "", console.BreakerOpen, until); err == nil {
			t.Error("a pool that is not there was held open")
		}
		if err := b.n.Break("shop", "10.0.0.1:80", console.BreakerOpen, until); err == nil {
			t.Error("an endpoint of a pool without breakers was held open")
		}
	})
}

// TestPoolBreakerOff: a breaker that is switched off while it is open refuses nobody any more, and an order by hand to be open ends without trials: each that failed
// opened it again, though off leaves it to people.
func TestPoolBreakerOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerBench(t, "on")
		b.does = exchange.Result{Status: 500}
		if b.sends(100); b.state() == console.BreakerClosed {
			t.Fatal("it is closed though everything fails")
		}
		off := *b.n.site.Pools["shop"]
		off.Breaker.Mode = site.ModeOff
		b.n.site.Pools["shop"] = &off
		if s := b.n.breaker("shop", &off).State(); s != breaker.Closed {
			t.Errorf("it is %v once it is switched off", s)
		}
		if n := b.sends(100); n != 0 {
			t.Errorf("%d of 100 were refused after it was switched off", n)
		}
		if err := b.n.Break("shop", "", console.BreakerOpen, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if n := b.sends(100); n != 10 {
			t.Errorf("%d of 100 were refused, want the 10 of the second for which it was held open", n)
		}
	})
}

func TestPoolBreakerAllocatesNothing(t *testing.T) {
	b := newBreakerBench(t, "on")
	x := request(t, "GET / HTTP/1.1\nHost: shop.example")
	r, route := x.Request, &exchange.Route{}
	send := func() {
		x.Request, x.Route = r, route
		b.h(x)
		x.Reset()
	}
	closed := testing.AllocsPerRun(500, send)
	if err := b.n.Break("shop", "", console.BreakerOpen, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if open := testing.AllocsPerRun(500, send); closed != 0 || open != 0 {
		t.Errorf("%v allocations while closed, %v while open", closed, open)
	}
}
