package proxy

import (
	"bytes"
	"net"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
)

// A report reaches evenkeel and not the client; a header of the pool's own reaches both.
func TestLoadReportOnTheWire(t *testing.T) {
	for answer, want := range map[string]float32{
		"HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.25\r\nContent-Length: 2\r\n\r\nok":                                         0.25,
		"HTTP/1.1 200 OK\r\nX-Busy: 75%\r\nContent-Length: 2\r\n\r\nok":                                                                              0.75,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nendpoint-load-metrics-bin: " + orca(0.5, 0) + "\r\nx-other: 1\r\n\r\n": 0.5,
	} {
		p, addr := startProxy(t, h1Limits(), nil)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			buf := make([]byte, 4<<10)
			if _, err := c.Read(buf); err == nil {
				c.Write([]byte(answer))
				c.Read(buf)
			}
		}()
		cfg := h1Pool()
		cfg.Shed.Utilisation = "x-busy"
		send, told := sendTo(t, p.Proxy, cfg, ln.Addr().String(), nil), make(chan float32, 1)
		p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
			r := send(x)
			told <- x.Result.Utilisation
			return r
		})
		c, _ := dialRaw(t, addr)
		c.Write([]byte("GET /x HTTP/1.1\r\nHost: shop.example\r\nTE: trailers\r\nConnection: close, te\r\n\r\n"))
		var got bytes.Buffer
		got.ReadFrom(c)
		if u := <-told; u != want || bytes.Contains(bytes.ToLower(got.Bytes()), []byte("endpoint-load")) || !bytes.Contains(got.Bytes(), []byte("200 OK")) {
			t.Errorf("%q: utilisation %v, want %v; the client got %q", answer, u, want, got.Bytes())
		}
		ln.Close()
		<-done
	}
}
