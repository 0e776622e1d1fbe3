package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// TestH1UpgradeWithBody: what went out as the body of the request is not the beginning of the tunnel too.
func TestH1UpgradeWithBody(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := echoed(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := readMessage(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, r)
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 4\r\n\r\nbodytunnel")
	if resp, _ := readAnswer(t, r, "POST"); resp.StatusCode != 101 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(r); string(got) != "tunnel" || err != nil {
		t.Errorf("came back: %q, %v", got, err)
	}
}

// TestH1UpgradeIsWork: what the endpoint took until it switched counts as work, for limits that measure it.
func TestH1UpgradeIsWork(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := echoed(t, func(c *net.TCPConn) {
		if _, err := readMessage(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		}
	})
	send := sendTo(t, p.Proxy, h1Pool(), to, nil)
	worked := make(chan [2]time.Duration, 1)
	p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
		refusal := send(x)
		worked <- [2]time.Duration{x.Work, x.Result.Latency}
		return refusal
	})
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if resp, _ := readAnswer(t, r, "GET"); resp.StatusCode != 101 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	c.Close()
	if got := <-worked; got[0] == 0 || got[0] != got[1] {
		t.Errorf("%v of work, and the answer took %v", got[0], got[1])
	}
}

// TestH1UpgradeBeforeTheEndOfTheBody: an endpoint that switches while the body still comes would have two readers on one client.
func TestH1UpgradeBeforeTheEndOfTheBody(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := echoed(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 40\r\n\r\nbody")
	if resp, _ := readAnswer(t, r, "POST"); resp.StatusCode != 502 || !resp.Close {
		t.Fatalf("got %d", resp.StatusCode)
	}
}

// TestH1BodyWhereNoneMayBe: what an endpoint sends behind an answer that ends with its head is nobody's answer, also
// when it comes late.
func TestH1BodyWhereNoneMayBe(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	heads := map[string]string{
		"HEAD": "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n",
		"PUT":  "HTTP/1.1 204 No Content\r\nContent-Length: 46\r\n\r\n",
		"GET":  "HTTP/1.1 304 Not Modified\r\nContent-Length: 46\r\n\r\n",
		"POST": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	}
	for method, head := range heads {
		t.Run(method, func(t *testing.T) {
			p, addr := startProxy(t, h1Limits(), nil)
			late := make(chan struct{})
			to := echoed(t, func(c *net.TCPConn) {
				r := bufio.NewReader(c)
				for {
					request, err := readMessage(r)
					switch {
					case err != nil:
						return
					case bytes.HasPrefix(request, []byte("OPTIONS")):
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
					case method == "POST": // at once
						io.WriteString(c, head+evil)
					default:
						io.WriteString(c, head)
						<-late
						io.WriteString(c, evil)
						late <- struct{}{}
					}
				}
			})
			p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
			c, r := dialRaw(t, addr)
			fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: a\r\n\r\n", method)
			if resp, body := readAnswer(t, r, method); body != "" || resp.Close && method != "PUT" {
				t.Fatalf("got %d %q", resp.StatusCode, body)
			}
			if method != "POST" {
				late <- struct{}{}
				<-late
			}
			fmt.Fprint(c, "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp, body := readAnswer(t, r, "GET"); resp.StatusCode != 200 || body != "good" {
				t.Errorf("the next one got %d %q", resp.StatusCode, body)
			}
		})
	}
}

// TestH1EndpointSpeaksFirst: an endpoint that answers a connection before its request, and then waits.
func TestH1EndpointSpeaksFirst(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := echoed(t, func(c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
		io.Copy(io.Discard, c)
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	for range 50 {
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, body := readAnswer(t, r, "GET"); resp.StatusCode != 503 || body != "busy" {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
}

func TestConnectReason(t *testing.T) {
	for want, err := range map[string]error{
		"own_limit": &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)},
		"resolve":   &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host"}},
		"timeout":   &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded},
		"refused":   &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"connect":   io.ErrUnexpectedEOF,
	} {
		if got := connectReason(err); got != want {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
	if got := connectReason(fmt.Errorf("look up a name: %w", syscall.ENFILE)); got != "own_limit" {
		t.Errorf("no descriptor to look a name up: got %s", got)
	}
	x := &exchange.Exchange{Deadline: time.Unix(1, 0)}
	for want, err := range map[*exchange.Refusal]error{refuseOwnLimit: syscall.EMFILE, refuseDeadline: os.ErrDeadlineExceeded} {
		if r := connectFailed(x, err); r != want || x.Result.Kind != exchange.Cancelled {
			t.Errorf("%v: %v, %+v", err, r, x.Result)
		}
	}
}

// TestH1CutAnswerOverTLS: without a length and without chunks only the missing close_notify tells that an answer is not whole.
func TestH1CutAnswerOverTLS(t *testing.T) {
	pair := writeCert(t, t.TempDir(), "a", certOptions{names: []string{"a"}})
	cfg := testListener("web", site.ProtocolHTTP)
	cfg.TLS = &site.TLS{Certificates: []site.Certificate{pair}, ClientAuth: "none", MinVersion: "1.2"}
	p := started(t, Deps{})
	to := startEndpoint(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nhalf\r\n").ln.Addr().String()
	at := serving(t, p, cfg, sendTo(t, p, h1Pool(), to, nil))
	c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testDeadline))
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	if got, err := io.ReadAll(c); err == nil {
		t.Errorf("a cut answer ends as a whole one: %q", got)
	}
}

// TestH1LastAnswerArrives: a client that had more on its way when evenkeel ended the connection still gets the answers so far.
func TestH1LastAnswerArrives(t *testing.T) {
	limits := h1Limits()
	limits.Requests = 2
	_, addr := startProxy(t, limits, func(x *exchange.Exchange) *exchange.Refusal {
		return Answer(x, 200, nil, bytes.Repeat([]byte("x"), 100<<10))
	})
	for range 20 {
		c, r := dialRaw(t, addr)
		go func() {
			for range 400 { // until evenkeel has gone
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
					return
				}
			}
		}()
		for i := range 2 {
			if resp, body := readAnswer(t, r, "GET"); len(body) != 100<<10 || resp.Close != (i == 1) {
				t.Fatalf("answer %d: %d bytes, close %v", i, len(body), resp.Close)
			}
		}
	}
}

// TestH1RefusedBodyKeepsTheConnection: a refusal does not cost the client its connection when the body is small.
func TestH1RefusedBodyKeepsTheConnection(t *testing.T) {
	_, addr := startProxy(t, h1Limits(), func(*exchange.Exchange) *exchange.Refusal {
		return &exchange.Refusal{Stage: "limit", Reason: "per_ip", Status: 429}
	})
	c, r := dialRaw(t, addr)
	for range 3 {
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n")
		if resp, _ := readAnswer(t, r, "POST"); resp.StatusCode != 429 || resp.Close {
			t.Fatalf("got %d, close %v", resp.StatusCode, resp.Close)
		}
		c.Write(make([]byte, 40000))
	}
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
	if resp, _ := readAnswer(t, r, "POST"); resp.StatusCode != 429 || !resp.Close {
		t.Fatalf("a large body: got %d, close %v", resp.StatusCode, resp.Close)
	}
}
