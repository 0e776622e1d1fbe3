package proxy

import (
	"errors"
	"net"

	"github.com/even-keel/evenkeel/exchange"
)

// helloMax bounds what is looked at to find the server name: a ClientHello with a post-quantum
// key share is about 2 KiB; 16 KiB is one whole record.
const helloMax = 16 << 10

var (
	errNotHello  = errors.New("tls hello: the bytes are none")
	errHelloBad  = errors.New("tls hello: malformed")
	errHelloLong = errors.New("tls hello: longer than 16 KiB")
)

// sniff looks for the server name of a TLS client that is passed through, without taking a byte. A
// client that does not speak TLS has no name.
func (p *Proxy) sniff(c *conn, x *exchange.Exchange) (reason, bool) {
	raw, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return 0, true
	}
	var bad error
	p.sweep.arm(&c.watched, c.cfg.Limits.HandshakeTimeout)
	_, err := p.peek(raw, helloMax, func(b []byte) int {
		name, whole, e := parseHello(b)
		if e != nil {
			bad = e
			return -1
		}
		if !whole {
			return 0
		}
		x.SNI = string(name)
		return 1
	})
	switch {
	case c.disarm():
		return refusedTimeout, false
	case errors.Is(err, errClientLeft):
		return 0, true // it said nothing, or half a hello: the endpoint may see the same
	case err != nil:
		return refusedClientLeft, false
	case bad != nil && !errors.Is(bad, errNotHello):
		return refusedHandshake, false
	}
	return 0, true
}

// parseHello finds the server name, in lower case, in the first TLS records of a connection (RFC 8446 §4.1.2 and
// §5.1, RFC 6066 §3). The ClientHello may be split over several records. whole is false while more bytes
// are needed. No name is given when there is none; what is no ClientHello is errNotHello.
func parseHello(b []byte) (name []byte, whole bool, err error) {
	if len(b) > 0 && b[0] != 22 { // handshake
		return nil, false, errNotHello
	}
	hello, whole, err := joinRecords(b)
	if err != nil || !whole {
		return nil, false, err
	}
	s := bytesLeft{hello}
	s.skip(2 + 32) // version, random
	s.skip(s.number(1))
	s.skip(s.number(2)) // cipher suites
	s.skip(s.number(1)) // compression
	if s.bad() {
		return nil, false, errHelloBad
	}
	if len(s.b) == 0 { // no extensions: TLS 1.2 allows that
		return nil, true, nil
	}
	exts := bytesLeft{s.take(s.number(2))}
	if s.bad() || len(s.b) != 0 {
		return nil, false, errHelloBad
	}
	for len(exts.b) > 0 && !exts.bad() {
		kind := exts.number(2)
		body := exts.take(exts.number(2))
		if kind == 0 && !exts.bad() {
			return parseServerName(body)
		}
	}
	if exts.bad() {
		return nil, false, errHelloBad
	}
	return nil, true, nil
}

// joinRecords puts the ClientHello together from its records and returns its body.
func joinRecords(b []byte) (hello []byte, whole bool, err error) {
	var joined []byte
	need := 4 // header of the handshake message
	for at := 0; ; {
		if len(b)-at < 5 {
			if len(b) > at && b[at] != 22 {
				return nil, false, errHelloBad
			}
			return nil, false, nil
		}
		n := int(b[at+3])<<8 | int(b[at+4])
		if b[at] != 22 || b[at+1] != 3 || n == 0 || n > 1<<14 {
			if at == 0 {
				return nil, false, errNotHello
			}
			return nil, false, errHelloBad
		}
		end := min(at+5+n, len(b))
		joined = append(joined, b[at+5:end]...)
		if len(joined) >= 4 {
			if joined[0] != 1 { // client_hello
				return nil, false, errNotHello
			}
			need = 4 + int(joined[1])<<16 + int(joined[2])<<8 + int(joined[3])
			if need > helloMax-5 {
				return nil, false, errHelloLong
			}
		}
		if len(joined) >= need && need > 4 {
			return joined[4:need], true, nil
		}
		if at += 5 + n; at > len(b) {
			return nil, false, nil
		}
	}
}

// parseServerName reads the extension's list and returns its host name.
func parseServerName(b []byte) (name []byte, whole bool, err error) {
	s := bytesLeft{b}
	list := bytesLeft{s.take(s.number(2))}
	if s.bad() || len(s.b) != 0 || len(list.b) == 0 {
		return nil, false, errHelloBad
	}
	for len(list.b) > 0 && !list.bad() {
		kind := list.number(1)
		host := list.take(list.number(2))
		if list.bad() {
			break
		}
		if kind == 0 {
			return hostName(host)
		}
	}
	if list.bad() {
		return nil, false, errHelloBad
	}
	return nil, true, nil
}

// hostName is a server name in lower case without the dot at its end, if it is one.
func hostName(b []byte) (name []byte, whole bool, err error) {
	if n := len(b); n > 0 && b[n-1] == '.' {
		b = b[:n-1]
	}
	if len(b) == 0 || len(b) > 253 {
		return nil, false, errHelloBad
	}
	name = make([]byte, len(b))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c <= ' ' || c >= 0x7f || c == '/' || c == ':' {
			return nil, false, errHelloBad
		}
		name[i] = c
	}
	return name, true, nil
}

// bytesLeft is read from the front. Once something was missing b is nil and bad reports it.
type bytesLeft struct{ b []byte }

func (s *bytesLeft) bad() bool { return s.b == nil }

func (s *bytesLeft) take(n int) []byte {
	if n < 0 || n > len(s.b) || s.b == nil {
		s.b = nil
		return nil
	}
	head := s.b[:n:n]
	s.b = s.b[n:]
	return head
}

func (s *bytesLeft) skip(n int) { s.take(n) }

// number reads n bytes as a number, -1 when they are missing.
func (s *bytesLeft) number(n int) int {
	b := s.take(n)
	if b == nil {
		return -1
	}
	v := 0
	for _, c := range b {
		v = v<<8 | int(c)
	}
	return v
}
