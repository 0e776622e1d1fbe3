package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// classes answers with the classes that arrived, and so with what evenkeel found of the sender.
func classes(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, "class "+strings.Join(r.Header["Evenkeel-Class"], ","))
}

// TestClassTravels sends classes through two gateways in a row, of which the second believes the first.
func TestClassTravels(t *testing.T) {
	inner := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q]}}
identify: {trusted_proxies: [127.0.0.0/8]}
`, service(t, classes)))
	for _, version := range []string{"h1", "h2"} {
		outer := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {inner: {endpoints: [%q], http: %s}}
routes:
  - {paths: [/checkout], pool: inner, class: critical}
  - {paths: [/suggest], pool: inner, class: low}
  - {pool: inner}
identify: {customer: {header: X-Api-Key}, customers: [{id: vip, class: critical}]}
`, inner.at["web"], version))
		for _, f := range fronts(t, outer, nil) {
			for _, c := range []struct{ path, field, value, want string }{
				{"/checkout", "X-A", "b", "critical"}, {"/suggest", "X-A", "b", "low"}, {"/", "X-A", "b", ""},
				{"/", "Evenkeel-Class", "critical", ""}, {"/", "Evenkeel-Class", "low", "low"}, {"/checkout", "Evenkeel-Class", "low", "low"},
				{"/suggest", "X-Api-Key", "vip", "critical"},
			} {
				if _, body := f.ask(t, f.request(t, "GET", c.path, nil, c.field, c.value)); body != "class "+c.want {
					t.Errorf("%s to %s, %s with %s: %s: the endpoint saw %q, want %q", f.name, version, c.path, c.field, c.value, body, c.want)
				}
			}
			if resp, body := f.ask(t, f.request(t, "GET", "/", nil, "X-Api-Key", "vip", "X-Api-Key", "other")); resp.StatusCode != 400 || !strings.Contains(body, "ambiguous_fact") {
				t.Errorf("%s: two keys: %s %s", f.name, resp.Status, body)
			}
		}
	}
}

// TestClientCertificateIsCustomer tells clients apart by their certificates.
func TestClientCertificateIsCustomer(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.pair("front", "localhost", "127.0.0.1")
	for word, id := range map[string]string{"subject": "CN=vip", "cn": "vip", "san": "vip.example"} {
		g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0", tls: {certificates: [{cert: %q, key: %q}], client_ca: %q, client_auth: request}}}
pools: {shop: {endpoints: [%q]}}
identify: {customer: {mtls: %s}, customers: [{id: %q, class: critical}]}
`, cert, key, a.file, service(t, classes), word, id))
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			for name, want := range map[string]string{"vip": "critical", "other": "", "": ""} {
				tr := &http.Transport{ForceAttemptHTTP2: proto == "HTTP/2.0", TLSClientConfig: &tls.Config{RootCAs: a.pool}}
				if name != "" {
					tr.TLSClientConfig.Certificates = []tls.Certificate{a.load(name, name+".example")}
				}
				f := front{url: "https://" + g.at["web"], proto: proto, client: &http.Client{Transport: tr}}
				if _, body := f.ask(t, f.request(t, "GET", "/", nil)); body != "class "+want {
					t.Errorf("%s by %s, certificate %q: %q, want %q", proto, word, name, body, want)
				}
				tr.CloseIdleConnections()
			}
		}
	}
}

// signed is a token of acme.
func signed(t *testing.T, key *ecdsa.PrivateKey, kid string) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(map[string]any{"sub": "acme", "exp": time.Now().Add(time.Hour).Unix(), "n": time.Now().UnixNano()})
	token, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := token.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTokens believes tokens by the keys of an issuer that changes them, is away for a while, and by a file of keys.
func TestTokens(t *testing.T) {
	var keys [2]*ecdsa.PrivateKey
	var sets [2][]byte
	for i := range keys {
		keys[i], _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		sets[i], _ = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: keys[i].Public(), KeyID: fmt.Sprint(i), Use: "sig"}}})
	}
	var set atomic.Pointer[[]byte]
	set.Store(&sets[0])
	issuer := service(t, func(w http.ResponseWriter, r *http.Request) { w.Write(*set.Load()) })
	kept := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(kept, sets[0], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"url": "http://" + issuer + "/keys", "file": kept} {
		t.Run(name, func(t *testing.T) {
			set.Store(&sets[0])
			g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q]}}
identify: {customer: {jwt: {jwks: %q, require: true, refresh: 1s}}, customers: [{id: acme, class: critical}]}
`, service(t, classes), from))
			for _, f := range fronts(t, g, nil) {
				token := signed(t, keys[0], "0")
				for range 2 {
					if _, body := f.ask(t, f.request(t, "GET", "/", nil, "Authorization", "Bearer "+token)); body != "class critical" {
						t.Errorf("%s: with a good token: %q", f.name, body)
					}
				}
				resp, body := f.ask(t, f.request(t, "GET", "/", nil))
				if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "Bearer" || !strings.Contains(body, `"no_token"`) {
					t.Errorf("%s: without a token: %s %q %s", f.name, resp.Status, resp.Header, body)
				}
				resp, body = f.ask(t, f.request(t, "GET", "/", nil, "Authorization", "Bearer "+signed(t, keys[1], "0")))
				if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` || !strings.Contains(body, `"bad_token"`) {
					t.Errorf("%s: with a forged token: %s %q %s", f.name, resp.Status, resp.Header, body)
				}
			}
			if name == "file" {
				if err := os.WriteFile(kept, sets[1], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			set.Store(&sets[1])
			f := fronts(t, g, nil)[0]
			until(t, "the new key holds and the old one does not", func() bool {
				fresh, _ := f.ask(t, f.request(t, "GET", "/", nil, "Authorization", "Bearer "+signed(t, keys[1], "1")))
				old, _ := f.ask(t, f.request(t, "GET", "/", nil, "Authorization", "Bearer "+signed(t, keys[0], "0")))
				return fresh.StatusCode == 200 && old.StatusCode == 401
			})
		})
	}
}

// TestIssuerHangs starts without keys: the node serves, and says what is missing.
func TestIssuerHangs(t *testing.T) {
	issuer := listenTCP(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q]}}
routes: [{pool: shop}]
identify: {user: {jwt: {jwks: "http://%s/keys", require: true}}}
`, service(t, classes), issuer))
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, f := range fronts(t, g, nil) {
		resp, body := f.ask(t, f.request(t, "GET", "/", nil, "Authorization", "Bearer "+signed(t, key, "0")))
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"no_keys"`) {
			t.Errorf("%s: without keys: %s %s", f.name, resp.Status, body)
		}
	}
	if !strings.Contains(g.talk(), "serving without the keys of tokens") {
		t.Errorf("nothing says that keys are missing:\n%s", g.talk())
	}
}
