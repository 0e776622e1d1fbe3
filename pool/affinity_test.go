package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

func withAffinity(t testing.TB, method string, n int) *Pool {
	cfg := *setup(t, method, n).cfg
	cfg.Affinity = &site.Affinity{Cookie: "keel", TTL: time.Hour}
	p, err := New(&cfg, Deps{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func asking(cookies ...string) *exchange.Exchange {
	r := &wire.Request{}
	for _, c := range cookies {
		r.Fields = append(r.Fields, wire.Field{Name: []byte("Cookie"), Value: []byte(c), ID: wire.Cookie})
	}
	return &exchange.Exchange{Request: r}
}

func TestAffinityKeepsAClientOnItsEndpoint(t *testing.T) {
	p := withAffinity(t, site.MethodRoundRobin, 5)
	x := asking()
	e := pickOf(t, p, x)
	value, attributes, _ := strings.Cut(string(x.SetCookie), "; ")
	if !strings.HasPrefix(value, "keel=") || attributes != "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600" {
		t.Fatalf("Set-Cookie is %q", x.SetCookie)
	}
	if strings.Contains(value, "10.0") {
		t.Errorf("the cookie %q shows the address", value)
	}
	for range 20 {
		x = asking("a=b", "c=d; "+value)
		x.SetCookie = []byte("of an earlier attempt")
		if got := pickOf(t, p, x); got != e || x.SetCookie != nil {
			t.Fatalf("the cookie of %s leads to %s, and sets %q", e.Address, got.Address, x.SetCookie)
		}
	}
	// The same after a restart.
	if got := pickOf(t, withAffinity(t, site.MethodRoundRobin, 5), asking(value)); got.Address != e.Address {
		t.Errorf("after a restart the cookie of %s leads to %s", e.Address, got.Address)
	}
	// Not while it drains; then the client gets another one.
	if err := p.SetState(e.Address, StateDrain); err != nil {
		t.Fatal(err)
	}
	x = asking(value)
	x.Secure = true
	if got := pickOf(t, p, x); got == e || !strings.HasSuffix(string(x.SetCookie), "; Secure") {
		t.Errorf("the cookie of a draining endpoint leads to %s, and sets %q", got.Address, x.SetCookie)
	}
}

func TestAffinityPassesOverWhatItDoesNotKnow(t *testing.T) {
	p := withAffinity(t, site.MethodLeastRequests, 3)
	for _, c := range []string{"keel=", "keel=zzzzzzzzzzzzzzzz", "keel=0123456789abcdef", "keel=1", "xkeel=1; ;;=", "keel"} {
		x := asking(c)
		pickOf(t, p, x)
		if x.SetCookie == nil {
			t.Errorf("cookie %q is taken as one of ours", c)
		}
	}
	x := asking()
	x.Request = nil
	if pickOf(t, p, x); x.SetCookie != nil {
		t.Error("a tcp connection gets a cookie")
	}
}

// The second attempt must not go back to the endpoint of the cookie.
func TestAffinityYieldsToRetry(t *testing.T) {
	p := withAffinity(t, site.MethodLeastRequests, 3)
	x := asking()
	e := pickOf(t, p, x)
	value, _, _ := strings.Cut(string(x.SetCookie), ";")
	x = asking(value)
	x.Endpoint, x.Attempt = e, 2
	if got := pickOf(t, p, x); got == e || x.SetCookie == nil {
		t.Errorf("the second attempt goes to %s, and sets %q", got.Address, x.SetCookie)
	}
}

func FuzzCookieIn(f *testing.F) {
	for _, s := range []string{"keel=1", "a=b; keel=0123456789abcdef", "keel=\"x\"", ";;keel==;", " keel = 1", "keel"} {
		f.Add(s, "keel")
	}
	f.Fuzz(func(t *testing.T, line, name string) {
		if name == "" {
			return
		}
		v := cookieIn([]byte(line), []byte(name))
		if v != nil && !strings.Contains(line, name+"=") {
			t.Fatalf("%q has no cookie %q, but yields %q", line, name, v)
		}
		if strings.ContainsRune(string(v), ';') {
			t.Fatalf("value %q of %q holds a separator", v, line)
		}
		readID(v)
	})
}

// TestAffinityLeavesRoomAlone: an endpoint that is spilled to has no more room for clients that are bound to it than for others. As each client was counted
// only before it had its cookie, thirty were at an endpoint with room for four.
func TestAffinityLeavesRoomAlone(t *testing.T) {
	p := withAffinity(t, site.MethodLeastRequests, 2)
	x := asking()
	e := pickOf(t, p, x)
	value, _, _ := strings.Cut(string(x.SetCookie), ";")
	for _, m := range p.members {
		m.room.Store(4)
	}
	got := map[*exchange.Endpoint]int{e: 1}
	for i := range 10 {
		x := asking(value)
		x.Class = exchange.Critical
		to, no := p.Pick(x)
		switch {
		case no != nil && (no.Reason != "spill_full" || i < 7):
			t.Fatalf("request %d is refused: %v", i, no)
		case no == nil && (to == e) != (x.SetCookie == nil):
			t.Errorf("request %d goes to %s, of %s, and sets %q", i, to.Address, e.Address, x.SetCookie)
		}
		if no == nil {
			got[to]++
		}
	}
	if len(got) != 2 || got[e] != 4 {
		t.Errorf("two endpoints with room for four each got %v", got)
	}
}
