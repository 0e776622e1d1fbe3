package slo

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/site"
)

const rest = `
listeners: {web: {listen: ":8080"}}
pools: {shop: {endpoints: [{address: "10.0.0.1:80", zone: a}]}}
routes: [{name: checkout, paths: [/c/*], pool: shop}, {name: rest, pool: shop}]
`

const promises = `
objectives:
  - {name: checkout-available, route: checkout, target: 99.9%, window: 30d}
  - {name: checkout-fast, route: checkout, target: 99%, latency: 300ms, window: 7d}
  - {name: zone-a, pool: shop, zone: a, target: 99.5%, window: month}
  - {name: probes, pool: shop, kind: probes, target: 99%, window: week, min_failures: 20}
  - {name: fresh, pool: shop, freshness: 1m, target: 99.95%, window: quarter}
  - {name: critical-in, kind: shed, classes: [critical, standard], target: 99.99%, window: 36h, shed: {standard: neutral, low: bad}, limited: bad}
  - {name: rest, route: rest, target: 85%, window: year, policy: {freeze: 10%, tighten: 25%}}
`

func loadSite(t *testing.T, text string) *site.Site {
	t.Helper()
	s, err := site.Parse("site.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

// TestOpenSLOThereAndBack: what is exported is imported as the same objectives.
func TestOpenSLOThereAndBack(t *testing.T) {
	s := loadSite(t, rest+promises)
	var out, back bytes.Buffer
	if err := ExportOpenSLO(&out, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"apiVersion: openslo/v1", "kind: SLO", "service: evenkeel", "budgetingMethod: Occurrences", "duration: 1M", "isRolling: true", "target: 0.999", `query: sum(evenkeel_slo_events_total{objective="zone-a"})`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the export lacks %q:\n%s", want, out.String())
		}
	}
	notes, err := ImportOpenSLO(&back, bytes.NewReader(out.Bytes()))
	if err != nil || len(notes) > 0 {
		t.Fatalf("%v %q\n%s", err, notes, out.String())
	}
	if again := loadSite(t, rest+back.String()); !reflect.DeepEqual(again.Objectives, s.Objectives) {
		t.Errorf("another site comes back: %q\n%s", site.Diff(s, again), back.String())
	}
}

// TestOpenSLOOfOthers: documents as other tools write them.
func TestOpenSLOOfOthers(t *testing.T) {
	text := `
apiVersion: openslo/v1
kind: Service
metadata: {name: shop}
spec: {description: x}
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: web-availability, displayName: Web}
spec:
  description: 99.5% good
  service: shop
  indicatorRef: web-errors
  timeWindow: [{duration: 4w, isRolling: true}]
  budgetingMethod: Timeslices
  objectives: [{displayName: Good, targetPercent: 99.5, timeSliceTarget: 0.95, timeSliceWindow: 1m}]
`
	var out bytes.Buffer
	notes, err := ImportOpenSLO(&out, strings.NewReader(text))
	if err != nil || len(notes) != 3 || out.String() != "objectives:\n  - {name: \"web-availability\", target: 99.5%, window: 28d}\n" {
		t.Errorf("%v\n%q\n%s", err, notes, out.String())
	}
	for bad, want := range map[string]string{
		"a: [":          "document 1 is no OpenSLO",
		"kind: Service": "no document of kind SLO",
		"kind: SLO":     `apiVersion is ""`,
		"- a\n":         "document 1 is no OpenSLO",
		strings.Replace(text, "99.5, time", "100, time", 1):           "0 to 100",
		strings.Replace(text, "4w", "x", 1):                           `"x" is no duration`,
		strings.Replace(text, "4w, isRolling: true", "3M", 1):         "calendar window",
		strings.Replace(text, "objectives: [", "objectives: [{},", 1): "2 objectives",
	} {
		if _, err := ImportOpenSLO(new(bytes.Buffer), strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzImportOpenSLO(f *testing.F) {
	f.Add("apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: a}\nspec: {timeWindow: [{duration: 1d, isRolling: true}], objectives: [{target: 0.9}]}\n")
	f.Add("kind: SLO\n---\nkind: x")
	f.Fuzz(func(t *testing.T, text string) {
		var out bytes.Buffer
		if _, err := ImportOpenSLO(&out, strings.NewReader(text)); err != nil || strings.ContainsAny(text, "$\\") {
			return
		}
		// What was taken is YAML that a site file can hold; names and numbers may still be refused there, with their place.
		if _, err := site.Parse("site.yaml", []byte(rest+out.String())); err != nil && strings.Contains(err.Error(), "cannot be read as YAML") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
}

// TestRules: Debian's promtool takes the rules, and finds that they fire as they should.
func TestRules(t *testing.T) {
	s := loadSite(t, rest+promises)
	var out bytes.Buffer
	if err := WriteRules(&out, s); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "alert: EvenkeelBurnPage") != 13 { // of the target of 85 % only one can
		t.Errorf("%d pages:\n%s", strings.Count(out.String(), "alert: EvenkeelBurnPage"), out.String())
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("without promtool the rules for Prometheus are not tested")
	}
	var one bytes.Buffer
	s.Objectives = s.Objectives[:1]
	if err := WriteRules(&one, s); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yaml": out.String(), "one.yaml": one.String(), "test.yaml": ruleTest} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"test", "rules", "test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = dir
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, said)
		}
	}
}

// ruleTest is an outage after two hours without a failure: nothing is due before it, and the pages come within a minute. The longer window has no more than these two hours either.
const ruleTest = `
rule_files: [one.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'evenkeel_slo_events_total{objective="checkout-available"}', values: '0+6000x150'}
      - {series: 'evenkeel_slo_good_events_total{objective="checkout-available"}', values: '0+6000x120 720000x30'}
    alert_rule_test:
      - {eval_time: 120m, alertname: EvenkeelBurnPage}
      - eval_time: 121m
        alertname: EvenkeelBurnPage
        exp_alerts:
          - exp_labels: {severity: page, objective: checkout-available, window: 1h}
            exp_annotations:
              summary: The error budget of checkout-available burns 14.4 times as fast as it may
              description: 1.667% of the events of the last 1h were bad.
          - exp_labels: {severity: page, objective: checkout-available, window: 6h}
            exp_annotations:
              summary: The error budget of checkout-available burns 6 times as fast as it may
              description: 0.8264% of the events of the last 6h were bad.
`
