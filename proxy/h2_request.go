package proxy

import (
	"bytes"

	"github.com/even-keel/evenkeel/wire"
)

// h2Pseudo is how many pseudo-header fields a request may have beside its fields.
const h2Pseudo = 5

// understand makes the request view of the decoded fields. false: the request is malformed (RFC 9113 §8.1.1).
func (f *h2Front) understand() bool {
	r := &f.req
	r.Reset()
	r.Minor = 1
	list := f.fields.list
	n := 0
	var scheme []byte
	for ; n < len(list) && list[n].ID >= idAuthority; n++ {
		v := list[n].Value
		dst := (*[]byte)(nil)
		switch list[n].ID {
		case idMethod:
			dst = &r.Method
		case idPath:
			dst = &r.Target
		case idAuthority:
			dst = &r.Host
		case idScheme:
			dst = &scheme
		default:
			return false
		}
		if *dst != nil {
			return false // twice
		}
		if *dst = v; v == nil {
			*dst = []byte{}
		}
	}
	if !wire.ValidFieldName(r.Method) || len(scheme) == 0 || string(r.Method) == "CONNECT" || !validH2Path(r.Method, r.Target) {
		return false
	}
	return f.takeFields(list[n:]) && validH2Host(r.Host)
}

// takeFields checks the fields and makes their view.
func (f *h2Front) takeFields(list []wire.Field) bool {
	r := &f.req
	kept := list[:0]
	cookie, crumbs := -1, -1
	f.patient = false
	for i := range list {
		t := &list[i]
		if t.ID >= idAuthority || !validH2Field(t) {
			return false
		}
		switch t.ID {
		case wire.Host:
			if r.Host == nil {
				r.Host = t.Value
			} else if !bytes.EqualFold(r.Host, t.Value) {
				return false
			}
			continue
		case wire.ContentLength:
			n, ok := parseH2Length(t.Value)
			if !ok || r.ContentLength >= 0 && r.ContentLength != n {
				return false
			}
			if r.ContentLength >= 0 {
				continue
			}
			r.ContentLength = n
		case wire.Expect:
			r.Expect100 = wire.EqualFold(t.Value, "100-continue")
		case wire.ContentType:
			f.patient = bytes.HasPrefix(t.Value, []byte("application/grpc"))
		case wire.Cookie: // crumbs become one field again (RFC 9113 §8.2.3)
			if cookie >= 0 {
				if crumbs < 0 {
					crumbs = len(f.fields.arena)
					f.fields.arena = append(f.fields.arena, kept[cookie].Value...)
				}
				f.fields.arena = append(append(f.fields.arena, "; "...), t.Value...)
				kept[cookie].Value = f.fields.arena[crumbs:len(f.fields.arena):len(f.fields.arena)]
				continue
			}
			cookie = len(kept)
		}
		kept = append(kept, *t)
	}
	r.Fields = kept
	return true
}

// validH2Path reports whether p is a path, or * of OPTIONS, of bytes that HTTP/1.1 could carry too.
func validH2Path(method, p []byte) bool {
	if len(p) == 0 || p[0] != '/' && !(len(p) == 1 && p[0] == '*' && string(method) == "OPTIONS") {
		return false
	}
	for _, c := range p {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// validH2Host reports whether b is a plausible authority: no user, no path, no space.
func validH2Host(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z':
		case c == '.', c == '-', c == '_', c == '~', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return len(b) > 0
}

// parseH2Length reads a content-length: digits only.
func parseH2Length(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
