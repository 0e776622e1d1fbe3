package proxy

import (
	"golang.org/x/sys/unix"

	"github.com/even-keel/evenkeel/exchange"
)

// Gone reports whether the client of x has left, as far as can be told without waiting: its connection was closed or reset, or
// its stream was. It is for exchanges that have waited before they were sent anywhere, costs a system call on HTTP/1.1, and must be called
// on the goroutine of x. A client that only ended its sending side counts as gone: hardly any does, and work for those who left is
// what an overloaded service can least afford.
func Gone(x *exchange.Exchange) bool {
	switch f := x.Front.(type) {
	case *h1Work:
		return f.h.sock.ended()
	case *h2Front:
		f.h.mu.Lock()
		defer f.h.mu.Unlock()
		return f.err != nil
	}
	return false
}

// ended reports whether the peer has closed or reset the connection and nothing of it is left to read.
func (s *sock) ended() bool {
	if s.under == nil {
		return false
	}
	gone := false
	err := s.under.Control(func(fd uintptr) {
		var one [1]byte
		n, _, e := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = e == nil && n == 0 || e != nil && e != unix.EAGAIN && e != unix.EINTR
	})
	return err != nil || gone
}
