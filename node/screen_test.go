package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// TestReloadOfScreening: a site whose directives are wrong changes nothing; screening comes and goes with a reload, and is left out of the
// chain when nothing asks for it.
func TestReloadOfScreening(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.conf")
	if err := os.WriteFile(bad, []byte("SecRule nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old"))
		w.send = func(x *exchange.Exchange) *exchange.Refusal { return ok(x) }
		ask := func() *exchange.Refusal {
			return w.handlers(w.site, parts(w.pools))["web"](request(t, "GET /?x=1%27+or+1%3D1+--+- HTTP/1.1\nHost: a"))
		}
		if w.screen.Stage(w.site) != nil || ask() != nil {
			t.Error("a site without screening has a stage for it")
		}
		screened := func() *site.Site {
			s := testSite("web", "a=old")
			s.Routes[0].Screen = &site.Screen{Mode: site.ModeBlock, Paranoia: 1, Anomaly: 5, BodyBytes: 1 << 10, Sample: 1, CheapChecks: true}
			return s
		}
		w.next = screened()
		w.next.Screening.Directives = []string{bad}
		if err := w.Reload(); err == nil || !strings.Contains(err.Error(), bad) || ask() != nil {
			t.Errorf("wrong directives: %v", err)
		}
		w.next, w.failOpen = screened(), true
		if err := w.Reload(); err == nil || len(w.screen.Status().Sets) != 0 {
			t.Errorf("a port is taken: %v, and rule sets are kept: %v", err, w.screen.Status().Sets)
		}
		w.next, w.failOpen = screened(), false
		if err := w.Reload(); err != nil {
			t.Fatal(err)
		}
		if r := ask(); r == nil || r.Stage != "screen" || r.Reason != "attack" {
			t.Errorf("an attack was answered with %v", r)
		}
		w.next = testSite("web", "a=old")
		if err := w.Reload(); err != nil || ask() != nil {
			t.Errorf("screening is still there: %v", err)
		}
		if sets := w.screen.Status().Sets; len(sets) != 0 {
			t.Errorf("rule sets are left: %v", sets)
		}
	})
}

// TestRulesAreSeenWithoutScreening: what own rules met stands in status and metrics, whether or not anything is screened.
func TestRulesAreSeenWithoutScreening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old")
		s.Rules = []*site.Rule{{Name: "php", PathMatch: `\.php$`, Action: "count"}}
		w := newWorld(t, s)
		w.send = func(x *exchange.Exchange) *exchange.Refusal { return ok(x) }
		serve := w.handlers(w.site, parts(w.pools))["web"]
		for _, path := range []string{"/a.php", "/b", "/c.php"} {
			if r := serve(request(t, "GET "+path+" HTTP/1.1\nHost: a")); r != nil {
				t.Fatal(r)
			}
		}
		v := w.View().Overload.Screen
		if v == nil || v.Mode != site.ModeOff || len(v.RuleHits) != 1 || v.RuleHits[0].Rule != "php" || v.RuleHits[0].Hits != 2 || len(v.OwnHits) != 1 || v.OwnHits[0] != v.RuleHits[0] {
			t.Errorf("a rule that counts is seen as %+v", v)
		}
		w.next = testSite("web", "a=old")
		if err := w.Reload(); err != nil || w.View().Overload.Screen != nil {
			t.Errorf("without rules and screening: %v, %+v", err, w.View().Overload.Screen)
		}
	})
}
