package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// dialSession connects to the endpoint for one tcp session, whose client's account holds the descriptor.
func (l *Link) dialSession(shard uint32) (net.Conn, error) {
	if l.addr == nil || l.up.now.Load().tls != nil {
		c, _, err := l.dialTLS(context.Background(), true, false)
		return c, err
	}
	cfg := poolOf(l)
	if l.open.Add(1) > int64(cfg.Connections.Max) {
		l.open.Add(-1)
		return nil, errTooManyConnections
	}
	c, err := l.up.proxy.connectIP(l.addr.AddrPort(), cfg.Timeouts.Connect, shard)
	if err != nil {
		l.open.Add(-1)
		return nil, err
	}
	c.link = l
	return c, nil
}

// connectIP opens a tcp connection within d. Nagle's algorithm is off.
func (p *Proxy) connectIP(to netip.AddrPort, d time.Duration, shard uint32) (*plainConn, error) {
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
	c := &plainConn{fd: fd, remote: to}
	if err == syscall.EALREADY {
		err = p.awaitConnect(c, d, shard)
	}
	if err != nil {
		c.Close()
		return nil, connectError(to, err)
	}
	return c, nil
}

// awaitConnect waits until c is connected.
func (p *Proxy) awaitConnect(c *plainConn, d time.Duration, shard uint32) error {
	var w watched
	p.sweep.add(&w, c)
	p.sweep.arm(&w, d)
	var err error
	if f := p.crew.ferries.of(shard); f != nil {
		err = f.awaitConnect(p, c)
	} else {
		err = c.awaitConnect()
	}
	late := w.disarm()
	p.sweep.remove(&w)
	if late {
		return os.ErrDeadlineExceeded
	}
	return err
}

// awaitConnect waits on the runtime's poller until c is connected.
func (c *plainConn) awaitConnect() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = rawConnect(fd, c.remote)
		return failed != syscall.EALREADY && failed != syscall.EINPROGRESS
	})
	if err == nil && failed != syscall.EISCONN {
		err = failed
	}
	return err
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
	if err := rawNoDelay(fd); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func connectError(to netip.AddrPort, err error) error {
	return fmt.Errorf("endpoint %s cannot be connected to: %w", to, err)
}
