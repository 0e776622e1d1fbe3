package key

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func TestPackedKeysAreTheSameKeys(t *testing.T) {
	for _, x := range []*exchange.Exchange{
		{IP: netip.MustParseAddr("2001:db8:1:2:3::4"), Customer: []byte("acme corp"), User: []byte("ann b"), Region: []byte("eu"), Route: &exchange.Route{Name: "checkout"}},
		{IP: netip.MustParseAddr("192.0.2.7"), Customer: []byte(strings.Repeat("x", 1000)), User: []byte(strings.Repeat("y", 257)), Region: []byte("\x00\xff"), Route: &exchange.Route{Name: "r"}},
	} {
		for _, by := range [][]string{{site.ByCustomer}, {site.ByIP}, {site.ByGlobal}, {site.ByCustomer, site.ByUser}, {site.ByRegion, site.ByIP, site.ByRoute}} {
			m := New(by, 64)
			want, _ := m.Hash(x)
			packed, ok := m.Pack(nil, x)
			got, ok2 := m.HashPacked(string(packed))
			if !ok || !ok2 || got != want {
				t.Errorf("%v: packed %q has hash %x, the request %x", by, packed, got, want)
			}
			text, _ := m.Append(nil, x)
			if m.Text(string(packed)) != string(text) {
				t.Errorf("%v: %q is shown as %q, want %q", by, packed, m.Text(string(packed)), text)
			}
		}
	}
	m := New([]string{site.ByCustomer, site.ByUser}, 64)
	a, _ := m.Pack(nil, &exchange.Exchange{Customer: []byte("a b"), User: []byte("c")})
	b, _ := m.Pack(nil, &exchange.Exchange{Customer: []byte("a"), User: []byte("b c")})
	if string(a) == string(b) {
		t.Error("two keys pack alike")
	}
}

func FuzzHashPacked(f *testing.F) {
	f.Add("\x04acme\x04\xc0\x00\x02\x01")
	f.Fuzz(func(t *testing.T, packed string) {
		m := New([]string{site.ByCustomer, site.ByIP}, 64)
		m.HashPacked(packed)
		m.Text(packed)
	})
}
