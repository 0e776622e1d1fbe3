package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/even-keel/evenkeel/site"
)

// patience bounds every wait of a test.
const patience = 30 * time.Second

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

// counters is a gatherer with metrics by name.
type counters struct {
	mu     sync.Mutex
	values map[string]float64
}

func (c *counters) set(name string, v float64) {
	c.mu.Lock()
	c.values[name] = v
	c.mu.Unlock()
}

func (c *counters) Gather() (out []*dto.MetricFamily, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, v := range c.values {
		out = append(out, &dto.MetricFamily{
			Name: proto.String(name), Help: proto.String("A test."), Type: dto.MetricType_COUNTER.Enum(),
			Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(v)}, Label: []*dto.LabelPair{{Name: proto.String("kind"), Value: proto.String("x")}}}},
		})
	}
	return out, nil
}

// diary remembers events.
type diary struct {
	mu    sync.Mutex
	texts []string
}

func (d *diary) event(_, text string) {
	d.mu.Lock()
	d.texts = append(d.texts, text)
	d.mu.Unlock()
}

func (d *diary) has(text string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Contains(strings.Join(d.texts, "\n"), text)
}

// settings are the defaults of a site file, with a fast pace.
func settings(change func(*site.Monitor)) *site.Monitor {
	s, err := site.Parse("test", []byte("listeners: {a: {listen: \":1\"}}\npools: {a: {endpoints: [\"127.0.0.1:1\"]}}\nmonitor: {scrape_every: 1s, host: false}"))
	if err != nil {
		panic(err)
	}
	if change != nil {
		change(&s.Monitor)
	}
	return &s.Monitor
}

// running is a monitor that runs until the test ends, or stop is called.
type running struct {
	*Monitor
	self  *counters
	diary *diary
	stop  func()
}

func run(t *testing.T, cfg *site.Monitor, change func(*Deps)) *running {
	t.Helper()
	r := &running{self: &counters{values: map[string]float64{"test_total": 42}}, diary: &diary{}}
	deps := Deps{Instance: "node", Self: r.self, Event: r.diary.event, Temp: t.TempDir()}
	if change != nil {
		change(&deps)
	}
	r.Monitor = New(cfg, deps)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(r.stop)
	return r
}

// rounds waits for further rounds of scraping.
func (r *running) rounds(t *testing.T, n uint64) {
	t.Helper()
	from := r.Status().Rounds
	until(t, "there was another round", func() bool { return r.Status().Rounds >= from+n })
}

// value asks by the Go API for the one value of an expression.
func (r *running) value(t *testing.T, expr string, at time.Time) float64 {
	t.Helper()
	list, err := r.Query(t.Context(), expr, at)
	if err != nil || len(list) != 1 {
		t.Fatalf("%s has %d values, %v", expr, len(list), err)
	}
	return list[0].Value
}

// get asks the API and returns the status and the body.
func (r *running) get(path string, form url.Values) (int, string) {
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, Prefix+path+"?"+form.Encode(), nil))
	return w.Code, w.Body.String()
}

func TestScrapesItselfAndAnswers(t *testing.T) {
	r := run(t, settings(func(m *site.Monitor) { m.Host = true }), nil)
	r.rounds(t, 1)
	now := time.Now()
	if v := r.value(t, `test_total{job="evenkeel",instance="node",kind="x"}`, now); v != 42 {
		t.Errorf("the counter is %v, want 42", v)
	}
	for _, expr := range []string{`up{job="evenkeel"}`, `up{job="host"}`, `count(node_cpu_seconds_total{mode="user",cpu="0"})`, `count(node_memory_MemAvailable_bytes > 0)`,
		`count(node_filefd_allocated)`, `count(node_sockstat_TCP_inuse)`, `count(node_netstat_TcpExt_ListenDrops)`, `count(node_network_receive_bytes_total{device="lo"})`} {
		if v := r.value(t, expr, now); v != 1 {
			t.Errorf("%s is %v, want 1", expr, v)
		}
	}
	series, err := r.QueryRange(t.Context(), "test_total", now.Add(-time.Minute), now, 10*time.Second)
	if err != nil || len(series) != 1 || len(series[0].Points) == 0 {
		t.Errorf("the range has %v, %v", series, err)
	}
	code, body := r.get("/api/v1/metadata", url.Values{"metric": {"test_total"}})
	if want := `{"status":"success","data":{"test_total":[{"type":"counter","help":"A test.","unit":""}]}}`; code != 200 || body != want {
		t.Errorf("metadata is %d %s, want %s", code, body, want)
	}
}

func TestMarksTheEndOfSeries(t *testing.T) {
	r := run(t, settings(nil), nil)
	r.self.set("gone_total", 1)
	r.rounds(t, 1)
	until(t, "the series was there", func() bool {
		l, _ := r.Query(t.Context(), "gone_total", time.Now())
		return len(l) == 1
	})
	r.self.mu.Lock()
	delete(r.self.values, "gone_total")
	r.self.mu.Unlock()
	until(t, "the series had ended, long before five minutes", func() bool {
		l, err := r.Query(t.Context(), "gone_total", time.Now())
		return err == nil && len(l) == 0
	})
}

// TestCountersBeginAtZero: what a counter has when it is first seen has come since the round before. One that comes back has what it had.
func TestCountersBeginAtZero(t *testing.T) {
	r := run(t, settings(nil), nil)
	for _, back := range []bool{false, true} {
		r.rounds(t, 2)
		r.self.set("late_total", 316)
		r.rounds(t, 2)
		for expr, want := range map[string]float64{"count_over_time(late_total[1m]) > bool 2": 1, "min_over_time(late_total[1m])": 0, "increase(late_total[1m]) > bool 300": 1, "increase(late_total[1m]) < bool 1000": 1, "resets(late_total[1m])": 0, "increase(test_total[1m])": 0} {
			if v := r.value(t, expr, time.Now()); v != want {
				t.Errorf("back %v: %s is %v, want %v", back, expr, v, want)
			}
		}
		r.self.mu.Lock()
		delete(r.self.values, "late_total")
		r.self.mu.Unlock()
	}
}

func TestGivesWayUnderPressure(t *testing.T) {
	r := run(t, settings(nil), func(d *Deps) { d.Pressed = func() bool { return true } })
	until(t, "the store was open", func() bool { return r.Status().State == StateRunning })
	if s := r.Status(); s.Rounds != 0 || s.Samples != 0 {
		t.Errorf("%d rounds with %d samples were made, want none while the node is short of memory", s.Rounds, s.Samples)
	}
}

func TestKeepsToItsBudgetOfSeries(t *testing.T) {
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "many{n=\"%d\"} 1\n", i)
	}
	e := endpoint(t, "text/plain; version=0.0.4", text.String())
	r := run(t, settings(func(m *site.Monitor) { m.Series = 1000 }), func(d *Deps) { d.Endpoints = e.list })
	until(t, "samples were dropped", func() bool { return r.Status().Dropped[droppedBudget] > 0 })
	r.self.set("late_total", 7)
	until(t, "own figures were kept all the same", func() bool {
		l, _ := r.Query(t.Context(), "late_total", time.Now())
		return len(l) == 1
	})
	if n := r.Status().Series; n > 1000 {
		t.Errorf("there are %d series, want at most 1000", n)
	}
}

// served is an endpoint with metrics.
type served struct {
	Endpoint
	mu         sync.Mutex
	kind, text string
	status     int
	gone       bool
}

func endpoint(t *testing.T, kind, text string) *served {
	s := &served{kind: kind, text: text, status: 200}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", s.kind)
		w.WriteHeader(s.status)
		fmt.Fprint(w, s.text)
	}))
	t.Cleanup(srv.Close)
	s.Endpoint = Endpoint{Pool: "shop", Address: "10.0.0.1:80", URL: srv.URL, Client: srv.Client(), Timeout: 5 * time.Second, Samples: 5000}
	return s
}

func (s *served) list() []Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	return []Endpoint{s.Endpoint}
}

func (s *served) change(f func(s *served)) {
	s.mu.Lock()
	f(s)
	s.mu.Unlock()
}

func TestScrapesEndpoints(t *testing.T) {
	e := endpoint(t, "application/openmetrics-text; version=1.0.0", "# TYPE hits counter\nhits_total{job=\"own\"} 5 # {trace_id=\"abc\"} 1\n# EOF\n")
	r := run(t, settings(nil), func(d *Deps) { d.Endpoints = e.list })
	is := func(expr string, want float64) {
		t.Helper()
		until(t, fmt.Sprintf("%s was %v", expr, want), func() bool {
			l, err := r.Query(t.Context(), expr, time.Now())
			return err == nil && len(l) == 1 && l[0].Value == want
		})
	}
	is(`hits_total{job="shop",instance="10.0.0.1:80",exported_job="own"}`, 5)
	is(`up{job="shop"}`, 1)
	_, body := r.get("/api/v1/query_exemplars", url.Values{"query": {"hits_total"}})
	if !strings.Contains(body, `"trace_id":"abc"`) {
		t.Errorf("exemplars are %s", body)
	}
	_, body = r.get("/api/v1/targets", nil)
	if !strings.Contains(body, `"health":"up"`) {
		t.Errorf("targets are %s", body)
	}
	for _, bad := range []func(*served){
		func(s *served) { s.status = 500 },
		func(s *served) { s.status, s.text = 200, "no metrics at all\n" },
		func(s *served) { s.text, s.Samples = "a 1\nb 2\nc 3\n# EOF\n", 2 },
	} {
		e.change(bad)
		is(`up{job="shop"}`, 0)
		is(`count(hits_total) or vector(0)`, 0)
		e.change(func(s *served) { s.status, s.text, s.Samples = 200, "# TYPE hits counter\nhits_total 6\n# EOF\n", 10 })
		is(`hits_total`, 6)
	}
	e.change(func(s *served) { s.gone = true })
	is(`count(up{job="shop"}) or vector(0)`, 1) // for five minutes, as in Prometheus
	is(`count(hits_total) or vector(0)`, 0)
	if s := r.Status(); s.Failed < 3 || s.Dropped[droppedLarge] == 0 {
		t.Errorf("status counts %d failed scrapes and %d samples of too large answers", s.Failed, s.Dropped[droppedLarge])
	}
}

func TestSettingsChangeWhileItRuns(t *testing.T) {
	dir := t.TempDir()
	r := run(t, settings(nil), func(d *Deps) { d.Dir = dir })
	r.rounds(t, 1)
	at := time.Now()
	r.Update(settings(func(m *site.Monitor) { m.Off = true }))
	until(t, "it was off", func() bool { return r.Status().State == StateOff })
	if code, body := r.get("/api/v1/query", url.Values{"query": {"1"}}); code != 503 || !strings.Contains(body, "monitor.off") {
		t.Errorf("a query is answered with %d %s", code, body)
	}
	r.Update(settings(nil))
	until(t, "it ran again", func() bool { return r.Status().State == StateRunning })
	if v := r.value(t, "test_total", at); v != 42 {
		t.Errorf("what was kept before is %v, want 42", v)
	}
}

func TestAsksAnExistingPrometheus(t *testing.T) {
	inner := run(t, settings(nil), nil)
	inner.rounds(t, 1)
	h := inner.Handler()
	var mu sync.Mutex
	var headers http.Header
	existing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		headers = r.Header.Clone()
		mu.Unlock()
		http.StripPrefix("", h).ServeHTTP(w, prefixed(r))
	}))
	defer existing.Close()
	r := run(t, settings(func(m *site.Monitor) { m.Prometheus = &site.MonitorPrometheus{URL: existing.URL, Token: "theirs"} }), nil)
	until(t, "it asked", func() bool { return r.Status().State == StateExternal })
	if v := r.value(t, "test_total", time.Now()); v != 42 {
		t.Errorf("the value is %v, want 42", v)
	}
	if s, err := r.QueryRange(t.Context(), "test_total", time.Now().Add(-time.Minute), time.Now(), time.Second); err != nil || len(s) != 1 {
		t.Errorf("the range is %v, %v", s, err)
	}
	q := httptest.NewRequest(http.MethodGet, Prefix+"/api/v1/query?query=test_total", nil)
	q.Header.Set("Authorization", "Bearer ours")
	q.Header.Set("Cookie", "evenkeel_session=ours")
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, q)
	mu.Lock()
	defer mu.Unlock()
	if got := headers.Get("Authorization") + headers.Get("Cookie"); got != "Bearer theirs" {
		t.Errorf("the existing Prometheus was shown %q", got)
	}
	if !strings.Contains(w.Body.String(), `"42"`) {
		t.Errorf("the answer is %s", w.Body)
	}
}

// prefixed is a request as our API takes it.
func prefixed(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.URL.Path = Prefix + r.URL.Path
	return r
}

// rulesOf is a source of rules for tests.
type rulesOf []RuleGroup

func (r rulesOf) RuleGroups() []RuleGroup { return r }

func TestAPIShapes(t *testing.T) {
	groups := rulesOf{{Name: "g", File: "site.yaml", Interval: 10, Rules: []Rule{
		{Type: RuleAlerting, Name: "a", State: "firing", Query: "x > 1", Health: "ok", Labels: map[string]string{}, Alerts: []Alert{{State: "firing", Value: "2", Labels: map[string]string{"alertname": "a"}}}},
		{Type: RuleRecording, Name: "r", Query: "x", Health: "ok"},
	}}}
	r := run(t, settings(nil), func(d *Deps) { d.Rules = groups })
	r.rounds(t, 1)
	for _, c := range []struct {
		path   string
		form   url.Values
		status int
		want   string
	}{
		{"query", url.Values{"query": {"1+1"}, "time": {"10"}}, 200, `{"status":"success","data":{"resultType":"scalar","result":[10,"2"]}}`},
		{"query", url.Values{"query": {`"a<b"`}, "time": {"10.5"}}, 200, `{"status":"success","data":{"resultType":"string","result":[10.5,"a<b"]}}`},
		{"query", url.Values{"query": {"vector(1/0)"}, "time": {"1970-01-01T00:00:10Z"}}, 200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[10,"+Inf"]}]}}`},
		{"query", url.Values{"query": {"vector(1e-9)"}, "time": {"-1.5"}}, 200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[-1.500,"1e-09"]}]}}`},
		{"query", url.Values{"query": {"sum("}}, 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"}`},
		{"query", url.Values{"query": {"1"}, "time": {"x"}}, 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp"}`},
		{"query", url.Values{"query": {"test_total * on(x) group_left() (test_total or up)"}}, 422, `"errorType":"execution"`},
		{"query", url.Values{"query": {"1"}, "timeout": {"x"}}, 400, `cannot parse \"x\" to a valid duration`},
		{"query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {"2"}, "step": {"1"}}, 200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[1,"1"],[2,"1"]]}]}}`},
		{"query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {"20000"}, "step": {"1"}}, 400, `exceeded maximum resolution of 11,000 points per timeseries`},
		{"query_range", url.Values{"query": {"1"}, "start": {"2"}, "end": {"1"}, "step": {"1"}}, 400, `end timestamp must not be before start time`},
		{"query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {"1"}, "step": {"0"}}, 400, `zero or negative query resolution`},
		{"query", url.Values{"query": {"rate(up[5m])"}, "time": {"0"}, "stats": {"all"}}, 200, `"stats":{"timings":`},
		{"query", url.Values{"query": {"rate(test[5m])"}, "limit": {"-1"}}, 400, `limit must be non-negative`},
		{"labels", nil, 200, `{"status":"success","data":["__name__","instance","job","kind"]}`},
		{"labels", url.Values{"match[]": {"up"}}, 200, `{"status":"success","data":["__name__","instance","job"]}`},
		{"label/job/values", nil, 200, `{"status":"success","data":["evenkeel"]}`},
		{"label/__name__/values", url.Values{"limit": {"1"}}, 200, `"warnings":["results truncated due to limit"]`},
		{"label/%FF/values", nil, 400, `invalid label name`},
		{"series", url.Values{"match[]": {"test_total"}}, 200, `{"status":"success","data":[{"__name__":"test_total","instance":"node","job":"evenkeel","kind":"x"}]}`},
		{"series", url.Values{"match[]": {"test_total", "{job=~\".*\"}"}}, 400, `must contain at least one non-empty matcher`},
		{"series", nil, 400, `no match[] parameter provided`},
		{"rules", nil, 200, `"type":"alerting"`},
		{"rules", url.Values{"type": {"record"}}, 200, `{"status":"success","data":{"groups":[{"name":"g","file":"site.yaml","rules":[{"name":"r"`},
		{"alerts", nil, 200, `"alerts":[{"labels":{"alertname":"a"}`},
		{"alertmanagers", nil, 200, `"activeAlertmanagers":[]`},
		{"format_query", url.Values{"query": {"sum( x )by(y)"}}, 200, `{"status":"success","data":"sum by (y) (x)"}`},
		{"status/buildinfo", nil, 200, `"version":"3.`},
		{"status/runtimeinfo", nil, 200, `"storageRetention":"24h0m0s or 268435456B"`},
		{"status/config", nil, 200, `scrape_interval: 1s`},
		{"status/flags", nil, 200, `"web.enable-remote-write-receiver":"true"`},
		{"status/tsdb", nil, 200, `"seriesCountByMetricName":[{"name":"`},
		{"nothing", nil, 404, `"errorType":"not_found"`},
	} {
		code, body := r.get("/api/v1/"+c.path, c.form)
		if exact := strings.HasSuffix(c.want, "}") && strings.HasPrefix(c.want, "{"); code != c.status || exact && body != c.want || !strings.Contains(body, c.want) {
			t.Errorf("%s %v: %d %s\nwant %d %s", c.path, c.form, code, body, c.status, c.want)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%s: %s is no JSON", c.path, body)
		}
	}
}

func TestQueriesAreBounded(t *testing.T) {
	r := run(t, settings(func(m *site.Monitor) { m.Query = site.MonitorQuery{Timeout: 100 * time.Millisecond, Samples: 1000} }), nil)
	r.rounds(t, 1)
	code, body := r.get("/api/v1/query_range", url.Values{"query": {"test_total"}, "start": {fmt.Sprint(time.Now().Unix() - 1)}, "end": {fmt.Sprint(time.Now().Unix() + 290)}, "step": {"0.05"}})
	if code != 422 || !strings.Contains(body, "too many samples") {
		t.Errorf("a query with many samples is answered with %d %s", code, body)
	}
	for range queriesAtOnce {
		r.engine.places <- struct{}{}
	}
	code, body = r.get("/api/v1/query", url.Values{"query": {"1"}})
	if code != 503 || !strings.Contains(body, `"errorType":"timeout"`) || r.Status().QueriesAway != 1 {
		t.Errorf("a query without a place is answered with %d %s", code, body)
	}
}

// TestQueriesWhileTheStoreIsOpenedAnew: a query never reads files that were closed under it.
func TestQueriesWhileTheStoreIsOpenedAnew(t *testing.T) {
	dir := history(t)
	r := run(t, settings(nil), func(d *Deps) { d.Dir = dir })
	until(t, "the store was open", func() bool { return r.Status().State == StateRunning })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := r.QueryRange(ctx, "sum by (n) (rate(old_total[10m]))", time.Now().Add(-6*time.Hour), time.Now(), time.Minute)
				if err != nil && !strings.Contains(err.Error(), "not open") && !strings.Contains(err.Error(), "canceled") && !strings.Contains(err.Error(), "another process") {
					t.Error(err)
				}
			}
		})
	}
	for i := range 6 {
		r.Update(settings(func(m *site.Monitor) { m.Series = 10000 + i }))
		r.rounds(t, 1)
	}
	cancel()
	wg.Wait()
}
