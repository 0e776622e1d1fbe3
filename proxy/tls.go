package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// tlsState is how one listener ends TLS: the configuration of new handshakes and the files behind it.
type tlsState struct {
	cfg   site.TLS
	http  bool
	http2 bool
	conf  atomic.Pointer[tls.Config]
	certs atomic.Pointer[certSet]
	pairs []*pair // owned by newTLSState, then by housekeeping
	ca    watchedFile
	wrong atomic.Pointer[string] // why the newest files are not in use; nil: they are
}

// pair is one certificate and its key on disk.
type pair struct {
	files     site.Certificate
	cert, key watchedFile
	loaded    *tls.Certificate
}

// watchedFile remembers what a file looked like when it was read.
type watchedFile struct {
	path string
	seen os.FileInfo
}

// changed reports whether the file is another one than when it was read.
func (w *watchedFile) changed() bool {
	now, err := os.Stat(w.path)
	return err != nil || w.seen == nil || !os.SameFile(now, w.seen) || !now.ModTime().Equal(w.seen.ModTime()) || now.Size() != w.seen.Size()
}

// read reads the file and remembers what it looked like before.
func (w *watchedFile) read() ([]byte, error) {
	seen, err := os.Stat(w.path)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(w.path)
	if err == nil {
		w.seen = seen
	}
	return b, err
}

// newTLSState reads the files of cfg. Session tickets of before stay good unless what is asked of clients changed:
// a session that began under other rules must not be resumed under these.
func newTLSState(cfg *site.Listener, before *tlsState) (*tlsState, error) {
	t := &tlsState{cfg: *cfg.TLS, http: cfg.Protocol == site.ProtocolHTTP, http2: cfg.HTTP2, ca: watchedFile{path: cfg.TLS.ClientCA}}
	if len(t.cfg.Certificates) == 0 {
		return nil, errors.New("no certificate is named")
	}
	for _, c := range t.cfg.Certificates {
		p := &pair{files: c, cert: watchedFile{path: c.Cert}, key: watchedFile{path: c.Key}}
		if err := p.load(); err != nil {
			return nil, err
		}
		t.pairs = append(t.pairs, p)
	}
	t.certs.Store(newCertSet(t.pairs))
	pool, err := t.readCA()
	if err != nil {
		return nil, err
	}
	var old *tls.Config
	if before != nil && before.cfg.ClientAuth == t.cfg.ClientAuth && before.cfg.ClientCA == t.cfg.ClientCA {
		if c := before.conf.Load(); c.ClientCAs.Equal(pool) {
			old = c
		}
	}
	t.conf.Store(t.config(old, pool))
	return t, nil
}

// load reads the pair. On an error the one that was loaded before stays.
func (p *pair) load() error {
	cert, err := p.cert.read()
	if err != nil {
		return fmt.Errorf("certificate cannot be read: %w", err)
	}
	key, err := p.key.read()
	if err != nil {
		return fmt.Errorf("key cannot be read: %w", err)
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", p.files.Cert, p.files.Key, err)
	}
	p.loaded = &c
	return nil
}

// readCA reads the authorities for client certificates; nil when none are wanted.
func (t *tlsState) readCA() (*x509.CertPool, error) {
	if t.ca.path == "" {
		return nil, nil
	}
	b, err := t.ca.read()
	if err != nil {
		return nil, fmt.Errorf("client authorities cannot be read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("client authorities %s: no certificate in it", t.ca.path)
	}
	return pool, nil
}

// config makes the configuration of handshakes. A clone of old keeps its session ticket keys.
func (t *tlsState) config(old *tls.Config, clients *x509.CertPool) *tls.Config {
	c := &tls.Config{}
	if old != nil {
		c = old.Clone()
	}
	c.MinVersion = tls.VersionTLS12
	if t.cfg.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return t.certs.Load().choose(hello), nil }
	c.ClientCAs = clients
	switch t.cfg.ClientAuth {
	case "request":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		c.ClientAuth = tls.NoClientCert
	}
	c.NextProtos = nil
	if t.http {
		c.NextProtos = []string{"http/1.1"}
		if t.http2 {
			c.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	return c
}

// refresh reads files again that have changed. A bad new file leaves the old one in use and is said.
func (t *tlsState) refresh(log *slog.Logger, listener string) {
	var wrong []error
	fresh := false
	for _, p := range t.pairs {
		if !p.cert.changed() && !p.key.changed() {
			continue
		}
		if err := p.load(); err != nil {
			// Read it again next time, whether or not it changes: a pair is often written in two steps.
			p.cert.seen = nil
			wrong = append(wrong, err)
			continue
		}
		fresh = true
		log.Info("certificate reloaded", slog.String("listener", listener), slog.String("cert", p.files.Cert), slog.Time("expires", p.loaded.Leaf.NotAfter))
	}
	if fresh {
		t.certs.Store(newCertSet(t.pairs))
	}
	if t.ca.path != "" && t.ca.changed() {
		if pool, err := t.readCA(); err != nil {
			t.ca.seen = nil
			wrong = append(wrong, err)
		} else {
			t.conf.Store(t.config(nil, pool)) // new ticket keys: see newTLSState
			log.Info("client authorities reloaded", slog.String("listener", listener), slog.String("file", t.ca.path))
		}
	}
	t.say(errors.Join(wrong...), log, listener)
}

// say keeps what is wrong for the status, and logs it once.
func (t *tlsState) say(err error, log *slog.Logger, listener string) {
	if err == nil {
		t.wrong.Store(nil)
		return
	}
	text := err.Error()
	if old := t.wrong.Swap(&text); old == nil || *old != text {
		log.Warn("new tls files are not used", slog.String("listener", listener), slog.Any("error", err))
	}
}

// refreshTLS looks at the files of all listeners. p.mu is not held while files are read.
func (p *Proxy) refreshTLS(time.Time) {
	p.mu.Lock()
	all := make([]*listener, 0, len(p.listeners))
	for _, l := range p.listeners {
		all = append(all, l)
	}
	p.mu.Unlock()
	for _, l := range all {
		if t := l.tls.Load(); t != nil {
			t.refresh(p.log, l.name)
		}
	}
}

// certSet finds the certificate for a name. It is never changed.
type certSet struct {
	all   []*tls.Certificate // the first serves clients that name no known host
	names map[string][]*tls.Certificate
}

func newCertSet(pairs []*pair) *certSet {
	s := &certSet{names: map[string][]*tls.Certificate{}}
	for _, p := range pairs {
		s.all = append(s.all, p.loaded)
		names := p.loaded.Leaf.DNSNames
		if len(names) == 0 && len(p.loaded.Leaf.IPAddresses) == 0 {
			names = []string{p.loaded.Leaf.Subject.CommonName}
		}
		for _, n := range names {
			n = strings.ToLower(n)
			if !slices.Contains(s.names[n], p.loaded) {
				s.names[n] = append(s.names[n], p.loaded)
			}
		}
	}
	return s
}

// choose finds a certificate by SNI: its exact name, then a wildcard for it, then the first of all. Among several
// for one name the first that the client can verify wins (an ECDSA beside an RSA one).
func (s *certSet) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	found := s.names[name]
	if found == nil {
		if _, rest, ok := strings.Cut(name, "."); ok {
			found = s.names["*."+rest]
		}
	}
	if len(found) == 0 {
		found = s.all[:1]
	}
	for _, c := range found {
		if len(found) == 1 || hello.SupportsCertificate(c) == nil {
			return c
		}
	}
	return found[0]
}

// handshake ends TLS on a connection. c.Conn is then the *tls.Conn.
func (l *listener) handshake(c *conn, raw *net.TCPConn) (reason, bool) {
	t := l.tls.Load()
	if t == nil { // the listener lost its tls between accept and now
		return refusedHandshake, false
	}
	tc := tls.Server(raw, t.conf.Load())
	if err := tc.Handshake(); err != nil {
		l.handshakesFailed.Add(1)
		return refusedHandshake, false
	}
	state := tc.ConnectionState()
	l.handshakes.Add(1)
	if state.DidResume {
		l.handshakesResumed.Add(1)
	}
	c.Conn, c.tls, c.peer = tc, &state, peerOf(&state)
	return 0, true
}
