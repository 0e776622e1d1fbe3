package proxy

import (
	"math"
	"math/bits"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

// softening is what the process asks of its clients while it is short of something.
type softening struct {
	// shift is how often the number of HTTP/2 streams is halved.
	shift uint32
	// idle is for how long HTTP/2 connections may be without a stream; 0: as their listener says.
	idle time.Duration
}

// shiftMost keeps shifts of a number of streams sensible.
const shiftMost = 16

// Soften asks clients for less, as long as it is not called otherwise: streams is the share of its streams that each HTTP/2
// connection may open, above 0 to 1, new ones at once and open ones by a new SETTINGS_MAX_CONCURRENT_STREAMS within about a second;
// keep-alive connections that have been idle for longer than idle are closed now, those of HTTP/2 with a GOAWAY within about a second.
// 0 closes none. It returns how many were closed or are about to be.
func (p *Proxy) Soften(streams float64, idle time.Duration) (closed int) {
	shift := uint32(0)
	if streams > 0 && streams < 1 {
		shift = uint32(min(bits.Len64(uint64(math.Ceil(1/streams)))-1, shiftMost))
	}
	next := softening{shift: shift, idle: idle}
	if old := p.soft.Load(); old == nil && next != (softening{}) || old != nil && *old != next {
		p.soft.Store(&next)
	}
	if idle <= 0 {
		return 0
	}
	now := p.sweep.clock.Load()
	p.clients.each(func(c *client) {
		if !c.idle.Load() {
			return
		}
		// An idle connection's deadline was armed when it fell idle.
		since := c.at.Load() - int64(c.cfg.Limits.IdleTimeout) - int64(watchTick)
		if at := c.at.Load(); at > 0 && now-since > int64(idle) && c.raw != nil {
			c.hang()
			closed++
		}
	})
	return closed + int(p.softClosed.Swap(0))
}

// streams is how many streams an HTTP/2 connection may have now, of that many.
func (p *Proxy) streams(most int) int {
	if s := p.soft.Load(); s != nil {
		return max(most>>s.shift, 1)
	}
	return most
}

// soften does for one HTTP/2 connection what the process wants of all. The lock is held. Lowering holds once the client has
// acknowledged it, since requests under way could not know of it; only one change is on its way at a time.
func (h *h2Server) soften(now int64) {
	s := h.p.soft.Load()
	if s == nil || !h.settled || h.leaving != h2Staying {
		return
	}
	if want := h.p.streams(h.c.cfg.Limits.Streams); want != h.asked && !h.asking {
		h.asking, h.asked = true, want
		h.allowed = max(h.allowed, want)
		h.append(func(b []byte) []byte {
			return appendH2Setting(appendH2Head(b, 6, http2.FrameSettings, 0, 0), http2.SettingMaxConcurrentStreams, uint32(want))
		})
	}
	if s.idle > 0 && len(h.streams) == 0 && now-h.quiet > int64(s.idle) {
		h.p.softClosed.Add(1)
		h.announce(closedIdle)
	}
}

// AcceptQueue is how full the fullest queue of connections that nobody has accepted yet is, 0 to 1 (tcp(7), TCP_INFO of a listening
// socket: tcpi_unacked of tcpi_sacked).
func (p *Proxy) AcceptQueue() (share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.tcp == nil {
			continue
		}
		raw, err := s.tcp.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) {
			if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && i.Sacked > 0 {
				share = max(share, min(float64(i.Unacked)/float64(i.Sacked), 1))
			}
		})
	}
	return share
}

// Room is how many file descriptors connections hold now and may hold at the most.
func (p *Proxy) Room() (used, limit int64) { return p.room.used.Load(), p.room.limit }
