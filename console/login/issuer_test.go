package login

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// provider is a small issuer of OpenID Connect with real keys: discovery, authorization with PKCE, tokens, keys.
type provider struct {
	*httptest.Server
	t   *testing.T
	now func() time.Time

	mu     sync.Mutex
	key    *ecdsa.PrivateKey
	kid    string
	claims map[string]any // of the one who signs in
	codes  map[string]url.Values
	asked  map[string]int // requests by path
	broken string         // what to do wrong with the next token
	fails  bool           // answers everything with 500
}

// is makes the next one who signs in somebody else, or what is answered wrong.
func (p *provider) is(claims map[string]any, broken string) {
	p.mu.Lock()
	p.claims, p.broken = claims, broken
	p.mu.Unlock()
}

func (p *provider) fail(does bool) {
	p.mu.Lock()
	p.fails = does
	p.mu.Unlock()
}

const (
	clientID     = "evenkeel"
	clientSecret = "pairs-of-oars"
)

func newProvider(t *testing.T, now func() time.Time) *provider {
	p := &provider{t: t, now: now, claims: map[string]any{}, codes: map[string]url.Values{}, asked: map[string]int{}}
	p.turnKey("first")
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.json(w, map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}})
	})
	mux.HandleFunc("/authorize", p.authorize)
	mux.HandleFunc("/token", p.token)
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: p.kid, Algorithm: "ES256", Use: "sig"}}})
	})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked[r.URL.Path]++
		fails := p.fails
		p.mu.Unlock()
		if fails {
			http.Error(w, strings.Repeat("no ", 1000), http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

// turnKey makes the issuer sign with another key from now on.
func (p *provider) turnKey(kid string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.key, p.kid = key, kid
	p.mu.Unlock()
}

func (p *provider) times(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

// authorize is where the browser is sent; everybody who comes is signed in already.
func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != clientID || q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" || !strings.Contains(q.Get("scope"), "openid") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	p.mu.Lock()
	p.codes[code] = q
	p.mu.Unlock()
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.URL}}.Encode(), http.StatusFound)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	user, pass, _ := r.BasicAuth()
	p.mu.Lock()
	q := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	broken := p.broken
	p.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if user != clientID || pass != clientSecret || q == nil || base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") || r.PostFormValue("redirect_uri") != q.Get("redirect_uri") {
		w.WriteHeader(http.StatusBadRequest)
		p.json(w, map[string]string{"error": "invalid_grant"})
		return
	}
	more := map[string]any{"nonce": q.Get("nonce")}
	switch broken {
	case "nonce":
		more["nonce"] = "of another"
	case "audience":
		more["aud"] = "another console"
	case "issuer":
		more["iss"] = "https://evil.example"
	case "expired":
		more["exp"] = p.now().Add(-time.Minute).Unix()
	}
	answer := map[string]any{"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "id_token": p.sign(more)}
	switch broken {
	case "signature":
		text := answer["id_token"].(string)
		answer["id_token"] = text[:len(text)-8] + "AAAAAAAA"
	case "none":
		parts := strings.Split(answer["id_token"].(string), ".")
		answer["id_token"] = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	case "no token":
		delete(answer, "id_token")
	}
	p.json(w, answer)
}

// sign makes an ID token of the claims and more.
func (p *provider) sign(more map[string]any) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := map[string]any{"iss": p.URL, "aud": clientID, "sub": "u-1", "iat": p.now().Unix(), "exp": p.now().Add(5 * time.Minute).Unix()}
	maps.Copy(claims, p.claims)
	maps.Copy(claims, more)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.kid}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}
