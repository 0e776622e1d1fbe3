package proxy

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// h1Conn is one HTTP/1.1 client connection. While idle it holds no buffer and no h1Work.
type h1Conn struct {
	p      *Proxy
	c      *conn
	sock   sock
	buf    []byte // lent while busy
	r, w   int    // unread bytes of buf
	served int    // requests so far
}

// serveHTTP1 serves c until it ends. first are bytes already read from it.
func (p *Proxy) serveHTTP1(c *conn, first []byte) {
	h := &h1Conn{p: p, c: c}
	tcp, _ := c.Conn.(*net.TCPConn)
	if err := h.sock.init(c.Conn, tcp, p.sweep); err != nil {
		return
	}
	if len(first) > 0 {
		h.buf = p.heap.get()
		if len(first) > len(h.buf) {
			h.buf = make([]byte, len(first))
		}
		h.w = copy(h.buf, first)
	}
	for h.await() && h.busy() {
	}
	if h.buf != nil {
		p.heap.put(h.buf)
	}
}

// await waits for the first bytes of a request without a buffer.
func (h *h1Conn) await() bool {
	if h.buf != nil {
		return true
	}
	c := h.c
	h.p.sweep.arm(&c.watched, c.cfg.Limits.IdleTimeout)
	c.idle.Store(true)
	buf, n, err := h.sock.readLent(h.p.lend, h.p.giveBack)
	c.idle.Store(false)
	if err != nil {
		return false
	}
	h.buf, h.r, h.w = buf, 0, n
	return h.p.sweep.settle(&c.watched)
}

// busy serves every request that is at hand. false: the connection is finished.
func (h *h1Conn) busy() bool {
	w := h.p.heap.getWork()
	w.h = h
	h.c.facts(&w.x)
	again := true
	for again && h.r < h.w {
		again = h.serve(w)
	}
	w.req.Reset()
	w.x.Reset()
	w.x.Front, w.x.Listener = nil, nil
	h.p.heap.putWork(w)
	if again {
		h.p.heap.put(h.buf)
		h.buf = nil
	}
	return again
}

// serve takes one request from the buffer and answers it.
func (h *h1Conn) serve(w *h1Work) bool {
	w.reset()
	n, err := h.head(w)
	switch {
	case errors.Is(err, errPreface):
		rest := bytes.Clone(h.buf[h.r:h.w])
		h.r, h.w = 0, 0
		h.c.disarm()
		h.p.serveHTTP2(h.c, rest)
		return false
	case err != nil:
		h.refuseHead(w, err)
		return false
	}
	h.r += n
	h.served++
	w.startBody()
	w.x.Start = time.Now()
	handler := *h.c.listener.handler.Load()
	if string(w.req.Method) == "CONNECT" {
		handler = refuseTunnel
	}
	if r := handler(&w.x); r != nil {
		refuse(w, &w.x, r)
	}
	return w.finish()
}

// head reads until a whole request head is in the buffer, within the header timeout.
func (h *h1Conn) head(w *h1Work) (int, error) {
	limits := wire.Limits{HeadBytes: int(h.c.cfg.Limits.HeaderBytes), Fields: h.c.cfg.Limits.Headers}
	armed := false
	for {
		in := h.buf[h.r:h.w]
		if in[0] == 'P' && h.served == 0 && h.c.tls == nil && h.c.cfg.HTTP2 && isPreface(in) {
			return 0, errPreface
		}
		n, err := w.req.Parse(in, limits)
		if n > 0 || err != nil {
			if armed && !h.p.sweep.settle(&h.c.watched) {
				return 0, net.ErrClosed
			}
			return n, err
		}
		if !armed {
			armed = true
			h.p.sweep.arm(&h.c.watched, h.c.cfg.Limits.HeaderTimeout)
		}
		h.room(limits.HeadBytes)
		m, err := h.sock.read(h.buf[h.w:])
		if err != nil {
			return 0, err
		}
		h.w += m
	}
}

// room makes space behind the unread bytes for the rest of a head.
func (h *h1Conn) room(limit int) {
	if h.w < len(h.buf) {
		return
	}
	if h.r > 0 {
		h.w = copy(h.buf, h.buf[h.r:h.w])
		h.r = 0
		return
	}
	grown := make([]byte, min(2*len(h.buf), limit+1))
	if len(grown) <= h.w { // the parser refuses a head of limit bytes that does not end
		grown = make([]byte, h.w+1)
	}
	copy(grown, h.buf)
	h.p.heap.put(h.buf)
	h.buf = grown
}

// refuseHead answers a head that could not be read, when there is somebody to answer.
func (h *h1Conn) refuseHead(w *h1Work, err error) {
	var bad *wire.Error
	r := refuseHeaderTimeout
	switch {
	case errors.As(err, &bad):
		r = &exchange.Refusal{Stage: "parse", Reason: bad.Reason, Status: bad.Status, Close: true}
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return // the client left in the middle of a head
	default:
		h.c.SetDeadline(time.Time{}) // so that the answer can go out
	}
	if r == refuseHeaderTimeout {
		h.c.listener.refused[refusedHeaderTimeout].Add(1)
	} else {
		h.c.listener.refused[refusedBadHead].Add(1)
	}
	w.x.Front, w.closing, w.bodyEnd = w, true, true
	w.x.Request, w.req.Minor, w.req.Method = nil, 1, nil
	if refuse(w, &w.x, r) == nil {
		h.linger()
	}
}

// lingerTime is how long a connection that was answered early is read on, so that the answer is
// not lost to a reset (RFC 9112 §9.6).
const lingerTime = time.Second

// lingerBytes bounds what is read meanwhile: what is under way in a moment on a fast line, as clients stop once they have read the answer. Of 256 KiB
// three in ten of Go's saw a broken pipe in place of the 413 to 3 MiB, on one machine.
const lingerBytes = 16 << 20

// linger ends the sending side and reads what the client still sends, for a moment.
func (h *h1Conn) linger() {
	half, ok := h.c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	h.c.SetReadDeadline(time.Time{}) // stopBody may have set one
	h.p.sweep.arm(&h.c.watched, lingerTime)
	if h.buf == nil {
		h.buf = h.p.heap.get()
	}
	for left := lingerBytes; left > 0; {
		n, err := h.sock.read(h.buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// errPreface says that an HTTP/2 connection begins.
var errPreface = errors.New("HTTP/2 preface")

// refuseHeaderTimeout is the answer to a head that came too slowly.
var refuseHeaderTimeout = &exchange.Refusal{Stage: "parse", Reason: "header_timeout", Status: 408, Close: true}

// refuseTunnel is the handler of CONNECT: evenkeel stands before a service and opens no tunnels to elsewhere.
func refuseTunnel(*exchange.Exchange) *exchange.Refusal { return refusedTunnel }

var refusedTunnel = &exchange.Refusal{Stage: "parse", Reason: "connect_method", Status: 405, Detail: "CONNECT is not served here.", Close: true}

// isPreface reports whether in begins an HTTP/2 connection; the first line is enough to know.
func isPreface(in []byte) bool {
	const line = "PRI * HTTP/2.0\r\n"
	return len(in) >= len(line) && string(in[:len(line)]) == line
}
