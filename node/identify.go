package node

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"unsafe"

	"github.com/even-keel/evenkeel/admit/facts"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// Limits of what is read about the sender.
const (
	maxHops         = 32 // addresses looked at in X-Forwarded-For and Forwarded; chains of proxies are far shorter
	maxAddressBytes = 64 // longest text of an address with brackets and port
	maxRequestID    = 64 // bytes of a request id that is taken over
)

var refuseHost = &exchange.Refusal{Stage: "identify", Reason: "bad_host", Status: 400,
	Detail: "The host name is too long."}

// identify finds out who asks and for what: the client's address behind trusted proxies, the request id, the host
// and the path, and the facts that the site names.
type identify struct {
	trusted []netip.Prefix
	finder  *facts.Finder // nil: no facts but these
}

// Serve implements exchange.Stage.
func (s *identify) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if refusal := s.facts(x); refusal != nil {
		return refusal
	}
	return next.Do(x)
}

// facts fills in who asks and for what. It is not inlined, so that its work is not on the stack of an exchange that waits.
//
//go:noinline
func (s *identify) facts(x *exchange.Exchange) *exchange.Refusal {
	x.IP = exchange.Plain(x.Client.Addr())
	x.Trusted = s.trusts(x.IP)
	var id []byte
	classed := false
	for i := range x.Request.Fields {
		switch f := &x.Request.Fields[i]; f.ID {
		case wire.XRequestID:
			if id == nil {
				id = f.Value
			}
		case wire.EvenkeelClass:
			classed = true
		}
	}
	if x.Trusted {
		x.IP = s.client(x.Request, x.IP)
	}
	if saneID(id) {
		x.RequestID = id
	} else {
		x.RequestID = newID(&x.IDBuf)
	}
	if len(x.Request.Host) >= len(x.HostBuf) {
		return refuseHost
	}
	x.Host = hostOf(x.Request.Host, x.HostBuf[:0])
	x.Path = pathOf(x.Request.Target)
	if s.finder == nil {
		return nil
	}
	return s.finder.Find(x, classed)
}

// trusts reports whether a is a trusted proxy.
func (s *identify) trusts(a netip.Addr) bool {
	for i := range s.trusted {
		if s.trusted[i].Contains(a) {
			return true
		}
	}
	return false
}

// client walks back from the trusted sender through what its proxies say, to the first address that is not a trusted
// proxy. What cannot be read ends the walk: nothing left of it is believed. X-Forwarded-For goes before
// Forwarded (RFC 7239), so a proxy that writes only Forwarded must take X-Forwarded-For away.
func (s *identify) client(r *wire.Request, peer netip.Addr) netip.Addr {
	id := wire.Forwarded
	for i := range r.Fields {
		if r.Fields[i].ID == wire.XForwardedFor {
			id = wire.XForwardedFor
			break
		}
	}
	hops := 0
	for i := len(r.Fields) - 1; i >= 0; i-- {
		if r.Fields[i].ID != id {
			continue
		}
		for rest, more := r.Fields[i].Value, true; more; hops++ {
			var element []byte
			rest, element, more = lastElement(rest, id == wire.Forwarded)
			if id == wire.Forwarded {
				element = forwardedFor(element)
			}
			a, ok := parseAddress(element)
			if !ok || hops >= maxHops {
				return peer
			}
			peer = a
			if !s.trusts(a) {
				return a
			}
		}
	}
	return peer
}

// lastElement cuts the last element off a comma-separated list; more: there are further ones before it.
// quoted: commas inside quoted strings do not separate. A client that sends one quote is not taken for the proxy that appends its address, whose
// own address more may be allowed to.
func lastElement(list []byte, quoted bool) (rest, element []byte, more bool) {
	cut := -1
	if quoted {
		in := false
		for i := 0; i < len(list); i++ {
			switch {
			case list[i] == '"':
				in = !in
			case list[i] == '\\' && in:
				i++
			case list[i] == ',' && !in:
				cut = i
			}
		}
		if in { // the client left a quote open: what a proxy put behind that is not part of its text
			cut = bytes.LastIndexByte(list, ',')
		}
	} else {
		cut = bytes.LastIndexByte(list, ',')
	}
	if cut < 0 {
		return nil, bytes.Trim(list, " \t"), false
	}
	return list[:cut], bytes.Trim(list[cut+1:], " \t"), true
}

// forwardedFor is the value of the for parameter of a Forwarded element, without quotes; nil if there is none.
func forwardedFor(element []byte) []byte {
	for len(element) > 0 {
		end := endOfPair(element)
		pair := element[:end]
		element = element[min(end+1, len(element)):]
		name, value, ok := bytes.Cut(bytes.Trim(pair, " \t"), []byte("="))
		if ok && wire.EqualFold(name, "for") {
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value
		}
	}
	return nil
}

// endOfPair is where the first semicolon of an element stands that is not quoted, or its end: the host, which may stand before for, is what the client wrote.
func endOfPair(element []byte) int {
	in := false
	for i := 0; i < len(element); i++ {
		switch c := element[i]; {
		case c == '"':
			in = !in
		case c == '\\' && in:
			i++
		case c == ';' && !in:
			return i
		}
	}
	return len(element)
}

// parseAddress reads 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1] and [2001:db8::1]:80; nothing else.
func parseAddress(b []byte) (netip.Addr, bool) {
	if len(b) == 0 || len(b) > maxAddressBytes || bytes.IndexByte(b, '%') >= 0 {
		return netip.Addr{}, false
	}
	port := []byte(nil)
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		port, b = b[end+1:], b[1:end]
		if bytes.IndexByte(b, ':') < 0 {
			return netip.Addr{}, false
		}
	} else if colon := bytes.IndexByte(b, ':'); colon >= 0 && bytes.IndexByte(b[colon+1:], ':') < 0 {
		port, b = b[colon:], b[:colon]
	}
	if len(port) > 0 && !isPort(port) {
		return netip.Addr{}, false
	}
	// The text is only looked at during the call: no copy is needed.
	a, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(b), len(b)))
	if err != nil {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// isPort reports whether p is a colon and up to five digits.
func isPort(p []byte) bool {
	if len(p) < 2 || len(p) > 6 || p[0] != ':' {
		return false
	}
	for _, c := range p[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// saneID reports whether a request id may be taken over: visible ASCII, not long.
func saneID(id []byte) bool {
	if len(id) == 0 || len(id) > maxRequestID {
		return false
	}
	for _, c := range id {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// newID makes a request id of 128 random bits. The runtime's generator (ChaCha8, seeded by the system) keeps its state per
// thread: no lock.
func newID(buf *[32]byte) []byte {
	var raw [16]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		raw[i], raw[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	hex.Encode(buf[:], raw[:])
	return buf[:]
}

// hostOf is the host of an authority in lower case, without port and last dot. buf takes it when it has to be changed.
func hostOf(authority, buf []byte) []byte {
	host := authority
	if len(host) > 0 && host[0] == '[' {
		if end := bytes.IndexByte(host, ']'); end > 0 {
			host = host[:end+1]
		}
	} else if colon := bytes.IndexByte(host, ':'); colon >= 0 {
		host = host[:colon]
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			return lowerHost(buf, unsafe.String(unsafe.SliceData(host), len(host)))
		}
	}
	return host
}

// lowerHost appends name in lower case to buf, which a longer name than 255 bytes leaves empty: no host is that long.
func lowerHost(buf []byte, name string) []byte {
	if len(name) > 255 {
		return buf
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf = append(buf, c)
	}
	return buf
}

// pathOf is the target without its query.
func pathOf(target []byte) []byte {
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		return target[:i]
	}
	return target
}
