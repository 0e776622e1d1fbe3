package shed

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

var on = Settings{Shed: site.Shed{Mode: modeOn, ReserveLow: 0.01, ReserveStd: 0.04, SwitchLow: true, Fair: site.ByCustomer}}

func newExchange(class exchange.Class) *exchange.Exchange {
	return &exchange.Exchange{Class: class, Start: time.Now(), Replayable: true, IP: netip.MustParseAddr("192.0.2.1"),
		Request: &wire.Request{}, Endpoint: &exchange.Endpoint{}}
}

// known makes a gate that has found out what its endpoint can do.
func known(cfg Settings, deps Deps, places int, service time.Duration) *Gate {
	g := New("shop", cfg, deps)
	g.mu.Lock()
	g.core.Told(float64(places), service.Seconds())
	g.publish(g.now())
	g.mu.Unlock()
	return g
}

// answer is the rest of the way of an exchange whose endpoint takes some time.
func answer(took time.Duration) *exchange.Next {
	return exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		began := time.Now()
		<-time.After(took)
		x.Result = exchange.Result{Status: 200, Latency: time.Since(began)}
		x.Outcome = exchange.Outcome{Status: 200, Started: true, FirstByte: time.Since(x.Start)}
		x.Held.Answered(x, false)
		return nil
	})
}

// How many may be inside, and who is one client, follow the settings; connections bound exchanges only when those are told.
func TestGateFollowsSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := on
		few.Fair, few.Connections = site.ByIP, 2
		shared := false
		g := known(few, Deps{Endpoints: func() int { return 3 }, Shared: func() bool { return shared }}, 100, 50*time.Millisecond)
		g.core.knee.hold = 0
		one, other := newExchange(exchange.Standard), newExchange(exchange.Standard)
		one.IP, other.IP = netip.MustParseAddr("2001:db8:0:1::1"), netip.MustParseAddr("2001:db8:0:2::1")
		for _, c := range []struct {
			connections, max, ipv6, limit int
			same                          bool
		}{{2, 0, 0, 6, false}, {20, 0, 0, 60, false}, {0, 0, 48, 140, true}, {1, 0, 64, 3, false}, {1, 90, 56, 90, true}} {
			set := few
			set.Connections, set.Max, set.IPv6 = c.connections, c.max, c.ipv6
			g.Update(set)
			g.mu.Lock()
			limit := g.core.Limit()
			g.mu.Unlock()
			if limit < 140 && c.max == 0 { // where each carries many exchanges, they bound none
				shared = true
				g.Update(set)
				if g.core.Limit() != 140 {
					t.Errorf("%+v: with shared connections the limit is %d", c, g.core.Limit())
				}
				shared = false
			}
			if s := g.set.Load(); limit != c.limit || (s.tenant(one) == s.tenant(other)) != c.same {
				t.Errorf("%+v: the limit is %d, one client: %v", c, limit, s.tenant(one) == s.tenant(other))
			}
		}
	})
}

// Who waits gets in when a reload gives room, and when it ends refusing, whether or not anything is answered.
func TestGateAdmitsAfterUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := on
		one.Max = 1
		g := known(one, Deps{}, 10, 100*time.Millisecond)
		g.core.knee.hold = 0
		for range 8 {
			go g.Serve(newExchange(exchange.Standard), answer(10*time.Second))
		}
		inside := func(want int) {
			t.Helper()
			if synctest.Wait(); g.inFlight.Load() != int64(want) {
				t.Errorf("%d are inside, want %d", g.inFlight.Load(), want)
			}
		}
		inside(1)
		three, dry := one, one
		three.Max, dry.Mode = 3, site.ModeDryRun
		g.Update(three)
		inside(3)
		g.Update(dry)
		inside(8)
		go g.Serve(newExchange(exchange.Standard), answer(time.Second))
		g.Update(Settings{Shed: site.Shed{Mode: site.ModeOff}})
		go g.Serve(newExchange(exchange.Standard), answer(time.Second))
		inside(10)
		if s := g.Status(); s.Classes[1].Refused != 0 || s.Waiting != 0 {
			t.Errorf("in the end %+v", s)
		}
		<-time.After(20 * time.Second)
	})
}

func TestGateOutlivesAPanic(t *testing.T) {
	g := New("shop", on, Deps{})
	for range 5 {
		func() {
			defer func() { _ = recover() }()
			g.Serve(newExchange(exchange.Standard), exchange.Then(func(*exchange.Exchange) *exchange.Refusal { panic("a later stage") }))
		}()
	}
	if n := g.Status().InFlight; n != 0 {
		t.Errorf("%d places are kept by exchanges that panicked", n)
	}
}

func TestGateAllocatesNothing(t *testing.T) {
	g := New("shop", on, Deps{})
	x := newExchange(exchange.Standard)
	next := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		x.Result = exchange.Result{Status: 200, Latency: time.Millisecond}
		x.Held.Answered(x, false)
		return nil
	})
	if n := testing.AllocsPerRun(2000, func() { g.Serve(x, next) }); n != 0 {
		t.Errorf("%v allocations for an admitted exchange", n)
	}
	g.Switch(exchange.Low, time.Now().Add(time.Hour))
	x.Class = exchange.Low
	if n := testing.AllocsPerRun(2000, func() {
		if r := g.Serve(x, next); r != refuseOff {
			t.Fatal(r)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a refusal", n)
	}
}

func TestGateQueuesThenRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 10, 50*time.Millisecond)
		refusals := make(chan *exchange.Refusal, 200)
		for range 200 {
			go func() { refusals <- g.Serve(newExchange(exchange.Standard), answer(50*time.Millisecond)) }()
		}
		synctest.Wait()
		s := g.Status()
		if s.InFlight != int(s.Limit) || s.Waiting != 100 { // half a second's work
			t.Errorf("with 200 at once %d are in flight of %v, %d wait", s.InFlight, s.Limit, s.Waiting)
		}
		refused := 0
		for range 200 {
			if r := <-refusals; r != nil {
				refused++
			}
		}
		s = g.Status()
		if got := s.Classes[1]; got.Refused != uint64(refused) || got.Admitted != uint64(200-refused) || got.Demand != 200 {
			t.Errorf("%d were refused; counted %+v", refused, got)
		}
		if s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("in the end %d are in flight, %d wait", s.InFlight, s.Waiting)
		}
	})
}

// An overload ends though nobody comes any more who would look.
func TestGateIsCalmWhenNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 10, 50*time.Millisecond)
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() { g.Serve(newExchange(exchange.Standard), answer(50*time.Millisecond)) })
		}
		synctest.Wait()
		<-time.After(200 * time.Millisecond)
		if !g.Overloaded() {
			t.Error("with 200 at once before ten places: not overloaded")
		}
		all.Wait()
		<-time.After(time.Hour)
		if g.Overloaded() {
			t.Error("overloaded still after a quiet hour")
		}
	})
}

func TestGateGivesCriticalTheNextPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 10, 20*time.Millisecond)
		order := make(chan exchange.Class, 300)
		serve := func(class exchange.Class) {
			if g.Serve(newExchange(class), answer(20*time.Millisecond)) == nil {
				order <- class
			} else if class == exchange.Critical {
				t.Error("a critical exchange was refused")
			}
		}
		for range 100 {
			go serve(exchange.Standard)
		}
		synctest.Wait()
		go serve(exchange.Critical)
		synctest.Wait()
		const limit = 14
		at := -1
		for i := range 3 * limit {
			if <-order == exchange.Critical {
				at = i
				break
			}
		}
		if at < 0 {
			t.Errorf("the critical exchange came after %d others", 3*limit)
		}
		<-time.After(time.Second)
	})
}

// TestGateLetsCriticalPass: 60 are inside as the limit falls to 14, and one of them is answered each 10 ms. Nobody would be let in for almost half a second; a critical request is after 50 ms, half of what the work takes.
func TestGateLetsCriticalPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 60, 100*time.Millisecond)
		for i := range 60 {
			go g.Serve(newExchange(exchange.Standard), answer(time.Duration(i+1)*10*time.Millisecond))
		}
		synctest.Wait()
		g.mu.Lock()
		g.core.Told(10, 0.1)
		g.publish(g.now())
		g.mu.Unlock()
		began := time.Now()
		waits := func(class exchange.Class) (entered chan time.Duration) {
			entered = make(chan time.Duration, 1)
			go g.Serve(newExchange(class), exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
				entered <- time.Since(began)
				return answer(10 * time.Millisecond).Do(x)
			}))
			return entered
		}
		standard, critical := waits(exchange.Standard), waits(exchange.Critical)
		if got := <-critical; got < 50*time.Millisecond || got > 80*time.Millisecond {
			t.Errorf("the critical one entered after %v", got)
		}
		if n := g.Status().InFlight; n < 50 || n > 60 {
			t.Errorf("%d are in flight", n)
		}
		if got := <-standard; got < 300*time.Millisecond {
			t.Errorf("the standard one entered after %v", got)
		}
		<-time.After(time.Second)
	})
}

func TestGateKeepsThePlaceOfWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New("shop", on, Deps{})
		for range 100 {
			g.Serve(newExchange(exchange.Standard), answer(100*time.Millisecond))
		}
		g.Serve(newExchange(exchange.Standard), exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			x.Result = exchange.Result{Kind: exchange.Cancelled}
			return nil
		}))
		if n := g.Status().InFlight; n != 1 {
			t.Errorf("%d in flight right after a client left, want 1: the endpoint still works", n)
		}
		<-time.After(time.Second)
		if n := g.Status().InFlight; n != 0 {
			t.Errorf("%d in flight long after, though nobody came meanwhile, want 0", n)
		}
	})
}

// Who waits for the place of a client that left has it when the work for that one should be done, though nobody else comes.
func TestGateGivesAwayThePlaceOfWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(Settings{Shed: site.Shed{Mode: modeOn, Max: 1}}, Deps{}, 1, 100*time.Millisecond)
		g.Serve(newExchange(exchange.Standard), exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			<-time.After(60 * time.Millisecond)
			x.Result = exchange.Result{Kind: exchange.Cancelled}
			return nil
		}))
		x := newExchange(exchange.Standard)
		x.Deadline = x.Start.Add(300 * time.Millisecond)
		if r := g.Serve(x, answer(10*time.Millisecond)); r != nil {
			t.Fatalf("refused: %s", r.Reason)
		}
		if took := time.Since(x.Start); took < 50*time.Millisecond || took > 110*time.Millisecond {
			t.Errorf("answered after %v, want 10ms after the work that was left", took)
		}
	})
}

// Eight are inside as a dip begins, and four come after them.
func TestGateTellsWhoWasInsideBeforeADip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 8, time.Second)
		serve := func(n int, took time.Duration) {
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() { g.Serve(newExchange(exchange.Standard), answer(took)) })
			}
			wg.Wait()
		}
		go func() {
			<-time.After(100 * time.Millisecond)
			g.mu.Lock()
			defer g.mu.Unlock()
			g.nextLook.Store(0)
			g.lookLocked(g.now())
			g.core.knee.dip = 4
			g.core.knee.dips++
			g.publish(g.now())
			g.nextLook.Store(int64(time.Hour)) // what is counted stays to be seen
		}()
		serve(8, time.Second)
		serve(4, 500*time.Millisecond)
		if n, area := g.toOld.Load(), time.Duration(g.oldArea.Load()); n != 8 || area != 8*900*time.Millisecond || g.old.Load() != 0 {
			t.Errorf("%d answers to those from before, inside for %v since then, %d still are; want 8, 7.2s, 0", n, area, g.old.Load())
		}
		answers, area := uint64(0), time.Duration(0)
		for i := range g.shards {
			answers, area = answers+g.shards[i].answers.Load(), area+time.Duration(g.shards[i].area.Load())
		}
		if answers != 12 || area != 9200*time.Millisecond {
			t.Errorf("%d answers, inside for %v, all together; want 12, 9.2s", answers, area)
		}
	})
}

func TestGateDryRunRefusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dry := on
		dry.Mode = site.ModeDryRun
		g := known(dry, Deps{}, 10, 50*time.Millisecond)
		done := make(chan *exchange.Refusal, 200)
		for range 200 {
			go func() { done <- g.Serve(newExchange(exchange.Standard), answer(50*time.Millisecond)) }()
		}
		for range 200 {
			if r := <-done; r != nil {
				t.Fatal(r)
			}
		}
		if s := g.Status().Classes[1]; s.WouldRefuse == 0 || s.Refused != 0 {
			t.Errorf("counted %+v", s)
		}
	})
}

func TestGateSwitchesByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New("shop", on, Deps{})
		if g.Switch(exchange.Critical, time.Now().Add(time.Minute)) {
			t.Error("critical requests were switched off")
		}
		g.Switch(exchange.Low, time.Now().Add(time.Minute))
		for range 20 { // a retry before the end cannot succeed
			x := newExchange(exchange.Low)
			if r := g.Serve(x, answer(0)); r != refuseOff || x.RetryAfter < time.Minute || x.RetryAfter > 75*time.Second {
				t.Errorf("refusal %v, retry after %v", r, x.RetryAfter)
			}
		}
		<-time.After(2 * time.Minute)
		if r := g.Serve(newExchange(exchange.Low), answer(0)); r != nil {
			t.Errorf("after its time: %v", r)
		}
		g.Switch(exchange.Low, time.Now().Add(3*time.Second)) // minutes of calm are no overload that goes on for as long
		x := newExchange(exchange.Low)
		if r := g.Serve(x, answer(0)); r != refuseOff || x.RetryAfter < 3*time.Second || x.RetryAfter > 4*time.Second {
			t.Errorf("for 3s: refusal %v, retry after %v", r, x.RetryAfter)
		}
	})
}

func TestGateAsksWhetherTheClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{Gone: func(*exchange.Exchange) bool { return true }}, 5, 20*time.Millisecond)
		gone, done := 0, make(chan *exchange.Refusal, 40)
		for range 20 {
			go func() { done <- g.Serve(newExchange(exchange.Standard), answer(20*time.Millisecond)) }()
		}
		for range 20 {
			if <-done == refuseGone {
				gone++
			}
		}
		if gone == 0 || g.Status().InFlight != 0 {
			t.Errorf("%d were found gone, %d in flight", gone, g.Status().InFlight)
		}
	})
}

func BenchmarkGateAdmits(b *testing.B) {
	g := New("shop", on, Deps{})
	x := newExchange(exchange.Standard)
	next := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		x.Result.Status, x.Result.Latency = 200, time.Millisecond
		x.Held.Answered(x, false)
		return nil
	})
	for b.Loop() {
		g.Serve(x, next)
	}
}

func BenchmarkGateRefuses(b *testing.B) {
	g := New("shop", on, Deps{})
	g.core.Told(1, 100)
	g.limit.Store(0)
	g.inFlight.Store(1000)
	g.nextLook.Store(1 << 62)
	for range g.core.bound() {
		g.core.queue.Push(&Waiter{Class: exchange.Critical}, 0)
	}
	g.waiting.Store(10)
	x := newExchange(exchange.Standard)
	for b.Loop() {
		if g.enter(x) == nil {
			b.Fatal("admitted")
		}
	}
}

// TestGateLetsCallersWait: as many callers as there may ever be, who each wait for an answer before they ask again, are no overload while they need
// not wait for long.
func TestGateLetsCallersWait(t *testing.T) {
	for name, c := range map[string]struct {
		callers, places int
		service         time.Duration
		inside          bool // all of them are let in: the endpoint is so quick that they wait no time that matters there, and waiting here costs more
	}{
		"of a quick server":      {150, 2, time.Millisecond, false},
		"of a very quick server": {400, 1, 100 * time.Microsecond, true},
		"of a slower server":     {150, 2, 5 * time.Millisecond, false},
		"of many places":         {300, 64, 50 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New("shop", on, Deps{})
				free := make(chan bool, c.places)
				for range c.places {
					free <- true
				}
				endpoint := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
					began := time.Now()
					<-free
					<-time.After(c.service)
					free <- true
					x.Result = exchange.Result{Status: 200, Latency: time.Since(began)}
					x.Outcome = exchange.Outcome{Status: 200, Started: true, FirstByte: time.Since(x.Start)}
					x.Held.Answered(x, false)
					return nil
				})
				end := time.Now().Add(10 * time.Second)
				var all sync.WaitGroup
				var refused atomic.Int64
				for range c.callers {
					all.Go(func() {
						for time.Now().Before(end) {
							if g.Serve(newExchange(exchange.Standard), endpoint) != nil {
								refused.Add(1)
								<-time.After(time.Second)
							}
						}
					})
				}
				all.Wait()
				if n := refused.Load(); n > 0 {
					s := g.Status()
					t.Errorf("%d were refused; the limit is %v, service %.1f ms", n, s.Limit, s.ServiceMS)
				}
				if c.inside && g.Status().Limit < float64(c.callers) {
					t.Errorf("the limit is %v, want %d callers let in %v %v %v %v", g.Status().Limit, c.callers, g.core.held, g.core.steady, g.core.knee.inDips, g.core.knee)
				}
			})
		})
	}
}

// Work that takes longer and longer is no queue where one comes after the other: the next two at once are let in.
func TestGateLetsSlowWorkBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New("shop", on, Deps{})
		for _, took := range []time.Duration{2, 20, 2, 50, 500, 5000} {
			for range 60 {
				g.Serve(newExchange(exchange.Standard), answer(took*time.Millisecond))
			}
		}
		if s := g.Status(); s.Limit < firstPlaces || s.ServiceMS < 1000 {
			t.Errorf("limit %v, %v ms for each, want room for %v and some seconds", s.Limit, s.ServiceMS, firstPlaces)
		}
	})
}

// TestGateFindsTheLimit: before an endpoint with five places, which is asked half as much again as it can answer and goes on working for
// clients that left, the gate comes to a limit of about as many.
func TestGateFindsTheLimit(t *testing.T) {
	for name, calm := range map[string]time.Duration{"after calm": 2 * time.Second, "at once": 0} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { findsTheLimit(t, calm) }) })
	}
}

func findsTheLimit(t *testing.T, calm time.Duration) {
	{
		const places, service, patience = 5, 100 * time.Millisecond, time.Second
		g := New("shop", on, Deps{})
		free := make(chan bool, places)
		for range places {
			free <- true
		}
		endpoint := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			began, done := time.Now(), make(chan bool)
			go func() {
				<-free
				<-time.After(service)
				free <- true
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(patience):
				x.Result = exchange.Result{Kind: exchange.Cancelled, Latency: time.Since(began)}
				return nil
			}
			x.Result = exchange.Result{Status: 200, Latency: time.Since(began)}
			x.Outcome = exchange.Outcome{Status: 200, Started: true, FirstByte: time.Since(x.Start)}
			x.Held.Answered(x, false)
			return nil
		})
		var all sync.WaitGroup
		ask := func(perSecond int, of time.Duration) {
			for end := time.Now().Add(of); time.Now().Before(end); <-time.After(time.Second / time.Duration(perSecond)) {
				all.Go(func() { g.Serve(newExchange(exchange.Standard), endpoint) })
			}
		}
		ask(35, calm)
		for range 10 {
			ask(75, time.Second)
			s := g.Status()
			t.Logf("limit %v, %d in flight, %d wait, service %.0f ms", s.Limit, s.InFlight, s.Waiting, s.ServiceMS)
		}
		g.mu.Lock()
		limit := g.core.knee.limit // but for a dip, which it may be in just now
		g.mu.Unlock()
		if limit < places || limit > 3*places {
			t.Errorf("the limit is %v", limit)
		}
		all.Wait()
	}
}
