package node

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// withHistory is a node of which only the history runs, until stop is called or the test ends.
func withHistory(t *testing.T, dir string) (n *Node, stop func()) {
	t.Helper()
	s, err := site.Parse("test", fmt.Appendf(nil, "state_dir: %q\nlisteners: {web: {listen: \":1\"}}\npools: {a: {endpoints: [\"127.0.0.1:1\"]}}\nmonitor: {scrape_every: 1s, host: false}", dir))
	if err != nil {
		t.Fatal(err)
	}
	if n, err = New(Options{Site: s, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.monitor.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(stop)
	return n, stop
}

// looks waits until the history has looked at the node anew.
func looks(t *testing.T, n *Node) {
	t.Helper()
	from, end := n.monitor.Status().Rounds, time.Now().Add(30*time.Second)
	for n.monitor.Status().Rounds < from+2 {
		if time.Now().After(end) {
			t.Fatal("the history has not looked for 30 s")
		}
		<-time.After(2 * time.Millisecond)
	}
}

// asked are the values of an expression by route.
func asked(t *testing.T, n *Node, expr string, at time.Time) map[string]float64 {
	t.Helper()
	list, err := n.monitor.Query(t.Context(), expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	out := map[string]float64{}
	for _, s := range list {
		out[s.Labels["route"]] = s.Value
	}
	return out
}

// nativeWorst is how far a quantile may be from the truth: the width of a bucket, 2^(1/8), and half a bucket of tally.
const nativeWorst = 1.0906 * 33 / 32

// distributions are latencies of a thousand requests each.
func distributions() map[string][]time.Duration {
	random := rand.New(rand.NewPCG(1, 2))
	out := map[string][]time.Duration{}
	for name, one := range map[string]func(i int) float64{ // seconds
		"constant": func(int) float64 { return 0.01 },
		"border":   func(int) float64 { return math.Exp2(-6.0/8) + 1e-5 },
		"even":     func(i int) float64 { return 0.001 + 0.0001*float64(i) },
		"skewed":   func(int) float64 { return 0.02 * math.Exp(random.NormFloat64()) },
		"two": func(i int) float64 {
			if i%10 == 0 {
				return 5
			}
			return 0.0004
		},
		"quick": func(i int) float64 { return float64(20+i%30) * 1e-6 },
	} {
		for i := range 1000 {
			out[name] = append(out[name], time.Duration(one(i)*float64(time.Second)))
		}
		slices.Sort(out[name])
	}
	return out
}

// TestNativeLatencies: the history has latencies as native histograms, of which PromQL makes quantiles close to the truth; they agree with the
// classic ones, which stay, and go on after a restart.
func TestNativeLatencies(t *testing.T) {
	dir := t.TempDir()
	n, stop := withHistory(t, dir)
	all, x := distributions(), &exchange.Exchange{}
	count := func(n *Node, route string, took ...time.Duration) {
		s := n.tallies.get("web", route).shard(1)
		for _, d := range took {
			s.count(x, 200, false, d)
		}
	}
	for route := range all {
		count(n, route, time.Second)
	}
	looks(t, n)
	for route, list := range all {
		count(n, route, list...)
	}
	looks(t, n)
	now := time.Now()
	for _, q := range []float64{0.05, 0.5, 0.85, 0.95, 0.99, 0.999} {
		got := asked(t, n, fmt.Sprintf("histogram_quantile(%v, sum by (route) (rate(evenkeel_request_seconds[1m])))", q), now)
		for route, list := range all {
			want := list[int(math.Ceil(q*float64(len(list))))-1].Seconds()
			if got := got[route]; got < want/nativeWorst || got > want*nativeWorst {
				t.Errorf("%s: quantile %v is %v, want %v within %.1f %%", route, q, got, want, 100*(nativeWorst-1))
			}
		}
	}
	for expr, want := range map[string]float64{
		"histogram_count(evenkeel_request_seconds) - on (route) evenkeel_request_seconds_count": 0,
		"histogram_sum(evenkeel_request_seconds) - on (route) evenkeel_request_seconds_sum":     0,
		"evenkeel_request_seconds_count":                                                                    1001,
		`count by (route) ({__name__=~"evenkeel_request_seconds.*"})`:                                       float64(len(bounds) + 1 + 2 + 1),
		`count by (route) (evenkeel_request_seconds_bucket)`:                                                float64(len(bounds) + 1),
		`evenkeel_request_seconds_bucket{le="+Inf"} - on (route) histogram_count(evenkeel_request_seconds)`: 0,
	} {
		if got := asked(t, n, expr, now); len(got) != len(all) || slices.ContainsFunc([]string{"constant", "even", "two"}, func(r string) bool { return got[r] != want }) {
			t.Errorf("%s is %v, want %v of each route", expr, got, want)
		}
	}

	stop()
	again, _ := withHistory(t, dir)
	count(again, "constant", 20*time.Millisecond, 20*time.Millisecond)
	looks(t, again)
	if got := asked(t, again, "histogram_count(evenkeel_request_seconds)", now)["constant"]; got != 1001 {
		t.Errorf("after a restart %v requests are known of before, want 1001", got)
	}
	for _, expr := range []string{"resets(evenkeel_request_seconds[1m])", "resets(evenkeel_request_seconds_count[1m])"} {
		if got := asked(t, again, expr, time.Now())["constant"]; got != 1 {
			t.Errorf("%s is %v after a restart, want 1", expr, got)
		}
	}
	if got := asked(t, again, "histogram_count(evenkeel_request_seconds)", time.Now())["constant"]; got != 2 {
		t.Errorf("after a restart %v requests were counted, want 2", got)
	}
}

// TestNativeBuckets: nothing is lost at either end, no bucket is left empty by an even load, and what scrapers and collectors get has classic buckets alone.
func TestNativeBuckets(t *testing.T) {
	var s sums
	for i := range s.Latency {
		s.Latency[i] = 1
	}
	h := s.native()
	total := h.zero
	for i, n := range h.counts {
		total += uint64(n)
		if end := math.Exp2(float64(int(h.first)+i) / (1 << nativeSchema)); n == 0 && end > 32e-6 {
			t.Errorf("no latency falls into the bucket that ends with %v s", end)
		}
	}
	if total != latencyBuckets {
		t.Errorf("%d were counted, want %d", total, latencyBuckets)
	}
	if end := math.Exp2(float64(int(h.first)+len(h.counts)-1) / (1 << nativeSchema)); end < 128 || end > latencyMax.Seconds()*1.1 {
		t.Errorf("the last bucket ends with %v s", end)
	}
	var none sums
	if h := none.native(); h.zero != 0 || len(h.counts) != 0 {
		t.Errorf("of nothing there is %+v", h)
	}

	n, _ := withHistory(t, t.TempDir())
	n.tallies.get("web", "a").shard(0).count(&exchange.Exchange{}, 200, false, time.Millisecond)
	for _, m := range []*metrics{n.metrics, newMetrics(n, true)} {
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range families {
			if f.GetName() != "evenkeel_request_seconds" {
				continue
			}
			found = true
			h := f.GetMetric()[0].GetHistogram()
			if (h.Schema != nil || len(h.GetPositiveSpan()) > 0) != m.native || len(h.GetBucket()) != len(bounds) {
				t.Errorf("native: %v, and shown is %v", m.native, h)
			}
		}
		if !found {
			t.Error("no latencies are shown")
		}
	}
}
