package cache

import (
	"net/http"

	"github.com/even-keel/evenkeel/wire"
)

// method sorts request methods by what a cache does with them.
type method uint8

const (
	methodGet method = iota
	methodHead
	methodSafe   // passes, and changes nothing
	methodUnsafe // passes, and what is stored of its target is out of date after it (RFC 9111 §4.4)
)

func methodOf(m []byte) method {
	switch string(m) {
	case http.MethodGet:
		return methodGet
	case http.MethodHead:
		return methodHead
	case http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return methodSafe
	}
	return methodUnsafe
}

// ask is what a request says to a cache.
type ask struct {
	method     method
	control    Control
	noneMatch  []byte // If-None-Match
	modified   []byte // If-Modified-Since
	personal   bool   // Cookie, Authorization, or a known customer or user: the answer may be for this sender alone
	authorized bool
	apart      bool // a range, a body, a condition that only the endpoint can judge, an upgrade: not a question for a cache
}

// read takes in a request.
func (a *ask) read(r *wire.Request) {
	*a = ask{method: methodOf(r.Method), apart: r.ContentLength > 0 || r.Chunked || r.Upgrade != nil || r.Expect100}
	pragma := false
	for i := range r.Fields {
		f := &r.Fields[i]
		switch len(f.Name) {
		case 5:
			a.apart = a.apart || wire.EqualFold(f.Name, "range")
		case 6:
			a.personal = a.personal || f.ID == wire.Cookie
			pragma = pragma || wire.EqualFold(f.Name, "pragma") && wire.EqualFold(f.Value, "no-cache")
		case 8:
			a.apart = a.apart || wire.EqualFold(f.Name, "if-match") || wire.EqualFold(f.Name, "if-range")
		case 13:
			switch {
			case f.ID == wire.Authorization:
				a.personal, a.authorized = true, true
			case wire.EqualFold(f.Name, "cache-control"):
				a.control.Read(f.Value)
			case wire.EqualFold(f.Name, "if-none-match"):
				a.apart = a.apart || a.noneMatch != nil
				a.noneMatch = f.Value
			}
		case 17:
			if wire.EqualFold(f.Name, "if-modified-since") {
				a.apart = a.apart || a.modified != nil
				a.modified = f.Value
			}
		case 19:
			a.apart = a.apart || wire.EqualFold(f.Name, "if-unmodified-since")
		}
	}
	if pragma && !a.control.Said { // §5.4
		a.control.NoCache = true
	}
}

// conditional reports whether the client has a copy of its own.
func (a *ask) conditional() bool { return a.noneMatch != nil || a.modified != nil }

// isCondition reports whether a request field is a condition that the cache judges itself.
func isCondition(name []byte) bool {
	return len(name) == 13 && wire.EqualFold(name, "if-none-match") || len(name) == 17 && wire.EqualFold(name, "if-modified-since")
}

// notModified reports whether the client's copy still is o (§4.3.2).
func (a *ask) notModified(o *Object) bool {
	if o.status != http.StatusOK {
		return false
	}
	if a.noneMatch != nil {
		return matches(a.noneMatch, o.etag)
	}
	if a.modified == nil {
		return false
	}
	if o.modified != nil && string(a.modified) == string(o.modified) {
		return true
	}
	since, err := http.ParseTime(string(a.modified))
	return err == nil && !o.modifiedAt.IsZero() && !o.modifiedAt.After(since)
}

// matches reports whether a list of entity tags, or *, names tag, compared weakly (RFC 9110 §8.8.3.2).
func matches(list, tag []byte) bool {
	tag = opaque(tag)
	for len(list) > 0 {
		switch c := list[0]; {
		case c == '*':
			return true
		case c == '"':
			end := 1
			for end < len(list) && list[end] != '"' {
				end++
			}
			if end == len(list) {
				return false
			}
			if len(tag) > 0 && string(list[:end+1]) == string(tag) {
				return true
			}
			list = list[end+1:]
		default: // blanks, commas, W/
			list = list[1:]
		}
	}
	return false
}

// opaque is an entity tag without its mark of weakness.
func opaque(tag []byte) []byte {
	if len(tag) > 2 && tag[0] == 'W' && tag[1] == '/' {
		return tag[2:]
	}
	return tag
}
