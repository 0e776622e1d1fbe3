package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// idleGrace is how long into a drain keep-alive connections between two requests are left open: a client may be
// sending just now, and closing then would lose its request.
const idleGrace = 5 * time.Second

// drainLook is how often Drain looks whether everything has ended.
const drainLook = 20 * time.Millisecond

// Drain stops accepting and lets work finish until ctx ends; what is left is then cut, and the error says how
// much of it there was. Answers carry Connection: close from the start; idle connections are closed after
// five seconds and at the end. Call it while Run runs; the Proxy serves nothing afterwards.
func (p *Proxy) Drain(ctx context.Context) error {
	p.mu.Lock()
	p.draining.Store(true)
	now := time.Now()
	for _, l := range p.listeners {
		l.leave(now)
	}
	for _, s := range p.sockets {
		p.retireSocket(s, true)
	}
	p.sockets = nil
	p.mu.Unlock()

	t := time.NewTicker(drainLook)
	defer t.Stop()
	for {
		// In this order: what an accept loop took before it ended is counted by then. Looking at the
		// connections alone once cut those that came in the last moment before an upgrade.
		if p.accepting.Load() == 0 && len(p.left()) == 0 {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return p.endDrain()
		}
	}
}

// endDrain closes idle connections, cuts the rest and says what that was.
func (p *Proxy) endDrain() error {
	p.clients.each(func(c *client) {
		if c.idle.Load() {
			c.hang()
		}
	})
	// Idle connections end within moments; what is still there after them was at work.
	for until := time.Now().Add(5 * drainLook); len(p.left()) > 0 && time.Now().Before(until); {
		<-time.After(drainLook)
	}
	left := p.left()
	if len(left) == 0 {
		return nil
	}
	p.cut()
	return fmt.Errorf("drain ended with work under way, which was cut off: %s", strings.Join(left, ", "))
}

// left lists the listeners that have open connections, with their number.
func (p *Proxy) left() (left []string) {
	for _, l := range p.all() {
		if n := l.open.Load(); n > 0 {
			left = append(left, fmt.Sprintf("%s %d", l.name, n))
		}
	}
	slices.Sort(left)
	return left
}

// all is every listener, removed ones with open connections too.
func (p *Proxy) all() []*listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.Clone(p.retired)
	for _, l := range p.listeners {
		list = append(list, l)
	}
	return list
}

// closeIdle ends idle connections of listeners that have been leaving for long enough, and forgets removed
// listeners without connections.
func (p *Proxy) closeIdle(now time.Time) {
	p.mu.Lock()
	p.retired = slices.DeleteFunc(p.retired, func(l *listener) bool {
		return l.open.Load() == 0 && l.leaving.Load() < now.Add(-housekeeping).UnixNano() // its socket may still accept just after
	})
	leaving := p.draining.Load() || len(p.retired) > 0
	p.mu.Unlock()
	if !leaving {
		return
	}
	before := now.Add(-idleGrace).UnixNano()
	p.clients.each(func(c *client) {
		if at := c.listener.leaving.Load(); at != 0 && at <= before && c.idle.Load() {
			c.hang()
		}
	})
}

// hang ends a connection softly: its next read sees the end, unless bytes have come already, which
// are then still served.
func (c *client) hang() {
	c.raw.CloseRead()
}

// cut makes every watched connection fail: those of clients and those to endpoints.
func (p *Proxy) cut() {
	s := p.sweep
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		for _, w := range h.list {
			w.at.Store(woken)
			w.cut.Store(true)
			w.conn.SetDeadline(longAgo)
		}
		h.mu.Unlock()
	}
}
