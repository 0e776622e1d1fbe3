package login

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// FuzzLocal: whatever a link says, browsers stay on this host.
func FuzzLocal(f *testing.F) {
	for _, s := range []string{"/", "/overload?span=10m", "//evil.example", `/\evil.example`, "https://evil.example", "/%2f%2fevil", "/\x00", "/a#b"} {
		f.Add(s)
	}
	base, err := url.Parse("https://gateway.example:7600/login")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := Local(path)
		u, err := url.Parse(got)
		if err != nil {
			t.Fatalf("%q: %q is no path", path, got)
		}
		if to := base.ResolveReference(u); to.Host != base.Host || to.Scheme != base.Scheme || to.User != nil || len(got) > 1 && (got[1] == '/' || got[1] == '\\') {
			t.Errorf("%q leads to %s", path, to)
		}
	})
}

// FuzzClaims: whatever an issuer vouches for, nobody gets a role that no value of the claim gives.
func FuzzClaims(f *testing.F) {
	f.Add(`{"groups":["sre"]}`, "groups")
	f.Add(`{"realm_access":{"roles":["staff",1]},"email":"a@b","email_verified":true}`, "realm_access.roles")
	f.Add(`{"a":{"b":"sre"},"a.b":[]}`, "a.b")
	f.Fuzz(func(t *testing.T, text, claim string) {
		claims := map[string]any{}
		if json.Unmarshal([]byte(text), &claims) != nil {
			return
		}
		i := newIssuer(&site.AdminOIDC{Claim: claim, Operate: []string{"sre"}}, time.Now)
		values := valuesOf(claims, claim)
		if role := i.role(claims); role != "" && (role != site.RoleOperate || len(values) == 0) {
			t.Errorf("%s with %q: %s", text, claim, role)
		}
		if name := nameOf(claims); name == "" || len([]rune(name)) > maxName {
			t.Errorf("the name is %q", name)
		}
	})
}

// FuzzStart: nobody comes back from the issuer with a cookie that was not made here.
func FuzzStart(f *testing.F) {
	i := newIssuer(&site.AdminOIDC{}, time.Now)
	f.Add("eyJzdGF0ZSI6IiJ9.AAAA")
	f.Add("")
	f.Add("..")
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest("GET", Callback, nil)
		r.Header.Set("Cookie", startCookie+"="+value)
		if s, err := i.started(r); err == nil {
			t.Errorf("%q is taken for %+v", value, s)
		}
	})
}
