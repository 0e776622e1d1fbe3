package shed

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// An endpoint takes all places and is taken out of service: the others go on, as many at once as before, and the limit holds again when the last of its
// requests has ended, answered or not.
func TestGateDoesNotCountStrays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var strays atomic.Int64
		g := known(on, Deps{Strays: func() int { return int(strays.Load()) }}, 10, 50*time.Millisecond)
		hangs, ended := make(chan bool), make(chan *exchange.Refusal, 100)
		hang := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			answered := <-hangs
			x.Stray = true // as the pool has it
			strays.Add(-1)
			x.Result = exchange.Result{Kind: exchange.Cancelled}
			if answered {
				x.Result = exchange.Result{Status: 200, Latency: time.Since(x.Start)}
				x.Held.Answered(x, false)
			}
			return nil
		})
		for range 14 {
			go func() { ended <- g.Serve(newExchange(exchange.Standard), hang) }()
		}
		synctest.Wait()
		strays.Store(14)
		for range 100 {
			if r := g.Serve(newExchange(exchange.Standard), answer(50*time.Millisecond)); r != nil {
				t.Fatalf("refused for %s while only strays are inside", r.Reason)
			}
		}
		g.mu.Lock()
		g.core.Told(10, 0.05)
		g.publish(g.now())
		g.mu.Unlock()
		for range 100 {
			go func() { ended <- g.Serve(newExchange(exchange.Standard), answer(50*time.Millisecond)) }()
		}
		synctest.Wait()
		if s := g.Status(); s.InFlight != int(s.Limit) || s.Strays != 14 || s.Waiting == 0 {
			t.Errorf("with 100 at once %d are in flight of %v, %d strays, %d wait", s.InFlight, s.Limit, s.Strays, s.Waiting)
		}
		for i := range 14 {
			hangs <- i%2 == 0
		}
		for range 114 {
			<-ended
		}
		g.mu.Lock()
		g.core.Told(10, 0.05)
		g.publish(g.now())
		g.mu.Unlock()
		answers := uint64(0)
		for i := range g.shards {
			answers += g.shards[i].answers.Load()
		}
		if s := g.Status(); s.InFlight != 0 || s.Strays != 0 || g.limit.Load() != int64(s.Limit) || answers != 200-s.Classes[1].Refused || g.inFlight.Load() != 0 {
			t.Errorf("in the end %+v, %d may come in, %d are in, %d answers", s, g.limit.Load(), g.inFlight.Load(), answers)
		}
	})
}

func TestRoom(t *testing.T) {
	g := known(on, Deps{Endpoints: func() int { return 2 }}, 10, 50*time.Millisecond) // a limit of 14…
	g.core.knee.hold = 0                                                              // …which holds at once
	hard := on
	hard.Max = 20
	for _, c := range []struct {
		max          bool
		strays, want int64
	}{{false, 0, 14}, {false, 3, 17}, {false, 56, 70}, {false, 57, 59}, {false, 1000, 1002}, {true, 3, 17}, {true, 30, 20}} {
		if c.max {
			g.Update(hard)
		}
		if got := g.room(c.strays); got != c.want {
			t.Errorf("with %d strays, a bound %v: %d may be inside, want %d", c.strays, c.max, got, c.want)
		}
	}
}

// All who are inside hang, and nobody says at whom: one more enters each time the silence has lasted for ten service times, until there are too many.
func TestGateEndsASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 10, 50*time.Millisecond)
		g.core.knee.hold = 0
		var mu sync.Mutex
		var entered []time.Duration
		began, release := time.Now(), make(chan bool)
		hang := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			mu.Lock()
			entered = append(entered, time.Since(began))
			mu.Unlock()
			<-release
			return nil
		})
		for range 14 {
			go g.Serve(newExchange(exchange.Standard), hang)
			synctest.Wait()
		}
		for range 400 {
			x := newExchange(exchange.Standard)
			go g.Serve(x, hang)
			<-time.After(100 * time.Millisecond)
		}
		synctest.Wait()
		late := entered[14:]
		if len(late) != 3*14 {
			t.Errorf("%d entered later, want three times the limit, and not four", len(late))
		}
		for i, at := range late {
			if gap := at - append([]time.Duration{0}, late...)[i]; gap < 500*time.Millisecond || gap > 1100*time.Millisecond {
				t.Errorf("number %d entered %v after the last, want 500ms", i, gap)
			}
		}
		close(release)
	})
}

// Answers that come seldom are no silence.
func TestGateWaitsWhileAnswersCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 10, 50*time.Millisecond)
		g.core.knee.hold = 0
		most := int64(0)
		for i := range 14 {
			go g.Serve(newExchange(exchange.Standard), answer(time.Duration(i+1)*400*time.Millisecond))
		}
		synctest.Wait()
		for range 30 {
			go g.Serve(newExchange(exchange.Standard), answer(10*time.Second))
			<-time.After(100 * time.Millisecond)
			synctest.Wait() // who is turned away counts for a moment
			most = max(most, g.inFlight.Load())
		}
		if most > 14 {
			t.Errorf("%d were inside, the limit was 14", most)
		}
		<-time.After(time.Minute)
	})
}

// Who waits alone looks by itself.
func TestGateEndsASilenceForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := known(on, Deps{}, 1, 20*time.Millisecond)
		g.core.knee.hold = 0
		release := make(chan bool)
		for range 2 { // the limit
			go g.Serve(newExchange(exchange.Standard), exchange.Then(func(*exchange.Exchange) *exchange.Refusal { <-release; return nil }))
		}
		synctest.Wait()
		x := newExchange(exchange.Standard)
		if r := g.Serve(x, answer(time.Millisecond)); r != nil || time.Since(x.Start) > 260*time.Millisecond {
			t.Errorf("%v after %v, want a place after 250ms", r, time.Since(x.Start))
		}
		close(release)
	})
}

// The bound of the site file holds when all who are inside hang, too, and those who wait do not look again and again in vain.
func TestSilenceKeepsTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ max, connections, want int }{{3, 0, 3}, {0, 5, 5}, {0, 0, 40}} {
			set := on
			set.Max, set.Connections = c.max, c.connections
			g := known(set, Deps{}, 7, time.Millisecond) // a limit of 10 but for the bounds
			g.core.knee.hold = 0
			release, naps := make(chan bool), 0
			for range 60 * 20 {
				go g.Serve(newExchange(exchange.Standard), exchange.Then(func(*exchange.Exchange) *exchange.Refusal {
					<-release
					return nil
				}))
				<-time.After(50 * time.Millisecond)
				g.mu.Lock()
				if g.core.Waiting() > 0 && g.nap(g.now(), &waiting{until: g.now() + time.Minute}) < 5*time.Millisecond {
					naps++
				}
				g.mu.Unlock()
			}
			if n := g.inFlight.Load(); n != int64(c.want) || naps > 100 {
				t.Errorf("max %d, %d connections: %d are inside, want %d; who waits looked at once %d times", c.max, c.connections, n, c.want, naps)
			}
			close(release)
			synctest.Wait()
		}
	})
}
