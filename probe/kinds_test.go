package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// nowhere is an address that refuses connections.
func nowhere(t *testing.T) Target {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return Target{Address: ln.Addr().String()}
}

func TestTCP(t *testing.T) {
	say := func(pieces ...string) func(net.Conn) {
		return func(c net.Conn) {
			for _, p := range pieces {
				io.WriteString(c, p)
			}
			io.Copy(io.Discard, c)
		}
	}
	echo := func(c net.Conn) { io.Copy(c, io.LimitReader(c, 5)) }
	for _, c := range []struct {
		name string
		at   func(net.Conn)
		cfg  *site.ProbeTCP
		want string
	}{
		{"connects", say(), &site.ProbeTCP{}, "+connected"},
		{"no kind is tcp", say(), nil, "+connected"},
		{"greeting", say("220 ", "mail\r\n"), &site.ProbeTCP{Expect: "^220 mail"}, "+answer matches"},
		{"asks first", echo, &site.ProbeTCP{Send: "PING\n", Expect: "^PING"}, "+answer matches"},
		{"sends only", echo, &site.ProbeTCP{Send: "PING\n"}, "+connected"},
		{"wrong answer", echo, &site.ProbeTCP{Send: "PING\n", Expect: "^PONG"}, "answer does not match ^PONG"},
		{"no answer", func(net.Conn) {}, &site.ProbeTCP{Expect: "x"}, "answer: closed without an answer"},
		{"long answer", say(strings.Repeat("x", 2*answerMax)), &site.ProbeTCP{Expect: "y"}, "answer does not match y"},
		{"silence", say(), &site.ProbeTCP{Expect: "x"}, "timeout after 150ms"},
		{"wrong answer, then silence", say("no"), &site.ProbeTCP{Expect: "x"}, "timeout after 150ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask(t, once(t, c.at), &site.Probe{TCP: c.cfg, Timeout: timeoutFor(c.want)}, c.want)
		})
	}
}

func TestConnectFailures(t *testing.T) {
	none := nowhere(t)
	_, port, _ := net.SplitHostPort(none.Address)
	var number int
	fmt.Sscan(port, &number)
	up := once(t, func(net.Conn) {})
	for _, c := range []struct {
		name string
		at   Target
		port int
		want string
	}{
		{"refused", none, 0, "connect: refused"},
		{"another port", up, number, "connect: refused"},
		{"no port", Target{Address: "127.0.0.1"}, 80, `address "127.0.0.1": want host:port`},
		{"no address", Target{Address: "127.0.0.1"}, 0, "connect: address 127.0.0.1: missing port in address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, cfg := range []site.Probe{{}, {HTTP: &site.ProbeHTTP{}}, {TLS: &site.ProbeTLS{}}, {GRPC: &site.ProbeGRPC{}}} {
				cfg.Port, cfg.Timeout = c.port, 20*time.Second
				ask(t, c.at, &cfg, c.want)
			}
		})
	}
}

// TestFailuresOfThisSide: what this host lacks is no verdict on the endpoint.
func TestFailuresOfThisSide(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		f := failed("connect", &net.OpError{Op: "dial", Err: fmt.Errorf("socket: %w", errno)})
		if !f.void || f.healthy || !strings.HasPrefix(f.reason, "not probed: ") {
			t.Errorf("%v gives %+v", errno, f)
		}
	}
	if f := failed("connect", syscall.ECONNREFUSED); f.void {
		t.Error("a refusal is a verdict")
	}
}

// certificate makes an authority and a certificate by it for localhost that is good from and to some time from now.
func certificate(t *testing.T, from, to time.Duration) (server, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-100 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"shop.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

func TestTLS(t *testing.T) {
	fresh, trust := certificate(t, -time.Hour, 100*time.Hour)
	stale, trustStale := certificate(t, -50*time.Hour, -time.Hour)
	named := trust.Clone()
	named.ServerName = "other.example"
	loose := trust.Clone()
	loose.InsecureSkipVerify = true
	shake := func(cfg *tls.Config) func(net.Conn) {
		return func(c net.Conn) { tls.Server(c, cfg).Handshake() }
	}
	for _, c := range []struct {
		name  string
		at    func(net.Conn)
		trust *tls.Config
		cfg   site.ProbeTLS
		want  string // a beginning
	}{
		{"verified", shake(fresh), trust, site.ProbeTLS{Verify: true}, "+shook hands, certificate ends 2"},
		{"name told", shake(fresh), trust, site.ProbeTLS{Verify: true, ServerName: "shop.example"}, "+shook hands"},
		{"wrong name told", shake(fresh), trust, site.ProbeTLS{Verify: true, ServerName: "x.example"}, "certificate: not valid for x.example"},
		{"wrong name of the pool", shake(fresh), named, site.ProbeTLS{Verify: true}, "certificate: not valid for other.example"},
		{"unknown authority", shake(fresh), nil, site.ProbeTLS{Verify: true}, "certificate: signed by an unknown authority"},
		{"pool does not verify, probe does", shake(fresh), loose, site.ProbeTLS{Verify: true, ServerName: "x.example"}, "certificate: not valid for"},
		{"not verified", shake(stale), nil, site.ProbeTLS{}, "+shook hands"},
		{"ended", shake(stale), trustStale, site.ProbeTLS{Verify: true}, "certificate: ended 2"},
		{"ends soon", shake(fresh), trust, site.ProbeTLS{Verify: true, Expires: 200 * time.Hour}, "certificate: ends in "},
		{"ends soon, not verified", shake(fresh), nil, site.ProbeTLS{Expires: 200 * time.Hour}, "certificate: ends in "},
		{"ends late enough", shake(fresh), trust, site.ProbeTLS{Verify: true, Expires: 90 * time.Hour}, "+shook hands"},
		{"not TLS", func(c net.Conn) { io.WriteString(c, "220 mail.example ESMTP\r\n") }, trust, site.ProbeTLS{Verify: true}, "handshake: not TLS"},
		{"closes", func(net.Conn) {}, trust, site.ProbeTLS{Verify: true}, "handshake: "},
		{"hangs", func(c net.Conn) { io.Copy(io.Discard, c) }, trust, site.ProbeTLS{}, "timeout after 150ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := once(t, c.at)
			at.TLS = c.trust
			v := Once(t.Context(), at, &site.Probe{TLS: &c.cfg, Timeout: timeoutFor(c.want)})
			reason, wantHealthy := strings.CutPrefix(c.want, "+")
			if v.Healthy != wantHealthy || !strings.HasPrefix(v.Reason, reason) {
				t.Errorf("verdict %v %q, want %s", v.Healthy, v.Reason, c.want)
			}
		})
	}
}

// TestGRPC asks the health service of the real library.
func TestGRPC(t *testing.T) {
	cert, trust := certificate(t, -time.Hour, time.Hour)
	serve := func(with bool, opts ...grpc.ServerOption) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(opts...)
		if with {
			hs := health.NewServer()
			hs.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_SERVING)
			hs.SetServingStatus("shop.Old", healthpb.HealthCheckResponse_NOT_SERVING)
			hs.SetServingStatus(strings.Repeat("long", 100), healthpb.HealthCheckResponse_SERVING)
			healthpb.RegisterHealthServer(s, hs)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); s.Serve(ln) }()
		t.Cleanup(func() { s.Stop(); <-ended })
		return ln.Addr().String()
	}
	clear := Target{Address: serve(true)}
	secure := Target{Address: serve(true, grpc.Creds(credentials.NewTLS(cert))), TLS: trust}
	bare := Target{Address: serve(false)}
	for _, c := range []struct {
		name    string
		at      Target
		service string
		want    string
	}{
		{"whole server", clear, "", "+SERVING"},
		{"one service", clear, "shop.Cart", "+SERVING"},
		{"a long name", clear, strings.Repeat("long", 100), "+SERVING"},
		{"sick service", clear, "shop.Old", "health NOT_SERVING, want SERVING"},
		{"unknown service", clear, "shop.None", "grpc status NOT_FOUND, want OK"},
		{"over TLS", secure, "shop.Cart", "+SERVING"},
		{"without a health service", bare, "", "grpc status UNIMPLEMENTED, want OK"},
		{"plain to TLS", Target{Address: secure.Address}, "", "answer: not HTTP/2, or closed without one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask(t, c.at, &site.Probe{GRPC: &site.ProbeGRPC{Service: c.service}, Timeout: 20 * time.Second}, c.want)
		})
	}
}

func FuzzReadServing(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x04\x12\x00\x08\x01", "\x00\x00\x00\x00\x02\x0d\x01",
		"\x00\x00\x00\x00\x0c\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		serving, err := readServing(b)
		if serving < 0 || err != nil && serving != 0 {
			t.Errorf("%d, %v", serving, err)
		}
	})
}
