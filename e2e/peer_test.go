package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for one test.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	file string // its certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	a.cert, a.key = a.sign("ca", &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature})
	a.pool.AddCert(a.cert)
	a.file = filepath.Join(a.dir, "ca.pem")
	return a
}

// sign makes name.pem and name.key.
func (a *authority) sign(name string, cert *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(100*24*time.Hour)
	by, with := a.cert, a.key
	if by == nil {
		by, with = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, by, &key.PublicKey, with)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return made, key
}

// pair makes a certificate for hosts, which serves and asks, and returns its files.
func (a *authority) pair(name string, hosts ...string) (cert, key string) {
	a.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	a.sign(name, template)
	return filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
}

// load is pair for this process.
func (a *authority) load(name string, hosts ...string) tls.Certificate {
	a.t.Helper()
	c, err := tls.LoadX509KeyPair(a.pair(name, hosts...))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// service is an HTTP server by the standard library that speaks HTTP/1.1 and HTTP/2 without TLS.
func service(t testing.TB, h http.HandlerFunc) (address string) {
	t.Helper()
	return serviceTLS(t, nil, h)
}

// serviceTLS is service over TLS, when there is a configuration.
func serviceTLS(t testing.TB, conf *tls.Config, h http.HandlerFunc) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), TLSConfig: conf, ReadHeaderTimeout: patience,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 4 << 20, MaxReceiveBufferPerStream: 1 << 20}}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan error, 1)
	go func() {
		if conf != nil {
			done <- s.ServeTLS(ln, "", "")
		} else {
			done <- s.Serve(ln)
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return ln.Addr().String()
}

// front is one way for a client to reach a gateway.
type front struct {
	name   string
	url    string
	proto  string // as the client sees it
	client *http.Client
}

// fronts are the four ways to the listeners web and secure; without secure, two.
func fronts(t testing.TB, g *gateway, a *authority) []front {
	t.Helper()
	list := []front{{name: "h1", url: "http://" + g.at["web"], proto: "HTTP/1.1"}, {name: "h2c", url: "http://" + g.at["web"], proto: "HTTP/2.0"}}
	if g.at["secure"] != "" {
		list = append(list, front{name: "tls-h1", url: "https://" + g.at["secure"], proto: "HTTP/1.1"}, front{name: "tls-h2", url: "https://" + g.at["secure"], proto: "HTTP/2.0"})
	}
	for i := range list {
		tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true, ExpectContinueTimeout: patience, WriteBufferSize: 256 << 10, ReadBufferSize: 256 << 10,
			HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 4 << 20, MaxReceiveBufferPerStream: 1 << 20}}
		switch list[i].name {
		case "h1", "tls-h1":
			tr.Protocols.SetHTTP1(true)
		case "h2c":
			tr.Protocols.SetUnencryptedHTTP2(true)
		case "tls-h2":
			tr.Protocols.SetHTTP2(true)
		}
		if a != nil {
			tr.TLSClientConfig = &tls.Config{RootCAs: a.pool}
		}
		list[i].client = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		t.Cleanup(tr.CloseIdleConnections)
	}
	return list
}

// ask sends a request and reads the whole answer.
func (f front) ask(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := f.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Proto != f.proto {
		t.Errorf("%s %s was answered in %s, want %s", r.Method, r.URL, resp.Proto, f.proto)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// request makes a request for a path, with header fields in pairs.
func (f front) request(t testing.TB, method, path string, body io.Reader, fields ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
		}
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}
