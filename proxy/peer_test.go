package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

func TestAltName(t *testing.T) {
	id := &url.URL{Scheme: "spiffe", Host: "example", Path: "/shop"}
	raw := func(names ...asn1.RawValue) []pkix.Extension {
		der, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}}
	}
	named := func(tag int, s string) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(s)}
	}
	for name, c := range map[string]struct {
		cert x509.Certificate
		want string
	}{
		"none":           {x509.Certificate{}, ""},
		"dns":            {x509.Certificate{DNSNames: []string{"a.example", "b.example"}}, "a.example"},
		"uri":            {x509.Certificate{URIs: []*url.URL{id}}, "spiffe://example/shop"},
		"mail":           {x509.Certificate{EmailAddresses: []string{"ann@example"}}, "ann@example"},
		"ipv4":           {x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, "192.0.2.1"},
		"ipv6":           {x509.Certificate{IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}}, "2001:db8::1"},
		"uri before dns": {x509.Certificate{ExtraExtensions: raw(named(6, "spiffe://example/shop"), named(2, "a.example"))}, "spiffe://example/shop"},
		"other, then ip": {x509.Certificate{ExtraExtensions: raw(named(8, "\x2a"), named(7, "\xc0\x00\x02\x01"))}, "192.0.2.1"},
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.cert.SerialNumber = big.NewInt(1)
		der, err := x509.CreateCertificate(rand.Reader, &c.cert, &c.cert, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if got := altName(cert); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for _, value := range [][]byte{nil, {0x30}, {0x30, 1, 0x82}, {0x30, 2, 0x82, 9}, {0x30, 0}} {
		cert := &x509.Certificate{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}}
		if got := altName(cert); got != "" {
			t.Errorf("%x: %q", value, got)
		}
	}
}

// Stages see the certificate of every request of a connection, first and resumed sessions alike, and only one that was verified.
func TestPeerOnExchanges(t *testing.T) {
	dir := t.TempDir()
	pair := writeCert(t, dir, "a", certOptions{names: []string{"a.example"}})
	ca := writeCert(t, dir, "ca", certOptions{ca: true})
	good := loaded(t, writeCert(t, dir, "good", certOptions{parent: loaded(t, ca), names: []string{"client.example"}}))
	for _, http2 := range []bool{false, true} {
		for _, shows := range []bool{true, false} {
			p := started(t, Deps{})
			cfg := tlsListener(pair)
			cfg.Protocol, cfg.HTTP2, cfg.Limits = "http", http2, h1Limits()
			cfg.TLS.ClientAuth, cfg.TLS.ClientCA = "request", ca.Cert
			peers := make(chan *exchange.Peer, 10)
			at := serving(t, p, cfg, func(x *exchange.Exchange) *exchange.Refusal {
				peers <- x.Peer
				return Answer(x, 204, nil, nil)
			})
			client := &tls.Config{ServerName: "a.example", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
			if shows {
				client.Certificates = []tls.Certificate{*good}
			}
			for range 2 { // the second connection resumes the session of the first
				tr := &http.Transport{ForceAttemptHTTP2: http2, TLSClientConfig: client.Clone()}
				for range 2 {
					resp, err := (&http.Client{Transport: tr, Timeout: testDeadline}).Get("https://" + at)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if (resp.ProtoMajor == 2) != http2 {
						t.Fatalf("spoke %s", resp.Proto)
					}
					var peer *exchange.Peer
					select {
					case peer = <-peers:
					case <-time.After(testDeadline):
						t.Fatal("no request came")
					}
					if (peer != nil) != shows || shows && (string(peer.AltName) != "client.example" || string(peer.Subject) != "CN="+string(peer.Name)) {
						t.Errorf("HTTP/2 %v, shows a certificate %v: peer %+v", http2, shows, peer)
					}
				}
				tr.CloseIdleConnections()
			}
		}
	}
}
