package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// limited is a site with one pool and one limit of two per hour.
func limited(change func(*site.Limit)) *site.Site {
	s := testSite("web", "a=old")
	s.Routes[0].Cost, s.Routes[0].Retry = 1, defaults()
	l := &site.Limit{Name: "two", By: []string{site.ByIP}, Rate: 1.0 / 3600, Burst: 2, Cost: site.CostRequest, Keys: 1000, Headers: "always"}
	if change != nil {
		change(l)
	}
	s.Limits = []*site.Limit{l}
	return s
}

// Who comes too fast and has used a quota up is told when that is whole again, and as much as by the limit alone when it never is.
func TestLimitTellsWaitOfQuota(t *testing.T) {
	for period, c := range map[string]struct{ least, most time.Duration }{"year": {4000 * time.Hour, 20000 * time.Hour}, site.PeriodLifetime: {time.Minute, time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			s := limited(func(l *site.Limit) { l.Rate, l.Burst = 1.0/600, 1 })
			s.Quotas = []*site.Quota{{Name: "few", By: []string{site.ByIP}, Period: period, Calls: 1, Keys: 100, Headers: "auto"}}
			<-time.After(time.Until(time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)))
			w := newWorld(t, s)
			w.quotas = w.newQuotas(s)
			w.send = func(x *exchange.Exchange) *exchange.Refusal { return ok(x) }
			h := w.handlers(w.site, parts(w.pools))["web"]
			if r := h(request(t, "GET / HTTP/1.1\nHost: a")); r != nil {
				t.Fatal(r)
			}
			x := request(t, "GET / HTTP/1.1\nHost: a")
			if r := h(x); r == nil || r.Limit != "two" || x.RetryAfter < c.least || x.RetryAfter > c.most {
				t.Errorf("%s: refused with %v, retry after %v", period, r, x.RetryAfter)
			}
		})
	}
}

// A limit refuses, is shown, and knows its keys over a reload; a reload that fails leaves it as it was.
func TestLimitsOverReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited(nil))
		w.send = func(x *exchange.Exchange) *exchange.Refusal { return ok(x) }
		passes := func() (n int) {
			h := w.handlers(w.site, parts(w.pools))
			for range 10 {
				x := request(t, "GET / HTTP/1.1\nHost: a")
				if r := h["web"](x); r == nil {
					n++
				} else if r.Limit != "two" || r.Status != 429 || x.Allowed != 1 || !x.Allowances[0].Violated || x.RetryAfter < time.Minute {
					t.Errorf("refused with %+v, %+v, %v", r, x.Allowances, x.RetryAfter)
				}
			}
			return n
		}
		if n := passes(); n != 2 {
			t.Errorf("%d of 2 passed", n)
		}
		for i, step := range []struct {
			next *site.Site
			fail bool
			want int
		}{
			{limited(nil), false, 0},
			{limited(func(l *site.Limit) { l.Burst = 5 }), false, 3},
			{limited(func(l *site.Limit) { l.Burst = 50; l.Overrides = []site.Override{{Key: "nobody", Burst: 1}} }), true, 0},
			{limited(func(l *site.Limit) { l.Burst = 8; l.DryRun = true }), false, 10},
			{testSite("web", "a=old"), false, 10},
			{limited(nil), false, 2},
		} {
			w.next = step.next
			if err := w.Reload(); (err != nil) != step.fail {
				t.Fatalf("step %d: %v", i, err)
			}
			if n := passes(); n != step.want {
				t.Errorf("step %d: %d passed, want %d", i, n, step.want)
			}
			if i == 3 {
				if st := w.limitStatus(); len(st) != 1 || st[0].WouldRefuse != 7 || st[0].Admitted != 2+3+3 || st[0].Refused != 8+10+7+10 {
					t.Errorf("shown is %+v", st)
				}
			}
		}
		if text := scrape(t, w.Node); !strings.Contains(text, `evenkeel_limit_requests_total{limit="two",result="admitted"} 2`) {
			t.Errorf("metrics:\n%s", text)
		}
	})
}

// A request that is tried again is counted once, and one that the limit refuses does not reach the pool.
func TestLimitStandsBeforeRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited(nil))
		attempts := 0
		w.send = func(x *exchange.Exchange) *exchange.Refusal {
			if attempts++; attempts == 1 {
				x.Result = exchange.Result{Kind: exchange.ConnectFailed, Unsent: true}
				return refuseNoRoute
			}
			return ok(x)
		}
		h := w.handlers(w.site, parts(w.pools))
		for i, want := range []bool{true, true, false} {
			if r := h["web"](request(t, "GET / HTTP/1.1\nHost: a")); (r == nil) != want {
				t.Errorf("request %d: %v", i, r)
			}
		}
		if attempts != 3 {
			t.Errorf("%d attempts, want 3", attempts)
		}
	})
}

// An adaptive limit follows what the route's pool says of itself.
func TestOverloadedAsksThePool(t *testing.T) {
	for want, f := range map[bool]func() bool{true: func() bool { return true }, false: nil} {
		if got := overloaded(&exchange.Exchange{Route: &exchange.Route{Overloaded: f}}); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
