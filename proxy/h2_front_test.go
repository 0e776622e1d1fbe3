package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// h2Rig is a plain listener that speaks HTTP/2 by prior knowledge to a handler.
type h2Rig struct {
	p    *Proxy
	l    *listener
	cfg  *site.Listener
	addr string
}

func testLimits() site.Limits {
	return site.Limits{Connections: 100, HeaderBytes: 16 << 10, Headers: 100, HeaderTimeout: 5 * time.Second, IdleTimeout: 60 * time.Second, MinRate: 240, Streams: 100}
}

// newH2Proxy is a Proxy whose clock runs.
func newH2Proxy(t testing.TB) *Proxy {
	t.Helper()
	p := New(Deps{Log: quiet()})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.sweep.run(ctx) })
	t.Cleanup(func() { p.h2.close(); stop(); wg.Wait() })
	return p
}

func newH2Rig(t testing.TB, limits site.Limits, h exchange.Handler) *h2Rig {
	t.Helper()
	return newH2RigOn(t, newH2Proxy(t), limits, h)
}

func newH2RigOn(t testing.TB, p *Proxy, limits site.Limits, h exchange.Handler) *h2Rig {
	t.Helper()
	rig := &h2Rig{p: p, cfg: &site.Listener{HTTP2: true, Limits: limits}}
	rig.l = &listener{proxy: p}
	rig.l.handler.Store(&h)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rig.addr = ln.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { rig.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); rig.l.draining.Store(true); wg.Wait() })
	return rig
}

func (r *h2Rig) serve(c net.Conn) {
	defer c.Close()
	r.p.serveHTTP2(&conn{Conn: c, listener: r.l, cfg: r.cfg, remote: c.RemoteAddr().(*net.TCPAddr).AddrPort(), local: netip.MustParseAddrPort("127.0.0.1:1")}, nil)
}

// h2cClient is net/http's client by prior knowledge.
func h2cClient(t testing.TB) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// echoH2 answers with what it was asked: method, target, host, fields as X- headers, and the body.
func echoH2(x *exchange.Exchange) *exchange.Refusal {
	f := x.Front.(front)
	fields := []wire.Field{{Name: []byte("X-Line"), Value: fmt.Appendf(nil, "%s %s %s", x.Request.Method, x.Request.Target, x.Request.Host)},
		{Name: []byte("Content-Type"), Value: []byte("text/plain"), ID: wire.ContentType}}
	for _, h := range x.Request.Fields {
		fields = append(fields, wire.Field{Name: append([]byte("X-Got-"), h.Name...), Value: h.Value})
	}
	if err := f.begin(x, 200, fields, -1); err != nil {
		return nil
	}
	for {
		p, err := f.readBody()
		if err == io.EOF {
			break
		}
		if err != nil || f.write(p, false) != nil {
			f.abort()
			return nil
		}
	}
	f.end(f.requestTrailers())
	return nil
}

func TestH2FrontEcho(t *testing.T) {
	rig := newH2Rig(t, testLimits(), echoH2)
	client := h2cClient(t)
	for _, size := range []int{0, 1, 1000, 70_000, 3 << 20} {
		body := bytes.Repeat([]byte("evenkeel"), size/8+1)[:size]
		req, _ := http.NewRequest("POST", "http://"+rig.addr+"/a/b?c=d", io.MultiReader(bytes.NewReader(body)))
		req.Header.Set("X-One", "1")
		req.Header.Set("Cookie", "a=b; c=d")
		req.Trailer = http.Header{"X-Sum": {"42"}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
		if want := "POST /a/b?c=d " + rig.addr; res.Header.Get("X-Line") != want {
			t.Errorf("line %q, want %q", res.Header.Get("X-Line"), want)
		}
		if res.Header.Get("X-Got-X-One") != "1" || res.Header.Get("X-Got-Cookie") != "a=b; c=d" {
			t.Errorf("fields %v", res.Header)
		}
		if res.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%d bytes: trailer %v", size, res.Trailer)
		}
	}
}

func TestH2FrontManyAtOnce(t *testing.T) {
	rig := newH2Rig(t, testLimits(), echoH2)
	client := h2cClient(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			body := strings.Repeat("x", i*997)
			res, err := client.Post("http://"+rig.addr+"/", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); err != nil || string(got) != body {
				t.Errorf("%d: %d bytes back, want %d, %v", i, len(got), len(body), err)
			}
		})
	}
	wg.Wait()
}

func TestH2FrontBodiless(t *testing.T) {
	rig := newH2Rig(t, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
		f := x.Front.(front)
		switch string(x.Request.Target) {
		case "/head":
			f.begin(x, 200, []wire.Field{{Name: []byte("Content-Length"), Value: []byte("123"), ID: wire.ContentLength}}, noBody)
		case "/204":
			f.begin(x, 204, nil, noBody)
		case "/inform":
			f.inform(&wire.Response{Status: 103, Fields: []wire.Field{{Name: []byte("Link"), Value: []byte("</a>")}}})
			f.begin(x, 404, nil, 3)
			f.write([]byte("abc"), true)
		case "/refuse":
			return &exchange.Refusal{Stage: "test", Reason: "because", Status: 429, RetryAfter: time.Second}
		case "/nothing":
			return nil
		}
		f.end(nil)
		return nil
	})
	client := h2cClient(t)
	for _, c := range []struct {
		method, path string
		status       int
		length       int64
		body         string
	}{{"HEAD", "/head", 200, 123, ""}, {"GET", "/204", 204, 0, ""}, {"GET", "/inform", 404, 3, "abc"}, {"GET", "/refuse", 429, -2, "because"}} {
		req, _ := http.NewRequest(c.method, "http://"+rig.addr+c.path, nil)
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.path, err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || c.length != -2 && res.ContentLength != c.length || !strings.Contains(string(body), c.body) {
			t.Errorf("%s: %d, length %d, %q", c.path, res.StatusCode, res.ContentLength, body)
		}
	}
	if _, err := client.Get("http://" + rig.addr + "/nothing"); err == nil {
		t.Error("a handler without an answer must reset the stream")
	}
}

// TestH2FrontCancel: a client that leaves cancels the attempt that runs for it.
func TestH2FrontCancel(t *testing.T) {
	seen := make(chan struct{})
	rig := newH2Rig(t, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
		f := x.Front.(front)
		b := &stubBack{cancelled: make(chan struct{})}
		f.watchCancel(b)
		close(seen)
		select {
		case <-b.cancelled:
		case <-time.After(10 * time.Second):
			t.Error("no cancel")
		}
		f.watchCancel(nil)
		if err := f.begin(x, 200, nil, -1); !errors.Is(err, errH2Reset) && !errors.Is(err, errH2Gone) {
			t.Errorf("begin after the client left: %v", err)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-seen; cancel() }()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+rig.addr+"/", nil)
	if _, err := h2cClient(t).Do(req); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// stubBack counts cancels.
type stubBack struct {
	back
	once      sync.Once
	cancelled chan struct{}
}

func (b *stubBack) cancel() { b.once.Do(func() { close(b.cancelled) }) }

// TestH2FrontRouteLimit: the limit for a body is that of its route, also when the body is there before the route is known.
func TestH2FrontRouteLimit(t *testing.T) {
	limits := testLimits()
	limits.BodyBytes = 10
	rig := newH2Rig(t, limits, func(x *exchange.Exchange) *exchange.Refusal {
		eventually(t, "the body is there", func() bool { _, whole := x.Front.(*h2Front).pending(); return whole })
		x.Route = &exchange.Route{MaxBody: 1000}
		return echoH2(x)
	})
	resp, err := h2cClient(t).Post("http://"+rig.addr+"/", "text/plain", strings.NewReader(strings.Repeat("b", 100)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || len(got) != 100 {
		t.Errorf("%d %d bytes, %v", resp.StatusCode, len(got), err)
	}
}
