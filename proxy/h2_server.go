package proxy

import (
	"os"
	"time"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
)

// Stages of leaving a connection in two steps (RFC 9113 §6.8): first a GOAWAY that allows every stream, so that requests
// under way are not lost, then one with the true last stream.
const (
	h2Staying = iota
	h2Announced
	h2Leaving
)

// h2SettingsTime is how long a client may take to acknowledge SETTINGS. Browsers answer in one round trip.
const h2SettingsTime = 10 * time.Second

// h2LeaveTime is how long after the first GOAWAY streams are still taken, when the PING behind it is not answered.
const h2LeaveTime = time.Second

// h2Server is one HTTP/2 client connection.
type h2Server struct {
	h2Conn
	c      *conn
	held   []*h2Front // requests that start when everything at hand has been read: a body, or a reset, may be there
	served int

	leaving int // guarded by mu
	since   int64
}

// serveHTTP2 serves c until it ends. first are bytes already read from it.
func (p *Proxy) serveHTTP2(c *conn, first []byte) {
	h := &h2Server{c: c}
	if h.init(p, h, c.Conn) != nil {
		return
	}
	limits := &c.cfg.Limits
	h.shard, h.headTime, h.minRate = c.shard, limits.HeaderTimeout, int64(limits.MinRate)
	h.maxBlock = 2 * int(limits.HeaderBytes)
	h.sock.idle, h.sock.rate = limits.IdleTimeout, int64(limits.MinRate)
	p.sweep.add(&h.watch, &h2Alarm{h: &h.h2Conn})
	h.mu.Lock()
	h.wakeIn(h2Wake)
	h.mu.Unlock()
	err := h.preface(first)
	if err == nil {
		err = h.read()
	}
	why := h.finish(err)
	p.sweep.remove(&h.watch)
	if why != nil {
		c.listener.closed.add(why.reason)
	}
}

// preface reads what every client says first, and sends our SETTINGS.
func (h *h2Server) preface(first []byte) error {
	limits := &h.c.cfg.Limits
	h.mu.Lock()
	h.asked = h.p.streams(limits.Streams)
	h.allowed = h.asked
	h.append(func(b []byte) []byte {
		return h.greet(b, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(h.asked)},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2FirstWin},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(limits.HeaderBytes)})
	})
	h.mu.Unlock()
	h.due.Store(h.p.sweep.clock.Load() + int64(h.headTime) + int64(watchTick))
	h.in = h.p.h2.getRead()
	h.w = copy(h.in, first)
	for {
		n := min(h.w, len(h2Preface))
		if string(h.in[:n]) != h2Preface[:n] {
			return &h2Error{http2.ErrCodeProtocol, closedPreface}
		}
		if n == len(h2Preface) {
			h.r = n
			return nil
		}
		n, err := h.sock.read(h.in[h.w:])
		if err != nil {
			return err
		}
		h.w += n
	}
}

// headers takes a request, or the trailers of one.
func (h *h2Server) headers(id uint32, block []byte, end bool) error {
	limits := &h.c.cfg.Limits
	if id&1 == 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	if id <= h.last { // only the reader changes last
		return h.readTrailers(id, block, end, int(limits.HeaderBytes), limits.Headers)
	}
	f := h.p.h2.getFront()
	f.fields.reset(int(limits.HeaderBytes), limits.Headers+h2Pseudo)
	if err := h.dec.decode(block, &f.fields); err != nil {
		h.p.h2.putFront(f)
		return &h2Error{http2.ErrCodeCompression, closedProtocol}
	}
	f.server, f.x.Start = h, time.Now()
	well := f.understand()
	if f.fields.over && !well { // what is missing was dropped with what is too much. The view is not to be that of who had f before
		f.req.Reset()
		well = true
	}
	f.fields.over = f.fields.over || len(f.req.Fields) > limits.Headers
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = id
	switch {
	case h.leaving == h2Leaving:
		h.p.h2.putFront(f)
		return h.refuse(id, http2.ErrCodeRefusedStream)
	case len(h.streams) >= h.allowed && h.full(h.allowed):
		h.p.h2.putFront(f)
		return h.refuse(id, http2.ErrCodeRefusedStream)
	case !well || end && f.req.ContentLength > 0:
		h.p.h2.putFront(f)
		return h.refuse(id, http2.ErrCodeProtocol)
	}
	f.start(h, id, end)
	h.streams[id] = &f.h2Stream
	h.held = append(h.held, f)
	h.served++
	if limits.Requests > 0 && h.served >= limits.Requests {
		h.announce(closedRequests)
	}
	return nil
}

// full reports whether the client has as many streams open as it may. A stream that is over on both sides is over for the client,
// although its goroutine has not left yet; at most as many of those again are let be. The lock is held.
func (h *h2Server) full(most int) bool {
	open := 0
	for _, s := range h.streams {
		if s.err != nil || !s.localEnd || !s.remoteEnd {
			open++
		}
	}
	return open >= most || len(h.streams) >= 2*most
}

// batch starts the requests that were read.
func (h *h2Server) batch() {
	if len(h.held) == 0 {
		return
	}
	for i, f := range h.held {
		h.mu.Lock()
		gone := f.err != nil
		f.x.Replayable = f.remoteEnd && len(f.trail.list) == 0 // a body with trailers cannot go out at once, see pending
		f.req.Chunked = f.req.ContentLength < 0 && !(f.remoteEnd && f.got == 0)
		h.mu.Unlock()
		h.held[i] = nil
		if gone {
			f.finish() // reset before it began
			continue
		}
		h.p.h2.run(h.shard, f)
	}
	h.held = h.held[:0]
}

// announce begins to leave. The lock is held.
func (h *h2Server) announce(why h2Closed) {
	if h.leaving != h2Staying {
		return
	}
	h.leaving, h.since = h2Announced, h.p.sweep.clock.Load()
	h.ending = &h2Error{http2.ErrCodeNo, why}
	h.pinged = h.since + 1
	h.append(func(b []byte) []byte {
		return appendH2Ping(appendH2GoAway(b, h2MaxStreamID, http2.ErrCodeNo), 0, []byte("evenkeel"))
	})
}

// step goes on with leaving: to the last GOAWAY, and out when no stream is left. The lock is held.
func (h *h2Server) step(now int64) {
	if h.leaving == h2Announced && (h.pinged == 0 || now-h.since >= int64(h2LeaveTime)) {
		h.leaving = h2Leaving
		if len(h.streams) > 0 {
			h.append(func(b []byte) []byte { return appendH2GoAway(b, h.last, http2.ErrCodeNo) })
		}
	}
	if h.leaving == h2Leaving && len(h.streams) == 0 {
		h.leave(h.ending.reason)
	}
}

func (h *h2Server) idle() {
	if h.leaving != h2Staying {
		h.step(h.p.sweep.clock.Load())
	}
}

// tick looks at everything that may take too long. The lock is held.
func (h *h2Server) tick(now int64) {
	limits := &h.c.cfg.Limits
	if h.c.listener.draining.Load() {
		h.announce(closedDrain)
	}
	switch {
	case h.leaving != h2Staying:
		h.step(now)
	case !h.settled && now-h.begun > int64(h2SettingsTime):
		h.stop(&h2Error{http2.ErrCodeSettingsTimeout, closedSettings})
		return
	case len(h.streams) == 0 && now-h.quiet > int64(limits.IdleTimeout):
		h.leave(closedIdle)
	}
	h.soften(now)
	for _, s := range h.streams {
		h.hurry(s, now)
	}
}

// hurry ends a stream whose client stands still or trickles. The lock is held. A client that takes nothing at all, a
// paused film perhaps, has the idle timeout; one that takes a little at a time has the minimum rate. Neither has more than the deadline.
func (h *h2Server) hurry(s *h2Stream, now int64) {
	limits := &h.c.cfg.Limits
	if !s.blocked {
		s.stuckSend = 0
	} else if due := s.front.due; !due.IsZero() && !time.Now().Before(due) {
		s.reset(http2.ErrCodeCancel, os.ErrDeadlineExceeded)
	} else if s.stuckSend == 0 {
		s.stuckSend, s.seenSent = now, s.sent
	} else {
		moved, took := s.sent-s.seenSent, now-s.stuckSend
		switch {
		case moved == 0 && took > int64(limits.IdleTimeout), moved > 0 && tooSlow(moved, took, int64(limits.MinRate)):
			s.reset(http2.ErrCodeCancel, errH2Slow)
		case moved > 0 && took > 2*int64(stallGrace): // fast enough: what comes next is looked at anew
			s.stuckSend, s.seenSent = now, s.sent
		}
	}
	if !s.waiting || s.remoteEnd || s.localEnd || s.front.patient {
		s.stuckRead = 0
	} else if s.stuckRead == 0 {
		s.stuckRead, s.seenGot = now, s.got
	} else {
		moved, took := s.got-s.seenGot, now-s.stuckRead
		if tooSlow(moved, took, int64(limits.MinRate)) || moved == 0 && took > int64(limits.IdleTimeout) {
			s.readErr = errBodySlow
			s.canRead.Broadcast()
		}
	}
}

// tooSlow reports whether bytes moved over that many nanoseconds, after a grace, are below the rate per second.
func tooSlow(moved, took, rate int64) bool {
	took -= int64(stallGrace)
	return rate > 0 && took > 0 && moved < rate*(took/int64(time.Millisecond))/1000
}

func (h *h2Server) setting(http2.SettingID, uint32) error { return nil }

// goAway takes the client's farewell: its streams are finished, and it closes.
func (h *h2Server) goAway(uint32, http2.ErrCode) error { return nil }

// refuseHead is the answer to a head beyond the listener's limits.
var refuseHead = &exchange.Refusal{Stage: "parse", Reason: "headers_too_large", Status: 431}
