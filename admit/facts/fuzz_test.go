package facts

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// FuzzQuery compares with net/url where that has an opinion.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"key=a", "a=b&key=%41%zz", "k%65y=1&key=1", "key=+&key=%20", "&&==&key", "key=" + strings.Repeat("%41", 300)} {
		f.Add(s)
	}
	s := &inQuery{"key"}
	f.Fuzz(func(t *testing.T, query string) {
		x := &exchange.Exchange{Request: &wire.Request{Target: []byte("/a?" + query)}}
		got, refusal := s.find(x)
		if strings.ContainsAny(query, ";#") {
			return
		}
		all, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		want, different := "", false
		for i, v := range all["key"] {
			different = different || i > 0 && v != want
			want = v
		}
		switch {
		case refusal == refuseLong:
		case different != (refusal == refuseAmbiguous):
			t.Errorf("%q: refusal %v, values %q", query, refusal, all["key"])
		case refusal == nil && string(got) != want:
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	})
}

// FuzzCookie compares with net/http where that has an opinion.
func FuzzCookie(f *testing.F) {
	for _, s := range []string{"sid=a", "a=b; sid=\"c\"", "sid=1; sid=2", ";;sid=;sid", "xsid=1;\tsid=2 ; sid = 3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return // no field value has these: heads that do are refused before (RFC 9110 §5.5)
		}
		got, refusal := cookie([]wire.Field{{Name: []byte("Cookie"), Value: []byte(text), ID: wire.Cookie}}, "sid")
		if refusal != nil && (got != nil || strings.Count(text, "sid=") < 2) {
			t.Errorf("%q: %q and a refusal", text, got)
		}
		if len(got) > 0 && !strings.Contains(text, "sid="+string(got)) && !strings.Contains(text, "sid=\""+string(got)) {
			t.Errorf("%q has no cookie %q", text, got)
		}
		if list, err := http.ParseCookie(text); err == nil && refusal == nil {
			for _, c := range list {
				if c.Name == "sid" && c.Value != string(got) {
					t.Errorf("%q: %q, want %q", text, got, c.Value)
				}
			}
		}
	})
}

// FuzzBasic compares with decoding all of it.
func FuzzBasic(f *testing.F) {
	for _, s := range []string{"YW5uOnNlY3JldA==", "YW5uOg", "Og==", "YQ==OmI=", "*", strings.Repeat("QUFB", 100) + "OmI="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\r\n") { // never in a field, and skipped by the decoder
			return
		}
		var buf [64]byte
		name, ok := basicUser([]byte(text), buf[:])
		whole, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			whole, err = base64.RawStdEncoding.DecodeString(text)
		}
		if err != nil {
			return
		}
		want, _, is := bytes.Cut(whole, []byte(":"))
		switch {
		case len(want) > len(buf):
			if ok && name != nil {
				t.Errorf("%q: %q, want none that fits", text, name)
			}
		case !ok:
			t.Errorf("%q: does not fit, want %q", text, want)
		case !is && name != nil, is && !bytes.Equal(name, want):
			t.Errorf("%q: %q, want %q", text, name, want)
		}
	})
}

// FuzzClass: whatever a stranger says, no class gets higher.
func FuzzClass(f *testing.F) {
	for _, s := range []string{"critical", "CRITICAL_PLUS", "low\x00", "", "gold"} {
		f.Add(s, s)
	}
	finder, err := NewStore(nil).Finder(&site.Identify{Class: site.ClassSource{Header: "X-Priority", Names: map[string]string{"gold": "critical"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x := &exchange.Exchange{Request: &wire.Request{Fields: []wire.Field{
			{Name: []byte("Evenkeel-Class"), Value: []byte(a), ID: wire.EvenkeelClass}, {Name: []byte("x-priority"), Value: []byte(b)}}}}
		if r := finder.Find(x, true); r != nil {
			t.Fatal(r)
		}
		for _, route := range []exchange.Class{exchange.Critical, exchange.Standard, exchange.Low} {
			if got := x.Claim.Classify(route); got.Rank() < route.Rank() {
				t.Errorf("%q, %q raise %v to %v", a, b, route, got)
			}
		}
	})
}

// FuzzToken: nobody who has no key gets a fact, whatever the token looks like.
func FuzzToken(f *testing.F) {
	m := newMint(f)
	finder := newFinder(f, jwtSite(site.JWT{JWKS: file(f, "keys.json", m.all())}))
	good := m.sign("ES256", m.es, "es", claims(nil))
	for _, s := range []string{"..", "e30.e30.", `eyJhbGciOiJub25lIn0.e30.`, "{}", good[:len(good)-1], newMint(f).sign("RS256", m.rs, "rs", claims(nil))[:40]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		x := &exchange.Exchange{Start: today, Request: &wire.Request{Fields: []wire.Field{{Name: []byte("authorization"), Value: []byte("Bearer " + token), ID: wire.Authorization}}}}
		if r := finder.Find(x, false); r != nil || x.Customer != nil {
			t.Errorf("%q: customer %q, refusal %v", token, x.Customer, r)
		}
	})
}

// FuzzKeys: no text of a key set or PEM file makes reading it fall over.
func FuzzKeys(f *testing.F) {
	m := newMint(f)
	f.Add(m.all())
	f.Add(m.public(m.es.Public()))
	f.Add(selfSigned(f, m.es))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if keys, err := parseKeys(text); err == nil && len(keys) == 0 {
			t.Errorf("%q: neither keys nor an error", text)
		}
	})
}
