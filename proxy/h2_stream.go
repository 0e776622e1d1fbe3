package proxy

import (
	"io"
	"sync"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/wire"
)

// h2Stream is what both ends of a stream have in common: bodies with flow control in both directions. All
// is guarded by the connection's lock, except taken, which belongs to whoever reads the body.
type h2Stream struct {
	h  *h2Conn
	id uint32 // 0: not on the wire yet

	front *h2Front // one of the two is set
	back  *h2Back

	err     error // why the stream ended too early; nil while it runs or when it ended well
	told    bool  // the peer knows that the stream is reset
	canSend sync.Cond
	canRead sync.Cond

	sendWin   int
	blocked   bool   // waits to send
	sent      int64  // body bytes
	localEnd  bool   // END_STREAM was sent
	lastFrame uint64 // place of the last frame's flags, counted as h2Conn.base; 0: none

	recvWin   int
	window    int    // what recvWin comes back to
	owed      int    // taken and not given back
	recv      []byte // arrived and not taken
	taken     []byte // given out by the last take
	got       int64  // body bytes that arrived
	want      int64  // content-length, -1: none
	remoteEnd bool
	waiting   bool  // waits for body bytes
	readErr   error // ends reading alone

	trail h2Fields // trailers of the peer

	// What the sweeper last saw, to tell standing still from moving.
	seenSent, seenGot    int64
	stuckSend, stuckRead int64 // since when waiting, on the sweeper's clock; 0: not waiting
}

// open readies s for a stream of h; the lock is held, or nobody else knows s.
func (s *h2Stream) open(h *h2Conn, id uint32) {
	s.h, s.id = h, id
	s.canSend.L, s.canRead.L = &h.mu, &h.mu
	s.err, s.told, s.readErr = nil, false, nil
	s.sendWin, s.blocked, s.sent, s.localEnd, s.lastFrame = h.peerWin, false, 0, false, 0
	s.window = h2StreamWin
	if !h.client {
		s.window = h2FirstWin
	}
	s.recvWin, s.owed, s.recv, s.taken = s.window, 0, s.recv[:0], s.taken[:0]
	s.got, s.want, s.remoteEnd, s.waiting = 0, -1, false, false
	s.trail.list = s.trail.list[:0]
	s.stuckSend, s.stuckRead = 0, 0
}

// h2KeepBody is up to which size the body buffers of a stream are kept for the next.
const h2KeepBody = 32 << 10

// rest frees what a stream object should not keep while it waits for its next use.
func (s *h2Stream) rest() {
	if cap(s.recv) > h2KeepBody {
		s.recv = nil
	}
	if cap(s.taken) > h2KeepBody {
		s.taken = nil
	}
	s.h = nil
}

// fail ends the stream early: whoever waits is woken with err. The lock is held.
func (s *h2Stream) fail(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.canSend.Broadcast()
	s.canRead.Broadcast()
	if s.front != nil && s.front.watched != nil {
		s.front.watched.cancel()
	}
}

// reset ends the stream on our side. The lock is held.
func (s *h2Stream) reset(code http2.ErrCode, err error) {
	if !s.told && s.id != 0 && !(s.localEnd && s.remoteEnd) {
		s.h.append(func(b []byte) []byte { return appendH2Reset(b, s.id, code) })
		s.h.remember(s.id)
		s.told = true
	}
	s.fail(err)
}

// remember keeps in mind that we reset the stream. The lock is held.
func (h *h2Conn) remember(id uint32) {
	if len(h.resets) < h2Resets {
		h.resets = append(h.resets, id)
		return
	}
	h.resets[h.resetAt] = id
	h.resetAt = (h.resetAt + 1) % h2Resets
}

// wasReset reports whether we reset the stream lately. The lock is held.
func (h *h2Conn) wasReset(id uint32) bool {
	for _, r := range h.resets {
		if r == id {
			return true
		}
	}
	return false
}

// send queues body bytes as the windows allow, and waits where they do not. hold leaves the writing to the next call.
// The lock is held.
func (s *h2Stream) send(p []byte, hold bool) error {
	h := s.h
	for len(p) > 0 {
		if s.err != nil {
			return s.err
		}
		if s.localEnd || s.back != nil && s.remoteEnd { // the endpoint has answered without the rest
			return errH2Stopped
		}
		n := min(len(p), s.sendWin, h.sendWin, h2FrameMax)
		if h.out != nil {
			n = min(n, h2PendingMax-len(h.out.b))
		}
		if n <= 0 {
			h.kick()
			s.blocked = true
			h.blocked++
			s.canSend.Wait()
			h.blocked--
			s.blocked = false
			continue
		}
		b := h.room()
		if b == nil {
			return errH2Gone
		}
		s.lastFrame = h.base + uint64(len(b.b)) + 4
		b.b = append(appendH2Head(b.b, n, http2.FrameData, 0, s.id), p[:n]...)
		s.sendWin -= n
		h.sendWin -= n
		s.sent += int64(n)
		h.earned += h2WindowEarned + int64(n/512)
		h.dataMoved++
		p = p[n:]
	}
	if !hold {
		h.kick()
	}
	return nil
}

// sendHead queues a header block. The lock is held.
func (s *h2Stream) sendHead(block []byte, flags http2.Flags) error {
	h := s.h
	if s.err != nil {
		return s.err
	}
	b := h.room()
	if b == nil {
		return errH2Gone
	}
	if h.resize {
		h.resize = false
		block = append([]byte{0x20}, block...) // the dynamic table has no room (RFC 7541 §6.3)
	}
	s.lastFrame = h.base + uint64(len(b.b)) + 4
	b.b = appendH2Block(b.b, block, flags, s.id)
	if flags&http2.FlagHeadersEndStream != 0 {
		s.localEnd = true
	}
	return nil
}

// sendEnd ends our half of the stream: by a flag in its last frame when that still waits, else by an empty
// frame. The lock is held.
func (s *h2Stream) sendEnd() error {
	h := s.h
	if s.err != nil {
		return s.err
	}
	if s.localEnd {
		return nil
	}
	s.localEnd = true
	if h.out != nil && s.lastFrame >= h.base+4 {
		h.out.b[s.lastFrame-h.base] |= byte(http2.FlagDataEndStream)
	} else if b := h.room(); b != nil {
		b.b = appendH2Head(b.b, 0, http2.FrameData, http2.FlagDataEndStream, s.id)
	}
	h.kick()
	return nil
}

// take waits for body bytes and returns all that are there, valid until the next call;
// io.EOF after the last. The lock is held.
func (s *h2Stream) take() (p []byte, err error) {
	s.gave(len(s.taken))
	s.taken = s.taken[:0]
	for len(s.recv) == 0 {
		switch {
		case s.readErr != nil:
			return nil, s.readErr
		case s.remoteEnd: // whole, whatever came after it
			return nil, io.EOF
		case s.err != nil:
			return nil, s.err
		}
		s.waiting = true
		s.canRead.Wait()
		s.waiting = false
	}
	if s.readErr != nil {
		return nil, s.readErr
	}
	s.recv, s.taken = s.taken, s.recv
	return s.taken, nil
}

// gave gives the peer back what it may send again. The lock is held.
func (s *h2Stream) gave(n int) {
	if n == 0 || s.h.end != nil {
		return
	}
	s.owed += n
	if s.owed >= s.window/2 && !s.remoteEnd && s.err == nil {
		s.grow(2 * s.window)
		s.giveBack()
	}
}

// giveBack tells the peer of what is owed. The lock is held.
func (s *h2Stream) giveBack() {
	owed := s.owed
	if owed == 0 {
		return
	}
	s.recvWin += owed
	s.owed = 0
	s.h.append(func(b []byte) []byte { return appendH2Window(b, s.id, uint32(owed)) })
}

// grow owes the peer a larger window, of that size if possible. A body that nobody takes stays with its first one, and what its client has for all
// streams together is never less than those: so none of them stops another. The lock is held.
func (s *h2Stream) grow(to int) {
	h := s.h
	if n := min(to, h2StreamWin) - s.window; n > 0 && h.grown+n <= h2ConnWin {
		h.grown += n
		s.window += n
		s.owed += n
	}
}

// gave gives back for the connection as a whole, as bytes arrive: bodies that nobody takes hold only the windows of their own streams. When they held that of the
// connection too, five clients that read slowly kept everybody from an endpoint's answers, and five uploads to a pool that hung kept their client from all others.
// The lock is held.
func (h *h2Conn) gave(n int) {
	h.owed += n
	if h.owed >= h2ConnWin/4 {
		owed := h.owed
		h.recvWin += owed
		h.owed = 0
		h.append(func(b []byte) []byte { return appendH2Window(b, 0, uint32(owed)) })
	}
}

// remove takes the stream from its connection. The lock is held.
func (s *h2Stream) remove() {
	h := s.h
	if s.id != 0 {
		delete(h.streams, s.id)
	}
	if !h.client {
		h.grown -= s.window - h2FirstWin
	}
	s.recv, s.taken = s.recv[:0], s.taken[:0]
	if s.err == nil {
		h.finished++
	}
	if len(h.streams) == 0 {
		h.quiet = h.p.sweep.clock.Load()
		h.side.idle()
	}
	if h.end != nil {
		h.gone.Broadcast()
	}
}

// arrived takes what the peer's DATA carried. The lock is held. size counts padding too.
func (s *h2Stream) arrived(p []byte, size int, end bool) error {
	h := s.h
	if size > s.recvWin {
		return s.h.offence(s, http2.ErrCodeFlowControl, errH2Cut)
	}
	if len(p) > 0 {
		h.dataMoved++
	}
	s.recvWin -= size
	s.got += int64(len(p))
	if s.want >= 0 && (s.got > s.want || end && s.got < s.want) {
		return h.offence(s, http2.ErrCodeProtocol, errH2Length)
	}
	if s.err != nil || s.readErr != nil {
		s.gave(size)
	} else {
		s.gave(size - len(p))
		if len(p) < size && s.recvWin < h2FrameMax && !end { // or padding takes the window that a body needs which is looked at, and not taken
			s.giveBack()
		}
		s.recv = append(s.recv, p...)
	}
	if end {
		s.closeRemote()
	}
	if s.waiting {
		s.canRead.Signal()
	}
	return nil
}

// trailers takes the block that ends the peer's half of the stream. The lock is held.
func (s *h2Stream) trailers(f *h2Fields) error {
	if s.want >= 0 && s.got < s.want {
		return s.h.offence(s, http2.ErrCodeProtocol, errH2Length)
	}
	for i := range f.list {
		if t := &f.list[i]; !validH2Field(t) || t.ID >= idAuthority {
			return s.h.offence(s, http2.ErrCodeProtocol, errH2Cut)
		}
	}
	s.closeRemote()
	s.canRead.Signal()
	return nil
}

// closeRemote marks the peer's half as ended. An answer that is whole ends the sending of its request. After the stream has failed nothing of the
// body is kept, so an end makes nothing whole: answers whose time was over were given to clients without their last part, as if that were all. The lock is held.
func (s *h2Stream) closeRemote() {
	if s.err != nil {
		return
	}
	s.remoteEnd = true
	if s.back != nil {
		s.canSend.Broadcast()
	}
}

// offence resets a stream of which the peer broke the rules. Clients pay for it as for resets of their own: CVE-2025-8671
// is the flood of resets that a server is provoked to send. The lock is held.
func (h *h2Conn) offence(s *h2Stream, code http2.ErrCode, err error) error {
	s.reset(code, err)
	return h.charge()
}

// refuse resets a stream that has no object. The lock is held.
func (h *h2Conn) refuse(id uint32, code http2.ErrCode) error {
	h.append(func(b []byte) []byte { return appendH2Reset(b, id, code) })
	h.remember(id)
	return h.charge()
}

// charge is for one reset. Endpoints reset only what we asked of them, and pay nothing. The lock is held.
func (h *h2Conn) charge() error {
	if h.client {
		return nil
	}
	return h.flood.onReset(h.p.sweep.clock.Load())
}

// validH2Field reports whether name and value are as RFC 9113 §8.2.1 wants them and the field may stand in HTTP/2 at all (§8.2.2).
func validH2Field(f *wire.Field) bool {
	switch f.ID {
	case wire.Connection, wire.KeepAlive, wire.ProxyConnection, wire.TransferEncoding, wire.Upgrade, wire.HTTP2Settings:
		return false
	case wire.TE:
		if !wire.EqualFold(f.Value, "trailers") {
			return false
		}
	}
	if f.ID == wire.Other && !lowerToken(f.Name) {
		return false
	}
	v := f.Value
	if len(v) > 0 && (v[0] == ' ' || v[0] == '\t' || v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		return false
	}
	return wire.ValidFieldValue(v)
}

// lowerToken reports whether b is a field name without capitals.
func lowerToken(b []byte) bool {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return wire.ValidFieldName(b)
}
