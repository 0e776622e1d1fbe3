package key

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func TestTextAndHashAgree(t *testing.T) {
	x := &exchange.Exchange{IP: netip.MustParseAddr("2001:db8:1:2:3::4"), Customer: []byte("acme"), User: []byte("ann b"),
		Region: []byte("eu"), Route: &exchange.Route{Name: "checkout"}}
	for _, by := range [][]string{{site.ByCustomer}, {site.ByIP}, {site.ByGlobal}, {site.ByCustomer, site.ByRoute}, {site.ByRegion, site.ByIP, site.ByUser}} {
		m := New(by, 64)
		text, ok := m.Append(nil, x)
		if !ok {
			t.Fatalf("%v: no key", by)
		}
		h, _ := m.Hash(x)
		if back, ok := m.HashText(string(text)); !ok || back != h {
			t.Errorf("%v: %q has hash %x, the request %x", by, text, back, h)
		}
	}
}

func TestKeysDiffer(t *testing.T) {
	m := New([]string{site.ByCustomer, site.ByUser}, 64)
	seen := map[uint64]string{}
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}, {"ab", "c"}, {"a", "bc"}, {"a", "a"}, {"b", "b"}} {
		h, _ := m.Hash(&exchange.Exchange{Customer: []byte(pair[0]), User: []byte(pair[1])})
		if other, twice := seen[h]; twice {
			t.Errorf("%v and %s share a key", pair, other)
		}
		seen[h] = strings.Join(pair[:], " ")
	}
	if _, ok := m.Hash(&exchange.Exchange{Customer: []byte("a")}); ok {
		t.Error("a request without a user has a key by user")
	}
}

func TestNetwork(t *testing.T) {
	m := New([]string{site.ByIP}, 64)
	hash := func(s string) uint64 { h, _ := m.Hash(&exchange.Exchange{IP: netip.MustParseAddr(s)}); return h }
	if hash("2001:db8::1") != hash("2001:db8::ffff:1") || hash("2001:db8::1") == hash("2001:db8:0:1::1") || hash("192.0.2.1") == hash("192.0.2.2") {
		t.Error("addresses are counted by the wrong network")
	}
}

func TestHashAlloc(t *testing.T) {
	m := New([]string{site.ByCustomer, site.ByIP, site.ByRoute}, 64)
	x := &exchange.Exchange{IP: netip.MustParseAddr("192.0.2.1"), Customer: []byte("acme"), Route: &exchange.Route{Name: "r"}}
	if n := testing.AllocsPerRun(100, func() { m.Hash(x) }); n != 0 {
		t.Errorf("%v allocations for a key", n)
	}
}
