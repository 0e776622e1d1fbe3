package proxy

import (
	"errors"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// MaxPeek is the most that Peek looks at. A peeked body is held in memory until its exchange ends.
const MaxPeek = 1 << 20

// Peek waits for the first n bytes of the request body of x, or all of it when it is shorter, without taking them from the endpoint.
// body is valid until the exchange ends; whole says that nothing follows it. A client that waits for 100 Continue gets it. The deadlines
// and minimum rate of request bodies hold, and the deadline of x. Over HTTP/2 no more than the stream's window of 256 KiB is looked at.
//
// It is called on the goroutine of x, before the exchange goes on to its endpoint. After it x.Replayable says whether the
// whole body is in memory now. When err is a *exchange.Refusal, that is the answer; any other error means that the
// client left: x.Outcome says so, and there is nobody to answer. A body that is longer than its limit is refused as soon as that is seen: nobody should
// look for attacks in what no endpoint will get.
func Peek(x *exchange.Exchange, n int) (body []byte, whole bool, err error) {
	f, is := x.Front.(front)
	if !is || x.Request == nil {
		return nil, true, nil
	}
	n = min(n, MaxPeek)
	limit := maxBody(x)
	if limit > 0 {
		if x.Request.ContentLength > limit {
			return nil, false, refuseBodyLarge
		}
		n = int(min(int64(n), limit+1)) // one more shows that it is too long
	}
	body, whole, err = f.peek(n, x.Deadline)
	if err == nil && limit > 0 && int64(len(body)) > limit {
		return nil, false, refuseBodyLarge
	}
	if err == nil {
		if !x.Replayable {
			_, x.Replayable = f.pending()
		}
		return body, whole, nil
	}
	var bad *wire.Error
	switch {
	case errors.Is(err, errBodySlow) && !x.Deadline.IsZero() && !time.Now().Before(x.Deadline):
		return nil, false, refuseDeadline
	case errors.Is(err, errBodySlow):
		return nil, false, refuseBodySlow
	case errors.Is(err, errBodyLarge):
		return nil, false, refuseBodyLarge
	case errors.As(err, &bad):
		return nil, false, refuseBodyBad
	}
	x.Outcome.Aborted = true
	f.abort()
	return nil, false, errClientGone
}

// goOn is what a client with Expect: 100-continue waits for.
var goOn = &wire.Response{Status: 100}

// peeking is what a connection keeps of a body that was looked at before it is sent on.
type peeking struct {
	body      []byte    // looked at, from a lent buffer
	given     int       // bytes of body that were sent on
	until     time.Time // the deadline of looking; zero: none
	continued bool      // the client was told to go on
}

func (w *h1Work) peek(n int, until time.Time) ([]byte, bool, error) {
	if p, whole := w.pending(); whole {
		return p[:min(n, len(p))], len(p) <= n, nil
	}
	h, k := w.h, &w.peeked
	want := n
	if !w.chunked {
		want = int(min(int64(n), w.left))
	}
	switch {
	case k.body != nil: // a second look, at more
	case want <= bufferSize && !w.chunked:
		k.body = h.p.heap.get()[:0]
	case want <= bulkSize:
		k.body = h.p.heap.getBulk()[:0]
	default:
		k.body = make([]byte, 0, want)
	}
	k.until = until
	for len(k.body) < n && !w.bodyEnd && w.bodyErr == nil {
		p := w.nextBody(n - len(k.body))
		w.taken += int64(len(p))
		if len(p) > 0 {
			h.p.heap.put(k.keep(p))
			continue
		}
		if w.bodyErr != nil || w.bodyEnd {
			break
		}
		if w.req.Expect100 && !k.continued {
			if err := w.inform(goOn); err != nil {
				return nil, false, err
			}
			k.continued = true
		}
		w.fillBody()
	}
	k.until = time.Time{}
	if w.bodyErr != nil {
		return nil, false, w.bodyErr
	}
	w.bodyDone.Store(w.bodyEnd)
	return k.body[:min(n, len(k.body))], w.bodyEnd && len(k.body) <= n, nil
}

// keep appends p, and returns the buffer that became too small for it.
func (k *peeking) keep(p []byte) (old []byte) {
	if len(k.body)+len(p) > cap(k.body) { // chunks come as they are: up to one read buffer beyond what was asked for
		old = k.body
	}
	k.body = append(k.body, p...)
	return old
}

// next is what was looked at and not sent on yet.
func (k *peeking) next() []byte {
	p := k.body[k.given:]
	k.given = len(k.body)
	return p
}

// pending is what pending says of a body that was looked at. Its trailers cannot be sent with a body that goes out at once.
func (k *peeking) pending(w *h1Work) ([]byte, bool) {
	if !w.bodyEnd || k.given > 0 || w.chunked && len(w.chunks.Trailers()) > 0 {
		return nil, false
	}
	return k.body, true
}

// release gives the buffer back.
func (k *peeking) release(b *buffers) {
	if k.body != nil { // storing costs more than looking
		b.put(k.body)
		*k = peeking{}
	}
}

// peek leaves the bytes where they are, and gives a body that is looked at the window which that needs: all streams of a connection may be looked at.
func (f *h2Front) peek(n int, until time.Time) ([]byte, bool, error) {
	h := f.h
	n = min(n, h2StreamWin)
	h.mu.Lock()
	defer h.mu.Unlock()
	if more := n + h2Padding - f.window; more > 0 && len(f.recv) < n && !f.remoteEnd && f.err == nil {
		h.grown += more
		f.owed += more
		f.window += more
		f.giveBack()
	}
	late := false
	for len(f.recv) < n && !f.remoteEnd {
		switch {
		case f.readErr != nil:
			return nil, false, f.readErr
		case f.err != nil:
			return nil, false, f.err
		case late:
			return nil, false, errBodySlow
		}
		if f.req.Expect100 && !f.told100 {
			f.told100 = true
			if err := f.sendHead(appendHpackStatus(nil, 100), 0); err != nil {
				return nil, false, err
			}
			h.kick()
		}
		if !until.IsZero() { // only who waits pays for a timer
			t := time.AfterFunc(time.Until(until), func() {
				h.mu.Lock()
				late = true
				f.canRead.Broadcast()
				h.mu.Unlock()
			})
			defer t.Stop()
			until = time.Time{}
		}
		f.waiting = true
		f.canRead.Wait()
		f.waiting = false
	}
	if f.readErr != nil {
		return nil, false, f.readErr
	}
	return f.recv[:min(n, len(f.recv))], f.remoteEnd && len(f.recv) <= n, nil
}
