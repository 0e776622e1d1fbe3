package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
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

// TestH1ClientGoneWhileWaiting: a client that resets its connection takes its request with it, soon. One that only
// ends its sending side still wants its answer, which comes after some looks.
func TestH1ClientGoneWhileWaiting(t *testing.T) {
	for name, path := range map[string]string{"new": "/", "used": "/", "begun": "/begun"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testClientGone(t, path, name != "new")
		})
	}
}

func testClientGone(t *testing.T, path string, half bool) {
	p, addr := startProxy(t, h1Limits(), nil)
	arrived, gone := make(chan struct{}, 10), make(chan struct{}, 10)
	var answers atomic.Int64 // after how many ns
	answers.Store(int64(1200 * time.Millisecond))
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			w.(http.Flusher).Flush()
		}
		arrived <- struct{}{}
		select {
		case <-r.Context().Done():
			gone <- struct{}{}
		case <-time.After(time.Duration(answers.Load())):
		}
		io.WriteString(w, "done")
	})
	pool := h1Pool()
	pool.Timeouts.FirstByte, pool.Timeouts.Idle = testDeadline, testDeadline
	results := make(chan exchange.Result, 10)
	send := sendTo(t, p.Proxy, pool, to, nil)
	p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
		r := send(x)
		results <- x.Result
		return r
	})
	if half {
		c, r := dialRaw(t, addr)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		<-arrived
		c.(*net.TCPConn).CloseWrite()
		if resp, body := readAnswer(t, r, "GET"); resp.StatusCode != 200 || body != "done" {
			t.Fatalf("half-closed: %d %q", resp.StatusCode, body)
		}
		if r := <-results; r.Kind != exchange.Answered {
			t.Errorf("half-closed: %+v", r)
		}
	}
	answers.Store(int64(testDeadline))
	c, _ := dialRaw(t, addr)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	<-arrived
	reset(c.(*net.TCPConn))
	select {
	case <-gone:
	case <-time.After(testDeadline - time.Second):
		t.Fatal("the endpoint's connection did not end")
	}
	if r := <-results; path == "/" && r.Kind != exchange.Cancelled {
		t.Errorf("reset: %+v", r)
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
