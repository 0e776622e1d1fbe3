package proxy

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A plainConn is a plain tcp connection held by its descriptor. The runtime's poller learns of it only when somebody
// reads, or waits, through it: a short tcp session passes over a ferry and never does. That, and accepting and
// connecting without package net, saves a third of the system calls of such a session. Only the goroutine that
// serves the session closes it; any may set a deadline.
type plainConn struct {
	fd     int
	remote netip.AddrPort
	link   *Link // of connections to endpoints that are counted

	mu     sync.Mutex
	file   *os.File // once the runtime's poller knows it
	trip   *passage // what a deadline that passes must end
	ferry  *ferry   // whose epoll knows it
	late   bool     // a deadline passed while there was neither
	closed bool
}

// polled makes the runtime's poller know c.
func (c *plainConn) polled() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil {
		return c.file, nil
	}
	if c.closed {
		return nil, net.ErrClosed
	}
	if c.ferry != nil {
		c.ferry.forget(c.fd)
		c.ferry = nil
	}
	c.file = os.NewFile(uintptr(c.fd), "tcp")
	if c.late {
		c.file.SetDeadline(longAgo)
	}
	return c.file, nil
}

// SyscallConn is what waits for c.
func (c *plainConn) SyscallConn() (syscall.RawConn, error) {
	f, err := c.polled()
	if err != nil {
		return nil, err
	}
	return f.SyscallConn()
}

// Read reads once.
func (c *plainConn) Read(b []byte) (int, error) {
	f, err := c.polled()
	if err != nil {
		return 0, err
	}
	return f.Read(b)
}

// Write writes all of b. It waits only for what the kernel does not take at once.
func (c *plainConn) Write(b []byte) (int, error) {
	n := 0
	if err := c.control(func(fd int) (err error) {
		n, err = rawSend(uintptr(fd), b)
		return err
	}); err != nil && err != syscall.EAGAIN {
		return n, os.NewSyscallError("send", err)
	}
	if n == len(b) {
		return n, nil
	}
	f, err := c.polled()
	if err != nil {
		return n, err
	}
	m, err := f.Write(b[n:])
	return n + m, err
}

// ReadFrom makes io.Copy not look for one in os.File.
func (c *plainConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// Close closes the connection and gives its slot of the link back.
func (c *plainConn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	f := c.file
	if f == nil {
		rawClose(c.fd)
	}
	c.mu.Unlock()
	if c.link != nil {
		c.link.open.Add(-1)
	}
	if f != nil {
		return f.Close()
	}
	return nil
}

// reset closes the connection so that the other side sees it break.
func (c *plainConn) reset() {
	_ = c.control(func(fd int) error {
		if c.file != nil { // a read under way may keep the descriptor open after Close
			return rawReset(uintptr(fd))
		}
		return rawLinger(fd, 0)
	})
	c.Close()
}

// LocalAddr is asked of the kernel each time.
func (c *plainConn) LocalAddr() net.Addr {
	a := new(net.TCPAddr)
	_ = c.control(func(fd int) error {
		at, err := localAddr(fd)
		a = net.TCPAddrFromAddrPort(at)
		return err
	})
	return a
}

// RemoteAddr is the other side.
func (c *plainConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// CloseWrite sends the end of the stream.
func (c *plainConn) CloseWrite() error {
	return c.control(func(fd int) error { return rawShutdown(uintptr(fd)) })
}

// SetLinger is that of net.TCPConn: 0 makes Close reset the connection.
func (c *plainConn) SetLinger(sec int) error {
	return c.control(func(fd int) error { return rawLinger(fd, sec) })
}

// SetDeadline ends waiting at t. One in the past also ends the passage.
func (c *plainConn) SetDeadline(t time.Time) error {
	if !t.IsZero() && time.Until(t) > 0 {
		f, err := c.polled()
		if err != nil {
			return err
		}
		return f.SetDeadline(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = !t.IsZero()
	if c.late && c.trip != nil {
		c.trip.expire()
	}
	if c.file != nil {
		return c.file.SetDeadline(t)
	}
	return nil
}

// SetReadDeadline is that of net.Conn.
func (c *plainConn) SetReadDeadline(t time.Time) error {
	f, err := c.polled()
	if err != nil {
		return err
	}
	return f.SetReadDeadline(t)
}

// SetWriteDeadline is that of net.Conn.
func (c *plainConn) SetWriteDeadline(t time.Time) error {
	f, err := c.polled()
	if err != nil {
		return err
	}
	return f.SetWriteDeadline(t)
}

// control calls f while the descriptor is sure to be that of c. f does not block.
func (c *plainConn) control(f func(fd int) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return f(c.fd)
}

// board makes deadlines that pass end t. It reports false when one has passed already.
func (c *plainConn) board(t *passage) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trip = t
	return !c.late && !c.closed
}

// leave undoes board. Nobody touches the passage through c after it.
func (c *plainConn) leave() {
	c.mu.Lock()
	c.trip = nil
	c.mu.Unlock()
}

// afloat reports whether c is one that a ferry can take: plain, and unknown to the runtime's poller.
func afloat(c net.Conn) (*plainConn, bool) {
	p, ok := c.(*plainConn)
	if !ok {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p, p.file == nil && !p.closed
}
