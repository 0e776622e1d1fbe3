package pool

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sort"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// tableSize is Maglev's small table (Eisenbud et al., NSDI 2016): a prime, and with 100 endpoints their shares
// differ by about 1%. It takes 128 KiB.
const tableSize = 65537

// walkMax is how far a pick walks along the table when endpoints are sick or full. With half of them
// so, one pick in 2^64 needs more.
const walkMax = 64

// freeLoad is what an endpoint may always have in flight whatever the bound: with next to nothing in flight the mean is
// near 0, and a client's second request at a time must not lose its endpoint for that.
const freeLoad = 4

// maglev picks by a table that the same keys enter at the same place. The table holds sick members too, whose keys walk
// on, so that a health change moves no other key.
type maglev struct {
	list   []*member
	weight []float64
	table  []uint16
	sum    uint64 // of members and weights, to know the table again
}

func (c *maglev) choose(q ask) *member {
	at := int(mix(q.key) % tableSize)
	// Slow start takes keys, not draws: a key that found its endpoint keeps it while the share grows.
	lot := uint32(mix(q.key^0x736c6f77) & (whole - 1))
	var least *member
	lowest := math.Inf(1)
	for range walkMax {
		i := c.table[at]
		if at++; at == tableSize {
			at = 0
		}
		m := c.list[i]
		f := m.factor.Load()
		if m.skip.Load() || q.avoids(m) || f < whole && (lot >= f || m.tested()) {
			lot = uint32(mix(uint64(lot)^q.key) & (whole - 1))
			continue
		}
		busy := float64(m.InFlight.Load() + 1)
		if busy <= freeLoad || q.cap == 0 || busy <= math.Ceil(q.cap*c.weight[i]) {
			return m
		}
		if load := busy / c.weight[i]; load < lowest {
			least, lowest = m, load
		}
	}
	if least != nil {
		return least
	}
	q.rnd = q.key
	return anyOf(c.list, q)
}

// tableOf makes the chooser of one part, from the table there was when nothing it depends on has changed.
func (p *Pool) tableOf(of part) chooser {
	// The table stands for all members that could be in this part, not only for the healthy ones.
	var list []*member
	for _, m := range p.members {
		if m.left || m.weight == 0 {
			continue
		}
		if of.slot == lastSlot || of.holds(m, p.deps.Zone) {
			list = append(list, m)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].id < list[j].id })
	sum := uint64(len(list))
	for _, m := range list {
		sum = mix(sum ^ m.id ^ uint64(m.weight)<<48)
	}
	// The very same, not only of the same name: who left and came again while a priority or zone was not in use stands in its table as who left, and is never picked.
	if old := p.tables[of.slot]; old != nil && old.sum == sum && slices.Equal(old.list, list) {
		return old
	}
	c := &maglev{list: list, sum: sum}
	ids := make([]uint64, len(list))
	for i, m := range list {
		ids[i] = m.id
		c.weight = append(c.weight, float64(m.weight))
	}
	c.table = fill(ids, c.weight)
	p.tables[of.slot] = c
	return c
}

// holds says whether m stands in the table of part of: those of its priority, and when zones are apart those of its side; beyond, those of all later priorities too.
// A table of none would be filled for ever: so it was when a pool had three priorities and lost the first.
func (of part) holds(m *member, zone string) bool {
	if of.beyond {
		return m.priority > of.slot/2
	}
	if m.priority != of.slot/2+1 {
		return false
	}
	far := zone == "" || m.zone != zone
	return of.whole || far == (of.slot%2 == 1)
}

// fill makes the table: every member walks its own permutation of the places and takes the next free one, as often as
// its weight in relation to the greatest. ids are in ascending order, so that all nodes make the same table.
func fill(ids []uint64, weights []float64) []uint16 {
	const free = math.MaxUint16
	table := make([]uint16, tableSize)
	for i := range table {
		table[i] = free
	}
	top := 0.0
	for _, w := range weights {
		top = max(top, w)
	}
	at, step, due := make([]uint64, len(ids)), make([]uint64, len(ids)), make([]float64, len(ids))
	for i, id := range ids {
		at[i] = mix(id) % tableSize
		step[i] = mix(id^0x736b6970)%(tableSize-1) + 1
	}
	for left := tableSize; ; {
		for i := range ids {
			if due[i] += weights[i]; due[i] < top {
				continue
			}
			due[i] -= top
			for table[at[i]] != free {
				at[i] = (at[i] + step[i]) % tableSize
			}
			table[at[i]] = uint16(i)
			if left--; left == 0 {
				return table
			}
		}
	}
}

// keyer makes the key of an exchange.
type keyer struct {
	by   string
	name []byte
}

func newKeyer(h site.Hash) *keyer { return &keyer{by: h.By, name: []byte(h.Name)} }

// key is the hash of what the site file names. A request without the header or cookie, and a connection that is not HTTP,
// is taken by the client's address. It depends on nothing but its input: all nodes and restarts agree.
func (k *keyer) key(x *exchange.Exchange) uint64 {
	switch k.by {
	case site.HashHeader:
		if x.Request != nil {
			for i := range x.Request.Fields {
				if f := &x.Request.Fields[i]; bytes.EqualFold(f.Name, k.name) {
					return digest(f.Value)
				}
			}
		}
	case site.HashCookie:
		if v := cookieOf(x, k.name); len(v) > 0 {
			return digest(v)
		}
	case site.HashPath:
		if p := pathOf(x); len(p) > 0 {
			return digest(p)
		}
	}
	var buf [40]byte
	return digest(k.tuple(x, buf[:0]))
}

// tuple appends the addresses that are hashed.
func (k *keyer) tuple(x *exchange.Exchange, b []byte) []byte {
	ip := x.IP
	if !ip.IsValid() {
		ip = x.Client.Addr()
	}
	b = appendIP(b, ip)
	switch k.by {
	case site.HashTwoTuple, site.HashTriple, site.HashFive:
		b = appendIP(b, x.Local.Addr())
	}
	switch k.by {
	case site.HashTriple, site.HashFive:
		b = append(b, transport(x.Protocol))
	}
	if k.by == site.HashFive {
		b = binary.BigEndian.AppendUint16(b, x.Client.Port())
		b = binary.BigEndian.AppendUint16(b, x.Local.Port())
	}
	return b
}

// transport is the IP protocol number.
func transport(p exchange.Protocol) byte {
	if p == exchange.UDP {
		return 17
	}
	return 6
}

// appendIP appends an address as it is: IPv6 whole, IPv4 in 4 bytes also where the socket shows it mapped into IPv6.
func appendIP(b []byte, ip netip.Addr) []byte {
	if ip = ip.Unmap(); ip.Is4() {
		a := ip.As4()
		return append(b, a[:]...)
	}
	a := ip.As16()
	return append(b, a[:]...)
}

func pathOf(x *exchange.Exchange) []byte {
	if len(x.Path) > 0 || x.Request == nil {
		return x.Path
	}
	path, _, _ := bytes.Cut(x.Request.Target, []byte{'?'})
	return path
}

// digest is FNV-1a over words of 8 bytes, finished by mix. Clients can choose keys, but all they gain is one endpoint's bound.
func digest(b []byte) uint64 {
	h := uint64(14695981039346656037)
	const prime = 1099511628211
	n := uint64(len(b))
	for ; len(b) >= 8; b = b[8:] {
		h = mix(h ^ binary.LittleEndian.Uint64(b))
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * prime
	}
	return mix(h ^ n)
}

// cookieOf is the value of the first cookie of that name; nil when there is none (RFC 6265 section 5.4: pairs parted by "; ").
func cookieOf(x *exchange.Exchange, name []byte) []byte {
	if x.Request == nil || len(name) == 0 {
		return nil
	}
	for i := range x.Request.Fields {
		f := &x.Request.Fields[i]
		if f.ID != wire.Cookie {
			continue
		}
		if v := cookieIn(f.Value, name); v != nil {
			return v
		}
	}
	return nil
}

func cookieIn(line, name []byte) []byte {
	for len(line) > 0 {
		pair := line
		if i := bytes.IndexByte(line, ';'); i >= 0 {
			pair, line = line[:i], line[i+1:]
		} else {
			line = nil
		}
		for len(pair) > 0 && (pair[0] == ' ' || pair[0] == '\t') {
			pair = pair[1:]
		}
		if len(pair) > len(name) && pair[len(name)] == '=' && bytes.Equal(pair[:len(name)], name) {
			v := bytes.TrimRight(pair[len(name)+1:], " \t")
			if n := len(v); n >= 2 && v[0] == '"' && v[n-1] == '"' {
				v = v[1 : n-1]
			}
			return v
		}
	}
	return nil
}

// readID reads the value of an affinity cookie: 16 hexadecimal digits.
func readID(v []byte) (id uint64, ok bool) {
	if len(v) != 16 {
		return 0, false
	}
	for _, c := range v {
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		default:
			return 0, false
		}
		id = id<<4 | uint64(d)
	}
	return id, true
}
