package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

const perCustomer = `
identify: {customer: {header: X-Key}}
routes: [{name: all, pool: shop}]
`

func pass(*exchange.Exchange) *exchange.Refusal { return nil }

// times is how many requests of a customer pass at once.
func (d *desk) times(customer string) (n int) {
	d.t.Helper()
	for n < 10_000 {
		x, _ := d.request([]string{"customer=" + customer})
		if d.set.Stage().Serve(x, exchange.Then(pass)) != nil {
			return n
		}
		n++
	}
	return n
}

// A limit that keeps its name and what it counts by keeps its budgets over a reload, and new numbers hold at once.
func TestReload(t *testing.T) {
	with := func(limit string) string { return perCustomer + "limits: [{name: l, " + limit + "}]\n" }
	d := newDesk(t, with("by: customer, rate: 1/h, burst: 10"))
	if n := d.times("a"); n != 10 {
		t.Fatalf("%d passed", n)
	}
	for i, step := range []struct {
		limit string
		after time.Duration
		want  int
	}{
		{"by: customer, rate: 1/h, burst: 10", 0, 0},
		{"by: customer, rate: 1/h, burst: 12", 0, 2},
		{"by: customer, rate: 1/s, burst: 12", 0, 0}, // what was used is still used, and comes back sooner
		{"by: customer, rate: 1/s, burst: 12", 3 * time.Second, 3},
		{"by: customer, rate: 1/s, burst: 4", 0, 0},
		{"by: customer, rate: 1/s, burst: 12, overrides: [{key: a, burst: 20}]", 0, 8},
		{"by: customer, rate: 1/s, burst: 12, overrides: [{key: a, unlimited: true}]", 0, 10_000},
		{"by: customer, rate: 1/s, burst: 20", 0, 0},
		{"by: customer, concurrency: 5", 0, 10_000},
		{"by: customer, rate: 1/s, burst: 3", 0, 3}, // without a rate in between, nothing was kept
		{"by: [customer, route], rate: 1/s, burst: 3", 0, 3},
		{"by: global, rate: 1/s, burst: 3", 0, 3},
		{"by: global, rate: 1/h, burst: 4", 0, 1},
	} {
		d.load(with(step.limit))
		d.now = d.now.Add(step.after)
		if n := d.times("a"); n != step.want {
			t.Errorf("step %d, %s: %d passed, want %d", i, step.limit, n, step.want)
		}
	}
	if st := d.set.Status(); st[0].Admitted != 3+1 || st[0].Refused == 0 {
		t.Errorf("counters of the last limit were not kept: %+v", st)
	}
	d.load(perCustomer)
	if d.set.Stage() != nil {
		t.Error("a stage without limits")
	}
}

// A request that began before a reload ends in what it began in.
func TestReloadWhileUnderWay(t *testing.T) {
	with := func(n int) string {
		return perCustomer + fmt.Sprintf("limits: [{name: l, by: customer, concurrency: %d}]\n", n)
	}
	d := newDesk(t, with(2))
	d.play("0s customer=a as=1")
	d.play("0s customer=a as=2")
	d.load(with(3))
	if got := d.play("0s customer=a as=3"); !strings.HasPrefix(got, "passes") {
		t.Errorf("the third of three: %s", got)
	}
	if got := d.play("0s customer=a"); strings.HasPrefix(got, "passes") {
		t.Errorf("the fourth of three: %s", got)
	}
	for i := range 3 {
		d.play(fmt.Sprint("1s end ", i+1))
	}
	if e := d.set.Explain(&exchange.Exchange{Route: d.routes["all"], Customer: []byte("a")}); e[0].InFlight != 0 {
		t.Errorf("%d are under way after all ended", e[0].InFlight)
	}
}

// What a request turns out to cost is a debt to the numbers in force when it ends: a limit that was raised meanwhile is not a hundred times
// as long in debt for it.
func TestReloadChargesByNewNumbers(t *testing.T) {
	for _, by := range []string{"customer", "global", "route"} {
		for cost, outcome := range map[string]string{"measured, unit: 10ms": "work=30s", "header, cost_header: X-Cost": "cost=3000", "bytes, unit_bytes: 1KB": "out=3000000"} {
			with := func(rate int) string {
				return perCustomer + fmt.Sprintf("limits: [{name: l, by: %s, cost: %s, rate: %d/s, burst: 5000}]\n", by, cost, rate)
			}
			d := newDesk(t, with(10))
			d.play("0s customer=a as=1 " + outcome)
			d.load(with(1000))
			d.play("1s end 1")
			e := d.set.Explain(&exchange.Exchange{Route: d.routes["all"], Customer: []byte("a")})[0]
			if off := e.Reset - 3*time.Second; off < -10*time.Millisecond || off > 10*time.Millisecond {
				t.Errorf("by %s, cost %s: the budget is whole in %v, want 3s", by, cost, e.Reset)
			}
		}
	}
	// Another unit is another number of units, and without a rate there is nothing to owe.
	const text = perCustomer + "limits: [{name: l, by: customer, cost: measured, unit: %s, rate: %s, burst: 5000}]\n"
	d := newDesk(t, fmt.Sprintf(text, "10ms", "10/s"))
	d.play("0s customer=a as=1")
	d.play("0s customer=a as=2")
	d.load(fmt.Sprintf(text, "1ms", "1000/s"))
	d.play("1s end 1 work=3s")
	if e := d.set.Explain(&exchange.Exchange{Route: d.routes["all"], Customer: []byte("a")})[0]; e.Reset < 2990*time.Millisecond || e.Reset > 3*time.Second {
		t.Errorf("with another unit the budget is whole in %v", e.Reset)
	}
	d.load(perCustomer + "limits: [{name: l, by: customer, concurrency: 5}]\n")
	if got := d.play("2s end 2 work=3s"); got != "ended" {
		t.Error(got)
	}
}

func TestRetryIsJitteredUpward(t *testing.T) {
	d := newDesk(t, perCustomer+"limits: [{name: l, by: customer, rate: 6/m, burst: 1}]\n")
	d.times("a")
	for random, want := range map[uint32]time.Duration{0: 10 * time.Second, 1 << 31: 10500 * time.Millisecond, 1<<32 - 1: 11 * time.Second} {
		d.random = random
		x, _ := d.request([]string{"customer=a"})
		if d.set.Stage().Serve(x, exchange.Then(pass)) == nil {
			t.Fatal("the second passed")
		}
		if off := x.RetryAfter - want; off > 0 || off < -10*time.Microsecond {
			t.Errorf("retry in %v, want %v", x.RetryAfter, want)
		}
	}
	d.now = d.now.Add(10 * time.Second)
	if d.times("a") != 1 {
		t.Error("the time to wait was too short")
	}
}

func TestPoliciesAndRefusals(t *testing.T) {
	s := siteOf(t, perCustomer+`
limits:
  - {name: even, by: customer, rate: 100/s}
  - {name: burst, by: customer, rate: 100/s, burst: 200}
  - {name: odd, by: ip, rate: 20/s, burst: 50}
  - {name: slow, by: ip, rate: 10/m, burst: 1, headers: always, answer: {status: 420, retry_after: X-Wait, body: no, remaining: X-Left, detail: Slow down.}}
  - {name: bytes, by: [customer, route], rate: 1000/s, cost: bytes, headers: refused}
  - {name: both, by: global, rate: 5/s, concurrency: 7, headers: "off"}
  - {name: busy, by: route, concurrency: 7}
`)
	set, err := New(Config{Limits: s.Limits, Routes: []string{"all"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"even": `"even";q=100;w=1 true`, "burst": `"burst";q=200;w=2 true`, "odd": `"odd";q=60;w=3 false`, "slow": `"slow";q=1;w=6 true`,
		"bytes": `"bytes";q=1024000;qu="content-bytes";w=1 false`, "both": "", "busy": `"busy";q=7;qu="concurrent-requests" false`,
	}
	for _, l := range set.limits {
		got := ""
		for _, p := range []*exchange.Policy{l.base.told.rate, l.base.told.busy} {
			if p != nil {
				got = strings.TrimSpace(fmt.Sprint(got, " ", string(p.Field), " ", p.Always))
			}
		}
		if got != want[l.cfg.Name] {
			t.Errorf("%s tells %s, want %s", l.cfg.Name, got, want[l.cfg.Name])
		}
		r := l.slow
		status, problem := 429, exchange.ProblemQuota
		if !l.own {
			status, problem = 503, exchange.ProblemReduced
		}
		if l.cfg.Name == "slow" {
			status = 420
			if string(r.Body) != "no" || string(r.RetryName) != "X-Wait" || string(l.base.told.rate.Remaining) != "X-Left" || r.Detail != "Slow down." || len(r.ContentType) == 0 {
				t.Errorf("%+v", r)
			}
		}
		if r.Status != status || r.Problem != problem || r.Limit != l.cfg.Name || r.Stage != "limit" || r.Reason != "rate" || l.busyNo.Reason != "concurrency" {
			t.Errorf("%s refuses with %+v", l.cfg.Name, r)
		}
	}
}

func TestMistakes(t *testing.T) {
	limits := func(text string) []*site.Limit { return siteOf(t, perCustomer+"limits:\n"+text).Limits }
	several := func(n int, change func(i int, l *site.Limit)) (list []*site.Limit) {
		for i := range n {
			l := *limits("  - {name: l, by: ip, rate: 1/s}\n")[0]
			l.Name = fmt.Sprint("l", i)
			change(i, &l)
			list = append(list, &l)
		}
		return list
	}
	// The site's own check finds all of these first.
	for want, list := range map[string][]*site.Limit{
		"hold for route all; allowed are 8":               several(maxHeld+1, func(_ int, l *site.Limit) { l.Concurrency = 1 }),
		"hold for route all; allowed are 63":              several(maxChecks+1, func(int, *site.Limit) {}),
		"cost_header X-2 is one too many: allowed are 2 ": several(exchange.MaxCosts+1, func(i int, l *site.Limit) { l.Cost, l.CostHeader = site.CostHeader, fmt.Sprint("X-", i) }),
	} {
		if _, err := New(Config{Limits: list, Routes: []string{"all"}, IPv6: 64}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	for want, keys := range map[string][]string{"is no key of a limit by [ip]": {"acme"}, "is overridden above already": {"192.0.2.1", "192.0.2.1"}} {
		list := limits("  - {name: l, by: ip, rate: 1/s}\n")
		for _, k := range keys {
			list[0].Overrides = append(list[0].Overrides, site.Override{Key: k, Burst: 1})
		}
		if _, err := New(Config{Limits: list, Routes: []string{"all"}, IPv6: 64}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", keys, err, want)
		}
	}
}

func TestExplain(t *testing.T) {
	d := newDesk(t, `
identify: {customer: {header: X-Key}}
routes: [{name: api, pool: shop, paths: [/api/*], cost: 2}, {name: all, pool: shop}]
limits:
  - {name: mine, by: [customer, route], rate: 1/s, burst: 5, overrides: [{key: big api, burst: 50}]}
  - {name: api, by: global, concurrency: 3, routes: [api]}
  - {name: low, by: ip, rate: 1/s, classes: [low, standard]}
`)
	d.play("0s customer=a route=api as=1")
	d.play("0s customer=a route=api as=2")
	x, _ := d.request([]string{"customer=a", "route=api"})
	for range 2 { // asking takes nothing
		e := d.set.Explain(x)
		if m := e[0]; !m.Applies || m.Key != "a api" || m.Left != 1 || m.Reset != 4*time.Second || !m.Refuses || m.RetryAfter != time.Second || m.Price != 2 || m.Reason != "rate" {
			t.Errorf("%+v", m)
		}
		if m := e[1]; !m.Applies || m.Key != "global" || m.InFlight != 2 || m.Concurrency != 3 || m.Refuses || m.Status != 503 {
			t.Errorf("%+v", m)
		}
		if m := e[2]; m.Applies || !strings.Contains(m.Why, "lacks a fact that the limit counts by: ip") {
			t.Errorf("%+v", m)
		}
	}
	x, _ = d.request([]string{"customer=big", "route=api", "class=critical", "ip=192.0.2.1"})
	if e := d.set.Explain(x); e[0].Burst != 50 || e[0].Why != "the numbers of an override hold" || e[2].Why != "it holds for classes low, standard and this is class critical" {
		t.Errorf("%+v", e)
	}
	x, _ = d.request(nil)
	if e := d.set.Explain(x); e[0].Applies || e[1].Why != "it holds for route api and this is route all" {
		t.Errorf("%+v", e)
	}
	d.play("1s end 1")
	d.play("1s end 2")
}

// The sketch names the keys that are refused most, among many that are refused once.
func TestTopKeys(t *testing.T) {
	d := newDesk(t, perCustomer+"limits: [{name: l, by: customer, rate: 1/h, burst: 1, keys: 1000000}]\n")
	rnd := rand.New(rand.NewPCG(5, 6))
	counts := map[string]int{}
	for range 60_000 {
		who := fmt.Sprint("c", rnd.IntN(20_000))
		switch n := rnd.IntN(100); {
		case n < 20:
			who = "worst"
		case n < 30:
			who = "second"
		}
		x, _ := d.request([]string{"customer=" + who})
		if d.set.Stage().Serve(x, exchange.Then(pass)) != nil {
			counts[who]++
		}
	}
	st := d.set.Status()[0]
	if len(st.Top) != topShown || st.Top[0].Key != "worst" || st.Top[1].Key != "second" {
		t.Fatalf("%+v", st.Top)
	}
	for _, k := range st.Top[:2] {
		if n := counts[k.Key]; int(k.Refused) > n || int(k.Refused) < n*9/10 {
			t.Errorf("%s was refused %d times, shown are %d", k.Key, n, k.Refused)
		}
	}
	d.now = d.now.Add(3 * topWindow)
	if st := d.set.Status()[0]; len(st.Top) != 0 || st.Refused == 0 {
		t.Errorf("after a quarter of an hour: %+v", st)
	}
}

// Whatever comes at once, what is let through is never more than the limit, places are all given back, and counters add up.
func TestServeAtOnce(t *testing.T) {
	d := newDesk(t, perCustomer+`
limits:
  - {name: rate, by: customer, rate: 1/h, burst: 50, concurrency: 3}
  - {name: try, by: ip, rate: 1/h, burst: 1, dry_run: true}
  - {name: all, by: global, rate: 1/h, burst: 400}
`)
	var wg sync.WaitGroup
	var mu sync.Mutex
	passed := map[string]int{}
	total := 0
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				who := fmt.Sprint("c", i%10)
				x := &exchange.Exchange{Start: d.now, Route: d.routes["all"], Customer: []byte(who), IP: netip.MustParseAddr("192.0.2.1"), Shard: uint32(w)}
				if d.set.Stage().Serve(x, exchange.Then(pass)) == nil {
					mu.Lock()
					passed[who]++
					total++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for who, n := range passed {
		if n > 50 {
			t.Errorf("%s: %d of 50", who, n)
		}
	}
	// Requests that a later limit refuses hold a place of an earlier one for a moment, so that a few may be missing at the end, never too many.
	if total > 400 || total < 390 {
		t.Errorf("%d of 400 passed", total)
	}
	st := d.set.Status()
	if st[0].Admitted != uint64(total) || st[2].Admitted != uint64(total) || st[0].Admitted+st[0].Refused+st[2].Refused != 2000 {
		t.Errorf("%d passed, counted are %+v", total, st)
	}
	if st[1].Refused != 0 || st[1].WouldRefuse == 0 || st[1].Admitted > 1 {
		t.Errorf("dry run: %+v", st[1])
	}
	for _, l := range d.set.limits {
		if l.busy == nil {
			continue
		}
		for i := range l.busy.shards {
			for _, line := range l.busy.shards[i].lines {
				for _, e := range line {
					if e.value != 0 {
						t.Errorf("%d places were not given back", e.value)
					}
				}
			}
		}
	}
}

func TestServeAllocatesNothing(t *testing.T) {
	d := newDesk(t, perCustomer+`
limits:
  - {name: rate, by: customer, rate: 1000000/s, adaptive: true}
  - {name: busy, by: [customer, route], concurrency: 10, headers: always}
  - {name: work, by: ip, rate: 1000000/s, cost: measured}
  - {name: no, by: ip, rate: 1/h, burst: 1, classes: [low]}
  - {name: all, by: global, rate: 1000000/s}
`)
	d.overloaded = true
	stage, next := d.set.Stage(), exchange.Then(pass)
	for name, class := range map[string]exchange.Class{"passes": exchange.Standard, "is refused": exchange.Low} {
		x := &exchange.Exchange{Start: d.now, Route: d.routes["all"], Customer: []byte("acme"), IP: netip.MustParseAddr("192.0.2.1"), Class: class}
		if n := testing.AllocsPerRun(500, func() {
			x.Allowed, x.RetryAfter = 0, 0
			stage.Serve(x, next)
		}); n != 0 {
			t.Errorf("%v allocations when it %s", n, name)
		}
	}
	if st := d.set.Status(); st[3].Refused < 400 || st[4].Admitted < 400 {
		t.Errorf("not both ways were taken: %+v", st)
	}
}

// The clock of the stage is that of requests, so that a bubble of fake time is enough to run it.
func TestRealClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := siteOf(t, perCustomer+"limits: [{name: l, by: customer, rate: 1/s, burst: 1, cost: measured, unit: 1s}]\n")
		set, err := New(Config{Limits: s.Limits, Routes: []string{"all"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		route := &exchange.Route{Name: "all", Cost: 1}
		ask := func() *exchange.Exchange {
			x := &exchange.Exchange{Start: time.Now(), Route: route, Customer: []byte("a")}
			if r := set.Stage().Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal { x.Work = 5 * time.Second; return nil })); r == nil {
				x.RetryAfter = 0
			}
			return x
		}
		if x := ask(); x.RetryAfter != 0 {
			t.Fatal("the first was refused")
		}
		x := ask()
		if x.RetryAfter < 5*time.Second || x.RetryAfter > 5500*time.Millisecond {
			t.Fatalf("the second is told to wait %v, want 5 s and up to a tenth", x.RetryAfter)
		}
		<-time.After(x.RetryAfter)
		if x := ask(); x.RetryAfter != 0 {
			t.Errorf("who waits as told is told to wait %v more", x.RetryAfter)
		}
	})
}

// A nil stage and a nil set are what a site without limits has.
func TestNothingLimited(t *testing.T) {
	var set *Set
	if set.Stage() != nil || set.Status() != nil || set.Explain(new(exchange.Exchange)) != nil || set.CostHeaders() != nil {
		t.Error("a nil set has something")
	}
	set.Use()
	passed := false
	if r := set.Stage().Serve(new(exchange.Exchange), exchange.Then(func(*exchange.Exchange) *exchange.Refusal { passed = true; return nil })); r != nil || !passed {
		t.Error("a nil stage refuses")
	}
}

func BenchmarkServe(b *testing.B) {
	for _, limits := range []string{
		"[{name: a, by: customer, rate: 1000000/s}]",
		"[{name: a, by: global, rate: 100000000/s}]",
		"[{name: a, by: customer, rate: 1000000/s, concurrency: 100}]",
		"[{name: a, by: customer, rate: 1000000/s}, {name: b, by: ip, rate: 1000000/s}, {name: c, by: global, rate: 100000000/s}]",
		"[{name: a, by: customer, rate: 1/h, burst: 1}]",
	} {
		b.Run(limits, func(b *testing.B) {
			s, err := site.Parse("b", []byte("listeners: {web: {listen: \":80\"}}\npools: {shop: {endpoints: [\"127.0.0.1:1\"]}}\n"+perCustomer+"limits: "+limits))
			if err != nil {
				b.Fatal(err)
			}
			set, err := New(Config{Limits: s.Limits, Routes: []string{"all"}}, nil)
			if err != nil {
				b.Fatal(err)
			}
			next := exchange.Then(pass)
			x := &exchange.Exchange{Start: time.Now(), Route: &exchange.Route{Name: "all", Cost: 1}, Customer: []byte("acme"), IP: netip.MustParseAddr("192.0.2.1")}
			b.ReportAllocs()
			for b.Loop() {
				x.Start = x.Start.Add(time.Microsecond)
				x.Allowed = 0
				set.Stage().Serve(x, next)
			}
		})
	}
}
