package proxy

import (
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// h2DefaultStreams is how many streams an endpoint is taken to allow that does not say; RFC 9113 §6.5.2 asks
// that no peer allows fewer. Until its SETTINGS are there it gets one, since it would refuse those above its limit.
const h2DefaultStreams = 100

// h2StreamsMax bounds what an endpoint may raise it to on one connection, since all share one window and one reader.
const h2StreamsMax = 1000

// h2PingAfter is how long an endpoint may be silent while requests wait before it is asked by PING, and then
// how long it has to answer: with both a dead connection is noticed in 20 to 21 s.
const h2PingAfter = 10 * time.Second

// h2PingEvery is the least time between two such questions: gRPC servers end connections that ask more often than every 5 min.
const h2PingEvery = 6 * time.Minute

// h2Client is one HTTP/2 connection to an endpoint.
type h2Client struct {
	h2Conn
	link   *h2Link
	conn   net.Conn
	secure bool
	slots  atomic.Int64 // requests on it, and those about to be
	max    atomic.Int64 // streams that the endpoint allows
	usable atomic.Bool
	known  atomic.Bool // SETTINGS came

	pingNext int64 // guarded by mu
	limited  bool  // the endpoint said how many streams it allows; guarded by mu
	away     error // what becomes of streams that it takes no more, since its GOAWAY; guarded by mu
}

// newH2Client makes a client for an open connection. It starts nothing.
func newH2Client(link *h2Link, c net.Conn) (*h2Client, error) {
	h := &h2Client{link: link, conn: c}
	p := link.l.up.proxy
	if err := h.init(p, h, c); err != nil {
		return nil, err
	}
	_, plain := c.(*linkConn)
	_, tcp := c.(*net.TCPConn)
	h.secure = !plain && !tcp
	cfg := link.l.up.cfg()
	h.client, h.maxBlock = true, 2*headBytes
	h.headTime, h.sock.idle = cfg.Timeouts.Idle, cfg.Timeouts.Idle
	h.shard = uint32(h.begun / int64(watchTick))
	h.max.Store(1)
	h.usable.Store(true)
	return h, nil
}

// hello queues what must go out before any request.
func (h *h2Client) hello() {
	h.mu.Lock()
	h.append(func(b []byte) []byte {
		return h.greet(append(b, h2Preface...), http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2StreamWin}, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: headBytes})
	})
	h.mu.Unlock()
}

// run serves the connection until it ends.
func (h *h2Client) run() {
	h.p.sweep.add(&h.watch, &h2Alarm{h: &h.h2Conn})
	h.mu.Lock()
	h.wakeIn(watchTick)
	h.mu.Unlock()
	err := h.read()
	h.usable.Store(false)
	why := h.finish(err)
	h.p.sweep.remove(&h.watch)
	h.conn.Close()
	h.link.remove(h)
	if why != nil {
		h.p.h2.endpoints.add(why.reason)
	}
}

// headers takes an answer head or trailers.
func (h *h2Client) headers(id uint32, block []byte, end bool) error {
	h.mu.Lock()
	s := h.streams[id]
	unopened := s == nil && h.unopened(id)
	trailers := s == nil || s.back.final
	h.mu.Unlock()
	if unopened {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	if trailers {
		return h.readTrailers(id, block, end, headBytes, headFields)
	}
	f := h.p.h2.getHead()
	f.reset(headBytes, headFields)
	if err := h.dec.decode(block, f); err != nil {
		return &h2Error{http2.ErrCodeCompression, closedProtocol}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s = h.streams[id]; s == nil || s.err != nil { // nobody waits for it, or will be told why it ended
		h.p.h2.putHead(f)
		return nil
	}
	if !s.back.arrivedHead(f, end) {
		return h.offence(s, http2.ErrCodeProtocol, errH2Answer)
	}
	return nil
}

func (h *h2Client) setting(id http2.SettingID, v uint32) error {
	if id == http2.SettingMaxConcurrentStreams {
		h.max.Store(min(int64(v), h2StreamsMax))
		h.limited = true
	}
	return nil
}

// goAway takes the endpoint's farewell: what it has not begun is safe to send elsewhere, and so is what is about to be sent.
func (h *h2Client) goAway(last uint32, code http2.ErrCode) error {
	h.usable.Store(false)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away = errH2Refused; code == http2.ErrCodeNo {
		h.away = errH2Away
	}
	for id, s := range h.streams {
		if id > last {
			s.told = true
			s.fail(h.away)
		}
	}
	if len(h.streams) == 0 && h.slots.Load() == 0 {
		h.leave(closedDrain)
	}
	return nil
}

func (h *h2Client) batch() {
	if h.greeted && !h.known.Load() {
		h.mu.Lock()
		if !h.limited {
			h.max.Store(h2DefaultStreams)
		}
		h.mu.Unlock()
		h.known.Store(true)
	}
	h.link.wake()
}

// retire takes no more requests, and ends the connection when those on it have ended.
func (h *h2Client) retire() {
	h.usable.Store(false)
	h.mu.Lock()
	if h.slots.Load() == 0 {
		h.leave(closedDrain)
	}
	h.mu.Unlock()
}

// idle is called while the last request still holds its slot.
func (h *h2Client) idle() {
	if !h.usable.Load() && h.slots.Load() <= 1 {
		h.leave(closedDrain)
	}
}

// unused ends a connection that nobody has used for long. The lock is held.
func (h *h2Client) unused(now int64) {
	h.pinged = 0
	if h.usable.Load() {
		if now-h.quiet <= int64(h.link.l.up.cfg().Timeouts.KeepAlive) {
			return
		}
		h.usable.Store(false)
		if h.slots.Load() > 0 { // somebody is about to use it
			h.usable.Store(true)
			return
		}
		h.leave(closedIdle)
	} else if h.slots.Load() == 0 {
		h.leave(closedDrain)
	}
}

// tick looks at requests that wait too long, and at a connection that is unused or silent. The lock is held.
func (h *h2Client) tick(now int64) {
	if len(h.streams) == 0 {
		h.unused(now)
		return
	}
	h.wakeIn(watchTick)
	for _, s := range h.streams {
		s.back.tick(now)
	}
	switch silent := now - h.heard.Load(); {
	case silent < int64(h2PingAfter):
		h.pinged = 0
	case h.pinged != 0 && now-h.pinged > int64(h2PingAfter):
		h.stop(&h2Error{http2.ErrCodeNo, closedStalled})
	case h.pinged == 0 && now >= h.pingNext:
		h.pinged, h.pingNext = now, now+int64(h2PingEvery)
		h.append(func(b []byte) []byte { return appendH2Ping(b, 0, []byte("evenkeel")) })
	}
}
