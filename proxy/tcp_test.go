package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func TestTCPRelaysBothWays(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, echo)))
	c := dialed(t, at)
	if got := say(t, c, "hello"); got != "hello" {
		t.Fatalf("echo of hello is %q", got)
	}
	eventually(t, "bytes are counted", func() bool {
		st := statusOf(t, p, "l4")
		return st.BytesIn == 5 && st.BytesOut == 5 && st.Open == 1 && st.Accepted == 1
	})
	c.Close()
	eventually(t, "the connection is given back", func() bool { return statusOf(t, p, "l4").Open == 0 && p.Status().Descriptors == 0 })
}

// Bulk bytes go through copy, then splice; none may be lost, doubled or out of order.
func TestTCPBulkIsIntact(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, echoed(t, echo)))
	data := make([]byte, 24<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(data)
	c := dialed(t, at)
	var sending sync.WaitGroup
	sending.Go(func() {
		for rest, n := data, 1; len(rest) > 0; n = n*3%100_003 + 1 { // many sizes
			k := min(n*7, len(rest))
			c.Write(rest[:k])
			rest = rest[k:]
		}
		c.CloseWrite()
	})
	got := sha256.New()
	n, err := io.Copy(got, c)
	sending.Wait()
	want := sha256.Sum256(data)
	if err != nil || n != int64(len(data)) || !bytes.Equal(got.Sum(nil), want[:]) {
		t.Fatalf("echo of %d bytes: %d bytes, error %v, or other bytes", len(data), n, err)
	}
	eventually(t, "all bytes are counted", func() bool {
		st := statusOf(t, p, "l4")
		return st.BytesIn == int64(len(data)) && st.BytesOut == int64(len(data))
	})
}

func TestTCPHalfCloseIsKept(t *testing.T) {
	p := started(t, Deps{})
	service := echoed(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // until the client's end
		c.Write(append([]byte("after the end: "), b...))
	})
	at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, service))
	c := dialed(t, at)
	io.WriteString(c, "question")
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "after the end: question" {
		t.Fatalf("answer %q, error %v", b, err)
	}
}

func TestTCPResetsArePassedOn(t *testing.T) {
	seen := make(chan error, 1)
	p := started(t, Deps{})
	fromClient := serving(t, p, testListener("a", "tcp"), toEndpoint(t, p, echoed(t, func(c *net.TCPConn) {
		io.CopyN(c, c, 1)
		_, err := c.Read(make([]byte, 1))
		seen <- err
	})))
	c := dialed(t, fromClient)
	say(t, c, "x")
	reset(c)
	if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the endpoint saw %v, not a reset", err)
	}
	p2 := started(t, Deps{})
	fromEndpoint := serving(t, p2, testListener("b", "tcp"), toEndpoint(t, p2, echoed(t, func(c *net.TCPConn) {
		io.CopyN(c, c, 1)
		reset(c)
	})))
	c = dialed(t, fromEndpoint)
	say(t, c, "x")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, not a reset", err)
	}
}

func TestTCPIdleIsReset(t *testing.T) {
	seen, held := make(chan error, 1), make(chan struct{})
	p := started(t, Deps{})
	cfg := testListener("l4", "tcp")
	cfg.Limits.IdleTimeout = 50 * time.Millisecond
	at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, func(c *net.TCPConn) {
		io.CopyN(c, c, 1)
		c.Read(make([]byte, 1)) // the client's end
		<-held
		c.SetDeadline(time.Now().Add(patience))
		var err error
		for err == nil { // the reset may come just after the client's
			_, err = c.Write([]byte("x"))
		}
		seen <- err
	})))
	c := dialed(t, at)
	say(t, c, "x")
	c.CloseWrite() // a half-closed session can be idle too
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, not a reset", err)
	}
	close(held)
	if err := <-seen; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the endpoint saw %v, not a reset", err)
	}
}

func TestTCPConnectFailureIsARefusal(t *testing.T) {
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	nobody := ln.Addr().String()
	ln.Close()
	p := started(t, Deps{})
	results := make(chan exchange.Result, 1)
	h := toEndpoint(t, p, nobody)
	at := serving(t, p, testListener("l4", "tcp"), func(x *exchange.Exchange) *exchange.Refusal {
		r := h(x)
		results <- x.Result
		return r
	})
	c, err := net.Dial("tcp", at)
	if r := <-results; r.Kind != exchange.ConnectFailed || !r.Unsent {
		t.Errorf("result %+v", r)
	}
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, not a reset", err)
	}
}

func TestTCPSendsProxyHeader(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		heads := make(chan proxyHeader, 1)
		p := started(t, Deps{})
		service := echoed(t, func(c *net.TCPConn) {
			b := make([]byte, 512)
			n, _ := c.Read(b)
			h, used, err := parseProxyHeader(b[:n])
			if err != nil {
				t.Errorf("%s: %v", version, err)
			}
			heads <- h
			c.Write(b[used:n])
			io.Copy(c, c)
		})
		at := serving(t, p, testListener("l4", "tcp"), toEndpoint(t, p, service, func(cfg *site.Pool) { cfg.ProxyProtocol = version }))
		c := dialed(t, at)
		if h := <-heads; h.from.String() != c.LocalAddr().String() || h.to.String() != at {
			t.Errorf("%s says from %v to %v, not from %v to %s", version, h.from, h.to, c.LocalAddr(), at)
		}
		if got := say(t, c, "after"); got != "after" {
			t.Errorf("%s: echo %q", version, got)
		}
	}
}

// relay carries what an upgrade has read ahead on both sides.
func TestRelayPrefixes(t *testing.T) {
	p := started(t, Deps{})
	a, a2 := pair2(t)
	b, b2 := pair2(t)
	type result struct {
		in, out int64
		err     error
	}
	done := make(chan result, 1)
	go func() {
		in, out, err := p.relay(a2, b2, relayOptions{toEndpoint: []byte("from client "), toClient: []byte("from endpoint ")})
		a2.Close()
		b2.Close()
		done <- result{in, out, err}
	}()
	io.WriteString(a, "more")
	io.WriteString(b, "more!")
	a.CloseWrite()
	b.CloseWrite()
	if got, _ := io.ReadAll(b); string(got) != "from client more" {
		t.Errorf("the endpoint read %q", got)
	}
	if got, _ := io.ReadAll(a); string(got) != "from endpoint more!" {
		t.Errorf("the client read %q", got)
	}
	if r := <-done; r != (result{16, 19, nil}) {
		t.Errorf("relay returned %+v", r)
	}
}

// pair2 is two ends of one tcp connection.
func pair2(t testing.TB) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := dialed(t, ln.Addr().String())
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.SetDeadline(time.Now().Add(patience))
	return c, s.(*net.TCPConn)
}
