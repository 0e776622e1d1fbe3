package proxy

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// frame takes one frame.
func (h *h2Conn) frame(f *h2Frame) error {
	if h.blockID != 0 && (f.typ != http2.FrameContinuation || f.id != h.blockID) || !h.greeted && f.typ != http2.FrameSettings {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	switch f.typ {
	case http2.FrameData:
		return h.onData(f)
	case http2.FrameHeaders:
		return h.onHeaders(f)
	case http2.FrameContinuation:
		return h.onContinuation(f)
	case http2.FrameWindowUpdate:
		return h.onWindow(f)
	case http2.FrameRSTStream:
		return h.onReset(f)
	case http2.FrameSettings:
		return h.onSettings(f)
	case http2.FramePing:
		return h.onPing(f)
	case http2.FrameGoAway:
		if f.id != 0 {
			return &h2Error{http2.ErrCodeProtocol, closedProtocol}
		}
		if len(f.payload) < 8 {
			return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
		}
		if err := h.flood.onControl(h.p.sweep.clock.Load(), 1); err != nil {
			return err
		}
		return h.side.goAway(binary.BigEndian.Uint32(f.payload)&h2MaxStreamID, http2.ErrCode(binary.BigEndian.Uint32(f.payload[4:])))
	case http2.FramePushPromise: // clients may not, and endpoints were told not to
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	case http2.FramePriority:
		if err := checkPriority(f); err != nil {
			return err
		}
	}
	return h.flood.onPriority(h.p.sweep.clock.Load())
}

// checkPriority looks at a PRIORITY frame, which is otherwise ignored (RFC 9113 §5.3.2).
func checkPriority(f *h2Frame) error {
	if f.id == 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	if len(f.payload) != 5 {
		return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
	}
	return nil
}

// unopened reports whether the peer speaks of a stream that nobody has opened. The lock is held.
func (h *h2Conn) unopened(id uint32) bool { return id > h.last || id&1 == 0 }

func (h *h2Conn) onData(f *h2Frame) error {
	if f.id == 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	size, end := len(f.payload), f.has(http2.FlagDataEndStream)
	if err := f.unpad(); err != nil {
		return err
	}
	if len(f.payload) == 0 && !end {
		if err := h.flood.onEmpty(h.p.sweep.clock.Load()); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if size > h.recvWin {
		return &h2Error{http2.ErrCodeFlowControl, closedProtocol}
	}
	h.recvWin -= size
	h.gave(size)
	s := h.streams[f.id]
	switch {
	case s == nil && h.unopened(f.id):
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	case s == nil:
		if h.wasReset(f.id) || h.client {
			return nil
		}
		return h.refuse(f.id, http2.ErrCodeStreamClosed)
	case s.remoteEnd:
		return h.offence(s, http2.ErrCodeStreamClosed, errH2Cut)
	case s.back != nil && s.err == nil && !s.back.answered(): // a body before the head
		return h.offence(s, http2.ErrCodeProtocol, errH2Cut)
	}
	return s.arrived(f.payload, size, end)
}

func (h *h2Conn) onHeaders(f *h2Frame) error {
	if f.id == 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	if err := f.unpad(); err != nil {
		return err
	}
	if f.has(http2.FlagHeadersPriority) {
		if len(f.payload) < 5 {
			return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
		}
		f.payload = f.payload[5:]
	}
	end := f.has(http2.FlagHeadersEndStream)
	if f.has(http2.FlagHeadersEndHeaders) {
		return h.side.headers(f.id, f.payload, end)
	}
	h.block = append(h.block[:0], f.payload...)
	h.blockID, h.blockEnd, h.parts = f.id, end, 0
	return nil
}

func (h *h2Conn) onContinuation(f *h2Frame) error {
	if h.blockID == 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	h.parts++
	if h.parts > h2Continuations+h.maxBlock/h2FrameMax || len(h.block)+len(f.payload) > h.maxBlock {
		return &h2Error{http2.ErrCodeEnhanceYourCalm, closedHeaders}
	}
	h.block = append(h.block, f.payload...)
	if !f.has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	id, block := h.blockID, h.block
	h.blockID, h.block = 0, nil // rare enough to leave it to the collector
	return h.side.headers(id, block, h.blockEnd)
}

// skip decodes a block that nobody wants, because the table must see it.
func (h *h2Conn) skip(block []byte) error {
	h.aside.reset(0, 0)
	err := h.dec.decode(block, &h.aside)
	if cap(h.aside.arena) > hpackTableSize {
		h.aside = h2Fields{}
	}
	if err != nil {
		return &h2Error{http2.ErrCodeCompression, closedProtocol}
	}
	return nil
}

// readTrailers takes a block for a stream that has had its head. end must be set, and the stream's half open.
func (h *h2Conn) readTrailers(id uint32, block []byte, end bool, maxSize, maxCount int) error {
	h.mu.Lock()
	s := h.streams[id]
	late := s != nil && s.remoteEnd
	known := s != nil || h.client || h.wasReset(id)
	h.mu.Unlock()
	if s == nil || late {
		if err := h.skip(block); err != nil {
			return err
		}
		if !known || late {
			return &h2Error{http2.ErrCodeStreamClosed, closedProtocol}
		}
		return nil
	}
	// Only the reader writes trail, and only once; it is read after remoteEnd was set. A stream that
	// its owner removes meanwhile must not see another one's bytes: so decode aside.
	h.aside.reset(maxSize, maxCount)
	if err := h.dec.decode(block, &h.aside); err != nil {
		return &h2Error{http2.ErrCodeCompression, closedProtocol}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s = h.streams[id]; s == nil {
		return nil
	}
	if !end || h.aside.over {
		return h.offence(s, http2.ErrCodeProtocol, errH2Cut)
	}
	s.trail, h.aside = h.aside, s.trail
	return s.trailers(&s.trail)
}

func (h *h2Conn) onWindow(f *h2Frame) error {
	if len(f.payload) != 4 {
		return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
	}
	n := int(binary.BigEndian.Uint32(f.payload) & h2MaxWin)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flood.window.regain(h.earned, h2WindowAhead)
	h.earned = 0
	if err := h.flood.onWindow(h.p.sweep.clock.Load()); err != nil {
		return err
	}
	if f.id == 0 {
		h.sendWin += n
		if n == 0 {
			return &h2Error{http2.ErrCodeProtocol, closedProtocol}
		}
		if h.sendWin > h2MaxWin {
			return &h2Error{http2.ErrCodeFlowControl, closedProtocol}
		}
		h.wakeSenders()
		return nil
	}
	s := h.streams[f.id]
	if s == nil {
		if h.unopened(f.id) {
			return &h2Error{http2.ErrCodeProtocol, closedProtocol}
		}
		return nil
	}
	s.sendWin += n
	if n == 0 {
		return h.offence(s, http2.ErrCodeProtocol, errH2Cut)
	}
	if s.sendWin > h2MaxWin {
		return h.offence(s, http2.ErrCodeFlowControl, errH2Cut)
	}
	if s.blocked {
		s.canSend.Signal()
	}
	return nil
}

func (h *h2Conn) onReset(f *h2Frame) error {
	if f.id == 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	if len(f.payload) != 4 {
		return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unopened(f.id) {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	h.flood.reset.regain(h.finished, 0)
	h.finished = 0
	if s := h.streams[f.id]; s != nil {
		s.told = true
		code := http2.ErrCode(binary.BigEndian.Uint32(f.payload))
		switch {
		case h.client && code == http2.ErrCodeRefusedStream:
			s.fail(errH2Refused)
		case h.client && code == http2.ErrCodeCancel:
			s.fail(errH2Cancelled)
		case h.client && s.remoteEnd: // the answer is whole, only the rest of our body is unwanted
			s.localEnd = true
			s.readOnly()
		default:
			s.fail(errH2Reset)
		}
	}
	return h.charge()
}

// readOnly ends sending while what has arrived can still be read. The lock is held.
func (s *h2Stream) readOnly() {
	s.sendWin = 0
	s.canSend.Broadcast()
}
