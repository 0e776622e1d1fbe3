package proxy

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ferryBatch is how many events a ferry takes at a time.
const ferryBatch = 128

// ferryStreak is how many batches a ferry takes before it lets the runtime look for other work: while one goroutine
// is always ready the runtime's poller is asked only every 10 ms, and a new connection would wait that long.
const ferryStreak = 16

// ferriesMax bounds the ferries: each has a buffer and two descriptors.
const ferriesMax = 16

// epollET is EPOLLET, which package syscall has as a negative number.
const epollET = 1 << 31

const (
	ferryReads  = syscall.EPOLLIN | syscall.EPOLLRDHUP | epollET
	ferryEnds   = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	ferryWrites = syscall.EPOLLOUT | epollET
)

// errBulk says that a passage ended because the session is better served by splicing, or has to wait for a slow reader.
var errBulk = errors.New("the session has become a bulk transfer")

// A ferry moves the bytes of many short tcp sessions on one goroutine with an epoll of its own. Next to a goroutine
// for each direction on the runtime's poller that leaves out what such a session pays most for: reads that find
// nothing, because the runtime reads before it waits, adding to and taking from the poller, and waking a goroutine
// for each byte. The runtime's poller watches the ferry's epoll like any other descriptor, so no thread is held.
// The goroutine of the session sleeps until the passage is over.
type ferry struct {
	ep   int
	file *os.File // is ep
	bell int      // an eventfd; to write to it makes the runtime's poller see ep as ready once more
	raw  syscall.RawConn
	buf  [relayBuffer]byte

	waitFn func(fd uintptr) bool
	events [ferryBatch]syscall.EpollEvent
	n      int // events that are there
	streak int // batches since the runtime's poller was asked

	mu    sync.Mutex
	all   []*passage // by number; one is used again, never dropped, so there are as many as there were sessions at once
	free  []*passage
	ended chan struct{}
}

func newFerry() (*ferry, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(ep, true); err != nil { // or the runtime would not poll it
		syscall.Close(ep)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := &ferry{ep: ep, file: os.NewFile(uintptr(ep), "epoll"), ended: make(chan struct{})}
	f.waitFn = f.wait
	if f.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		f.file.Close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	err = syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, f.bell, &syscall.EpollEvent{Events: syscall.EPOLLIN | epollET, Fd: bellNumber})
	if err == nil {
		err = f.file.SetDeadline(time.Time{}) // fails when the runtime does not poll it
	}
	if err == nil {
		f.raw, err = f.file.SyscallConn()
	}
	if err != nil {
		f.file.Close()
		syscall.Close(f.bell)
		return nil, err
	}
	return f, nil
}

// bellNumber stands for the bell in events.
const bellNumber = -1

// run moves bytes until the ferry is closed.
func (f *ferry) run() {
	defer close(f.ended)
	for f.raw.Read(f.waitFn) == nil {
		f.mu.Lock()
		all := f.all
		f.mu.Unlock()
		woke := false
		for i := range f.events[:f.n] {
			ev := &f.events[i]
			if ev.Fd == bellNumber {
				continue
			}
			woke = all[ev.Fd>>1].event(f, ev) || woke
		}
		if woke { // while events keep coming nobody else would have a turn
			runtime.Gosched()
		}
	}
}

// wait takes the events that are there. false: the runtime's poller shall say when there are some.
func (f *ferry) wait(fd uintptr) bool {
	if f.streak++; f.streak > ferryStreak {
		f.streak = 0
		one := uint64(1)
		_, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(f.bell), uintptr(unsafe.Pointer(&one)), 8)
		return e != 0 // cannot be: it would need 2⁶⁴ rings
	}
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&f.events[0])), ferryBatch, 0, 0, 0)
		if e != syscall.EINTR {
			f.n = int(n)
			if e != 0 || n == 0 {
				f.n, f.streak = 0, 0
				return false
			}
			return true
		}
	}
}

// close ends run. No passage is under way.
func (f *ferry) close() {
	f.file.Close()
	<-f.ended
	syscall.Close(f.bell)
}

// watch tells the epoll of c, with what its events say.
func (f *ferry) watch(c *plainConn, events uint32, t *passage, side int) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(t.number<<1 | side), Pad: t.turn}
	op := uintptr(syscall.EPOLL_CTL_ADD)
	if c.ferry == f {
		op = syscall.EPOLL_CTL_MOD
	}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(f.ep), op, uintptr(c.fd), uintptr(unsafe.Pointer(&ev)), 0, 0); e != 0 {
		return e
	}
	c.ferry = f
	return nil
}

// forget takes a descriptor out of the epoll. One that is closed leaves it by itself.
func (f *ferry) forget(fd int) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(f.ep), syscall.EPOLL_CTL_DEL, uintptr(fd), 0, 0, 0)
}

// take returns an unused passage.
func (f *ferry) take() *passage {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.free); n > 0 {
		t := f.free[n-1]
		f.free = f.free[:n-1]
		return t
	}
	t := &passage{number: len(f.all), over: true, wake: make(chan struct{}, 1)}
	f.all = append(f.all, t)
	return t
}

// put takes a passage back. Events that are still on their way to it no longer count.
func (f *ferry) put(t *passage) {
	t.mu.Lock()
	t.turn++
	t.lanes, t.opts, t.connecting, t.err = [2]lane{}, relayOptions{}, nil, nil
	t.mu.Unlock()
	f.mu.Lock()
	f.free = append(f.free, t)
	f.mu.Unlock()
}

// passage is one session on a ferry, or one endpoint that is being connected to.
type passage struct {
	number int
	proxy  *Proxy
	wake   chan struct{} // over

	mu         sync.Mutex // guards what follows; held while bytes move
	turn       int32
	over       bool
	connecting *plainConn
	lanes      [2]lane // from the client, from the endpoint
	opts       relayOptions
	err        error
	broke      bool // the reset came from the side that was read: only the other has to be told
}

// lane is one direction.
type lane struct {
	from, to          uintptr
	moved             int64
	ended             bool
	rest              []byte // read, and not taken by the other side: errBulk
	count             *tally
	readErr, writeErr error
}

// finish ends the passage. mu is held.
func (t *passage) finish(err error) {
	if !t.over {
		t.over, t.err = true, err
		t.wake <- struct{}{}
	}
}

// expire ends the passage because a deadline has passed.
func (t *passage) expire() {
	t.mu.Lock()
	t.finish(os.ErrDeadlineExceeded)
	t.mu.Unlock()
}

// event does what ev says can be done. It reports whether that ended the passage.
func (t *passage) event(f *ferry, ev *syscall.EpollEvent) (ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.recovered(&ended)
	if t.over || t.turn != ev.Pad {
		return false
	}
	if c := t.connecting; c != nil {
		if err := rawConnect(uintptr(c.fd), c.remote); err != syscall.EALREADY && err != syscall.EINPROGRESS {
			t.finish(err)
		}
		return t.over
	}
	side := int(ev.Fd & 1)
	if l := &t.lanes[side]; l.ended && ev.Events&syscall.EPOLLERR != 0 { // nobody reads here any more who would notice
		t.broke = true
		t.finish(l.readErr)
	}
	t.move(side, f.buf[:], ev.Events&ferryEnds != 0)
	return t.over
}

// errFerry says that a session ended by a fault of evenkeel.
var errFerry = errors.New("the session ended by a fault of the gateway")

// recovered makes a panic cost one session, and not all that are on the ferry, and the process. mu is held.
func (t *passage) recovered(ended *bool) {
	v := recover()
	if v == nil {
		return
	}
	t.proxy.panicked("a tcp session panicked", v)
	t.finish(errFerry)
	*ended = true
}

// move moves what is there on one lane. A read that does not fill buf has taken everything, and what comes later makes
// a new event; last says that the end has come too, so that it must be read up to. mu is held.
func (t *passage) move(side int, buf []byte, last bool) {
	l := &t.lanes[side]
	for !t.over && !l.ended {
		n, err := rawRead(l.from, buf)
		switch {
		case err == syscall.EAGAIN:
			return
		case err != nil:
			t.broke = err == syscall.ECONNRESET
			t.finish(l.readErr)
		case n == 0:
			t.end(l, &t.lanes[1-side])
		default:
			t.pass(l, buf[:n])
			if n < len(buf) && !last {
				return
			}
		}
	}
}

// pass sends b on. mu is held.
func (t *passage) pass(l *lane, b []byte) {
	n, err := rawSend(l.to, b)
	if err != nil && err != syscall.EAGAIN {
		t.finish(l.writeErr)
		return
	}
	l.moved += int64(n)
	if l.count != nil {
		l.count.add(t.opts.shard, int64(n))
	}
	if t.opts.watched != nil && t.opts.idle > 0 {
		t.proxy.sweep.rearm(t.opts.watched, t.opts.idle)
	}
	if n < len(b) {
		l.rest = append([]byte(nil), b[n:]...)
		t.finish(errBulk)
	} else if l.moved >= relayCopy && n >= relayBulk {
		t.finish(errBulk)
	}
}

// end passes the end of a lane on, unless both have ended and are about to be closed. mu is held.
func (t *passage) end(l, other *lane) {
	l.ended = true
	if other.ended {
		t.finish(nil)
	} else if err := rawShutdown(l.to); err != nil {
		t.finish(l.writeErr)
	}
}

// cross is relay for two connections that the runtime's poller does not know. It ends with errBulk when the relay
// should go on without the ferry; o then says where it stands.
func (f *ferry) cross(p *Proxy, client, endpoint *plainConn, o *relayOptions) error {
	t := f.take()
	t.mu.Lock()
	t.proxy, t.opts, t.over, t.broke = p, *o, false, false
	a, b := uintptr(client.fd), uintptr(endpoint.fd)
	t.lanes[0] = lane{from: a, to: b, count: o.in, readErr: errRelayClient, writeErr: errRelayEndpoint}
	t.lanes[1] = lane{from: b, to: a, count: o.out, readErr: errRelayEndpoint, writeErr: errRelayClient}
	t.mu.Unlock()
	if !client.board(t) || !endpoint.board(t) {
		t.expire()
	}
	// The first bytes of most clients are here by now, which saves an event.
	buf := p.buffers.Get().(*[relayBuffer]byte)
	t.mu.Lock()
	t.move(0, buf[:], false)
	over := t.over
	t.mu.Unlock()
	p.buffers.Put(buf)
	if !over && (f.watch(client, ferryReads, t, 0) != nil || f.watch(endpoint, ferryReads, t, 1) != nil) {
		t.mu.Lock()
		t.finish(errBulk) // the system has no room in epoll; the runtime's poller may have
		t.mu.Unlock()
	}
	<-t.wake
	client.leave()
	endpoint.leave()
	up, down, err := &t.lanes[0], &t.lanes[1], t.err
	o.moved = [2]int64{up.moved, down.moved}
	switch {
	case err == errBulk:
		o.ended = [2]bool{up.ended, down.ended}
		o.toEndpoint, o.toClient = up.rest, down.rest
	case err != nil:
		if t.broke {
			if err == errRelayClient {
				client.Close()
			} else {
				endpoint.Close()
			}
		}
		client.reset()
		endpoint.reset()
	}
	f.put(t)
	return err
}

// awaitConnect waits until c is connected, or a deadline of c passes.
func (f *ferry) awaitConnect(p *Proxy, c *plainConn) error {
	t := f.take()
	t.mu.Lock()
	t.proxy, t.connecting, t.over = p, c, false
	t.mu.Unlock()
	if !c.board(t) {
		t.expire()
	} else if err := f.watch(c, ferryWrites|ferryEnds, t, 0); err != nil {
		t.mu.Lock()
		t.finish(err)
		t.mu.Unlock()
	}
	<-t.wake
	c.leave()
	err := t.err
	f.put(t)
	if err == syscall.EISCONN {
		return nil
	}
	return err
}

// ferries are started when the first tcp session comes.
type ferries struct {
	once sync.Once
	list []*ferry // empty: the system has no epoll to give
}

// of is the ferry for a connection; nil: there is none.
func (s *ferries) of(shard uint32) *ferry {
	s.once.Do(func() {
		for range min(runtime.GOMAXPROCS(0), ferriesMax) {
			f, err := newFerry()
			if err != nil {
				return
			}
			s.list = append(s.list, f)
			go f.run()
		}
	})
	if len(s.list) == 0 {
		return nil
	}
	return s.list[shard%uint32(len(s.list))]
}

// close ends all and waits for them.
func (s *ferries) close() {
	s.once.Do(func() {})
	for _, f := range s.list {
		f.close()
	}
}
