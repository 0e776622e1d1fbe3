package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// headBytes and headFields bound the heads of endpoints, which may set many cookies.
const (
	headBytes  = 64 << 10
	headFields = 500
)

// noMoreChunks at the end of what was read says that the next step needs no waiting.
var noMoreChunks = []byte("0\r\n\r\n")

// h1Back is one HTTP/1.1 connection to an endpoint. While idle it holds no buffer.
type h1Back struct {
	watched
	l    *Link
	conn net.Conn
	sock sock

	buf  []byte
	r, w int
	got  int64 // body bytes of this answer

	left       int64 // of a body with a length
	chunked    bool
	untilClose bool
	bodiless   bool
	bodyEnd    bool
	chunks     wire.Chunks

	toSend      [2][]byte // head and body that wait for the call of head
	sendChunked bool
	chunkHead   [20]byte
	sentAll     bool   // the request went out whole
	used        bool   // it carried an exchange before: the endpoint may have closed it meanwhile
	keep        bool   // the answer allows another exchange
	since       int64  // when it became idle, on the sweeper's clock
	sentBytes   int64  // over the whole life of the connection
	sentBefore  int64  // the same, when this exchange began
	shard       uint32 // whose stack it goes back to
	age         uint32 // of the link when it was made
	cancelled   atomic.Bool
	deadline    time.Time          // of the exchange it carries
	x           *exchange.Exchange // nil while unused

	end    atomic.Int64  // when the wait under way ends, on the sweeper's clock
	apart  bool          // the request body is sent apart from the head, by another goroutine
	moving atomic.Bool   // it still comes
	headed atomic.Bool   // the answer's head is there
	pause  time.Duration // until the next look at whether the client is there
	late   bool          // a wake-up may still come, or came
	stuck  bool          // the request cannot go out whole
	doubt  bool          // the last answer may be followed by a body that it must not have
}

func newH1Back(l *Link, c net.Conn) (*h1Back, error) {
	b := &h1Back{l: l, conn: c}
	var tcp *net.TCPConn
	if e, ok := c.(*linkConn); ok {
		tcp = e.TCPConn
	}
	p := l.up.proxy
	if err := b.sock.init(c, tcp, p.sweep); err != nil {
		return nil, err
	}
	p.sweep.add(&b.watched, c)
	return b, nil
}

func (b *h1Back) send(x *exchange.Exchange, s *scratch, body []byte, whole bool) (unsent bool, err error) {
	b.sentAll, b.keep, b.bodyEnd, b.got = false, false, false, 0
	b.sentBefore, b.deadline, b.x = b.sentBytes, x.Deadline, x
	b.sock.idle = b.l.up.cfg().Timeouts.Idle
	b.stuck, b.apart = false, !whole
	if b.apart {
		b.moving.Store(true)
		b.headed.Store(false)
	}
	r := x.Request
	out := wire.AppendRequestLine(s.out[:0], r.Method, s.target)
	out = wire.AppendField(out, nameHost, s.host)
	for i := range s.fields {
		if f := &s.fields[i]; f.ID != wire.TE { // hop-by-hop; only HTTP/2 passes it on
			out = wire.AppendField(out, f.Name, f.Value)
		}
	}
	b.sendChunked = false
	switch {
	case r.ContentLength >= 0:
		out = append(wire.AppendInt(append(out, "Content-Length: "...), r.ContentLength), crlf...)
	case !whole:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
		b.sendChunked = true
	case len(body) > 0 || len(r.Method) > 0 && r.Method[0] == 'P': // POST, PUT, PATCH: RFC 9110 §8.6
		out = append(wire.AppendInt(append(out, "Content-Length: "...), int64(len(body))), crlf...)
	}
	if r.Upgrade != nil {
		out = wire.AppendField(append(out, "Connection: Upgrade\r\n"...), nameUpgrade, r.Upgrade)
	}
	out = append(out, crlf...)
	s.out = out
	if b.sendChunked && len(body) > 0 {
		s.out = append(append(wire.AppendChunkHead(out, len(body)), body...), crlf...)
		out, body = s.out, nil
	} else if len(body) <= smallCopy {
		s.out = append(out, body...)
		out, body = s.out, nil
	}
	if whole { // head sends it, together with waiting for the answer
		b.toSend = [2][]byte{out, body}
		return false, nil
	}
	n, err := b.sock.write(out, body, nil)
	b.sentBytes += int64(n)
	return n == 0, err
}

// first reports whether sending goes before waiting for the answer, in a step of its own: TLS cannot go on after a write
// that was woken, and an endpoint may answer a new connection unasked, which only a read that is tried would see.
func (b *h1Back) first() bool { return !b.used || b.sock.raw == nil }

// ask sends what send left, and waits for the first bytes of the answer.
func (b *h1Back) ask(p *Proxy) (unsent bool, err error) {
	out, body := b.toSend[0], b.toSend[1]
	b.toSend = [2][]byte{}
	switch {
	case out == nil && body == nil:
		b.buf, b.w, err = b.sock.readLent(p.lend, p.giveBack)
		return err == io.EOF && b.unseen(), err
	case b.first():
		n, err := b.sock.write(out, body, nil)
		b.sentBytes += int64(n)
		if err != nil {
			b.stuck = true
			return n == 0, err
		}
		b.sentAll = true
		b.look()
		b.buf, b.w, err = b.sock.readLent(p.lend, p.giveBack)
		return err == io.EOF && b.unseen(), err
	default:
		var sent int
		b.buf, b.w, sent, err = b.sock.askLent(out, body, p.lend, p.giveBack)
		b.sentBytes += int64(sent)
		if b.sentAll = sent == len(out)+len(body); !b.sentAll { // again sends the rest
			k := min(sent, len(out))
			b.toSend = [2][]byte{out[k:], body[sent-k:]}
		}
	}
	return b.sentBytes == b.sentBefore || err == io.EOF && b.unseen(), err
}

func (b *h1Back) sendBody(p []byte) error {
	var n int
	var err error
	if b.sendChunked {
		n, err = b.sock.write(wire.AppendChunkHead(b.chunkHead[:0], len(p)), p, crlf)
	} else {
		n, err = b.sock.write(p, nil, nil)
	}
	b.sentBytes += int64(n)
	if err != nil {
		b.bodyOver()
	}
	return err
}

// bodyOver starts the time for the answer, which runs from the end of the request: while the body comes, its
// client has the time that its listener gives it, and the endpoint is not to blame.
func (b *h1Back) bodyOver() {
	l := b.l.up
	d := until(b.deadline, l.firstByte(b.x))
	if !b.headed.Load() {
		b.end.Store(l.proxy.sweep.clock.Load() + int64(d) + int64(watchTick))
	}
	b.moving.Store(false)
	if !b.headed.Load() {
		l.proxy.sweep.rearm(&b.watched, min(d, lookFirst))
	}
}

func (b *h1Back) endBody(trailers []wire.Field) error {
	defer b.bodyOver()
	if b.sendChunked {
		out := append(b.chunkHead[:0], lastChunk...)
		out = append(wire.AppendFields(out, trailers), crlf...)
		n, err := b.sock.write(out, nil, nil)
		b.sentBytes += int64(n)
		if err != nil {
			return err
		}
	}
	b.sentAll = true
	return nil
}

func (b *h1Back) head(x *exchange.Exchange, r *wire.Response) (unsent bool, err error) {
	p := b.l.up.proxy
	if b.r == b.w && b.buf != nil {
		p.heap.put(b.buf)
		b.buf = nil
	}
	b.waitHead()
	limits := wire.Limits{HeadBytes: headBytes, Fields: headFields}
	for {
		if b.buf != nil && b.r < b.w {
			n, err := r.Parse(b.buf[b.r:b.w], limits)
			if err != nil {
				if b.used { // perhaps the rest of what it sent before
					b.l.wary.Store(true)
				}
				return false, err
			}
			if n > 0 {
				b.r += n
				b.startBody(x, r)
				return false, nil
			}
		}
		if b.buf == nil {
			b.r, b.w = 0, 0
			unsent, err = b.ask(p)
		} else {
			var n int
			b.room()
			n, err = b.sock.read(b.buf[b.w:])
			b.w, unsent = b.w+n, false
		}
		if err != nil {
			if err = b.again(err); err != nil {
				return unsent, err
			}
		}
	}
}

// waitHead starts the time for the answer's head. It is without bound other than the exchange's deadline while the body comes.
func (b *h1Back) waitHead() {
	if b.moving.Load() {
		b.wait(until(b.deadline, forever), lookFirst)
		if b.moving.Load() {
			return
		}
	}
	b.wait(until(b.deadline, b.l.up.firstByte(b.x)), lookFirst)
}

// forever is longer than anybody waits, and added to a clock does not overflow it.
const forever = 1 << 60

// wait starts a wait of at most d, and looks whether the client is there after pause.
func (b *h1Back) wait(d, pause time.Duration) {
	s := b.l.up.proxy.sweep
	b.end.Store(s.clock.Load() + int64(d) + int64(watchTick)) // as armed, or a look just after it would end the wait too early
	b.pause = pause
	if b.moving.Load() || b.toSend[0] != nil && b.first() { // a write that cannot go on is not to be woken before its time
		b.arm(d)
		return
	}
	b.look()
}

// arm moves the deadline. What woke the connection just before it is noted: the bytes that are waited for may be here already, as the final head behind an
// informational one, and then nothing else would tell. The next request met the deadline of this one, and was refused as if the endpoint were too slow.
func (b *h1Back) arm(d time.Duration) {
	if b.l.up.proxy.sweep.arm(&b.watched, d) {
		b.late = true
	}
}

// look makes a wait under way wake up at the next time to look.
func (b *h1Back) look() {
	s := b.l.up.proxy.sweep
	b.arm(min(max(time.Duration(b.end.Load()-s.clock.Load())-watchTick, 0), b.pause))
	b.pause = min(2*b.pause, lookEvery)
}

// again says what becomes of a wait that ended with err: nil when it was only woken to look whether the
// client is still there, which it is, and is to be gone on with.
func (b *h1Back) again(err error) error {
	s := b.l.up.proxy.sweep
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if b.cancelled.Load() { // the endpoint is not to blame
		return errClientGone
	}
	if b.stuck || b.moving.Load() || s.clock.Load() >= b.end.Load() {
		return err
	}
	if _, ok := b.x.Front.(*h1Work); ok && Gone(b.x) {
		return errClientGone
	}
	if !s.revive(&b.watched) {
		return err
	}
	if b.cancelled.Load() { // cancel wakes whoever comes too late for its word
		return errClientGone
	}
	b.late = false
	b.look()
	return nil
}

// room makes space for the rest of a head.
func (b *h1Back) room() {
	if b.w < len(b.buf) {
		return
	}
	if b.r > 0 {
		b.r, b.w = 0, copy(b.buf, b.buf[b.r:b.w])
		return
	}
	grown := make([]byte, min(2*len(b.buf), headBytes+1))
	copy(grown, b.buf)
	b.l.up.proxy.heap.put(b.buf)
	b.buf = grown
}

// unseen reports whether the endpoint closed the connection before it could have seen the request: its
// FIN was there and it never acknowledged a byte of what was sent since (RFC 9112 §9.3.1 lets such a
// request be repeated whatever its method). The kernel counts the SYN as one acknowledged byte. It is not inlined
// into what waits for an answer, whose stack should stay small.
//
//go:noinline
func (b *h1Back) unseen() bool {
	if b.sock.raw == nil {
		return false
	}
	proved := false
	err := b.sock.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		proved = err == nil && int64(info.Bytes_acked) <= b.sentBefore+1
	})
	return err == nil && proved
}

// startBody learns from an answer head what body follows.
func (b *h1Back) startBody(x *exchange.Exchange, r *wire.Response) {
	if r.Status < 200 && r.Status != 101 {
		return
	}
	if b.apart {
		b.headed.Store(true)
	}
	if b.disarm() {
		b.late = true
	}
	n, chunked, untilClose := r.BodyLength(x.Request.Method)
	b.left, b.chunked, b.untilClose = max(n, 0), chunked, untilClose
	b.bodiless = r.Status == 204 || r.Status == 304 || string(x.Request.Method) == "HEAD"
	b.bodyEnd = !chunked && !untilClose && b.left == 0
	b.doubt = b.bodiless && (r.Chunked || r.ContentLength > 0)
	b.keep = !r.Close && !untilClose && r.Status != 101
	if chunked {
		b.chunks.Reset(wire.Limits{HeadBytes: headBytes, Fields: headFields})
	}
}

func (b *h1Back) length() int64 {
	switch {
	case b.bodiless:
		return noBody
	case b.chunked || b.untilClose:
		return -1
	}
	return b.left + b.got
}

func (b *h1Back) ready() bool { return b.bodyEnd || b.r < b.w }

func (b *h1Back) body() (p []byte, more bool, err error) {
	for !b.bodyEnd {
		if b.r < b.w {
			p, err = b.nextBody()
			if len(p) > 0 || err != nil {
				b.got += int64(len(p))
				return p, b.bodyEnd || b.chunked && bytes.HasSuffix(b.buf[b.r:b.w], noMoreChunks), err
			}
			continue
		}
		if err = b.fill(); err == io.EOF && b.untilClose {
			b.bodyEnd = true
		} else if err == io.EOF {
			return nil, false, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, false, err
		}
	}
	return nil, false, io.EOF
}

// nextBody takes body bytes that are in the buffer. Nothing: the buffer holds part of a chunk head.
func (b *h1Back) nextBody() ([]byte, error) {
	in := b.buf[b.r:b.w]
	switch {
	case b.chunked:
		data, n, err := b.chunks.Next(in)
		b.r += n
		if err == io.EOF {
			b.bodyEnd, err = true, nil
		} else if err == nil && n == 0 && len(data) == 0 {
			err = b.fill()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
		}
		return data, err
	case b.untilClose:
		b.r = b.w
		return in, nil
	}
	p := in[:min(int64(len(in)), b.left)]
	b.r += len(p)
	b.left -= int64(len(p))
	b.bodyEnd = b.left == 0
	return p, nil
}

// fill reads more of the body into a buffer that grows with how much comes.
func (b *h1Back) fill() error {
	p := b.l.up.proxy
	rest := b.buf[b.r:b.w]
	if len(b.buf) != bulkSize && (b.left > bulkSize || b.got > bulkSize) {
		bulk := p.heap.getBulk()
		copy(bulk, rest)
		p.heap.put(b.buf)
		b.buf = bulk
	} else {
		copy(b.buf, rest)
	}
	b.r, b.w = 0, len(rest)
	if b.w == len(b.buf) {
		return wire.ErrBadChunk
	}
	b.wait(until(b.deadline, b.l.up.cfg().Timeouts.Idle), lookEvery)
	for {
		n, err := b.sock.read(b.buf[b.w:])
		b.w += n
		if err != nil {
			err = b.again(err)
		} else if b.disarm() { // the time that the client takes for these bytes does not count
			b.late = true
		}
		if err != nil || n > 0 {
			return err
		}
	}
}

func (b *h1Back) trailers() []wire.Field {
	if !b.chunked {
		return nil
	}
	return b.chunks.Trailers()
}

func (b *h1Back) cancel() {
	b.cancelled.Store(true)
	b.conn.SetDeadline(longAgo)
}

func (b *h1Back) release(reuse bool) {
	late := b.disarm() || b.late
	b.x, b.late = nil, false
	b.toSend = [2][]byte{}
	rest := b.w - b.r
	if b.buf != nil {
		b.l.up.proxy.heap.put(b.buf)
		b.buf, b.r, b.w = nil, 0, 0
	}
	if reuse && b.keep && b.bodyEnd && b.sentAll && rest == 0 && !b.cancelled.Load() && !late && b.l.put(b) {
		return
	}
	if rest > 0 && reuse && b.keep && b.bodyEnd {
		b.l.wary.Store(true)
	}
	b.close()
}

// close ends the connection for good.
func (b *h1Back) close() {
	b.l.up.proxy.sweep.remove(&b.watched)
	b.conn.Close()
}

// until is how long d is at most, when deadline is zero or later.
func until(deadline time.Time, d time.Duration) time.Duration {
	if deadline.IsZero() {
		return d
	}
	return min(d, max(time.Until(deadline), 0))
}
