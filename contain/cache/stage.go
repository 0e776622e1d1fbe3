package cache

import (
	"bytes"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// maxKey bounds what a request may be stored under. Longer targets are searches and states that nobody asks for twice.
const maxKey = 2 << 10

// The refusals of the stage.
var (
	refuseOnly = &exchange.Refusal{Stage: "cache", Reason: "only_if_cached", Status: 504,
		Detail: "Nothing is stored that answers this, and the request wants to ask nobody."}
	refuseLate = &exchange.Refusal{Stage: "cache", Reason: "deadline", Status: 504, Detail: "The deadline of the request passed."}
)

// Stage answers the requests of one listener from memory where it can. It is built with every site.
type Stage struct {
	c        *Cache
	policies []*Policy // by Route.Index; nil: no cache
}

// Stage makes the stage for routes with policies by Route.Index.
func (c *Cache) Stage(policies []*Policy) *Stage {
	for _, p := range policies {
		if p != nil {
			p.tally = c.tally(p.Route)
			p.tally.print.Store(p.Print)
		}
	}
	return &Stage{c, policies}
}

// Serve implements exchange.Stage.
func (s *Stage) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	p := s.policies[x.Route.Index]
	if p == nil {
		if methodOf(x.Request.Method) != methodUnsafe {
			return next.Do(x)
		}
		return s.change(x, next)
	}
	w := s.c.work(p)
	defer w.done()
	w.a.read(x.Request)
	w.a.personal = w.a.personal || x.Customer != nil || x.User != nil // whatever field names them
	if w.a.method == methodUnsafe {
		p.tally.count(x, Bypass)
		w.fwd = "method"
		return w.pass(x, next)
	}
	w.a.apart = w.a.apart || w.a.control.NoStore || w.a.method == methodSafe || !w.key(x)
	if w.a.apart {
		w.fwd = "bypass"
		if w.a.method == methodSafe {
			w.fwd = "method"
		}
		p.tally.count(x, Bypass)
		return w.pass(x, next)
	}
	return w.serve(x, next)
}

// change passes on a request that changes something, on a route that keeps nothing itself.
func (s *Stage) change(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	w := s.c.work(nil)
	defer w.done()
	w.a.method = methodUnsafe
	return w.pass(x, next)
}

// key makes what the request is stored under. false: too long.
func (w *work) key(x *exchange.Exchange) bool {
	k := w.q.key[:0]
	scheme, host := []byte("http"), x.Request.Host
	if x.Secure {
		scheme = []byte("https")
	}
	e := append(append(w.q.extra[:0], x.Route.Name...), 0)
	e = append(e, x.Degrade...)
	if x.Trusted { // what a trusted proxy says of the client's request reaches the endpoint, and so must tell answers apart
		if proto := x.Request.Field(wire.XForwardedProto); len(proto) == 4 || len(proto) == 5 {
			scheme = proto
		}
		for i := range x.Request.Fields {
			if f := &x.Request.Fields[i]; f.ID == wire.XForwardedHost || f.ID == wire.Forwarded {
				e = append(append(e, 0), f.Value...)
			}
		}
	}
	k = append(append(k, scheme...), "://"...)
	k = append(k, x.Host...)
	if at := bytes.LastIndexByte(host, ':'); at >= 0 && bytes.IndexByte(host[at:], ']') < 0 {
		k, host = append(k, host[at:]...), host[:at]
	}
	if !bytes.Equal(host, x.Host) { // endpoints are told it as the client writes it, and some know no SHOP.example, or repeat it in links
		e = append(append(e, 1), host...)
	}
	k = append(k, x.Request.Target...)
	w.q.key, w.q.extra = k, e
	w.q.hash = w.c.store.hash(k)
	w.q.fields, w.q.personal = x.Request.Fields, w.a.personal
	return len(k)+len(e) <= maxKey
}

// lookup finds what is stored, and says what to do with it.
func (w *work) lookup() use {
	w.q.now = w.c.deps.Now()
	w.in = w.c.store.find(&w.q)
	u := decide(w.in.object, &w.a, w.q.now)
	w.old, w.fwd = w.in.object, "uri-miss"
	switch {
	case w.old != nil && w.old.overdue(w.q.now) < 0 && !w.old.always:
		w.fwd = "request"
	case w.old != nil:
		w.fwd = "stale"
	case w.in.others:
		w.fwd = "vary-miss"
	}
	return u
}

// serve answers from memory, or asks.
func (w *work) serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	u, from := w.lookup(), "hit"
	if d := w.c.disk; d != nil && w.old == nil && !w.in.pass && d.bring(&w.q, w.p.Print, x.Deadline) {
		u, from = w.lookup(), "hit; detail=disk"
	}
	switch u {
	case useFresh:
		w.p.tally.count(x, Hit)
		return w.answer(x, w.old, from, false)
	case useStale:
		return w.stale(x, w.old, staleClient)
	case useBehind:
		w.refresh(x, next)
		return w.stale(x, w.old, staleWhile)
	}
	if w.a.control.OnlyIfCached {
		w.p.tally.count(x, Refused)
		return refuseOnly
	}
	if w.a.method == methodHead {
		w.old = nil
		w.p.tally.count(x, Miss)
		return w.pass(x, next)
	}
	if w.in.pass || w.p.Wait <= 0 || u == useValidate && w.old.life <= 0 {
		return w.fetch(x, next)
	}
	return w.together(x, next)
}

// stale answers with what is out of date.
func (w *work) stale(x *exchange.Exchange, o *Object, why int) *exchange.Refusal {
	w.p.tally.count(x, Stale)
	w.p.tally.shards[x.Shard%tallyShards].stale[why].Add(1)
	text := [staleWhys]string{"hit", "hit", "hit; detail=stale-if-error", "hit; detail=stale-if-overloaded"}[why]
	return w.answer(x, o, text, false)
}

// rounds is how often a request waits for others: once without knowing what their answer varies by, once with it, and once more for those whose wait
// ended with an answer that had become stale.
const rounds = 3

// together asks, or waits for another who asks the same.
func (w *work) together(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	end := w.c.deps.Now().Add(w.p.Wait)
	if !x.Deadline.IsZero() && x.Deadline.Before(end) {
		end = x.Deadline
	}
	for range rounds {
		leads, waits := w.c.flights.join(w.in.flight)
		if leads {
			w.leads, w.ends = true, word{kind: wordLead}
			return w.fetch(x, next)
		}
		if waits == nil {
			w.c.crowded.Add(1)
			break
		}
		id := w.in.flight
		said := w.c.flights.wait(id, waits, end.Sub(w.c.deps.Now()))
		switch said.kind {
		case wordLead:
			w.leads, w.ends, w.asked = true, word{kind: wordLead}, time.Time{}
			return w.fetch(x, next)
		case wordRefused:
			return w.refused(x, said.refusal)
		case wordLate:
			w.c.waitedOut.Add(1)
			if !x.Deadline.IsZero() && !w.c.deps.Now().Before(x.Deadline) {
				return w.refused(x, refuseLate)
			}
			return w.fetch(x, next)
		case wordAlone:
			w.lookup()
			return w.fetch(x, next)
		}
		w.a.control.NoCache, w.a.control.MaxAge = false, given{} // an endpoint has been asked since this request came
		switch w.lookup() {
		case useFresh, useStale, useBehind:
			w.p.tally.count(x, Coalesced)
			return w.answer(x, w.old, "fwd=uri-miss; collapsed", false)
		}
	}
	return w.fetch(x, next)
}

// fetch asks an endpoint, and keeps the answer when it may.
func (w *work) fetch(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if w.in.pass && w.old == nil { // the endpoint judges the client's conditions itself: its answers are not kept, as far as is known
		w.p.tally.count(x, Miss)
		return w.carry(x, next)
	}
	for {
		x.Request.Fields = w.question(w.q.fields)
		r := w.carry(x, next)
		x.Request.Fields = w.q.fields
		switch {
		case r != nil:
			return w.refused(x, r)
		case w.got == gotMismatch:
			w.c.drop(w.old)
			w.old, w.got = nil, gotNothing
			continue
		case w.got == gotValid:
			w.tell(word{kind: wordStored})
			w.p.tally.count(x, Revalidated)
			return w.answer(x, w.result, "fwd="+w.fwd+"; fwd-status=304", false)
		case w.got == gotError:
			w.tell(word{kind: wordRefused, refusal: refuseError(x.Result.Status)})
			return w.failed(x)
		case w.got == gotSame:
			w.p.tally.count(x, Miss)
			return w.answer(x, w.result, "fwd="+w.fwd+"; stored", true)
		}
		w.p.tally.count(x, Miss)
		return nil
	}
}

// question makes the fields that an endpoint is asked with: without the client's conditions, with those of what is stored.
func (w *work) question(fields []wire.Field) []wire.Field {
	w.sent = w.sent[:0]
	for i := range fields {
		if !isCondition(fields[i].Name) {
			w.sent = append(w.sent, fields[i])
		}
	}
	if w.old != nil && w.old.etag != nil {
		w.sent = append(w.sent, wire.Field{Name: nameNoneMatch, Value: w.old.etag})
	}
	if w.old != nil && w.old.modified != nil {
		w.sent = append(w.sent, wire.Field{Name: nameModifiedSince, Value: w.old.modified})
	}
	return w.sent
}

// Names of conditions.
var (
	nameNoneMatch     = []byte("If-None-Match")
	nameModifiedSince = []byte("If-Modified-Since")
)

// carry carries x on with w as its tap. What the exchange had is put back even when a stage panics.
func (w *work) carry(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	w.asked, w.era = w.c.deps.Now(), w.c.store.era(w.q.hash)
	if w.p != nil && w.p.tally.print.Load() != w.p.Print {
		w.era = noEra // who waited for others during a reload asks where the route led before it
	}
	outer := x.Tap
	x.Tap = w
	defer func() {
		x.Tap = outer
		if w.q.fields != nil {
			x.Request.Fields = w.q.fields
		}
	}()
	return next.Do(x)
}

// pass carries on what is no question for the cache.
func (w *work) pass(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	w.q.fields = x.Request.Fields
	return w.carry(x, next)
}

// refused answers a request that was refused further in with something stale, or hands the refusal on. Those who wait are told.
func (w *work) refused(x *exchange.Exchange, r *exchange.Refusal) *exchange.Refusal {
	cause := w.c.deps.Cause(r)
	ok := !x.Outcome.Started && allowed(w.old, &w.a, cause, w.c.deps.Now())
	if ok || cause == CauseDown || cause == CauseFailed {
		w.tell(word{kind: wordRefused, refusal: r})
	}
	if !ok {
		w.p.tally.count(x, Refused)
		return r
	}
	x.RetryAfter = 0
	if cause == CauseOverloaded || cause == CauseDown {
		return w.stale(x, w.old, staleOverloaded)
	}
	return w.stale(x, w.old, staleError)
}

// failed answers with something stale instead of the error that an endpoint answered with.
func (w *work) failed(x *exchange.Exchange) *exchange.Refusal {
	w.p.tally.count(x, Stale)
	why, text := staleError, "; detail=stale-if-error"
	if x.Result.Status == 429 {
		why, text = staleOverloaded, "; detail=stale-if-overloaded"
	}
	w.p.tally.shards[x.Shard%tallyShards].stale[why].Add(1)
	return w.answer(x, w.result, "fwd=stale; fwd-status="+strconv.Itoa(x.Result.Status)+text, false)
}

// refuseError is what those are told who waited for an answer that became an error and have nothing stale themselves.
func refuseError(status int) *exchange.Refusal {
	if status == 429 || status == 503 {
		return refuseBusy
	}
	return refuseFailed
}

// The refusals of those who waited.
var (
	refuseBusy = &exchange.Refusal{Stage: "cache", Reason: "endpoint_busy", Status: 503, RetryAfter: time.Second,
		Detail: "The service has more requests than it can answer now."}
	refuseFailed = &exchange.Refusal{Stage: "cache", Reason: "endpoint_failed", Status: 502, Detail: "The service answered with an error."}
)

// changed forgets what is stored of what a request changed, as its answer begins (RFC 9111 §4.4): a client that has the answer, or its head, finds
// nothing from before it.
func (w *work) changed(x *exchange.Exchange, fields []wire.Field) {
	asked := w.q.fields
	if w.key(x) {
		w.c.forget(w.q.key)
	}
	target := bytes.TrimSuffix(w.q.key, x.Request.Target)
	for i := range fields {
		if f := &fields[i]; f.ID == wire.Location || wire.EqualFold(f.Name, "content-location") {
			if k := sameHost(f.Value, target); k != nil {
				w.c.forget(k)
			}
		}
	}
	w.q.fields = asked
}

// sameHost is the key of a place that an answer names, when it is of the same scheme and host as origin, as it must be (§4.4).
func sameHost(place, origin []byte) []byte {
	if at := bytes.IndexByte(place, '#'); at >= 0 {
		place = place[:at]
	}
	switch {
	case len(place) == 0 || bytes.HasPrefix(place, []byte("//")):
		return nil
	case place[0] == '/':
		return append(append([]byte(nil), origin...), place...)
	case bytes.HasPrefix(place, origin) && len(place) > len(origin) && place[len(origin)] == '/':
		return place
	}
	return nil
}
