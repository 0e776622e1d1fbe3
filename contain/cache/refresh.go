package cache

import (
	"bytes"
	"context"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

const (
	jobsWaiting  = 256              // refreshes that may wait for a place; further ones are left to the next request
	refreshMost  = 30 * time.Second // one refresh, where the route has no shorter deadline
	refreshAgain = time.Second      // after one that failed
)

// job is one refresh: a request of its own, made after the one that found something stale.
type job struct {
	c    *Cache
	p    *Policy
	old  *Object
	x    *exchange.Exchange
	next *exchange.Next
	q    query
	a    ask
	in   found
}

// refresh asks for a newer answer without anybody waiting. It does nothing when somebody does already, or when there is no place.
func (w *work) refresh(x *exchange.Exchange, next *exchange.Next) {
	o, c := w.old, w.c
	if w.q.now.UnixNano() < o.again.Load() || c.running.Load() >= c.places.Load() || !o.refreshing.CompareAndSwap(false, true) {
		return
	}
	j := &job{c: c, p: w.p, old: o, x: copied(x), next: next, q: w.q, in: w.in}
	j.q.key, j.q.extra, j.q.fields = bytes.Clone(w.q.key), bytes.Clone(w.q.extra), j.x.Request.Fields
	j.a.read(j.x.Request)
	j.a.personal = w.a.personal
	j.a.control = Control{} // what this client takes says nothing of what others do
	select {
	case c.jobs <- j:
	default:
		o.refreshing.Store(false)
	}
}

// copied is an exchange that asks the same as x and holds none of its memory. It matters least: when a pool has too little to give, clients go first.
func copied(x *exchange.Exchange) *exchange.Exchange {
	y := &exchange.Exchange{
		Listener: x.Listener, Protocol: x.Protocol, Client: x.Client, Local: x.Local, Secure: x.Secure, Shard: x.Shard, IP: x.IP, Trusted: x.Trusted,
		Customer: bytes.Clone(x.Customer), User: bytes.Clone(x.User), Region: bytes.Clone(x.Region), Weight: x.Weight,
		Host: bytes.Clone(x.Host), Path: bytes.Clone(x.Path), Route: x.Route, Class: exchange.Low, Degrade: bytes.Clone(x.Degrade),
	}
	r := x.Request
	y.Request = &wire.Request{Method: []byte("GET"), Target: bytes.Clone(r.Target), Host: bytes.Clone(r.Host), Minor: 1, ContentLength: -1}
	for i := range r.Fields {
		f := &r.Fields[i]
		if wire.HopByHop(f.ID) || f.ID == wire.ContentLength || r.NamedByConnection(f.Name) || isCondition(f.Name) {
			continue
		}
		if x.Trace.Told.Valid() && (f.ID == wire.Traceparent || f.ID == wire.Tracestate) { // a refresh is no part of the trace of its client
			continue
		}
		y.Request.Fields = append(y.Request.Fields, wire.Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value), ID: f.ID})
	}
	return y
}

// run refreshes. What comes of it is in the store.
func (j *job) run(ctx context.Context) {
	c := j.c
	now := c.deps.Now()
	defer j.old.refreshing.Store(false)
	most := refreshMost
	if d := j.x.Route.Deadline; d > 0 && d < most {
		most = d
	}
	j.x.Start, j.x.Deadline = now, now.Add(most)
	defer context.AfterFunc(ctx, c.deps.Alone(j.x))()
	w := c.work(j.p)
	defer w.done()
	w.q, w.a, w.in, w.old, w.behind, w.fwd = j.q, j.a, j.in, j.old, true, "stale"
	defer func() {
		if v := recover(); v != nil {
			j.old.again.Store(now.Add(refreshAgain).UnixNano())
			c.unrefreshed.Add(1)
			if c.deps.Panicked != nil {
				c.deps.Panicked(v)
			}
		}
	}()
	j.x.Request.Fields = w.question(j.q.fields)
	r := w.carry(j.x, j.next)
	if r != nil || w.got != gotValid && w.got != gotRefresh || isError(j.x.Result.Status) {
		j.old.again.Store(c.deps.Now().Add(refreshAgain).UnixNano())
		c.unrefreshed.Add(1)
		return
	}
	c.refreshed.Add(1)
}
