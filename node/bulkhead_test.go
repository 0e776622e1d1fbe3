package node

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// bulkBench sends requests through the bulkheads of a site to endpoints that hang until told.
type bulkBench struct {
	t     *testing.T
	h     hull
	run   exchange.Handler
	does  func(x *exchange.Exchange)
	asked atomic.Int64
}

func newBulkBench(t *testing.T, s *site.Site) *bulkBench {
	b := &bulkBench{t: t, does: func(*exchange.Exchange) {}}
	b.h.update(s, 1<<20)
	b.build(s)
	return b
}

func (b *bulkBench) build(s *site.Site) {
	st := &bulkheads{}
	for i := range s.Routes {
		st.routes = append(st.routes, b.h.berths(s, i, s.Routes[i].Pool))
	}
	b.run = exchange.Chain(func(x *exchange.Exchange) *exchange.Refusal {
		b.asked.Add(1)
		b.does(x)
		return nil
	}, st)
}

// send sends one request on route i, and says why it was refused.
func (b *bulkBench) send(i int, change ...func(*exchange.Exchange)) string {
	x := &exchange.Exchange{Route: &exchange.Route{Index: i}, IP: netip.MustParseAddr("192.0.2.1"), Start: time.Now()}
	for _, f := range change {
		f(x)
	}
	if r := b.run(x); r != nil {
		return r.Reason
	}
	if x.Berth.Has&hasAll != 0 {
		b.t.Errorf("an exchange that has ended still has places %b", x.Berth.Has)
	}
	return ""
}

func (b *bulkBench) used(pool string) int { return b.h.pools.Part(pool).Status().Used }

func twoPools(places int) *site.Site {
	return &site.Site{
		Bulkhead: site.Bulkheads{Mode: site.ModeOn, Concurrency: places},
		Pools:    map[string]*site.Pool{"hung": {Name: "hung"}, "well": {Name: "well"}},
		Routes:   []*site.Route{{Name: "hung", Pool: "hung"}, {Name: "well", Pool: "well"}},
	}
}

// A pool that hangs takes its most and no more; beside it the other goes on, and when it wakes up nothing is left over.
func TestBulkheadHungPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkBench(t, twoPools(1000))
		wake := make(chan struct{})
		b.does = func(x *exchange.Exchange) {
			if x.Route.Index == 0 {
				<-wake
			}
		}
		reasons := map[string]int{}
		ended := make(chan string)
		for range 3000 {
			go func() { ended <- b.send(0) }()
		}
		for range 2200 {
			reasons[<-ended]++
		}
		synctest.Wait()
		if reasons["pool_full"] != 2200 || b.used("hung") != 800 {
			t.Errorf("%v were refused and %d hang, want 2200 and 800", reasons, b.used("hung"))
		}
		for range 1000 {
			if r := b.send(1); r != "" {
				t.Fatalf("a request of the healthy pool was refused: %s", r)
			}
		}
		close(wake)
		for range 800 {
			if r := <-ended; r != "" {
				t.Errorf("one that hung ended with %s", r)
			}
		}
		if b.used("hung")+b.used("well") != 0 {
			t.Errorf("%d and %d places are left over", b.used("hung"), b.used("well"))
		}
		v := b.h.view("hung")
		if v.Refused != 2200 || v.Parts[0].Refused != 2200 || v.Parts[0].Most != 800 {
			t.Errorf("shown is %+v", v)
		}
	})
}

// A pool that only stands in counts as any other: what goes there when others fail is bounded, so that it cannot take all places by hanging too; and
// while it is idle its part is lent, so that it costs those others nothing.
func TestBulkheadOfAStandIn(t *testing.T) {
	s := twoPools(1000)
	s.Pools["spare"] = &site.Pool{Name: "spare"}
	s.Routes[0].Fallback = &site.Fallback{Pool: "spare"}
	synctest.Test(t, func(t *testing.T) {
		b := newBulkBench(t, s)
		wake := make(chan struct{})
		b.does = func(x *exchange.Exchange) {
			if x.Route.Index != 1 {
				<-wake
			}
		}
		ended := make(chan string, 3000)
		flood := func(most int, pool string) {
			for range 1000 {
				go func() { ended <- b.send(0) }()
			}
			synctest.Wait()
			if used := b.used(pool); used != most {
				t.Errorf("%s has %d of 1000 places, want %d", pool, used, most)
			}
			for range 100 {
				if r := b.send(1); r != "" {
					t.Fatalf("a request of the healthy pool was refused: %s", r)
				}
			}
		}
		b.h.tick(time.Now().Add(time.Minute), func(string) int { return 0 }) // what is idle is lent
		flood(800, "hung")
		close(wake)
		synctest.Wait()
		wake = make(chan struct{})
		b.run = exchange.Chain(func(x *exchange.Exchange) *exchange.Refusal { b.does(x); return nil },
			&bulkheads{routes: []*berths{b.h.berths(s, 0, "spare"), b.h.berths(s, 1, "well")}})
		flood(800, "spare")
		close(wake)
		synctest.Wait()
		if b.used("hung")+b.used("well")+b.used("spare") != 0 {
			t.Error("places are left over")
		}
	})
}

// Shares of routes, classes and customers are given back as the answer begins, the pool's place at the end.
func TestBulkheadShares(t *testing.T) {
	s := twoPools(100)
	s.Pools["well"].Bulkhead = site.PoolBulkhead{Concurrency: 40, Critical: 0.25, Customer: 0.1}
	s.Routes = append(s.Routes, &site.Route{Name: "reports", Pool: "well", Bulkhead: &site.RouteBulkhead{Most: 0.25, Share: 0.1}})
	synctest.Test(t, func(t *testing.T) {
		b := newBulkBench(t, s)
		answer, end := make(chan struct{}), make(chan struct{})
		b.does = func(x *exchange.Exchange) {
			<-answer
			if x.Held != nil {
				x.Held.Answered(x, true)
			}
			<-end
		}
		reasons := map[string]int{}
		ended := make(chan string, 500)
		burst := func(n, route int, change func(int, *exchange.Exchange)) {
			for i := range n {
				go func() { ended <- b.send(route, func(x *exchange.Exchange) { change(i, x) }) }()
				synctest.Wait() // two that come at once may both be refused the last place
			}
			clear(reasons)
			for range len(ended) {
				reasons[<-ended]++
			}
		}
		someone := func(i int, x *exchange.Exchange) { x.Customer = []byte{byte(i), byte(i >> 8), 1} }
		if burst(20, 2, someone); reasons["route_full"] != 10 {
			t.Errorf("of 20 reports %v were refused, want 10: a quarter of 40 places", reasons)
		}
		if burst(100, 1, func(_ int, x *exchange.Exchange) { x.Customer = []byte("greedy") }); reasons["customer_full"] != 85 {
			t.Errorf("of 100 of one customer %v were refused, want all but half of the 30 idle places", reasons)
		}
		if burst(100, 1, someone); reasons["class_full"] != 95 {
			t.Errorf("of 100 standard ones %v were refused, want all but 5: a quarter is kept for critical ones", reasons)
		}
		if burst(100, 1, func(i int, x *exchange.Exchange) { someone(i, x); x.Class = exchange.Critical }); reasons["pool_full"] != 90 {
			t.Errorf("of 100 critical ones %v were refused, want all but the 10 that are kept", reasons)
		}
		close(answer)
		synctest.Wait()
		in := b.h.inside["well"]
		if n := in.parts[ofRoutes].Idle(); n != 40 || in.customers.Used() != 0 || b.used("well") != 40 {
			t.Errorf("as answers began, %d of 40 route places are idle, customers hold %d and the pool %d; want 40, 0, 40", n, in.customers.Used(), b.used("well"))
		}
		close(end)
		synctest.Wait()
		if b.used("well") != 0 {
			t.Errorf("%d places are left over", b.used("well"))
		}
	})
}

func TestBulkheadAnsweredTellsWhoHeldBefore(t *testing.T) {
	s := twoPools(100)
	b := newBulkBench(t, s)
	before := &countingHolder{}
	inner := b.run
	b.run = exchange.Chain(inner, before)
	b.does = func(x *exchange.Exchange) {}
	b.send(1)
	if before.inside.Load() != 1 {
		t.Error("without an answer the holder before was not left in place")
	}
	b.does = func(x *exchange.Exchange) {
		x.Result.Status = 101
		x.Held.Answered(x, true)
		if b.used("well") != 0 {
			t.Error("an upgraded connection still has a place")
		}
	}
	b.send(1)
	if before.answered.Load() != 1 {
		t.Errorf("the holder before was told %d times of the answer, want once", before.answered.Load())
	}
	func() {
		defer func() { _ = recover() }()
		b.does = func(*exchange.Exchange) { panic("endpoint") }
		b.send(1)
	}()
	if b.used("well") != 0 {
		t.Errorf("after a panic %d places are left over", b.used("well"))
	}
}

// A site with one pool parts nothing, and one in dry run refuses nothing; the shedder's limit is what routes share.
func TestBulkheadModes(t *testing.T) {
	s := twoPools(0)
	s.Routes = s.Routes[:1]
	b := newBulkBench(t, s)
	if b.h.berths(s, 0, s.Routes[0].Pool) != nil {
		t.Error("the only pool has a bulkhead")
	}
	s = twoPools(2)
	s.Bulkhead.Mode = site.ModeDryRun
	b = newBulkBench(t, s)
	b.does = func(*exchange.Exchange) {
		if b.asked.Load() < 10 {
			if r := b.send(0); r != "" {
				t.Errorf("a dry run refused: %s", r)
			}
		}
	}
	b.send(0)
	if v := b.h.view("hung"); b.asked.Load() != 10 || v.Refused == 0 || !v.DryRun {
		t.Errorf("%d asked, shown is %+v", b.asked.Load(), v)
	}
	s = twoPools(1000)
	s.Routes[1].Bulkhead = &site.RouteBulkhead{Share: 0.2, Most: 0.5}
	b = newBulkBench(t, s)
	b.h.tick(time.Now(), func(string) int { return 40 })
	if p := b.h.inside["well"].parts[ofRoutes].Part("well").Status(); p.Most != 20 || p.Due != 8 {
		t.Errorf("with 40 requests at once found right, the route gets %+v, want 8 to 20", p)
	}
	s.Bulkhead.Mode = site.ModeOff
	b.h.update(s, 1<<20)
	if b.h.berths(s, 1, s.Routes[1].Pool) != nil || b.h.view("well") != nil {
		t.Error("a bulkhead that is off has places")
	}
}

func TestFlightPlaces(t *testing.T) {
	s := &site.Site{Listeners: map[string]*site.Listener{
		"a": {Protocol: site.ProtocolHTTP, Limits: site.Limits{Connections: 30}},
		"b": {Protocol: site.ProtocolHTTP, Limits: site.Limits{Connections: 20}}, "c": {Protocol: site.ProtocolTCP, Limits: site.Limits{Connections: 1000}}}}
	if n := flightPlaces(s, 1<<20); n != 50 {
		t.Errorf("%d places, want one for each connection of an http listener", n)
	}
	if n := flightPlaces(s, 7); n != 7 {
		t.Errorf("%d places, want what memory allows", n)
	}
}

func TestBulkheadAllocatesNothing(t *testing.T) {
	s := twoPools(100)
	s.Pools["well"].Bulkhead = site.PoolBulkhead{Critical: 0.25, Customer: 0.5}
	b := newBulkBench(t, s)
	b.does = func(x *exchange.Exchange) { x.Held.Answered(x, false) }
	x, route := &exchange.Exchange{}, &exchange.Route{Index: 1}
	customer := []byte("someone")
	if n := testing.AllocsPerRun(500, func() {
		x.Route, x.Customer = route, customer
		if r := b.run(x); r != nil {
			t.Fatal(r)
		}
		x.Reset()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Places that went back with an answer that is thrown away are asked for again before the next attempt, which is refused when others have them.
func TestBulkheadRetry(t *testing.T) {
	for _, c := range []struct {
		name  string
		mode  string
		taken bool // by another request, while this one waits for its second attempt
		want  string
		asked int
	}{
		{"free", site.ModeOn, false, "", 2},
		{"taken", site.ModeOn, true, "route_full", 1},
		{"dry run", site.ModeDryRun, true, "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := twoPools(100)
			s.Bulkhead.Mode = c.mode
			s.Routes[1].Retry, s.Routes[1].Bulkhead = defaults(), &site.RouteBulkhead{Concurrency: 1}
			b := newBulkBench(t, s)
			of := b.h.berths(s, 1, "well")
			used := func() int { return of.route.Status().Used }
			other, asked := &exchange.Exchange{Route: &exchange.Route{Index: 1}}, 0
			rules := &retried{rules: rulesOf(s.Routes[1].Retry), pool: newRetries("well", time.Now(), nil), berths: of}
			try := &retrying{routes: []*retried{nil, rules}, now: time.Now, random: func() float64 { return 0.5 }, gone: func(*exchange.Exchange) bool { return false }}
			try.sleep = func(time.Duration) {
				if c.taken && other.Berth.Has == 0 {
					if r := of.enter(other); r != nil {
						t.Fatalf("the place of an attempt that was answered is taken: %s", r.Reason)
					}
				}
			}
			h := exchange.Chain(func(x *exchange.Exchange) *exchange.Refusal {
				if asked++; used() != 1 {
					t.Errorf("attempt %d is made with %d places taken, want 1", asked, used())
				}
				if asked == 1 {
					x.Result = exchange.Result{Status: 503, Latency: time.Millisecond}
					if !x.Judge.Again(x) {
						t.Error("503 is not tried again")
					}
					return refuseTest
				}
				x.Result = exchange.Result{Status: 200, Latency: time.Millisecond}
				return nil
			}, &bulkheads{[]*berths{nil, of}}, try)
			x := request(t, "GET / HTTP/1.1\nHost: a")
			x.Route, x.Replayable = &exchange.Route{Index: 1}, true
			reason := ""
			if r := h(x); r != nil {
				reason = r.Reason
			}
			of.leave(other, hasAll)
			if reason != c.want || asked != c.asked || x.Held != nil || x.Berth.Has != 0 || used() != 0 || b.used("well") != 0 {
				t.Errorf("%q after %d attempts, want %q after %d; %b is held, %d and %d places are left over", reason, asked, c.want, c.asked, x.Berth.Has, used(), b.used("well"))
			}
		})
	}
}
