//go:build !race

package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/trace"
	"github.com/even-keel/evenkeel/wire"
)

// The race detector makes sync.Pool forget things, so allocations are counted without it.

func TestH1KeepAliveAllocatesNothing(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done, accepted := make(chan struct{}), make(chan net.Conn, 1)
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		accepted <- c
		buf, answer := make([]byte, 4<<10), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: x\r\n\r\nok")
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			c.Write(answer)
		}
	}()
	send, place := sendTo(t, p.Proxy, h1Pool(), ln.Addr().String(), nil), trace.New()
	traced := false
	p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
		if traced { // the endpoint is told of a trace that is not recorded
			x.Trace = exchange.Trace{Told: place, Anew: true}
		}
		return send(x)
	})
	defer func() { ln.Close(); (<-accepted).Close(); <-done }()
	c, _ := dialRaw(t, addr)
	request, buf := []byte("GET /x HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"), make([]byte, 4<<10)
	ask := func() {
		c.Write(request)
		if n, err := c.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
			t.Fatalf("%q %v", buf[:n], err)
		}
	}
	ask()
	if n := testing.AllocsPerRun(2000, ask); n != 0 {
		t.Errorf("%.2f allocations for each keep-alive request, want 0", n)
	}
	traced = true
	if n := testing.AllocsPerRun(2000, ask); n != 0 {
		t.Errorf("%.2f allocations for each keep-alive request with a trace, want 0", n)
	}
}

func TestH1RefusalAllocatesNothing(t *testing.T) {
	customer, address := testPolicies()
	for name, h := range map[string]exchange.Handler{
		"bare": func(*exchange.Exchange) *exchange.Refusal {
			return &bareRefusal
		},
		"limits": func(x *exchange.Exchange) *exchange.Refusal {
			x.RequestID = append(x.IDBuf[:0], "0123456789abcdef"...)
			x.RetryAfter = 1500 * time.Millisecond
			x.Allow(exchange.Allowance{Of: customer, Left: 12345, Reset: time.Minute})
			x.Allow(exchange.Allowance{Of: address, Violated: true})
			return &limitRefusal
		},
		"own body": func(*exchange.Exchange) *exchange.Refusal {
			return &bodyRefusal
		},
	} {
		_, addr := startProxy(t, h1Limits(), h)
		c, _ := dialRaw(t, addr)
		request, buf := []byte("GET /x HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"), make([]byte, 4<<10)
		ask := func() {
			c.Write(request)
			if n, err := c.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 429")) {
				t.Fatalf("%s: %q %v", name, buf[:n], err)
			}
		}
		ask()
		if n := testing.AllocsPerRun(2000, ask); n != 0 {
			t.Errorf("%s: %.2f allocations for each refusal, want 0", name, n)
		}
	}
}

// What a stage answers from memory, and what its tap takes from an endpoint, costs nothing besides.
func TestH1AnswersAllocateNothing(t *testing.T) {
	fields, body := []wire.Field{{Name: []byte("Date"), Value: []byte("Thu, 01 Jan 2026 00:00:00 GMT"), ID: wire.Date}, {Name: []byte("Age"), Value: []byte("5")}}, bytes.Repeat([]byte("x"), 2000)
	_, addr := startProxy(t, h1Limits(), func(x *exchange.Exchange) *exchange.Refusal { return Answer(x, 200, fields, body) })
	c, _ := dialRaw(t, addr)
	request, buf := []byte("GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n"), make([]byte, 8<<10)
	ask := func() {
		c.Write(request)
		if n, err := io.ReadAtLeast(c, buf, len(body)); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
			t.Fatalf("%q %v", buf[:n], err)
		}
	}
	ask()
	if n := testing.AllocsPerRun(2000, ask); n != 0 {
		t.Errorf("%.2f allocations for each answer from memory, want 0", n)
	}
}

// The refusals of the test, ready made as stages keep theirs.
var (
	bareRefusal  = exchange.Refusal{Stage: "guard", Reason: "overloaded", Status: 429, RetryAfter: time.Second, Detail: "Come back later."}
	limitRefusal = exchange.Refusal{Stage: "limit", Reason: "rate", Status: 429, Limit: "per-ip", Problem: exchange.ProblemQuota}
	bodyRefusal  = exchange.Refusal{Stage: "limit", Reason: "rate", Status: 429, Body: []byte("no")}
)
