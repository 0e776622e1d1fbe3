package shed

import (
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// lookFirst is after how long it is looked for the first time whether the client of one who waits is still there; the time between looks doubles. Most have got their place by
// then, and a system call for each of some thousand is cheap so seldom.
const lookFirst = 100 * time.Millisecond

// waiting is a waiter with the timer of its goroutine.
type waiting struct {
	Waiter
	timer *time.Timer
	until time.Duration // it waits no longer
	wakes time.Duration // when it looks itself
	looks time.Duration // when it is looked whether its client is still there…
	pause time.Duration // …and for how long not again then
}

// arm makes the timer of w wake it when something is to be looked at.
func (w *waiting) arm(now time.Duration) {
	d := max(min(w.wakes, w.looks)-now, 0)
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
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
		w.wakes, w.looks, w.pause = g.nap(now, w), now+lookFirst, lookFirst
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
	v := g.sleep(x, w)
	place, era := w.place, w.era
	g.waiters.Put(w)
	if v == left {
		x.Outcome.Aborted = true
		return refuseGone
	}
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

// sleep returns how the wait of w, which is that of x, ended.
func (g *Gate) sleep(x *exchange.Exchange, w *waiting) verdict {
	w.arm(g.now())
	defer w.timer.Stop()
	for {
		select {
		case v := <-w.wake:
			return v
		case <-w.timer.C:
		}
		now := g.now()
		gone := g.gone(x, w, now)
		if !gone && now < w.wakes {
			w.arm(now)
			continue
		}
		g.mu.Lock()
		now = g.now()
		switch over := now >= w.until; {
		case gone && g.core.Leave(now, &w.Waiter):
			g.waiting.Add(-1)
			g.mu.Unlock()
			return left
		case !gone && over && g.core.Expire(now, &w.Waiter):
			g.waiting.Add(-1)
			g.mu.Unlock()
			return expired
		case gone || over:
			g.mu.Unlock()
			return <-w.wake // it was told at the same moment
		}
		g.lay(now)
		g.lookLocked(now)
		g.grant(now)
		w.wakes = g.nap(now, w)
		w.arm(now)
		g.mu.Unlock()
	}
}

// gone looks, when it is time to, whether the client of x has left. Without that who left took room in the queue until its turn came, and others were refused for it.
func (g *Gate) gone(x *exchange.Exchange, w *waiting, now time.Duration) bool {
	if now < w.looks {
		return false
	}
	w.pause *= 2
	w.looks = now + w.pause
	return g.deps.Gone != nil && g.deps.Gone(x)
}

// nap is until when w may sleep: until its time is over or, among few, until a place is free though no answer says so, as the work for a client that left should be
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
	return max(until, now+time.Millisecond)
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
	if g.off.Load()>>x.Class&1 != 0 || n > g.limit.Load()+g.bound.Load() {
		g.would[x.Class].Add(1)
	}
	g.take(x.Shard, g.now())
	g.admit(x, n, era)
	return nil
}
