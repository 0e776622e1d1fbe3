package facts

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// request makes an exchange of a head as text, as the identify stage hands it on.
func request(t testing.TB, head string) *exchange.Exchange {
	t.Helper()
	r := new(wire.Request)
	raw := strings.ReplaceAll(strings.TrimSpace(head), "\n", "\r\n") + "\r\n\r\n"
	n, err := r.Parse([]byte(raw), wire.Limits{HeadBytes: 64 << 10, Fields: 100})
	if err != nil || n != len(raw) {
		t.Fatalf("parse %q: %d, %v", head, n, err)
	}
	x := &exchange.Exchange{Request: r, Client: netip.MustParseAddrPort("192.0.2.7:4711"), Path: r.Target}
	if i := strings.IndexByte(string(r.Target), '?'); i >= 0 {
		x.Path = r.Target[:i]
	}
	x.IP = x.Client.Addr()
	return x
}

// find runs f as the identify stage does.
func find(f *Finder, x *exchange.Exchange) *exchange.Refusal {
	return f.Find(x, x.Request.Field(wire.EvenkeelClass) != nil)
}

// newFinder is Finder for sites that are right.
func newFinder(t testing.TB, cfg *site.Identify) *Finder {
	t.Helper()
	f, err := NewStore(nil).Finder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// gate is the site of most tests: three customers, foreign words for classes.
func gate() *site.Identify {
	return &site.Identify{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Customer:       &site.Source{Header: "X-Api-Key"},
		Class:          site.ClassSource{Header: "X-Priority", Names: map[string]string{"Gold": "critical", "batch": "low"}},
		Customers: []site.Customer{{ID: "vip", Class: "critical", Weight: 8}, {ID: "miser", Class: "low", Weight: 1},
			{ID: "plain", Class: "standard", Weight: 2}, {ID: "heavy", Weight: 1000}},
	}
}

func TestClass(t *testing.T) {
	f := newFinder(t, gate())
	const trusted = "10.0.0.1:1"
	for _, c := range []struct{ name, from, fields, onCritical, onStandard, onLow string }{
		{"nothing said", "", "", "critical", "standard", "low"},
		{"stranger cannot raise", "", "Evenkeel-Class: critical", "critical", "standard", "low"},
		{"stranger may lower", "", "Evenkeel-Class: low", "low", "low", "low"},
		{"stranger lowers to standard", "", "Evenkeel-Class: standard", "standard", "standard", "low"},
		{"trusted raises", trusted, "Evenkeel-Class: critical", "critical", "critical", "critical"},
		{"trusted lowers", trusted, "Evenkeel-Class: low", "low", "low", "low"},
		{"trusted says standard", trusted, "Evenkeel-Class: standard", "standard", "standard", "standard"},
		{"letters of either case", trusted, "EVENKEEL-CLASS: CrItIcAl", "critical", "critical", "critical"},
		{"words of the book", trusted, "X-Priority: CRITICAL_PLUS", "critical", "critical", "critical"},
		{"sheddable plus is standard", trusted, "X-Priority: SHEDDABLE_PLUS", "standard", "standard", "standard"},
		{"sheddable is low", trusted, "X-Priority: sheddable", "low", "low", "low"},
		{"own words", trusted, "X-Priority: gold", "critical", "critical", "critical"},
		{"own words in capitals", trusted, "X-Priority: BATCH", "low", "low", "low"},
		{"own words hold in their header only", trusted, "Evenkeel-Class: gold", "critical", "standard", "low"},
		{"own header goes first", trusted, "X-Priority: gold\nEvenkeel-Class: low", "low", "low", "low"},
		{"unknown word, other header", trusted, "X-Priority: gold\nEvenkeel-Class: urgent", "critical", "critical", "critical"},
		{"two fields: the lowest", trusted, "Evenkeel-Class: critical\nEvenkeel-Class: low", "low", "low", "low"},
		{"empty", trusted, "Evenkeel-Class:", "critical", "standard", "low"},
		{"long word", trusted, "Evenkeel-Class: " + strings.Repeat("c", 8<<10), "critical", "standard", "low"},
		{"list", trusted, "Evenkeel-Class: critical, low", "critical", "standard", "low"},
		{"customer of the table", "", "X-Api-Key: vip", "critical", "critical", "critical"},
		{"low customer", "", "X-Api-Key: miser", "low", "low", "low"},
		{"standard customer", "", "X-Api-Key: plain", "standard", "standard", "standard"},
		{"customer without class", "", "X-Api-Key: heavy", "critical", "standard", "low"},
		{"unknown customer", "", "X-Api-Key: who", "critical", "standard", "low"},
		{"customer lowers itself", "", "X-Api-Key: vip\nEvenkeel-Class: low", "low", "low", "low"},
		{"customer cannot raise itself", "", "X-Api-Key: miser\nEvenkeel-Class: critical", "low", "low", "low"},
		{"trusted goes before the table", trusted, "X-Api-Key: miser\nEvenkeel-Class: critical", "critical", "critical", "critical"},
		{"trusted lowers the table's", trusted, "X-Api-Key: vip\nX-Priority: batch", "low", "low", "low"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := request(t, "GET / HTTP/1.1\nHost: a\n"+c.fields)
			if c.from != "" {
				x.Client, x.Trusted = netip.MustParseAddrPort(c.from), true
			}
			if r := find(f, x); r != nil {
				t.Fatal(r)
			}
			for i, want := range []string{c.onCritical, c.onStandard, c.onLow} {
				route := []exchange.Class{exchange.Critical, exchange.Standard, exchange.Low}[i]
				if got := x.Claim.Classify(route).String(); got != want {
					t.Errorf("on a %v route the class is %s, want %s (claim %+v)", route, got, want, x.Claim)
				}
			}
		})
	}
}

// A customer whose name anybody can write is not raised by the table, and gets no more than others.
func TestClassOfUnsureCustomer(t *testing.T) {
	for name, c := range map[string]struct {
		source site.Source
		head   string
	}{
		"path":  {site.Source{Path: 2}, "GET /t/%s/orders HTTP/1.1\nHost: a"},
		"basic": {site.Source{Basic: true}, "GET / HTTP/1.1\nHost: a\nAuthorization: Basic %s"},
	} {
		cfg := gate()
		cfg.Customer = &c.source
		f := newFinder(t, cfg)
		for _, who := range []string{"vip", "miser"} {
			word := who
			if c.source.Basic {
				word = encode(who + ":secret")
			}
			x := request(t, strings.Replace(c.head, "%s", word, 1))
			if r := find(f, x); r != nil || string(x.Customer) != who {
				t.Fatalf("%s: customer %q, refusal %v", name, x.Customer, r)
			}
			want := map[string]exchange.Class{"vip": exchange.Standard, "miser": exchange.Low}[who]
			if got := x.Claim.Classify(exchange.Standard); got != want || x.Weight > 1 {
				t.Errorf("%s: %s has class %v and weight %d, want %v and no weight", name, who, got, x.Weight, want)
			}
			x.Client, x.Trusted = netip.MustParseAddrPort("10.0.0.1:1"), true
			if find(f, x); who == "vip" && (x.Claim.Classify(exchange.Standard) != exchange.Critical || x.Weight != 8) {
				t.Errorf("%s: of a trusted sender %s has claim %+v and weight %d", name, who, x.Claim, x.Weight)
			}
		}
	}
}

func TestClassFromOwnSenders(t *testing.T) {
	cfg := gate()
	cfg.Class.From = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fe80::/10")}
	f := newFinder(t, cfg)
	for from, want := range map[string]exchange.Class{"192.0.2.9:1": exchange.Critical, "[::ffff:192.0.2.9]:1": exchange.Critical, "[fe80::1%eth0]:1": exchange.Critical,
		"10.0.0.1:1": exchange.Standard, "203.0.113.1:1": exchange.Standard} {
		x := request(t, "GET / HTTP/1.1\nHost: a\nEvenkeel-Class: critical")
		x.Client = netip.MustParseAddrPort(from)
		x.Trusted = from == "10.0.0.1:1"
		if find(f, x); x.Claim.Classify(exchange.Standard) != want {
			t.Errorf("%s: claim %+v, want %v", from, x.Claim, want)
		}
	}
}

func TestWeight(t *testing.T) {
	f := newFinder(t, gate())
	for who, want := range map[string]uint16{"vip": 8, "heavy": 1000, "plain": 2, "nobody": 0} {
		x := request(t, "GET / HTTP/1.1\nHost: a\nX-Api-Key: "+who)
		if find(f, x); x.Weight != want {
			t.Errorf("%s weighs %d, want %d", who, x.Weight, want)
		}
	}
}
