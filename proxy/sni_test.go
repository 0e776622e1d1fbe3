package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// helloOf is the ClientHello that crypto/tls sends for a name.
func helloOf(t testing.TB, name string) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		c := tls.Client(a, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		c.Handshake()
		a.Close()
	}()
	b.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// splitRecords cuts the hello's record into records of n bytes.
func splitRecords(hello []byte, n int) (out []byte) {
	for body := hello[5:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(out, 22, 3, 1, byte(k>>8), byte(k))
		out = append(out, body[:k]...)
		body = body[k:]
	}
	return out
}

func TestParseHello(t *testing.T) {
	hello := helloOf(t, "Shop.Example")
	for what, b := range map[string][]byte{
		"as sent": hello, "with more behind": append(append([]byte(nil), hello...), "more"...),
		"in records of 1": splitRecords(hello, 1), "in records of 100": splitRecords(hello, 100),
	} {
		name, whole, err := parseHello(b)
		if string(name) != "shop.example" || !whole || err != nil {
			t.Errorf("%s: %q, %v, %v", what, name, whole, err)
		}
	}
	for k := range hello {
		if name, whole, err := parseHello(hello[:k]); whole || err != nil {
			t.Fatalf("the first %d bytes: %q, %v, %v", k, name, whole, err)
		}
	}
	if name, whole, err := parseHello(helloOf(t, "127.0.0.1")); len(name) != 0 || !whole || err != nil {
		t.Errorf("without a name: %q, %v, %v", name, whole, err)
	}
	for what, test := range map[string]struct {
		in  string
		err error
	}{
		"http":          {"GET / HTTP/1.1\r\n", errNotHello},
		"ssl 2":         {"\x80\x2e\x01\x03\x01", errNotHello},
		"other version": {"\x16\x02\x00\x00\x05\x01\x00\x00\x01\x00", errNotHello},
		"server hello":  {"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", errNotHello},
		"too long":      {"\x16\x03\x01\x00\x05\x01\x00\x80\x00\x00", errHelloLong},
		"empty record":  {"\x16\x03\x01\x00\x00", errNotHello},
		"cut short":     {"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00", errHelloBad},
		"other record":  {"\x16\x03\x01\x00\x01\x01\x17\x03\x03\x00\x01\x00", errHelloBad},
	} {
		if _, _, err := parseHello([]byte(test.in)); !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", what, err, test.err)
		}
	}
}

func FuzzParseHello(f *testing.F) {
	hello := helloOf(f, "shop.example")
	f.Add(hello)
	f.Add(splitRecords(hello, 7))
	f.Add(hello[:50])
	f.Fuzz(func(t *testing.T, b []byte) {
		name, whole, err := parseHello(b)
		if len(name) > 253 || err != nil && (whole || name != nil) || !whole && name != nil {
			t.Fatalf("%q, %v, %v", name, whole, err)
		}
		if !whole {
			return
		}
		again, whole, err := parseHello(append(append([]byte(nil), b...), 1, 2, 3))
		if string(again) != string(name) || !whole || err != nil {
			t.Fatalf("with more behind: %q, %v, %v", again, whole, err)
		}
	})
}

// TLS clients of a tcp listener that sniffs are routed by name, and reach the endpoint's own certificate.
func TestPassThroughBySNI(t *testing.T) {
	dir := t.TempDir()
	one, two := tlsService(t, dir, "one.example"), tlsService(t, dir, "two.example")
	p := started(t, Deps{})
	toOne, toTwo := toEndpoint(t, p, one), toEndpoint(t, p, two)
	cfg := testListener("l4", "tcp")
	cfg.Sniff = true
	at := serving(t, p, cfg, func(x *exchange.Exchange) *exchange.Refusal {
		switch {
		case x.SNI == "one.example" && string(x.Host) == x.SNI:
			return toOne(x)
		case x.SNI == "two.example":
			return toTwo(x)
		}
		return refusedNoRoute
	})
	for _, name := range []string{"one.example", "two.example"} {
		c := tls.Client(dialed(t, at), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if got := say(t, c, "hello"); got != "hello" {
			t.Errorf("%s: echo %q", name, got)
		}
		if got := c.ConnectionState().PeerCertificates[0].DNSNames[0]; got != name {
			t.Errorf("%s: certificate of %s", name, got)
		}
	}
	c := tls.Client(dialed(t, at), &tls.Config{ServerName: "three.example", InsecureSkipVerify: true})
	if c.Handshake() == nil {
		t.Error("a name without a route was served")
	}
}

// tlsService echoes over TLS with a certificate for name.
func tlsService(t testing.TB, dir, name string) string {
	pair := writeCert(t, dir, name, certOptions{names: []string{name}})
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return echoed(t, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		buf := make([]byte, 4096)
		for {
			n, err := s.Read(buf)
			if err != nil {
				return
			}
			s.Write(buf[:n])
		}
	})
}
