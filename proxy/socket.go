package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// acceptPause is how long an accept loop rests when the system has no descriptor or memory left: long
// enough not to spin, short enough that the listen queue does not overflow at 10,000 connections/s.
const acceptPause = 2 * time.Millisecond

// acceptRest is how long a socket that leaves goes on accepting what the kernel had already queued; closing it
// at once would reset those connections.
const acceptRest = 50 * time.Millisecond

// A socket is one listening socket. Its owner changes when a reload gives its address to another listener.
type socket struct {
	proxy   *Proxy
	owner   atomic.Pointer[listener]
	listen  string // as the site file wrote it
	tcp     *net.TCPListener
	door    *os.File       // a duplicate of tcp, since a *net.TCPListener shows nobody its descriptor to accept from
	bound   netip.AddrPort // of tcp; invalid when it is not one address
	udp     *net.UDPConn
	relay   *udpRelay // of udp
	closing chan struct{}
	once    sync.Once
	started bool // guarded by proxy.mu
}

// openSocket listens as cfg says.
func openSocket(p *Proxy, cfg *site.Listener) (*socket, error) {
	s := &socket{proxy: p, listen: cfg.Listen, closing: make(chan struct{})}
	lc := net.ListenConfig{KeepAlive: -1, Control: inheritable}
	lc.SetMultipathTCP(false)
	if cfg.Protocol == site.ProtocolUDP {
		c, err := lc.ListenPacket(context.Background(), "udp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listener %s cannot listen on %s: %w", cfg.Name, cfg.Listen, err)
		}
		s.setUDP(c.(*net.UDPConn))
		return s, nil
	}
	c, err := lc.Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listener %s cannot listen on %s: %w", cfg.Name, cfg.Listen, err)
	}
	s.setTCP(c.(*net.TCPListener))
	return s, nil
}

// setTCP makes ln what s listens on.
func (s *socket) setTCP(ln *net.TCPListener) {
	s.tcp = ln
	s.door = doorOf(ln)
	if at := addrPort(ln.Addr()); !at.Addr().IsUnspecified() {
		s.bound = at
	}
}

// acceptWaits is how long an accept on a listening socket that somebody made block may last. Sockets that are handed
// over are shared with a successor, and whoever asks its os.File for the descriptor makes both block; an accept that the
// scheduler was not told of would then hold up every goroutine until the next client comes.
const acceptWaits = time.Millisecond

// doorOf is a duplicate of ln that can be accepted from with raw calls. Without one, nil, every connection is accepted
// through package net.
func doorOf(ln *net.TCPListener) *os.File {
	door, err := ln.File()
	if err != nil {
		return nil
	}
	raw, err := door.SyscallConn()
	if err == nil {
		wait := syscall.NsecToTimeval(int64(acceptWaits))
		if e := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptTimeval(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait)
		}); e != nil {
			err = e
		}
	}
	if err != nil {
		door.Close()
		return nil
	}
	return door
}

// inheritable sets options on a listening socket that the kernel copies to every accepted one, which saves four
// system calls per connection.
func inheritable(network, _ string, c syscall.RawConn) error {
	if len(network) < 3 || network[:3] != "tcp" {
		return nil
	}
	return c.Control(func(fd uintptr) {
		// Best effort: without keep-alive the idle timeouts still end dead connections.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9)
	})
}

// is reports whether s already listens as cfg says.
func (s *socket) is(cfg *site.Listener) bool {
	return (s.listen == cfg.Listen || s.addr().String() == cfg.Listen) && (s.udp != nil) == (cfg.Protocol == site.ProtocolUDP)
}

// addr is where the socket listens.
func (s *socket) addr() net.Addr {
	if s.udp != nil {
		return s.udp.LocalAddr()
	}
	return s.tcp.Addr()
}

// file is a duplicate for a successor.
func (s *socket) file() (*os.File, error) {
	if s.udp != nil {
		return s.udp.File()
	}
	return s.tcp.File()
}

// close closes the socket at once.
func (s *socket) close() {
	s.once.Do(func() { close(s.closing) })
	if s.udp != nil {
		s.udp.Close()
		return
	}
	s.tcp.Close()
	s.door.Close() // nil is fine
}

// retire ends accepting, but first takes what is queued. udp sessions go on until they are idle; the
// socket is closed with the last one.
func (s *socket) retire() {
	if s.udp != nil {
		s.relay.retire()
		return
	}
	end := time.Now().Add(acceptRest)
	s.tcp.SetDeadline(end)
	s.door.SetDeadline(end) // nil is fine
}

// accept serves the connections of a tcp socket until it is closed.
func (s *socket) accept() {
	defer s.close()
	a := acceptor{s: s}
	var raw syscall.RawConn
	if s.door != nil {
		raw, _ = s.door.SyscallConn()
	}
	for {
		err := a.accept(raw)
		if err == nil {
			continue
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			n := s.proxy.spare.shed(s.tcp)
			s.owner.Load().refused[refusedTableFull].Add(int64(n))
		} else {
			s.proxy.log.Warn("accept failed", slog.String("listener", s.owner.Load().name), slog.Any("error", err))
		}
		if !s.pause() {
			return
		}
	}
}

// acceptor accepts from one socket.
type acceptor struct {
	s    *socket
	turn uint32 // steady number of the connection
	late bool   // the listener was not plain when a connection came
	err  error
}

// accept takes one connection or, of a plain listener, some.
func (a *acceptor) accept(raw syscall.RawConn) error {
	if raw != nil && plain(a.s.owner.Load().cfg.Load()) {
		if err := raw.Read(a.plainly); err != nil || a.err != nil || !a.late {
			return errors.Join(err, a.err)
		}
	}
	c, err := a.s.tcp.AcceptTCP()
	if err == nil {
		a.turn++
		a.s.owner.Load().welcome(c, a.turn)
	}
	return err
}

// acceptTurn is how many connections are accepted before a look whether the socket is about to leave.
const acceptTurn = 64

// plainly accepts while the listener is plain. It reports false when nobody waits.
func (a *acceptor) plainly(fd uintptr) bool {
	a.err, a.late = nil, false
	for range acceptTurn {
		l := a.s.owner.Load()
		cfg := l.cfg.Load()
		if a.late = !plain(cfg); a.late {
			return true
		}
		c, remote, err := rawAccept(fd)
		switch err {
		case nil:
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
			return true // to Go code, where the runtime gets what it wants
		default:
			a.err = err
			return true
		}
		a.turn++
		l.welcomePlain(cfg, c, remote, a.s.bound, a.turn)
	}
	return true
}

// pause waits a moment. It reports false when the socket was closed.
func (s *socket) pause() bool {
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-s.closing:
		return false
	case <-t.C:
		return true
	}
}

// spareFD is a descriptor held back for the time when the table is full: giving it up for a moment lets waiting
// clients be reset, where otherwise they would hang and the accept loop would spin.
type spareFD struct {
	mu sync.Mutex
	f  *os.File
}

func (s *spareFD) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		s.f, _ = os.Open(os.DevNull) // without it connections wait in the queue until descriptors are free
	}
}

func (s *spareFD) empty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}

// shedAtOnce is how many waiting clients are reset before the accept loop rests.
const shedAtOnce = 64

// shed resets clients that wait on ln and returns how many.
func (s *spareFD) shed(ln *net.TCPListener) (n int) {
	s.empty()
	defer s.fill()
	raw, err := ln.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		for n < shedAtOnce {
			c, _, err := syscall.Accept4(int(fd), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			_ = syscall.SetsockoptLinger(c, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
			syscall.Close(c)
			n++
		}
	})
	return n
}

// inherited is a listening socket from a predecessor or from systemd.
type inherited struct {
	name string
	file *os.File
	tcp  *net.TCPListener
	udp  *net.UDPConn
}

// adoptable sorts inherited files. Those that are no listening sockets are closed and said.
func adoptable(files map[string][]*os.File, log *slog.Logger) (all []inherited) {
	for name, list := range files {
		for _, f := range list {
			i := inherited{name: name, file: f}
			if l, err := net.FileListener(f); err == nil {
				i.tcp, _ = l.(*net.TCPListener)
			} else if c, err := net.FilePacketConn(f); err == nil {
				i.udp, _ = c.(*net.UDPConn)
			}
			if i.tcp == nil && i.udp == nil {
				log.Warn("inherited file is no tcp or udp socket", slog.String("name", name))
				f.Close()
				continue
			}
			all = append(all, i)
		}
	}
	return all
}

// close closes what was not adopted.
func (i *inherited) close() {
	if i.tcp != nil {
		i.tcp.Close()
	}
	if i.udp != nil {
		i.udp.Close()
	}
	if i.file != nil {
		i.file.Close()
	}
}

// fits reports whether i listens where cfg says.
func (i *inherited) fits(cfg *site.Listener) bool {
	var got net.Addr
	if cfg.Protocol == site.ProtocolUDP {
		if i.udp == nil {
			return false
		}
		got = i.udp.LocalAddr()
	} else {
		if i.tcp == nil {
			return false
		}
		got = i.tcp.Addr()
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return false
	}
	gotHost, gotPort, err := net.SplitHostPort(got.String())
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		n, _ = net.LookupPort("tcp", port)
	}
	if n != 0 && strconv.Itoa(n) != gotPort {
		return false
	}
	want, have := net.ParseIP(host), net.ParseIP(gotHost)
	if host == "" || want.IsUnspecified() {
		return have.IsUnspecified()
	}
	return want == nil || want.Equal(have)
}

// socket makes i the socket of cfg.
func (i *inherited) socket(p *Proxy, cfg *site.Listener) *socket {
	s := &socket{proxy: p, listen: cfg.Listen, closing: make(chan struct{})}
	if i.tcp != nil {
		if raw, err := i.tcp.SyscallConn(); err == nil {
			_ = inheritable("tcp", "", raw)
		}
		s.setTCP(i.tcp)
	}
	if i.udp != nil {
		s.setUDP(i.udp)
	}
	i.file.Close()
	return s
}
