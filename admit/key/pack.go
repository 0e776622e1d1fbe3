package key

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// maxPart bounds one part of a packed key, so that a length read from a file cannot ask for more.
const maxPart = longest

// Pack appends the key of x in a form for files: each part with its length before it, so that parts with blanks stay apart.
// ok is false when x lacks one of the facts, and dst is then as it was.
func (m *Maker) Pack(dst []byte, x *exchange.Exchange) (out []byte, ok bool) {
	start := len(dst)
	var buf [longest]byte
	for _, word := range m.by {
		part := buf[:0]
		switch word {
		case site.ByGlobal:
		case site.ByRoute:
			if x.Route == nil {
				return dst[:start], false
			}
			part = append(part, x.Route.Name...)
		case site.ByIP:
			if !x.IP.IsValid() {
				return dst[:start], false
			}
			part = append(part, Network(x.IP, m.ipv6).AsSlice()...)
		default:
			part = appendFact(part, Fact(x, word))
			if len(part) == 0 {
				return dst[:start], false
			}
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(part))), part...)
	}
	return dst, true
}

// unpack gives an exchange the facts of a packed key; false when the key is not one of this maker.
func (m *Maker) unpack(packed string) (x *exchange.Exchange, ok bool) {
	x = new(exchange.Exchange)
	rest := []byte(packed)
	for _, word := range m.by {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > maxPart || uint64(len(rest)-size) < n {
			return nil, false
		}
		part := rest[size : size+int(n)]
		rest = rest[size+int(n):]
		switch word {
		case site.ByRoute:
			x.Route = &exchange.Route{Name: string(part)}
		case site.ByIP:
			a, ok := netip.AddrFromSlice(part)
			if !ok {
				return nil, false
			}
			x.IP = a
		case site.ByCustomer:
			x.Customer = part
		case site.ByUser:
			x.User = part
		case site.ByRegion:
			x.Region = part
		}
	}
	return x, len(rest) == 0
}

// HashPacked is what Hash gives for a packed key; false when it is not one of this maker.
func (m *Maker) HashPacked(packed string) (uint64, bool) {
	x, ok := m.unpack(packed)
	if !ok {
		return 0, false
	}
	return m.Hash(x)
}

// Text is a packed key for people, in the form of Append.
func (m *Maker) Text(packed string) string {
	x, ok := m.unpack(packed)
	if !ok {
		return strings.ToValidUTF8(packed, "?")
	}
	text, _ := m.Append(nil, x)
	return string(text)
}
