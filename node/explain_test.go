package node

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// quotaSite is a site with two quotas.
func quotaSite() *site.Site {
	s := testSite("web", "a=old")
	s.Identify.Customer = &site.Source{Header: "X-Key"}
	s.Quotas = []*site.Quota{
		{Name: "monthly", By: []string{site.ByCustomer}, Calls: 2, Period: "month", Keys: 1000, Headers: "auto"},
		{Name: "elsewhere", By: []string{site.ByIP}, Calls: 2, Period: "day", Keys: 1000, Routes: []string{"none"}},
	}
	return s
}

func TestQuotasOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, quotaSite())
		finder, err := w.facts.Finder(&w.site.Identify)
		if err != nil {
			t.Fatal(err)
		}
		w.finder = finder
		w.quotas = w.newQuotas(w.site)
		w.book.Use(w.quotas)
		w.send = func(x *exchange.Exchange) *exchange.Refusal { return ok(x) }
		h := w.handlers(w.site, parts(w.pools))["web"]
		w.chains, w.counted = w.built, w.quotas
		q := console.Question{Path: "/x", Host: "a", Headers: []string{"X-Key: acme"}}
		for i, left := range []int64{2, 1, 0} {
			e, err := w.Explain(q)
			if err != nil || len(e.Quotas) != 2 {
				t.Fatalf("%+v, %v", e, err)
			}
			if one := e.Quotas[0]; one.LeftCalls != left || one.Refuses != (left == 0) || e.Passes != (left > 0) || one.Key != "acme" {
				t.Errorf("after %d requests: %+v", i, e)
			}
			if one := e.Quotas[1]; one.Applies || !strings.Contains(one.Why, "route") {
				t.Errorf("a quota of another route: %+v", one)
			}
			r := h(request(t, "GET /x HTTP/1.1\nHost: a\nX-Key: acme"))
			if (r != nil) != (left == 0) {
				t.Errorf("request %d: %v", i+1, r)
			}
			if r != nil && (r.Limit != "monthly" || r.Stage != "limit" || r.Problem != exchange.ProblemQuota) {
				t.Errorf("%+v", r)
			}
		}
		if st := w.quotaStatus(); st[0].Admitted != 2 || st[0].Refused != 1 || st[0].Keys != 1 {
			t.Errorf("%+v", st)
		}
		if e, err := w.Explain(console.Question{Path: "/..", Host: "a"}); err != nil || e.Passes || !strings.Contains(e.Answer, "ambiguous_path") {
			t.Errorf("%+v, %v", e, err)
		}
		for _, bad := range []console.Question{
			{Path: "x"}, {Path: "/ HTTP/1.1\r\nX-A: b"}, {Path: "/", Method: "G T"}, {Path: "/", IP: "x"}, {Path: "/", Host: "a\r\nX-B: c\r\n\r\n"},
			{Path: "/", Headers: []string{"Host: b"}}, {Path: "/", Headers: []string{"X: a\r\n\r\nGET / HTTP/1.1"}}, {Path: "/", Listener: "none"},
		} {
			if e, err := w.Explain(bad); err == nil {
				t.Errorf("%+v is answered with %+v", bad, e)
			}
		}
	})
}

// TestClientDocNamesNobody: whatever a site says of limits, the page for clients holds no override, no secret, and nothing on trial.
func TestClientDocNamesNobody(t *testing.T) {
	s := quotaSite()
	s.Identify.Customer = &site.Source{JWT: &site.JWT{Secret: "hidden-word"}}
	s.Quotas[0].Overrides = []site.Override{{Key: "hidden-customer", Calls: 7777}}
	s.Quotas[0].Answer = site.LimitAnswer{Status: 429, Body: "Call us.", ContentType: "text/plain", Remaining: "X-Left", RetryAfter: "X-Wait"}
	s.Quotas = append(s.Quotas, &site.Quota{Name: "hidden-trial", By: []string{site.ByIP}, Calls: 1, Period: "day", DryRun: true})
	s.Limits = []*site.Limit{
		{Name: "rate", By: []string{site.ByIP, site.ByRoute}, Rate: 0.5, Cost: site.CostRequest, Headers: "always", Overrides: []site.Override{{Key: "hidden-ip"}}},
		{Name: "all", By: []string{site.ByGlobal}, Concurrency: 10, Cost: site.CostRequest},
		{Name: "hidden-limit", By: []string{site.ByIP}, Rate: 1, DryRun: true},
	}
	var b bytes.Buffer
	if err := ClientDoc(&b, s); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if strings.Contains(text, "hidden") || strings.Contains(text, "7777") {
		t.Errorf("the page tells what it should not:\n%s", text)
	}
	for _, want := range []string{
		"Each combination of IP address and part of the API has 30 requests a minute on average, and 1 at once",
		"All clients together have 10 requests under way at once.", "answered with 503", "answered with 429",
		"Each customer has 2 requests in every month (UTC).", "HTTP/1.1 429 Too Many Requests\nX-Wait: ", "Content-Type: text/plain\n\nCall us.",
		"`X-Left` carries what is left of monthly", `RateLimit-Policy: "rate";q=1;w=2, "monthly";q=2;w=2592000`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

// TestClientDocScope: the page says which requests a limit holds for, all of what a route asks but the values of headers, and what they cost.
func TestClientDocScope(t *testing.T) {
	s := testSite("web", "a=old")
	s.Routes = []*site.Route{
		{Name: "reports", Pool: "a", Paths: []string{"/report/*", "/sums"}, Hosts: []string{"a.example", "b.example"}, Methods: []string{"POST"},
			Headers: map[string]string{"X-Beta": "hidden-word"}, Cost: 20},
		{Name: "ping", Pool: "a", Paths: []string{"/ping"}},
		{Name: "moved", Redirect: &site.Redirect{Path: "/"}, Paths: []string{"/moved"}},
		{Name: "rest", Pool: "a", Cost: 1},
	}
	s.Limits = []*site.Limit{
		{Name: "all", By: []string{site.ByIP}, Rate: 1.5e6, Burst: 2000000, Cost: site.CostRequest},
		{Name: "some", By: []string{site.ByIP}, Rate: 1, Cost: site.CostRequest, Routes: []string{"ping", "rest"}},
		{Name: "at-once", By: []string{site.ByIP}, Concurrency: 1, Cost: site.CostRequest, Routes: []string{"reports"}},
	}
	var b bytes.Buffer
	if err := ClientDoc(&b, s); err != nil {
		t.Fatal(err)
	}
	const reports = "POST `/report/*`, `/sums` of a.example and b.example with certain values of X-Beta"
	for _, want := range []string{
		"1500000 requests a second on average, and 2000000 at once after a pause.\nA request for " + reports + " counts as 20.\nA request for `/ping` is not counted.\nA request beyond it",
		"and 1 at once after a pause.\nA request for `/ping` is not counted.\nIt holds for `/ping`; `/*`.\n",
		"has 1 request under way at once.\nIt holds for " + reports + ".\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "hidden") {
		t.Errorf("the page tells what it should not:\n%s", b.String())
	}
}

// Own rules that limit are explained as requests meet them, and counted by none that is only thought of.
func TestRulesAreExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old")
		s.Rules = []*site.Rule{
			{Name: "php", PathMatch: `\.php$`, Action: "block", Status: 404},
			{Name: "own", From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Action: "allow"},
			{Name: "logins", Paths: []string{"/login"}, Action: "limit", Count: 2, Window: time.Minute},
		}
		w := newWorld(t, s)
		w.send = func(x *exchange.Exchange) *exchange.Refusal { return ok(x) }
		h := w.handlers(w.site, parts(w.pools))["web"]
		w.chains = w.built
		const client = "198.51.100.7"
		ask := func(path, ip string) console.ExplainedRule {
			t.Helper()
			e, err := w.Explain(console.Question{Path: path, Host: "a", IP: ip})
			if err != nil || len(e.Rules) != 1 || e.Passes == e.Rules[0].Refuses {
				t.Fatalf("%+v, %v", e, err)
			}
			return e.Rules[0]
		}
		send := func() *exchange.Refusal {
			x := request(t, "GET /login HTTP/1.1\nHost: a")
			x.Client = netip.MustParseAddrPort(client + ":1")
			return h(x)
		}
		for _, left := range []int{2, 1, 0, 0} {
			r := ask("/login", client)
			if !r.Applies || r.Left != left || r.Refuses != (left == 0) || r.Key != client || r.Count != 2 || r.Window != 60 {
				t.Errorf("with %d left: %+v", left, r)
			}
			if no := send(); (no != nil) != r.Refuses {
				t.Errorf("with %d left: %v", left, no)
			}
		}
		for ip, path := range map[string]string{"192.0.2.1": "/login", client: "/other"} {
			if r := ask(path, ip); r.Applies || r.Why == "" {
				t.Errorf("%s from %s: %+v", path, ip, r)
			}
		}
		for _, ip := range []string{client, "192.0.2.1"} {
			e, err := w.Explain(console.Question{Path: "/login.php", Host: "a", IP: ip})
			if err != nil || e.Passes || len(e.Rules) != 2 || e.Rules[0].Name != "php" || e.Rules[0].Blocks != 404 || !e.Rules[0].Refuses || e.Rules[1].Applies {
				t.Errorf("what a rule blocks from %s: %+v, %v", ip, e, err)
			}
		}
		<-time.After(time.Duration(ask("/login", client).RetryAfter * float64(time.Second)))
		if r := ask("/login", client); r.Refuses || send() != nil {
			t.Errorf("after the wait: %+v", r)
		}
	})
}
