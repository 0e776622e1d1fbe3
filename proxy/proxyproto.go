package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// The words of site.ListenProxyProtocol.Accept.
const (
	acceptOptional = "optional"
	acceptRequired = "required"
)

// The words of site.Pool.ProxyProtocol.
const (
	proxyV1 = "v1"
	proxyV2 = "v2"
)

// proxyHeaderMax bounds a PROXY header. The specification asks receivers to take 536 bytes for version 2
// and 107 for version 1; TLVs with certificates have been seen with 2 KiB.
const proxyHeaderMax = 4096

// proxyV1Max is the longest version 1 header with its line end (specification §2.1).
const proxyV1Max = 107

const (
	proxyV1Start = "PROXY "
	proxyV2Start = "\r\n\r\n\x00\r\nQUIT\n"
)

var (
	errNotProxy   = errors.New("proxy header: the bytes are none")
	errProxyLong  = errors.New("proxy header: longer than the limit")
	errProxyBad   = errors.New("proxy header: malformed")
	errClientLeft = errors.New("the client left")
)

// proxyHeader is what a PROXY header says.
type proxyHeader struct {
	local    bool // the balancer speaks for itself, or does not know: the connection's addresses hold
	from, to netip.AddrPort
}

// believed reports whether a PROXY header from a sender counts.
func believed(cfg *site.ListenProxyProtocol, sender netip.Addr) bool {
	if cfg.Accept != acceptOptional && cfg.Accept != acceptRequired {
		return false
	}
	sender = exchange.Plain(sender)
	for _, n := range cfg.From {
		if n.Contains(sender) {
			return true
		}
	}
	return len(cfg.From) == 0
}

// readProxyHeader takes the PROXY header from the front of a connection, if one may be there, and
// counts the connection for the address in it. It reads exactly the header: what follows stays in the socket.
func (p *Proxy) readProxyHeader(cl *client, raw *net.TCPConn) (reason, bool) {
	c := &cl.conn
	must := c.cfg.ProxyProtocol.Accept == acceptRequired
	if !believed(&c.cfg.ProxyProtocol, c.remote.Addr()) {
		return refusedProxyHeader, !must
	}
	var h proxyHeader
	var bad error
	n, err := p.peek(raw, proxyHeaderMax, func(b []byte) int {
		var n int
		h, n, bad = parseProxyHeader(b)
		if bad != nil {
			return -1
		}
		return n
	})
	switch {
	case errors.Is(bad, errNotProxy) && !must:
		h.local = true
	case bad != nil:
		return refusedProxyHeader, false
	case err != nil:
		return refusedClientLeft, false
	default:
		if err := p.discard(raw, n); err != nil {
			return refusedClientLeft, false
		}
	}
	if !h.local {
		c.remote, c.local = h.from, h.to
	}
	cl.ip = keyOf(c.remote.Addr())
	if !cl.listener.byIP.take(cl.ip, perIP(c.cfg)) {
		return refusedPerIP, false
	}
	cl.byIP = true
	return 0, true
}

// peek shows the front of a connection to look without taking it, again whenever more has come. look returns 0 to
// see more, and otherwise any number, which peek returns. At limit bytes it fails.
func (p *Proxy) peek(c *net.TCPConn, limit int, look func([]byte) int) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	buf := p.buffers.Get().(*[relayBuffer]byte)
	defer p.buffers.Put(buf)
	readErr := raw.Read(func(fd uintptr) bool {
		got, _, e := syscall.Recvfrom(int(fd), buf[:limit], syscall.MSG_PEEK)
		switch {
		case e == syscall.EAGAIN || e == syscall.EINTR:
			return false
		case e != nil:
			err = e
		case got == 0:
			err = errClientLeft
		default:
			if n = look(buf[:got]); n == 0 {
				if got < limit {
					return false
				}
				err = errProxyLong
			}
		}
		return true
	})
	if readErr != nil {
		return 0, readErr
	}
	return n, err
}

// discard takes n bytes that are known to be there.
func (p *Proxy) discard(c *net.TCPConn, n int) error {
	buf := p.buffers.Get().(*[relayBuffer]byte)
	defer p.buffers.Put(buf)
	for n > 0 {
		m, err := c.Read(buf[:n])
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// parseProxyHeader reads a PROXY header, version 1 or 2, from the front of b. n is its length; 0 with
// a nil error means that more bytes are needed. Addresses other than IP over TCP or UDP are taken as local, as the
// specification asks (haproxy.org, proxy-protocol.txt, §2).
func parseProxyHeader(b []byte) (h proxyHeader, n int, err error) {
	switch {
	case startsLike(b, proxyV1Start):
		if len(b) < len(proxyV1Start) {
			return h, 0, nil
		}
		return parseProxyV1(b)
	case startsLike(b, proxyV2Start):
		if len(b) < 16 {
			return h, 0, nil
		}
		return parseProxyV2(b)
	}
	return h, 0, errNotProxy
}

// startsLike reports whether b starts with start, or start with b.
func startsLike(b []byte, start string) bool {
	n := min(len(b), len(start))
	return string(b[:n]) == start[:n]
}

func parseProxyV1(b []byte) (h proxyHeader, n int, err error) {
	window := b[:min(len(b), proxyV1Max)]
	end := bytes.Index(window, []byte("\r\n"))
	if end < 0 {
		if len(window) == proxyV1Max {
			return h, 0, errProxyLong
		}
		return h, 0, nil
	}
	words := bytes.Split(window[len(proxyV1Start):end], []byte(" "))
	if string(words[0]) == "UNKNOWN" { // the rest of the line is to be ignored
		return proxyHeader{local: true}, end + 2, nil
	}
	if len(words) != 5 {
		return h, 0, errProxyBad
	}
	four := string(words[0]) == "TCP4"
	if !four && string(words[0]) != "TCP6" {
		return h, 0, errProxyBad
	}
	var ok1, ok2 bool
	h.from, ok1 = proxyV1Address(words[1], words[3], four)
	h.to, ok2 = proxyV1Address(words[2], words[4], four)
	if !ok1 || !ok2 {
		return proxyHeader{}, 0, errProxyBad
	}
	return h, end + 2, nil
}

func proxyV1Address(addr, port []byte, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(addr))
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	if len(port) == 0 || len(port) > 1 && port[0] == '0' || port[0] < '0' || port[0] > '9' {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

func parseProxyV2(b []byte) (h proxyHeader, n int, err error) {
	if b[12] != 0x20 && b[12] != 0x21 { // version 2; LOCAL or PROXY
		return h, 0, errProxyBad
	}
	n = 16 + int(binary.BigEndian.Uint16(b[14:]))
	if n > proxyHeaderMax {
		return h, 0, errProxyLong
	}
	if len(b) < n {
		return h, 0, nil
	}
	body := b[16:n]
	if b[12] == 0x20 {
		return proxyHeader{local: true}, n, nil
	}
	var size int
	switch b[13] {
	case 0x11, 0x12: // TCP or UDP over IPv4
		size = 12
	case 0x21, 0x22: // over IPv6
		size = 36
	case 0x31, 0x32: // unix
		size, h.local = 216, true
	case 0x00: // unspecified: everything is to be ignored
		return proxyHeader{local: true}, n, nil
	default:
		return h, 0, errProxyBad
	}
	if len(body) < size || !wholeTLVs(body[size:]) {
		return proxyHeader{}, 0, errProxyBad
	}
	if !h.local {
		half := (size - 4) / 2
		from, _ := netip.AddrFromSlice(body[:half])
		to, _ := netip.AddrFromSlice(body[half : 2*half])
		h.from = netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(body[2*half:]))
		h.to = netip.AddrPortFrom(to.Unmap(), binary.BigEndian.Uint16(body[2*half+2:]))
	}
	return h, n, nil
}

// wholeTLVs reports whether b is a list of type-length-values that ends where b ends.
func wholeTLVs(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 3 {
			return false
		}
		n := 3 + int(binary.BigEndian.Uint16(b[1:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// appendProxyHeader appends a PROXY header of version "v1" or "v2" that says that from connected to to. Anything
// that the version cannot say (udp in version 1, addresses of two families are widened to IPv6) becomes UNKNOWN or LOCAL.
func appendProxyHeader(dst []byte, version string, from, to netip.AddrPort, udp bool) []byte {
	a, b := from.Addr().Unmap(), to.Addr().Unmap()
	known := a.IsValid() && b.IsValid()
	if known && a.Is4() != b.Is4() {
		a, b = netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16())
	}
	if version == proxyV1 {
		return appendProxyV1(dst, a, b, from.Port(), to.Port(), known && !udp)
	}
	dst = append(dst, proxyV2Start...)
	if !known {
		return append(dst, 0x20, 0, 0, 0)
	}
	transport := byte(1)
	if udp {
		transport = 2
	}
	if a.Is4() {
		x, y := a.As4(), b.As4()
		dst = append(dst, 0x21, 0x10|transport, 0, 12)
		dst = append(append(dst, x[:]...), y[:]...)
	} else {
		x, y := a.As16(), b.As16()
		dst = append(dst, 0x21, 0x20|transport, 0, 36)
		dst = append(append(dst, x[:]...), y[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, from.Port())
	return binary.BigEndian.AppendUint16(dst, to.Port())
}

func appendProxyV1(dst []byte, a, b netip.Addr, from, to uint16, known bool) []byte {
	if !known {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	family := "TCP6 "
	if a.Is4() {
		family = "TCP4 "
	}
	dst = append(append(dst, proxyV1Start...), family...)
	dst = append(a.WithZone("").AppendTo(dst), ' ')
	dst = append(b.WithZone("").AppendTo(dst), ' ')
	dst = strconv.AppendUint(dst, uint64(from), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(to), 10)
	return append(dst, "\r\n"...)
}
