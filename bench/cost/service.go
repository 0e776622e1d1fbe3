package cost

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Bounds of the service; its only clients are the proxies that are measured.
const (
	maxHead   = 32 << 10
	maxAnswer = 1 << 20
)

// service is what stands behind every proxy: one thread, one epoll, answers made once, so that it costs little and always
// the same. The first byte of a connection says what it is for: 'D' sends without end, 'B' gives one byte back, anything
// else is HTTP/1.1, where GET /N is answered with N bytes.
type service struct {
	epoll   int
	clients map[int32]*client
	answers map[string][]byte
	in      []byte
	bulk    []byte
}

// client is one connection.
type client struct {
	fd      int
	head    []byte // of a request that is not whole yet
	waiting []byte // what the socket did not take
	endless bool
}

// Serve answers on address (IPv4) until an error.
func Serve(address string) error {
	runtime.LockOSThread() // the epoll loop is a thread of its own: no hand-over to other threads at each wait
	defer runtime.UnlockOSThread()
	a, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return err
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	at := &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	_ = unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(listener, at); err != nil {
		return fmt.Errorf("service cannot listen on %s: %w", address, err)
	}
	if err := unix.Listen(listener, 8192); err != nil {
		return err
	}
	s := &service{clients: map[int32]*client{}, answers: map[string][]byte{}, in: make([]byte, 64<<10), bulk: bytes.Repeat([]byte{'b'}, 256<<10)}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := s.watch(unix.EPOLL_CTL_ADD, listener, unix.EPOLLIN); err != nil {
		return err
	}
	for ready := make([]unix.EpollEvent, 1024); ; {
		n, err := unix.EpollWait(s.epoll, ready, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for i := range max(n, 0) {
			if int(ready[i].Fd) == listener {
				s.welcome(listener)
			} else if c := s.clients[ready[i].Fd]; c != nil && !s.step(c, ready[i].Events) {
				delete(s.clients, ready[i].Fd)
				unix.Close(c.fd)
			}
		}
	}
}

func (s *service) watch(op, fd int, events uint32) error {
	return unix.EpollCtl(s.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (s *service) welcome(listener int) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if s.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			unix.Close(fd)
			continue
		}
		s.clients[int32(fd)] = &client{fd: fd}
	}
}

// step does what is ready on c. It reports false when c is over.
func (s *service) step(c *client, events uint32) bool {
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		return false
	}
	if events&unix.EPOLLOUT != 0 {
		if c.endless {
			_, err := unix.Write(c.fd, s.bulk)
			return err == nil || err == unix.EAGAIN
		}
		return s.send(c, nil) && (len(c.waiting) > 0 || s.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLIN) == nil)
	}
	n, err := unix.Read(c.fd, s.in)
	if err == unix.EAGAIN {
		return true
	}
	if err != nil || n <= 0 {
		return false
	}
	got := s.in[:n]
	if c.head == nil && got[0] == 'D' {
		c.endless = true
		return s.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLOUT) == nil
	}
	if c.head == nil && got[0] == 'B' {
		return s.send(c, got[:1])
	}
	return s.requests(c, got)
}

// requests answers every whole request in what c has sent.
func (s *service) requests(c *client, got []byte) bool {
	if len(c.head) > 0 {
		got, c.head = append(c.head, got...), nil
	}
	for len(got) > 0 {
		end := bytes.Index(got, []byte("\r\n\r\n"))
		if end < 0 {
			c.head = bytes.Clone(got)
			return len(got) < maxHead
		}
		if !s.send(c, s.answer(got[:end])) {
			return false
		}
		got = got[end+4:]
	}
	return true
}

// answer finds the answer for a request head.
func (s *service) answer(head []byte) []byte {
	_, path, _ := bytes.Cut(head, []byte{' '})
	path, _, _ = bytes.Cut(path, []byte{' '})
	if a := s.answers[string(path)]; a != nil {
		return a
	}
	n, err := strconv.Atoi(string(bytes.TrimPrefix(path, []byte{'/'})))
	if err != nil || n < 0 || n > maxAnswer {
		return []byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	}
	a := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", n, bytes.Repeat([]byte{'x'}, n))
	s.answers[string(path)] = a
	return a
}

// send writes b after what is still waiting.
func (s *service) send(c *client, b []byte) bool {
	if len(c.waiting) > 0 {
		b = append(c.waiting, b...)
	}
	n, err := unix.Write(c.fd, b)
	if err != nil && err != unix.EAGAIN {
		return false
	}
	was := len(c.waiting) > 0
	c.waiting = nil
	if rest := b[max(n, 0):]; len(rest) > 0 {
		c.waiting = bytes.Clone(rest)
		return was || s.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLOUT) == nil
	}
	return true
}
