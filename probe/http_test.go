package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// service answers as the path says.
func service(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		fmt.Fprintf(w, "%s %s host=%s key=%s agent=%s", r.Method, r.URL, r.Host, r.Header.Get("X-Key"), r.UserAgent())
	case "/status":
		var code int
		fmt.Sscan(r.URL.RawQuery, &code)
		w.Header().Set("Location", "/echo")
		w.WriteHeader(code)
	case "/header":
		w.Header().Add("X-State", "cold")
		w.Header().Add("X-State", "warm and\tready")
	case "/big":
		io.WriteString(w, strings.Repeat("x", answerMax-4)+"END")
		io.WriteString(w, strings.Repeat("y", 1<<20)+"PAST")
	case "/early":
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	case "/hang":
		<-r.Context().Done()
	case "/half":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	}
}

// ask makes one probe and compares the verdict's reason; those of healthy endpoints begin with +, void ones with ?.
func ask(t *testing.T, at Target, cfg *site.Probe, want string) {
	t.Helper()
	if err := Check(cfg); err != nil {
		t.Fatalf("Check: %v", err)
	}
	v := Once(t.Context(), at, cfg)
	got := v.Reason
	switch {
	case v.Healthy:
		got = "+" + got
	case v.Void:
		got = "?" + got
	}
	if got != want {
		t.Errorf("verdict %q, want %q", got, want)
	}
}

func TestHTTP(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(service))
	defer plain.Close()
	secure := quietTLS(http.HandlerFunc(service), false)
	defer secure.Close()
	trust := secure.Client().Transport.(*http.Transport).TLSClientConfig
	at := Target{Address: plain.Listener.Addr().String()}
	over := Target{Address: secure.Listener.Addr().String(), TLS: trust}
	for _, c := range []struct {
		name string
		at   Target
		cfg  site.ProbeHTTP
		want string
	}{
		{"zero value", at, site.ProbeHTTP{}, "+status 200"},
		{"status wanted", at, site.ProbeHTTP{Path: "/status?503", Status: []string{"200-299,301", "503"}}, "+status 503"},
		{"status not wanted", at, site.ProbeHTTP{Path: "/status?503"}, "status 503, want 200-399"},
		{"status beyond those known", at, site.ProbeHTTP{Path: "/status?799"}, "status 799, want 200-399"},
		{"redirect is an answer", at, site.ProbeHTTP{Path: "/status?302", Status: []string{"200"}}, "status 302, want 200"},
		{"interim answers are passed over", at, site.ProbeHTTP{Path: "/early"}, "+status 204"},
		{"request as told", at, site.ProbeHTTP{Path: "/echo?a=b", Method: "PUT", Host: "shop.example", Headers: map[string]string{"x-key": "k1"},
			Body: `^PUT /echo\?a=b host=shop.example key=k1 agent=evenkeel-probe$`}, "+status 200, body matches"},
		{"host is the address", at, site.ProbeHTTP{Path: "/echo", Body: "host=127.0.0.1:[0-9]+ "}, "+status 200, body matches"},
		{"body differs", at, site.ProbeHTTP{Path: "/echo", Body: "^no$"}, "body does not match ^no$"},
		{"body within 64 KiB", at, site.ProbeHTTP{Path: "/big", Body: "xEND"}, "+status 200, body matches"},
		{"body beyond 64 KiB", at, site.ProbeHTTP{Path: "/big", Body: "PAST"}, "body does not match PAST"},
		{"body cut short", at, site.ProbeHTTP{Path: "/half", Body: "whole"}, "body: cut short"},
		{"head of an answer without a body", at, site.ProbeHTTP{Path: "/big", Method: "HEAD"}, "+status 200"},
		{"any value may match", at, site.ProbeHTTP{Path: "/header", Header: map[string]string{"x-state": "ready$"}}, "+status 200"},
		{"header differs", at, site.ProbeHTTP{Path: "/header", Header: map[string]string{"X-State": "^hot"}}, `header X-State is "cold", want a match of ^hot`},
		{"header absent", at, site.ProbeHTTP{Header: map[string]string{"x-none": "."}}, "header X-None is absent"},
		{"hangs", at, site.ProbeHTTP{Path: "/hang"}, "timeout after 150ms"},
		{"tls follows the pool", over, site.ProbeHTTP{}, "+status 200"},
		{"plain by scheme", Target{Address: at.Address, TLS: trust}, site.ProbeHTTP{Scheme: "http"}, "+status 200"},
		{"tls by scheme, unknown authority", Target{Address: over.Address}, site.ProbeHTTP{Scheme: "https"}, "certificate: signed by an unknown authority"},
		{"tls to a plain endpoint", at, site.ProbeHTTP{Scheme: "https"}, "handshake: not TLS"},
		{"plain to a tls endpoint", Target{Address: over.Address}, site.ProbeHTTP{}, "status 400, want 200-399"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask(t, c.at, &site.Probe{HTTP: &c.cfg, Timeout: timeoutFor(c.want)}, c.want)
		})
	}
}

// quietTLS is a TLS server that keeps failed handshakes to itself.
func quietTLS(h http.Handler, h2 bool) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = h2
	s.StartTLS()
	return s
}

// timeoutFor is short when the timeout is what is tested, and long for busy machines when it is not.
func timeoutFor(want string) time.Duration {
	if strings.HasPrefix(want, "timeout") {
		return 150 * time.Millisecond
	}
	return 20 * time.Second
}

func TestHTTP2(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		service(w, r)
	})
	clear := httptest.NewUnstartedServer(h)
	clear.Config.Protocols = new(http.Protocols)
	clear.Config.Protocols.SetUnencryptedHTTP2(true)
	clear.Start()
	defer clear.Close()
	secure := quietTLS(h, true)
	defer secure.Close()
	old := quietTLS(h, false)
	defer old.Close()
	// It waits for the client's end: closing at once could reset the connection before its answer was read.
	plain := once(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	plain.H2 = true
	trust := secure.Client().Transport.(*http.Transport).TLSClientConfig
	at := func(s *httptest.Server, c *tls.Config) Target {
		return Target{Address: s.Listener.Addr().String(), TLS: c, H2: true}
	}
	two := map[string]string{"X-Proto": `^HTTP/2\.0$`}
	for _, c := range []struct {
		name string
		at   Target
		cfg  site.ProbeHTTP
		want string
	}{
		{"prior knowledge", at(clear, nil), site.ProbeHTTP{Path: "/echo", Header: two, Body: "GET /echo"}, "+status 200, body matches"},
		{"by ALPN", at(secure, trust), site.ProbeHTTP{Path: "/echo", Header: two, Body: "GET /echo"}, "+status 200, body matches"},
		{"big body", at(clear, nil), site.ProbeHTTP{Path: "/big", Body: "PAST"}, "body does not match PAST"},
		{"status", at(clear, nil), site.ProbeHTTP{Path: "/status?500"}, "status 500, want 200-399"},
		{"hangs", at(clear, nil), site.ProbeHTTP{Path: "/hang"}, "timeout after 150ms"},
		{"endpoint without h2 over TLS", at(old, trust), site.ProbeHTTP{}, "handshake: refused with alert: no application protocol"},
		{"endpoint without h2c", plain, site.ProbeHTTP{}, "answer: not HTTP/2, or closed without one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask(t, c.at, &site.Probe{HTTP: &c.cfg, Timeout: timeoutFor(c.want)}, c.want)
		})
	}
}

// once serves one connection by f and returns its address.
func once(t *testing.T, f func(net.Conn)) Target {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-ended })
	go func() {
		defer close(ended)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		f(c)
		c.Close()
	}()
	return Target{Address: ln.Addr().String()}
}

// TestHTTPOddAnswers sends raw bytes as the answer.
func TestHTTPOddAnswers(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"nothing", "", "answer: closed without an answer"},
		{"another protocol", "220 mail.example ESMTP\r\n", "answer: not HTTP"},
		{"half a head", "HTTP/1.1 200 OK\r\nX-A: b\r\n", "answer: cut short"},
		{"an endless head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", headMax/8), "answer: head is larger than 65536 bytes"},
		{"endless interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10), "answer: more than 5 interim answers"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nfine", "+status 200, body matches"},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "body: invalid byte in chunk length"},
		{"endless chunk extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 200000), "body: header line too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := once(t, func(conn net.Conn) {
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, c.answer)
			})
			ask(t, at, &site.Probe{HTTP: &site.ProbeHTTP{Body: "fine"}, Timeout: 20 * time.Second}, c.want)
		})
	}
}

func TestOnceEndsWithItsContext(t *testing.T) {
	hung := make(chan struct{})
	at := once(t, func(net.Conn) { <-hung })
	defer close(hung)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	v := Once(ctx, at, &site.Probe{HTTP: &site.ProbeHTTP{}, Timeout: time.Hour})
	if v.Healthy || v.Took > 10*time.Second {
		t.Errorf("%+v", v)
	}
}
