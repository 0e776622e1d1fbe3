package proxy

import (
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/net/http2"
)

// h2Buf is a lent write buffer.
type h2Buf struct{ b []byte }

// h2ReadSize is that of a read buffer: a full frame with room for the next.
const h2ReadSize = 32 << 10

// h2Shared is what all HTTP/2 connections share: buffers, stream objects, workers. The zero value is ready.
type h2Shared struct {
	reads, writes, fronts, heads sync.Pool
	workers                      [8]h2Workers
	endpoints                    h2Counts       // connections to endpoints likewise
	readers                      sync.WaitGroup // of connections to endpoints
}

func (s *h2Shared) getRead() []byte {
	if p, _ := s.reads.Get().(*[h2ReadSize]byte); p != nil {
		return p[:]
	}
	return make([]byte, h2ReadSize)
}

func (s *h2Shared) putRead(b []byte) { s.reads.Put((*[h2ReadSize]byte)(b)) }

func (s *h2Shared) getWrite() *h2Buf {
	if p, _ := s.writes.Get().(*h2Buf); p != nil {
		return p
	}
	return &h2Buf{make([]byte, 0, 4<<10)}
}

func (s *h2Shared) putWrite(p *h2Buf) {
	if cap(p.b) > 2*h2PendingMax {
		return
	}
	p.b = p.b[:0]
	s.writes.Put(p)
}

// run does t on a worker that is at hand, or a new one.
func (s *h2Shared) run(shard uint32, t h2Task) { s.workers[shard%uint32(len(s.workers))].run(t) }

// close ends the workers that wait, and returns when all have ended. No task may be given any more.
func (s *h2Shared) close() {
	s.readers.Wait()
	for i := range s.workers {
		s.workers[i].close()
	}
}

// h2Task is work for a worker: a request, or the writing of frames.
type h2Task interface{ work() }

// h2WorkersKept is how many goroutines of one shard wait for the next task, so that their
// stacks need not grow again: 512 in all, some 4 to 8 MiB.
const h2WorkersKept = 64

// h2Workers are goroutines that wait for tasks, last come first.
type h2Workers struct {
	mu     sync.Mutex
	idle   []chan h2Task
	closed bool
	all    sync.WaitGroup
	_      [32]byte
}

func (w *h2Workers) run(t h2Task) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		ch := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		ch <- t
		return
	}
	w.all.Add(1)
	w.mu.Unlock()
	go w.serve(t)
}

func (w *h2Workers) serve(t h2Task) {
	defer w.all.Done()
	ch := make(chan h2Task, 1)
	for t != nil {
		t.work()
		w.mu.Lock()
		if w.closed || len(w.idle) >= h2WorkersKept {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, ch)
		w.mu.Unlock()
		t = <-ch
	}
}

func (w *h2Workers) close() {
	w.mu.Lock()
	w.closed = true
	for _, ch := range w.idle {
		ch <- nil
	}
	w.idle = nil
	w.mu.Unlock()
	w.all.Wait()
}

// append adds frames to those that wait, and sees to it that they are written. The lock is held.
func (h *h2Conn) append(f func(b []byte) []byte) {
	b := h.room()
	if b == nil {
		return
	}
	b.b = f(b.b)
	if len(b.b) > h2PendingHard {
		h.stop(&h2Error{http2.ErrCodeEnhanceYourCalm, closedStalled})
	}
	h.kick()
}

// room is where frames are appended; nil once the connection has ended. The lock is held.
func (h *h2Conn) room() *h2Buf {
	if h.end != nil {
		return nil
	}
	if h.out == nil {
		h.out = h.p.h2.getWrite()
	}
	return h.out
}

// dropOut forgets frames that can no longer be written. The lock is held.
func (h *h2Conn) dropOut() {
	if h.out != nil {
		h.p.h2.putWrite(h.out)
		h.out = nil
	}
}

// kick starts the writing of what waits, unless it is under way. The lock is held.
func (h *h2Conn) kick() {
	if h.flushing || h.out == nil {
		return
	}
	h.flushing = true
	h.p.h2.run(h.shard, &h.flusher)
}

// h2Flusher writes the frames of a connection for as long as there are any. It is a worker of its own, so that a peer that does
// not read holds up nobody's request but its own.
type h2Flusher struct{ h *h2Conn }

func (w *h2Flusher) work() {
	h := w.h
	// Requests that are ready to run append their frames first: they then share one write.
	runtime.Gosched()
	h.mu.Lock()
	for h.out != nil {
		buf := h.out
		h.out = nil
		h.base += uint64(len(buf.b))
		h.mu.Unlock()
		_, err := h.sock.write(buf.b, nil, nil)
		h.p.h2.putWrite(buf)
		h.mu.Lock()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && h.end == nil {
				h.ending = &h2Error{0, closedStalled}
			}
			h.dropOut()
			h.quit, h.end = true, errH2Gone
			break
		}
		h.wakeSenders()
	}
	h.flushing = false
	if h.quit {
		h.sock.conn.SetReadDeadline(longAgo) // the reader ends the connection
	}
	h.gone.Broadcast()
	h.mu.Unlock()
}

// wakeSenders lets streams that wait to send look again. The lock is held.
func (h *h2Conn) wakeSenders() {
	if h.blocked == 0 {
		return
	}
	for _, s := range h.streams {
		if s.blocked {
			s.canSend.Signal()
		}
	}
}
