package cache

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/wire"
)

// objectCost is what an object takes besides its bytes: itself, its place in the table, slices and allocator. Measured: 500 to 650 bytes.
const objectCost = 640

// fieldCost is what one field takes besides its bytes.
const fieldCost = 56

// Object is one stored answer, or the mark that answers of its key cannot be shared. What it says never changes; the store keeps its place in it.
type Object struct {
	key   string // scheme, authority and target
	extra string // route, and what else tells answers apart besides Vary
	hash  uint64
	vary  []varied

	status     int
	fields     []wire.Field // without Age, which is made anew
	body       []byte
	etag       []byte    // nil: none
	modified   []byte    // Last-Modified, nil: none
	modifiedAt time.Time // of it, or else of Date

	born            time.Time     // the moment at which its age was 0
	life            time.Duration // fresh up to this age
	whileRevalidate time.Duration // stale that may be used while it is refreshed
	ifError         time.Duration // … when asking fails
	ifOverloaded    time.Duration // … when asking would be refused
	always          bool          // never used without asking (no-cache)
	strict          bool          // the client's word does not make it usable while stale (must-revalidate, proxy-revalidate, s-maxage)
	plain           bool          // kept without the endpoint's word: for requests that are not personal only

	era      uint64 // in which it was asked for; 0: it is stored in any
	volatile bool   // not for files
	print    uint64 // of the rules that it was kept by; 0: not for files either
	file     string // of the index of files: the name

	pass     bool // a mark: requests are not held together until it is over
	personal bool // the mark holds for personal requests

	size       int64
	refreshing atomic.Bool  // somebody asks for a newer one
	again      atomic.Int64 // Unix nanoseconds before which nobody does

	next       *Object // others of the same key
	queue      *list   // nil: not stored any more
	fore, back *Object // in the queue
	uses       atomic.Uint32
}

// age is how old o is (RFC 9111 §4.2.3).
func (o *Object) age(now time.Time) time.Duration { return max(now.Sub(o.born), 0) }

// overdue is for how long o has not been fresh; negative: it still is, for so long.
func (o *Object) overdue(now time.Time) time.Duration { return o.age(now) - o.life }

// validator reports whether the endpoint can be asked if o still holds.
func (o *Object) validator() bool { return o.etag != nil || o.modified != nil }

// useful reports whether o can ever be used from now on: an object that is not makes room first.
func (o *Object) useful(now time.Time) bool {
	if o.pass {
		return o.overdue(now) < 0
	}
	if o.validator() && (o.always || o.overdue(now) < keepStale) {
		return true
	}
	return !o.always && o.overdue(now) <= max(o.whileRevalidate, o.ifError, o.ifOverloaded)
}

// keepStale is for how long an object is worth asking about after it became stale. What was not asked for in a day is not popular.
const keepStale = 24 * time.Hour

// marker is a mark that answers of a key cannot be shared.
func marker(key, extra string, personal bool, now time.Time) *Object {
	return &Object{key: key, extra: extra, personal: personal, pass: true, born: now, life: passLife, size: int64(len(key)+len(extra)) + objectCost}
}

// passLife is for how long a mark holds. Then one request is in front of others again, to see whether answers can be shared by now.
const passLife = 10 * time.Second

// build copies an answer head into an object. s is what the head says. The body comes later.
func build(status int, fields []wire.Field, s *said, now time.Time) *Object {
	n := 0
	for i := range fields {
		n += len(fields[i].Name) + len(fields[i].Value)
	}
	date := ""
	if s.date.IsZero() { // RFC 9110 §6.6.1
		date = now.UTC().Format(http.TimeFormat)
		n += len("Date") + len(date)
	}
	o := &Object{status: status, fields: make([]wire.Field, 0, len(fields)+1)}
	arena := make([]byte, 0, n)
	keep := func(b []byte) []byte {
		start := len(arena)
		arena = append(arena, b...)
		return arena[start:len(arena):len(arena)]
	}
	for i := range fields {
		f := &fields[i]
		if dropped(f) {
			continue
		}
		c := wire.Field{Name: keep(f.Name), Value: keep(f.Value), ID: f.ID}
		o.fields = append(o.fields, c)
		switch {
		case o.etag == nil && len(c.Name) == 4 && wire.EqualFold(c.Name, "etag"):
			o.etag = c.Value
		case o.modified == nil && len(c.Name) == 13 && wire.EqualFold(c.Name, "last-modified"):
			o.modified = c.Value
		}
	}
	if date != "" {
		o.fields = append(o.fields, wire.Field{Name: keep([]byte("Date")), Value: keep([]byte(date)), ID: wire.Date})
	}
	if at, err := http.ParseTime(string(o.modified)); err == nil {
		o.modifiedAt = at
	} else if o.modifiedAt = s.date; s.date.IsZero() {
		o.modifiedAt = now
	}
	return o
}

// dropped reports whether a field is not stored: it is made anew, or is about one connection (RFC 9111 §3.1). A Date is made when the one that came is none.
func dropped(f *wire.Field) bool {
	switch len(f.Name) {
	case 3:
		return wire.EqualFold(f.Name, "age")
	case 18:
		return wire.EqualFold(f.Name, "proxy-authenticate")
	case 25:
		return wire.EqualFold(f.Name, "proxy-authentication-info")
	}
	if f.ID == wire.Date {
		_, err := http.ParseTime(string(f.Value))
		return err != nil
	}
	return false
}

// weigh sets what o takes of the memory.
func (o *Object) weigh() {
	n := len(o.key) + len(o.extra) + cap(o.body) + objectCost
	for i := range o.fields {
		n += len(o.fields[i].Name) + len(o.fields[i].Value) + fieldCost
	}
	for i := range o.vary {
		n += len(o.vary[i].name) + len(o.vary[i].value) + fieldCost
	}
	o.size = int64(n)
}

// renewed is o with the fields of a 304 answer put over its own (RFC 9111 §3.2). The body is shared.
func (o *Object) renewed(fields []wire.Field) []wire.Field {
	out := make([]wire.Field, 0, len(o.fields)+len(fields))
	for i := range o.fields {
		if _, newer := wire.FieldNamed(fields, string(o.fields[i].Name)); !newer || fixed(&o.fields[i]) {
			out = append(out, o.fields[i])
		}
	}
	for i := range fields {
		if !fixed(&fields[i]) {
			out = append(out, fields[i])
		}
	}
	return out
}

// fixed reports whether a field describes the stored body, which a 304 answer does not change.
func fixed(f *wire.Field) bool {
	return f.ID == wire.ContentLength || f.ID == wire.ContentType || len(f.Name) == 16 && wire.EqualFold(f.Name, "content-encoding") ||
		len(f.Name) == 13 && wire.EqualFold(f.Name, "content-range")
}
