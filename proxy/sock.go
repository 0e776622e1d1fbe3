package proxy

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stallGrace is how long a write may stand still before the minimum rate counts (notes of RFC 9110 leave
// it open; Apache's mod_reqtimeout and Caddy's MinRate start after 5 s to 20 s).
const stallGrace = 5 * time.Second

// sock reads and writes one connection. Plain TCP goes through RawConn with raw system calls, so that whoever
// waits for the next bytes holds no buffer; TLS goes through net.Conn. A read and a write may run at
// the same time, two reads may not.
type sock struct {
	conn  net.Conn
	raw   syscall.RawConn // nil for TLS
	under syscall.RawConn // the TCP connection, also below TLS
	sweep *sweeper

	readFn, writeFn func(fd uintptr) bool // method values made once: making them per call would allocate

	// lend gives a buffer for a read that starts without one, and giveBack takes it again when nothing was there.
	lend     func() []byte
	giveBack func([]byte)
	lent     bool
	ask      bool // tryRead sends what is in out first, and then waits without trying to read
	in       []byte
	n        int
	readErr  error

	out      [3][]byte
	idle     time.Duration // a write without any progress ends after this; 0: never
	rate     int64         // bytes per second that a write must move after stallGrace; 0: any
	end      time.Time     // a write that waits ends then; zero: no such end
	stalled  bool
	stallEnd int64 // on the sweeper's clock; 0: none
	writeErr error
	writeDog watched
}

// init readies s for c; tcp is nil when c is not plain TCP.
func (s *sock) init(c net.Conn, tcp *net.TCPConn, sweep *sweeper) error {
	s.conn, s.sweep = c, sweep
	below := tcp
	if tcp == nil {
		if below, _ = bare(c).(*net.TCPConn); below == nil {
			return nil
		}
	}
	raw, err := below.SyscallConn()
	if err != nil {
		return err
	}
	s.under = raw
	if tcp != nil {
		s.raw, s.readFn, s.writeFn = raw, s.tryRead, s.waitWrite
	}
	return nil
}

// read reads once into p. io.EOF at the end of the stream.
func (s *sock) read(p []byte) (int, error) {
	if s.raw == nil {
		return s.conn.Read(p)
	}
	s.in, s.lent = p, false
	return s.finishRead()
}

// readLent waits for bytes without a buffer, and then reads into one that lend gave. The caller owns
// the buffer when the error is nil; otherwise it was given back.
func (s *sock) readLent(lend func() []byte, giveBack func([]byte)) ([]byte, int, error) {
	if s.raw == nil {
		return s.readLentTLS(lend)
	}
	s.lend, s.giveBack, s.lent, s.in = lend, giveBack, true, nil
	n, err := s.finishRead()
	buf := s.in
	s.lend, s.giveBack, s.lent, s.in = nil, nil, false, nil
	if err != nil {
		if buf != nil {
			giveBack(buf)
		}
		return nil, 0, err
	}
	return buf, n, nil
}

// askLent is write(a, b, nil) followed by readLent. What is read is the answer to what is written, so the
// read that would find nothing is left out: the runtime forgets the readiness of the socket before the write and
// is told of the answer after it. sent is how many bytes the kernel took. Not for TLS.
func (s *sock) askLent(a, b []byte, lend func() []byte, giveBack func([]byte)) (buf []byte, n, sent int, err error) {
	total := len(a) + len(b)
	s.out[0], s.out[1], s.out[2] = a, b, nil
	s.writeErr, s.ask = nil, true
	buf, n, err = s.readLent(lend, giveBack)
	s.ask = false
	left := len(s.out[0]) + len(s.out[1])
	if left > 0 && s.writeErr == nil {
		return s.askRest(total, lend, giveBack)
	}
	s.out[0], s.out[1] = nil, nil
	if s.writeErr != nil {
		err = s.writeErr
	}
	return buf, n, total - left, err
}

// askRest goes on with a question of which the kernel did not take all at once: it waits for room.
func (s *sock) askRest(total int, lend func() []byte, giveBack func([]byte)) (buf []byte, n, sent int, err error) {
	a, b := s.out[0], s.out[1]
	left := len(a) + len(b)
	if sent, err = s.write(a, b, nil); err == nil {
		buf, n, err = s.readLent(lend, giveBack)
	}
	return buf, n, total - left + sent, err
}

// readLentTLS waits with one byte: crypto/tls keeps the rest of the record, and the next read has it without waiting. That
// read is left to the caller: a peer that sends one byte and no more must not be waited for here, on the time of an idle connection.
func (s *sock) readLentTLS(lend func() []byte) ([]byte, int, error) {
	var first [1]byte
	if _, err := io.ReadFull(s.conn, first[:]); err != nil {
		return nil, 0, err
	}
	buf := lend()
	buf[0] = first[0]
	return buf, 1, nil
}

func (s *sock) finishRead() (int, error) {
	s.n, s.readErr = 0, nil
	if err := s.raw.Read(s.readFn); err != nil {
		return 0, err
	}
	if s.readErr == nil && s.n == 0 {
		return 0, io.EOF
	}
	return s.n, s.readErr
}

// tryRead is called by the runtime when the socket may be readable. false: wait.
func (s *sock) tryRead(fd uintptr) bool {
	if s.ask {
		s.ask = false
		return !s.tryWrite(fd) || s.writeErr != nil
	}
	if s.lent && s.in == nil {
		s.in = s.lend()
	}
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.in))), uintptr(len(s.in)), 0, 0, 0)
		switch e {
		case 0:
			s.n = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			if s.lent {
				s.giveBack(s.in)
				s.in = nil
			}
			return false
		default:
			s.readErr = os.NewSyscallError("recv", e)
			return true
		}
	}
}

// write writes a, b and c, in one system call where the kernel takes it. Any may be empty.
// It returns how many bytes the kernel took, also on an error.
func (s *sock) write(a, b, c []byte) (int, error) {
	if s.raw == nil {
		return s.writeTLS(a, b, c)
	}
	total := len(a) + len(b) + len(c)
	s.out, s.writeErr = [3][]byte{a, b, c}, nil
	err := s.raw.Write(s.writeFn)
	if err == nil {
		err = s.writeErr
	}
	if s.stalled {
		s.stalled = false
		s.sweep.remove(&s.writeDog)
		if s.writeDog.disarm() && err == nil { // in time by a hair, but the connection was woken and is of no more use
			err = os.ErrDeadlineExceeded
		}
	}
	left := len(s.out[0]) + len(s.out[1]) + len(s.out[2])
	s.out = [3][]byte{}
	return total - left, err
}

// waitWrite is called by the runtime when the socket may be writable. false: wait.
func (s *sock) waitWrite(fd uintptr) bool {
	if s.tryWrite(fd) {
		return true
	}
	s.watchStall()
	return false
}

// tryWrite writes what is in out. false: the kernel takes no more now.
func (s *sock) tryWrite(fd uintptr) bool {
	for {
		n, e := send(fd, &s.out)
		switch e {
		case 0:
			left := 0
			for i, p := range s.out {
				k := min(n, len(p))
				s.out[i] = p[k:]
				n -= k
				left += len(p) - k
			}
			if left == 0 {
				return true
			}
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.writeErr = os.NewSyscallError("send", e)
			return true
		}
	}
}

// send sends all parts with one call.
func send(fd uintptr, parts *[3][]byte) (int, unix.Errno) {
	var iov [3]unix.Iovec
	n := 0
	for _, p := range parts {
		if len(p) > 0 {
			iov[n] = unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))}
			n++
		}
	}
	if n == 1 { // a third cheaper than sendmsg
		k, _, e := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(iov[0].Base)), uintptr(iov[0].Len), unix.MSG_NOSIGNAL, 0, 0)
		return int(k), e
	}
	msg := unix.Msghdr{Iov: &iov[0], Iovlen: uint64(n)}
	k, _, e := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL)
	return int(k), e
}

// watchStall sets the deadline of a write that has to wait, so that writes that need not wait pay nothing.
func (s *sock) watchStall() {
	if s.idle == 0 {
		return
	}
	if !s.stalled {
		s.stalled = true
		s.sweep.add(&s.writeDog, s.conn)
		s.stallEnd = s.sweep.clock.Load() + int64(stallTime(s.rate, int64(len(s.out[0])+len(s.out[1])+len(s.out[2]))))
	}
	s.armStall()
}

// armStall sets the deadline of the next step of a write.
func (s *sock) armStall() {
	if s.idle == 0 {
		return
	}
	wait := s.idle
	if s.rate > 0 {
		wait = max(min(wait, time.Duration(s.stallEnd-s.sweep.clock.Load())), 0)
	}
	if !s.end.IsZero() {
		wait = max(min(wait, time.Until(s.end)), 0)
	}
	s.sweep.arm(&s.writeDog, wait)
}

// stallTime is how long n bytes may take at rate bytes per second.
func stallTime(rate, n int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return stallGrace + time.Duration(float64(n)/float64(rate)*float64(time.Second))
}

func (s *sock) writeTLS(a, b, c []byte) (n int, err error) {
	if s.idle != 0 {
		s.sweep.add(&s.writeDog, s.conn)
		s.stallEnd = s.sweep.clock.Load() + int64(stallTime(s.rate, int64(len(a)+len(b)+len(c))))
		defer func() {
			s.sweep.remove(&s.writeDog)
			if s.writeDog.disarm() && err == nil {
				err = os.ErrDeadlineExceeded
			}
		}()
	}
	if len(b) > 0 && len(b)+len(c) <= cap(a)-len(a) {
		a, b, c = append(append(a, b...), c...), nil, nil // one record instead of three
	}
	for _, p := range [3][]byte{a, b, c} {
		for len(p) > 0 {
			s.armStall()
			k, err := s.conn.Write(p[:min(len(p), tlsPiece)])
			n += k
			if err != nil {
				return n, err
			}
			p = p[k:]
		}
	}
	return n, nil
}

// tlsPiece is how much of a write over TLS must move within the idle time: one record, as crypto/tls would write it anyway.
const tlsPiece = 16 << 10

// left reports whether the peer has reset the connection or, when ending counts, ended its sending side, with nothing of it left to read.
func (s *sock) left(ending bool) bool {
	if s.under == nil {
		return false
	}
	gone := false
	err := s.under.Control(func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, e := unix.Poll(fds[:], 0)
		switch {
		case e != nil || n == 0:
		case fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
			gone = true
		case ending && s.raw == nil: // over TLS what is left to read is its close_notify
			gone = true
		case ending:
			var one [1]byte
			n, _, e := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			gone = e == nil && n == 0
		}
	})
	return err != nil || gone
}

// silent reports whether the connection is open and has nothing to read: an endpoint's unused connection
// that is readable was closed by it, or says what nobody asked for; below TLS it may be a session ticket that
// comes late, and costs a connection.
func (s *sock) silent() bool {
	if s.under == nil {
		return true
	}
	quiet := false
	err := s.under.Control(func(fd uintptr) {
		var b [1]byte
		_, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		quiet = e == unix.EAGAIN
	})
	return err == nil && quiet
}
