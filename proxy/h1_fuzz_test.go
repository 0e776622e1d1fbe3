package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// FuzzEngine gives a live connection of the HTTP/1.1 engine any bytes, in two pieces: it never panics, always comes to an
// end, and answers nothing but HTTP.
func FuzzEngine(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
		"PUT /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /read HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "\r\n\r\nGET", "\x16\x03\x01\x02\x00\x01",
	} {
		f.Add([]byte(seed), uint16(len(seed)/2), false)
		f.Add([]byte(seed), uint16(1), true)
	}
	p := started(f, Deps{})
	cfg := testListener("web", site.ProtocolHTTP)
	cfg.Limits = h1Limits()
	cfg.Limits.HeaderBytes = 1 << 10
	addr := serving(f, p, cfg, fuzzHandler)
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, pause bool) {
		raw, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := raw.(*net.TCPConn)
		defer c.Close()
		c.SetDeadline(time.Now().Add(testDeadline))
		go func() {
			n := min(int(cut), len(in))
			c.Write(in[:n])
			if pause {
				<-time.After(time.Millisecond)
			}
			c.Write(in[n:])
			c.CloseWrite()
		}()
		out, err := io.ReadAll(c)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Fatalf("it hangs after %q", out)
		}
		if len(out) > 0 && !bytes.HasPrefix(out, []byte("HTTP/1.1 ")) && !bytes.HasPrefix(in, []byte("PRI ")) {
			t.Fatalf("it says %q", out)
		}
		if n := p.panics.Load(); n > 0 {
			t.Fatalf("%d panics", n)
		}
	})
}

// fuzzHandler reads bodies for /read, and otherwise leaves them to the engine.
func fuzzHandler(x *exchange.Exchange) *exchange.Refusal {
	if f := x.Front.(front); bytes.HasPrefix(x.Request.Target, []byte("/read")) {
		for {
			if _, err := f.readBody(); err == io.EOF {
				break
			} else if err != nil {
				return refuseBodyBad
			}
		}
	}
	if bytes.HasPrefix(x.Request.Target, []byte("/no")) {
		return refuseConnect
	}
	return Answer(x, 200, nil, []byte("fine"))
}
