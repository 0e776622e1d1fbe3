package facts

import (
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

const browser = "GET /shop/cart?item=4711&key=k1 HTTP/1.1\nHost: shop.example\nUser-Agent: Mozilla/5.0\nAccept: text/html\nAccept-Language: en\n" +
	"Accept-Encoding: gzip\nReferer: https://shop.example/\nCookie: a=b; sid=0123456789abcdef; c=d\nCache-Control: no-cache\nX-Api-Key: vip\n"

func BenchmarkFind(b *testing.B) {
	m := newMint(b)
	token := m.sign(jose.RS256, m.rs, "rs", claims(map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
	for _, c := range []struct {
		name string
		cfg  *site.Identify
		more string
	}{
		{"default", &site.Identify{}, ""},
		{"class said", &site.Identify{}, "Evenkeel-Class: low"},
		{"customer and class by header", gate(), "X-Priority: CRITICAL_PLUS"},
		{"cookie", &site.Identify{Customer: &site.Source{Cookie: "sid"}}, ""},
		{"query", &site.Identify{Customer: &site.Source{Query: "key"}}, ""},
		{"basic", &site.Identify{Customer: &site.Source{Basic: true}}, "Authorization: Basic " + encode("customer:secret")},
		{"known token", jwtSite(site.JWT{JWKS: file(b, "keys.json", m.all()), Require: true}), "Authorization: Bearer " + token},
		{"region by table", &site.Identify{Region: &site.Region{Prefixes: []site.RegionRange{{Region: "a", Prefixes: prefixes("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32")}}}}, ""},
		{"region by database", &site.Identify{Region: &site.Region{MMDB: file(b, "c.mmdb", mmdb(map[string]string{"192.0.2.0/24": "DE"}))}}, ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			f, x := newFinder(b, c.cfg), request(b, browser+c.more)
			x.Start = time.Now()
			said := c.name == "class said"
			b.ReportAllocs()
			for b.Loop() {
				x.Customer, x.User, x.Claim = nil, nil, exchange.Claim{}
				if r := f.Find(x, said); r != nil {
					b.Fatal(r)
				}
			}
		})
	}
}

// BenchmarkVerify is what a token costs that was not seen before.
func BenchmarkVerify(b *testing.B) {
	m := newMint(b)
	f := newFinder(b, jwtSite(site.JWT{JWKS: file(b, "keys.json", m.all())}))
	v := f.customer.(*inToken).verifier
	for _, c := range []struct {
		alg jose.SignatureAlgorithm
		key any
		kid string
	}{{jose.RS256, m.rs, "rs"}, {jose.ES256, m.es, "es"}, {jose.EdDSA, m.ed, "ed"}} {
		b.Run(string(c.alg), func(b *testing.B) {
			token := m.sign(c.alg, c.key, c.kid, claims(nil))
			for b.Loop() {
				t, keys, err := v.set.ring.Load().candidates(token)
				if err == nil {
					_, err = v.verify(t, keys, today)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
