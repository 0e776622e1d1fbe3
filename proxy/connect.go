package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// An endpointConn is a plain tcp connection to an endpoint. It is made with five system calls, without a timer and with
// few allocations, where net.Dialer took nine and a sixth of the cost of a short tcp session.
type endpointConn struct {
	*os.File // the runtime's poller knows it
	remote   netip.AddrPort
	link     *Link // nil: not counted
	closed   atomic.Bool
}

// dialSession connects to the endpoint for one tcp session, whose client's account holds the descriptor.
func (l *Link) dialSession() (net.Conn, error) {
	if l.addr == nil || l.up.now.Load().tls != nil {
		c, _, err := l.dialTLS(context.Background(), true, false)
		return c, err
	}
	cfg := poolOf(l)
	if l.open.Add(1) > int64(cfg.Connections.Max) {
		l.open.Add(-1)
		return nil, errTooManyConnections
	}
	c, err := l.up.proxy.connectIP(l.addr.AddrPort(), cfg.Timeouts.Connect)
	if err != nil {
		l.open.Add(-1)
		return nil, err
	}
	c.link = l
	return c, nil
}

// Close closes the connection and gives its slot back.
func (c *endpointConn) Close() error {
	if c.link != nil && !c.closed.Swap(true) {
		c.link.open.Add(-1)
	}
	return c.File.Close()
}

// connectIP opens a tcp connection within d. Nagle's algorithm is off.
func (p *Proxy) connectIP(to netip.AddrPort, d time.Duration) (*endpointConn, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	fd, err := socketFor(to)
	if err != nil {
		return nil, connectError(to, err)
	}
	err = rawConnect(uintptr(fd), to)
	if err == syscall.EINPROGRESS {
		// On a loopback or virtual network the answer is often here by now. A second connect says
		// so, and returns the error if there was one.
		err = rawConnect(uintptr(fd), to)
	}
	if err != nil && err != syscall.EALREADY {
		syscall.Close(fd)
		return nil, connectError(to, err)
	}
	s := &endpointConn{File: os.NewFile(uintptr(fd), "endpoint"), remote: to}
	if err != nil {
		if err := p.awaitConnect(s, d); err != nil {
			s.Close()
			return nil, connectError(to, err)
		}
	}
	return s, nil
}

// awaitConnect waits until s is connected.
func (p *Proxy) awaitConnect(s *endpointConn, d time.Duration) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var w watched
	p.sweep.add(&w, s)
	p.sweep.arm(&w, d)
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = rawConnect(fd, s.remote)
		return failed != syscall.EALREADY && failed != syscall.EINPROGRESS
	})
	late := w.disarm()
	p.sweep.remove(&w)
	switch {
	case late:
		return os.ErrDeadlineExceeded
	case err != nil:
		return err
	case failed == syscall.EISCONN:
		return nil
	}
	return failed
}

func socketFor(to netip.AddrPort) (int, error) {
	family := syscall.AF_INET
	if to.Addr().Is6() {
		family = syscall.AF_INET6
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func connectError(to netip.AddrPort, err error) error {
	return fmt.Errorf("endpoint %s cannot be connected to: %w", to, err)
}

// LocalAddr is asked of the kernel each time.
func (s *endpointConn) LocalAddr() net.Addr {
	a := new(net.TCPAddr)
	s.control(func(fd int) error {
		sa, err := syscall.Getsockname(fd)
		switch v := sa.(type) {
		case *syscall.SockaddrInet4:
			a.IP, a.Port = v.Addr[:], v.Port
		case *syscall.SockaddrInet6:
			a.IP, a.Port = v.Addr[:], v.Port
		}
		return err
	})
	return a
}

// RemoteAddr is the endpoint.
func (s *endpointConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }

// CloseWrite sends the end of the stream.
func (s *endpointConn) CloseWrite() error {
	return s.control(func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_WR) })
}

// SetLinger is that of net.TCPConn: 0 makes Close reset the connection.
func (s *endpointConn) SetLinger(sec int) error {
	l := syscall.Linger{Onoff: 1, Linger: int32(sec)}
	if sec < 0 {
		l = syscall.Linger{}
	}
	return s.control(func(fd int) error { return syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &l) })
}

func (s *endpointConn) control(f func(fd int) error) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
