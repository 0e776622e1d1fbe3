package console

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/even-keel/evenkeel/console/browser"
	"github.com/even-keel/evenkeel/console/login"
	"github.com/even-keel/evenkeel/site"
)

// issuer is where everybody who comes is signed in already, as who is in the groups.
func issuer(t *testing.T, groups *string) *httptest.Server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	known := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: "ES256"}}, Algorithms: []string{"ES256"}}
	nonces := map[string]string{} // requests come one after the other
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/auth":
			code := rand.Text()
			nonces[code] = r.FormValue("nonce")
			http.Redirect(w, r, r.FormValue("redirect_uri")+"?"+url.Values{"code": {code}, "state": {r.FormValue("state")}}.Encode(), http.StatusFound)
		case "/token":
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": oidctest.SignIDToken(key, "k", "ES256", fmt.Sprintf(
				`{"iss":"http://%s","aud":"console","sub":"1","preferred_username":"ada","groups":[%q],"nonce":%q,"exp":%d}`, r.Host, *groups, nonces[r.FormValue("code")], time.Now().Add(time.Minute).Unix()))})
		default:
			known.ServeHTTP(w, r)
		}
	}))
	known.SetIssuer(s.URL)
	t.Cleanup(s.Close)
	return s
}

// controls counts what changes something on a page.
const controls = `[...document.querySelectorAll('form[method=post]')].filter(f => !f.action.endsWith('/logout')).length`

// TestRolesInBrowser signs in at an issuer in a real browser, as a reader and as an operator.
func TestRolesInBrowser(t *testing.T) {
	groups := "staff"
	iss := issuer(t, &groups)
	rig, seen := guarded()
	s := serveReal(t, New(rig.deps))
	rig.deps.Door.Use(site.Admin{Session: time.Hour, Tokens: []*site.AdminToken{{Name: "hand", Token: operatorSecret, Role: site.RoleOperate}},
		OIDC: &site.AdminOIDC{Issuer: iss.URL, ClientID: "console", URL: s.URL, Claim: "groups", Read: []string{"staff"}, Operate: []string{"sre"}}})
	b := browser.Open(t)
	enter := func(page string) {
		t.Helper()
		b.Call("Page.navigate", map[string]any{"url": s.URL + page})
		b.Until(`document.readyState === 'complete' && document.getElementById('sso')`)
		b.Eval(`document.getElementById('sso').click()`)
		b.Until(`location.pathname === '` + page + `' && Number(document.documentElement.dataset.views) >= 2`)
	}
	enter("/alerts")
	for _, page := range []string{"/", "/overload", "/objectives", "/alerts", "/access"} {
		b.Call("Page.navigate", map[string]any{"url": s.URL + page})
		b.Until(`location.pathname === '` + page + `' && Number(document.documentElement.dataset.views) >= 2`)
		if got := b.Eval(controls); got != "0" {
			t.Errorf("%s shows a reader %s controls", page, got)
		}
	}
	if got := b.Eval(`document.getElementById('live').innerText`); !strings.Contains(got, "ada") || !strings.Contains(got, "read only") {
		t.Errorf("the page does not say who is in: %s", got)
	}
	if got := b.Eval(`fetch('/api/v1/reload', {method: 'POST'}).then(r => r.status)`); got != "403" {
		t.Errorf("a reader reloads: status %s", got)
	}
	b.Talk = nil // browsers note the 403
	b.Eval(`document.querySelector('form[action="/logout"] button').click()`)
	b.Until(`location.pathname === '/login'`)

	groups = "sre"
	enter("/access")
	b.Call("Page.navigate", map[string]any{"url": s.URL + "/alerts"})
	b.Until(`location.pathname === '/alerts' && Number(document.documentElement.dataset.views) >= 2`)
	if got := b.Eval(controls); got == "0" || strings.Contains(b.Eval(`document.body.innerText`), "read only") {
		t.Errorf("an operator sees %s controls", got)
	}
	// What is written into the form outlives new views, and silences.
	b.Eval(`document.getElementById('match').value = 'alert=many-*'; document.getElementById('for').value = '30m'; document.getElementById('comment').value = 'drill'`)
	b.Until(`Number(document.documentElement.dataset.views) >= 4`)
	b.Eval(`document.querySelector('.ask-form button').click()`)
	b.Until(`location.pathname === '/alerts' && document.documentElement.dataset.views === '2' && !document.getElementById('wrong')`)
	if a := seen.actions()[0]; a.Who != "ada" || a.Via != login.ViaOIDC || !a.OK || a.What != "POST /api/v1/alerts/silence?comment=drill&for=30m&match=alert=many-*" {
		t.Errorf("recorded was %+v", a)
	}
	for _, page := range []string{"/alerts", "/access"} {
		b.Call("Page.navigate", map[string]any{"url": s.URL + page})
		b.Until(`location.pathname === '` + page + `' && document.documentElement.dataset.views === '2'`)
		for _, width := range []int{360, 800} {
			b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
			if got := b.Eval(fmt.Sprintf(`document.documentElement.scrollWidth <= %d`, width)); got != "true" {
				t.Errorf("%s: at %d the page is %s px wide", page, width, b.Eval(`document.documentElement.scrollWidth`))
			}
		}
	}
	if len(b.Talk) > 0 {
		t.Errorf("the page's console is not empty: %s", strings.Join(b.Talk, "\n"))
	}
}

// TestDoorInBrowser looks at the pages that only a closed console has: the form to sign in, what it says to a wrong token, who is in; and at pages as
// readers see them.
func TestDoorInBrowser(t *testing.T) {
	groups := "staff"
	iss := issuer(t, &groups)
	rig, _ := guarded()
	d := rig.node.all(rig.deps)
	s := serveReal(t, New(d))
	admin := site.Admin{Session: time.Hour, Tokens: []*site.AdminToken{{Name: "eye", Token: readerSecret, Role: site.RoleRead}, {Name: "hand", Token: operatorSecret, Role: site.RoleOperate}}}
	b := browser.Open(t)
	b.Go(s.URL + "/")
	lookAt(t, b, "/login")
	silent(t, b, "/login")
	admin.OIDC = &site.AdminOIDC{Issuer: iss.URL, ClientID: "console", URL: s.URL, Claim: "groups", Read: []string{"staff"}}
	d.Door.Use(admin)
	enter := func(token string) {
		t.Helper()
		b.Eval(`window.left = true; document.getElementById('token').value = '` + token + `'; document.querySelector('form button').click()`)
		b.Until(`window.left === undefined && document.readyState === 'complete'`)
	}
	b.Go(s.URL + "/login")
	enter("wrong-all-day-long")
	lookAt(t, b, "/login with a wrong token")
	b.Talk = nil // browsers note the 401

	enter(readerSecret)
	for _, p := range tableOf(d) {
		path := strings.ReplaceAll(p.path, "{pool}", "shop")
		b.Go(s.URL + path)
		if got := b.Eval(controls); got != "0" {
			t.Errorf("%s shows a reader %s controls", path, got)
		}
		if p.path == "/alerts" || p.path == "/pools/{pool}" { // where most is left out
			lookAt(t, b, path+" for a reader")
		}
		silent(t, b, path)
	}
	b.Eval(`window.left = true; document.querySelector('form[action="/logout"] button').click()`)
	b.Until(`window.left === undefined && document.getElementById('token')`)
	enter(operatorSecret)
	b.Eval(`fetch('/api/v1/reload', {method: 'POST'}).then(r => r.status)`)
	b.Go(s.URL + "/access")
	if got := b.Eval(`document.getElementById('actions').innerText`); !strings.Contains(got, "POST /api/v1/reload") || b.Eval(controls) == "0" {
		t.Errorf("an operator sees of actions: %s", got)
	}
	lookAt(t, b, "/access for an operator")
	silent(t, b, "/access")
}
