package proxy

import (
	"sync"
	"sync/atomic"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// bufferSize is that of a read buffer: a default head limit, and the size of a TLS record.
const bufferSize = 16 << 10

// bulkSize is that of a read buffer for long bodies: fewer, larger system calls.
const bulkSize = 128 << 10

// engine is what the HTTP engines of one proxy share.
type engine struct {
	heap      buffers
	lend      func() []byte // heap.get, made once: a method value per call would allocate
	giveBack  func([]byte)
	upstreams upstreams
}

func (e *engine) init() { e.lend, e.giveBack = e.heap.get, e.heap.put }

// buffers are lent while bytes move and given back while a connection is idle.
type buffers struct{ small, bulk, work sync.Pool }

func (b *buffers) get() []byte {
	if p, _ := b.small.Get().(*[bufferSize]byte); p != nil {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) put(p []byte) {
	switch {
	case cap(p) == bufferSize:
		b.small.Put((*[bufferSize]byte)(p[:bufferSize]))
	case cap(p) == bulkSize:
		b.bulk.Put((*[bulkSize]byte)(p[:bulkSize]))
	} // others grew for one long head and are left to the collector
}

func (b *buffers) getBulk() []byte {
	if p, _ := b.bulk.Get().(*[bulkSize]byte); p != nil {
		return p[:]
	}
	return make([]byte, bulkSize)
}

// h1Work is what an HTTP/1.1 client connection needs while it has a request, and is the front of its exchanges.
type h1Work struct {
	h   *h1Conn
	x   exchange.Exchange
	req wire.Request
	scr scratch

	// The request's body: bytes left of a given length, or chunks; taken counts bytes given out.
	left    int64
	chunked bool
	bodyEnd bool // everything was read
	// bodyDone says to the answering goroutine that the body was read to its end by another.
	bodyDone  atomic.Bool
	tried     bool        // an endpoint was tried: the body may be on its way to it
	bodyLate  atomic.Bool // the body came too slowly, and the connection was woken
	stopped   atomic.Bool // nobody wants the rest of the body
	chunks    wire.Chunks
	taken     int64
	bodyErr   error
	head      []byte // the buffer with the request head, once the body has one of its own
	bodySince int64  // when waiting for the body began, on the clock of the sweeper
	peeked    peeking

	// The answer.
	out      []byte // head, chunk heads and small bodies that wait for the next write
	begun    bool   // begin was called
	ended    bool
	broken   bool // the connection cannot carry another answer
	framed   bool // chunks
	bodyless bool
	closing  bool // the connection ends after this answer
}

func (b *buffers) getWork() *h1Work {
	if w, _ := b.work.Get().(*h1Work); w != nil {
		return w
	}
	return &h1Work{out: make([]byte, 0, 4<<10), scr: scratch{bytes: make([]byte, 0, 1<<10), fields: make([]wire.Field, 0, 32)}}
}

func (b *buffers) putWork(w *h1Work) {
	w.h = nil
	if cap(w.out) > 64<<10 {
		w.out = make([]byte, 0, 4<<10)
	}
	b.work.Put(w)
}
