package proxy

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// client is a conn with what the listener must give back when it ends.
type client struct {
	conn
	claim
	raw  *net.TCPConn // nil: conn.Conn is a *plainConn
	slot int          // place in the registry's shard, guarded by its lock
	home *clientShard
}

// claim is what a connection or udp session holds of the limits.
type claim struct {
	ip     ipKey
	byIP   bool  // ip is counted
	weight int64 // descriptors held of the room
}

// registry is all open connections.
type registry struct{ shards [16]clientShard }

type clientShard struct {
	mu   sync.Mutex
	list []*client
	_    [32]byte
}

func (r *registry) add(c *client) {
	s := &r.shards[c.shard%uint32(len(r.shards))]
	c.home = s
	s.mu.Lock()
	c.slot = len(s.list)
	s.list = append(s.list, c)
	s.mu.Unlock()
}

func (r *registry) remove(c *client) {
	s := c.home
	s.mu.Lock()
	last := len(s.list) - 1
	s.list[c.slot] = s.list[last]
	s.list[c.slot].slot = c.slot
	s.list[last] = nil
	s.list = s.list[:last]
	s.mu.Unlock()
}

// each calls f for every open connection, one shard locked at a time. f must not block.
func (r *registry) each(f func(*client)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, c := range s.list {
			f(c)
		}
		s.mu.Unlock()
	}
}

// welcome takes or refuses an accepted connection.
func (l *listener) welcome(raw *net.TCPConn, shard uint32) {
	cl := &client{conn: conn{Conn: raw, listener: l, cfg: l.cfg.Load(), remote: addrPort(raw.RemoteAddr()), shard: shard}, raw: raw}
	if l.enter(cl) {
		cl.local = addrPort(raw.LocalAddr())
		l.begin(cl)
	}
}

// plain reports whether nobody looks into connections of cfg before they are relayed, so that they need not
// be known to the runtime's poller.
func plain(cfg *site.Listener) bool {
	a := cfg.ProxyProtocol.Accept
	return cfg.Protocol == site.ProtocolTCP && cfg.TLS == nil && !cfg.Sniff && a != acceptOptional && a != acceptRequired
}

// welcomePlain is welcome for a connection that was accepted when the listener was plain. local is where the listener
// is bound, when that is one address.
func (l *listener) welcomePlain(cfg *site.Listener, fd int, remote, local netip.AddrPort, shard uint32) {
	type both struct { // one allocation
		client
		plainConn
	}
	b := &both{plainConn: plainConn{fd: fd, remote: remote}}
	cl := &b.client
	cl.conn = conn{Conn: &b.plainConn, listener: l, cfg: cfg, remote: remote, local: local, shard: shard}
	if l.enter(cl) {
		if !local.IsValid() {
			cl.local, _ = localAddr(fd)
		}
		l.begin(cl)
	}
}

// enter takes what the limits allow the connection, or resets it.
func (l *listener) enter(cl *client) bool {
	cfg := cl.cfg
	l.accepted.Add(1)
	cl.claim = claim{ip: keyOf(cl.remote.Addr()), weight: weight(cfg)}
	// Behind a balancer that sends a PROXY header connections are counted by the address in it.
	byIP := !believed(&cfg.ProxyProtocol, cl.remote.Addr())
	if why, ok := l.admit(cfg, &cl.claim, byIP); !ok {
		l.refused[why].Add(1)
		abort(cl.conn.Conn)
		return false
	}
	return true
}

// begin serves a connection that was let in.
func (l *listener) begin(cl *client) {
	p := l.proxy
	p.clients.add(cl)
	p.sweep.add(&cl.watched, cl.conn.Conn)
	p.work.Add(1)
	if cl.cfg.Protocol == site.ProtocolTCP {
		p.crew.give(p, job{client: cl})
		return
	}
	go p.serve(cl)
}

// admit checks the limits of the listener and of the process and holds what the connection takes of them.
func (l *listener) admit(cfg *site.Listener, cl *claim, byIP bool) (reason, bool) {
	lim, p := &cfg.Limits, l.proxy
	if lim.AcceptRate > 0 && !l.arrivals.take(p.now(), float64(lim.AcceptRate)) {
		return refusedAcceptRate, false
	}
	if l.open.Add(1) > int64(lim.Connections) && lim.Connections > 0 {
		l.open.Add(-1)
		return refusedConnections, false
	}
	if byIP && !l.byIP.take(cl.ip, perIP(cfg)) {
		l.open.Add(-1)
		return refusedPerIP, false
	}
	cl.byIP = byIP
	if !p.room.take(cl.weight) {
		cl.weight = 0
		l.release(cl)
		return refusedNodeFull, false
	}
	if cfg.TLS != nil && lim.HandshakeRate > 0 && !l.greets.take(p.now(), float64(lim.HandshakeRate)) {
		l.release(cl)
		return refusedHandshakeRate, false
	}
	return 0, true
}

// release gives back what admit held.
func (l *listener) release(cl *claim) {
	l.proxy.room.give(cl.weight)
	if cl.byIP {
		l.byIP.give(cl.ip)
	}
	l.open.Add(-1)
}

// now is the time on the steady clock of the sweeper in ns, exact to the call and always above 0.
func (p *Proxy) now() int64 { return int64(time.Since(p.sweep.start)) + 1 }

// serve is the goroutine of a connection. It calls few functions with small frames before the engine, since its stack
// is most of what an idle connection costs.
func (p *Proxy) serve(cl *client) {
	defer p.finish(cl)
	c := &cl.conn
	if (c.cfg.TLS != nil || c.cfg.ProxyProtocol.Accept == acceptOptional || c.cfg.ProxyProtocol.Accept == acceptRequired) && !p.greet(cl) {
		return
	}
	switch {
	case c.cfg.Protocol == site.ProtocolTCP:
		p.serveTCP(c)
	case c.tls != nil && c.tls.NegotiatedProtocol == "h2":
		p.serveHTTP2(c, nil)
	default:
		p.serveHTTP1(c, nil)
	}
}

// greet takes the PROXY header and shakes hands. When it reports false the reason was counted.
func (p *Proxy) greet(cl *client) bool {
	c, l := &cl.conn, cl.listener
	raw := cl.raw
	p.sweep.arm(&c.watched, c.cfg.Limits.HandshakeTimeout)
	why, ok := p.readProxyHeader(cl, raw)
	if ok && c.cfg.TLS != nil {
		why, ok = l.handshake(c, raw)
	}
	if c.disarm() { // the sweeper woke the connection, or is about to
		why, ok = refusedTimeout, false
	}
	if !ok {
		l.refused[why].Add(1)
		if why != refusedHandshake { // after a failed handshake the alert should arrive
			raw.SetLinger(0)
		}
	}
	return ok
}

// finish closes a connection and gives back what it held. A panic of an engine costs one connection,
// not the process.
func (p *Proxy) finish(cl *client) {
	if v := recover(); v != nil {
		p.panicked("a connection panicked", v, slog.String("listener", cl.listener.name))
	}
	p.sweep.remove(&cl.watched)
	cl.conn.Conn.Close()
	p.clients.remove(cl)
	cl.listener.release(&cl.claim)
	p.work.Done()
}

// reset closes a connection so that it leaves no state behind.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// addrPort is a as a value, IPv4 in its short form.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
