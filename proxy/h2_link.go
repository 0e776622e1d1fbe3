package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// h2Link is the HTTP/2 connections to one endpoint. Requests go to the first that has room, so that few stay busy
// and share their reads and writes.
type h2Link struct {
	l *Link

	mu      sync.Mutex
	list    []*h2Client
	dialing bool
	turn    chan struct{} // closed when something changed that waiters hope for
	waiting atomic.Int64
	closed  bool
}

// H2Status is the HTTP/2 connections to one endpoint.
type H2Status struct {
	Connections int   `json:"connections"`
	Streams     int64 `json:"streams"`
}

func newH2Link(l *Link) *h2Link { return &h2Link{l: l, turn: make(chan struct{})} }

// open reserves a stream, on a connection that has room or on a new one. It waits, for as long as the pool's
// connect timeout and not beyond the deadline (zero: none), when the endpoint takes no more connections, or a new one is not ready.
func (h *h2Link) open(ctx context.Context, deadline time.Time) (back, error) {
	if b := h.pick(); b != nil {
		return b, nil
	}
	ctx, stop := context.WithTimeout(ctx, until(deadline, h.l.up.cfg().Timeouts.Connect))
	defer stop()
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	for full := false; ; {
		h.mu.Lock()
		if b := h.pickLocked(); b != nil {
			h.mu.Unlock()
			return b, nil
		}
		turn, dial := h.turn, !h.dialing && !full && !h.fresh()
		if h.closed {
			h.mu.Unlock()
			return nil, errH2Gone
		}
		h.dialing = h.dialing || dial
		h.mu.Unlock()
		if dial {
			err := h.dial(ctx)
			if err == nil {
				continue
			}
			if !errors.Is(err, errTooManyConnections) || h.empty() {
				return nil, err
			}
			full = true // a stream may end before the time is up
			continue
		}
		select {
		case <-turn:
		case <-ctx.Done():
			if !deadline.IsZero() && !time.Now().Before(deadline) {
				return nil, context.DeadlineExceeded
			}
			if !full && h.unready() {
				return nil, context.DeadlineExceeded
			}
			return nil, errTooManyConnections
		}
	}
}

// unready reports whether the endpoint is what was waited for, and no limit: it did not take a connection, or has not said how many streams it takes. Those
// who waited were told of a limit then, the endpoint was not blamed, and nobody asked another one.
func (h *h2Link) unready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dialing || len(h.list) == 0 || h.fresh()
}

// dial adds a connection. One at a time is opened; the others wait for it.
func (h *h2Link) dial(ctx context.Context) error {
	c, _, err := h.l.dialTLS(ctx, false, true)
	if err == nil {
		h.add(c)
	}
	h.mu.Lock()
	h.dialing = false
	h.mu.Unlock()
	h.wake()
	return err
}

// fresh reports whether a connection is about to say how many streams it takes. The lock is held.
func (h *h2Link) fresh() bool {
	for _, c := range h.list {
		if c.usable.Load() && !c.known.Load() {
			return true
		}
	}
	return false
}

// empty reports whether there is no connection whose streams could be waited for.
func (h *h2Link) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list) == 0
}

func (h *h2Link) pick() back {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pickLocked()
}

func (h *h2Link) pickLocked() back {
	for _, c := range h.list {
		if !c.usable.Load() {
			continue
		}
		if c.slots.Add(1) <= c.max.Load() && c.usable.Load() {
			b := &h2Back{client: c}
			b.h = &c.h2Conn
			b.canRead.L, b.canSend.L = &c.mu, &c.mu
			return b
		}
		c.slots.Add(-1)
	}
	return nil
}

// add takes an open connection, over which HTTP/2 was negotiated or is known to be spoken.
func (h *h2Link) add(c net.Conn) {
	client, err := newH2Client(h, c)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || h.closed {
		c.Close()
		return
	}
	client.hello()
	h.list = append(h.list, client)
	h.l.up.proxy.h2.readers.Go(client.run)
}

func (h *h2Link) remove(c *h2Client) {
	h.mu.Lock()
	for i := range h.list {
		if h.list[i] == c {
			h.list = append(h.list[:i], h.list[i+1:]...)
			break
		}
	}
	h.mu.Unlock()
	h.wake()
}

// wake lets those look again who wait for a stream.
func (h *h2Link) wake() {
	if h.waiting.Load() == 0 {
		return
	}
	h.mu.Lock()
	close(h.turn)
	h.turn = make(chan struct{})
	h.mu.Unlock()
}

// renew lets all connections that are open now end after what they carry; new requests open new ones.
func (h *h2Link) renew() {
	h.mu.Lock()
	list := append([]*h2Client(nil), h.list...)
	h.mu.Unlock()
	for _, c := range list {
		c.retire()
	}
}

// close is renew, after which nothing can be opened. It does not wait: h2Shared.close does.
func (h *h2Link) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.renew()
	h.wake()
}

// status counts connections and requests on them.
func (h *h2Link) status() (s H2Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Connections = len(h.list)
	for _, c := range h.list {
		s.Streams += c.slots.Load()
	}
	return s
}
