package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Upstream is how one pool's endpoints are spoken to: TLS, timeouts, connection limits. It survives reloads. Any goroutine may use it.
type Upstream struct {
	proxy *Proxy
	now   atomic.Pointer[upstreamConfig]

	mu    sync.Mutex
	links map[*Link]struct{}
	spoke [3]atomic.Int64 // links by what they speak
}

// What a link speaks, as far as handshakes tell that left the endpoint the choice.
const (
	unspoken int32 = iota
	speaksH1
	speaksH2
)

// Shared reports whether the connections to endpoints carry many exchanges at once: HTTP/2 was negotiated with some, and HTTP/1.1 with none. It takes no lock.
func (u *Upstream) Shared() bool {
	return u.spoke[speaksH2].Load() > 0 && u.spoke[speaksH1].Load() <= 0
}

// upstreamConfig is what Update swaps.
type upstreamConfig struct {
	pool *site.Pool
	tls  *tls.Config // nil: plain
	h2   bool        // prior knowledge, or ALPN with nothing but h2
}

// Upstream makes a pool's way to its endpoints. It opens nothing. It fails when the pool's TLS files cannot be read.
func (p *Proxy) Upstream(cfg *site.Pool) (*Upstream, error) {
	u := &Upstream{proxy: p, links: map[*Link]struct{}{}}
	if err := u.Update(cfg); err != nil {
		return nil, err
	}
	p.upstreams.add(u)
	return u, nil
}

// Update takes a changed pool. Connections that are open go on as they were when TLS is unchanged,
// and are not used again otherwise. On an error nothing changes.
func (u *Upstream) Update(cfg *site.Pool) error {
	next := &upstreamConfig{pool: cfg, h2: cfg.HTTP == "h2"}
	if cfg.TLS != nil {
		t, err := EndpointTLS(cfg)
		if err != nil {
			return err
		}
		next.tls = t
	}
	old := u.now.Swap(next)
	if old != nil && (old.pool.HTTP != cfg.HTTP || !sameTLS(old.pool.TLS, cfg.TLS) || old.pool.ProxyProtocol != cfg.ProxyProtocol) {
		for _, l := range u.all() {
			l.renew()
		}
	}
	return nil
}

func sameTLS(a, b *site.EndpointTLS) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// EndpointTLS is the TLS configuration towards the endpoints of a pool, for probes too. ServerName is empty
// when it is the endpoint's own host.
func EndpointTLS(cfg *site.Pool) (*tls.Config, error) {
	t := &tls.Config{
		ServerName:         cfg.TLS.ServerName,
		InsecureSkipVerify: !cfg.TLS.Verify,
		ClientSessionCache: tls.NewLRUClientSessionCache(1024),
	}
	switch cfg.HTTP {
	case "auto":
		t.NextProtos = []string{"h2", "http/1.1"}
	case "h2":
		t.NextProtos = []string{"h2"}
	default:
		t.NextProtos = []string{"http/1.1"}
	}
	if cfg.TLS.CA != "" {
		pem, err := os.ReadFile(cfg.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("pool %s: read the authorities: %w", cfg.Name, err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("pool %s: %s holds no certificate", cfg.Name, cfg.TLS.CA)
		}
	}
	if cfg.TLS.Cert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.TLS.Cert, cfg.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("pool %s: load the client certificate: %w", cfg.Name, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Attach makes a link and hangs it on e. It is called once for each endpoint, before it is picked.
func (u *Upstream) Attach(e *exchange.Endpoint) {
	l := &Link{up: u, e: e, shards: make([]idleShard, idleShards()), freed: make(chan struct{}, 1)}
	if a, err := netip.ParseAddrPort(e.Address); err == nil {
		l.addr = net.TCPAddrFromAddrPort(a)
	}
	l.h2 = newH2Link(l)
	e.Link = l
	u.mu.Lock()
	u.links[l] = struct{}{}
	u.mu.Unlock()
}

// Detach closes what is unused; exchanges that still have the endpoint may finish.
func (u *Upstream) Detach(e *exchange.Endpoint) {
	l, ok := e.Link.(*Link)
	if !ok {
		return
	}
	u.mu.Lock()
	delete(u.links, l)
	u.mu.Unlock()
	l.close()
}

// Close ends the pool's way to its endpoints once the pool is gone.
func (u *Upstream) Close() {
	u.proxy.upstreams.remove(u)
	for _, l := range u.all() {
		u.Detach(l.e)
	}
}

func (u *Upstream) all() []*Link {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]*Link, 0, len(u.links))
	for l := range u.links {
		list = append(list, l)
	}
	return list
}

func (u *Upstream) cfg() *site.Pool { return u.now.Load().pool }

// wait is how long the answer head of x may take.
func (u *Upstream) wait(x *exchange.Exchange) time.Duration {
	return until(x.Deadline, u.firstByte(x))
}

// LinkStatus is the connections to one endpoint.
type LinkStatus struct {
	Address string `json:"address"`
	Open    int64  `json:"open"`
	Idle    int    `json:"idle"`
}

// Status reports the connections of every link.
func (u *Upstream) Status() []LinkStatus {
	var list []LinkStatus
	for _, l := range u.all() {
		list = append(list, LinkStatus{Address: l.e.Address, Open: l.open.Load(), Idle: l.idle()})
	}
	return list
}

// Link is the connections to one endpoint. It is the Link of an exchange.Endpoint.
type Link struct {
	up   *Upstream
	e    *exchange.Endpoint
	addr *net.TCPAddr // nil: a name, resolved at each dial
	open atomic.Int64
	age  atomic.Uint32 // connections of an older age are not used again
	gone atomic.Bool
	h2   *h2Link
	alpn atomic.Int32 // what was negotiated over TLS

	// wary is set once the endpoint sent what nobody asked for: before a connection is used again there is always a look whether
	// it is silent, so that no such bytes are taken for the answer to somebody else's request.
	wary atomic.Bool

	shards  []idleShard
	waiting atomic.Int32  // exchanges in await
	freed   chan struct{} // holds one: a connection was put back while somebody waited
}

// idleShard is a stack of unused connections: the one used last is used next, so that a few stay warm
// and the rest grow old and are closed. Shards keep cores from waiting for one lock.
type idleShard struct {
	mu   sync.Mutex
	list []*h1Back
	_    [32]byte
}

func idleShards() int { return max(1, min(runtime.GOMAXPROCS(0), 16)) }

// linkConn is a counted connection to an endpoint.
type linkConn struct {
	*net.TCPConn
	l      *Link
	held   bool // counted against the file descriptors of the process
	closed atomic.Bool
}

// NetConn is the connection itself, for whoever splices.
func (c *linkConn) NetConn() net.Conn { return c.TCPConn }

// Close closes the connection and gives its slot and its file descriptor back.
func (c *linkConn) Close() error {
	if !c.closed.Swap(true) {
		c.l.open.Add(-1)
		if c.held {
			c.l.up.proxy.holdFD(-1)
		}
	}
	return c.TCPConn.Close()
}

var errTooManyConnections = errors.New("the endpoint has as many connections as connections.max allows")

// dial opens a TCP connection to the endpoint within the pool's connect timeout, counts it
// against the pool's limit, and gives the slot back when the connection is closed. shared: it is not
// on the account of one client.
func (l *Link) dial(ctx context.Context, shared bool) (*linkConn, error) {
	cfg := l.up.cfg()
	if l.open.Add(1) > int64(cfg.Connections.Max) {
		l.open.Add(-1)
		return nil, errTooManyConnections
	}
	if shared && !l.up.proxy.holdFD(1) {
		l.open.Add(-1)
		return nil, errNoDescriptors
	}
	c, err := l.connect(ctx, cfg.Timeouts.Connect)
	if err != nil {
		l.open.Add(-1)
		if shared {
			l.up.proxy.holdFD(-1)
		}
		return nil, err
	}
	return &linkConn{TCPConn: c, l: l, held: shared}, nil
}

func (l *Link) connect(ctx context.Context, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	if l.addr != nil {
		return d.DialTCP(ctx, "tcp", netip.AddrPort{}, l.addr.AddrPort())
	}
	c, err := d.DialContext(ctx, "tcp", l.e.Address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// dialTLS is dial plus the TLS handshake when the pool speaks TLS; proto is the negotiated ALPN protocol.
// h1 asks for HTTP/1.1 only, which upgrades need. shared is as for dial.
func (l *Link) dialTLS(ctx context.Context, h1, shared bool) (c net.Conn, proto string, err error) {
	ctx, stop := context.WithTimeout(ctx, l.up.cfg().Timeouts.Connect)
	defer stop()
	plain, err := l.dial(ctx, shared)
	if err != nil {
		return nil, "", err
	}
	cfg := l.up.now.Load().tls
	if cfg == nil {
		return plain, "", nil
	}
	if cfg.ServerName == "" || h1 {
		cfg = cfg.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(l.e.Address)
	}
	if h1 {
		cfg.NextProtos = []string{"http/1.1"}
	}
	t := tls.Client(plain, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, "", fmt.Errorf("TLS handshake with the endpoint: %w", err)
	}
	return t, t.ConnectionState().NegotiatedProtocol, nil
}

// staleAfter is how long a connection is unused before a look whether the endpoint closed it pays.
const staleAfter = int64(200 * time.Millisecond)

// take returns an unused connection, or nil. sure: it was looked at just now, for what cannot be sent again.
func (l *Link) take(shard uint32, sure bool) *h1Back {
	sure = sure || l.wary.Load()
	n := uint32(len(l.shards))
	for i := uint32(0); i < n; i++ {
		s := &l.shards[(shard+i)%n]
		for {
			s.mu.Lock()
			last := len(s.list) - 1
			if last < 0 {
				s.mu.Unlock()
				break
			}
			b := s.list[last]
			s.list[last] = nil
			s.list = s.list[:last]
			s.mu.Unlock()
			if !sure && !b.doubt && b.sock.raw != nil && l.up.proxy.sweep.clock.Load()-b.since < staleAfter || b.sock.silent() {
				return b
			}
			b.close()
		}
	}
	return nil
}

// put keeps an unused connection. false: it must be closed.
func (l *Link) put(b *h1Back) bool {
	cfg := l.up.cfg()
	if l.e.Gone.Load() || b.age != l.age.Load() || cfg.ProxyProtocol != "off" || cfg.Timeouts.KeepAlive <= 0 {
		return false
	}
	b.used, b.since = true, l.up.proxy.sweep.clock.Load()
	s := &l.shards[b.shard%uint32(len(l.shards))]
	s.mu.Lock()
	ok := len(s.list) < max(1, cfg.Connections.Idle/len(l.shards)) && cfg.Connections.Idle > 0 &&
		!l.gone.Load() // under the lock: close looks through the shards after it set gone, and nobody does later
	if ok {
		s.list = append(s.list, b)
	}
	s.mu.Unlock()
	if ok && l.waiting.Load() > 0 {
		select {
		case l.freed <- struct{}{}:
		default:
		}
	}
	return ok
}

// tend closes connections that are unused for too long, or were closed by the endpoint.
func (l *Link) tend(now int64) {
	keep := int64(l.up.cfg().Timeouts.KeepAlive)
	leave := l.e.Gone.Load() || l.gone.Load()
	age := l.age.Load()
	for i := range l.shards {
		s := &l.shards[i]
		var old []*h1Back
		s.mu.Lock()
		kept := s.list[:0]
		for _, b := range s.list {
			idle := now - b.since
			if leave || idle > keep || b.age != age || idle > int64(time.Second) && !b.sock.silent() {
				old = append(old, b)
			} else {
				kept = append(kept, b)
			}
		}
		clear(s.list[len(kept):])
		s.list = kept
		s.mu.Unlock()
		for _, b := range old {
			b.close()
		}
	}
}

// renew makes all connections that are open now end after what they carry.
func (l *Link) renew() {
	l.age.Add(1)
	l.speaks(unspoken)
	l.h2.renew()
	l.tend(l.up.proxy.sweep.clock.Load())
}

// speaks notes what was negotiated with the endpoint.
func (l *Link) speaks(what int32) {
	if old := l.alpn.Swap(what); old != what {
		l.up.spoke[old].Add(-1)
		l.up.spoke[what].Add(1)
	}
	if what != unspoken && l.gone.Load() { // it counts no more, and nobody else takes it out
		l.speaks(unspoken)
	}
}

func (l *Link) close() {
	l.gone.Store(true)
	l.speaks(unspoken)
	l.h2.close()
	l.tend(l.up.proxy.sweep.clock.Load())
}

func (l *Link) idle() int {
	n := 0
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].list)
		l.shards[i].mu.Unlock()
	}
	return n
}

// reach returns a way to send x: an unused connection, a new one, or a stream. fresh asks for
// a new connection. used says that the connection carried exchanges before.
func (l *Link) reach(x *exchange.Exchange, fresh bool) (b back, used bool, err error) {
	return l.reachWithin(context.Background(), x, fresh)
}

// reachWithin is reach that gives up with ctx.
func (l *Link) reachWithin(ctx context.Context, x *exchange.Exchange, fresh bool) (b back, used bool, err error) {
	now := l.up.now.Load()
	h2 := (now.h2 || now.tls != nil && l.alpn.Load() == speaksH2) && x.Request.Upgrade == nil
	if !fresh && !h2 {
		if b := l.take(x.Shard, !x.Replayable); b != nil {
			b.shard = x.Shard
			return b, true, nil
		}
	}
	if h2 {
		s, err := l.h2.open(ctx, x.Deadline)
		return s, false, err
	}
	if !x.Deadline.IsZero() {
		within, stop := context.WithDeadline(ctx, x.Deadline)
		defer stop()
		ctx = within
	}
	c, proto, err := l.dialTLS(ctx, x.Request.Upgrade != nil, true)
	if errors.Is(err, errTooManyConnections) && l.alpn.Load() == speaksH2 && x.Request.Upgrade == nil {
		s, err := l.h2.open(ctx, x.Deadline) // meanwhile the endpoint was found to speak HTTP/2
		return s, false, err
	}
	if err != nil && connectReason(err) == "own_limit" {
		if b := l.await(ctx, x); b != nil {
			return b, true, nil
		}
	}
	if err != nil {
		return nil, false, err
	}
	if proto == "h2" {
		l.speaks(speaksH2)
		l.h2.add(c)
		s, err := l.h2.open(ctx, x.Deadline)
		return s, false, err
	}
	if now.pool.HTTP == "auto" && now.tls != nil && x.Request.Upgrade == nil && l.alpn.Load() == unspoken {
		l.speaks(speaksH1)
	}
	if v := now.pool.ProxyProtocol; v != "off" {
		if _, err := c.Write(appendProxyHeader(nil, v, x.Client, x.Local, false)); err != nil {
			c.Close()
			return nil, false, err
		}
	}
	h, err := newH1Back(l, c)
	if err != nil {
		c.Close()
		return nil, false, err
	}
	h.shard, h.age = x.Shard, l.age.Load()
	return h, false, nil
}

// connectReason sorts dial errors into a closed set of words.
func connectReason(err error) string {
	var timeout interface{ Timeout() bool }
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errTooManyConnections):
		return "connections"
	case errors.Is(err, errNoDescriptors), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EADDRNOTAVAIL),
		errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM): // before the rest: names cannot be looked up then either
		return "own_limit"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &verify):
		return "tls_verify"
	case errors.As(err, &dns):
		return "resolve"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	}
	return "connect"
}

// upstreams is every pool's way to its endpoints, so that unused connections are tended.
type upstreams struct {
	mu  sync.Mutex
	all map[*Upstream]struct{}
}

func (s *upstreams) add(u *Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*Upstream]struct{}{}
	}
	s.all[u] = struct{}{}
}

func (s *upstreams) remove(u *Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, u)
}

// tendEvery is how often unused connections are looked at.
const tendEvery = time.Second

// run tends unused connections until ctx ends, and then closes them.
func (s *upstreams) run(ctx context.Context, sweep *sweeper) {
	t := time.NewTicker(tendEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		s.mu.Lock()
		list := make([]*Upstream, 0, len(s.all))
		for u := range s.all {
			list = append(list, u)
		}
		s.mu.Unlock()
		for _, u := range list {
			for _, l := range u.all() {
				if ctx.Err() != nil {
					l.close()
				} else {
					l.tend(sweep.clock.Load())
				}
			}
		}
	}
}
