package proxy

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// watchTick is how often deadlines are looked at, and so how late they may be noticed. One
// pass over all connections each tick costs less than arming a timer on both sides of every request:
// at 20,000 connections about 1 ms.
const watchTick = 100 * time.Millisecond

// woken as a deadline says that it passed and that the connection was woken, or is just about to be.
const woken = -1

// longAgo is a deadline in the past: setting it wakes whoever reads or writes.
var longAgo = time.Unix(1, 0)

// A watched connection has one deadline, moved by an atomic store, and is woken by the sweeper once it has
// passed: reads and writes then fail with os.ErrDeadlineExceeded. It is armed and
// disarmed by the goroutine that owns the connection. The zero value is disarmed.
type watched struct {
	at   atomic.Int64 // ns on the sweeper's clock; 0: none; woken: it passed
	cut  atomic.Bool  // woken for good, because the proxy ends; guarded by the lock of home for who sets it
	conn net.Conn
	slot int // place in the sweeper's shard, guarded by its lock
	home *watchShard
}

// sweeper wakes connections whose deadline has passed. Any goroutine may use it.
type sweeper struct {
	clock  atomic.Int64 // ns since start, moved every tick
	start  time.Time
	date   atomic.Pointer[dateText]
	next   atomic.Uint32
	shards [16]watchShard
}

type watchShard struct {
	mu   sync.Mutex
	list []*watched
	_    [32]byte
}

func newSweeper() *sweeper {
	s := &sweeper{start: time.Now()}
	s.tellDate(s.start)
	return s
}

// dateText is a Date as RFC 9110 §5.6.7 wants it, with the second that it tells.
type dateText struct {
	second int64
	text   []byte
}

// tellDate renews the text of the Date field, which so costs an answer one load.
func (s *sweeper) tellDate(now time.Time) {
	if old := s.date.Load(); old == nil || old.second != now.Unix() {
		s.date.Store(&dateText{now.Unix(), now.UTC().AppendFormat(make([]byte, 0, len(http.TimeFormat)), http.TimeFormat)})
	}
}

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

// arm sets the deadline to d from now, at most a tick later. It costs two atomic operations. late: the one before it had passed, and reads and writes
// fail from now on or in a moment.
func (s *sweeper) arm(w *watched, d time.Duration) (late bool) {
	return w.at.Swap(s.clock.Load()+int64(d)+int64(watchTick)) == woken
}

// disarm takes the deadline away. late: it had passed, and reads and writes fail from now on or in a moment, see settle.
func (w *watched) disarm() (late bool) { return w.at.Swap(0) == woken }

// rearm moves a deadline that is set and has not passed. It is for a goroutine that does not own the connection.
func (s *sweeper) rearm(w *watched, d time.Duration) {
	if at := w.at.Load(); at > 0 {
		w.at.CompareAndSwap(at, s.clock.Load()+int64(d)+int64(watchTick))
	}
}

// settle takes the deadline away and makes a connection that was woken usable again. It reports false when the connection
// was cut for good. Nobody may be writing to the connection meanwhile: a writer that was woken would wait again.
func (s *sweeper) settle(w *watched) bool {
	if !w.disarm() {
		return true
	}
	return s.revive(w)
}

// revive is settle for a connection that something else than its own deadline woke.
func (s *sweeper) revive(w *watched) bool {
	w.home.mu.Lock() // under it the sweeper wakes: it has done so, or will not
	defer w.home.mu.Unlock()
	w.at.Store(0)
	if w.cut.Load() {
		return false
	}
	w.conn.SetDeadline(time.Time{})
	return true
}

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
			s.tellDate(time.Now())
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
			if at := w.at.Load(); at > 0 && at <= now && w.at.CompareAndSwap(at, woken) {
				w.conn.SetDeadline(longAgo)
			}
		}
		h.mu.Unlock()
	}
}
