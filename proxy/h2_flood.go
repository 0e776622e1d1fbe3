package proxy

import (
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// h2Closed is why an HTTP/2 connection was ended by evenkeel: a closed set for counters.
type h2Closed uint8

// The reasons. The first four are the ordinary ones.
const (
	closedDrain h2Closed = iota
	closedIdle
	closedRequests // the listener's limit of requests
	closedProtocol // the peer broke RFC 9113 or RFC 7541
	closedPreface  // no preface, or no SETTINGS, in time
	closedSettings // our SETTINGS were not acknowledged in time
	closedHead     // a frame or header block did not arrive in time
	closedReset    // rapid reset
	closedHeaders  // header block too large or in too many pieces
	closedControl  // too many SETTINGS or PING
	closedEmpty    // too many frames that carry nothing
	closedWindow   // too many WINDOW_UPDATE
	closedPriority // too many PRIORITY or unknown frames
	closedStalled  // made us write what it does not read
	closedReasons
)

var h2ClosedNames = [closedReasons]string{"drain", "idle", "requests", "protocol", "preface", "settings_timeout", "header_timeout", "rapid_reset",
	"header_flood", "control_flood", "empty_flood", "window_flood", "priority_flood", "stalled"}

// String is the reason in metrics and logs.
func (r h2Closed) String() string { return h2ClosedNames[r] }

// h2Counts counts ended connections by reason. The zero value is ready; any goroutine may use it.
type h2Counts [closedReasons]atomic.Uint64

func (c *h2Counts) add(r h2Closed) { c[r].Add(1) }

// each calls f for every reason that was seen.
func (c *h2Counts) each(f func(reason string, n uint64)) {
	for i := range c {
		if n := c[i].Load(); n > 0 {
			f(h2Closed(i).String(), n)
		}
	}
}

// h2Budget is a token bucket for frames of one kind. The zero value is full.
type h2Budget struct {
	spent int64 // tokens taken and not yet regained; below 0: earned ahead
	at    int64 // clock of the last look, ns
}

// take takes n tokens of a bucket of that size that regains perSecond, and reports whether they were there.
func (b *h2Budget) take(now, n, size, perSecond int64) bool {
	if gained := (now - b.at) * perSecond / int64(time.Second); gained > 0 {
		b.spent, b.at = min(b.spent, max(0, b.spent-gained)), now
	}
	b.spent += n
	return b.spent <= size
}

// regain gives tokens back that useful work has earned, and up to ahead of them before they are needed.
func (b *h2Budget) regain(n, ahead int64) { b.spent = min(b.spent, max(-ahead, b.spent-n)) }

// Bounds of frames without use, as bursts and per second. Browsers, curl, nghttp2 and gRPC stay
// far below; gRPC pings once per read with its bandwidth estimate, at most.
const (
	h2ResetBurst, h2ResetRate       = 100, 20 // CVE-2023-44487; each finished stream regains one
	h2ControlBurst, h2ControlRate   = 200, 50
	h2EmptyBurst, h2EmptyRate       = 100, 10
	h2WindowBurst, h2WindowRate     = 1000, 200 // each DATA frame that was sent regains h2WindowEarned, and one more per 512 bytes: net/http gives back 4 KiB at a time, twice
	h2WindowEarned                  = 4
	h2PriorityBurst, h2PriorityRate = 1000, 100 // old browsers send a tree of some dozen
	h2WindowAhead                   = 1 << 16   // the answers to 32 MiB under way, the largest window that is usual
	h2ControlAhead                  = 1 << 10
	h2Continuations                 = 16 // pieces of one header block, CVE-2024-27316
)

// h2Flood is the account of what a peer sends without use. Only the reader touches it.
type h2Flood struct {
	reset, control, empty, window, priority h2Budget
}

func (f *h2Flood) charge(b *h2Budget, now, n, burst, rate int64, reason h2Closed) error {
	if b.take(now, n, burst, rate) {
		return nil
	}
	return &h2Error{http2.ErrCodeEnhanceYourCalm, reason}
}

func (f *h2Flood) onReset(now int64) error {
	return f.charge(&f.reset, now, 1, h2ResetBurst, h2ResetRate, closedReset)
}

func (f *h2Flood) onControl(now int64, n int) error {
	return f.charge(&f.control, now, int64(n), h2ControlBurst, h2ControlRate, closedControl)
}

func (f *h2Flood) onEmpty(now int64) error {
	return f.charge(&f.empty, now, 1, h2EmptyBurst, h2EmptyRate, closedEmpty)
}

func (f *h2Flood) onWindow(now int64) error {
	return f.charge(&f.window, now, 1, h2WindowBurst, h2WindowRate, closedWindow)
}

func (f *h2Flood) onPriority(now int64) error {
	return f.charge(&f.priority, now, 1, h2PriorityBurst, h2PriorityRate, closedPriority)
}
