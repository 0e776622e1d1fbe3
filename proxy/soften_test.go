package proxy

import (
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
)

// readUntil reads frames until one fits.
func readUntil(t *testing.T, r *rawH2, fits func(http2.Frame) bool) {
	t.Helper()
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			t.Fatalf("what was waited for did not come: %v", err)
		}
		if fits(f) {
			return
		}
	}
}

// allows fits SETTINGS that allow that many streams, and acknowledges all.
func allows(r *rawH2, streams uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool {
		s, ok := f.(*http2.SettingsFrame)
		if !ok || s.IsAck() {
			return false
		}
		r.fr.WriteSettingsAck()
		v, ok := s.Value(http2.SettingMaxConcurrentStreams)
		return ok && v == streams
	}
}

func TestStreamsAreLoweredAndComeBack(t *testing.T) {
	release := make(chan struct{})
	rig := newH2Rig(t, testLimits(), func(*exchange.Exchange) *exchange.Refusal {
		<-release
		return &exchange.Refusal{Stage: "test", Reason: "test", Status: 503}
	})
	r := dialRawH2(t, rig)
	readUntil(t, r, allows(r, 100))
	rig.p.Soften(1.0/64, 0)
	readUntil(t, r, allows(r, 1))
	r.headers(1, true, ":method: GET", ":scheme: http", ":path: /", ":authority: a")
	r.headers(3, true, ":method: GET", ":scheme: http", ":path: /", ":authority: a")
	readUntil(t, r, func(f http2.Frame) bool {
		s, ok := f.(*http2.RSTStreamFrame)
		return ok && s.StreamID == 3 && s.ErrCode == http2.ErrCodeRefusedStream
	})
	again := dialRawH2(t, rig) // a new connection is told at once
	readUntil(t, again, allows(again, 1))
	rig.p.Soften(1, 0)
	readUntil(t, r, allows(r, 100))
	r.headers(5, true, ":method: GET", ":scheme: http", ":path: /", ":authority: a")
	close(release)
	readUntil(t, r, func(f http2.Frame) bool {
		h, ok := f.(*http2.HeadersFrame)
		return ok && h.StreamID == 5
	})
}

func TestIdleConnectionsGo(t *testing.T) {
	limits := h1Limits()
	limits.IdleTimeout = time.Minute
	p, addr := startProxy(t, limits, func(*exchange.Exchange) *exchange.Refusal { return &bareRefusal })
	c, in := dialRaw(t, addr)
	c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	readAnswer(t, in, "GET")
	eventually(t, "the connection is idle", func() bool {
		idle := false
		p.clients.each(func(c *client) { idle = idle || c.idle.Load() })
		return idle
	})
	if n := p.Soften(1, 30*time.Second); n != 0 {
		t.Errorf("%d connections closed that were idle for a moment", n)
	}
	eventually(t, "it was idle for long enough to be closed", func() bool { return p.Soften(1, 50*time.Millisecond) == 1 })
	if _, err := in.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
	second, _ := dialRaw(t, addr) // without a request yet
	second.Write([]byte("GET / HTTP/1.1\r\nHo"))
	p.Soften(1, 0)
	if n := p.Soften(1, time.Nanosecond); n > 0 {
		t.Error("a connection in the middle of a head was closed")
	}
}

func TestAcceptQueueIsSeen(t *testing.T) {
	p := New(Deps{Log: quiet()}) // does not run: nobody accepts
	addr := serving(t, p, testListener("web", "http"), func(*exchange.Exchange) *exchange.Refusal { return nil })
	if got := p.AcceptQueue(); got != 0 {
		t.Errorf("empty queue: %v", got)
	}
	for range 10 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "ten wait", func() bool { return p.AcceptQueue() > 0 })
	p.mu.Lock()
	for _, s := range p.sockets {
		s.close()
	}
	p.mu.Unlock()
}
