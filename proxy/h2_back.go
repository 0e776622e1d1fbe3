package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// errH2Answer is what a malformed answer head becomes.
var errH2Answer = fmt.Errorf("the endpoint's HTTP/2 answer is malformed: %w", &wire.Error{Reason: "bad_h2_answer", Status: 502})

// h2Heads is how many informational answer heads of one request may wait. Further ones are dropped, which nobody may mind (RFC 9110 §15.2).
const h2Heads = 8

// h2Back is one request on a connection to an endpoint. It is not reused, since cancel may come after release.
type h2Back struct {
	h2Stream
	client   *h2Client
	heads    []*h2Fields // arrived and not taken
	current  *h2Fields   // given out by head
	final    bool        // the last head arrived
	headless bool        // the answer to HEAD has no body
	bodiless bool
	trailing bool // trailers are announced: HTTP/1.1 can carry them behind chunks only, so the length is not passed on
	deadline time.Time
	patience time.Duration // from the whole request to the answer head
	due      int64         // when waiting must end, on the sweeper's clock; 0: not waiting. Guarded by the lock
	asker    *h1Conn       // of the client that waits; nil: it came by HTTP/2, and its own stream tells when it leaves
	look     int64         // when it is looked whether that is still there, on the sweeper's clock
	pause    time.Duration // from that look until the next
	place    uint64        // where the request head stands among all bytes sent
	released bool
	rest     chan struct{} // closed once what did not go out with the head has, or never will; nil: all did
}

func (s *h2Shared) getHead() *h2Fields {
	if f, _ := s.heads.Get().(*h2Fields); f != nil {
		return f
	}
	return &h2Fields{list: make([]wire.Field, 0, 24), arena: make([]byte, 0, 1<<10)}
}

func (s *h2Shared) putHead(f *h2Fields) {
	if f != nil && cap(f.arena) <= 16<<10 {
		s.heads.Put(f)
	}
}

// answered reports whether the last head has arrived. The lock is held.
func (b *h2Back) answered() bool { return b.final }

// arm sets until when the calls under way may wait. The lock is held.
func (b *h2Back) arm(d time.Duration) {
	now := b.h.p.sweep.clock.Load()
	b.due = now + int64(d) + int64(watchTick)
	b.pause = lookFirst
	if b.final { // a stream of events waits for each of them
		b.pause = lookEvery
	}
	b.look = now + int64(b.pause)
}

func (b *h2Back) send(x *exchange.Exchange, s *scratch, body []byte, whole bool) (unsent bool, err error) {
	b.headless, b.deadline = string(x.Request.Method) == "HEAD", x.Deadline
	b.patience = b.client.link.l.up.firstByte(x)
	if w, ok := x.Front.(*h1Work); ok {
		b.asker = w.h
	}
	s.out = b.block(s.out[:0], x, s, int64(len(body)), whole)
	h := &b.client.h2Conn
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.err != nil {
		return true, b.err
	}
	if b.client.away != nil { // it said so after this was given a place: it would hear nothing of the request
		return true, b.client.away
	}
	if h.end != nil || h.quit || h.last > h2MaxStreamID-4 {
		return true, errH2Gone
	}
	if len(h.streams) == 0 {
		h.wakeIn(watchTick)
	}
	if h.last == 0 {
		h.last = 1
	} else {
		h.last += 2
	}
	b.open(h, h.last)
	b.h2Stream.back = b
	h.streams[b.id] = &b.h2Stream
	b.arm(b.client.link.l.up.wait(x))
	var flags http2.Flags
	if whole && len(body) == 0 {
		flags = http2.FlagHeadersEndStream
	}
	if h.out != nil {
		b.place = uint64(len(h.out.b))
	}
	b.place += h.base
	if err := b.sendHead(s.out, flags); err != nil {
		return true, err
	}
	now := min(len(body), max(b.sendWin, 0), max(h.sendWin, 0))
	err = b.h2Stream.send(body[:now], true)
	if err == nil && now < len(body) {
		// An endpoint may answer before it takes the rest. Were that waited for here, nobody would read the answer: with more of it than our window
		// neither side went on. The body's memory may be another's once there is an answer.
		b.rest = make(chan struct{})
		go b.sendRest(bytes.Clone(body[now:]), whole)
	} else if err == nil && whole {
		err = b.sendEnd()
	}
	h.kick()
	if err != nil && err != errH2Stopped {
		return b.unsent(), b.why()
	}
	return false, nil
}

// block makes the header block of the request.
func (b *h2Back) block(dst []byte, x *exchange.Exchange, s *scratch, n int64, whole bool) []byte {
	r := x.Request
	switch string(r.Method) {
	case "GET":
		dst = append(dst, 0x82)
	case "POST":
		dst = append(dst, 0x83)
	default:
		dst = appendHpackText(append(dst, 0x02), r.Method)
	}
	if b.client.secure {
		dst = append(dst, 0x87)
	} else {
		dst = append(dst, 0x86)
	}
	dst = appendHpackText(append(dst, 0x04), s.target)
	dst = appendHpackText(append(dst, 0x01), s.host)
	length := r.ContentLength
	if length < 0 && whole && n > 0 {
		length = n
	}
	for i := range s.fields {
		if f := &s.fields[i]; f.ID != wire.ContentLength {
			dst = appendHpackField(dst, f)
		}
	}
	if length >= 0 {
		dst = appendHpackInt(dst, 0, 4, 28)
		var digits [20]byte
		dst = appendHpackText(dst, strconv.AppendInt(digits[:0], length, 10))
	}
	return dst
}

// unsent reports whether the endpoint provably did nothing for the request: it said so, or the
// request never left this process. The lock is held.
func (b *h2Back) unsent() bool {
	return b.id == 0 || errors.Is(b.err, errH2Refused) || b.place >= b.h.base
}

// why is the error of the stream. The lock is held.
func (b *h2Back) why() error {
	if b.err == nil {
		return errH2Gone
	}
	return b.err
}

// sendRest sends what the windows kept back as the request began.
func (b *h2Back) sendRest(p []byte, whole bool) {
	defer close(b.rest)
	b.client.mu.Lock()
	defer b.client.mu.Unlock()
	if b.h2Stream.send(p, false) == nil && whole {
		_ = b.finish(nil) // head says why
	}
}

// awaitRest returns when what comes next of the body may be sent.
func (b *h2Back) awaitRest() {
	if b.rest != nil {
		<-b.rest
	}
}

func (b *h2Back) sendBody(p []byte) error {
	b.awaitRest()
	b.client.mu.Lock()
	defer b.client.mu.Unlock()
	return b.h2Stream.send(p, false)
}

func (b *h2Back) endBody(trailers []wire.Field) error {
	b.awaitRest()
	b.client.mu.Lock()
	defer b.client.mu.Unlock()
	return b.finish(trailers)
}

// finish ends the request's body. The lock is held.
func (b *h2Back) finish(trailers []wire.Field) error {
	if b.localEnd || b.err != nil {
		return b.err
	}
	if !b.final && b.due != 0 { // the whole request is out: the time for the answer's head begins now
		b.due = max(b.due, b.h.p.sweep.clock.Load()+int64(until(b.deadline, b.patience))+int64(watchTick))
	}
	if len(trailers) == 0 {
		return b.sendEnd()
	}
	var block []byte
	for i := range trailers {
		if !wire.HopByHop(trailers[i].ID) {
			block = appendHpackField(block, &trailers[i])
		}
	}
	err := b.sendHead(block, http2.FlagHeadersEndStream)
	b.h.kick()
	return err
}

func (b *h2Back) head(x *exchange.Exchange, r *wire.Response) (unsent bool, err error) {
	h := &b.client.h2Conn
	wait := b.client.link.l.up.wait(x)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.p.h2.putHead(b.current)
	b.current = nil
	b.arm(wait)
	for len(b.heads) == 0 {
		if b.err != nil {
			b.due = 0
			return b.unsent(), b.err
		}
		b.canRead.Wait()
	}
	b.due = 0
	b.current = b.heads[0]
	b.heads = b.heads[:copy(b.heads, b.heads[1:])]
	b.current.view(r)
	if r.Status >= 200 {
		b.trailing = r.Field(wire.Trailer) != nil
		b.bodiless = b.headless || r.Status == 204 || r.Status == 304
	}
	return false, nil
}

// view fills r from a head that was checked. The fields are copied: r outlives the head, whose memory the next answer on another connection gets, and
// would have written into r's fields, and r's next answer into that one's: clients got parts of what was others'.
func (f *h2Fields) view(r *wire.Response) {
	r.Reset()
	v := f.list[0].Value
	r.Status, r.Minor = int(v[0]-'0')*100+int(v[1]-'0')*10+int(v[2]-'0'), 1
	r.Fields = append(r.Fields[:0], f.list[1:]...)
	for i := range r.Fields {
		if r.Fields[i].ID == wire.ContentLength {
			r.ContentLength, _ = parseH2Length(r.Fields[i].Value)
		}
	}
}

func (b *h2Back) ready() bool {
	for again := false; ; again = true {
		b.client.mu.Lock()
		is := len(b.recv) > 0 || b.remoteEnd || b.err != nil
		b.client.mu.Unlock()
		if is || again {
			return is
		}
		runtime.Gosched() // the reader may be about to deliver what came together with the head
	}
}

func (b *h2Back) body() (p []byte, more bool, err error) {
	h := &b.client.h2Conn
	wait := until(b.deadline, b.client.link.l.up.cfg().Timeouts.Idle)
	h.mu.Lock()
	defer h.mu.Unlock()
	b.arm(wait)
	p, err = b.take()
	b.due = 0
	return p, len(b.recv) > 0 || b.remoteEnd && err == nil, err
}

func (b *h2Back) length() int64 {
	b.client.mu.Lock()
	defer b.client.mu.Unlock()
	switch {
	case b.bodiless:
		return noBody
	case b.want >= 0 && !b.trailing:
		return b.want
	case b.remoteEnd && b.got == 0 && len(b.trail.list) == 0:
		return 0
	}
	return -1
}

func (b *h2Back) trailers() []wire.Field { return b.trail.list }

func (b *h2Back) cancel() {
	b.client.mu.Lock()
	if !b.released {
		b.stop(errClientGone)
	}
	b.client.mu.Unlock()
}

// stop ends the request early. The lock is held.
func (b *h2Back) stop(err error) {
	if b.id == 0 {
		b.err = err
		return
	}
	b.reset(http2.ErrCodeCancel, err)
}

func (b *h2Back) release(bool) {
	h := &b.client.h2Conn
	h.mu.Lock()
	if b.released {
		h.mu.Unlock()
		return
	}
	b.released = true
	if b.id != 0 {
		if b.err == nil && !(b.localEnd && b.remoteEnd) {
			b.reset(http2.ErrCodeCancel, errH2Stopped)
		}
		b.remove()
	}
	h.p.h2.putHead(b.current)
	for _, f := range b.heads {
		h.p.h2.putHead(f)
	}
	b.current, b.heads = nil, nil
	h.mu.Unlock()
	b.client.slots.Add(-1)
	b.client.link.wake()
}

// tick ends the request when its endpoint took too long, or nobody waits for it any more. The lock is held.
func (b *h2Back) tick(now int64) {
	if b.due == 0 {
		return
	}
	if b.due > now {
		b.lookAfter(now)
		return
	}
	// While the request's body moves, or its client takes its time, the time for the answer's head has not begun. How long clients may take is the
	// listener's business: calls of gRPC that are conversations may be silent for hours.
	if !b.final && !b.localEnd && (!b.blocked || b.sent != b.seenSent) && (b.deadline.IsZero() || time.Now().Before(b.deadline)) {
		b.seenSent = b.sent
		b.arm(until(b.deadline, b.patience))
		return
	}
	b.due = 0
	b.stop(os.ErrDeadlineExceeded)
}

// lookAfter looks whether the client is still there. The lock is held.
func (b *h2Back) lookAfter(now int64) {
	if b.asker == nil || now < b.look || !b.localEnd {
		return
	}
	b.pause = min(2*b.pause, lookEvery)
	b.look = now + int64(b.pause)
	if b.asker.sock.left(b.asker.endsByClosing()) {
		b.due = 0
		b.stop(errClientGone)
	}
}

// checkHead looks whether an answer head is as RFC 9113 §8.3.2 wants it.
func checkHead(f *h2Fields, end bool) (status int, length int64, ok bool) {
	length = -1
	if f.over || len(f.list) == 0 || f.list[0].ID != idStatus || len(f.list[0].Value) != 3 {
		return 0, 0, false
	}
	for _, c := range f.list[0].Value {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || status == 101 || status < 200 && end {
		return 0, 0, false
	}
	for i := range f.list[1:] {
		t := &f.list[1+i]
		if t.ID >= idAuthority || !validH2Field(t) {
			return 0, 0, false
		}
		if t.ID == wire.ContentLength {
			n, fine := parseH2Length(t.Value)
			if !fine || length >= 0 && length != n {
				return 0, 0, false
			}
			length = n
		}
	}
	return status, length, true
}

// arrivedHead takes an answer head. The lock is held.
func (b *h2Back) arrivedHead(f *h2Fields, end bool) bool {
	status, length, ok := checkHead(f, end)
	if !ok {
		return false
	}
	if status < 200 && len(b.heads) >= h2Heads {
		b.client.p.h2.putHead(f)
		return true
	}
	if status >= 200 {
		b.final = true
		if !b.headless && status != 204 && status != 304 {
			b.want = length
			if end && length > 0 {
				return false
			}
		}
		if end {
			b.closeRemote()
		}
	}
	b.heads = append(b.heads, f)
	b.canRead.Signal()
	return true
}

var _ back = (*h2Back)(nil)
