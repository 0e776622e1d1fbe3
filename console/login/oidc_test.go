package login

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

const consoleURL = "https://gateway.example:7600"

// sso is a door with an issuer, and a clock.
func sso(t *testing.T) (d *Door, p *provider, now *time.Time) {
	at := time.Unix(1.8e9, 0)
	now = &at
	clock := func() time.Time { return *now }
	p = newProvider(t, clock)
	d = New(clock)
	d.Use(site.Admin{Session: time.Hour, OIDC: &site.AdminOIDC{Issuer: p.URL, ClientID: clientID, Secret: clientSecret, URL: consoleURL + "/",
		Scopes: []string{"email"}, Claim: "realm.groups", Operate: []string{"sre"}, Read: []string{"staff", "desk"}}})
	return d, p, now
}

// goThrough is a browser that signs in, with what it may do to the answer of the issuer on the way.
func goThrough(t *testing.T, d *Door, change func(r *http.Request)) (Person, *http.Cookie, string, error) {
	t.Helper()
	to, cookie, err := d.Begin(request("GET", "/login/oidc"), "/objectives?x=1")
	if err != nil {
		return Person{}, nil, "", err
	}
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || strings.Contains(to, clientSecret) {
		t.Errorf("the browser takes %v to %s", cookie, to)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a, err := client.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	back, found := strings.CutPrefix(a.Header.Get("Location"), consoleURL)
	if !found {
		t.Fatalf("the issuer answers with %s and sends on to %q", a.Status, a.Header.Get("Location"))
	}
	r := request("GET", back)
	r.AddCookie(cookie)
	if change != nil {
		change(r)
	}
	return d.Finish(r)
}

func request(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = "192.0.2.7:4711"
	return r
}

func TestSignInAtIssuer(t *testing.T) {
	d, p, now := sso(t)
	for _, c := range []struct {
		name   string
		claims map[string]any
		role   string
		who    string
	}{
		{"operator", map[string]any{"email": "ada@shop.example", "email_verified": true, "realm": map[string]any{"groups": []any{"staff", "sre"}}}, "operate", "ada@shop.example"},
		{"reader", map[string]any{"preferred_username": "bob", "realm": map[string]any{"groups": "desk"}}, "read", "bob"},
		{"address that nobody verified", map[string]any{"email": "ada@shop.example", "name": "Eve\u202e", "realm": map[string]any{"groups": []any{"staff"}}}, "read", "Eve"},
		{"whole name of the claim", map[string]any{"realm.groups": []any{"sre"}}, "operate", "u-1"},
		{"other group", map[string]any{"name": "Mallory", "realm": map[string]any{"groups": []any{"sre2", 7}}}, "", "Mallory"},
		{"no claim", map[string]any{"name": "Mallory"}, "", "Mallory"},
		{"claim of another kind", map[string]any{"name": "Mallory", "realm": []any{"sre"}}, "", "Mallory"},
	} {
		*now = now.Add(time.Hour)
		p.is(c.claims, "")
		who, cookie, next, err := goThrough(t, d, nil)
		var none *NoRoleError
		if who.Role != c.role || who.Name != c.who || who.Via != ViaOIDC || who.From != "192.0.2.7" || (c.role == "") != errors.As(err, &none) {
			t.Errorf("%s: %+v, %v", c.name, who, err)
		}
		if c.role == "" {
			if cookie != nil {
				t.Errorf("%s: a session was opened", c.name)
			}
			continue
		}
		if next != "/objectives?x=1" || cookie.Name != hostCookie || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode {
			t.Errorf("%s: goes on to %q with %v", c.name, next, cookie)
		}
		r := request("GET", "/")
		r.AddCookie(cookie)
		if again, err := d.Who(r); err != nil || again.Name != c.who || again.Role != c.role {
			t.Errorf("%s: with the session: %+v, %v", c.name, again, err)
		}
	}
	if n := p.times("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("the issuer was asked %d times how to sign in", n)
	}
}

func TestIssuerIsNotBelieved(t *testing.T) {
	for _, broken := range []string{"nonce", "audience", "issuer", "expired", "signature", "none", "no token"} {
		d, p, _ := sso(t)
		p.is(map[string]any{"realm": map[string]any{"groups": "sre"}}, broken)
		if who, cookie, _, err := goThrough(t, d, nil); err == nil || cookie != nil || who.Role != "" {
			t.Errorf("%s: %+v came in", broken, who)
		}
		if c, open := d.Counts(); c.Denied != 1 || open != 0 {
			t.Errorf("%s: counted %+v, %d sessions", broken, c, open)
		}
	}
}

func TestAnswersOfOthers(t *testing.T) {
	query := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			q.Set(name, value)
			r.URL.RawQuery = q.Encode()
		}
	}
	for name, change := range map[string]func(*http.Request){
		"another state":             query("state", "guessed"),
		"no state":                  query("state", ""),
		"another issuer":            query("iss", "https://evil.example"),
		"another code":              query("code", "guessed"),
		"the issuer says no":        query("error", "access_denied"),
		"a browser that began not":  func(r *http.Request) { r.Header.Del("Cookie") },
		"a cookie that was changed": func(r *http.Request) { r.Header.Set("Cookie", "x"+r.Header.Get("Cookie")[1:]+"0") },
		"a cookie of its own make":  func(r *http.Request) { r.Header.Set("Cookie", startCookie+"=eyJzdGF0ZSI6IiJ9.AAAA") },
	} {
		d, p, _ := sso(t)
		p.is(map[string]any{"realm": map[string]any{"groups": "sre"}}, "")
		if who, cookie, _, err := goThrough(t, d, change); err == nil || cookie != nil {
			t.Errorf("%s: %+v came in", name, who)
		}
	}
	d, _, now := sso(t)
	if _, _, _, err := goThrough(t, d, func(*http.Request) { *now = now.Add(startLife) }); !errors.Is(err, errNoStart) {
		t.Errorf("ten minutes later: %v", err)
	}
}

func TestIDTokenAsBearer(t *testing.T) {
	d, p, now := sso(t)
	p.is(map[string]any{"name": "deploy", "realm": map[string]any{"groups": "staff"}}, "")
	ask := func(token string) (Person, error) {
		r := request("GET", "/")
		r.Header.Set("Authorization", "Bearer "+token)
		return d.Who(r)
	}
	token := p.sign(nil)
	if who, err := ask(token); err != nil || who.Name != "deploy" || who.Role != "read" || !who.Bearer || who.From != "192.0.2.7" {
		t.Errorf("%+v, %v", who, err)
	}
	// The issuer's new key is found, though not asked for as often as somebody shows tokens.
	*now = now.Add(issuerAgain)
	p.turnKey("second")
	// go-oidc hands out what it had until the goroutine that looks for keys has ended, which is moments later.
	soon := func(what string, holds func() bool) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(10 * time.Second); !holds(); <-tick.C {
			if time.Now().After(end) {
				t.Fatal(what)
			}
			d.mu.Lock()
			d.tries = tries{}
			d.mu.Unlock()
		}
	}
	soon("a token of the new key does not hold", func() bool { _, err := ask(p.sign(nil)); return err == nil })
	soon("a token of the old key holds", func() bool { _, err := ask(token); return err != nil })
	before := p.times("/keys")
	for range 5 {
		if _, err := ask(token); err == nil {
			t.Error("a token of the old key holds")
		}
	}
	if n := p.times("/keys") - before; n > 1 {
		t.Errorf("keys were looked for %d times", n)
	}
	*now = now.Add(5 * time.Minute)
	if _, err := ask(token); !errors.Is(err, ErrNobody) {
		t.Errorf("after its end: %v", err)
	}
}

func TestIssuerThatDoesNotAnswer(t *testing.T) {
	d, p, now := sso(t)
	p.fail(true)
	for range 3 {
		if _, _, err := d.Begin(request("GET", "/login/oidc"), "/"); err == nil || len(err.Error()) > 500 {
			t.Errorf("with an issuer that fails: %v", err)
		}
	}
	if asked := p.times("/.well-known/openid-configuration"); asked != 1 {
		t.Errorf("it was asked %d times in a moment", asked)
	}
	p.fail(false)
	*now = now.Add(issuerAgain)
	to, _, err := d.Begin(request("GET", "/login/oidc"), "https://evil.example/")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil || u.Query().Get("redirect_uri") != consoleURL+Callback || len(u.Query().Get("nonce")) < 32 || len(u.Query().Get("state")) < 32 {
		t.Errorf("later it sends to %s", to)
	}
}

// TestIssuerChanges: with another issuer, or other roles, whoever came by the old one has to sign in again.
func TestIssuerChanges(t *testing.T) {
	d, p, _ := sso(t)
	p.is(map[string]any{"realm": map[string]any{"groups": "sre"}}, "")
	_, cookie, _, err := goThrough(t, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := request("GET", "/")
	r.AddCookie(cookie)
	same, other := *d.sso.cfg, *d.sso.cfg
	d.Use(site.Admin{Session: time.Hour, OIDC: &same})
	if _, err := d.Who(r); err != nil {
		t.Errorf("after a reload: %v", err)
	}
	other.Operate = nil
	d.Use(site.Admin{Session: time.Hour, OIDC: &other})
	if who, err := d.Who(r); !errors.Is(err, ErrNobody) {
		t.Errorf("with other roles: %+v, %v", who, err)
	}
}
