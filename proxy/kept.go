package proxy

import (
	"cmp"
	"sync"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// Keep has what is sent on of the request body of x kept, up to most bytes, so that another attempt can send it again. It is for bodies whose length nobody
// knows before: they stream to the first endpoint as they come, and a copy stays here until the answer begins, or more came than most.
//
// reserve is asked for the memory, in bytes, and given it back by a negative number; when it refuses, the body is not kept. It may be called on any goroutine.
// Who calls Keep calls Unkeep when the last attempt is over. x.Kept says after each failed attempt whether there may be another.
func Keep(x *exchange.Exchange, most int, reserve func(bytes int64) bool) {
	f, is := x.Front.(front)
	if !is || x.Request == nil || most <= 0 {
		return
	}
	k := &kept{most: min(most, bulkSize), reserve: reserve}
	k.turn.L = &k.mu
	f.scratch().kept = k
}

// Unkeep ends what Keep began. What of the body is still to come belongs to nobody then, as after any attempt that failed. It is called on the goroutine of x.
func Unkeep(x *exchange.Exchange) {
	f, is := x.Front.(front)
	if !is {
		return
	}
	s := f.scratch()
	k := s.kept
	if k == nil {
		return
	}
	s.kept, x.Kept = nil, false
	if k.pump != nil && !k.pump.ended() {
		f.stopBody()
		k.stop()
		_, _ = k.pump.wait()
	}
	k.drop()
}

// kept is a request body on its way to an endpoint with a copy of what has gone. Its pump outlives attempts: between them it goes on reading, as far as
// there is room, so that the client does not notice, and waits with what does not fit until there is an endpoint to send it to. So a repeat begins
// with what is kept, goes on with what still comes, and no attempt waits for the client longer than its endpoint does.
type kept struct {
	most    int
	reserve func(int64) bool
	heap    *buffers
	pump    *pump // nil: nothing was read yet
	atOnce  bool  // all of it went out with the head, and is where it was

	mu       sync.Mutex // guards what follows
	turn     sync.Cond
	body     []byte // in a lent buffer
	to       back   // nil: there is no endpoint now
	toErr    error  // why the last one took no more
	lent     bool   // an attempt sends body: it must neither move nor grow
	still    bool   // it is being decided about a repeat, for which nothing may get lost
	sending  bool   // the pump is in a call of to
	lost     bool   // something went on that is not in body
	failed   bool   // the client's side did
	over     bool   // nobody wants the rest
	ended    bool   // the client has sent all
	trailers []wire.Field
}

// sendBody keeps p and sends it on. An error means that the rest is of no use to anybody.
func (k *kept) sendBody(p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.lent || !k.over && !k.lost && !k.take(p) {
		if !k.lent && !k.still && k.to != nil {
			k.forget()
			break
		}
		if k.over {
			break
		}
		k.turn.Wait()
	}
	switch {
	case k.over:
		return errBodyStopped
	case k.to != nil:
		k.call(p)
	}
	if k.lost && k.to == nil {
		return cmp.Or(k.toErr, errBodyStopped)
	}
	return nil
}

// endBody ends the body. It returns why the endpoint of now did not take it all.
func (k *kept) endBody(trailers []wire.Field) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.lent && !k.over {
		k.turn.Wait()
	}
	k.ended, k.trailers = true, trailers
	if k.to != nil {
		k.call(nil)
	}
	return k.toErr
}

// call sends p to the endpoint, or the end when that has come, without the lock, which is held before and afterwards. One that fails gets no more: its answer
// decides what comes of it.
func (k *kept) call(p []byte) {
	b, err := k.to, errPump
	k.sending = true
	ended := k.ended
	k.mu.Unlock()
	defer func() { // after a panic too, for which err is as it was
		k.mu.Lock()
		k.sending = false
		if err != nil {
			k.toErr = err
			if k.to == b {
				k.to = nil
			}
		}
		k.turn.Broadcast()
	}()
	if ended {
		err = b.endBody(k.trailers)
		return
	}
	err = b.sendBody(p)
}

// take copies p behind what is kept, if there is room. The lock is held.
func (k *kept) take(p []byte) bool {
	need := len(k.body) + len(p)
	if need > k.most {
		return false
	}
	if need <= cap(k.body) {
		k.body = append(k.body, p...)
		return true
	}
	size := bufferSize
	if need > bufferSize {
		size = bulkSize
	}
	if !k.reserve(int64(size - cap(k.body))) {
		return false
	}
	old, next := k.body, []byte(nil)
	if size == bufferSize {
		next = k.heap.get()
	} else {
		next = k.heap.getBulk()
	}
	k.body = append(append(next[:0], old...), p...)
	if old != nil {
		k.heap.put(old)
	}
	return true
}

// forget gives the memory back: nothing can be repeated any more. The lock is held.
func (k *kept) forget() {
	k.lost = true
	if k.body != nil {
		k.reserve(-int64(cap(k.body)))
		k.heap.put(k.body)
		k.body = nil
	}
}

// drop is forget when no further attempt is wanted.
func (k *kept) drop() {
	k.mu.Lock()
	k.forget()
	k.still = false
	k.turn.Broadcast()
	k.mu.Unlock()
}

// lend is what another attempt has to send first, and whether that is all. It is valid until attach.
func (k *kept) lend() (p []byte, whole bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lent, k.toErr = true, nil
	return k.body, k.ended && len(k.trailers) == 0
}

// attach lets b have the rest. more: there is some, which the pump sends.
func (k *kept) attach(b back) (more bool) {
	k.mu.Lock()
	k.lent = false
	ended := k.ended
	if !ended {
		k.to = b
		if k.failed { // the pump is gone, and could not tell b
			b.cancel()
		}
	}
	k.turn.Broadcast()
	k.mu.Unlock()
	if ended && len(k.trailers) > 0 {
		_ = b.endBody(k.trailers) // the endpoint's answer decides, as for every part of a body
	}
	return !ended
}

// hold reports whether another attempt could have the whole body, and sees to it that this stays so until detach or drop.
func (k *kept) hold() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.still = true
	return k.repeatable()
}

// repeatable reports whether nothing has got lost. The lock is held.
func (k *kept) repeatable() bool {
	if k.pump == nil {
		return k.atOnce
	}
	return !k.lost && !k.failed && !k.over
}

// detach takes the body from an endpoint that gets no more of it, and reports whether another can have it. Without a repeat what comes then is kept as far as there
// is room.
func (k *kept) detach(b back) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.to, k.lent, k.still = nil, false, false
	k.turn.Broadcast()
	if k.sending {
		k.mu.Unlock()
		b.cancel()
		k.mu.Lock()
	}
	for k.sending {
		k.turn.Wait()
	}
	return k.repeatable()
}

// stop ends the pump soon, when the front's stopBody was called too.
func (k *kept) stop() {
	k.mu.Lock()
	k.over = true
	if k.to != nil {
		k.to.cancel()
	}
	k.turn.Broadcast()
	k.mu.Unlock()
}

// cancel tells the endpoint that the client's side failed.
func (k *kept) cancel() {
	k.mu.Lock()
	k.failed = true
	if k.to != nil {
		k.to.cancel()
	}
	k.turn.Broadcast()
	k.mu.Unlock()
}

// atHand is what of the request body goes out with the head, and whether that is all. An error is the client's.
func (a *attempt) atHand(k *kept) (p []byte, whole bool, err error) {
	if k != nil && k.pump != nil {
		if err := k.pump.clientErr(); err != nil { // while there was no endpoint
			return nil, false, err
		}
		p, whole = k.lend()
		return p, whole, nil
	}
	p, whole = a.f.pending()
	if limit := maxBody(a.x); limit > 0 && int64(len(p)) > limit { // HTTP/2 need not say the length before
		return nil, false, errBodyLarge
	}
	if k != nil {
		k.atOnce = whole && len(p) <= k.most
	}
	return p, whole, nil
}

// carry has what did not go out with the head sent behind it.
func (a *attempt) carry(k *kept, whole bool) {
	in, limit := a.x.Endpoint.Link.(*Link).up.proxy, maxBody(a.x)
	switch {
	case k != nil && k.pump != nil:
		if k.attach(a.b) {
			a.pump = k.pump
		}
	case whole:
		return
	case k != nil:
		k.heap, k.to = &in.heap, a.b
		k.pump = startPump(a.f, k, limit, in)
		a.pump = k.pump
	default:
		a.pump = startPump(a.f, a.b, limit, in)
	}
	if a.pump != nil {
		a.x.Endpoint.Heard(a.x) // how long it waits now depends on the client too
	}
}

// part ends an attempt that may have a successor: finish, but for the client's body, if that could be sent again.
func (a *attempt) part(reuse bool) {
	k := a.f.scratch().kept
	if k == nil {
		a.finish(reuse)
		return
	}
	comes := a.pump != nil && !a.pump.ended() && !(a.f.bodyRead() && a.pump.soon())
	a.x.Kept = k.detach(a.b)
	if !comes || !a.x.Kept {
		a.finish(reuse && !comes)
		return
	}
	a.untap(exchange.Cut)
	a.f.watchCancel(nil)
	a.b.release(false)
}
