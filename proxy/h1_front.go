package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// smallCopy is up to which size copying a body behind its head is cheaper than a second part of sendmsg.
const smallCopy = 4 << 10

// drainLimit is how much of an unread request body is read to keep a connection.
const drainLimit = 64 << 10

var (
	errBodySlow    = errors.New("the request body came slower than the minimum rate")
	errBodyLarge   = errors.New("the request body is larger than its limit")
	errBodyStopped = errors.New("the request body is not wanted any more")
)

// reset readies w for the next request of its connection.
func (w *h1Work) reset() {
	w.x.Reset()
	w.x.Request, w.x.Front = &w.req, w
	w.taken, w.bodyErr, w.bodyEnd, w.tried = 0, nil, false, false
	if w.stopped.Load() || w.bodyLate.Load() { // storing costs more than looking
		w.stopped.Store(false)
		w.bodyLate.Store(false)
	}
	w.out = w.out[:0]
	w.begun, w.ended, w.broken, w.framed, w.bodyless, w.closing = false, false, false, false, false, false
}

// startBody learns from the head what body follows.
func (w *h1Work) startBody() {
	h := w.h
	w.chunked, w.left = w.req.Chunked, max(w.req.ContentLength, 0)
	w.bodyEnd = !w.chunked && w.left == 0
	_, w.x.Replayable = w.pending()
	w.bodyDone.Store(w.bodyEnd)
	if wire.HasToken(w.req.Upgrade, "h2c") {
		w.req.Upgrade = nil // an endpoint that switched would take requests that no stage has seen
	}
	limits := &h.c.cfg.Limits
	w.closing = w.req.Close || h.c.listener.draining.Load() || limits.Requests > 0 && h.served >= limits.Requests
	if w.chunked {
		w.chunks.Reset(wire.Limits{HeadBytes: int(limits.HeaderBytes), Fields: limits.Headers})
	}
	h.sock.idle, h.sock.rate, h.sock.end = limits.IdleTimeout, int64(limits.MinRate), time.Time{}
}

func (w *h1Work) scratch() *scratch { return &w.scr }

func (w *h1Work) date() []byte { return w.h.p.sweep.date.Load().text }

// watchCancel needs no watch: who waits for the endpoint looks now and then, see (*h1Back).again.
func (w *h1Work) watchCancel(b back) { w.tried = w.tried || b != nil }

func (w *h1Work) pending() (p []byte, whole bool) {
	h := w.h
	switch {
	case w.peeked.body != nil:
		return w.peeked.pending(w)
	case w.bodyEnd:
		return nil, true
	case w.chunked || w.left > int64(h.w-h.r) || w.taken > 0:
		return nil, false
	}
	return h.buf[h.r : h.r+int(w.left)], true
}

func (w *h1Work) requestTrailers() []wire.Field {
	if !w.chunked {
		return nil
	}
	return w.chunks.Trailers()
}

func (w *h1Work) readBody() ([]byte, error) {
	if p := w.peeked.next(); len(p) > 0 {
		return p, nil
	}
	for w.bodyErr == nil {
		if w.bodyEnd {
			w.bodyDone.Store(true)
			return nil, io.EOF
		}
		p := w.nextBody(bulkSize)
		if len(p) > 0 {
			w.taken += int64(len(p))
			if w.bodyEnd { // now, and not at the next call: the endpoint may answer as soon as it has these
				w.bodyDone.Store(true)
			}
			return p, nil
		}
		switch {
		case w.bodyErr != nil || w.bodyEnd:
		case w.stopped.Load():
			w.bodyErr = errBodyStopped
		default:
			w.fillBody()
		}
	}
	return nil, w.bodyErr
}

// nextBody takes body bytes that are in the buffer, up to most; chunks are taken as they are.
func (w *h1Work) nextBody(most int) []byte {
	h := w.h
	in := h.buf[h.r:h.w]
	if w.chunked {
		data, n, err := w.chunks.Next(in)
		h.r += n
		if err == io.EOF {
			w.bodyEnd = true
		} else if err != nil {
			w.bodyErr = err
		}
		return data
	}
	p := in[:min(int64(len(in)), w.left, int64(most))]
	h.r += len(p)
	w.left -= int64(len(p))
	w.bodyEnd = w.left == 0
	return p
}

// fillBody reads more of the body. The head stays where it is, since the exchange points into it: from the
// first read on the buffer is a second one, larger when much comes.
func (w *h1Work) fillBody() {
	h := w.h
	rest := h.buf[h.r:h.w]
	old, next := h.buf, h.buf
	switch {
	case w.head == nil:
		w.head, w.bodySince = h.buf, h.p.sweep.clock.Load()
		old, next = nil, h.p.heap.get()
	case w.taken > bulkSize && len(h.buf) == bufferSize:
		next = h.p.heap.getBulk()
	default:
		old = nil
	}
	h.buf, h.r, h.w = next, 0, copy(next, rest)
	if old != nil {
		h.p.heap.put(old)
	}
	if h.w == len(h.buf) {
		w.bodyErr = wire.ErrBadChunk
		return
	}
	limits := &h.c.cfg.Limits
	wait := limits.IdleTimeout
	if limits.MinRate > 0 {
		due := stallTime(int64(limits.MinRate), w.taken) - time.Duration(h.p.sweep.clock.Load()-w.bodySince)
		wait = max(min(wait, due), time.Millisecond)
	}
	if !w.peeked.until.IsZero() {
		wait = max(min(wait, time.Until(w.peeked.until)), time.Millisecond)
	}
	h.p.sweep.arm(&h.c.watched, wait)
	n, err := h.sock.read(h.buf[h.w:])
	h.w += n
	late := h.c.disarm() // an endpoint that thinks about the body for long is not the client's fault
	switch {
	case late || errors.Is(err, os.ErrDeadlineExceeded):
		w.bodyErr = errBodySlow
		w.bodyLate.Store(true)
	case err == nil:
	case err == io.EOF:
		w.bodyErr = io.ErrUnexpectedEOF
	default:
		w.bodyErr = err
	}
}

func (w *h1Work) bodyRead() bool { return w.bodyDone.Load() }

// stopBody does nothing once the body was read to its end: the connection may carry another request then.
func (w *h1Work) stopBody() {
	if !w.bodyRead() {
		w.stopped.Store(true)
		w.h.c.SetReadDeadline(longAgo)
	}
}

func (w *h1Work) inform(r *wire.Response) error {
	if w.req.Minor == 0 || r.Status == 100 && w.peeked.continued {
		return nil // RFC 9110 §15.2: HTTP/1.0 clients know no 1xx
	}
	w.out = wire.AppendStatusLine(w.out[:0], r.Status)
	for i := range r.Fields {
		if f := &r.Fields[i]; !wire.HopByHop(f.ID) && !r.NamedByConnection(f.Name) {
			w.out = wire.AppendField(w.out, f.Name, f.Value)
		}
	}
	w.out = append(w.out, "\r\n"...)
	return w.flush()
}

func (w *h1Work) begin(x *exchange.Exchange, status int, fields []wire.Field, length int64) error {
	w.begun, w.bodyless = true, length == noBody
	x.Outcome.Status, x.Outcome.Started = status, true
	if !w.x.Replayable && !w.bodyDone.Load() && !w.skippable() || w.stopped.Load() {
		w.closing = true // an answer before the end of the request: the rest of the body is in the way of the next
	}
	if w.bodyLate.Load() { // the body's deadline woke the connection, and nobody reads any more: let the answer go out
		w.h.p.sweep.revive(&w.h.c.watched)
	}
	out := wire.AppendFields(wire.AppendStatusLine(w.out[:0], status), fields)
	switch {
	case length == noBody:
	case length >= 0:
		out = append(wire.AppendInt(append(out, "Content-Length: "...), length), "\r\n"...)
	case w.req.Minor == 1:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
		w.framed = true
	default:
		w.closing = true
	}
	switch {
	case status == 101:
		out = append(out, "Connection: Upgrade\r\n"...)
	case w.closing:
		out = append(out, "Connection: close\r\n"...)
	case w.req.Minor == 0:
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	w.out = append(out, "\r\n"...)
	return nil
}

func (w *h1Work) retract() bool {
	if !w.begun || w.ended || w.broken || len(w.out) == 0 { // a head that was sent waits no more
		return false
	}
	w.out = w.out[:0]
	w.begun, w.framed, w.bodyless = false, false, false
	return true
}

func (w *h1Work) write(p []byte, more bool) error {
	if w.bodyless || len(p) == 0 {
		return nil
	}
	var tail []byte
	if w.framed {
		w.out = wire.AppendChunkHead(w.out, len(p))
		tail = crlf
	}
	if len(p) <= smallCopy || more && len(w.out)+len(p) <= bufferSize {
		w.out = append(append(w.out, p...), tail...)
		if more && len(w.out) < bufferSize {
			return nil
		}
		return w.flush()
	}
	return w.sendOut(p, tail)
}

var (
	crlf      = []byte("\r\n")
	lastChunk = []byte("0\r\n")
)

func (w *h1Work) end(trailers []wire.Field) error {
	w.ended = true
	if w.framed {
		w.out = append(wire.AppendFields(append(w.out, lastChunk...), trailers), crlf...)
	}
	if len(w.out) == 0 {
		return nil
	}
	return w.flush()
}

func (w *h1Work) endBy(t time.Time) { w.h.sock.end = t }

func (w *h1Work) flush() error { return w.sendOut(nil, nil) }

// sendOut sends what waits, and then p and tail.
func (w *h1Work) sendOut(p, tail []byte) error {
	_, err := w.h.sock.write(w.out, p, tail)
	w.out = w.out[:0]
	if err != nil {
		w.broken = true
	}
	return err
}

func (w *h1Work) abort() {
	w.broken = true
	tcp, ok := bare(w.h.c.Conn).(*net.TCPConn)
	if !ok || w.framed {
		return
	}
	tcp.SetLinger(0) // without chunks only a reset tells a cut answer from a whole one
	if w.h.c.tls != nil {
		tcp.Close() // and no close_notify, which would say that this was all
	}
}

// finish brings the connection to rest after an exchange. false: it cannot carry another.
func (w *h1Work) finish() bool {
	h := w.h
	ok := w.begun && w.ended && !w.broken
	if ok && !w.bodyEnd {
		ok = w.skipBody()
	}
	w.peeked.release(&h.p.heap)
	if w.head != nil { // requests already sent behind the body are in the second buffer
		h.p.heap.put(w.head)
		w.head = nil
		if len(h.buf) == bulkSize && h.w-h.r <= bufferSize {
			small := h.p.heap.get()
			h.r, h.w = 0, copy(small, h.buf[h.r:h.w])
			h.p.heap.put(h.buf)
			h.buf = small
		}
		h.c.disarm()
	}
	if ok && w.closing && (!w.bodyEnd || h.r < h.w || !w.req.Close) { // the client may be sending, and not know that we close
		h.linger()
	}
	return ok && !w.closing
}

// skippable reports whether a request that no endpoint was tried with has so little body that reading it costs less than a new
// connection, which is what clients that are refused would make.
func (w *h1Work) skippable() bool {
	return !w.tried && !w.req.Expect100 && !w.chunked && w.left <= drainLimit
}

// skipBody reads the rest of a request body that nobody wanted, when that is little.
func (w *h1Work) skipBody() bool {
	if p, whole := w.pending(); whole {
		w.h.r += len(p)
		w.bodyEnd = true
		return true
	}
	if w.closing || w.req.Expect100 || w.left > drainLimit {
		w.closing = true
		return true
	}
	for start := w.taken; w.taken-start < drainLimit; {
		if _, err := w.readBody(); err == io.EOF {
			return true
		} else if err != nil {
			return false
		}
	}
	return false
}
