package proxy

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// udpWaiting is how many datagrams of a client are kept while its session looks for an endpoint.
const udpWaiting = 8

// udpKept is the largest datagram that is kept to be sent again when its endpoint turned out to be gone.
const udpKept = 2048

// udpMoves is how often in a row, without an answer, a session looks for another endpoint.
const udpMoves = 3

// udpReadBuffer is asked of the kernel for a listening socket (it gives what it is allowed to): one goroutine
// reads for all clients, and a burst must fit while it is not running.
const udpReadBuffer = 4 << 20

// udpRelay is the sessions of one listening udp socket.
type udpRelay struct {
	socket *socket
	conn   *net.UDPConn

	mu       sync.Mutex
	sessions map[udpKey]*udpSession
	retiring atomic.Bool // no new sessions; the socket is closed with the last one
}

// udpKey is what makes datagrams one session.
type udpKey struct {
	client netip.AddrPort
	local  netip.Addr
}

// setUDP makes s a udp socket that learns to which of its addresses datagrams were sent, so that answers come from there.
func (s *socket) setUDP(c *net.UDPConn) {
	s.udp = c
	s.relay = &udpRelay{socket: s, conn: c, sessions: map[udpKey]*udpSession{}}
	_ = c.SetReadBuffer(udpReadBuffer)
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // one of the two fits the socket's family
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
	})
}

// receive reads the datagrams of all clients until the socket is closed or handed on.
func (s *socket) receive() {
	r := s.relay
	buf := make([]byte, relayBuffer)
	oob := make([]byte, 128)
	for {
		n, oobn, _, from, err := s.udp.ReadMsgUDPAddrPort(buf, oob)
		if err == nil {
			r.take(buf[:n], oob[:oobn], from)
			continue
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		s.proxy.log.Warn("receive failed", slog.String("listener", s.owner.Load().name), slog.Any("error", err))
		if !s.pause() {
			return
		}
	}
}

// retire ends taking new sessions. With a successor on the same socket it also stops reading: the datagrams are for
// whoever reads them first.
func (r *udpRelay) retire() {
	r.retiring.Store(true)
	if r.socket.proxy.handed.Load() {
		r.conn.SetReadDeadline(longAgo)
	}
	r.mu.Lock()
	none := len(r.sessions) == 0
	r.mu.Unlock()
	if none {
		r.socket.close()
	}
}

// take passes a datagram to its session, or begins one.
func (r *udpRelay) take(b, oob []byte, from netip.AddrPort) {
	key := udpKey{client: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
	l := r.socket.owner.Load()
	source, local := replyFrom(oob)
	if key.local = local; !local.IsValid() {
		key.local = udpAddr(r.conn.LocalAddr())
	}
	r.mu.Lock()
	s := r.sessions[key]
	r.mu.Unlock()
	if s == nil {
		if s = r.begin(l, key, from); s == nil {
			return
		}
		s.oob = append(s.oob, source...)
		s.waiting = append(s.waiting, append([]byte(nil), b...))
		l.in.add(s.x.Shard, int64(len(b)))
		s.proxy.work.Add(1)
		go s.run()
		return
	}
	s.listener.in.add(s.x.Shard, int64(len(b)))
	if !s.send(b) {
		s.listener.dropped.Add(1)
	}
}

// begin makes a session if the limits allow one.
func (r *udpRelay) begin(l *listener, key udpKey, from netip.AddrPort) *udpSession {
	cfg := l.cfg.Load()
	l.accepted.Add(1)
	if r.retiring.Load() {
		l.refused[refusedDraining].Add(1)
		return nil
	}
	s := &udpSession{relay: r, proxy: l.proxy, listener: l, key: key, from: from}
	s.claim = claim{ip: keyOf(key.client.Addr()), weight: weight(cfg)}
	if why, ok := l.admit(cfg, &s.claim, true); !ok {
		l.refused[why].Add(1)
		return nil
	}
	s.x = exchange.Exchange{Listener: cfg, Protocol: exchange.UDP, Client: key.client, Shard: uint32(key.client.Port()), Front: s}
	s.x.Local = netip.AddrPortFrom(key.local, udpPort(r.conn.LocalAddr()))
	r.mu.Lock()
	r.sessions[key] = s
	r.mu.Unlock()
	return s
}

// udpSession is one client of a udp listener and its way to one endpoint. It is the front of a udp exchange.
type udpSession struct {
	watched
	claim
	relay    *udpRelay
	proxy    *Proxy
	listener *listener
	key      udpKey
	from     netip.AddrPort // in the socket's family
	oob      []byte         // makes answers come from the address that was asked
	x        exchange.Exchange

	mu       sync.Mutex
	to       *net.UDPConn // nil while the session has no endpoint
	endpoint *exchange.Endpoint
	waiting  [][]byte // sent once there is an endpoint
	last     []byte   // the last datagram that was sent, if small
	move     bool     // another endpoint must be found
	answered bool     // the present endpoint has answered
	refused  bool     // the present endpoint's host says that nobody listens
}

// run takes the session through the stages, again when its endpoint is gone, until it is idle.
func (s *udpSession) run() {
	defer s.end()
	for tries := 0; tries < udpMoves; tries++ {
		s.x.Reset()
		s.x.Start = time.Now()
		s.mu.Lock()
		s.move, s.answered = false, false
		s.mu.Unlock()
		(*s.listener.handler.Load())(&s.x)
		s.mu.Lock()
		move, answered := s.move, s.answered
		s.mu.Unlock()
		if !move {
			return
		}
		if answered {
			tries = 0
		}
	}
}

// end forgets the session.
func (s *udpSession) end() {
	p, r := s.proxy, s.relay
	if v := recover(); v != nil {
		p.panicked("a udp session panicked", v, slog.String("listener", s.listener.name))
	}
	r.mu.Lock()
	delete(r.sessions, s.key)
	none := len(r.sessions) == 0
	r.mu.Unlock()
	s.listener.dropped.Add(int64(len(s.waiting)))
	s.listener.release(&s.claim)
	if none && r.retiring.Load() {
		r.socket.close()
	}
	p.work.Done()
}

// send passes a datagram on, or keeps it while there is no endpoint. It reports false when it was dropped.
func (s *udpSession) send(b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to == nil {
		if len(s.waiting) >= udpWaiting {
			return false
		}
		s.waiting = append(s.waiting, append([]byte(nil), b...))
		return true
	}
	if s.endpoint.Gone.Load() {
		s.leave([][]byte{append([]byte(nil), b...)})
		return true
	}
	_, err := s.to.Write(b)
	if errors.Is(err, syscall.ECONNREFUSED) { // about an earlier datagram; this one was not sent
		again := s.lastOnce()
		s.refused = true
		s.leave(append(again, append([]byte(nil), b...)))
		return true
	}
	if s.last = s.last[:0]; len(b) <= udpKept {
		s.last = append(s.last, b...)
	}
	s.keep()
	return err == nil
}

// leave takes the session off its endpoint. s.mu is held.
func (s *udpSession) leave(waiting [][]byte) {
	s.move, s.waiting = true, waiting
	s.to.SetReadDeadline(longAgo)
	s.to = nil
}

// lastOnce is the last datagram, to be sent again once. s.mu is held.
func (s *udpSession) lastOnce() (again [][]byte) {
	if len(s.last) > 0 {
		again = append(again, append([]byte(nil), s.last...))
		s.last = s.last[:0]
	}
	return again
}

// keep puts off the end by idleness.
func (s *udpSession) keep() {
	s.proxy.sweep.arm(&s.watched, s.x.Listener.Limits.IdleTimeout)
}

// openUDP is the last handler of udp exchanges: it passes the session's datagrams to x.Endpoint and returns when the
// session has ended or must leave this endpoint. A refusal means that nobody listens there.
func openUDP(x *exchange.Exchange) *exchange.Refusal {
	s, ok := x.Front.(*udpSession)
	if !ok || x.Endpoint == nil {
		return refusedNoRoute
	}
	d := net.Dialer{Timeout: udpDialTimeout}
	c, err := d.Dial("udp", x.Endpoint.Address)
	if err != nil {
		x.Result = exchange.Result{Kind: exchange.ConnectFailed, Reason: "connect", Unsent: true}
		return refusedConnect
	}
	to := c.(*net.UDPConn)
	defer to.Close()
	s.proxy.sweep.add(&s.watched, to)
	s.keep()
	s.attach(to, x.Endpoint)
	s.answers(to)
	s.proxy.sweep.remove(&s.watched)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = nil
	if s.refused {
		x.Result = exchange.Result{Kind: exchange.ConnectFailed, Reason: "refused", Unsent: !s.answered}
		return refusedConnect
	}
	x.Result = exchange.Result{Kind: exchange.Answered}
	return nil
}

// udpDialTimeout bounds the name look-up of an endpoint; connecting a udp socket takes no time.
const udpDialTimeout = 2 * time.Second

// attach gives the session its endpoint and sends what has waited.
func (s *udpSession) attach(to *net.UDPConn, e *exchange.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to, s.endpoint, s.move, s.answered, s.refused = to, e, false, false, false
	for _, b := range s.waiting {
		to.Write(b)
		if s.last = s.last[:0]; len(b) <= udpKept {
			s.last = append(s.last, b...)
		}
	}
	s.waiting = nil
}

// answers passes the endpoint's datagrams to the client until the session ends or moves. A
// buffer is held only while a datagram is there.
func (s *udpSession) answers(to *net.UDPConn) {
	raw, err := to.SyscallConn()
	if err != nil {
		return
	}
	p := s.proxy
	for {
		var buf *[relayBuffer]byte
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			b := p.buffers.Get().(*[relayBuffer]byte)
			n, failed = ignoringEINTR(func() (int, error) { return syscall.Read(int(fd), b[:]) })
			if failed != nil {
				p.buffers.Put(b)
				return failed != syscall.EAGAIN
			}
			buf = b
			return true
		})
		if err != nil { // idle, moved or cut
			return
		}
		if failed != nil {
			s.fail(failed)
			return
		}
		_, _, err = s.relay.conn.WriteMsgUDPAddrPort(buf[:n], s.oob, s.from)
		p.buffers.Put(buf)
		s.answer(n, err)
		if errors.Is(err, net.ErrClosed) { // the listener is gone
			return
		}
	}
}

// answer counts an answer.
func (s *udpSession) answer(n int, err error) {
	if err != nil {
		s.listener.dropped.Add(1)
		return
	}
	s.mu.Lock()
	s.answered = true
	s.mu.Unlock()
	s.x.Outcome.Started = true
	s.x.Outcome.BytesOut += int64(n)
	s.listener.out.add(s.x.Shard, int64(n))
	s.keep()
}

// fail takes note that the endpoint's socket reported an error.
func (s *udpSession) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to == nil { // send has seen it first
		return
	}
	s.refused = errors.Is(err, syscall.ECONNREFUSED)
	s.leave(s.lastOnce())
}

// replyFrom finds the address that a datagram was sent to, and the control message that makes an answer come from
// there. oob is that of ip(7) IP_PKTINFO or ipv6(7) IPV6_PKTINFO; the interface index in it is cleared, so that the
// answer is routed freely.
func replyFrom(oob []byte) (source []byte, local netip.Addr) {
	const head = syscall.SizeofCmsghdr
	if len(oob) < head+12 {
		return nil, netip.Addr{}
	}
	level, kind := binary.NativeEndian.Uint32(oob[head-8:]), binary.NativeEndian.Uint32(oob[head-4:])
	switch {
	case level == syscall.IPPROTO_IP && kind == syscall.IP_PKTINFO:
		clear(oob[head : head+4])
		return oob[:min(len(oob), syscall.CmsgSpace(12))], netip.AddrFrom4([4]byte(oob[head+8:]))
	case level == syscall.IPPROTO_IPV6 && kind == syscall.IPV6_PKTINFO && len(oob) >= head+20:
		clear(oob[head+16 : head+20])
		return oob[:min(len(oob), syscall.CmsgSpace(20))], netip.AddrFrom16([16]byte(oob[head:])).Unmap()
	}
	return nil, netip.Addr{}
}

func udpAddr(a net.Addr) netip.Addr { return a.(*net.UDPAddr).AddrPort().Addr().Unmap() }

func udpPort(a net.Addr) uint16 { return a.(*net.UDPAddr).AddrPort().Port() }
