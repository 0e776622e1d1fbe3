package proxy

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// More sessions at once than a ferry takes events, used again and again, each with its own bytes: none may
// get those of another.
func TestFerryKeepsSessionsApart(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, echo)))
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			for turn := range 10 {
				c, err := net.Dial("tcp", at)
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				for line := range 3 {
					sent := [4]byte{byte(i), byte(i >> 8), byte(turn), byte(line)}
					got := [4]byte{}
					c.Write(sent[:])
					if _, err := io.ReadFull(c, got[:]); err != nil || got != sent {
						t.Errorf("sent %v, got %v, error %v", sent, got, err)
					}
				}
				if turn%2 == 0 {
					reset(c.(*net.TCPConn))
				} else {
					c.Close()
				}
			}
		})
	}
	all.Wait()
	eventually(t, "all connections are given back", func() bool { return statusOf(t, p, "l4").Open == 0 && p.Status().Descriptors == 0 })
	if st := statusOf(t, p, "l4"); st.BytesIn != 200*10*3*4 || st.BytesOut != st.BytesIn {
		t.Errorf("%d bytes in and %d out are counted", st.BytesIn, st.BytesOut)
	}
	f := p.crew.ferries.of(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.free) != len(f.all) || len(f.all) > 400 {
		t.Errorf("%d of %d passages are free", len(f.free), len(f.all))
	}
}

// A service that speaks first is heard although the client has said nothing.
func TestFerryServiceSpeaksFirst(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, func(c *net.TCPConn) {
		io.WriteString(c, "220 hello")
		io.Copy(io.Discard, c)
		io.WriteString(c, "221 bye")
	})))
	c := dialed(t, at)
	b := make([]byte, 9)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "220 hello" {
		t.Fatalf("greeting %q, error %v", b, err)
	}
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "221 bye" {
		t.Errorf("last words %q, error %v", b, err)
	}
}

// A client that does not read gets everything later, and the service's end after a client's end too: the session
// leaves the ferry half-closed and with bytes in hand.
func TestFerryHandsASlowReaderOver(t *testing.T) {
	const size = 12 << 20 // more than the socket buffers between the two take
	p := started(t, Deps{})
	written := make(chan error, 1)
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, func(c *net.TCPConn) {
		io.Copy(io.Discard, c) // the client's end
		_, err := c.Write(pattern(size))
		written <- err
	})))
	c := dialed(t, at)
	c.SetReadBuffer(256 << 10) // far above a packet on loopback, or the windows would stall
	io.WriteString(c, "question")
	c.CloseWrite()
	eventually(t, "the session waits for its reader", func() bool {
		before := statusOf(t, p, "l4").BytesOut
		<-time.After(20 * time.Millisecond)
		return before > 0 && statusOf(t, p, "l4").BytesOut == before
	})
	got, err := io.ReadAll(c)
	if err != nil || string(got) != string(pattern(size)) {
		t.Errorf("%d bytes, error %v, or other bytes", len(got), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	eventually(t, "the connection is given back", func() bool {
		st := statusOf(t, p, "l4")
		return st.Open == 0 && st.BytesIn == 8 && st.BytesOut == size
	})
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// After its end a client can still break off.
func TestFerryResetAfterHalfClose(t *testing.T) {
	seen := make(chan error, 1)
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		io.WriteString(c, "x") // the client has it before it breaks off
		c.SetDeadline(time.Now().Add(patience))
		raw, _ := c.SyscallConn()
		var err error
		for end := time.Now().Add(patience); err == nil && time.Now().Before(end); {
			raw.Control(func(fd uintptr) {
				var n int
				if n, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err == nil && n != 0 {
					err = syscall.Errno(n)
				}
			})
		}
		seen <- err
	})))
	c := dialed(t, at)
	c.CloseWrite()
	io.ReadFull(c, make([]byte, 1))
	reset(c)
	if err := <-seen; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the endpoint saw %v, not a reset", err)
	}
	eventually(t, "the connection is given back", func() bool { return statusOf(t, p, "l4").Open == 0 })
}

// An endpoint that does not answer is given up after the connect timeout.
func TestFerryConnectTimesOut(t *testing.T) {
	deaf := deafPort(t)
	p := started(t, Deps{})
	results := make(chan exchange.Result, 1)
	h := toEndpoint(t, p, deaf.Addr().String(), func(cfg *site.Pool) { cfg.Timeouts.Connect = 50 * time.Millisecond })
	at := serving(t, p, testListener("l4", "tcp"), func(x *exchange.Exchange) *exchange.Refusal {
		r := h(x)
		results <- x.Result
		return r
	})
	c := dialed(t, at)
	if r := <-results; r.Kind != exchange.ConnectFailed || r.Reason != "timeout" || !r.Unsent {
		t.Errorf("result %+v", r)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, not a reset", err)
	}
}

// A connect that takes its time succeeds in the end.
func TestFerryWaitsForConnect(t *testing.T) {
	deaf := deafPort(t)
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, deaf.Addr().String(), func(cfg *site.Pool) { cfg.Timeouts.Connect = patience }))
	c := dialed(t, at)
	io.WriteString(c, "x")
	eventually(t, "the endpoint is being connected to", func() bool { return waitsToConnect(p) })
	deaf.SetDeadline(time.Now().Add(patience))
	for { // those who filled the queue come first
		s, err := deaf.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if n, _ := s.Read(make([]byte, 1)); n == 1 {
			return
		}
	}
}

// deafPort is a listener whose queue is full: the kernel drops what else knocks, who knocks again after a second.
func deafPort(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	tcp := ln.(*net.TCPListener)
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) })
	for err == nil {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", ln.Addr().String(), 100*time.Millisecond); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	return tcp
}

func waitsToConnect(p *Proxy) bool {
	p.crew.ferries.of(0)
	for _, f := range p.crew.ferries.list {
		f.mu.Lock()
		all := f.all
		f.mu.Unlock()
		for _, t := range all {
			t.mu.Lock()
			waits := t.connecting != nil && !t.over
			t.mu.Unlock()
			if waits {
				return true
			}
		}
	}
	return false
}

// Sessions on a ferry end when a drain's time is over.
func TestFerryIsCut(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, echo)))
	c := dialed(t, at)
	say(t, c, "x")
	p.cut()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, not a reset", err)
	}
	eventually(t, "the connection is given back", func() bool { return statusOf(t, p, "l4").Open == 0 })
}

// A listening socket is shared with whoever inherits it, who may make it block. The process must not stand still then.
func TestAcceptFromASocketMadeToBlock(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, echo)))
	files, err := p.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files["l4"] {
		if err := syscall.SetNonblock(int(f.Fd()), false); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	for range 5 {
		c := dialed(t, at)
		say(t, c, "x")
		done := make(chan struct{})
		go func() {
			runtime.GC() // stops the world twice
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("the world does not stop")
		}
	}
}
