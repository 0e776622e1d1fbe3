package proxy

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// TestH1SlowAnswerToUpload: the time for the body ends with the body, however long the endpoint then thinks.
func TestH1SlowAnswerToUpload(t *testing.T) {
	limits := h1Limits()
	limits.IdleTimeout = 150 * time.Millisecond
	p, addr := startProxy(t, limits, nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-time.After(600 * time.Millisecond)
		io.WriteString(w, "done")
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	for range 2 { // the connection is of use afterwards
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
		<-time.After(20 * time.Millisecond)
		fmt.Fprint(c, "def")
		if resp, body := readAnswer(t, r, "POST"); resp.StatusCode != 200 || body != "done" || resp.Close {
			t.Fatalf("got %d %q, close %v", resp.StatusCode, body, resp.Close)
		}
	}
}

// TestSweeperSettle: a connection that was woken at the very moment when its work came is of use again.
func TestSweeperSettle(t *testing.T) {
	s := newSweeper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	var w watched
	s.add(&w, a)
	s.arm(&w, time.Second)
	s.tick(int64(time.Minute))
	if _, err := a.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() {
		t.Fatalf("a connection past its deadline: %v", err)
	}
	if !s.settle(&w) {
		t.Fatal("it counts as cut")
	}
	go b.Write([]byte("x"))
	if _, err := a.Read(make([]byte, 1)); err != nil {
		t.Errorf("after settle: %v", err)
	}
	s.rearm(&w, time.Second)
	if w.disarm() || w.at.Load() != 0 {
		t.Error("rearm set a deadline where none was")
	}
	s.arm(&w, 0)
	s.tick(int64(time.Hour))
	s.rearm(&w, time.Second)
	if !w.disarm() {
		t.Error("rearm hid that the deadline had passed")
	}
}

// TestClientGoneWhileWaiting: a client that resets or closes its connection takes its request with it, soon, whatever its endpoint speaks.
func TestClientGoneWhileWaiting(t *testing.T) {
	closes := func(c *net.TCPConn) { c.CloseWrite() } // for the other side it is the same
	for name, c := range map[string]goneCase{
		"resets":               {leave: reset},
		"resets, after some":   {leave: reset, used: true},
		"resets, answer came":  {leave: reset, path: "/begun", used: true},
		"closes":               {leave: closes},
		"closes, answer came":  {leave: closes, path: "/begun", used: true},
		"closes a TLS one":     {leave: closes, tls: true},
		"resets, h2":           {leave: reset, h2: true},
		"closes, h2":           {leave: closes, h2: true},
		"closes a TLS one, h2": {leave: closes, tls: true, h2: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// TestHalfClosedIsServed: with half_closed: serve, who ended its sending side still gets an answer that takes long; and so does, always, who sent another request first.
func TestHalfClosedIsServed(t *testing.T) {
	for name, c := range map[string]struct {
		says     string
		requests int
	}{"told to": {site.HalfClosedServe, 1}, "another request waits": {"", 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := started(t, Deps{})
			to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				<-time.After(600 * time.Millisecond)
				io.WriteString(w, "done")
			})
			cfg := testListener("web", site.ProtocolHTTP)
			cfg.HalfClosed = c.says
			client, r := dialRaw(t, serving(t, p, cfg, sendTo(t, p, h1Pool(), to, nil)))
			for range c.requests {
				fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			}
			client.(*net.TCPConn).CloseWrite()
			if resp, body := readAnswer(t, r, "GET"); resp.StatusCode != 200 || body != "done" {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
		})
	}
}

type goneCase struct {
	leave   func(*net.TCPConn)
	path    string // of the request; empty: /
	used    bool   // the connection to the endpoint carried an exchange before
	tls, h2 bool   // from the client; to the endpoint
}

func (g goneCase) test(t *testing.T) {
	arrived, gone := make(chan struct{}, 10), make(chan struct{}, 10)
	begin, pool := httpEndpoint, h1Pool()
	if g.h2 {
		begin = func(t *testing.T, h http.HandlerFunc) string { return h2cServer(t, h) }
		pool.HTTP = "h2"
	}
	to := begin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		if r.URL.Path == "/begun" {
			w.(http.Flusher).Flush()
		}
		arrived <- struct{}{}
		select {
		case <-r.Context().Done():
			gone <- struct{}{}
		case <-time.After(testDeadline):
		}
	})
	pool.Timeouts.FirstByte, pool.Timeouts.Idle = testDeadline, testDeadline
	p := started(t, Deps{})
	results := make(chan exchange.Result, 10)
	send := sendTo(t, p, pool, to, nil)
	cfg := testListener("web", site.ProtocolHTTP)
	if g.tls {
		pair := writeCert(t, t.TempDir(), "a", certOptions{names: []string{"a"}})
		cfg.TLS = &site.TLS{Certificates: []site.Certificate{pair}, ClientAuth: "none", MinVersion: "1.2"}
	}
	addr := serving(t, p, cfg, func(x *exchange.Exchange) *exchange.Refusal {
		r := send(x)
		results <- x.Result
		return r
	})
	raw, r := dialRaw(t, addr)
	c := raw
	if g.tls {
		c = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		r = bufio.NewReader(c)
	}
	if g.used {
		fmt.Fprint(c, "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
		readAnswer(t, r, "GET")
		<-results
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", cmp.Or(g.path, "/"))
	<-arrived
	g.leave(raw.(*net.TCPConn))
	select {
	case <-gone:
	case <-time.After(testDeadline - time.Second):
		t.Fatal("the work was not called off")
	}
	if r := <-results; g.path == "" && r.Kind != exchange.Cancelled {
		t.Errorf("%+v", r)
	}
}

// TestLeaversOverH2AreNotTheEndpointsFault: a client of HTTP/2 that resets its stream, before the answer or in the midst of it, says nothing of an endpoint that speaks HTTP/1.1.
func TestLeaversOverH2AreNotTheEndpointsFault(t *testing.T) {
	arrived := make(chan struct{}, 1)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			w.(http.Flusher).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	pool := h1Pool()
	pool.Timeouts.FirstByte, pool.Timeouts.Idle = testDeadline, testDeadline
	p := started(t, Deps{})
	results := make(chan exchange.Result, 1)
	send := sendTo(t, p, pool, to, nil)
	cfg := testListener("web", site.ProtocolHTTP)
	cfg.HTTP2 = true
	addr := serving(t, p, cfg, func(x *exchange.Exchange) *exchange.Refusal {
		r := send(x)
		if r != nil || !x.Outcome.Aborted || x.Outcome.Truncated {
			t.Errorf("refused with %v, outcome %+v", r, x.Outcome)
		}
		results <- x.Result
		return r
	})
	client := h2cClient(t)
	for path, want := range map[string]exchange.ResultKind{"/": exchange.Cancelled, "/begun": exchange.Answered} {
		ctx, leave := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+path, nil)
		begun, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			if a, err := client.Do(req); err == nil {
				close(begun)
				_, _ = io.Copy(io.Discard, a.Body)
				a.Body.Close()
			}
		}()
		if <-arrived; want == exchange.Answered {
			<-begun
		}
		leave()
		if r := <-results; r.Kind != want || r.Reason != "" {
			t.Errorf("%s: %+v", path, r)
		}
		<-done
	}
}

// TestH1SlowUploadIsNotTheEndpointsFault: first_byte runs from the end of the request.
func TestH1SlowUploadIsNotTheEndpointsFault(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
		io.WriteString(w, "done")
	})
	pool := h1Pool()
	pool.Timeouts.FirstByte = 200 * time.Millisecond
	p.setHandler(sendTo(t, p.Proxy, pool, to, nil))
	for path, want := range map[string]int{"/": 200, "/hang": 504} {
		c, r := dialRaw(t, addr)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", path)
		for range 3 {
			<-time.After(300 * time.Millisecond)
			fmt.Fprint(c, "x")
		}
		if resp, body := readAnswer(t, r, "POST"); resp.StatusCode != want {
			t.Errorf("%s: got %d %q", path, resp.StatusCode, body)
		}
	}
}
