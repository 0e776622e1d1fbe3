// Package key makes of a request what limits and quotas count apart: a hash for tables, a text for people and files.
package key

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// longest is how many bytes of one part count: customers and users are names, not documents. Longer ones count by their
// first bytes and their hash.
const longest = 256

// Maker makes keys of one limit. It is never changed and may be used by any goroutine.
type Maker struct {
	by   []string
	ipv6 int
	seed maphash.Seed
}

// New makes a maker of keys that are combined of by, words of site.Limit.By. ipv6 is how many bits of an IPv6 address count.
// Hashes of one maker are alike within this process only: nobody outside can choose keys that meet in one place.
func New(by []string, ipv6 int) *Maker {
	return &Maker{by: by, ipv6: ipv6, seed: maphash.MakeSeed()}
}

// Hash is the key of x as a number; ok is false when x lacks one of the facts. It allocates nothing.
func (m *Maker) Hash(x *exchange.Exchange) (h uint64, ok bool) {
	for _, word := range m.by {
		part, ok := m.hash(x, word)
		if !ok {
			return 0, false
		}
		h = (h ^ part) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return h, true
}

func (m *Maker) hash(x *exchange.Exchange, word string) (uint64, bool) {
	switch word {
	case site.ByGlobal:
		return 1, true
	case site.ByRoute:
		if x.Route == nil {
			return 0, false
		}
		return maphash.String(m.seed, x.Route.Name), true
	case site.ByIP:
		if !x.IP.IsValid() {
			return 0, false
		}
		b := Network(x.IP, m.ipv6).As16()
		return maphash.Bytes(m.seed, b[:]), true
	}
	fact := Fact(x, word)
	if len(fact) > longest {
		return m.hashLong(fact), true
	}
	return maphash.Bytes(m.seed, fact), len(fact) > 0
}

// hashLong hashes what texts and packed keys keep of a long fact, so that a key read back from a file is the same key.
//
//go:noinline
func (m *Maker) hashLong(fact []byte) uint64 {
	var buf [longest]byte
	return maphash.Bytes(m.seed, appendFact(buf[:0], fact))
}

// HashText is what Hash gives for the facts of text, the form of Append; parts are separated by one blank.
func (m *Maker) HashText(text string) (uint64, bool) {
	x := exchange.Exchange{}
	for i, word := range m.by {
		part := text
		if i < len(m.by)-1 {
			cut := indexBlank(text)
			if cut < 0 {
				return 0, false
			}
			part, text = text[:cut], text[cut+1:]
		}
		switch word {
		case site.ByGlobal:
		case site.ByRoute:
			x.Route = &exchange.Route{Name: part}
		case site.ByIP:
			a, err := netip.ParseAddr(part)
			if err != nil {
				p, err := netip.ParsePrefix(part)
				if err != nil {
					return 0, false
				}
				a = p.Addr()
			}
			x.IP = a.Unmap()
		case site.ByCustomer:
			x.Customer = []byte(part)
		case site.ByUser:
			x.User = []byte(part)
		case site.ByRegion:
			x.Region = []byte(part)
		}
	}
	return m.Hash(&x)
}

func indexBlank(s string) int {
	for i := range len(s) {
		if s[i] == ' ' {
			return i
		}
	}
	return -1
}

// Append appends the key of x as a text: the parts in the order of by, with a blank between. ok is false when x lacks one of
// the facts, and dst is then as it was.
func (m *Maker) Append(dst []byte, x *exchange.Exchange) (out []byte, ok bool) {
	start := len(dst)
	for i, word := range m.by {
		if i > 0 {
			dst = append(dst, ' ')
		}
		switch word {
		case site.ByGlobal:
			dst = append(dst, word...)
			continue
		case site.ByRoute:
			if x.Route != nil {
				dst = append(dst, x.Route.Name...)
				continue
			}
		case site.ByIP:
			if x.IP.IsValid() {
				dst = Network(x.IP, m.ipv6).AppendTo(dst)
				continue
			}
		default:
			if fact := Fact(x, word); len(fact) > 0 {
				dst = appendFact(dst, fact)
				continue
			}
		}
		return dst[:start], false
	}
	return dst, true
}

// appendFact appends fact; of a long one its beginning and a hash, longest bytes together, the same in every process.
func appendFact(dst, fact []byte) []byte {
	if len(fact) <= longest {
		return append(dst, fact...)
	}
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range fact {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return binary.BigEndian.AppendUint64(append(dst, fact[:longest-8]...), h)
}

// Fact is the customer, user or region of x; nil for an unknown one.
func Fact(x *exchange.Exchange, word string) []byte {
	switch word {
	case site.ByCustomer:
		return x.Customer
	case site.ByUser:
		return x.User
	case site.ByRegion:
		return x.Region
	}
	return nil
}

// Network is the address itself for IPv4 and the first address of its /bits for IPv6: who has one address there has all of them.
func Network(a netip.Addr, bits int) netip.Addr {
	if a.Is4() || bits <= 0 || bits >= 128 {
		return a
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return a
	}
	return p.Addr()
}
