package node

import (
	"testing"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// TestHedgeLearns: the time follows the route's answers of late, and is not known before there are enough.
func TestHedgeLearns(t *testing.T) {
	n := &Node{tallies: newTallies()}
	h := n.hedgingOf("search", &site.Hedge{After: "p95"})
	counter := n.tallies.get("web", "search")
	answer := func(count int, took time.Duration) {
		for range count {
			counter.shard(0).count(&exchange.Exchange{Outcome: exchange.Outcome{Status: 200}}, 200, false, took)
		}
	}
	near := func(want time.Duration) bool {
		got := time.Duration(h.After.Load())
		return got > want*9/10 && got < want*11/10
	}
	answer(50, 10*time.Millisecond)
	if n.learnHedges(); h.After.Load() != 0 {
		t.Errorf("after 50 answers it hedges after %v", time.Duration(h.After.Load()))
	}
	answer(900, 10*time.Millisecond)
	answer(100, 200*time.Millisecond)
	if n.learnHedges(); !near(200 * time.Millisecond) {
		t.Errorf("with a tenth of answers after 200ms it hedges after %v", time.Duration(h.After.Load()))
	}
	for range 60 { // seconds
		answer(1000, 5*time.Millisecond)
		n.learnHedges()
	}
	if !near(5 * time.Millisecond) {
		t.Errorf("a minute later it hedges after %v, want about 5ms", time.Duration(h.After.Load()))
	}
	if same := n.hedgingOf("search", &site.Hedge{After: "50ms"}); same != h || h.After.Load() != int64(50*time.Millisecond) {
		t.Errorf("a reload to 50ms hedges after %v", time.Duration(h.After.Load()))
	}
	if n.hedgingOf("search", nil) != nil || len(n.hedges) != 0 {
		t.Error("a route that hedges no more is remembered")
	}
}

// TestHedgeIsBounded: by the budget, by overload, by whether there is another endpoint, and not for repeats of the sender.
func TestHedgeIsBounded(t *testing.T) {
	hedge := func(head string, change func(x *exchange.Exchange)) bool {
		p := &fakePool{}
		st := newStages(p, &site.Route{Name: "all", Pool: "shop", Retry: defaults()})
		x := request(t, head)
		asked, said := false, false
		st.serveHTTP(func(x *exchange.Exchange) *exchange.Refusal {
			if change != nil {
				change(x)
			}
			second := *x
			asked, said = true, x.Judge.Hedge(&second)
			if said && second.Endpoint == x.Endpoint {
				t.Error("the second attempt goes to the endpoint of the first")
			}
			return ok(x)
		})(x)
		return asked && said
	}
	const plain = "GET / HTTP/1.1\nHost: a"
	if !hedge(plain, nil) {
		t.Error("a plain request is not hedged")
	}
	if hedge(plain+"\nEvenkeel-Attempt: 2", nil) {
		t.Error("a repeat of the sender is hedged")
	}
	if hedge(plain, func(x *exchange.Exchange) { x.Route.Overloaded = func() bool { return true } }) {
		t.Error("a request to an overloaded pool is hedged")
	}
	once := func(x *exchange.Exchange) {
		x.Endpoint.Insure.Store(int64(time.Millisecond))
		x.Judge.(*retrying).routes[0].rules.Attempts = 1
	}
	if hedge(plain, once) {
		t.Error("a request that may be tried once is hedged")
	}
	if hedge(plain, func(x *exchange.Exchange) {
		for range 10 {
			x.Judge.(*retrying).routes[0].pool.budget.Take(time.Now())
		}
	}) {
		t.Error("a request is hedged without budget")
	}
	if !hedge(plain+"\nEvenkeel-Attempt: 2", func(x *exchange.Exchange) {
		x.Endpoint.Insure.Store(int64(time.Millisecond))
		x.Route.Overloaded = func() bool { return true }
		for range 10 {
			x.Judge.(*retrying).routes[0].pool.budget.Take(time.Now())
		}
	}) {
		t.Error("who tries out an endpoint is not insured during an overload without budget")
	}
	if got := retry.Hedge.String(); got != "hedge" {
		t.Errorf("hedges are called %q", got)
	}
}
