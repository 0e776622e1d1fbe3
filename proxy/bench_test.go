package proxy

import (
	"io"
	"net"
	"testing"
)

// BenchmarkTCPSession is a short session: connect, one byte there and back, reset. Client and endpoint
// are in the same process and count, too.
func BenchmarkTCPSession(b *testing.B) {
	p := started(b, Deps{})
	at := serving(b, p, testListener("l4", "tcp"), toEndpoint(b, p, echoed(b, echo)))
	b.ReportAllocs()
	one := make([]byte, 1)
	for b.Loop() {
		c, err := net.Dial("tcp", at)
		if err != nil {
			b.Fatal(err)
		}
		c.Write(one)
		if _, err := c.Read(one); err != nil {
			b.Fatal(err)
		}
		reset(c.(*net.TCPConn))
	}
}

// BenchmarkTCPBulk is one download in pieces of 1 MiB.
func BenchmarkTCPBulk(b *testing.B) {
	p := started(b, Deps{})
	piece := make([]byte, 1<<20)
	at := serving(b, p, testListener("l4", "tcp"), toEndpoint(b, p, echoed(b, func(c *net.TCPConn) {
		for {
			if _, err := c.Write(piece); err != nil {
				return
			}
		}
	})))
	c := dialed(b, at)
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
	reset(c)
}

// BenchmarkRefuse is a connection over the limit, from accept to reset.
func BenchmarkRefuse(b *testing.B) {
	p := started(b, Deps{})
	cfg := testListener("l4", "tcp")
	cfg.Limits.AcceptRate = 1e-9
	at := serving(b, p, cfg, toEndpoint(b, p, echoed(b, echo)))
	one := make([]byte, 1)
	first, err := net.Dial("tcp", at) // the one that the rate lets through
	if err != nil {
		b.Fatal(err)
	}
	defer first.Close()
	b.ReportAllocs()
	for b.Loop() {
		if c, err := net.Dial("tcp", at); err == nil {
			c.Read(one)
			c.Close()
		}
	}
}
