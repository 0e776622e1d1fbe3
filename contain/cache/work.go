package cache

import (
	"net/http"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// drainMost is how much is read of a body that nobody wants, so that its connection can carry another request.
const drainMost = 16 << 10

// work is what a cache does for one exchange, and the tap of its answer. It is reused.
type work struct {
	c  *Cache
	p  *Policy
	a  ask
	q  query
	in found // what was there as it was asked for

	leads  bool         // others wait for what this one finds
	ends   word         // what they are told if nothing better is known
	sent   []wire.Field // the request's fields as the endpoint is asked with
	old    *Object      // that the endpoint may say still holds; nil: none
	asked  time.Time
	era    uint64 // of the store, as it was asked
	fwd    string // why an endpoint is asked, in a word of RFC 9211
	behind bool   // no client waits: everything is taken

	got     got
	object  *Object // that is coming in
	body    []byte
	claimed int64 // of the memory for what comes in
	drained int
	result  *Object // to answer with, when got says so

	out  []wire.Field // of an answer from memory
	text []byte       // of Age and Cache-Status
}

// got is what a tap took.
type got uint8

const (
	gotNothing  got = iota // the answer went to the client, or there was none
	gotValid               // what is stored still holds: answer with result
	gotMismatch            // a 304 that is not about what is stored
	gotError               // the endpoint failed, and there is something stale for that: result
	gotSame                // the client has it already: answer 304 with result
	gotRefresh             // of a refresh, which no client waits for
)

func (c *Cache) work(p *Policy) *work {
	w := c.works.Get().(*work)
	w.c, w.p = c, p
	return w
}

// done gives w back. A leader that never said what became of its request, because a stage panicked, hands over.
func (w *work) done() {
	w.tell(w.ends)
	w.unclaim()
	c := w.c
	*w = work{q: query{key: w.q.key[:0], extra: w.q.extra[:0]}, sent: clear0(w.sent), out: clear0(w.out), text: w.text[:0]}
	c.works.Put(w)
}

func clear0(f []wire.Field) []wire.Field {
	clear(f)
	return f[:0]
}

// tell ends the wait of those who wait for w.
func (w *work) tell(said word) (told int) {
	if !w.leads {
		return 0
	}
	w.leads = false
	return w.c.flights.settle(w.in.flight, said)
}

// Head implements exchange.Tap.
func (w *work) Head(x *exchange.Exchange, status int, fields []wire.Field, length int64) (exchange.Taking, []wire.Field) {
	now := w.c.deps.Now()
	if w.a.method == methodUnsafe {
		if status >= 200 && status <= 399 {
			w.changed(x, fields)
		}
		if w.p == nil {
			return exchange.TakeNothing, nil
		}
		return exchange.TakeNothing, w.mark(status, false)
	}
	if w.a.apart || w.a.method != methodGet {
		return exchange.TakeNothing, w.mark(status, false)
	}
	s := readAnswer(fields)
	switch {
	case status == http.StatusNotModified && w.old != nil:
		w.renew(fields, now)
		return exchange.TakeAll, nil
	case isError(status) && !w.behind && w.old != nil && allowed(w.old, &w.a, CauseFailed, now),
		(status == 429 || status == 503) && !w.behind && w.old != nil && allowed(w.old, &w.a, CauseOverloaded, now):
		w.got, w.result = gotError, w.old
		return exchange.TakeAll, nil
	}
	if !storable(&w.a, status, &s, w.p) || length > int64(w.p.Body) || !w.claim(max(length, 0)) {
		return w.unshared(status, now)
	}
	o := build(status, fields, &s, now)
	o.key, o.extra, o.vary = string(w.q.key), string(w.q.extra), vary(s.vary, w.q.fields)
	o.era, o.print, o.volatile = w.era, w.p.Print, s.control.NoStore
	o.schedule(&s, w.p, w.asked, now)
	if !o.useful(now) || o.life <= 0 && !o.validator() && o.ifError <= 0 && o.ifOverloaded <= 0 && o.whileRevalidate <= 0 {
		return w.unshared(status, now)
	}
	w.object = o
	if length > 0 {
		w.body = make([]byte, 0, length)
	}
	if w.behind {
		w.got = gotRefresh
		return exchange.TakeAll, nil
	}
	if w.a.conditional() && w.a.notModified(o) {
		w.got, w.result = gotSame, o
		return exchange.TakeAll, nil
	}
	return exchange.TakeCopy, w.mark(status, true)
}

// unshared is for an answer that is for this client alone: those who wait go on by themselves, and others are not held together with them for a while.
func (w *work) unshared(status int, now time.Time) (exchange.Taking, []wire.Field) {
	failed := status >= 500 || status == 429 // says nothing about what is stored (RFC 9111 §4.3.3)
	if failed {
		w.tell(word{kind: wordLead}) // another may fare better
	} else {
		if w.leads && (w.c.flights.followers(w.in.flight) > 0 || w.a.conditional()) {
			w.c.store.put(marker(string(w.q.key), string(w.q.extra), w.a.personal, now), now)
		}
		w.tell(word{kind: wordAlone})
	}
	if w.old != nil && !failed { // this answer is newer than what is stored
		w.c.drop(w.old)
	}
	if w.behind {
		w.got = gotRefresh
		return exchange.TakeAll, nil
	}
	return exchange.TakeNothing, w.mark(status, false)
}

// renew puts what a 304 says over what is stored (RFC 9111 §4.3.4).
func (w *work) renew(fields []wire.Field, now time.Time) {
	if tag, is := wire.FieldNamed(fields, "etag"); is && w.old.etag != nil && string(opaque(tag)) != string(opaque(w.old.etag)) {
		w.got = gotMismatch
		return
	}
	merged := w.old.renewed(fields)
	s := readAnswer(merged)
	o := build(w.old.status, merged, &s, now)
	o.key, o.extra, o.vary, o.body = w.old.key, w.old.extra, w.old.vary, w.old.body
	o.era, o.print, o.volatile = w.era, w.p.Print, w.old.volatile
	s.age = 0 // merged holds no Age of old, but one of the 304 counts
	if age, is := wire.FieldNamed(fields, "age"); is {
		s.age, _ = seconds(age)
	}
	o.schedule(&s, w.p, w.asked, now)
	o.weigh()
	w.got, w.result = gotValid, o
	// A 304 is an answer to this client too: what it sets for him, or says to one with Authorization, is not for others.
	if s.control.NoStore || !storable(&w.a, o.status, &s, w.p) {
		w.c.drop(w.old)
		return
	}
	o.uses.Store(w.old.uses.Load())
	if w.c.store.put(o, now) && o.life >= diskRenewed {
		w.c.disk.offer(o)
	}
}

// Body implements exchange.Tap.
func (w *work) Body(_ *exchange.Exchange, p []byte) bool {
	if w.object == nil {
		w.drained += len(p)
		return w.drained <= drainMost
	}
	if n := len(w.body) + len(p); n > cap(w.body) && !w.grow(n) {
		w.object, w.body = nil, nil
		w.unclaim()
		if w.got != gotSame {
			w.alone()
		}
		return false
	}
	w.body = append(w.body, p...)
	return true
}

// alone is for an answer that turned out on its way to be one that cannot be kept: nobody waits for the like of it for a while.
func (w *work) alone() {
	now := w.c.deps.Now()
	w.c.store.put(marker(string(w.q.key), string(w.q.extra), w.a.personal, now), now)
	w.tell(word{kind: wordAlone})
}

// grow makes room for n bytes of a body, when they may be kept.
func (w *work) grow(n int) bool {
	most := int(w.p.Body)
	if n > most {
		return false
	}
	size := min(max(n, 2*cap(w.body), 4<<10), most)
	if !w.claim(int64(size) - w.claimed) {
		return false
	}
	w.body = append(make([]byte, 0, size), w.body...)
	return true
}

// End implements exchange.Tap.
func (w *work) End(_ *exchange.Exchange, how exchange.Ending) {
	o := w.object
	w.object = nil
	switch {
	case o == nil:
		return
	case how == exchange.Trailed: // as are the answers to others
		w.alone()
		return
	case how != exchange.Whole:
		w.ends, w.body = word{kind: wordLead}, nil // another answer may come in its place
		w.unclaim()
		return
	}
	o.body = w.body
	if cap(o.body)-len(o.body) > len(o.body)/8 {
		o.body = append(make([]byte, 0, len(w.body)), w.body...)
	}
	w.body = nil
	w.unclaim()
	o.weigh()
	switch {
	case w.c.store.put(o, w.c.deps.Now()):
		w.c.stored.Add(1)
		w.c.disk.offer(o)
		w.tell(word{kind: wordStored})
	case o.era != w.c.store.era(w.q.hash):
		w.tell(word{kind: wordStored})
	default:
		w.tell(word{kind: wordAlone})
	}
}

// claim takes n bytes more of what may come in at once for w.
func (w *work) claim(n int64) bool {
	if !w.c.claim(n) {
		return false
	}
	w.claimed += n
	return true
}

func (w *work) unclaim() {
	if w.claimed != 0 {
		w.c.capturing.Add(-w.claimed)
		w.claimed = 0
	}
}

// nameStatus and nameAge are fields of answers.
var (
	nameStatus = []byte("Cache-Status")
	nameAge    = []byte("Age")
)

// mark is the Cache-Status of an answer that goes to the client (RFC 9211).
func (w *work) mark(status int, stored bool) []wire.Field {
	b := append(append(w.text[:0], "evenkeel; fwd="...), w.fwd...)
	if w.old != nil {
		b = strconv.AppendInt(append(b, "; fwd-status="...), int64(status), 10)
	}
	if stored {
		b = append(b, "; stored"...)
	}
	w.text = b
	w.out = append(w.out[:0], wire.Field{Name: nameStatus, Value: b})
	return w.out
}

// answer answers with o. why is what Cache-Status says besides its time to live.
func (w *work) answer(x *exchange.Exchange, o *Object, why string, same bool) *exchange.Refusal {
	now := w.c.deps.Now()
	age := o.age(now)
	b := strconv.AppendInt(w.text[:0], int64(age/time.Second), 10)
	n := len(b)
	b = strconv.AppendInt(append(append(append(b, "evenkeel; "...), why...), "; ttl="...), int64((o.life-age)/time.Second), 10)
	w.text = b
	status, body := o.status, o.body
	w.out = w.out[:0]
	if same || w.a.conditional() && w.a.notModified(o) {
		status, body = http.StatusNotModified, nil
		for i := range o.fields {
			if told304(&o.fields[i]) {
				w.out = append(w.out, o.fields[i])
			}
		}
	} else {
		w.out = append(w.out, o.fields...)
	}
	w.out = append(w.out, wire.Field{Name: nameAge, Value: b[:n:n]}, wire.Field{Name: nameStatus, Value: b[n:]})
	return w.c.deps.Answer(x, status, w.out, body)
}

// told304 reports whether a field stands in a 304 answer too (RFC 9110 §15.4.5), or is none that describes the body.
func told304(f *wire.Field) bool {
	const content = "content-"
	if f.ID == wire.ContentType || f.ID == wire.ContentLength {
		return false
	}
	return len(f.Name) < len(content) || !wire.EqualFold(f.Name[:len(content)], content) || wire.EqualFold(f.Name, "content-location")
}
