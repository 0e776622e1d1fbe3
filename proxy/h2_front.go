package proxy

import (
	"errors"
	"log/slog"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// h2Front is one request of an HTTP/2 client: the front of its exchange. It stays in the connection's table, and counts
// against the limit of streams, until its handler has returned, even when the client resets it before.
type h2Front struct {
	h2Stream
	server  *h2Server
	x       exchange.Exchange
	req     wire.Request
	fields  h2Fields
	scr     scratch
	watched back   // cancelled when the stream fails; guarded by the lock
	head    []byte // header block of the answer
	waits   bool   // head was not sent yet
	begun   bool
	left    int64     // declared bytes of the answer that are still to come; -1: not declared
	patient bool      // the minimum rate does not hold for the request body: it is a conversation
	cut     bool      // the body passed its limit
	due     time.Time // when the client must have taken the answer; zero: at no time. It does not change while the stream is blocked
	told100 bool      // the client was told to go on
}

func (s *h2Shared) getFront() *h2Front {
	if f, _ := s.fronts.Get().(*h2Front); f != nil {
		return f
	}
	f := &h2Front{head: make([]byte, 0, 512)}
	f.fields.arena = make([]byte, 0, 1<<10)
	f.fields.list = make([]wire.Field, 0, 32)
	f.scr.bytes = make([]byte, 0, 1<<10)
	f.scr.fields = make([]wire.Field, 0, 32)
	return f
}

func (s *h2Shared) putFront(f *h2Front) {
	f.rest()
	f.server, f.watched = nil, nil
	f.x.Front, f.x.Listener = nil, nil
	s.fronts.Put(f)
}

// start readies f for the request that was decoded into its fields. The lock is held.
func (f *h2Front) start(h *h2Server, id uint32, end bool) {
	f.open(&h.h2Conn, id)
	f.h2Stream.front = f
	start := f.x.Start
	f.x.Reset()
	h.c.facts(&f.x)
	f.x.Start, f.x.Protocol, f.x.Request, f.x.Front = start, exchange.HTTP2, &f.req, f
	f.want, f.remoteEnd = f.req.ContentLength, end
	f.waits, f.begun, f.left, f.cut, f.told100 = false, false, -1, false, false
	f.due = time.Time{}
}

// work runs the request through the stages. It is the task of a worker.
func (f *h2Front) work() {
	defer f.recovered()
	r := refuseHead
	if !f.fields.over {
		r = (*f.server.c.listener.handler.Load())(&f.x)
	} else {
		f.server.c.listener.refused[refusedBadHead].Add(1)
	}
	if r != nil {
		refuse(f, &f.x, r) // an error means that the client is gone
		if r.Close {
			f.h.mu.Lock()
			f.server.announce(closedRequests)
			f.h.mu.Unlock()
		}
	}
	f.finish()
}

// recovered makes a panic of a stage or an engine cost one request, not the process.
func (f *h2Front) recovered() {
	v := recover()
	if v == nil {
		return
	}
	f.server.p.panicked("an HTTP/2 request panicked", v, slog.String("listener", f.server.c.listener.name))
	f.finish()
}

// finish takes the stream from its connection after its handler returned.
func (f *h2Front) finish() {
	h := f.server
	h.mu.Lock()
	if !f.localEnd {
		f.reset(http2.ErrCodeInternal, errH2Stopped)
	} else if !f.remoteEnd && f.err == nil && !f.told { // RFC 9113 §8.1: the rest of the body is not wanted
		f.h.append(func(b []byte) []byte { return appendH2Reset(b, f.id, http2.ErrCodeNo) })
		f.h.remember(f.id)
	}
	f.watched = nil
	f.remove()
	h.mu.Unlock()
	h.p.h2.putFront(f)
}

func (f *h2Front) scratch() *scratch { return &f.scr }

func (f *h2Front) date() []byte { return f.h.p.sweep.date.Load().text }

func (f *h2Front) pending() ([]byte, bool) {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	if !f.remoteEnd || f.readErr != nil || f.err != nil || f.got != int64(len(f.recv)) || len(f.trail.list) > 0 {
		return nil, false
	}
	return f.recv, true
}

func (f *h2Front) readBody() ([]byte, error) {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	return f.take()
}

func (f *h2Front) requestTrailers() []wire.Field { return f.trail.list }

func (f *h2Front) bodyRead() bool {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	return f.remoteEnd && len(f.recv) == 0
}

func (f *h2Front) stopBody() {
	f.h.mu.Lock()
	if f.readErr == nil {
		f.readErr = errH2Stopped
	}
	f.canRead.Broadcast()
	f.h.mu.Unlock()
}

// watchCancel holds the lock while b.cancel runs, so that after watchCancel(nil) it is never called.
func (f *h2Front) watchCancel(b back) {
	f.h.mu.Lock()
	f.watched = b
	if b != nil && f.err != nil {
		b.cancel()
	}
	f.h.mu.Unlock()
}

func (f *h2Front) inform(r *wire.Response) error {
	if r.Status == 101 || r.Status == 100 && f.told100 {
		return nil // RFC 9113 §8.6: HTTP/2 has no upgrade
	}
	block := appendHpackStatus(f.head[:0], r.Status)
	for i := range r.Fields {
		if fit := &r.Fields[i]; !wire.HopByHop(fit.ID) && fit.ID != wire.ContentLength {
			block = appendHpackField(block, fit)
		}
	}
	f.head = block
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	err := f.sendHead(block, 0)
	f.h.kick()
	return err
}

// begin makes the header block, which needs no lock: the encoder has no state.
func (f *h2Front) begin(x *exchange.Exchange, status int, fields []wire.Field, length int64) error {
	f.begun = true
	x.Outcome.Status, x.Outcome.Started = status, true
	block := appendHpackStatus(f.head[:0], status)
	for i := range fields {
		block = appendHpackField(block, &fields[i])
	}
	if length >= 0 {
		block = appendHpackInt(block, 0, 4, 28)
		var digits [20]byte
		block = appendHpackText(block, strconv.AppendInt(digits[:0], length, 10))
	}
	f.head, f.waits, f.left = block, true, length
	if length >= 0 || length == noBody {
		return nil
	}
	// Nothing says when the first byte of the body comes: a stream of events, or a gRPC call that waits for the head.
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	err := f.flushHead()
	f.h.kick()
	return err
}

// flushHead queues the head if it still waits. The lock is held.
func (f *h2Front) flushHead() error {
	if !f.waits {
		return f.err
	}
	f.waits = false
	return f.sendHead(f.head, 0)
}

func (f *h2Front) retract() bool {
	if !f.waits {
		return false
	}
	f.begun, f.waits, f.left = false, false, -1
	return true
}

func (f *h2Front) endBy(t time.Time) { f.due = t }

func (f *h2Front) flush() error {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	err := f.flushHead()
	f.h.kick()
	return err
}

func (f *h2Front) write(p []byte, more bool) error {
	if f.left == noBody {
		return nil
	}
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	if err := f.flushHead(); err != nil {
		return err
	}
	if f.left > 0 {
		f.left = max(f.left-int64(len(p)), 0)
	}
	return f.send(p, more || f.left == 0)
}

func (f *h2Front) end(trailers []wire.Field) error {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	if err := f.flushHead(); err != nil {
		return err
	}
	if len(trailers) == 0 || f.left == noBody {
		return f.sendEnd()
	}
	block := f.head[:0]
	for i := range trailers {
		if !wire.HopByHop(trailers[i].ID) {
			block = appendHpackField(block, &trailers[i])
		}
	}
	f.head = block
	err := f.sendHead(block, http2.FlagHeadersEndStream)
	f.h.kick()
	return err
}

func (f *h2Front) abort() {
	f.h.mu.Lock()
	f.reset(http2.ErrCodeInternal, errH2Stopped)
	f.h.mu.Unlock()
}

// cutOff is abort after the endpoint's answer failed with err. An endpoint's CANCEL is handed on to HTTP/2 clients as it is: gRPC
// clients tell by it that a deadline passed and nothing is broken.
func cutOff(f front, err error) {
	h2, is := f.(*h2Front)
	if !is || !errors.Is(err, errH2Cancelled) {
		f.abort()
		return
	}
	h2.h.mu.Lock()
	h2.reset(http2.ErrCodeCancel, errH2Stopped)
	h2.h.mu.Unlock()
}

var _ front = (*h2Front)(nil)
