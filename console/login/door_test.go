package login

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/keep"
	"github.com/even-keel/evenkeel/site"
)

var tokens = site.Admin{Token: "of-all-for-all-000", Session: time.Hour, Tokens: []*site.AdminToken{
	{Name: "grafana", Token: "looks-at-figures-0", Role: site.RoleRead}, {Name: "deploy", Token: "changes-much-every-day", Role: site.RoleOperate},
	{Name: "agent", Token: "writes-samples-alone", Role: site.RoleWrite}}}

// clocked is a door with tokens, and a clock.
func clocked() (*Door, *time.Time) {
	at := time.Unix(1.8e9, 0)
	d := New(func() time.Time { return at })
	d.Use(tokens)
	return d, &at
}

func showing(token, from string) *http.Request {
	r := request("GET", "/")
	r.RemoteAddr = from
	r.Header.Set("Authorization", "bearer "+token)
	return r
}

func TestTokens(t *testing.T) {
	d, _ := clocked()
	for _, c := range []struct{ token, name, role string }{
		{"of-all-for-all-000", "admin", "operate"}, {"looks-at-figures-0", "grafana", "read"}, {"changes-much-every-day", "deploy", "operate"},
		{"writes-samples-alone", "agent", "write"},
		{"looks-at-figures-", "", ""}, {"looks-at-figures-00", "", ""}, {"", "", ""}, {"a.b.c", "", ""},
	} {
		who, err := d.Who(showing(c.token, "192.0.2.7:1"))
		if who.Name != c.name || who.Role != c.role || who.Bearer != (c.name != "") || (err == nil) != (c.name != "") {
			t.Errorf("%q: %+v, %v", c.token, who, err)
		}
		if who.May(site.RoleOperate) != (c.role == "operate") || who.May(site.RoleRead) != (c.role == "operate" || c.role == "read") ||
			who.May(site.RoleWrite) != (c.role == "operate" || c.role == "write") || who.May("") != (c.role == "operate") {
			t.Errorf("%q may the wrong things", c.token)
		}
	}
	if who, err := d.Who(request("GET", "/")); !errors.Is(err, ErrNobody) || who.Role != "" || who.From != "192.0.2.7" {
		t.Errorf("showing nothing: %+v, %v", who, err)
	}
}

func TestNobodyIsAsked(t *testing.T) {
	d := New(nil)
	d.Use(site.Admin{})
	if who, err := d.Who(request("GET", "/")); err != nil || d.Closed() || who.Role != site.RoleOperate || who.Via != ViaLocal {
		t.Errorf("%+v, %v", who, err)
	}
	r := request("GET", "/")
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "ada\n"}}}}}
	if who, err := d.Who(r); err != nil || who.Name != "ada" || who.Via != ViaCertificate {
		t.Errorf("%+v, %v", who, err)
	}
}

func TestTriesAreBounded(t *testing.T) {
	d, now := clocked()
	for range triesAtOnce {
		if _, err := d.Who(showing("guess", "192.0.2.7:1")); !errors.Is(err, ErrNobody) {
			t.Fatal(err)
		}
	}
	var many *TooManyError
	if _, err := d.Who(showing("of-all-for-all-000", "192.0.2.7:2")); !errors.As(err, &many) || many.Wait <= 0 || many.Wait > tryEvery {
		t.Errorf("after %d wrong tries the right one is looked at: %v", triesAtOnce, err)
	}
	if _, _, err := d.SignIn(request("POST", "/login"), "of-all-for-all-000"); !errors.As(err, &many) {
		t.Errorf("the form is another way in: %v", err)
	}
	if _, err := d.Who(showing("of-all-for-all-000", "192.0.2.8:2")); err != nil {
		t.Errorf("another address waits too: %v", err)
	}
	*now = now.Add(tryEvery)
	if _, err := d.Who(showing("of-all-for-all-000", "192.0.2.7:2")); err != nil {
		t.Errorf("a little later: %v", err)
	}
	// A program with an old token never shuts out its machine.
	for range 100 {
		*now = now.Add(10 * time.Second)
		if _, err := d.Who(showing("old", "192.0.2.9:2")); !errors.Is(err, ErrNobody) {
			t.Fatal(err)
		}
	}
	// Who has a network of IPv6 has as many addresses as they like, and who has many networks does not fill the memory.
	for i := range triesAtOnce {
		d.failed(fmt.Sprintf("2001:db8::%x", i))
	}
	if d.tries.blocked("2001:db8::ffff", *now) == 0 {
		t.Error("each address of a network has its own tries")
	}
	for i := range 2 * maxTriers {
		d.failed(fmt.Sprintf("2001:db8:%x:%x::1", i>>8, i&0xff))
	}
	if len(d.tries) > maxTriers {
		t.Errorf("%d addresses are remembered", len(d.tries))
	}
}

func TestSessions(t *testing.T) {
	d, now := clocked()
	enter := func(token string) *http.Request {
		t.Helper()
		_, k, err := d.SignIn(request("POST", "/login"), token)
		if err != nil {
			t.Fatal(err)
		}
		if k.Name != plainCookie || k.Secure || !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || strings.Contains(k.Value, token) {
			t.Errorf("the cookie is weak: %v", k)
		}
		r := request("GET", "/")
		r.AddCookie(k)
		return r
	}
	reader, operator := enter("looks-at-figures-0"), enter("changes-much-every-day")
	who, err := d.Who(reader)
	if err != nil || who.Name != "grafana" || who.Role != site.RoleRead || who.Bearer || !d.Holds(who) {
		t.Errorf("%+v, %v", who, err)
	}
	d.Leave(reader, who)
	if _, err := d.Who(reader); !errors.Is(err, ErrNobody) || d.Holds(who) {
		t.Errorf("after signing out: %v", err)
	}
	// A token that is taken back takes its sessions with it, and no others.
	admin := enter("of-all-for-all-000")
	less := tokens
	less.Tokens = tokens.Tokens[:1]
	d.Use(less)
	if _, err := d.Who(operator); !errors.Is(err, ErrNobody) {
		t.Errorf("with a token that is gone: %v", err)
	}
	if _, err := d.Who(admin); err != nil {
		t.Errorf("with one that stays: %v", err)
	}
	id := d.Sessions()[0].ID()
	if d.End("") != "" || d.End(id) != "admin" || len(d.Sessions()) != 0 {
		t.Error("a session cannot be ended by its name")
	}
	late := enter("of-all-for-all-000")
	*now = now.Add(time.Hour)
	if _, err := d.Who(late); !errors.Is(err, ErrNobody) {
		t.Errorf("after its end: %v", err)
	}
	first := enter("of-all-for-all-000")
	for range maxSessions {
		*now = now.Add(time.Millisecond)
		enter("of-all-for-all-000")
	}
	if _, err := d.Who(first); !errors.Is(err, ErrNobody) || len(d.sessions) != maxSessions {
		t.Errorf("%d sessions, the oldest: %v", len(d.sessions), err)
	}
}

func TestCookieOverTLS(t *testing.T) {
	d, _ := clocked()
	r := request("POST", "/login")
	r.TLS = &tls.ConnectionState{}
	if _, k, err := d.SignIn(r, "of-all-for-all-000"); err != nil || k.Name != hostCookie || !k.Secure || k.Path != "/" {
		t.Errorf("%v, %v", k, err)
	}
}

func TestSessionsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	d, now := clocked()
	if err := d.Keep(keep.NewFolder(dir)); err != nil {
		t.Fatal(err)
	}
	_, k, err := d.SignIn(request("POST", "/login"), "looks-at-figures-0")
	if err != nil {
		t.Fatal(err)
	}
	r := request("GET", "/")
	r.AddCookie(k)
	body, err := os.ReadFile(filepath.Join(dir, sessionsFile))
	if err != nil || strings.Contains(string(body), k.Value) || strings.Contains(string(body), "looks-at") {
		t.Errorf("what is on disk lets somebody in: %v\n%s", err, body)
	}
	// A successor knows them while this one still has the folder.
	next := New(func() time.Time { return *now })
	if err := next.Keep(keep.NewFolder(dir)); err != nil {
		t.Fatal(err)
	}
	next.Use(tokens)
	who, err := next.Who(r)
	if err != nil || who.Role != site.RoleRead {
		t.Errorf("after a restart: %+v, %v", who, err)
	}
	d.Close()
	next.Leave(r, who)
	last := New(func() time.Time { return *now })
	if err := last.Keep(keep.NewFolder(dir)); err != nil {
		t.Fatal(err)
	}
	last.Use(tokens)
	if _, err := last.Who(r); !errors.Is(err, ErrNobody) {
		t.Errorf("who signed out is in again after a restart: %v", err)
	}
	next.Close()
}

func TestLocal(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/overload?span=10m": "/overload?span=10m", "": "/", "overload": "/", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/",
		"/\t/evil.example": "/", "javascript:alert(1)": "/", "/%2F/evil.example": "/%2F/evil.example", "/a\nb": "/",
	} {
		if got := Local(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}
