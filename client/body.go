package client

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// replayMost is how much of a request's body is kept for a repeat when the request has no GetBody.
const replayMost = 64 << 10

// replay gives every attempt the body of one request. With GetBody each gets a new one. Without, what attempts read is kept up to
// replayMost, and a repeat reads that and then what is left. Nothing is read before its time, so that a body may be a stream.
type replay struct {
	r *http.Request

	mu      sync.Mutex
	kept    []byte
	lost    bool          // more was read than is kept
	ended   error         // what the body said last
	begun   bool          // an attempt was given a body
	open    bool          // the last attempt has not closed its own
	reading bool          // somebody is in Read of the request's body, closed or not
	free    chan struct{} // closed when the last attempt has let go of the request's body
	last    bool          // no further attempt will come
	closed  bool          // the request's body is closed, or was given out as it is
}

// none says whether there is no body.
func (p *replay) none() bool { return p.r.Body == nil || p.r.Body == http.NoBody }

// gone says whether no further attempt can have the body. An attempt that was cancelled is given up to wait for letting go of it.
func (p *replay) gone(wait time.Duration) bool {
	if p.none() || p.r.GetBody != nil {
		return false
	}
	p.mu.Lock()
	busy, free := (p.open || p.reading) && !p.lost, p.free
	p.mu.Unlock()
	if busy && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-free:
		case <-timer.C:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost || p.open || p.reading || p.closed
}

// next is the body for the next attempt.
func (p *replay) next() (io.ReadCloser, error) {
	if p.none() {
		return p.r.Body, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.begun
	p.begun = true
	if p.r.GetBody != nil {
		if p.closed = true; first {
			return p.r.Body, nil
		}
		return p.r.GetBody()
	}
	p.open, p.free = true, make(chan struct{})
	return &part{p: p}, nil
}

// over closes the request's body, as soon as no attempt needs it any more.
func (p *replay) over() {
	if p.none() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last = true; !p.open {
		p.close()
	}
}

// close closes the request's body once. The lock is held. That may be while somebody reads: it is how to end a read that waits.
func (p *replay) close() {
	if !p.closed {
		p.closed = true
		_ = p.r.Body.Close()
	}
}

// part is the body of one attempt.
type part struct {
	p    *replay
	at   int // in what is kept
	gone bool
}

// Read implements io.Reader.
func (b *part) Read(buf []byte) (int, error) {
	p := b.p
	p.mu.Lock()
	switch {
	case b.gone:
		p.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	case b.at < len(p.kept):
		n := copy(buf, p.kept[b.at:])
		b.at += n
		p.mu.Unlock()
		return n, nil
	case p.ended != nil:
		defer p.mu.Unlock()
		return 0, p.ended
	}
	p.reading = true
	p.mu.Unlock()
	n, err := p.r.Body.Read(buf) // without the lock: it may wait for whoever writes it
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = false
	p.keep(buf[:n], err)
	b.at = len(p.kept)
	p.settle()
	return n, err
}

func (p *replay) keep(read []byte, err error) {
	if p.ended = err; p.lost || len(p.kept)+len(read) > replayMost {
		p.lost, p.kept = true, nil
		return
	}
	p.kept = append(p.kept, read...)
}

// settle tells who waits that the last attempt has let go. The lock is held.
func (p *replay) settle() {
	if p.open || p.reading {
		return
	}
	select {
	case <-p.free:
	default:
		close(p.free)
	}
}

// Close implements io.Closer. It does not wait for a Read under way: senders close a body to end one.
func (b *part) Close() error {
	p := b.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.gone {
		return nil
	}
	b.gone, p.open = true, false
	if p.settle(); p.last {
		p.close()
	}
	return nil
}
