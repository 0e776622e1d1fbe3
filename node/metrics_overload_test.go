package node

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
)

// collected is a collector of one overload.
type collected struct{ o console.Overload }

func (c collected) Describe(chan<- *prometheus.Desc)    {}
func (c collected) Collect(ch chan<- prometheus.Metric) { sink(ch).overload(c.o) }

func TestOverloadMetrics(t *testing.T) {
	o := console.Overload{
		Pools: []console.PoolLoad{
			{Pool: "shop", Mode: "on", Limit: 38, InFlight: 31, Waiting: 4, QueueMS: 12, CapacityPerSecond: 1250, LowOff: true, ByHand: map[string]time.Time{"low": time.Unix(1, 0)},
				Classes: []console.ClassLoad{{Class: "low", WouldRefuse: 7}}},
			{Pool: "mail", Mode: "off"},
		},
		Quotas: []console.QuotaLoad{{Name: "monthly", Keys: 3, Admitted: 10, Refused: 2, WouldRefuse: 1}},
		Screen: &console.ScreenLoad{Mode: "block", Screened: 5, Passed: 1, Unsampled: 9, Attacks: 2, Malformed: 1, Blocked: 3, Busy: 1, OwnHits: []console.RuleHit{{Rule: "php", Hits: 6}}},
	}
	r := prometheus.NewRegistry()
	r.MustRegister(collected{o})
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	for _, want := range []string{
		`evenkeel_shed_limit{pool="shop"} 38`, `evenkeel_shed_in_flight{pool="shop"} 31`, `evenkeel_shed_waiting{pool="shop"} 4`,
		`evenkeel_shed_queue_seconds{pool="shop"} 0.012`, `evenkeel_shed_capacity{pool="shop"} 1250`, `evenkeel_shed_low_off{pool="shop"} 1`,
		`evenkeel_shed_by_hand{class="low",pool="shop"} 1`, `evenkeel_shed_would_refuse_total{class="low",pool="shop"} 7`,
		`evenkeel_quota_keys{quota="monthly"} 3`, `evenkeel_quota_requests_total{quota="monthly",result="refused"} 2`,
		`evenkeel_screen_requests_total{result="unsampled"} 9`, `evenkeel_screen_attacks_total 3`, `evenkeel_screen_blocked_total 3`, `evenkeel_screen_busy 1`, `evenkeel_rule_hits_total{rule="php"} 6`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	problems, err := testutil.CollectAndLint(collected{o})
	if err != nil || len(problems) > 0 {
		t.Errorf("the linter of Prometheus says: %v %v", problems, err)
	}
	if strings.Contains(text, `pool="mail"`) {
		t.Error("a pool without shedder has metrics of one")
	}
}

// TestWhoLeftGotNoAnswer: a client that left while it waited is refused, and told nothing: its request has no status, in no figure.
func TestWhoLeftGotNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old"))
		gone := false
		w.send = func(x *exchange.Exchange) *exchange.Refusal {
			x.Outcome.Aborted = gone
			return &exchange.Refusal{Stage: "shed", Reason: "client_gone", Status: 503}
		}
		serve := w.handlers(w.site, parts(w.pools))["web"]
		for range 3 {
			serve(request(t, "GET / HTTP/1.1\nHost: a"))
			gone = true
		}
		text := scrape(t, w.Node)
		for _, want := range []string{`evenkeel_requests_total{class="standard",code="none",listener="web",route="to-a"} 2`, `evenkeel_requests_total{class="standard",code="5xx",listener="web",route="to-a"} 1`,
			`evenkeel_overload_answers_total{code="503",listener="web",route="to-a"} 1`, `reason="client_gone",route="to-a",stage="shed"} 3`} {
			if !strings.Contains(text, want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
	})
}
