package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startPrometheus starts Debian's Prometheus with a configuration, and returns its URL.
func startPrometheus(t *testing.T, address, conf string) string {
	t.Helper()
	need(t, "prometheus")
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "promtool", "check", "config", file)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address,
		"--web.enable-remote-write-receiver", "--storage.remote.flush-deadline=1s")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("prometheus said:\n%s", text)
		}
	})
	until(t, "prometheus serves", func() bool {
		a, err := http.Get("http://" + address + "/-/ready")
		if err != nil {
			return false
		}
		a.Body.Close()
		return a.StatusCode == http.StatusOK
	})
	return "http://" + address
}

// ask asks an API of Prometheus, and returns what results there are, in an order of their own.
func ask(t *testing.T, base, path string, form url.Values) []string {
	t.Helper()
	a, err := http.PostForm(base+"/api/v1/"+path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Status string
		Data   json.RawMessage
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Status != "success" {
		t.Fatalf("%s %s %v is answered with %s", base, path, form, body)
	}
	var list []json.RawMessage
	if json.Unmarshal(got.Data, &list) != nil {
		var data struct{ Result []json.RawMessage }
		if err := json.Unmarshal(got.Data, &data); err != nil {
			t.Fatalf("%s %s is answered with %s", base, path, body)
		}
		list = data.Result
	}
	out := make([]string, len(list))
	for i, one := range list {
		var v any
		_ = json.Unmarshal(one, &v)
		text, _ := json.Marshal(v)
		out[i] = string(text)
	}
	slices.Sort(out)
	return out
}

// same asks both until they answer alike: Prometheus sends on in pieces of 500 samples, half a second apart, and the last of some series may be under way.
func same(t *testing.T, theirs, ours string, form url.Values) (a, b []string) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		a, b = ask(t, theirs, "query", form), ask(t, ours, "query", form)
		if slices.Equal(a, b) || time.Now().After(end) {
			return a, b
		}
	}
}

// TestPrometheus: a real Prometheus scrapes one evenkeel, takes the samples of another, sends all it has to the first, and both
// answer the same questions alike. A third evenkeel keeps nothing and asks that Prometheus.
func TestPrometheus(t *testing.T) {
	need(t, "prometheus")
	address := "127.0.0.1:" + freePort(t)
	site := fmt.Sprintf("listeners: {web: {listen: \"127.0.0.1:0\"}}\npools: {none: {endpoints: [%q], probe: {off: true}}}\nroutes: [{respond: {body: well}}]\n", "127.0.0.1:"+freePort(t))
	scraped := runSite(t, site+"monitor: {scrape_every: 1s}\n")
	sender := runSite(t, site+fmt.Sprintf("monitor: {scrape_every: 1s, remote_write: [{url: \"http://%s/api/v1/write\", labels: {site: sender}}]}\n", address))
	asker := runSite(t, site+fmt.Sprintf("monitor: {prometheus: {url: \"http://%s\"}}\n", address))
	ours := "http://" + scraped.at["console"] + "/prometheus"
	theirs := startPrometheus(t, address, fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
  - {job_name: gateway, static_configs: [{targets: [%q]}]}
remote_write:
  - {url: "%s/api/v1/write", queue_config: {batch_send_deadline: 500ms}}
`, scraped.at["console"], ours))
	for i := range 40 {
		if a, err := http.Get("http://" + []*gateway{scraped, sender}[i%2].at["web"]); err == nil {
			a.Body.Close()
		}
	}
	has := func(base, expr string) bool {
		return len(ask(t, base, "query", url.Values{"query": {expr}})) > 0
	}
	const enough = `count_over_time(evenkeel_requests_total{job="gateway",code="2xx"}[1m]) > 5`
	until(t, "Prometheus has scraped and written", func() bool { return has(theirs, enough) && has(ours, enough) })
	// The sender has latencies as native histograms too, which Debian's Prometheus answers with an error to the whole request.
	until(t, "samples of the sender came through Prometheus", func() bool {
		return has(ours, `count_over_time(evenkeel_request_seconds_count{job="evenkeel",site="sender"}[1m]) > 1`)
	})
	// Prometheus sends on what it gets once its sender runs: from here on both have everything.
	from := time.Now().Truncate(time.Second).Add(time.Second)
	const length = 8 * time.Second
	to := from.Add(length)
	until(t, "both have the time in question", func() bool {
		return has(ours, fmt.Sprintf("timestamp(up{job=\"gateway\"}) > %d", to.Unix())) && has(ours, fmt.Sprintf("timestamp(up{site=\"sender\",job=\"evenkeel\"}) > %d", to.Unix()))
	})
	moment := func(at time.Time) string { return fmt.Sprintf("%d", at.Unix()) }
	samples := 0
	for _, expr := range []string{`{job="gateway"}[8s]`, `{site="sender"}[8s]`} {
		form := url.Values{"query": {expr}, "time": {moment(to)}}
		a, b := same(t, theirs, ours, form)
		if len(a) < 50 || !slices.Equal(a, b) {
			t.Fatalf("%s: Prometheus has %d series, we have %d, and they differ:\n%s", expr, len(a), len(b), difference(a, b))
		}
		samples += strings.Count(strings.Join(a, ""), "],[") + len(a)
	}
	t.Logf("%d samples are the same in both", samples)
	for _, expr := range []string{`sum by (code) (rate(evenkeel_requests_total{job="gateway"}[5s]))`, `histogram_quantile(0.9, sum by (le) (rate(evenkeel_request_seconds_bucket{job="gateway"}[5s])))`,
		`topk(3, {job="gateway",__name__=~"go_.*"})`, `absent(nothing)`, `up{job="gateway"} * on() group_left() vector(2)`} {
		form := url.Values{"query": {expr}, "start": {moment(from)}, "end": {moment(to)}, "step": {"1"}}
		a, b := ask(t, theirs, "query_range", form), ask(t, ours, "query_range", form)
		c := ask(t, "http://"+asker.at["console"]+"/prometheus", "query_range", form)
		if len(a) == 0 || !slices.Equal(a, b) || !slices.Equal(a, c) {
			t.Errorf("%s: answers differ:\n%s\nasked through a third:\n%s", expr, difference(a, b), difference(a, c))
		}
	}
	match := url.Values{"match[]": {`{job="gateway"}`}}
	for _, path := range []string{"series", "labels"} {
		if a, b := ask(t, theirs, path, match), ask(t, ours, path, match); !slices.Equal(a, b) {
			t.Errorf("%s: answers differ:\n%s", path, difference(a, b))
		}
	}
	promtool(t, theirs, ours, to)
	dashboards(t, theirs, ours, to)
	promtoolChecks(t, scraped.at["console"])
	if scraped.at["console"] == "" || sender.at["console"] == "" {
		t.Error("no console was named")
	}
}

// promtool asks both servers with Prometheus' own tool.
func promtool(t *testing.T, theirs, ours string, to time.Time) {
	t.Helper()
	lines := func(args ...string) []string {
		all := strings.Split(strings.TrimSpace(tool(t, "promtool", append([]string{"query"}, args...)...)), "\n")
		slices.Sort(all)
		return all
	}
	start, end := fmt.Sprint(to.Unix()-6), fmt.Sprint(to.Unix())
	for _, q := range [][2][]string{
		{{"range", "--start=" + start, "--end=" + end, "--step=1s"}, {`max by (__name__) ({job="gateway",__name__=~"evenkeel_.*"})`}},
		{{"series", `--match={job="gateway"}`, "--start=" + start, "--end=" + end}, nil},
		{{"labels"}, {"listener"}},
	} {
		a, b := lines(append(append(slices.Clone(q[0]), theirs), q[1]...)...), lines(append(append(slices.Clone(q[0]), ours), q[1]...)...)
		if len(a) == 0 || a[0] == "" || !slices.Equal(a, b) {
			t.Errorf("promtool query %s: answers differ:\n%s", q[0][0], difference(a, b))
		}
	}
	if got := lines("instant", ours, `up{job="gateway"}`); len(got) != 1 || !strings.Contains(got[0], "=> 1 @") {
		t.Errorf("promtool query instant says %q", got)
	}
}

// promtoolChecks lets promtool judge what we show: metrics as a scraper wants them.
func promtoolChecks(t *testing.T, admin string) {
	t.Helper()
	a, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = a.Body
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// difference shows the first lines that only one of two lists has.
func difference(a, b []string) string {
	var out []string
	for _, x := range []struct {
		who      string
		in, from []string
	}{{"only Prometheus: ", b, a}, {"only we: ", a, b}} {
		for _, line := range x.from {
			if !slices.Contains(x.in, line) && len(out) < 8 {
				out = append(out, x.who+line[:min(len(line), 500)])
			}
		}
	}
	return strings.Join(out, "\n")
}

// dashboards: every expression of the shipped dashboards is answered, by us as by Prometheus, and most have something to show.
func dashboards(t *testing.T, theirs, ours string, to time.Time) {
	t.Helper()
	files, err := filepath.Glob("../docs/grafana/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	asked, shown := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range board.Panels {
			for _, q := range p.Targets {
				expr := strings.ReplaceAll(q.Expr, "$__rate_interval", "5s")
				for _, choice := range []string{"$instance", "$pool", "$objective"} {
					expr = strings.ReplaceAll(expr, choice, ".*")
				}
				form := url.Values{"query": {expr}, "time": {fmt.Sprint(to.Unix())}}
				_ = ask(t, theirs, "query", form)
				asked++
				if len(ask(t, ours, "query", form)) > 0 {
					shown++
				}
			}
		}
	}
	t.Logf("%d of %d expressions of dashboards have something to show", shown, asked)
	if asked < 60 || shown < 25 { // the site has neither objectives nor a cache, and refuses nothing
		t.Errorf("%d of %d expressions of dashboards have something to show", shown, asked)
	}
}

// TestShippedRules: promtool takes the shipped rule file, and plays it: many 503, a pool that is too small, and none of both.
func TestShippedRules(t *testing.T) {
	need(t, "promtool")
	rules, err := filepath.Abs("../docs/grafana/alerts.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "promtool", "check", "rules", rules)
	play := filepath.Join(t.TempDir(), "play.yaml")
	text := fmt.Sprintf(`
rule_files: [%q]
evaluation_interval: 10s
tests:
  - interval: 10s
    input_series:
      - {series: 'evenkeel_build_info{instance="a"}', values: '1x60'}
      - {series: 'evenkeel_requests_total{instance="a",route="checkout",code="5xx"}', values: '0+100x60'}
      - {series: 'evenkeel_overload_answers_total{instance="a",route="checkout",code="503"}', values: '0+6x60'}
      - {series: 'evenkeel_requests_total{instance="a",route="rest",code="2xx"}', values: '0+100x60'}
      - {series: 'evenkeel_overload_answers_total{instance="a",route="rest",code="503"}', values: '0+4x60'}
      - {series: 'evenkeel_pool_healthy_share{instance="a",pool="shop"}', values: '1x20 0.5x40'}
      - {series: 'evenkeel_pool_panic{instance="a",pool="shop"}', values: '0x60'}
      - {series: 'evenkeel_alerts{instance="a",alert="reload-failed",severity="ticket",state="firing"}', values: '_x20 1x40'}
    alert_rule_test:
      - {eval_time: 150s, alertname: EvenkeelPoolCapacity, exp_alerts: []}
      - {eval_time: 150s, alertname: EvenkeelReloadFailed, exp_alerts: []}
      - {eval_time: 300s, alertname: EvenkeelAbsent, exp_alerts: []}
      - {eval_time: 300s, alertname: EvenkeelMany429, exp_alerts: []}
      - eval_time: 300s
        alertname: EvenkeelMany503
        exp_alerts: [{exp_labels: {severity: page, alert: many-503, route: checkout}, exp_annotations: {summary: "Many requests are answered with 503", runbook_url: "https://github.com/even-keel/evenkeel/blob/main/docs/alerts.md#many-503"}}]
      - eval_time: 300s
        alertname: EvenkeelPoolCapacity
        exp_alerts: [{exp_labels: {severity: page, alert: pool-capacity, instance: a, pool: shop}, exp_annotations: {summary: "Too little of a pool's capacity is left", runbook_url: "https://github.com/even-keel/evenkeel/blob/main/docs/alerts.md#pool-capacity"}}]
      - eval_time: 300s
        alertname: EvenkeelReloadFailed
        exp_alerts: [{exp_labels: {severity: ticket, alert: reload-failed, instance: a}, exp_annotations: {summary: "The site file was refused: the node runs on with the old one", runbook_url: "https://github.com/even-keel/evenkeel/blob/main/docs/alerts.md#reload-failed"}}]
`, rules)
	if err := os.WriteFile(play, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "promtool", "test", "rules", play)
}
