package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// testListener is a listener on a free loopback port with roomy limits.
func testListener(name, protocol string) *site.Listener {
	return &site.Listener{Name: name, Listen: "127.0.0.1:0", Protocol: protocol, HTTP2: true, Limits: site.Limits{
		Connections: 1000, ConnectionsPerIP: 1000, HandshakeTimeout: patience, HeaderBytes: 16 << 10, Headers: 100,
		HeaderTimeout: patience, IdleTimeout: patience, Streams: 100,
	}}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// started is a Proxy that runs until the test ends.
func started(t testing.TB, deps Deps) *Proxy {
	t.Helper()
	if deps.Log == nil {
		deps.Log = quiet()
	}
	p := New(deps)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run did not return")
		}
	})
	return p
}

// made gives handlers that are there already.
func made(h map[string]exchange.Handler) func() (map[string]exchange.Handler, error) {
	return func() (map[string]exchange.Handler, error) { return h, nil }
}

// serving sets one listener with a handler and returns its address.
func serving(t testing.TB, p *Proxy, cfg *site.Listener, h exchange.Handler) string {
	t.Helper()
	if err := p.Update(map[string]*site.Listener{cfg.Name: cfg}, made(map[string]exchange.Handler{cfg.Name: h})); err != nil {
		t.Fatal(err)
	}
	return p.Addr(cfg.Name).String()
}

// toEndpoint is a handler that sends every exchange to one endpoint.
func toEndpoint(t testing.TB, p *Proxy, address string, change ...func(*site.Pool)) exchange.Handler {
	t.Helper()
	cfg := &site.Pool{Name: "pool", HTTP: "auto", Timeouts: site.Timeouts{Connect: patience, FirstByte: patience, Idle: patience, KeepAlive: patience},
		Connections: site.Connections{Max: 1000, Idle: 10}}
	for _, f := range change {
		f(cfg)
	}
	up, err := p.Upstream(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e := &exchange.Endpoint{Pool: "pool", Address: address}
	up.Attach(e)
	return func(x *exchange.Exchange) *exchange.Refusal {
		x.Endpoint = e
		if x.Protocol == exchange.UDP {
			return openUDP(x)
		}
		return relayTCP(x)
	}
}

// echoed is a tcp service that runs f for every connection.
func echoed(t testing.TB, f func(*net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

func echo(c *net.TCPConn) { io.Copy(c, c) }

func dialed(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	until := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-until:
			t.Fatalf("%s: it did not happen", what)
		case <-tick.C:
		}
	}
}

func statusOf(t testing.TB, p *Proxy, name string) ListenerStatus {
	t.Helper()
	for _, l := range p.Status().Listeners {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no listener %s in the status", name)
	return ListenerStatus{}
}

// say sends text and reads as much back.
func say(t testing.TB, c net.Conn, text string) string {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
