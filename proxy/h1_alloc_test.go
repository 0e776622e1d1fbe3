//go:build !race

package proxy

import (
	"bytes"
	"net"
	"testing"
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
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), ln.Addr().String(), nil))
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
}
