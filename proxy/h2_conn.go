package proxy

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// h2Side is what differs between the two ends of a connection: h2Server faces clients, h2Client endpoints. All but tick
// and idle are called by the reader, without the lock.
type h2Side interface {
	// headers takes a whole header block.
	headers(id uint32, block []byte, end bool) error
	// setting takes a setting that only this side knows. The lock is held.
	setting(id http2.SettingID, v uint32) error
	// goAway takes the peer's GOAWAY.
	goAway(last uint32, code http2.ErrCode) error
	// batch is called when everything at hand has been read.
	batch()
	// tick looks at deadlines. It runs on the sweeper's goroutine, with the lock held, and must not block.
	tick(now int64)
	// idle is called with the lock held when the last stream has ended.
	idle()
}

// h2Conn is what both ends of an HTTP/2 connection have in common: one reader, streams, flow control, and frames that
// wait to be written together. While nothing moves it holds neither a read nor a write buffer.
type h2Conn struct {
	p       *Proxy
	side    h2Side
	sock    sock
	shard   uint32
	watch   watched
	flusher h2Flusher
	client  bool

	// Of the reader alone.
	in       []byte // lent while bytes are at hand
	r, w     int
	carry    []byte // the front of a frame while its rest is waited for
	dec      hpackDecoder
	flood    h2Flood
	greeted  bool // SETTINGS came
	block    []byte
	blockID  uint32 // of a header block that goes on; 0: none
	blockEnd bool
	parts    int
	maxBlock int
	aside    h2Fields // for blocks that nobody wants
	lend     func() []byte
	giveBack func([]byte)
	headTime time.Duration // for a frame that is no DATA, or a header block, to be complete
	minRate  int64

	heard atomic.Int64 // clock of the last read
	due   atomic.Int64 // when what is half there must be complete, on the sweeper's clock; 0: nothing is

	mu        sync.Mutex
	gone      sync.Cond // a stream was removed or the flusher stopped
	streams   map[uint32]*h2Stream
	last      uint32   // highest stream of the peer (server) or of ours (client)
	resets    []uint32 // streams that we reset lately, as a ring
	resetAt   int
	finished  int64 // streams that ended well since the flood account was last looked at
	earned    int64 // WINDOW_UPDATE frames that what we sent allows
	dataMoved int64 // DATA frames in both directions, likewise

	out      *h2Buf // frames that wait; nil: none
	base     uint64 // bytes that went before out
	flushing bool
	blocked  int // streams that wait for a window or for room in out

	sendWin int // what the peer still takes
	peerWin int // window of a new stream
	recvWin int // what the peer may still send
	owed    int // arrived and not yet given back
	grown   int // how far windows of streams are beyond h2FirstWin; of servers
	resize  bool
	settled bool // our SETTINGS were acknowledged
	asking  bool // later ones were not yet
	asked   int  // streams that our last SETTINGS allow; of servers
	allowed int  // streams that are let be
	begun   int64
	quiet   int64    // since when there is no stream
	quit    bool     // the connection ends once out is written
	end     error    // set when the connection has ended
	ending  *h2Error // why a deadline ended it
	wakeAt  int64    // when the next alarm is, on the sweeper's clock
	pinged  int64    // a PING of ours waits for its answer since; 0: none
}

// h2Resets is how many reset streams are remembered, so that frames under way for them are no offence.
const h2Resets = 128

func (h *h2Conn) init(p *Proxy, side h2Side, c net.Conn) error {
	h.p, h.side, h.flusher.h = p, side, h
	h.gone.L = &h.mu
	h.streams = make(map[uint32]*h2Stream)
	h.sendWin, h.peerWin, h.recvWin = h2DefaultWin, h2DefaultWin, h2ConnWin
	h.lend, h.giveBack = h.lendRead, h.takeRead
	h.begun = p.sweep.clock.Load()
	h.quiet = h.begun
	h.heard.Store(h.begun)
	tcp, _ := c.(*net.TCPConn)
	if counted, ok := c.(*linkConn); ok {
		tcp = counted.TCPConn
	}
	return h.sock.init(c, tcp, p.sweep)
}

// lendRead gives a buffer for a read, with the front of an unfinished frame already in it.
func (h *h2Conn) lendRead() []byte {
	h.in = h.p.h2.getRead()
	return h.in[copy(h.in, h.carry):]
}

func (h *h2Conn) takeRead([]byte) {
	if h.in != nil {
		h.p.h2.putRead(h.in)
		h.in = nil
	}
}

// read takes frames until the connection ends.
func (h *h2Conn) read() error {
	for {
		frames, open := 0, h.blockID != 0
		for {
			f, n, err := parseH2Frame(h.in[h.r:h.w])
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			h.r += n
			frames++
			if err := h.frame(&f); err != nil {
				return err
			}
		}
		h.side.batch()
		if frames > 0 && !(open && h.blockID != 0) || h.due.Load() == 0 {
			h.setDue()
		}
		if err := h.fill(); err != nil {
			return err
		}
	}
}

// setDue says until when the frame or header block that is half there must be complete.
func (h *h2Conn) setDue() {
	half := h.in[h.r:h.w]
	if len(half) == 0 && h.blockID == 0 {
		h.due.Store(0)
		return
	}
	limit := h.headTime
	if len(half) > 3 && http2.FrameType(half[3]) == http2.FrameData && h.blockID == 0 {
		size := int64(half[0])<<16 | int64(half[1])<<8 | int64(half[2])
		limit = stallGrace + time.Duration(size*int64(time.Second)/max(h.minRate, 1))
	}
	h.due.Store(h.p.sweep.clock.Load() + int64(limit) + int64(watchTick))
}

// h2CarryMax is up to how many bytes of an unfinished frame are kept aside, so that the read buffer can be given back.
const h2CarryMax = 512

// fill reads once, behind the bytes that are left.
func (h *h2Conn) fill() error {
	left := h.in[h.r:h.w]
	if len(left) > h2CarryMax {
		h.r, h.w = 0, copy(h.in, left)
		n, err := h.sock.read(h.in[h.w:])
		h.w += n
		return err
	}
	h.carry = append(h.carry[:0], left...)
	h.takeRead(nil)
	h.r, h.w = 0, 0
	_, n, err := h.sock.readLent(h.lend, h.giveBack)
	if err != nil {
		return err
	}
	h.heard.Store(h.p.sweep.clock.Load())
	h.w = len(h.carry) + n
	return nil
}

// h2Wake is how often a connection looks at its deadlines.
const h2Wake = 5 * watchTick

// h2Alarm makes the sweeper call the connection back instead of breaking its reads.
type h2Alarm struct {
	net.Conn
	h *h2Conn
}

// SetDeadline is called by the sweeper.
func (a *h2Alarm) SetDeadline(time.Time) error {
	h := a.h
	now := h.p.sweep.clock.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end != nil {
		return nil
	}
	if now < h.wakeAt { // too early for an alarm: everything that is open is cut off
		h.stop(&h2Error{http2.ErrCodeNo, closedDrain})
		return nil
	}
	h.wakeIn(h2Wake)
	if due := h.due.Load(); due != 0 && due <= now {
		h.stop(&h2Error{http2.ErrCodeEnhanceYourCalm, closedHead})
		return nil
	}
	h.side.tick(now)
	return nil
}

// wakeIn sets the alarm. The lock is held, or nobody else knows h.
func (h *h2Conn) wakeIn(d time.Duration) {
	h.wakeAt = h.p.sweep.clock.Load() + int64(d)
	h.p.sweep.arm(&h.watch, d)
}

// stop makes the reader end the connection for that reason. The lock is held.
func (h *h2Conn) stop(why *h2Error) {
	if h.ending == nil {
		h.ending = why
	}
	h.sock.conn.SetReadDeadline(longAgo)
}

// leave ends the connection after what waits is written, with a GOAWAY. The lock is held.
func (h *h2Conn) leave(why h2Closed) {
	if h.quit || h.end != nil {
		return
	}
	h.quit = true
	h.ending = &h2Error{http2.ErrCodeNo, why}
	h.append(func(b []byte) []byte { return appendH2GoAway(b, h.lastPeer(), http2.ErrCodeNo) })
}

func (h *h2Conn) lastPeer() uint32 {
	if h.client {
		return 0
	}
	return h.last
}

// finish ends the connection after the reader stopped because of err: streams fail, a GOAWAY is sent, and everything
// that was started is waited for. It returns why the connection ended, nil when the peer ended it.
func (h *h2Conn) finish(err error) *h2Error {
	var why *h2Error
	if !errors.As(err, &why) {
		why = nil
	}
	h.mu.Lock()
	if h.ending != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		why = h.ending
	}
	told := h.quit
	h.takeBack()
	if why != nil && !told {
		h.append(func(b []byte) []byte { return appendH2GoAway(b, h.lastPeer(), why.code) })
	}
	h.end = errH2Gone
	for _, s := range h.streams {
		s.fail(errH2Gone)
	}
	h.mu.Unlock()
	h.side.batch() // requests that were read and not begun
	h.mu.Lock()
	h.sock.conn.SetWriteDeadline(time.Now().Add(lingerTime))
	for h.flushing {
		h.gone.Wait()
	}
	h.mu.Unlock()
	if why != nil {
		h.linger()
	}
	h.takeRead(nil)
	h.mu.Lock()
	for len(h.streams) > 0 {
		h.gone.Wait()
	}
	h.dropOut()
	h.mu.Unlock()
	return why
}

// takeBack keeps the requests that wait to be written on a connection that ends from going out after all. They count as never sent and are made again
// elsewhere, whatever their method: POSTs reached two endpoints when the writer still got to them. The lock is held.
func (h *h2Conn) takeBack() {
	if !h.client {
		return
	}
	for _, s := range h.streams {
		if s.back.place >= h.base {
			s.back.place = math.MaxUint64
		}
	}
	h.dropOut()
}

// linger reads on for a moment, so that the GOAWAY is not lost to a reset.
func (h *h2Conn) linger() {
	half, ok := h.sock.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	h.sock.conn.SetReadDeadline(time.Now().Add(lingerTime))
	if h.in == nil {
		h.in = h.p.h2.getRead()
	}
	for left := lingerBytes; left > 0; {
		n, err := h.sock.read(h.in)
		if err != nil {
			return
		}
		left -= n
	}
}

// greet writes the SETTINGS and the window that this end begins with.
func (h *h2Conn) greet(b []byte, settings ...http2.Setting) []byte {
	b = appendH2Head(b, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = appendH2Setting(b, s.ID, s.Val)
	}
	return appendH2Window(b, 0, h2ConnWin-h2DefaultWin)
}

// onSettings takes the peer's SETTINGS, or its acknowledgement of ours (RFC 9113 §6.5).
func (h *h2Conn) onSettings(f *h2Frame) error {
	if f.id != 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	if f.has(http2.FlagSettingsAck) {
		if len(f.payload) > 0 {
			return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
		}
		h.mu.Lock()
		h.settled = true
		h.asking, h.allowed = false, h.asked
		h.mu.Unlock()
		return h.flood.onControl(h.p.sweep.clock.Load(), 1)
	}
	if len(f.payload)%6 != 0 {
		return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
	}
	if err := h.flood.onControl(h.p.sweep.clock.Load(), 1+len(f.payload)/60); err != nil {
		return err
	}
	h.greeted = true
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := f.payload; len(p) > 0; p = p[6:] {
		if err := h.setting(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	h.append(func(b []byte) []byte { return appendH2Head(b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0) })
	return nil
}

// setting takes one setting. The lock is held.
func (h *h2Conn) setting(id http2.SettingID, v uint32) error {
	switch id {
	case http2.SettingHeaderTableSize:
		h.resize = true // our table has no entries, but a smaller maximum must be confirmed (RFC 7541 §4.2)
	case http2.SettingInitialWindowSize:
		if v > h2MaxWin {
			return &h2Error{http2.ErrCodeFlowControl, closedProtocol}
		}
		more := int(v) - h.peerWin
		h.peerWin = int(v)
		for _, s := range h.streams {
			if s.sendWin += more; s.sendWin > h2MaxWin {
				return &h2Error{http2.ErrCodeFlowControl, closedProtocol}
			}
		}
		h.wakeSenders()
	case http2.SettingMaxFrameSize: // ours are never larger than the least allowed; 0 made net/http loop (GO-2026-4918)
		if v < h2FrameMax || v > 1<<24-1 {
			return &h2Error{http2.ErrCodeProtocol, closedProtocol}
		}
	case http2.SettingEnablePush:
		if v > 1 || h.client && v != 0 {
			return &h2Error{http2.ErrCodeProtocol, closedProtocol}
		}
	}
	return h.side.setting(id, v)
}

// onPing answers a PING, or takes the answer to ours (RFC 9113 §6.7).
func (h *h2Conn) onPing(f *h2Frame) error {
	if f.id != 0 {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	if len(f.payload) != 8 {
		return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flood.control.regain(h.dataMoved, h2ControlAhead) // gRPC pings with every read while it measures the bandwidth
	h.dataMoved = 0
	if err := h.flood.onControl(h.p.sweep.clock.Load(), 1); err != nil {
		return err
	}
	if f.has(http2.FlagPingAck) {
		h.pinged = 0
		return nil
	}
	h.append(func(b []byte) []byte { return appendH2Ping(b, http2.FlagPingAck, f.payload) })
	return nil
}
