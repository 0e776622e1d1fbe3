package node

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
)

func TestClientBehindProxies(t *testing.T) {
	s := &identify{trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ff::/48"), netip.MustParsePrefix("fe80::/10")}}
	for _, c := range []struct{ name, from, fields, want string }{
		{"no header", "10.0.0.1:1", "", "10.0.0.1"},
		{"not trusted", "192.0.2.1:1", "X-Forwarded-For: 203.0.113.1", "192.0.2.1"},
		{"one hop", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1", "203.0.113.1"},
		{"two hops", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1, 10.0.0.2", "203.0.113.1"},
		{"forged front part", "10.0.0.1:1", "X-Forwarded-For: 1.1.1.1, 203.0.113.1, 10.0.0.2", "203.0.113.1"},
		{"several fields", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1\nX-Forwarded-For: 10.0.0.3,10.0.0.2", "203.0.113.1"},
		{"all trusted", "10.0.0.1:1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2", "10.0.0.3"},
		{"rubbish ends the walk", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1, what, 10.0.0.2", "10.0.0.2"},
		{"empty element", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1,", "10.0.0.1"},
		{"with port", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1:4711", "203.0.113.1"},
		{"ipv6", "10.0.0.1:1", "X-Forwarded-For: 2001:db8::1", "2001:db8::1"},
		{"ipv6 in brackets", "10.0.0.1:1", "X-Forwarded-For: [2001:db8::1]:80, [2001:db8:ff::1]", "2001:db8::1"},
		{"mapped sender", "[::ffff:10.0.0.1]:1", "X-Forwarded-For: ::ffff:203.0.113.1", "203.0.113.1"},
		{"sender with a zone", "[fe80::1%eth0]:1", "X-Forwarded-For: 203.0.113.1", "203.0.113.1"},
		{"zone is refused", "10.0.0.1:1", "X-Forwarded-For: fe80::1%eth0", "10.0.0.1"},
		{"forwarded", "10.0.0.1:1", `Forwarded: for=203.0.113.1;proto=https, For="[2001:db8:ff::9]:80"`, "203.0.113.1"},
		{"forwarded hidden", "10.0.0.1:1", `Forwarded: for=203.0.113.1, for=_secret, for=10.0.0.2`, "10.0.0.2"},
		{"comma in quotes", "10.0.0.1:1", `Forwarded: for=203.0.113.1;host="a,b"`, "203.0.113.1"},
		{"client leaves a quote open", "10.0.0.1:1", `Forwarded: for="a, for=203.0.113.1`, "203.0.113.1"},
		{"client leaves a quote open, before a quoted address", "10.0.0.1:1", `Forwarded: "\, for="[2001:db8::1]:80", for=10.0.0.2`, "2001:db8::1"},
		{"client has a semicolon in its host", "10.0.0.1:1", `Forwarded: host="a;for=198.51.100.1;b";for=203.0.113.1`, "203.0.113.1"},
		{"both: x-forwarded-for", "10.0.0.1:1", "Forwarded: for=198.51.100.1\nX-Forwarded-For: 203.0.113.1", "203.0.113.1"},
		{"too many hops", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1" + strings.Repeat(", 10.0.0.2", 40), "10.0.0.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := request(t, "GET / HTTP/1.1\nHost: a\n"+c.fields)
			x.Client = netip.MustParseAddrPort(c.from)
			if r := s.Serve(x, exchange.Then(ok)); r != nil {
				t.Fatal(r)
			}
			if x.IP.String() != c.want {
				t.Errorf("client is %v, want %v", x.IP, c.want)
			}
		})
	}
}

func TestHostPathAndRequestID(t *testing.T) {
	s := &identify{}
	for _, c := range []struct{ target, host, id, wantHost, wantPath, wantID string }{
		{"/a?b", "Shop.Example:8080", "abc-1", "shop.example", "/a", "abc-1"},
		{"/", "shop.example.", "", "shop.example", "/", ""},
		{"*", "[2001:DB8::1]:80", strings.Repeat("x", 65), "[2001:db8::1]", "*", ""},
		{"/a?b?c", "a", "two words", "a", "/a", ""},
	} {
		head := "OPTIONS " + c.target + " HTTP/1.1\nHost: " + c.host
		if c.id != "" {
			head += "\nX-Request-Id: " + c.id
		}
		x := request(t, head)
		if r := s.Serve(x, exchange.Then(ok)); r != nil {
			t.Fatalf("%s: refused: %v", head, r)
		}
		if string(x.Host) != c.wantHost || string(x.Path) != c.wantPath {
			t.Errorf("%s: host %q, path %q; want %q, %q", head, x.Host, x.Path, c.wantHost, c.wantPath)
		}
		if c.wantID != "" && string(x.RequestID) != c.wantID {
			t.Errorf("%s: request id %q, want the client's", head, x.RequestID)
		}
		if c.wantID == "" {
			if raw, err := hex.DecodeString(string(x.RequestID)); err != nil || len(raw) != 16 {
				t.Errorf("%s: request id %q, want 128 bits in hex", head, x.RequestID)
			}
		}
	}
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{`for="[2001:db8::1]:80", for=1.2.3.4`, `1.2.3.4, [::1]:80`, `for="a\"b,c";for=`, `,,`, `[`, `a:b`} {
		f.Add(s)
	}
	s := &identify{trusted: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	f.Fuzz(func(t *testing.T, value string) {
		for _, quoted := range []bool{false, true} {
			rest, more := []byte(value), true
			for steps := 0; more; steps++ {
				var element []byte
				rest, element, more = lastElement(rest, quoted)
				if a, ok := parseAddress(element); ok && (!a.IsValid() || a.Zone() != "") {
					t.Errorf("%q gives the address %v", element, a)
				}
				if steps > len(value) {
					t.Fatalf("no end in %q", value)
				}
				s.trusts(netip.Addr{})
				forwardedFor(element)
			}
		}
	})
}
