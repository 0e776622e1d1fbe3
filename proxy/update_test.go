package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// greeter is a handler that is told apart by the first byte it sends.
func greeter(t testing.TB, p *Proxy, letter string) exchange.Handler {
	return toEndpoint(t, p, echoed(t, func(c *net.TCPConn) {
		io.WriteString(c, letter)
		io.Copy(io.Discard, c)
	}))
}

func greeted(t testing.TB, at string) string {
	t.Helper()
	c := dialed(t, at)
	defer c.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUpdateSwapsHandlersAndKeepsConnections(t *testing.T) {
	p := started(t, Deps{})
	cfg := testListener("a", "tcp")
	at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
	c := dialed(t, at)
	say(t, c, "before")
	next := *cfg
	next.Limits.Connections = 7
	if now := serving(t, p, &next, greeter(t, p, "B")); now != at {
		t.Errorf("the listener moved from %s to %s", at, now)
	}
	if got := say(t, c, "after"); got != "after" {
		t.Errorf("the old connection echoes %q", got)
	}
	if got := greeted(t, at); got != "B" {
		t.Errorf("a new connection is greeted by %s", got)
	}
	if st := statusOf(t, p, "a"); st.Accepted != 2 || st.Limit != 7 {
		t.Errorf("status %+v", st)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	p := started(t, Deps{})
	cfg := testListener("a", "tcp")
	at := serving(t, p, cfg, greeter(t, p, "A"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	b, c, d := testListener("b", "tcp"), testListener("c", "tcp"), testListener("d", "tcp")
	c.Listen = taken.Addr().String()
	d.TLS = &site.TLS{Certificates: []site.Certificate{{Cert: "/nowhere.pem", Key: "/nowhere.key"}}}
	h := greeter(t, p, "X")
	for name, wrong := range map[string]*site.Listener{"c": c, "d": d} {
		err := p.Update(map[string]*site.Listener{"b": b, name: wrong}, func() (map[string]exchange.Handler, error) {
			t.Errorf("%s: handlers were made for what cannot be", name)
			return map[string]exchange.Handler{"b": h, name: h}, nil
		})
		if err == nil || !strings.Contains(err.Error(), "listener "+name) {
			t.Errorf("error %v does not name listener %s", err, name)
		}
		if p.Addr("b") != nil || p.Addr("a") == nil || greeted(t, at) != "A" {
			t.Errorf("%s: something has changed", name)
		}
	}
	if err := p.Update(map[string]*site.Listener{"b": b}, made(nil)); err == nil || p.Addr("b") != nil {
		t.Errorf("a listener without a handler: %v, at %v", err, p.Addr("b"))
	}
	no := errors.New("no")
	if err := p.Update(map[string]*site.Listener{"b": b}, func() (map[string]exchange.Handler, error) { return nil, no }); err != no || p.Addr("b") != nil {
		t.Errorf("handlers that cannot be made: %v, at %v", err, p.Addr("b"))
	}
}

func TestUpdateClosesAndMoves(t *testing.T) {
	p := started(t, Deps{})
	cfg := testListener("a", "tcp")
	at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
	cfg.Listen = at // the port is fixed from here on
	serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
	c := dialed(t, at)
	say(t, c, "x")
	// The address goes to a listener of another name, without a moment in which nobody listens.
	b := testListener("b", "tcp")
	b.Listen = at
	var stop atomic.Bool
	var clients sync.WaitGroup
	clients.Go(func() {
		for !stop.Load() {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Errorf("while the address moved: %v", err)
				return
			}
			c.Close()
		}
	})
	h := map[string]exchange.Handler{"a": greeter(t, p, "A"), "b": greeter(t, p, "B")}
	for i := range 20 {
		name := string("ab"[i%2])
		l := *b
		l.Name = name
		if err := p.Update(map[string]*site.Listener{name: &l}, made(h)); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	clients.Wait()
	if got := greeted(t, at); got != "B" {
		t.Errorf("greeted by %s", got)
	}
	if got := say(t, c, "still"); got != "still" {
		t.Errorf("the old connection echoes %q", got)
	}
	if err := p.Update(nil, made(nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the address is free", func() bool {
		ln, err := net.Listen("tcp", at)
		if err == nil {
			ln.Close()
		}
		return err == nil
	})
	if st := statusOf(t, p, "a"); st.Open != 1 || !st.Draining {
		t.Errorf("the removed listener: %+v", st)
	}
}

// A successor in the same process: sockets are handed on, and no connection is lost while both serve.
func TestSuccessorLosesNoConnection(t *testing.T) {
	old := started(t, Deps{})
	cfg := testListener("a", "tcp")
	at := serving(t, old, cfg, greeter(t, old, "1"))
	cfg.Listen = at
	files, err := old.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files["a"] {
		f.Fd() // what os/exec does to hand it on must not make our own socket block
	}
	var stop atomic.Bool
	var served [3]atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				c, err := net.Dial("tcp", at)
				if err != nil {
					t.Errorf("connect: %v", err)
					return
				}
				b := make([]byte, 1)
				if _, err := io.ReadFull(c, b); err != nil {
					t.Errorf("greeting: %v", err)
				}
				served[b[0]-'0'].Add(1)
				c.Close()
			}
		})
	}
	eventually(t, "the predecessor serves", func() bool { return served[1].Load() > 50 })
	next := started(t, Deps{Inherited: files})
	if got := serving(t, next, cfg, greeter(t, next, "2")); got != at {
		t.Errorf("the successor listens on %s", got)
	}
	eventually(t, "the successor serves, too", func() bool { return served[2].Load() > 50 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := old.Drain(ctx); err != nil {
		t.Error(err)
	}
	before := served[2].Load()
	eventually(t, "the successor serves alone", func() bool { return served[2].Load() > before+50 })
	stop.Store(true)
	clients.Wait()
}

func TestInheritedByAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	f, _ := ln.(*net.TCPListener).File()
	f2, _ := other.(*net.TCPListener).File()
	ln.Close()
	other.Close()
	null, _ := os.Open(os.DevNull)
	p := started(t, Deps{Inherited: map[string][]*os.File{"LISTEN_FD_3": {null, f, f2}}})
	cfg := testListener("web", "tcp")
	cfg.Listen = at
	serving(t, p, cfg, greeter(t, p, "I"))
	if got := greeted(t, at); got != "I" {
		t.Errorf("greeted by %q", got)
	}
	if c, err := net.Dial("tcp", other.Addr().String()); err == nil {
		c.Close()
		t.Error("a socket that nobody serves stayed open")
	}
}

func TestDrainWaitsAndReports(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("a", "tcp"), toEndpoint(t, p, echoed(t, echo)))
	short, long := dialed(t, at), dialed(t, at)
	say(t, short, "x")
	say(t, long, "x")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Drain(ctx) }()
	eventually(t, "the socket is closed", func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if got := say(t, short, "still"); got != "still" {
		t.Errorf("echo %q", got)
	}
	short.Close()
	eventually(t, "one has ended", func() bool { return statusOf(t, p, "a").Open == 1 })
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "a 1") {
		t.Errorf("drain says %v", err)
	}
	if _, err := long.Read(make([]byte, 1)); err == nil {
		t.Error("what was left was not cut")
	}
	if err := p.Update(nil, made(nil)); !errors.Is(err, errStopped) {
		t.Errorf("update while draining: %v", err)
	}
}

func TestDrainWithoutWorkIsQuick(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("a", "tcp"), toEndpoint(t, p, echoed(t, echo)))
	c := dialed(t, at)
	say(t, c, "x")
	c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Drain(ctx); err != nil {
		t.Error(err)
	}
}

// An idle keep-alive connection is told softly: a request that is already on its way is still read.
func TestHangServesWhatHasCome(t *testing.T) {
	a, b := pair2(t)
	cl := &client{conn: conn{Conn: b}, raw: b}
	io.WriteString(a, "request")
	cl.hang()
	got, err := io.ReadAll(b)
	if string(got) != "request" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := io.WriteString(b, "answer"); err != nil {
		t.Errorf("answering: %v", err)
	}
}

func TestCloseIdleSparesTheBusyAndTheFresh(t *testing.T) {
	p := started(t, Deps{})
	now := time.Now()
	var conns [3]*client
	for i := range conns {
		_, b := pair2(t)
		l := &listener{proxy: p, name: fmt.Sprint(i)}
		conns[i] = &client{conn: conn{Conn: b, listener: l}, raw: b}
		l.leave(now)
		p.clients.add(conns[i])
		defer p.clients.remove(conns[i])
	}
	p.draining.Store(true)
	conns[0].idle.Store(true)
	conns[1].listener.leaving.Store(now.Add(time.Second).UnixNano()) // began later
	conns[1].idle.Store(true)
	p.closeIdle(now.Add(idleGrace))
	for i, want := range []bool{true, false, false} {
		conns[i].raw.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := conns[i].raw.Read(make([]byte, 1))
		if got := err == io.EOF; got != want {
			t.Errorf("connection %d: ended %v, want %v", i, got, want)
		}
	}
}

func TestPanicCostsOneConnection(t *testing.T) {
	p := started(t, Deps{})
	at := serving(t, p, testListener("a", "tcp"), func(*exchange.Exchange) *exchange.Refusal { panic("planted") })
	c := dialed(t, at)
	c.Read(make([]byte, 1))
	eventually(t, "it is counted", func() bool { return p.Status().Panics == 1 && statusOf(t, p, "a").Open == 0 })
}

func TestRunTwice(t *testing.T) {
	p := New(Deps{Log: quiet()})
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := p.Run(ctx); !errors.Is(err, errRunTwice) {
		t.Errorf("the second Run: %v", err)
	}
}
