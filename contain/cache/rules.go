package cache

import (
	"net/http"
	"time"

	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// said is what an answer head says to a cache.
type said struct {
	control    Control
	age        time.Duration
	date       time.Time // zero: none that can be read
	expires    time.Time // zero, with hasExpires: one that is past, or cannot be read, which means the same (RFC 9111 §5.3)
	hasExpires bool
	validator  bool
	cookie     bool // Set-Cookie
	apart      bool // varies by what is not known, or announces trailers
	vary       []string
}

// readAnswer takes in an answer head. CDN-Cache-Control, where it is given, stands for Cache-Control and Expires (RFC 9213).
func readAnswer(fields []wire.Field) said {
	var s said
	var targeted Control
	ages, expires := 0, 0
	for i := range fields {
		f := &fields[i]
		switch {
		case f.ID == wire.SetCookie:
			s.cookie = true
		case f.ID == wire.Date:
			s.date, _ = http.ParseTime(string(f.Value))
		case f.ID == wire.Trailer:
			s.apart = true
		case f.ID != wire.Other:
		case wire.EqualFold(f.Name, "cache-control"):
			s.control.Read(f.Value)
		case wire.EqualFold(f.Name, "cdn-cache-control"):
			targeted.Read(f.Value)
		case wire.EqualFold(f.Name, "expires"):
			if expires++; expires == 1 {
				s.hasExpires = true
				s.expires, _ = http.ParseTime(string(f.Value))
			}
		case wire.EqualFold(f.Name, "age"):
			if ages++; ages == 1 { // §5.1: the first of several; what is no number is passed over
				first, _ := member(f.Value)
				s.age, _ = seconds(first)
			}
		case wire.EqualFold(f.Name, "etag"), wire.EqualFold(f.Name, "last-modified"):
			s.validator = true
		case wire.EqualFold(f.Name, "vary"):
			names, ok := readVary(s.vary, f.Value)
			s.vary, s.apart = names, s.apart || !ok
		}
	}
	if targeted.Said {
		s.control, s.hasExpires = targeted, false
	}
	return s
}

// understood are the statuses whose meaning for caches is known, and that may be kept without a word about it (RFC 9110 §15.1).
func understood(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// isError reports whether an answer means that asking failed (RFC 5861 §4).
func isError(status int) bool {
	return status == 500 || status == 502 || status == 503 || status == 504
}

// storable reports whether an answer may be kept for others (RFC 9111 §3). Beyond the RFC: none that sets a cookie, and none that says
// nothing of its freshness to a request that may be personal.
func storable(a *ask, status int, s *said, p *Policy) bool {
	c := &s.control
	switch {
	case a.method != methodGet, a.apart, a.control.NoStore:
		return false
	case status < 200, status == 206, status == 304, status > 599, s.cookie, s.apart, c.Private:
		return false
	case c.MustUnderstand && !understood(status), c.NoStore && !c.MustUnderstand:
		return false
	case a.authorized && !c.Public && !c.MustRevalidate && !c.SMaxAge.set:
		return false
	}
	life, told := lifetime(status, s, p)
	if told || c.Public && understood(status) {
		return true
	}
	return !a.personal && (life > 0 || status == 200 && s.validator)
}

// lifetime is for how long an answer is fresh (§4.2.1). There are no heuristics: an answer that says nothing is fresh for as long as the site
// says, which is not at all by default. told: the answer says so itself.
func lifetime(status int, s *said, p *Policy) (life time.Duration, told bool) {
	switch c := &s.control; {
	case c.SMaxAge.set || c.SMaxAge.bad:
		return c.SMaxAge.d, true // of one that cannot be read: 0
	case c.MaxAge.set || c.MaxAge.bad:
		return c.MaxAge.d, true
	case s.hasExpires && (s.expires.IsZero() || s.date.IsZero()):
		return 0, true
	case s.hasExpires:
		return max(s.expires.Sub(s.date), 0), true
	}
	switch {
	case status == 404 || status == 410:
		return p.Negative, false
	case isError(status):
		return p.Errors, false
	case understood(status) && status < 400:
		return p.TTL, false
	}
	return 0, false
}

// schedule says until when and for what o may be used. asked and now are when the request was sent and its answer came.
func (o *Object) schedule(s *said, p *Policy, asked, now time.Time) {
	c := &s.control
	apparent := time.Duration(0)
	if !s.date.IsZero() {
		apparent = now.Sub(s.date)
	}
	o.born = now.Add(-max(apparent, s.age+max(now.Sub(asked), 0), 0))
	var told bool
	o.life, told = lifetime(o.status, s, p)
	o.plain = !told && !c.Public
	o.always = c.NoCache
	o.strict = c.MustRevalidate || c.ProxyRevalidate || c.SMaxAge.set
	if c.MustRevalidate || c.NoCache || o.status >= 400 {
		return
	}
	// What the answer itself allows goes before the site; what a shared cache must ask for again, the site cannot allow (§4.2.4, §5.2.2.10).
	allow := func(g given, own time.Duration) time.Duration {
		switch {
		case g.set:
			return g.d
		case o.strict:
			return 0
		}
		return own
	}
	o.whileRevalidate = allow(c.WhileRevalidate, p.WhileRevalidate)
	o.ifError = allow(c.IfError, p.IfError)
	o.ifOverloaded = max(o.ifError, allow(given{}, p.IfOverloaded)) // a refusal for want of capacity is an error too
}

// use is what to do with what is stored.
type use uint8

const (
	useFetch    use = iota // nothing: ask the endpoint
	useFresh               // answer
	useStale               // answer, because the client takes stale ones
	useBehind              // answer, and refresh behind it
	useValidate            // ask whether it still holds
)

// decide says what to do with o, nil for nothing stored, for a request at now (§4, §5.2.1).
func decide(o *Object, a *ask, now time.Time) use {
	if o == nil {
		return useFetch
	}
	c, overdue := &a.control, o.overdue(now)
	switch {
	case o.always, c.NoCache,
		c.MaxAge.set && o.age(now) > c.MaxAge.d,
		c.MinFresh.set && -overdue < c.MinFresh.d:
		return useValidate
	case overdue < 0:
		return useFresh
	case !o.strict && (c.AnyStale || c.MaxStale.set && overdue <= c.MaxStale.d):
		return useStale
	case overdue <= o.whileRevalidate && o.whileRevalidate > 0:
		return useBehind
	}
	return useValidate
}

// Cause is why no answer came from an endpoint.
type Cause uint8

// The causes.
const (
	CauseClient     Cause = iota // the client's own doing, or nothing to do with the pool
	CauseOverloaded              // admission said no: shedder, bulkhead, connection limits
	CauseDown                    // no endpoint is there, or its breaker is open
	CauseFailed                  // an endpoint was tried and failed
	CauseDeadline                // the request's time was over
)

// allowed reports whether o may be used at now because of cause, asked for by a (RFC 5861 §4).
func allowed(o *Object, a *ask, cause Cause, now time.Time) bool {
	if o == nil || o.always || o.pass || cause == CauseClient {
		return false
	}
	overdue := o.overdue(now)
	if overdue < 0 {
		return true
	}
	window := o.ifError
	if cause == CauseOverloaded || cause == CauseDown {
		window = o.ifOverloaded
	}
	if c := &a.control; c.IfError.set && !o.strict {
		window = max(window, c.IfError.d)
	}
	return overdue <= window
}

// Policy is what the site says about caching on one route.
type Policy struct {
	site.RouteCache
	Route string
	// Print changes with everything in the site that answers of the route depend on: files that were kept by other rules are not used. 0: none are.
	Print uint64
	tally *Tally
}
