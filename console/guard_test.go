package console

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console/login"
	"github.com/even-keel/evenkeel/site"
)

const secret = "correct-horse"

func TestHostGuard(t *testing.T) {
	for _, c := range []struct {
		host, listen, token string
		want                int
	}{
		{"127.0.0.1:7600", "127.0.0.1:7600", "", 200},
		{"localhost:7600", "127.0.0.1:7600", "", 200},
		{"LOCALHOST", "127.0.0.1:7600", "", 200},
		{"[::1]:7600", "[::1]:7600", "", 200},
		{"[::1]", "127.0.0.1:7600", "", 200},
		{"127.0.0.9:80", "127.0.0.1:7600", "", 200},
		{"localhost:8080", "127.0.0.1:7600", "", 200}, // a forwarded port
		{"box.internal:7600", "box.internal:7600", "", 200},
		{"evil.example", "127.0.0.1:7600", "", 421},
		{"evil.example:7600", "127.0.0.1:7600", "", 421},
		{"localhost.evil.example:7600", "127.0.0.1:7600", "", 421},
		{"127.0.0.1.evil.example", "127.0.0.1:7600", "", 421},
		{"192.0.2.7:7600", "127.0.0.1:7600", "", 421},
		{"", "127.0.0.1:7600", "", 421},
		{"", ":7600", "", 421},
		{"console.example", ":7600", secret, 200}, // the cookie or token is the proof
	} {
		rig := newRig()
		rig.deps.Listen, rig.deps.Token = c.listen, c.token
		h := New(rig.deps)
		if w := ask(h, "GET", "/api/v1/status", "Host", c.host, "Authorization", "Bearer "+secret); w.Code != c.want {
			t.Errorf("host %q on %q: status %d, want %d", c.host, c.listen, w.Code, c.want)
		}
		if w := ask(h, "GET", "/healthz", "Host", c.host); w.Code != 200 {
			t.Errorf("healthz with host %q: status %d", c.host, w.Code)
		}
	}
}

func TestCrossSite(t *testing.T) {
	const drain = "/api/v1/pools/shop/endpoints/10.0.1.1:8000/drain"
	own := "http://127.0.0.1:7600"
	for _, c := range []struct {
		name, method, path string
		fields             []string
		want               int
	}{
		{"curl", "POST", drain, nil, 200},
		{"the page", "POST", drain, []string{"Origin", own, "Sec-Fetch-Site", "same-origin"}, 200},
		{"the page in an old browser", "POST", drain, []string{"Origin", own}, 200},
		{"another site", "POST", drain, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"another site in an old browser", "POST", drain, []string{"Origin", "https://evil.example"}, 403},
		{"a sandboxed frame", "POST", drain, []string{"Origin", "null"}, 403},
		{"another port of this machine", "POST", drain, []string{"Origin", "http://127.0.0.1:3000", "Sec-Fetch-Site", "same-site"}, 403},
		{"another site drains the node", "POST", "/api/v1/drain", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another site holds a stream", "GET", "/api/v1/stream", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}, 403},
		{"a link from another site", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
	} {
		rig := newRig()
		if w := ask(New(rig.deps), c.method, c.path, c.fields...); w.Code != c.want || c.want == 403 && reason(w) != "cross_origin" {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.want)
		}
		if changed := len(rig.node.admin) > 0 || rig.drains.Load() > 0; changed != (c.want == 200 && c.method == "POST") {
			t.Errorf("%s: changed %v", c.name, changed)
		}
	}
}

func TestToken(t *testing.T) {
	rig := newRig()
	rig.deps.Token = secret
	h := New(rig.deps)
	for _, c := range []struct {
		method, path, authorization string
		want                        int
	}{
		{"GET", "/healthz", "", 200},
		{"GET", "/readyz", "", 200},
		{"GET", "/login", "", 200},
		{"GET", "/assets/console.css", "", 200},
		{"GET", "/", "", 401},
		{"GET", "/live", "", 401},
		{"GET", "/metrics", "", 401},
		{"GET", "/api/v1/status", "", 401},
		{"GET", "/nowhere", "", 401},
		{"POST", "/api/v1/drain", "", 401},
		{"GET", "/api/v1/status", "Bearer " + secret, 200},
		{"GET", "/api/v1/status", "bearer " + secret, 200},
		{"GET", "/api/v1/status", "Bearer " + secret + "x", 401},
		{"GET", "/api/v1/status", "Bearer ", 401},
		{"GET", "/api/v1/status", "Basic " + secret, 401},
		{"GET", "/metrics", "Bearer " + secret, 200},
		{"POST", "/api/v1/reload", "Bearer " + secret, 200},
	} {
		w := ask(h, c.method, c.path, "Authorization", c.authorization)
		if w.Code != c.want || c.want == 401 && (reason(w) != "token_required" || w.Header().Get("WWW-Authenticate") == "") {
			t.Errorf("%s %s with %q: status %d, want %d", c.method, c.path, c.authorization, w.Code, c.want)
		}
	}
	if w := ask(h, "GET", "/", "Accept", "text/html"); w.Code != 303 || w.Header().Get("Location") != "/login" {
		t.Errorf("a browser is sent to %q with %d", w.Header().Get("Location"), w.Code)
	}
	// Another site cannot have the token, so where a request with one comes from says nothing.
	if w := ask(h, "POST", "/api/v1/reload", "Authorization", "Bearer "+secret, "Origin", "https://tools.example"); w.Code != 200 {
		t.Errorf("bearer with an origin: status %d", w.Code)
	}
}

// logIn posts the form and returns the answer.
func logIn(h http.Handler, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/login", strings.NewReader(url.Values{"token": {token}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestLogin(t *testing.T) {
	rig := newRig()
	now := time.Unix(1.7e9, 0)
	rig.deps.Now = func() time.Time { return now }
	rig.deps.Door = login.New(rig.deps.Now)
	rig.deps.Door.Use(site.Admin{Token: secret, Session: sessionLife})
	h := New(rig.deps)
	if w := logIn(h, "wrong"); w.Code != 401 || len(w.Result().Cookies()) != 0 {
		t.Errorf("wrong token: status %d, cookies %v", w.Code, w.Result().Cookies())
	}
	w := logIn(h, secret)
	cookies := w.Result().Cookies()
	if w.Code != 303 || len(cookies) != 1 {
		t.Fatalf("right token: status %d, cookies %v", w.Code, cookies)
	}
	k := cookies[0]
	if !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || strings.Contains(k.Value, secret) {
		t.Errorf("the cookie is weak: %v", k)
	}
	pair := k.Name + "=" + k.Value
	if w := ask(h, "GET", "/api/v1/status", "Cookie", pair); w.Code != 200 {
		t.Errorf("with the cookie: status %d", w.Code)
	}
	if w := ask(h, "POST", "/api/v1/reload", "Cookie", pair, "Origin", "https://evil.example"); w.Code != 403 {
		t.Errorf("the cookie used by another site: status %d", w.Code)
	}
	if w := ask(New(rig.deps), "GET", "/api/v1/status", "Cookie", pair); w.Code != 200 {
		t.Errorf("after a reload: status %d", w.Code)
	}
	if w := ask(h, "GET", "/api/v1/status", "Cookie", pair+"0"); w.Code != 401 {
		t.Errorf("a cookie of nobody: status %d", w.Code)
	}
	now = now.Add(sessionLife)
	if w := ask(h, "GET", "/api/v1/status", "Cookie", pair); w.Code != 401 {
		t.Errorf("after the session's end: status %d", w.Code)
	}
	k = logIn(h, secret).Result().Cookies()[0]
	pair = k.Name + "=" + k.Value
	if w := ask(h, "POST", "/logout", "Cookie", pair); w.Code != 303 || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %d %v", w.Code, w.Result().Cookies())
	}
	if w := ask(h, "GET", "/api/v1/status", "Cookie", pair); w.Code != 401 {
		t.Errorf("after signing out: status %d", w.Code)
	}
	k = logIn(h, secret).Result().Cookies()[0]
	pair = k.Name + "=" + k.Value
	rig.deps.Door.Use(site.Admin{Token: "another", Session: sessionLife})
	if w := ask(h, "GET", "/api/v1/status", "Cookie", pair); w.Code != 401 {
		t.Errorf("after the token changed: status %d", w.Code)
	}
}

func TestClientCertificates(t *testing.T) {
	rig := newRig()
	rig.deps.ClientCerts = true
	h := New(rig.deps)
	if w := ask(h, "GET", "/api/v1/status"); w.Code != 401 || reason(w) != "certificate_required" {
		t.Errorf("without a certificate: status %d", w.Code)
	}
	r := httptest.NewRequest("GET", "/api/v1/status", nil)
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Strict-Transport-Security") == "" {
		t.Errorf("with a certificate: status %d", w.Code)
	}
}

func TestBodyLimit(t *testing.T) {
	r := httptest.NewRequest("POST", "/api/v1/reload", strings.NewReader(strings.Repeat("x", bodyLimit+1)))
	r.Host = "localhost"
	w := httptest.NewRecorder()
	rig := newRig()
	New(rig.deps).ServeHTTP(w, r)
	if w.Code != 413 || reason(w) != "body_too_large" || rig.reloads.Load() != 0 {
		t.Errorf("status %d, %d reloads", w.Code, rig.reloads.Load())
	}
}
