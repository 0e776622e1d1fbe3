package facts

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/even-keel/evenkeel/site"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestRanges(t *testing.T) {
	r, err := newRanges([]site.RegionRange{
		{Region: "inner", Prefixes: prefixes("10.0.0.0/8", "fd00::/8")},
		{Region: "lab", Prefixes: prefixes("10.1.0.0/16", "10.255.255.255/32", "fd00:1::/32")},
		{Region: "desk", Prefixes: prefixes("10.1.2.3/32", "::ffff:10.1.2.4/128")},
		{Region: "edge", Prefixes: prefixes("0.0.0.0/32", "255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.0.0": "inner", "10.0.255.255": "inner", "10.1.0.0": "lab", "10.1.2.2": "lab", "10.1.2.3": "desk", "10.1.2.4": "desk", "10.1.2.5": "lab",
		"10.1.255.255": "lab", "10.2.0.0": "inner", "10.255.255.254": "inner", "10.255.255.255": "lab", "11.0.0.0": "", "9.255.255.255": "",
		"0.0.0.0": "edge", "0.0.0.1": "", "255.255.255.255": "edge", "255.255.255.254": "", "::": "", "::1": "", "fd00::1": "inner", "fd00:1::1": "lab",
		"fd00:2::": "inner", "fe00::": "", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "edge",
	} {
		if got := r.find(netip.MustParseAddr(addr)); string(got) != want {
			t.Errorf("%s is in %q, want %q", addr, got, want)
		}
	}
	if got := (&ranges{}).find(netip.MustParseAddr("10.0.0.1")); got != nil {
		t.Errorf("an empty table knows %q", got)
	}
	if _, err := newRanges([]site.RegionRange{{Region: "a", Prefixes: prefixes("10.0.0.0/8")}, {Region: "b", Prefixes: prefixes("10.9.9.9/8")}}); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8 is in the region a and in b") {
		t.Errorf("one prefix in two regions: %v", err)
	}
}

// Random tables against looking at every prefix.
func TestRangesAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	addr := func() netip.Addr { // near each other, so that prefixes lie in each other
		if rnd.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(rnd.IntN(3)), byte(rnd.IntN(3)), byte(rnd.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0xfd, byte(rnd.IntN(2)), 14: byte(rnd.IntN(2)), 15: byte(rnd.IntN(256))})
	}
	for range 300 {
		names, seen := []site.RegionRange{{Region: "a"}, {Region: "b"}, {Region: "c"}}, map[netip.Prefix]int{}
		for range rnd.IntN(30) {
			a := addr()
			p := netip.PrefixFrom(a, rnd.IntN(a.BitLen()+1)).Masked()
			if _, twice := seen[p]; !twice {
				seen[p] = rnd.IntN(3)
				names[seen[p]].Prefixes = append(names[seen[p]].Prefixes, p)
			}
		}
		r, err := newRanges(names)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			a, want, longest := addr(), "", -1
			for p, i := range seen {
				if p.Contains(a) && p.Bits() > longest {
					want, longest = names[i].Region, p.Bits()
				}
			}
			if got := r.find(a); string(got) != want {
				t.Fatalf("%v is in %q, want %q; table %v", a, got, want, seen)
			}
		}
	}
}

// mmdb is a small MaxMind database: countries of networks, after the specification 2.0 of the format.
func mmdb(countries map[string]string) []byte {
	var data []byte
	nodes := [][2]int{{-1, -1}} // -1: nothing; at or above 1<<20: a record
	for prefix, code := range countries {
		p := netip.MustParsePrefix(prefix)
		record := 1<<20 + len(data)
		if code == "" {
			data = append(data, 0xe0) // an empty map
		} else {
			data = append(append(data, 0xe1), word("country")...)
			data = append(append(data, 0xe1), word("iso_code")...)
			data = append(data, word(code)...)
		}
		b, bits := p.Addr().As16(), p.Bits()
		if p.Addr().Is4() { // lies at ::/96
			b, bits = [16]byte{12: b[12], b[13], b[14], b[15]}, bits+96
		}
		at := 0
		for i := range bits {
			side := b[i/8] >> (7 - i%8) & 1
			if i == bits-1 {
				nodes[at][side] = record
				break
			}
			if nodes[at][side] < 0 {
				nodes = append(nodes, [2]int{-1, -1})
				nodes[at][side] = len(nodes) - 1
			}
			at = nodes[at][side]
		}
	}
	var out []byte
	for _, n := range nodes {
		for _, to := range n {
			switch {
			case to < 0:
				to = len(nodes)
			case to >= 1<<20:
				to = to - 1<<20 + len(nodes) + 16
			}
			out = append(out, byte(to>>16), byte(to>>8), byte(to))
		}
	}
	out = append(append(out, make([]byte, 16)...), data...)
	out = append(out, "\xab\xcd\xefMaxMind.com\xe9"...)
	out = append(append(out, word("node_count")...), 0xc4)
	out = binary.BigEndian.AppendUint32(out, uint32(len(nodes)))
	for name, v := range map[string]byte{"record_size": 24, "ip_version": 6, "binary_format_major_version": 2, "binary_format_minor_version": 0} {
		out = append(append(out, word(name)...), 0xa1, v)
	}
	out = append(append(out, word("database_type")...), word("Test-Country")...)
	out = append(append(out, word("languages")...), 0x01, 0x04, 'B', 'e', 'n')
	out = append(append(out, word("build_epoch")...), 0x04, 0x02, 0x60, 0, 0, 0)
	return append(append(out, word("description")...), 0xe0)
}

// word is a short text in a database.
func word(s string) []byte { return append([]byte{0x40 | byte(len(s))}, s...) }

func TestRegion(t *testing.T) {
	path := file(t, "countries.mmdb", mmdb(map[string]string{"192.0.2.0/24": "DE", "198.51.100.0/24": "FR", "203.0.113.0/24": "", "2001:db8::/32": "JP"}))
	f := newFinder(t, &site.Identify{Region: &site.Region{Header: "X-Region", MMDB: path,
		Prefixes: []site.RegionRange{{Region: "office", Prefixes: prefixes("198.51.100.0/28")}}}})
	for _, c := range []struct {
		name, ip, fields string
		trusted          bool
		want             string
	}{
		{"database", "192.0.2.9", "", false, "DE"},
		{"database, IPv6", "2001:db8::9", "", false, "JP"},
		{"own table goes first", "198.51.100.7", "", false, "office"},
		{"beside the own table", "198.51.100.17", "", false, "FR"},
		{"record without country", "203.0.113.1", "", false, ""},
		{"not in the database", "10.0.0.1", "", false, ""},
		{"header of a stranger", "192.0.2.9", "X-Region: mars", false, "DE"},
		{"header of a proxy", "198.51.100.7", "X-Region: mars", true, "mars"},
		{"empty header", "192.0.2.9", "X-Region:", true, "DE"},
		{"two headers", "192.0.2.9", "X-Region: a\nX-Region: b", true, "DE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := request(t, "GET / HTTP/1.1\nHost: a\n"+c.fields)
			x.IP, x.Trusted = netip.MustParseAddr(c.ip), c.trusted
			for range 2 {
				if r := find(f, x); r != nil || string(x.Region) != c.want {
					t.Errorf("region %q, refusal %v, want %q", x.Region, r, c.want)
				}
			}
			if n := testing.AllocsPerRun(100, func() { find(f, x) }); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

// A database and a key file are read again when they change; a bad one leaves the old one in use.
func TestFilesAreReadAgain(t *testing.T) {
	m, next := newMint(t), newMint(t)
	keys := file(t, "key.pem", m.public(m.es.Public()))
	path := file(t, "countries.mmdb", mmdb(map[string]string{"192.0.2.0/24": "DE"}))
	replace := func(path string, text []byte) {
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		store := NewStore(slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); store.Run(ctx) }()
		defer func() { cancel(); <-done }()
		synctest.Wait() // the first look is before there are files: what they were when they were read counts, not when first seen
		cfg := jwtSite(site.JWT{Key: keys})
		cfg.Region = &site.Region{MMDB: path}
		f, err := store.Finder(cfg)
		if err != nil {
			t.Fatal(err)
		}
		store.Use(f)
		expect := func(when string, m *mint, customer, region string) {
			t.Helper()
			x := bearer(t, m.sign("ES256", m.es, "", claims(map[string]any{"jti": when})))
			if r := find(f, x); r != nil || string(x.Customer) != customer || string(x.Region) != region {
				t.Errorf("%s: customer %q in %q, refusal %v; want %q in %q", when, x.Customer, x.Region, r, customer, region)
			}
		}
		synctest.Wait()
		expect("at first", m, "acme", "DE")
		replace(path, mmdb(map[string]string{"192.0.2.0/24": "FR"}))
		replace(keys, next.public(next.es.Public()))
		pass(3 * watchEvery)
		expect("new files", next, "acme", "FR")
		expect("the old key", m, "", "FR")
		replace(path, []byte("rubbish"))
		replace(keys, []byte("rubbish"))
		pass(3 * watchEvery)
		expect("bad files", next, "acme", "FR")
		if st := store.Status(); len(st.Databases) != 1 || st.Databases[0].Type != "Test-Country" || !strings.Contains(st.Tokens[0].Wrong, "no PEM block") {
			t.Errorf("the status does not tell: %+v", st)
		}
		replace(path, mmdb(map[string]string{"192.0.2.0/24": "IT"}))
		replace(keys, m.public(m.es.Public()))
		pass(3 * watchEvery)
		expect("good files again", m, "acme", "IT")
	})
	for name, text := range map[string][]byte{"rubbish": []byte("rubbish"), "empty": nil} {
		if _, err := NewStore(nil).Finder(&site.Identify{Region: &site.Region{MMDB: file(t, "bad.mmdb", text)}}); err == nil || !strings.Contains(err.Error(), "identify.region.mmdb") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewStore(nil).Finder(&site.Identify{Region: &site.Region{MMDB: filepath.Join(t.TempDir(), "none")}}); err == nil {
		t.Error("a missing database is no error")
	}
}
