package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

type certOptions struct {
	names  []string
	ca     bool
	parent *tls.Certificate // nil: self-signed
}

// writeCert makes a certificate and writes its pair as dir/name.pem and .key.
func writeCert(t testing.TB, dir, name string, o certOptions) site.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: o.names, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: o.ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := c, any(key)
	if o.parent != nil {
		parent, signer = o.parent.Leaf, o.parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	der2, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := site.Certificate{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{pair.Cert: {Type: "CERTIFICATE", Bytes: der}, pair.Key: {Type: "PRIVATE KEY", Bytes: der2}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair
}

func loaded(t testing.TB, pair site.Certificate) *tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func tlsListener(certs ...site.Certificate) *site.Listener {
	cfg := testListener("tls", "tcp")
	cfg.TLS = &site.TLS{Certificates: certs, ClientAuth: "none", MinVersion: "1.2"}
	return cfg
}

// shaken shakes hands and echoes a word, so that session tickets have arrived.
func shaken(t testing.TB, at string, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	raw, err := net.DialTimeout("tcp", at, patience)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(patience))
	cfg.InsecureSkipVerify = true
	c := tls.Client(raw, cfg)
	if _, err := c.Write([]byte("x")); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, err
	}
	return c.ConnectionState(), nil
}

func TestTLSEndsAndChoosesByName(t *testing.T) {
	dir := t.TempDir()
	first := writeCert(t, dir, "first", certOptions{names: []string{"shop.example"}})
	wild := writeCert(t, dir, "wild", certOptions{names: []string{"*.shop.example"}})
	p := started(t, Deps{})
	sni := make(chan string, 1)
	h := toEndpoint(t, p, echoed(t, echo))
	at := serving(t, p, tlsListener(first, wild), func(x *exchange.Exchange) *exchange.Refusal {
		sni <- x.SNI
		return h(x)
	})
	for name, want := range map[string]string{
		"shop.example": "first", "SHOP.example": "first", "a.shop.example": "wild", "a.b.shop.example": "first", "": "first", "other.example": "first",
	} {
		st, err := shaken(t, at, &tls.Config{ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := st.PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("%s: certificate %s, want %s", name, got, want)
		}
		if got := <-sni; got != name {
			t.Errorf("%s: the stages saw %q", name, got)
		}
	}
	if st := statusOf(t, p, "tls"); st.Handshakes.OK != 6 || len(st.Certificates) != 2 || st.Certificates[1].Names[0] != "*.shop.example" {
		t.Errorf("status %+v", st)
	}
	if _, err := shaken(t, at, &tls.Config{MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	eventually(t, "it is counted", func() bool {
		st := statusOf(t, p, "tls")
		return st.Handshakes.Failed == 1 && st.Refused["tls_handshake"] == 1
	})
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	pair := writeCert(t, dir, "a", certOptions{names: []string{"old.example"}})
	p := started(t, Deps{})
	at := serving(t, p, tlsListener(pair), toEndpoint(t, p, echoed(t, echo)))
	nameOf := func() string {
		st, err := shaken(t, at, &tls.Config{ServerName: "x.example"})
		if err != nil {
			t.Fatal(err)
		}
		return st.PeerCertificates[0].DNSNames[0]
	}
	tickets := tls.NewLRUClientSessionCache(4)
	if _, err := shaken(t, at, &tls.Config{ServerName: "x.example", ClientSessionCache: tickets}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pair.Key, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bad pair is said", func() bool { return statusOf(t, p, "tls").CertificateError != "" })
	if got := nameOf(); got != "old.example" {
		t.Errorf("with a bad pair on disk %s is served", got)
	}
	writeCert(t, dir, "a", certOptions{names: []string{"new.example"}})
	eventually(t, "the new pair is served", func() bool { return nameOf() == "new.example" })
	eventually(t, "nothing is wrong", func() bool { return statusOf(t, p, "tls").CertificateError == "" })
	st, err := shaken(t, at, &tls.Config{ServerName: "x.example", ClientSessionCache: tickets})
	if err != nil || !st.DidResume || statusOf(t, p, "tls").Handshakes.Resumed != 1 {
		t.Errorf("after new files: resumed %v, error %v", st.DidResume, err)
	}
}

func TestTLSTicketsOverUpdates(t *testing.T) {
	dir := t.TempDir()
	pair := writeCert(t, dir, "a", certOptions{names: []string{"a.example"}})
	ca := writeCert(t, dir, "ca", certOptions{ca: true})
	p := started(t, Deps{})
	h := toEndpoint(t, p, echoed(t, echo))
	cfg := tlsListener(pair)
	at := serving(t, p, cfg, h)
	client := &tls.Config{ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	resumed := func() bool {
		st, err := shaken(t, at, client)
		if err != nil {
			t.Fatal(err)
		}
		return st.DidResume
	}
	resumed()
	again := *cfg
	again.Limits.Connections++
	serving(t, p, &again, h)
	if !resumed() {
		t.Error("a reload lost the session tickets")
	}
	asks := again
	asks.TLS = &site.TLS{Certificates: cfg.TLS.Certificates, ClientAuth: "request", ClientCA: ca.Cert, MinVersion: "1.2"}
	serving(t, p, &asks, h)
	if resumed() {
		t.Error("a session from before client certificates were asked for was resumed")
	}
}

func TestTLSClientCertificates(t *testing.T) {
	dir := t.TempDir()
	pair := writeCert(t, dir, "a", certOptions{names: []string{"a.example"}})
	ca := writeCert(t, dir, "ca", certOptions{ca: true})
	good := loaded(t, writeCert(t, dir, "good", certOptions{parent: loaded(t, ca)}))
	bad := loaded(t, writeCert(t, dir, "bad", certOptions{}))
	for _, test := range []struct {
		auth string
		cert *tls.Certificate
		ok   bool
	}{
		{"require", good, true}, {"require", bad, false}, {"require", nil, false},
		{"request", good, true}, {"request", bad, false}, {"request", nil, true}, {"none", nil, true},
	} {
		p := started(t, Deps{})
		cfg := tlsListener(pair)
		cfg.TLS.ClientAuth, cfg.TLS.ClientCA = test.auth, ca.Cert
		at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
		client := &tls.Config{ServerName: "a.example"}
		if test.cert != nil {
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return test.cert, nil }
		}
		if _, err := shaken(t, at, client); (err == nil) != test.ok {
			t.Errorf("%s with %v: %v", test.auth, test.cert != nil, err)
		}
	}
}

func TestTLSProtocols(t *testing.T) {
	pair := writeCert(t, t.TempDir(), "a", certOptions{names: []string{"a.example"}})
	for _, test := range []struct {
		protocol string
		http2    bool
		want     string
	}{{"http", true, "h2"}, {"http", false, "http/1.1"}, {"tcp", true, ""}} {
		cfg := tlsListener(pair)
		cfg.Protocol, cfg.HTTP2 = test.protocol, test.http2
		state, err := newTLSState(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, b := pair2(t)
		go tls.Server(b, state.conf.Load()).Handshake()
		c := tls.Client(a, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != test.want {
			t.Errorf("%s, http2 %v: %q, want %q", test.protocol, test.http2, got, test.want)
		}
	}
}

func TestSilentTLSClientTimesOut(t *testing.T) {
	pair := writeCert(t, t.TempDir(), "a", certOptions{names: []string{"a.example"}})
	p := started(t, Deps{})
	cfg := tlsListener(pair)
	cfg.Limits.HandshakeTimeout = 1
	cfg.Limits.HandshakeRate = 1
	at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
	c := dialed(t, at)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it was served")
	}
	if n := statusOf(t, p, "tls").Refused["handshake_timeout"]; n != 1 {
		t.Errorf("%d timed out", n)
	}
	if _, err := shaken(t, at, &tls.Config{}); err == nil || statusOf(t, p, "tls").Refused["handshake_rate"] != 1 {
		t.Errorf("a handshake beyond the rate: %v", err)
	}
}
