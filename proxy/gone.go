package proxy

import (
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// How often it is looked whether a client that waits for its endpoint is still there: soon, as those who leave are many just when endpoints take long, and
// then ever more seldom.
const (
	lookFirst = 100 * time.Millisecond
	lookEvery = time.Second
)

// Gone reports whether the client of x has left, as far as can be told without waiting: its connection was closed or reset, or
// its stream was. It is for exchanges that wait before they are sent anywhere, or again, costs a system call on HTTP/1.1, and must be called
// on the goroutine of x.
func Gone(x *exchange.Exchange) bool {
	switch f := x.Front.(type) {
	case *h1Work:
		if k := f.scr.kept; k != nil && k.pump != nil && !k.pump.ended() {
			return false // its body still comes: whoever reads that notices, and what it reads into is not to be looked at meanwhile
		}
		return f.h.left()
	case *h2Front:
		f.h.mu.Lock()
		defer f.h.mu.Unlock()
		return f.err != nil
	}
	return false
}

// left reports whether the client has left. Who closes a connection and who only ends its sending side look the same. The latter are hardly any, and work
// for those who left is what an overloaded service can least afford: so both count, as with nginx and Envoy, unless the listener is told otherwise. Who sent another request
// first is still there.
func (h *h1Conn) left() bool { return h.sock.left(h.endsByClosing() && h.r == h.w) }

func (h *h1Conn) endsByClosing() bool { return h.c.cfg.HalfClosed != site.HalfClosedServe }
