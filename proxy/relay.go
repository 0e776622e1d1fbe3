package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// relayBuffer is what one read of a relay takes at the most.
const relayBuffer = 64 << 10

// relayCopy is how much of each direction is copied before a relay splices: short connections then never
// pay for a pipe.
const relayCopy = 64 << 10

// relayBulk is the read from which on splicing is worth it: below it a copy costs less than going through a pipe.
const relayBulk = 16 << 10

// spliceMove is SPLICE_F_MOVE | SPLICE_F_NONBLOCK of splice(2), which package syscall lacks.
const spliceMove = 1 | 2

var (
	errRelayClient   = errors.New("the client broke the connection")
	errRelayEndpoint = errors.New("the endpoint broke the connection")
	errRelayIdle     = errors.New("the connection was idle for too long")
)

// relayOptions is how two connections are joined.
type relayOptions struct {
	watched *watched      // of the client's connection, in the sweeper and disarmed
	idle    time.Duration // both directions without a byte for this long end the relay; 0: never
	// Bytes that were read already: toEndpoint from the client, toClient from the endpoint. They are
	// sent first and counted.
	toEndpoint, toClient []byte
	moved                [2]int64 // bytes that were carried before, from the client and from the endpoint
	ended                [2]bool  // whose end has been passed on before
	in, out              *tally   // counted while bytes move; nil: not
	shard                uint32
}

// relay carries bytes both ways until both sides have ended, one broke or both were idle. A side's end is
// passed on as a half-close; a side's reset, a broken connection and idleness reset both. in and out are
// the bytes that came from the client and went to it. On an error both connections are closed already; the
// caller closes them in any case. A connection that wraps a *net.TCPConn shows it by NetConn() net.Conn.
func (p *Proxy) relay(client, endpoint net.Conn, o relayOptions) (in, out int64, err error) {
	if a, ok := afloat(client); ok && len(o.toEndpoint)+len(o.toClient) == 0 {
		if b, ok := afloat(endpoint); ok {
			if f := p.crew.ferries.of(o.shard); f != nil {
				if err, over := p.ferried(f, a, b, &o); over {
					return o.moved[0], o.moved[1], err
				}
			}
		}
	}
	r := p.relays.Get().(*relayRun)
	r.opts = o
	r.ends.Store(0)
	r.err = nil
	r.both = bothConns{client, endpoint}
	if o.watched != nil && o.idle > 0 {
		o.watched.retarget(&r.both)
		p.sweep.arm(o.watched, o.idle)
	}
	r.up.join(client, endpoint, o.in)
	r.down.join(endpoint, client, o.out)
	r.up.moved, r.down.moved = o.moved[0], o.moved[1]
	r.done.Add(1)
	p.crew.give(p, job{relay: r})
	r.fail(&r.up, r.up.run(o.toEndpoint, o.ended[0]))
	r.done.Wait()
	if o.watched != nil && o.idle > 0 {
		r.idled(o.watched.disarm())
		o.watched.retarget(bare(client))
	}
	in, out, err = r.up.moved, r.down.moved, r.err
	r.up.part()
	r.down.part()
	r.both, r.opts = bothConns{}, relayOptions{}
	p.relays.Put(r)
	return in, out, err
}

// ferried carries a session over f. over: it has ended; otherwise o says where it stands.
func (p *Proxy) ferried(f *ferry, client, endpoint *plainConn, o *relayOptions) (err error, over bool) {
	guarded := o.watched != nil && o.idle > 0
	if guarded {
		p.sweep.arm(o.watched, o.idle)
	}
	err = f.cross(p, client, endpoint, o)
	if guarded && o.watched.disarm() && err != nil && err != errBulk {
		err = errRelayIdle
	}
	return err, err != errBulk
}

// relayRun is one relay under way. It is reused.
type relayRun struct {
	proxy    *Proxy
	opts     relayOptions
	both     bothConns
	up, down half
	done     sync.WaitGroup
	ends     atomic.Int32 // halves that have ended well
	mu       sync.Mutex   // guards err
	err      error
}

func newRelayRun(p *Proxy) *relayRun {
	r := &relayRun{proxy: p}
	for _, h := range []*half{&r.up, &r.down} {
		h.of = r
		h.fillFn, h.sendFn, h.pullFn, h.pushFn = h.fill, h.send, h.pull, h.push
	}
	r.up.readErr, r.up.writeErr = errRelayClient, errRelayEndpoint
	r.down.readErr, r.down.writeErr = errRelayEndpoint, errRelayClient
	return r
}

func (r *relayRun) runDown() {
	r.fail(&r.down, r.down.run(r.opts.toClient, r.opts.ended[1]))
	r.done.Done()
}

// fail ends the relay when a half ended with an error: both sides are reset, which ends the other half.
func (r *relayRun) fail(h *half, err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	first := r.err == nil
	if first {
		r.err = err
	}
	r.mu.Unlock()
	if !first {
		return
	}
	if err == h.readErr && h.err == syscall.ECONNRESET { // only the other side is left to be told
		bare(h.src).Close()
		abort(h.dst)
		return
	}
	abort(h.dst)
	abort(h.src)
}

// idled turns the error that the sweeper's wake-up caused into its cause.
func (r *relayRun) idled(hit bool) {
	if hit && r.err != nil {
		r.err = errRelayIdle
	}
}

// half is one direction of a relay.
type half struct {
	of                *relayRun
	src, dst          net.Conn
	from, to          syscall.RawConn // nil unless plain tcp
	count             *tally
	moved             int64
	readErr, writeErr error

	// What the functions under RawConn leave here. They are bound once, so that waiting allocates nothing.
	fillFn, sendFn, pullFn, pushFn func(fd uintptr) bool
	buf                            *[relayBuffer]byte
	pipe                           pipe
	piped                          bool // pipe is open
	n, sent, held                  int  // read; sent of it; in the pipe
	err                            error
}

func (h *half) join(src, dst net.Conn, count *tally) {
	h.src, h.dst, h.count, h.moved = src, dst, count, 0
	h.from, h.to = rawOf(src), rawOf(dst)
}

func (h *half) part() {
	if h.piped {
		h.of.proxy.pipes.put(h.pipe, h.held == 0)
		h.piped, h.held = false, 0
	}
	if h.buf != nil {
		h.of.proxy.buffers.Put(h.buf)
		h.buf = nil
	}
	h.src, h.dst, h.from, h.to, h.count, h.err = nil, nil, nil, nil, nil, nil
}

// run moves bytes until src ends. It then passes the end on, unless the other half has ended too, so
// that both are about to be closed.
func (h *half) run(first []byte, ended bool) error {
	if len(first) > 0 {
		if _, err := h.dst.Write(first); err != nil {
			return h.writeErr
		}
		h.moving(len(first))
	}
	if !ended {
		if err := h.move(); err != io.EOF {
			return err
		}
	}
	if h.of.ends.Add(1) == 2 {
		return nil
	}
	if !ended && closeWrite(h.dst) != nil {
		return h.writeErr
	}
	return nil
}

// move copies and splices until src ends with io.EOF, or something breaks.
func (h *half) move() error {
	if h.from == nil {
		return h.moveWrapped()
	}
	for {
		if h.moved >= relayCopy && h.n >= relayBulk && h.to != nil {
			if err := h.splice(); err != nil {
				return err
			}
			continue
		}
		if err := h.copy(); err != nil {
			return err
		}
	}
}

// moveWrapped copies from a connection that is not plain tcp: it holds a buffer while it waits.
func (h *half) moveWrapped() error {
	h.buf = h.of.proxy.buffers.Get().(*[relayBuffer]byte)
	for {
		n, err := h.src.Read(h.buf[:])
		if n > 0 {
			if _, err := h.dst.Write(h.buf[:n]); err != nil {
				return h.writeErr
			}
			h.moving(n)
		}
		if err == io.EOF {
			return io.EOF
		}
		if err != nil {
			return h.readErr
		}
	}
}

// copy moves what one read yields. No buffer is held while nothing is there to read.
func (h *half) copy() error {
	if err := h.from.Read(h.fillFn); err != nil || h.err != nil {
		return h.readErr
	}
	if h.n == 0 {
		return io.EOF
	}
	h.sent = 0
	var err error
	if h.to != nil {
		if err = h.to.Write(h.sendFn); err == nil {
			err = h.err
		}
	} else {
		_, err = h.dst.Write(h.buf[:h.n])
	}
	h.of.proxy.buffers.Put(h.buf)
	h.buf = nil
	if err != nil {
		return h.writeErr
	}
	h.moving(h.n)
	return nil
}

// send sends what fill has read. It reports false when dst takes no more now.
func (h *half) send(fd uintptr) bool {
	for h.sent < h.n {
		n, err := rawSend(fd, h.buf[h.sent:h.n])
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			h.err = err
			return true
		}
		h.sent += n
	}
	return true
}

// fill reads once. It reports false when nothing is there.
func (h *half) fill(fd uintptr) bool {
	buf := h.of.proxy.buffers.Get().(*[relayBuffer]byte)
	h.n, h.err = rawRead(fd, buf[:])
	if h.err == syscall.EAGAIN {
		h.of.proxy.buffers.Put(buf)
		return false
	}
	if h.n <= 0 {
		h.n = 0
		h.of.proxy.buffers.Put(buf)
		return true
	}
	h.buf = buf
	return true
}

// splice moves what is there through a pipe, without the bytes leaving the kernel.
func (h *half) splice() error {
	if err := h.from.Read(h.pullFn); err != nil || h.err != nil {
		if err == nil && h.err == errNoPipe {
			h.err = nil
			h.n = 0 // copy instead
			return h.copy()
		}
		return h.readErr
	}
	if h.held == 0 {
		return io.EOF
	}
	for h.n = h.held; h.held > 0; {
		before := h.held
		if err := h.to.Write(h.pushFn); err != nil || h.err != nil {
			return h.writeErr
		}
		h.moving(before - h.held)
	}
	return nil
}

// errNoPipe says that the system has no pipe to give.
var errNoPipe = errors.New("no pipe")

// pull moves bytes from src into the pipe. It reports false when nothing is there, and then holds no pipe.
func (h *half) pull(fd uintptr) bool {
	if !h.piped {
		if h.pipe, h.piped = h.of.proxy.pipes.get(); !h.piped {
			h.err = errNoPipe
			return true
		}
	}
	h.held, h.err = rawSplice(fd, uintptr(h.pipe.w), pipeSize)
	if h.err == syscall.EAGAIN {
		h.of.proxy.pipes.put(h.pipe, true)
		h.piped, h.held = false, 0
		return false
	}
	return true
}

// push moves bytes from the pipe to dst. It reports false when dst takes none now.
func (h *half) push(fd uintptr) bool {
	n, err := rawSplice(uintptr(h.pipe.r), fd, h.held)
	if err == syscall.EAGAIN {
		return false
	}
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	h.held, h.err = h.held-n, err
	return true
}

// moving counts bytes and keeps the relay from being idle.
func (h *half) moving(n int) {
	h.moved += int64(n)
	r := h.of
	if h.count != nil {
		h.count.add(r.opts.shard, int64(n))
	}
	if r.opts.watched != nil && r.opts.idle > 0 {
		r.proxy.sweep.arm(r.opts.watched, r.opts.idle)
	}
}

// bothConns is what the sweeper wakes of a relay: both sides, whichever is waited for.
type bothConns struct {
	net.Conn
	other net.Conn
}

// SetDeadline sets the deadline of both.
func (b *bothConns) SetDeadline(t time.Time) error {
	b.other.SetDeadline(t)
	return b.Conn.SetDeadline(t)
}

// retarget makes the sweeper wake c in place of the connection it was told of.
func (w *watched) retarget(c net.Conn) {
	w.home.mu.Lock()
	w.conn = c
	w.home.mu.Unlock()
}

// bare is the connection under TLS and under wrappers that show it by NetConn.
func bare(c net.Conn) net.Conn {
	for {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = w.NetConn()
	}
}

// rawOf is the way to the descriptor of a plain tcp connection; nil for TLS and others.
func rawOf(c net.Conn) syscall.RawConn {
	for {
		if _, ok := c.(*tls.Conn); ok {
			return nil
		}
		if v, ok := c.(syscall.Conn); ok {
			raw, err := v.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = w.NetConn()
	}
}

// abort closes a connection with a reset.
func abort(c net.Conn) {
	b := bare(c)
	if p, ok := b.(*plainConn); ok {
		p.reset()
		return
	}
	if raw := rawOf(b); raw == nil || raw.Control(resetFD) != nil {
		if t, ok := b.(interface{ SetLinger(int) error }); ok {
			t.SetLinger(0)
		}
	}
	b.Close()
}

func resetFD(fd uintptr) { _ = rawReset(fd) }

// closeWrite ends one direction of a connection.
func closeWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	if w, ok := bare(c).(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != syscall.EINTR {
			return n, err
		}
	}
}
