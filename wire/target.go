package wire

import "bytes"

// Targets that stand for an absolute form without a path. They are never changed.
var (
	slash = []byte("/")
	star  = []byte("*")
)

// locate turns the target into origin form and finds the host (RFC 9112 §3.2).
func (r *Request) locate() *Error {
	t := r.Target
	if connect := string(r.Method) == "CONNECT"; connect || t[0] != '/' {
		switch {
		case connect:
			return r.locateAuthority()
		case len(t) == 1 && t[0] == '*':
			if string(r.Method) != "OPTIONS" {
				return ErrBadTarget
			}
			return nil
		}
		return r.locateAbsolute()
	}
	if !validPath(t) {
		return ErrBadTarget
	}
	return nil
}

func (r *Request) locateAuthority() *Error {
	if !validAuthority(r.Target, true) {
		return ErrBadTarget
	}
	return r.agree(r.Target)
}

// locateAbsolute takes a target of absolute form apart.
func (r *Request) locateAbsolute() *Error {
	t := r.Target
	i := bytes.Index(t, []byte("://"))
	if i < 0 || !EqualFold(t[:i], "http") && !EqualFold(t[:i], "https") {
		return ErrBadTarget
	}
	t = t[i+3:]
	end := bytes.IndexAny(t, "/?")
	if end < 0 {
		end = len(t)
	}
	if !validAuthority(t[:end], false) {
		return ErrBadTarget
	}
	switch {
	case end == len(t) && string(r.Method) == "OPTIONS": // RFC 9112 §3.2.4
		r.Target = star
	case end == len(t):
		r.Target = slash
	case t[end] == '?': // cannot be shown in origin form without a copy, and nobody sends it
		return ErrBadTarget
	case !validPath(t[end:]):
		return ErrBadTarget
	default:
		r.Target = t[end:]
	}
	return r.agree(t[:end])
}

// agree refuses an authority that differs from the Host field. An authority without one, in HTTP/1.0, is the host.
func (r *Request) agree(authority []byte) *Error {
	if r.Host == nil {
		r.Host = authority
	}
	if len(r.Host) != len(authority) || !bytes.EqualFold(r.Host, authority) {
		return ErrHostMismatch
	}
	return nil
}

// validPath reports whether every '%' before the query opens two hex digits: proxies and endpoints disagree
// about what a lone one means. In queries it is common and harmless.
func validPath(t []byte) bool {
	for {
		i := bytes.IndexByte(t, '%')
		if i < 0 || bytes.IndexByte(t[:i], '?') >= 0 {
			return true
		}
		if i+2 >= len(t) || octets[t[i+1]]&octets[t[i+2]]&inHex == 0 {
			return false
		}
		t = t[i+3:]
	}
}

// validAuthority reports whether b is a host, or an address in brackets, with a port that may be needed. Of
// what RFC 3986 allows in a name, only letters, digits and -._~ are taken: the rest is in no name that resolves.
func validAuthority(b []byte, needPort bool) bool {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		if i = bytes.IndexByte(b, ']'); i < 0 || !validIPv6(b[1:i]) {
			return false
		}
		i++
	} else {
		for i < len(b) && octets[b[i]]&inHost != 0 {
			i++
		}
	}
	if i == 0 {
		return false
	}
	if i == len(b) {
		return !needPort
	}
	return b[i] == ':' && validPort(b[i+1:])
}

func validPort(b []byte) bool {
	if len(b) == 0 || len(b) > 5 {
		return false
	}
	n := 0
	for _, c := range b {
		if octets[c]&inDigit == 0 {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// validIPv6 is RFC 4291 §2.2 without zones. It is written out because netip.ParseAddr allocates.
func validIPv6(b []byte) bool {
	groups, gap := 0, false
	for len(b) > 0 {
		if b[0] == ':' {
			if len(b) < 2 || b[1] != ':' && groups == 0 || b[1] == ':' && gap {
				return false
			}
			if b[1] == ':' {
				gap = true
				b = b[2:]
				if len(b) == 0 {
					break
				}
			} else {
				b = b[1:]
			}
		} else if groups > 0 {
			return false
		}
		n := 0
		for n < len(b) && octets[b[n]]&inHex != 0 {
			n++
		}
		if n < len(b) && b[n] == '.' {
			if !validIPv4(b) {
				return false
			}
			groups += 2
			break
		}
		if n == 0 || n > 4 {
			return false
		}
		b = b[n:]
		groups++
	}
	return groups == 8 && !gap || groups < 8 && gap
}

// validIPv4 is four numbers up to 255 without leading zeros.
func validIPv4(b []byte) bool {
	for part := 1; ; part++ {
		n, i := 0, 0
		for i < len(b) && i < 4 && octets[b[i]]&inDigit != 0 {
			n = n*10 + int(b[i]-'0')
			i++
		}
		if i == 0 || n > 255 || i > 1 && b[0] == '0' {
			return false
		}
		if part == 4 || i == len(b) {
			return part == 4 && i == len(b)
		}
		if b[i] != '.' {
			return false
		}
		b = b[i+1:]
	}
}

// AppendTarget appends a target that begins with front and ends with rest. A query in rest goes behind one that front has: a second question mark
// would belong to the value before it.
func AppendTarget(dst, front, rest []byte) []byte {
	dst = append(dst, front...)
	if len(rest) > 0 && rest[0] == '?' && bytes.IndexByte(front, '?') >= 0 {
		if rest = rest[1:]; len(rest) > 0 && front[len(front)-1] != '?' {
			dst = append(dst, '&')
		}
	}
	return append(dst, rest...)
}
