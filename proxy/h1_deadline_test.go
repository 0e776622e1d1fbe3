package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
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
