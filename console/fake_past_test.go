package console

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"regexp"
	"strings"
	"time"
)

// Ask is the past of the lively node: for each expression a few waves, told apart by the label that it sums by.
func (f *fakeNode) Ask(_ context.Context, q Asked) (got Answered, err error) {
	if strings.Contains(q.Expr, "nonsense") {
		return got, fmt.Errorf("1:1: parse error: unexpected nonsense")
	}
	values := map[string][]string{"class": {"critical", "standard", "low"}, "stage": {"limit", "shed", "screen"}, "code": {"2xx", "3xx", "4xx", "5xx"}, "pool": {"mail", "shop"},
		"endpoint": {"10.0.1.1:8000", "10.0.1.2:8000", "10.0.1.3:8000", "10.0.1.4:8000", "10.0.1.5:8000"}, "listener": {"mail", "web"}, "limit": {"per-customer", "per-ip"},
		"reason": {"connect", "reset", "503"}, "result": {"bypass", "hit", "miss", "stale"}, "why": {"if_error", "while_revalidate"}, "objective": {"checkout-available", "checkout-fast"}, "alert": {"burn-page"}}
	label, names := "", []string{""}
	if m := regexp.MustCompile(`sum by \((\w+)\)`).FindStringSubmatch(q.Expr); m != nil && values[m[1]] != nil {
		label, names = m[1], values[m[1]]
	} else if strings.Contains(q.Expr, "endpoint_") && !strings.Contains(q.Expr, "sum(") {
		label, names = "endpoint", values["endpoint"]
	} else if strings.Contains(q.Expr, "pool_healthy") || strings.Contains(q.Expr, "retry_budget") || strings.Contains(q.Expr, "evenkeel_shed_") {
		label, names = "pool", values["pool"]
	} else if strings.Contains(q.Expr, "slo_") {
		label, names = "objective", values["objective"]
	}
	if strings.Contains(q.Expr, "retries_total{") {
		label, names = "reason", values["reason"]
	}
	if m := regexp.MustCompile(`class="(\w+)"`).FindStringSubmatch(q.Expr); m != nil {
		names = []string{m[1]}
	}
	tail := strings.ReplaceAll(q.Expr, "quantile(0.5,", "quantile(0.99,") // a median is a quarter of what its tail is, at any moment
	for i, name := range names {
		h := fnv.New32a()
		h.Write([]byte(tail + name))
		phase, size := float64(h.Sum32()%628)/100, float64(20+h.Sum32()%180)/float64(i+1)
		if tail != q.Expr {
			size /= 4
		}
		share := strings.Contains(q.Expr, "share") || strings.Contains(q.Expr, "budget_left") || strings.Contains(q.Expr, " / ")
		s := AnsweredSeries{Labels: map[string]string{label: name}}
		for at := q.From; !at.After(q.To); at = at.Add(q.Step) {
			t := float64(at.Unix()) / q.Step.Seconds()
			v := size * (1 + .5*math.Sin(t/11+phase) + .08*math.Sin(t*2.7))
			switch {
			case share:
				v = math.Min(1, .7+.3*math.Sin(t/31+phase))
			case strings.Contains(q.Expr, "breaker_state"):
				v = 0
				if i == 3 && math.Sin(t/9) > .8 {
					v = 2
				}
			case strings.Contains(q.Expr, "_up"):
				v = 1
				if i == 3 && math.Sin(t/9) > .8 {
					v = 0
				}
			}
			s.Points = append(s.Points, AnsweredPoint{At: at, Value: v})
		}
		got.Series = append(got.Series, s)
	}
	return got, nil
}

// Marks is what happened there.
func (f *fakeNode) Marks(from, to time.Time) []Mark {
	length := to.Sub(from)
	return []Mark{{to.Add(-length / 3), "deploy", "v42"}, {to.Add(-length / 5), "reload", "site 3f9a1c2e is in force: 2 listeners, 2 pools, 3 routes"}, {from.Add(length / 7), "admin", "10.0.1.2:8000 in pool shop set to drain"}}
}

// Config is its site.
func (f *fakeNode) Config(bool) Config {
	now := f.now()
	return Config{Revision: "3f9a1c2e", Since: now.Add(-12 * time.Minute), Site: "name: shop\nadmin:\n  listen: 127.0.0.1:7600\n  token: \"***\"\nlisteners:\n  web:\n    listen: :8443\n    protocol: http\npools:\n  shop:\n    method: least_requests\n    endpoints:\n      - address: 10.0.1.1:8000\n      - address: 10.0.1.2:8000\n",
		Changes: []SiteChange{
			{At: now.Add(-12 * time.Minute), OK: true, From: "91bc22f0", Revision: "3f9a1c2e", Lines: []string{"pools.shop.endpoints: + 10.0.1.5:8000", "pools.shop.endpoints: - 10.0.1.9:8000", "routes.checkout.deadline: 2s → 1s"}},
			{At: now.Add(-31 * time.Minute), From: "91bc22f0", Revision: "91bc22f0", Error: "site.yaml:14:5: routes.rest.pool: there is no pool shp; did you mean shop?"},
		}}
}

// all is everything that the lively node can offer.
func (f *fakeNode) all(d Deps) Deps {
	d.Objectives, d.Alerts, d.Ask, d.Marks, d.Config = f.Objectives, f.Alerts, f.Ask, f.Marks, f.Config
	d.History = (&pastNode{runs: someRuns(f.now())}).history()
	d.Break = func(pool, endpoint, state string, until time.Time) error { return nil }
	d.Purge = func(route, prefix string) int { return 12 }
	view := d.View
	d.View = func() View {
		v := view()
		for i := range v.Pools {
			p := &v.Pools[i]
			p.Probe = "GET /healthz every 5s"
			p.Breaker = &Breaker{State: BreakerClosed, Mode: "on", Failed: 3, Seen: 512, Turns: []BreakerTurn{{BreakerOpen, "failure_share", 2}, {BreakerClosed, "trials_passed", 2}}}
			p.Retries = Retries{Attempts: 47_100_221, Repeats: map[string]uint64{"connect": 41, "503": 812, "reset": 3}, Denied: map[string]uint64{"unsafe": 12, "budget": 7}, BudgetLeft: 48.2}
		}
		v.Pools[1].FailedRPS, v.Pools[0].FailedRPS = 0, 3.2
		v.Pools[0].Bulkhead = &Bulkhead{Places: 4096, Parts: []BulkheadPart{{By: "pool", Used: 88, Kept: 128, Share: 1024, Most: 2048}, {By: "route", Name: "checkout", Used: 12, Kept: 64, Share: 256, Refused: 4}}}
		v.Degrade = &Degrade{Cache: &CacheLoad{Bytes: 41 << 20, LimitBytes: 64 << 20, Entries: 10_212, Stored: 90_000, Evicted: 1200, Invalidated: 31, Purged: 4, Refreshed: 812, Routes: []CacheRoute{
			{Route: "rest", Hit: 902_000, Stale: 512, Revalidated: 4100, Coalesced: 88, Miss: 31_200, Bypass: 120, Refused: 2, StaleWhy: map[string]uint64{"if_error": 500, "if_overloaded": 12}}}},
			Fallbacks: []FallbackLoad{{Route: "rest", Kind: "respond", Used: map[string]uint64{"down": 7}}}, Switches: []FeatureSwitch{{Name: "recommendations", Why: "nobody has set it", Since: f.now().Add(-time.Hour)}}}
		return v
	}
	return d
}
