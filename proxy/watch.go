package proxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// watchTick is how often deadlines are looked at, and so how late they may be noticed. One
// pass over all connections each tick costs less than arming a timer on both sides of every request:
// at 20,000 connections about 1 ms.
const watchTick = 100 * time.Millisecond

// longAgo is a deadline in the past: setting it wakes whoever reads or writes.
var longAgo = time.Unix(1, 0)

// A watched connection has one deadline, moved by an atomic store, and is woken by the sweeper once it has
// passed: reads and writes then fail with os.ErrDeadlineExceeded. It is armed and
// disarmed by the goroutine that owns the connection. The zero value is disarmed.
type watched struct {
	at   atomic.Int64 // ns on the sweeper's clock; 0: none
	hit  atomic.Bool  // the deadline passed and the connection was woken
	conn net.Conn
	slot int // place in the sweeper's shard, guarded by its lock
	home *watchShard
}

// sweeper wakes connections whose deadline has passed. Any goroutine may use it.
type sweeper struct {
	clock  atomic.Int64 // ns since start, moved every tick
	start  time.Time
	next   atomic.Uint32
	shards [16]watchShard
}

type watchShard struct {
	mu   sync.Mutex
	list []*watched
	_    [32]byte
}

func newSweeper() *sweeper { return &sweeper{start: time.Now()} }

// add starts to watch over c.
func (s *sweeper) add(w *watched, c net.Conn) {
	w.conn = c
	w.home = &s.shards[s.next.Add(1)%uint32(len(s.shards))]
	w.home.mu.Lock()
	w.slot = len(w.home.list)
	w.home.list = append(w.home.list, w)
	w.home.mu.Unlock()
}

// remove ends watching. The connection is never touched after it returned.
func (s *sweeper) remove(w *watched) {
	h := w.home
	h.mu.Lock()
	last := len(h.list) - 1
	h.list[w.slot] = h.list[last]
	h.list[w.slot].slot = w.slot
	h.list[last] = nil
	h.list = h.list[:last]
	h.mu.Unlock()
}

// arm sets the deadline to d from now, at most a tick later. It costs two atomic operations.
func (s *sweeper) arm(w *watched, d time.Duration) {
	w.at.Store(s.clock.Load() + int64(d) + int64(watchTick))
}

// disarm takes the deadline away.
func (w *watched) disarm() { w.at.Store(0) }

// run moves the clock until ctx ends.
func (s *sweeper) run(ctx context.Context) {
	t := time.NewTicker(watchTick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.tick(int64(time.Since(s.start)))
		}
	}
}

// tick wakes every connection whose deadline is before now.
func (s *sweeper) tick(now int64) {
	s.clock.Store(now)
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		for _, w := range h.list {
			if at := w.at.Load(); at != 0 && at <= now && w.at.CompareAndSwap(at, 0) {
				w.hit.Store(true)
				w.conn.SetDeadline(longAgo)
			}
		}
		h.mu.Unlock()
	}
}
