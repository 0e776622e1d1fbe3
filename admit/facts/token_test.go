package facts

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// today is the time of requests in these tests.
var today = time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)

// mint makes keys and tokens.
type mint struct {
	t  testing.TB
	rs *rsa.PrivateKey
	es *ecdsa.PrivateKey
	ed ed25519.PrivateKey
}

func newMint(t testing.TB) *mint {
	t.Helper()
	m := &mint{t: t}
	var err [3]error
	m.rs, err[0] = rsa.GenerateKey(rand.Reader, 2048)
	m.es, err[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, m.ed, err[2] = ed25519.GenerateKey(rand.Reader)
	for _, e := range err {
		if e != nil {
			t.Fatal(e)
		}
	}
	return m
}

// claims are those of a good token, with changes; nil takes a claim away.
func claims(change map[string]any) map[string]any {
	c := map[string]any{"sub": "acme", "iss": "https://issuer.example", "aud": "shop", "exp": today.Add(time.Hour).Unix(), "nbf": today.Add(-time.Hour).Unix()}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// sign makes a token. kid empty: it names no key.
func (m *mint) sign(alg jose.SignatureAlgorithm, key any, kid string, c map[string]any) string {
	m.t.Helper()
	payload, err := json.Marshal(c)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.signRaw(alg, key, kid, payload)
}

func (m *mint) signRaw(alg jose.SignatureAlgorithm, key any, kid string, payload []byte) string {
	m.t.Helper()
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		opts = opts.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		m.t.Fatal(err)
	}
	t, err := s.Sign(payload)
	if err != nil {
		m.t.Fatal(err)
	}
	text, err := t.CompactSerialize()
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}

// embed makes a token that brings the key it is signed with.
func (m *mint) embed(key *ecdsa.PrivateKey) string {
	m.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		m.t.Fatal(err)
	}
	payload, _ := json.Marshal(claims(nil))
	t, err := s.Sign(payload)
	if err != nil {
		m.t.Fatal(err)
	}
	text, _ := t.CompactSerialize()
	return text
}

// set is a key set with these keys.
func (m *mint) set(keys ...jose.JSONWebKey) []byte {
	m.t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}

// all is a set with all keys of the mint.
func (m *mint) all() []byte {
	return m.set(jose.JSONWebKey{Key: m.rs.Public(), KeyID: "rs", Use: "sig"}, jose.JSONWebKey{Key: m.es.Public(), KeyID: "es", Algorithm: "ES256"}, jose.JSONWebKey{Key: m.ed.Public(), KeyID: "ed"})
}

// file is a file with this text.
func file(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// public is a public key as PEM.
func (m *mint) public(key any) []byte {
	m.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

const secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// jwtSite is a site whose customers are found in tokens.
func jwtSite(j site.JWT) *site.Identify {
	if j.Claim == "" {
		j.Claim = "sub"
	}
	if j.Header == "" {
		j.Header = "Authorization"
	}
	j.Leeway, j.Refresh = 30*time.Second, 10*time.Minute
	return &site.Identify{Customer: &site.Source{JWT: &j}}
}

// bearer is a request with a token.
func bearer(t testing.TB, token string) *exchange.Exchange {
	x := request(t, "GET / HTTP/1.1\nHost: a\nAuthorization: Bearer "+token)
	x.Start = today
	return x
}

func TestTokens(t *testing.T) {
	m := newMint(t)
	other := newMint(t)
	f := newFinder(t, jwtSite(site.JWT{JWKS: file(t, "keys.json", m.all()), Issuer: "https://issuer.example", Audience: "shop", Require: true}))
	es := func(change map[string]any) string { return m.sign(jose.ES256, m.es, "es", claims(change)) }
	good := es(nil)
	part := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	rsaPEM := m.public(m.rs.Public())
	for _, c := range []struct{ name, token, want string }{
		{"ES256", good, "acme"},
		{"RS256", m.sign(jose.RS256, m.rs, "rs", claims(nil)), "acme"},
		{"PS512", m.sign(jose.PS512, m.rs, "rs", claims(nil)), "acme"},
		{"EdDSA", m.sign(jose.EdDSA, m.ed, "ed", claims(nil)), "acme"},
		{"no kid", m.sign(jose.ES256, m.es, "", claims(nil)), "acme"},
		{"number", es(map[string]any{"sub": 4711}), "4711"},
		{"audiences", es(map[string]any{"aud": []string{"x", "shop"}}), "acme"},
		{"no exp", es(map[string]any{"exp": nil}), "acme"},
		{"exp as a fraction", es(map[string]any{"exp": float64(today.Unix()) + 0.5}), "acme"},
		{"expired within leeway", es(map[string]any{"exp": today.Unix() - 29}), "acme"},
		{"nbf within leeway", es(map[string]any{"nbf": today.Unix() + 29}), "acme"},
		{"exp without end", es(map[string]any{"exp": 1e300}), "acme"},

		{"no claim", es(map[string]any{"sub": nil}), ""},
		{"empty claim", es(map[string]any{"sub": ""}), ""},
		{"array", es(map[string]any{"sub": []string{"acme"}}), ""},
		{"object", es(map[string]any{"sub": map[string]any{"a": 1}}), ""},
		{"bool", es(map[string]any{"sub": true}), ""},
		{"claim in capitals", es(map[string]any{"sub": nil, "SUB": "acme"}), ""},

		{"expired", es(map[string]any{"exp": today.Unix() - 31}), "!bad_token"},
		{"not yet", es(map[string]any{"nbf": today.Unix() + 31}), "!bad_token"},
		{"other issuer", es(map[string]any{"iss": "https://issuer.example/"}), "!bad_token"},
		{"no issuer", es(map[string]any{"iss": nil}), "!bad_token"},
		{"other audience", es(map[string]any{"aud": []string{"x"}}), "!bad_token"},
		{"no audience", es(map[string]any{"aud": nil}), "!bad_token"},
		{"exp as text", es(map[string]any{"exp": "9999999999"}), "!bad_token"},
		{"nbf as text", es(map[string]any{"nbf": "1"}), "!bad_token"},
		{"exp as null", m.signRaw(jose.ES256, m.es, "es", []byte(`{"sub":"acme","iss":"https://issuer.example","aud":"shop","exp":null}`)), "!bad_token"},
		{"two subs", m.signRaw(jose.ES256, m.es, "es", []byte(`{"sub":"a","sub":"b","iss":"https://issuer.example","aud":"shop"}`)), "!bad_token"},
		{"long claim", es(map[string]any{"sub": strings.Repeat("x", 257)}), "!bad_token"},
		{"no json", m.signRaw(jose.ES256, m.es, "es", []byte(`acme`)), "!bad_token"},
		{"json array", m.signRaw(jose.ES256, m.es, "es", []byte(`["sub"]`)), "!bad_token"},

		{"wrong kid", m.sign(jose.ES256, m.es, "who", claims(nil)), "!bad_token"},
		{"kid of another key", m.sign(jose.ES256, m.es, "rs", claims(nil)), "!bad_token"},
		{"alg that the key is not for", m.sign(jose.RS256, m.rs, "es", claims(nil)), "!bad_token"},
		{"somebody else's key", m.sign(jose.ES256, other.es, "es", claims(nil)), "!bad_token"},
		{"none", b64([]byte(`{"alg":"none","kid":"es"}`)) + "." + part[1] + ".", "!bad_token"},
		{"None", b64([]byte(`{"alg":"None"}`)) + "." + part[1] + "." + part[2], "!bad_token"},
		{"public key as secret", m.sign(jose.HS256, rsaPEM, "rs", claims(nil)), "!bad_token"},
		{"public key as secret, no kid", m.sign(jose.HS256, rsaPEM, "", claims(nil)), "!bad_token"},
		{"key in the head", m.embed(other.es), "!bad_token"},
		{"unknown crit", b64([]byte(`{"alg":"ES256","kid":"es","crit":["x"],"x":1}`)) + "." + part[1] + "." + part[2], "!bad_token"},
		{"other payload", part[0] + "." + b64([]byte(`{"sub":"evil"}`)) + "." + part[2], "!bad_token"},
		{"cut signature", good[:len(good)-4], "!bad_token"},
		{"no signature", part[0] + "." + part[1] + ".", "!bad_token"},
		{"two parts", part[0] + "." + part[1], "!bad_token"},
		{"four parts", good + ".x", "!bad_token"},
		{"encrypted", strings.Repeat("x.", 4) + "x", "!bad_token"},
		{"json form", `{"payload":"` + part[1] + `","signatures":[]}`, "!bad_token"},
		{"a word", "acme", "!bad_token"},
		{"8 KB of garbage", strings.Repeat("x", 8<<10), "!bad_token"},
		{"more than is looked at", part[0] + "." + strings.Repeat("x", 20<<10) + "." + part[2], "!bad_token"},
		{"nothing", "", "!no_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, time := range []string{"first", "remembered"} {
				x := bearer(t, c.token)
				r := find(f, x)
				switch {
				case r != nil && ("!"+r.Reason != c.want || r.Status != 401 || !bytes.HasPrefix(r.Challenge, []byte("Bearer"))):
					t.Errorf("%s: refused with %d %s %q, want %q", time, r.Status, r.Reason, r.Challenge, c.want)
				case r == nil && string(x.Customer) != c.want:
					t.Errorf("%s: customer %q, want %q", time, x.Customer, c.want)
				}
			}
		})
	}
}

func TestTokenPlaces(t *testing.T) {
	m := newMint(t)
	good := m.sign(jose.HS256, []byte(secret), "", claims(nil))
	for _, c := range []struct {
		name string
		j    site.JWT
		head string
		want string
	}{
		{"bearer in other letters", site.JWT{}, "Authorization: bEARER   " + good, "acme"},
		{"without bearer", site.JWT{}, "Authorization: " + good, ""},
		{"basic", site.JWT{Require: true}, "Authorization: Basic " + encode("a:b"), "!no_token"},
		{"own header", site.JWT{Header: "X-Token"}, "X-Token: " + good, "acme"},
		{"own header with bearer", site.JWT{Header: "X-Token"}, "X-Token: Bearer " + good, "acme"},
		{"cookie", site.JWT{Cookie: "id"}, "Cookie: id=" + good, "acme"},
		{"cookie and not the header", site.JWT{Cookie: "id", Require: true}, "Authorization: Bearer " + good, "!no_token"},
		{"two tokens", site.JWT{}, "Authorization: Bearer " + good + "\nAuthorization: Bearer x", "!ambiguous_fact"},
		{"bad one, not required", site.JWT{}, "Authorization: Bearer " + good + "x", ""},
		{"none, not required", site.JWT{}, "", ""},
		{"other claim", site.JWT{Claim: "iss"}, "Authorization: Bearer " + good, "https://issuer.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.j.Secret = secret
			f := newFinder(t, jwtSite(c.j))
			x := request(t, "GET / HTTP/1.1\nHost: a\n"+c.head)
			x.Start = today
			if r := find(f, x); r != nil && "!"+r.Reason != c.want || r == nil && string(x.Customer) != c.want {
				t.Errorf("customer %q, refusal %v, want %q", x.Customer, r, c.want)
			}
		})
	}
}

// A token that was remembered as good is forgotten when it expires.
func TestRememberedTokenExpires(t *testing.T) {
	m := newMint(t)
	f := newFinder(t, jwtSite(site.JWT{Secret: secret}))
	token := m.sign(jose.HS256, []byte(secret), "", claims(map[string]any{"exp": today.Add(10 * time.Minute).Unix()}))
	for _, c := range []struct {
		after time.Duration
		want  string
	}{{0, "acme"}, {10*time.Minute + 29*time.Second, "acme"}, {10*time.Minute + 31*time.Second, ""}} {
		x := bearer(t, token)
		x.Start = today.Add(c.after)
		if find(f, x); string(x.Customer) != c.want {
			t.Errorf("after %v the customer is %q, want %q", c.after, x.Customer, c.want)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	m := newMint(t)
	cert := selfSigned(t, m.es)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	private, _ := x509.MarshalPKCS8PrivateKey(m.es)
	for _, c := range []struct {
		name string
		j    site.JWT
		text []byte
		err  string // empty: ES256 tokens of m hold
	}{
		{"public key", site.JWT{}, m.public(m.es.Public()), ""},
		{"certificate", site.JWT{}, cert, ""},
		{"chain", site.JWT{}, append(bytes.Clone(cert), selfSigned(t, newMint(t).es)...), ""},
		{"key set", site.JWT{}, m.all(), ""},
		{"set with foreign kinds", site.JWT{}, []byte(`{"keys":[{"kty":"XY","kid":"a"},{"kty":"oct","k":"c2VjcmV0"},` + string(m.set(jose.JSONWebKey{Key: m.es.Public(), KeyID: "es"})[9:])), ""},
		{"no keys", site.JWT{}, []byte(`{"keys":[]}`), "no key that can be used"},
		{"secret in a set", site.JWT{}, m.set(jose.JSONWebKey{Key: []byte(secret), KeyID: "a"}), "no public key for signatures"},
		{"private in a set", site.JWT{}, m.set(jose.JSONWebKey{Key: m.es, KeyID: "a"}), "no public key for signatures"},
		{"for encryption", site.JWT{}, m.set(jose.JSONWebKey{Key: m.es.Public(), KeyID: "a", Use: "enc"}), "no public key for signatures"},
		{"alg of another kind", site.JWT{}, m.set(jose.JSONWebKey{Key: m.es.Public(), KeyID: "a", Algorithm: "RS256"}), `not for "RS256"`},
		{"too many", site.JWT{}, []byte(`{"keys":[` + strings.TrimSuffix(strings.Repeat("{},", 101), ",") + `]}`), "101 keys"},
		{"short rsa", site.JWT{}, m.public(weak.Public()), "1024 bits is too short"},
		{"curve", site.JWT{}, m.public(p224.Public()), "P-224"},
		{"private key", site.JWT{}, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), `PEM block "PRIVATE KEY"`},
		{"broken", site.JWT{}, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "asn1"},
		{"two keys", site.JWT{}, append(m.public(m.es.Public()), m.public(m.rs.Public())...), "several PEM blocks"},
		{"text", site.JWT{}, []byte("hello"), "no PEM block"},
		{"empty", site.JWT{}, nil, "no PEM block"},
		{"short secret", site.JWT{Secret: "tooshort"}, nil, "8 bytes is too short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.j.Secret == "" {
				c.j.Key = file(t, "key.pem", c.text)
			}
			f, err := NewStore(nil).Finder(jwtSite(c.j))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasPrefix(err.Error(), "identify.customer: jwt: ") {
					t.Errorf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			x := bearer(t, m.sign(jose.ES256, m.es, "es", claims(nil)))
			if r := find(f, x); r != nil || string(x.Customer) != "acme" {
				t.Errorf("customer %q, refusal %v", x.Customer, r)
			}
		})
	}
	if _, err := NewStore(nil).Finder(jwtSite(site.JWT{Key: filepath.Join(t.TempDir(), "none.pem")})); err == nil {
		t.Error("a missing key file is no error")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m, now := newMemory(), today.UnixNano()
	by := new(signer)
	token := func(i int) []byte { return fmt.Appendf(nil, "%064d", i) }
	for i := range 200000 {
		m.put(&judged{token: token(i), until: now + 1, by: by}, token(i), now)
	}
	held := 0
	for i := range 200000 {
		if m.find(token(i), now, 1) != nil {
			held++
		}
	}
	if most := memorySets * memoryWays; held > most || held < most*9/10 || m.bytes.Load() != int64(held*64) {
		t.Errorf("%d tokens of %d octets are remembered, want at most %d", held, m.bytes.Load(), most)
	}
	for i := range 200000 { // a flood of bad ones makes no good one forgotten
		m.put(&judged{until: now + 1, gen: 1}, fmt.Appendf(nil, "bad %d", i), now)
	}
	left := 0
	for i := range 200000 {
		if m.find(token(i), now, 1) != nil {
			left++
		}
	}
	if left != held {
		t.Errorf("of %d good tokens %d are left after a flood of bad ones", held, left)
	}
	big := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 100 {
		text := append(token(i), big...)
		m.put(&judged{token: text, until: now + 1, by: by}, text, now)
	}
	if m.bytes.Load() > memoryBytes {
		t.Errorf("%d octets of tokens are remembered, at most %d may be", m.bytes.Load(), memoryBytes)
	}
	by.gone.Store(true)
	if m.find(token(199999), now, 1) != nil {
		t.Error("a token of a key that is gone is still believed")
	}
}

// TestExpiredTokensMakeRoom: long tokens fill the memory before its places are taken. Once they have expired, others are remembered wherever
// their place is.
func TestExpiredTokensMakeRoom(t *testing.T) {
	m, now := newMemory(), today.UnixNano()
	by := new(signer)
	fill := func(name string, count int, now int64) (held int) {
		pad := bytes.Repeat([]byte("x"), 8<<10)
		text := func(i int) []byte { return append(fmt.Appendf(nil, "%s %d ", name, i), pad...) }
		for i := range count {
			m.put(&judged{token: text(i), until: now + 10, by: by}, text(i), now)
		}
		for i := range count {
			if m.find(text(i), now, 1) != nil {
				held++
			}
		}
		return held
	}
	if held := fill("old", 8000, now); held < 3900 || held > 4096 {
		t.Errorf("%d tokens of 8 KiB are held in 32 MiB", held)
	}
	if held := fill("new", 1000, now+10); held < 990 {
		t.Errorf("of 1000 tokens %d are remembered after all others have expired", held)
	}
	if m.bytes.Load() > memoryBytes {
		t.Errorf("%d octets of tokens are remembered, at most %d may be", m.bytes.Load(), memoryBytes)
	}
}
