package facts

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// regions says where clients are: by a trusted proxy's header, by an own table, by a database, in this order.
type regions struct {
	header fieldName // its text is empty: none
	table  ranges
	db     *database // nil: none
}

// find is the region of x, nil when nothing says it.
func (r *regions) find(x *exchange.Exchange) []byte {
	if r.header.text != "" && x.Trusted {
		// Of two that differ none is believed; the table goes on.
		if v, refusal := r.header.value(x); refusal == nil && v != nil {
			return v
		}
	}
	if name := r.table.find(x.IP); name != nil {
		return name
	}
	if r.db != nil {
		return r.db.find(x.IP)
	}
	return nil
}

// ranges gives addresses a name, the one of the longest prefix that they are in. The prefixes, which may lie in each other, are
// laid out as a sorted list of addresses at which the name changes, so that finding is one binary search.
type ranges struct {
	from  []netip.Addr
	names [][]byte // of the addresses from the one at the same place; nil: none
}

// prefixOf is one prefix with its name.
type prefixOf struct {
	netip.Prefix
	name []byte
}

// newRanges lays the table out. A prefix that stands in two regions is an error.
func newRanges(list []site.RegionRange) (t ranges, err error) {
	var all []prefixOf
	where := map[netip.Prefix]string{}
	for _, r := range list {
		name := []byte(r.Region)
		for _, p := range r.Prefixes {
			p = unmap(p)
			if other, twice := where[p]; twice && other != r.Region {
				return t, fmt.Errorf("identify.region: %v is in the region %s and in %s", p, other, r.Region)
			}
			where[p] = r.Region
			all = append(all, prefixOf{p, name})
		}
	}
	slices.SortFunc(all, func(a, b prefixOf) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var open []prefixOf // what the next prefix may lie in, the outermost first
	for _, p := range all {
		for len(open) > 0 && !open[len(open)-1].Contains(p.Addr()) {
			open = t.close(open)
		}
		t.change(p.Addr(), p.name)
		open = append(open, p)
	}
	for len(open) > 0 {
		open = t.close(open)
	}
	return t, nil
}

// close ends the innermost of open: behind it the name is that of the one around it.
func (t *ranges) close(open []prefixOf) []prefixOf {
	in, out := open[len(open)-1], open[:len(open)-1]
	after := last(in.Prefix).Next()
	if !after.IsValid() { // the end of all addresses
		return out
	}
	if len(out) > 0 && out[len(out)-1].Contains(after) {
		t.change(after, out[len(out)-1].name)
	} else if len(out) == 0 {
		t.change(after, nil)
	}
	return out
}

// change makes name the name of the addresses from a on.
func (t *ranges) change(a netip.Addr, name []byte) {
	if n := len(t.from); n > 0 && t.from[n-1] == a {
		t.names[n-1] = name
		return
	}
	t.from, t.names = append(t.from, a), append(t.names, name)
}

// find is the name of a.
func (t *ranges) find(a netip.Addr) []byte {
	lo, hi := 0, len(t.from)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.from[mid].Compare(a) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	// All of IPv4 is sorted before IPv6.
	if lo == 0 || t.from[lo-1].Is4() != a.Is4() {
		return nil
	}
	return t.names[lo-1]
}

// unmap is p with IPv4 in its short form, and without host bits.
func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// last is the last address in p.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	for i := bits; i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		return a.Unmap()
	}
	return a
}
