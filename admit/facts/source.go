package facts

import (
	"bytes"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// inHeader is the value of a request header.
type inHeader struct{ name fieldName }

func (s *inHeader) find(x *exchange.Exchange) ([]byte, *exchange.Refusal) { return s.name.value(x) }

// inCookie is the value of a cookie (RFC 6265 §4.2.1), without the quotes that may stand around it.
type inCookie struct{ name string }

func (s *inCookie) find(x *exchange.Exchange) ([]byte, *exchange.Refusal) {
	return cookie(x.Request.Fields, s.name)
}

// cookie is the value of the cookie called name, nil for an empty one or none. Two that differ are refused.
func cookie(fields []wire.Field, name string) (v []byte, refusal *exchange.Refusal) {
	seen := false
	for i := range fields {
		if fields[i].ID != wire.Cookie {
			continue
		}
		for rest := fields[i].Value; len(rest) > 0; {
			var pair []byte
			pair, rest = cut(rest, ';')
			pair = bytes.TrimLeft(pair, " \t")
			if len(pair) <= len(name) || pair[len(name)] != '=' || string(pair[:len(name)]) != name {
				continue
			}
			one := bytes.TrimRight(pair[len(name)+1:], " \t")
			if n := len(one); n >= 2 && one[0] == '"' && one[n-1] == '"' {
				one = one[1 : n-1]
			}
			if seen && !bytes.Equal(v, one) {
				return nil, refuseAmbiguous
			}
			v, seen = one, true
		}
	}
	if len(v) == 0 {
		return nil, nil
	}
	return v, nil
}

// cut splits b at the first c, which belongs to neither part.
func cut(b []byte, c byte) (before, after []byte) {
	if i := bytes.IndexByte(b, c); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// inQuery is the value of a query parameter, percent-decoded; a plus is a blank, as in forms.
type inQuery struct{ name string }

func (s *inQuery) find(x *exchange.Exchange) (v []byte, refusal *exchange.Refusal) {
	_, query := cut(x.Request.Target, '?')
	query, _ = cut(query, '#')
	used, seen := usedOf(x), false
	for len(query) > 0 {
		var pair []byte
		pair, query = cut(query, '&')
		name, value := cut(pair, '=')
		if !s.named(name) {
			continue
		}
		one, used2, fits := decode(x, value, used, true)
		switch {
		case !fits:
			return nil, refuseLong
		case !seen:
			v, seen, used = one, true, used2
		case !bytes.Equal(v, one):
			return nil, refuseAmbiguous
		}
	}
	if len(v) == 0 {
		return nil, nil
	}
	return v, nil
}

// named reports whether a name as it stands in a query, perhaps percent-encoded, is that of s.
func (s *inQuery) named(name []byte) bool {
	if len(name) == len(s.name) {
		return string(name) == s.name
	}
	if len(name) < len(s.name) || len(name) > 3*len(s.name) {
		return false
	}
	at := 0
	for i := 0; i < len(name); at++ {
		c, n := octet(name[i:], true)
		if at == len(s.name) || c != s.name[at] {
			return false
		}
		i += n
	}
	return at == len(s.name)
}

// inPath is a part of the path, 1 for the first, percent-decoded. Parts end where routes see a slash: at an encoded one and at a
// backslash too, and a run of them ends one part. Else //acme and /%2Facme, which route and endpoint may take for /acme, would be counted
// as nobody, or each as somebody else.
type inPath int

func (s inPath) find(x *exchange.Exchange) ([]byte, *exchange.Refusal) {
	path := x.Path
	if len(path) == 0 || path[0] != '/' {
		return nil, nil
	}
	part, from := 0, 0
	for i := 0; ; {
		c, n := byte('/'), 1
		if i < len(path) {
			c, n = octet(path[i:], false)
		}
		if c == '/' || c == '\\' {
			if from < i {
				if part++; part == int(s) {
					return s.decoded(x, path[from:i])
				}
			}
			from = i + n
		}
		if i += n; i > len(path) {
			return nil, nil
		}
	}
}

// decoded is a part without its percent-encoding.
func (inPath) decoded(x *exchange.Exchange, part []byte) ([]byte, *exchange.Refusal) {
	v, _, fits := decode(x, part, usedOf(x), false)
	if !fits {
		return nil, refuseLong
	}
	return v, nil
}

// decode takes percent-encoding off b. What has none is not copied. used is how much of x.FactBuf holds other facts; fits is false
// when the rest is too small for what b stands for. An escape that is none stands for itself.
func decode(x *exchange.Exchange, b []byte, used int, plus bool) (v []byte, now int, fits bool) {
	if bytes.IndexByte(b, '%') < 0 && (!plus || bytes.IndexByte(b, '+') < 0) {
		return b, used, true
	}
	buf, at := bufferOf(x, used), used
	for i := 0; i < len(b); at++ {
		if at == len(buf) {
			return nil, used, false
		}
		c, n := octet(b[i:], plus)
		buf[at] = c
		i += n
	}
	return buf[used:at:at], at, true
}

// octet is the first octet that b, which is not empty, stands for, and how many of b it takes.
func octet(b []byte, plus bool) (c byte, n int) {
	switch {
	case b[0] == '%' && len(b) >= 3:
		hi, ok1 := hexDigit(b[1])
		lo, ok2 := hexDigit(b[2])
		if ok1 && ok2 {
			return hi<<4 | lo, 3
		}
	case b[0] == '+' && plus:
		return ' ', 1
	}
	return b[0], 1
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// bufferOf is x.FactBuf with room for one fact behind those that take used of it. An exchange has one from the first fact on that has to be
// decoded, and its successors keep it. It has room for two, so that whoever has a long customer can have a user.
func bufferOf(x *exchange.Exchange, used int) []byte {
	if x.FactBuf == nil {
		x.FactBuf = make([]byte, 2*maxFact)
	}
	return x.FactBuf[:min(used+maxFact, len(x.FactBuf))]
}

// usedOf is how much of x.FactBuf the customer takes, who is found before the user.
func usedOf(x *exchange.Exchange) int {
	if n := len(x.Customer); n > 0 && len(x.FactBuf) > 0 && &x.Customer[0] == &x.FactBuf[0] {
		return n
	}
	return 0
}

// inCertificate is a name of the client certificate: subject, cn or san.
type inCertificate string

func (s inCertificate) find(x *exchange.Exchange) (v []byte, _ *exchange.Refusal) {
	if x.Peer == nil {
		return nil, nil
	}
	switch s {
	case "subject":
		v = x.Peer.Subject
	case "cn":
		v = x.Peer.Name
	case "san":
		v = x.Peer.AltName
	}
	if len(v) == 0 {
		return nil, nil
	}
	return v, nil
}
