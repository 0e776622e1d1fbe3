package quota

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// clock is a time that tests set.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time      { return time.Unix(0, c.at.Load()) }
func (c *clock) set(t time.Time)     { c.at.Store(t.UnixNano()) }
func (c *clock) add(d time.Duration) { c.at.Add(int64(d)) }

// world is a book with one set, over a clock.
type world struct {
	t      testing.TB
	clock  clock
	book   *Book
	set    *Set
	events []string
}

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, dir string, quotas ...*site.Quota) *world {
	t.Helper()
	w := &world{t: t}
	w.clock.set(start)
	w.open(dir, quotas...)
	return w
}

// open makes the book anew, as a restart does.
func (w *world) open(dir string, quotas ...*site.Quota) {
	w.book = NewBook(Deps{Dir: dir, Now: w.clock.now, Log: slog.New(slog.DiscardHandler),
		Event: func(_, text string) { w.events = append(w.events, text) }})
	w.set = w.book.Set(&site.Site{Quotas: quotas}, []string{"a", "b"})
	w.book.Load()
	w.book.Use(w.set)
}

// ask sends one request through the set, and says what came of it.
func (w *world) ask(customer string, bytes int64) (*exchange.Exchange, *exchange.Refusal) {
	x := &exchange.Exchange{Customer: []byte(customer), Start: w.clock.now(), Route: &exchange.Route{Name: "a"}}
	r := w.set.Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		x.Outcome.Reached, x.Outcome.BytesOut = true, bytes
		return nil
	}))
	return x, r
}

func (w *world) used(customer string) used {
	w.t.Helper()
	e := w.set.Explain(&exchange.Exchange{Customer: []byte(customer), Route: &exchange.Route{Name: "a"}})[0]
	return used{e.UsedCalls, e.UsedBytes}
}

func monthly(calls int) *site.Quota {
	return &site.Quota{Name: "monthly", By: []string{site.ByCustomer}, Period: "month", Calls: calls, Keys: 1000, Headers: "auto"}
}

func TestCounts(t *testing.T) {
	files, _ := filepath.Glob("testdata/counts/*.txt")
	if len(files) < 4 {
		t.Fatalf("only %v were found", files)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var w *world
			for line := range strings.Lines(string(text)) {
				f := strings.Fields(line)
				switch {
				case len(f) == 0 || f[0] == "#":
				case f[0] == "quota":
					q := periodOf(f[4:])
					most, _ := strconv.Atoi(f[2])
					if f[1] == "bytes" {
						q.Bytes = site.Size(most)
					} else {
						q.Calls = most
					}
					w = newWorld(t, "", q)
				default:
					do, want, _ := strings.Cut(strings.TrimSpace(line), " -> ")
					w.clock.set(instant(t, f[0]))
					bytes := int64(0)
					if len(f) > 3 && f[2] == "bytes" {
						bytes, _ = strconv.ParseInt(f[3], 10, 64)
					}
					if got := told(w, f[1], bytes); got != want {
						t.Errorf("%s -> %s, want %s", do, got, want)
					}
				}
			}
		})
	}
}

// told is what a client is told, in the words of the scenarios.
func told(w *world, customer string, bytes int64) string {
	x, r := w.ask(customer, bytes)
	if r == nil {
		return fmt.Sprintf("left %d", x.Allowances[0].Left)
	}
	if x.RetryAfter == 0 {
		return "refused for ever"
	}
	if a := x.Allowances[0]; !a.Violated || x.RetryAfter < a.Reset || x.RetryAfter > a.Reset+max(a.Reset/jitterShare, time.Second) {
		return fmt.Sprintf("retry after %v, reset %v", x.RetryAfter, a.Reset)
	}
	return "refused until " + w.clock.now().Add(x.Allowances[0].Reset).UTC().Format(time.RFC3339)
}

// TestSlidingNeverExceeds: in no stretch of the period's length do more calls pass than the quota says, and what was counted is back
// a 60th of the period later at the latest.
func TestSlidingNeverExceeds(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		q := &site.Quota{Name: "q", By: []string{site.ByGlobal}, Period: "hour", Sliding: true, Calls: 1 + r.IntN(50), Keys: 1000}
		w := newWorld(t, "", q)
		var passed []time.Time
		for range 3000 {
			w.clock.add(time.Duration(r.Int64N(int64(2 * time.Minute))))
			now := w.clock.now()
			_, refusal := w.ask("", 0)
			recent := 0
			for i := len(passed) - 1; i >= 0 && now.Sub(passed[i]) <= time.Hour+2*time.Minute; i-- {
				recent++
			}
			if refusal != nil && recent < q.Calls {
				t.Fatalf("seed %d: refused with %d of %d calls in 62 minutes", seed, recent, q.Calls)
			}
			if refusal == nil {
				passed = append(passed, now)
			}
		}
		for i := range passed {
			if j := i + q.Calls; j < len(passed) && passed[j].Sub(passed[i]) < time.Hour {
				t.Fatalf("seed %d: %d calls within %v", seed, q.Calls+1, passed[j].Sub(passed[i]))
			}
		}
	}
}

func TestWhatIsGivenBack(t *testing.T) {
	w := newWorld(t, "", monthly(10), &site.Quota{Name: "small", By: []string{site.ByCustomer}, Period: "day", Calls: 2, Keys: 1000})
	run := func(end exchange.Handler) *exchange.Refusal {
		x := &exchange.Exchange{Customer: []byte("acme"), Start: start, Route: &exchange.Route{Name: "a"}}
		return w.set.Serve(x, exchange.Then(end))
	}
	full := &exchange.Refusal{Stage: "shed"}
	run(func(*exchange.Exchange) *exchange.Refusal { return full })
	if u := w.used("acme"); u.calls != 0 {
		t.Errorf("a request that was shed costs %d", u.calls)
	}
	run(func(x *exchange.Exchange) *exchange.Refusal { x.Outcome.Reached = true; return full })
	if u := w.used("acme"); u.calls != 1 {
		t.Errorf("a request that reached an endpoint and failed costs %d, want 1", u.calls)
	}
	run(func(*exchange.Exchange) *exchange.Refusal { return nil })
	if r := run(func(*exchange.Exchange) *exchange.Refusal { return nil }); r == nil || r.Limit != "small" || r.Status != 403 || r.Reason != "quota" {
		t.Errorf("the third request of two: %+v", r)
	}
	if u := w.used("acme"); u.calls != 2 {
		t.Errorf("monthly counts %d, want 2: what the second quota refused is given back to the first", u.calls)
	}
}

// TestRetryAfterIsForAllQuotas: who comes back after the time that it was told is not refused by a quota that was not asked before.
func TestRetryAfterIsForAllQuotas(t *testing.T) {
	hourly, dry := monthly(2), monthly(1)
	hourly.Name, hourly.Period = "hourly", "hour"
	dry.Name, dry.Period, dry.DryRun = "dry", "year", true
	lifetime := monthly(4)
	lifetime.Name, lifetime.Period = "lifetime", site.PeriodLifetime
	lifetime.Overrides = []site.Override{{Key: "acme", Calls: 100}}
	w := newWorld(t, "", hourly, dry, monthly(4), lifetime)
	hour, month := time.Hour, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).Sub(start)
	for i, want := range []time.Duration{-1, -1, hour, -1, -1, month - hour} {
		if i == 3 {
			w.clock.add(time.Hour)
		}
		x, r := w.ask("acme", 0)
		if want < 0 != (r == nil) || r != nil && (r.Limit != "hourly" || x.RetryAfter < want || x.RetryAfter > want+jitterMost) {
			t.Errorf("call %d: refused with %v, retry after %v, want %v", i+1, r, x.RetryAfter, want)
		}
	}
	for i := range 6 {
		if i == 2 {
			w.clock.add(time.Hour)
		}
		x, r := w.ask("other", 0)
		if i > 3 && (r == nil || x.RetryAfter != 0) {
			t.Errorf("a lifetime is used up: refused with %v, retry after %v", r, x.RetryAfter)
		}
	}
}

// TestLongRequestIsCharged: a download or a WebSocket that ends after its period, when its key was forgotten, counts in the present period.
func TestLongRequestIsCharged(t *testing.T) {
	q := &site.Quota{Name: "q", By: []string{site.ByCustomer}, Period: "hour", Bytes: 100, Keys: 1000}
	dir := t.TempDir()
	w := newWorld(t, dir, q)
	x := &exchange.Exchange{Customer: []byte("acme"), Start: w.clock.now(), Route: &exchange.Route{Name: "a"}}
	w.set.Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		w.book.keeper.step() // what is in no file yet is never forgotten
		w.clock.add(2 * time.Hour)
		for _, t := range w.book.list() {
			t.sweep(w.clock.now())
		}
		x.Outcome.Reached, x.Outcome.BytesOut = true, 1000
		return nil
	}))
	if got := w.used("acme"); got.bytes != 1000 {
		t.Errorf("%+v is counted, want 1000 bytes", got)
	}
	if _, r := w.ask("acme", 0); r == nil {
		t.Error("a used-up quota lets the next request through")
	}
	w.book.keeper.step()
	w.book.keeper.end()
	w.open(dir, q)
	if got := w.used("acme"); got.bytes != 1000 {
		t.Errorf("%+v is counted after a restart, want 1000 bytes", got)
	}
}

func TestScopeOverridesDryRun(t *testing.T) {
	q := monthly(1)
	q.Routes, q.Classes = []string{"a"}, []string{site.ClassStandard}
	q.Overrides = []site.Override{{Key: "big", Calls: 3}, {Key: "free", Unlimited: true}}
	dry := monthly(1)
	dry.Name, dry.DryRun = "dry", true
	w := newWorld(t, "", q, dry)
	ask := func(customer string, n int, change func(x *exchange.Exchange)) (refused int) {
		for range n {
			x := &exchange.Exchange{Customer: []byte(customer), Start: start, Route: &exchange.Route{Name: "a"}}
			change(x)
			if w.set.Serve(x, exchange.Then(func(*exchange.Exchange) *exchange.Refusal { return nil })) != nil {
				refused++
			}
		}
		return refused
	}
	same := func(*exchange.Exchange) {}
	for _, c := range []struct {
		customer string
		change   func(x *exchange.Exchange)
		want     int
	}{
		{"acme", same, 4}, {"big", same, 2}, {"free", same, 0}, {"", same, 0},
		{"b", func(x *exchange.Exchange) { x.Route = &exchange.Route{Name: "b", Index: 1} }, 0},
		{"c", func(x *exchange.Exchange) { x.Class = exchange.Critical }, 0},
	} {
		if got := ask(c.customer, 5, c.change); got != c.want {
			t.Errorf("%q: %d of 5 refused, want %d", c.customer, got, c.want)
		}
	}
	st := w.set.Status()
	if st[0].Refused != 6 || st[0].WouldRefuse != 0 || st[1].Refused != 0 || st[1].WouldRefuse != 2+4+4+4 {
		t.Errorf("refused %d and %d, would %d and %d", st[0].Refused, st[1].Refused, st[0].WouldRefuse, st[1].WouldRefuse)
	}
	if x, r := w.ask("told", 0); r != nil || x.Allowed != 1 || x.Allowances[0].Of.Name != "monthly" {
		t.Errorf("the client is told %+v, and nothing of the trial is right", x.Allowances[:x.Allowed])
	}
	if len(st[0].Top) != 2 || st[0].Top[0] != (TopKey{"acme", 4}) || st[0].Top[1] != (TopKey{"big", 2}) {
		t.Errorf("refused most are %v", st[0].Top)
	}
}

func TestKeysAreBounded(t *testing.T) {
	w := newWorld(t, "", monthly(1))
	for i := range 1500 {
		if _, r := w.ask(fmt.Sprint("c", i), 0); r != nil {
			t.Fatalf("the first request of key %d was refused", i)
		}
	}
	st := w.set.Status()[0]
	if st.Keys != 1000 || st.Beyond != 500 {
		t.Errorf("%d keys, %d beyond", st.Keys, st.Beyond)
	}
	if _, r := w.ask("c0", 0); r == nil {
		t.Error("a flood of keys gave the first one a new quota")
	}
	said := 0
	for _, e := range w.events {
		if strings.Contains(e, "raise its keys") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the full table was told %d times: %q", said, w.events)
	}
	w.clock.add(31 * day)
	w.set.rules[0].table.sweep(w.clock.now())
	if st := w.set.Status()[0]; st.Keys != 0 {
		t.Errorf("%d keys are left of a month that is over", st.Keys)
	}
	if _, r := w.ask("c1400", 0); r != nil {
		t.Error("no room after the month's end")
	}
}

// TestExactUnderContention: many at once never get more than the quota, and never less.
func TestExactUnderContention(t *testing.T) {
	const most, workers, each = 5000, 8, 1000
	for _, sliding := range []bool{false, true} {
		q := monthly(most)
		q.Sliding = sliding
		w := newWorld(t, "", q)
		var passed atomic.Int64
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					if _, r := w.ask("acme", 0); r == nil {
						passed.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if passed.Load() != most {
			t.Errorf("sliding %v: %d passed of %d", sliding, passed.Load(), most)
		}
	}
}

func TestReloadKeepsCounts(t *testing.T) {
	w := newWorld(t, "", monthly(2))
	w.ask("acme", 0)
	next := w.book.Set(&site.Site{Quotas: []*site.Quota{monthly(5)}}, []string{"a"})
	w.book.Use(next)
	w.set = next
	if u := w.used("acme"); u.calls != 1 {
		t.Errorf("after a reload %d calls are counted, want 1", u.calls)
	}
	yearly := monthly(5)
	yearly.Period = "year"
	w.set = w.book.Set(&site.Site{Quotas: []*site.Quota{yearly}}, []string{"a"})
	w.book.Use(w.set)
	if u := w.used("acme"); u.calls != 0 || !strings.Contains(strings.Join(w.events, "\n"), "quota monthly counts anew") {
		t.Errorf("another period counts %d; told: %q", u.calls, w.events)
	}
}

func TestJitterIsUpward(t *testing.T) {
	for _, wait := range []time.Duration{time.Second, time.Minute, 30 * day} {
		if got := jittered(wait, 0); got != wait {
			t.Errorf("%v became %v", wait, got)
		}
		if got := jittered(wait, 1); got <= wait || got > wait+max(wait/jitterShare, time.Second) || got > wait+jitterMost {
			t.Errorf("%v became %v", wait, got)
		}
	}
}

func TestPolicyFields(t *testing.T) {
	q := monthly(1000000)
	q.Bytes = 5 << 30
	b := newBounds(q, newPeriod(q), used{int64(q.Calls), int64(q.Bytes)})
	if got := string(b.byCalls.Field); got != `"monthly";q=1000000;w=2592000` {
		t.Error(got)
	}
	if got := string(b.byData.Field); got != `"monthly-bytes";q=5368709120;qu="content-bytes";w=2592000` {
		t.Error(got)
	}
	q.Period = "lifetime"
	if got := string(newBounds(q, newPeriod(q), used{calls: 1}).byCalls.Field); got != `"monthly";q=1` {
		t.Error(got)
	}
}

func TestServeAlloc(t *testing.T) {
	q := monthly(1 << 40)
	q.Bytes = 1 << 50
	sliding := monthly(1 << 40)
	sliding.Name, sliding.Sliding, sliding.By = "sliding", true, []string{site.ByCustomer, site.ByRoute}
	used := monthly(1)
	used.Name, used.Headers = "used-up", "always"
	for name, set := range map[string]*Set{"passes": newWorld(t, t.TempDir(), q, sliding).set, "refused": newWorld(t, "", used).set} {
		x := &exchange.Exchange{Customer: []byte("acme"), Start: start, Route: &exchange.Route{Name: "a"}}
		next := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal { x.Outcome.BytesOut = 100; return nil })
		set.Serve(x, next)
		if n := testing.AllocsPerRun(200, func() { set.Serve(x, next); x.Allowed, x.RetryAfter = 0, 0 }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkServe(b *testing.B) {
	for name, q := range map[string]*site.Quota{"calls": monthly(1 << 40), "sliding": {Name: "s", By: []string{site.ByCustomer}, Period: "month", Sliding: true, Calls: 1 << 40, Keys: 1000, Headers: "auto"}, "refused": monthly(1)} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, b.TempDir(), q)
			next := exchange.Then(func(x *exchange.Exchange) *exchange.Refusal { return nil })
			x := &exchange.Exchange{Customer: []byte("acme"), Start: start, Route: &exchange.Route{Name: "a"}}
			b.ReportAllocs()
			for b.Loop() {
				w.set.Serve(x, next)
				x.Allowed = 0
			}
		})
	}
}
