package shed

import (
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// waiting is a waiter with the timer of its goroutine.
type waiting struct {
	Waiter
	timer *time.Timer
	until time.Duration // it waits no longer
	nap   time.Duration // until it looks itself
}

// crowded is enter when somebody waits, all places are taken or the class is off. n is the place that was taken over the limit; 0: none.
//
//go:noinline
func (g *Gate) crowded(x *exchange.Exchange, n int64) *exchange.Refusal {
	set := g.set.Load()
	if set.Mode != modeOn && !g.ordered(x.Class) {
		return g.dry(x, n)
	}
	if n > 0 {
		g.inFlight.Add(-1)
	}
	ask := Waiter{Class: x.Class, Weight: float64(x.Weight), Tenant: set.tenant(x)}
	if !x.Deadline.IsZero() {
		ask.Deadline = max(x.Deadline.Sub(g.epoch), 1)
	}
	w, r := g.ask(x, &ask)
	if w == nil {
		return r
	}
	return g.await(x, w)
}

// tenant is who x shares fairly as.
func (s *settings) tenant(x *exchange.Exchange) uint64 {
	if s.tenants == nil {
		return 0
	}
	if h, ok := s.tenants.Hash(x); ok {
		return h
	}
	h, _ := s.byIP.Hash(x)
	return h
}

// ask asks for a place: a waiter when x must wait, else nil and why it is refused, or nil and it has its place.
func (g *Gate) ask(x *exchange.Exchange, ask *Waiter) (*waiting, *exchange.Refusal) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.ghosts) > 0 {
		g.lay(now)
	}
	g.lookLocked(now) // when no answers come, nobody else does
	g.grant(now)
	place := g.inFlight.Add(1)
	free := place <= g.room(int64(g.deps.Strays()))
	if !free {
		g.inFlight.Add(-1)
	}
	w := g.waiters.Get().(*waiting)
	w.Class, w.Weight, w.Tenant, w.Deadline = ask.Class, ask.Weight, ask.Tenant, ask.Deadline
	a, out := g.core.Arrive(now, &w.Waiter, free)
	if out != nil {
		g.tell(out, evicted, 0)
	}
	if a == Enter {
		g.waiters.Put(w)
		g.take(x.Shard, now)
		g.admit(x, place, g.era.Load())
		return nil, nil
	}
	if free {
		g.inFlight.Add(-1)
	}
	if a == Wait {
		w.until = now + g.core.Patience(now, &w.Waiter)
		w.nap = g.nap(now, w)
		g.waiting.Add(1)
		g.nextLook.Store(int64(g.core.Again(now)))
		g.grant(now) // a place that became free meanwhile
		return w, nil
	}
	g.waiters.Put(w)
	return nil, g.refuse(x, a, now)
}

// admit notes that x has its place.
func (g *Gate) admit(x *exchange.Exchange, place int64, era uint32) {
	x.Held, x.Place, x.Era = g, int32(max(place-g.strays.Load(), 1)), era
	g.shards[x.Shard&uint32(len(g.shards)-1)].admitted[x.Class].Add(1)
}

// refuse makes the answer to x. The lock is held.
func (g *Gate) refuse(x *exchange.Exchange, a Answer, now time.Duration) *exchange.Refusal {
	g.refused[x.Class].Add(1)
	x.RetryAfter = g.core.RetryAfter(now, x.Class, lot())
	switch a {
	case Off:
		return refuseOff
	case TooLate:
		return refuseLate
	}
	return refuseBusy
}

// await waits for a place.
func (g *Gate) await(x *exchange.Exchange, w *waiting) *exchange.Refusal {
	v := g.sleep(w)
	place, era := w.place, w.era
	g.waiters.Put(w)
	if v != admitted {
		return g.sendAway(x, v)
	}
	if g.deps.Gone != nil && g.deps.Gone(x) {
		now := g.now()
		g.ends(era, now)
		g.mu.Lock()
		g.core.Gone(now)
		g.mu.Unlock()
		g.leave()
		x.Outcome.Aborted = true
		return refuseGone
	}
	x.Begun = time.Now()
	g.admit(x, int64(place), era)
	return nil
}

// sendAway makes the answer to x, which has waited in vain.
func (g *Gate) sendAway(x *exchange.Exchange, v verdict) *exchange.Refusal {
	now := g.now()
	g.mu.Lock()
	g.refused[x.Class].Add(1)
	x.RetryAfter = g.core.RetryAfter(now, x.Class, lot())
	g.mu.Unlock()
	switch v {
	case late:
		return refuseLate
	case evicted:
		return refuseBusy
	}
	return refuseQueue
}

// sleep returns how the wait of w ended.
func (g *Gate) sleep(w *waiting) verdict {
	if w.timer == nil {
		w.timer = time.NewTimer(w.nap)
	} else {
		w.timer.Reset(w.nap)
	}
	defer w.timer.Stop()
	for {
		select {
		case v := <-w.wake:
			return v
		case <-w.timer.C:
		}
		g.mu.Lock()
		now := g.now()
		over := now >= w.until
		if over && g.core.Expire(now, &w.Waiter) {
			g.waiting.Add(-1)
			g.mu.Unlock()
			return expired
		}
		if !over {
			g.lay(now)
			g.lookLocked(now)
			g.grant(now)
			w.timer.Reset(g.nap(now, w))
		}
		g.mu.Unlock()
		if over {
			return <-w.wake // it was told at the same moment
		}
	}
}

// nap is for how long w may sleep: until its time is over or, among few, until a place is free though no answer says so, as the work for a client that left should be
// done or a dip is over. With more of them others come and look. The lock is held.
func (g *Gate) nap(now time.Duration, w *waiting) time.Duration {
	until := w.until
	if opens := g.core.Opens(now); opens > 0 && g.inFlight.Load() < g.most(g.strays.Load()) {
		until = min(until, opens)
	}
	if g.core.Waiting() <= queueFew {
		for _, one := range g.ghosts {
			until = min(until, one.until)
		}
		if g.core.knee.Dips() {
			until = min(until, g.core.knee.dipEnd)
		}
	}
	return max(until-now, time.Millisecond)
}

// ordered says whether somebody switched a class off by hand. That is no trial: it holds in a dry run too.
func (g *Gate) ordered(class exchange.Class) bool {
	if g.off.Load()>>class&1 == 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now() < g.core.byHand[class.Rank()]
}

// dry counts what would be refused, and refuses nothing.
func (g *Gate) dry(x *exchange.Exchange, n int64) *exchange.Refusal {
	if n == 0 {
		n = g.inFlight.Add(1)
	}
	era := g.era.Load()
	if g.off.Load()>>x.Class&1 != 0 || n > g.limit.Load() && g.inVain(n) {
		g.would[x.Class].Add(1)
	}
	g.take(x.Shard, g.now())
	g.admit(x, n, era)
	return nil
}

// dryLine is who would wait for the places that the site file gives, were this no dry run.
type dryLine struct {
	length float64
	at     time.Duration
}

// inVain reports whether one who would wait as the nth would be refused. Where the site file bounds who is inside, a dry run lets in more than that and the endpoints answer them, so that neither
// how many are inside nor the capacity tells: with a bound of one and waves of ten, for which it refused 191 of 200, none was counted. The line that would stand there tells.
func (g *Gate) inVain(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.core
	if c.cfg.Max == 0 || c.Limit() < c.cfg.Max || c.knee.service <= 0 {
		return n > g.limit.Load()+g.bound.Load()
	}
	now, pace := g.now(), float64(c.cfg.Max)/c.knee.service
	g.line.length = max(g.line.length-(now-g.line.at).Seconds()*pace, 0)
	g.line.at = now
	if g.line.length+1 > max(pace*c.CalmWait().Seconds(), 1) {
		return true
	}
	g.line.length++
	return false
}
