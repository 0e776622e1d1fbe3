package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestPassThrough sends TLS on by the name that its first message asks for, unopened.
func TestPassThrough(t *testing.T) {
	a := newAuthority(t)
	site := "listeners: {web: {listen: \"127.0.0.1:0\", protocol: tcp}}\npools:\n"
	routes := "routes:\n"
	for _, name := range []string{"one.example", "two.example", "rest.example"} {
		pair := a.load(name, name)
		short, _, _ := strings.Cut(name, ".")
		address := serviceTLS(t, &tls.Config{Certificates: []tls.Certificate{pair}}, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, name, " ", r.TLS.ServerName, " ", r.Proto)
		})
		site += fmt.Sprintf("  %s: {endpoints: [%q]}\n", short, address)
		if short != "rest" {
			routes += fmt.Sprintf("  - {hosts: [%s], pool: %s}\n", name, short)
		}
	}
	g := runSite(t, site+routes+"  - {pool: rest}\n")
	for name, want := range map[string]string{"one.example": "one.example one.example HTTP/2.0", "TWO.example": "two.example TWO.example HTTP/2.0", "rest.example": "rest.example rest.example HTTP/2.0"} {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: a.pool, ServerName: name}}
		f := front{name: name, url: "https://" + g.at["web"], proto: "HTTP/2.0", client: &http.Client{Transport: tr}}
		if _, body := f.ask(t, f.request(t, "GET", "/", nil)); body != want {
			t.Errorf("%s: %q, want %q", name, body, want)
		}
		tr.CloseIdleConnections()
	}
}

// TestTCP relays bytes both ways, and each half's end.
func TestTCP(t *testing.T) {
	g := run(t, "--listen", "127.0.0.1:0", "--to", "tcp://"+listenTCP(t, func(c net.Conn) {
		all, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(all))
	}))
	for _, size := range []int{0, 1, 100_000, 5_000_000} {
		c, err := net.Dial("tcp", g.at["web"])
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(bytes.Repeat([]byte{'a'}, size)); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		back, err := io.ReadAll(c)
		if err != nil || len(back) != size || bytes.Count(back, []byte{'A'}) != size {
			t.Errorf("%d bytes: %d came back, %v", size, len(back), err)
		}
		c.Close()
	}
}

// TestUDP echoes datagrams of several clients.
func TestUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(append([]byte("again "), buf[:n]...), from)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0", protocol: udp}}
pools: {echo: {endpoints: [%q], probe: {exec: {command: ["true"]}}}}
`, server.LocalAddr()))
	for client := range 3 {
		c, err := net.Dial("udp", g.at["web"])
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		buf := make([]byte, 64<<10)
		for i := range 20 {
			said := fmt.Sprintf("client %d datagram %d %s", client, i, strings.Repeat("x", i*500))
			if _, err := c.Write([]byte(said)); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != "again "+said {
				t.Fatalf("%.40q came back as %.40q, %v", said, buf[:n], err)
			}
		}
		c.Close()
	}
}

// TestProxyProtocolOut looks at what a tcp endpoint is told of its client.
func TestProxyProtocolOut(t *testing.T) {
	first := make(chan string, 1)
	address := listenTCP(t, func(c net.Conn) {
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return // a probe
		}
		first <- line
	})
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0", protocol: tcp}}
pools: {told: {endpoints: [%q], proxy_protocol: v1}}
`, address))
	c, err := net.Dial("tcp", g.at["web"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello\n")
	from, to := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	select {
	case line := <-first:
		if want := fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n", from.Port, to.Port); line != want {
			t.Errorf("the endpoint is told %q, want %q", line, want)
		}
	case <-time.After(patience):
		t.Error("the endpoint is told nothing")
	}
}

// TestProxyProtocolIn believes a PROXY header, of version 1 and 2, and refuses a connection without one.
func TestProxyProtocolIn(t *testing.T) {
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0", proxy_protocol: {accept: required, from: [127.0.0.1]}}}
pools: {show: {endpoints: [%q]}}
`, service(t, show)))
	for name, start := range map[string]string{
		"v1": "PROXY TCP4 192.0.2.9 198.51.100.2 4711 80\r\n",
		"v2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\xc6\x33\x64\x02\x12\x67\x00\x50",
		"":   "",
	} {
		c, err := net.Dial("tcp", g.at["web"])
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "%sGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", start)
		all, err := io.ReadAll(c)
		if name == "" {
			if len(all) > 0 && !strings.HasPrefix(string(all), "HTTP/1.1 400") {
				t.Errorf("without a header: %q", all)
			}
		} else if err != nil || !strings.Contains(string(all), "X-Forwarded-For: 192.0.2.9\n") {
			t.Errorf("%s: %q, %v", name, all, err)
		}
		c.Close()
	}
}

// TestMutualTLS shows certificates to an endpoint that asks for them, and asks clients for theirs.
func TestMutualTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	cert, key := a.pair("front", "localhost", "127.0.0.1")
	ownCert, ownKey := a.pair("evenkeel", "evenkeel.example")
	address := serviceTLS(t, &tls.Config{Certificates: []tls.Certificate{a.load("inner", "inner.example")}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName, " ", r.TLS.ServerName)
	})
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0", tls: {certificates: [{cert: %q, key: %q}], client_ca: %q, client_auth: require}}}
pools:
  inner: {endpoints: [%[4]q], tls: {ca: %[3]q, server_name: inner.example, cert: %[5]q, key: %[6]q}}
  wrong: {endpoints: [%[4]q], tls: {ca: %[3]q, server_name: other.example, cert: %[5]q, key: %[6]q}}
routes: [{paths: [/wrong], pool: wrong}, {pool: inner}]
`, cert, key, a.file, address, ownCert, ownKey))
	for name, c := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{"known": {[]tls.Certificate{a.load("client", "client.example")}, true}, "stranger": {[]tls.Certificate{stranger.load("client", "client.example")}, false}, "nobody": {nil, false}} {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: a.pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c.certs == nil {
				return new(tls.Certificate), nil
			}
			return &c.certs[0], nil
		}}}
		f := front{url: "https://" + g.at["web"], proto: "HTTP/2.0", client: &http.Client{Transport: tr}}
		resp, err := f.client.Do(f.request(t, "GET", "/", nil))
		if !c.ok {
			if err == nil {
				t.Errorf("%s: got %s", name, resp.Status)
				resp.Body.Close()
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
		if _, body := f.ask(t, f.request(t, "GET", "/", nil)); body != "evenkeel inner.example" {
			t.Errorf("the endpoint saw %q", body)
		}
		if resp, body := f.ask(t, f.request(t, "GET", "/wrong", nil)); resp.StatusCode/100 != 5 || strings.Contains(body, "x509") {
			t.Errorf("an endpoint with another name: %s %s", resp.Status, body)
		}
		tr.CloseIdleConnections()
	}
}
