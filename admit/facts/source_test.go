package facts

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Reasons of refusals stand for facts in the tables, with a ! before.
func TestSources(t *testing.T) {
	long := strings.Repeat("k", 8<<10)
	header, cookie, query := site.Source{Header: "X-Api-Key"}, site.Source{Cookie: "sid"}, site.Source{Query: "key"}
	path, basic := site.Source{Path: 2}, site.Source{Basic: true}
	auth := func(s string) string { return "/\nAuthorization: " + s }
	for _, c := range []struct {
		name   string
		source site.Source
		in     string // target, and fields in further lines
		want   string
	}{
		{"none", header, "/", ""},
		{"one", header, "/\nx-api-KEY: acme", "acme"},
		{"other of the same length", header, "/\nX-Api-Kex: acme", ""},
		{"empty", header, "/\nX-Api-Key:", ""},
		{"long", header, "/\nX-Api-Key: " + long, long},
		{"twice the same", header, "/\nX-Api-Key: a\nX-Api-Key: a", "a"},
		{"twice different", header, "/\nX-Api-Key: a\nX-Api-Key: b", "!ambiguous_fact"},
		{"empty and full", header, "/\nX-Api-Key:\nX-Api-Key: b", "!ambiguous_fact"},
		{"known field", site.Source{Header: "user-agent"}, "/\nUser-Agent: curl", "curl"},

		{"cookie", cookie, "/\nCookie: a=b; sid=s1; c=d", "s1"},
		{"cookie, first", cookie, "/\nCookie: sid=s1", "s1"},
		{"cookie in quotes", cookie, "/\nCookie: a=b;sid=\"s1\"", "s1"},
		{"cookie with equals", cookie, "/\nCookie: sid=a=b==", "a=b=="},
		{"cookie of longer name", cookie, "/\nCookie: xsid=1; sidx=2; SID=3", ""},
		{"cookie without value", cookie, "/\nCookie: sid", ""},
		{"empty cookie", cookie, "/\nCookie: sid=; ;;=", ""},
		{"cookie in two fields", cookie, "/\nCookie: a=b\nCookie: sid=s2", "s2"},
		{"two cookies", cookie, "/\nCookie: sid=1; sid=2", "!ambiguous_fact"},
		{"long cookie", cookie, "/\nCookie: sid=" + long, long},

		{"query", query, "/a?x=1&key=k1&y=2", "k1"},
		{"query, nothing", query, "/a", ""},
		{"query, empty", query, "/a?key=&keys=1&xkey=2", ""},
		{"query, no value", query, "/a?key", ""},
		{"query decoded", query, "/a?key=a%20b+c%2f%zz%4", "a b c/%zz%4"},
		{"query name encoded", query, "/a?k%65y=k1", "k1"},
		{"query name encoded twice", query, "/a?k%2565y=k1", ""},
		{"query, path looks like one", query, "/key=a?b=c", ""},
		{"query twice", query, "/a?key=1&key=2", "!ambiguous_fact"},
		{"query twice, once encoded", query, "/a?key=1&%6Bey=2", "!ambiguous_fact"},
		{"query twice the same", query, "/a?key=a%2Bb&key=%61%2Bb", "a+b"},
		{"long query", query, "/a?key=" + long, long},
		{"long query decoded", query, "/a?key=" + long + "%20", "!long_fact"},
		{"query of 256 octets decoded", query, "/a?key=" + strings.Repeat("%41", 256), strings.Repeat("A", 256)},

		{"path", path, "/t/acme/orders?x", "acme"},
		{"last part", path, "/t/acme", "acme"},
		{"no such part", path, "/t", ""},
		{"empty part", path, "/t//acme", "acme"},
		{"empty parts", path, "//t///acme//x", "acme"},
		{"encoded slash", path, "/%2ft%2F/acme%2Fx/y", "acme"},
		{"backslash", path, "/t\\acme\\x", "acme"},
		{"encoded backslash", path, "/t%5Cacme", "acme"},
		{"nothing but slashes", path, "//%2f/", ""},
		{"trailing slash", path, "/t/", ""},
		{"part decoded", path, "/t/ac%6De+1/x", "acme+1"},
		{"star", path, "*", ""},
		{"long part decoded", path, "/t/%41" + long, "!long_fact"},

		{"basic", basic, auth("Basic " + encode("ann:secret")), "ann"},
		{"basic, other case", basic, auth("bASIC  " + encode("ann:")), "ann"},
		{"basic without padding", basic, auth("Basic " + strings.TrimRight(encode("anna:1"), "=")), "anna"},
		{"basic without colon", basic, auth("Basic " + encode("ann")), ""},
		{"basic without name", basic, auth("Basic " + encode(":secret")), ""},
		{"basic, broken", basic, auth("Basic YW5u*jp4"), ""},
		{"basic, padding inside", basic, auth("Basic YQ==OmI="), ""},
		{"basic, one letter", basic, auth("Basic Y"), ""},
		{"basic, nothing", basic, auth("Basic "), ""},
		{"another scheme", basic, auth("Bearer " + encode("ann:secret")), ""},
		{"basic, long name", basic, auth("Basic " + encode(long+":x")), "!long_fact"},
		{"basic, long password", basic, auth("Basic " + encode("ann:"+long)), "ann"},
		{"basic twice", basic, auth("Basic " + encode("a:1") + "\nAuthorization: Basic " + encode("b:1")), "!ambiguous_fact"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFinder(t, &site.Identify{Customer: &c.source})
			target, fields, _ := strings.Cut(c.in, "\n")
			x := request(t, "OPTIONS "+target+" HTTP/1.1\nHost: a\n"+fields)
			got := find(f, x)
			switch {
			case got != nil:
				if c.want != "!"+got.Reason || got.Status != 400 {
					t.Errorf("refused: %v, want %q", got, c.want)
				}
			case string(x.Customer) != c.want:
				t.Errorf("customer is %.40q, want %.40q", x.Customer, c.want)
			case c.want == "" && x.Customer != nil:
				t.Errorf("no customer is %#v, want nil", x.Customer)
			}
		})
	}
}

func TestTwoDecodedFacts(t *testing.T) {
	f := newFinder(t, &site.Identify{Customer: &site.Source{Query: "key"}, User: &site.Source{Basic: true}})
	x := request(t, "GET /?key=a%20b HTTP/1.1\nHost: a\nAuthorization: Basic "+encode("ann:x"))
	if r := find(f, x); r != nil || string(x.Customer) != "a b" || string(x.User) != "ann" {
		t.Errorf("customer %q, user %q, refusal %v", x.Customer, x.User, r)
	}
}

// TestHostOfHTTP2: a customer by Host is found in HTTP/2 too, whose host is no field.
func TestHostOfHTTP2(t *testing.T) {
	f := newFinder(t, &site.Identify{Customer: &site.Source{Header: "Host"}})
	x := request(t, "GET / HTTP/1.1\nHost: shop.example\nA: b")
	if r := find(f, x); r != nil || string(x.Customer) != "shop.example" {
		t.Errorf("customer %q, refusal %v", x.Customer, r)
	}
	x.Request.Fields, x.Customer = x.Request.Fields[1:], nil
	if r := find(f, x); r != nil || string(x.Customer) != "shop.example" {
		t.Errorf("without the field: customer %q, refusal %v", x.Customer, r)
	}
}

func TestCertificate(t *testing.T) {
	peer := &exchange.Peer{Subject: []byte("CN=shop,O=Example"), Name: []byte("shop"), AltName: []byte("spiffe://example/shop")}
	for word, want := range map[string]string{"subject": "CN=shop,O=Example", "cn": "shop", "san": "spiffe://example/shop"} {
		f := newFinder(t, &site.Identify{User: &site.Source{MTLS: word}})
		x := request(t, "GET / HTTP/1.1\nHost: a")
		if find(f, x); x.User != nil {
			t.Errorf("%s: a client without certificate has the user %q", word, x.User)
		}
		x.Peer = peer
		if find(f, x); string(x.User) != want {
			t.Errorf("%s: user %q, want %q", word, x.User, want)
		}
		x.Peer = &exchange.Peer{}
		if find(f, x); x.User != nil {
			t.Errorf("%s: a certificate without such a name has the user %q", word, x.User)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		customer, user *site.Source
		head           string
	}{
		"default": {nil, nil, "GET / HTTP/1.1\nHost: a\nEvenkeel-Class: low"},
		"header":  {&site.Source{Header: "X-Api-Key"}, nil, "GET / HTTP/1.1\nHost: a\nX-Api-Key: vip\nX-Priority: CRITICAL_PLUS"},
		"cookie":  {&site.Source{Cookie: "sid"}, &site.Source{Query: "u"}, "GET /?u=%41 HTTP/1.1\nHost: a\nCookie: a=b; sid=c"},
		"basic":   {&site.Source{Path: 1}, &site.Source{Basic: true}, "GET /%41 HTTP/1.1\nHost: a\nAuthorization: Basic " + encode("ann:x")},
	} {
		cfg := gate()
		cfg.Customer, cfg.User = c.customer, c.user
		f, x := newFinder(t, cfg), request(t, c.head)
		if n := testing.AllocsPerRun(100, func() { find(f, x) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// TestTwoLongFacts: the length of a fact is bounded by itself, not together with another one.
func TestTwoLongFacts(t *testing.T) {
	long := strings.Repeat("k", maxFact-1)
	for _, user := range []site.Source{{Basic: true}, {Query: "user"}} {
		f := newFinder(t, &site.Identify{Customer: &site.Source{Path: 1}, User: &user})
		for _, more := range []string{"", "k", "kk"} {
			x := request(t, "GET /%6B"+long+"?user=%6B"+long+more+" HTTP/1.1\nHost: a\nAuthorization: Basic "+encode("k"+long+more+":x"))
			refusal := find(f, x)
			if more != "" {
				if refusal != refuseLong {
					t.Errorf("a name of %d bytes: %v", maxFact+len(more), refusal)
				}
				continue
			}
			if refusal != nil || string(x.Customer) != "k"+long || string(x.User) != "k"+long {
				t.Errorf("refused: %v; customer %q, user %q", refusal, x.Customer, x.User)
			}
		}
	}
}
