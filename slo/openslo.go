package slo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/even-keel/evenkeel/site"
)

// openSLO is what evenkeel writes and reads of an OpenSLO v1 document of kind SLO. How evenkeel counts has no place there: it stands
// in annotations, which OpenSLO leaves to whoever reads them.
type openSLO struct {
	APIVersion string          `yaml:"apiVersion"`
	Kind       string          `yaml:"kind"`
	Metadata   openSLOMetadata `yaml:"metadata"`
	Spec       openSLOSpec     `yaml:"spec"`
}

type openSLOMetadata struct {
	Name        string            `yaml:"name"`
	DisplayName string            `yaml:"displayName,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type openSLOSpec struct {
	Description     string             `yaml:"description,omitempty"`
	Service         string             `yaml:"service"`
	Indicator       *openSLOIndicator  `yaml:"indicator,omitempty"`
	TimeWindow      []openSLOWindow    `yaml:"timeWindow"`
	BudgetingMethod string             `yaml:"budgetingMethod"`
	Objectives      []openSLOObjective `yaml:"objectives"`
}

type openSLOIndicator struct {
	Metadata openSLOMetadata `yaml:"metadata"`
	Spec     struct {
		RatioMetric struct {
			Counter bool          `yaml:"counter"`
			Good    openSLOMetric `yaml:"good"`
			Total   openSLOMetric `yaml:"total"`
		} `yaml:"ratioMetric"`
	} `yaml:"spec"`
}

type openSLOMetric struct {
	MetricSource struct {
		Type string            `yaml:"type"`
		Spec map[string]string `yaml:"spec"`
	} `yaml:"metricSource"`
}

type openSLOWindow struct {
	Duration  string           `yaml:"duration"`
	IsRolling bool             `yaml:"isRolling"`
	Calendar  *openSLOCalendar `yaml:"calendar,omitempty"`
}

type openSLOCalendar struct {
	StartTime string `yaml:"startTime"`
	TimeZone  string `yaml:"timeZone"`
}

type openSLOObjective struct {
	DisplayName   string   `yaml:"displayName,omitempty"`
	Target        *float64 `yaml:"target,omitempty"`
	TargetPercent *float64 `yaml:"targetPercent,omitempty"`
}

// openSLOWindows are the windows of the calendar in the words of OpenSLO. 2024 began on a Monday, so that weeks do.
var openSLOWindows = map[string]string{"day": "1d", "week": "1w", "month": "1M", "quarter": "1Q", "year": "1Y"}

// annotation is the beginning of evenkeel's own annotations.
const annotation = "evenkeel/"

// ExportOpenSLO writes the objectives of a site as OpenSLO v1, one document each. The indicators read evenkeel's metrics.
func ExportOpenSLO(w io.Writer, s *site.Site) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	for _, o := range s.Objectives {
		if err := enc.Encode(toOpenSLO(s, o)); err != nil {
			return err
		}
	}
	if len(s.Objectives) == 0 {
		return nil
	}
	return enc.Close()
}

func toOpenSLO(s *site.Site, o *site.Objective) openSLO {
	target := float64(o.Target)
	d := openSLO{APIVersion: "openslo/v1", Kind: "SLO", Metadata: openSLOMetadata{Name: o.Name, Annotations: annotations(o)}}
	d.Spec = openSLOSpec{Service: s.Name, BudgetingMethod: "Occurrences", Objectives: []openSLOObjective{{DisplayName: o.Name, Target: &target}}}
	if word := openSLOWindows[o.Window]; word != "" {
		d.Spec.TimeWindow = []openSLOWindow{{Duration: word, Calendar: &openSLOCalendar{StartTime: "2024-01-01 00:00:00", TimeZone: "UTC"}}}
	} else {
		d.Spec.TimeWindow = []openSLOWindow{{Duration: openSLODuration(o), IsRolling: true}}
	}
	in := &openSLOIndicator{Metadata: openSLOMetadata{Name: o.Name + "-indicator"}}
	metric := func(name string) (m openSLOMetric) {
		m.MetricSource.Type = "Prometheus"
		m.MetricSource.Spec = map[string]string{"query": fmt.Sprintf("sum(%s{objective=%q})", name, o.Name)}
		return m
	}
	in.Spec.RatioMetric.Counter = true
	in.Spec.RatioMetric.Good, in.Spec.RatioMetric.Total = metric("evenkeel_slo_good_events_total"), metric("evenkeel_slo_events_total")
	d.Spec.Indicator = in
	return d
}

// openSLODuration is the length of a rolling window in the one unit that OpenSLO allows.
func openSLODuration(o *site.Objective) string {
	length, _ := o.WindowLength()
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}} {
		if length%u.unit == 0 {
			return strconv.FormatInt(int64(length/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(length/time.Minute), 10) + "m"
}

// annotations are what OpenSLO has no place for, without what is the default.
func annotations(o *site.Objective) map[string]string {
	out := map[string]string{annotation + "kind": o.Kind}
	put := func(key, value, unless string) {
		if value != unless {
			out[annotation+key] = value
		}
	}
	put("route", o.Route, "")
	put("pool", o.Pool, "")
	put("zone", o.Zone, "")
	put("classes", strings.Join(o.Classes, ","), "")
	put("latency", o.Latency.String(), "0s")
	put("freshness", o.Freshness.String(), "0s")
	put("shed.critical", o.Shed.Critical, site.CountBad)
	put("shed.standard", o.Shed.Standard, site.CountBad)
	put("shed.low", o.Shed.Low, site.CountNeutral)
	put("limited", o.Limited, site.CountNeutral)
	put("min_failures", strconv.Itoa(o.MinFailures), "5")
	put("policy.freeze", o.Policy.Freeze.String(), "0%")
	put("policy.tighten", o.Policy.Tighten.String(), "0%")
	return out
}

// importMost bounds what is read: the objectives of a site, each with a page of text.
const importMost = 4 << 20

// ImportOpenSLO reads OpenSLO v1 documents and writes the objectives section of a site file. Documents of other kinds are left out.
// skipped says in sentences what could not be taken, and what of it has to be said by hand.
func ImportOpenSLO(w io.Writer, r io.Reader) (skipped []string, err error) {
	text, err := io.ReadAll(io.LimitReader(r, importMost+1))
	if err != nil {
		return nil, err
	}
	if len(text) > importMost {
		return nil, fmt.Errorf("more than %d bytes are not read", importMost)
	}
	var lines []string
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for n := 1; ; n++ {
		var d openSLO
		err := dec.Decode(&d)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return skipped, fmt.Errorf("document %d is no OpenSLO: %w", n, err)
		}
		if d.Kind != "SLO" {
			skipped = append(skipped, fmt.Sprintf("document %d is of kind %q, only SLO is read", n, d.Kind))
			continue
		}
		line, notes, err := fromOpenSLO(d)
		if err != nil {
			return skipped, fmt.Errorf("document %d, %s: %w", n, d.Metadata.Name, err)
		}
		lines, skipped = append(lines, line), append(skipped, notes...)
	}
	if len(lines) == 0 {
		return skipped, errors.New("no document of kind SLO was found")
	}
	_, err = fmt.Fprintf(w, "objectives:\n  - %s\n", strings.Join(lines, "\n  - "))
	return skipped, err
}

// fromOpenSLO is one objective as a line of a site file.
func fromOpenSLO(d openSLO) (line string, notes []string, err error) {
	name := d.Metadata.Name
	if d.APIVersion != "openslo/v1" {
		return "", nil, fmt.Errorf("apiVersion is %q, only openslo/v1 is read", d.APIVersion)
	}
	if len(d.Spec.Objectives) != 1 {
		return "", nil, fmt.Errorf("it has %d objectives, one is read: write several as documents of their own", len(d.Spec.Objectives))
	}
	o := d.Spec.Objectives[0]
	target := ""
	switch {
	case o.Target != nil && o.TargetPercent == nil && *o.Target > 0 && *o.Target < 1:
		target = percent(100 * *o.Target)
	case o.TargetPercent != nil && o.Target == nil && *o.TargetPercent > 0 && *o.TargetPercent < 100:
		target = percent(*o.TargetPercent)
	default:
		return "", nil, errors.New("the objective needs target, 0 to 1, or targetPercent, 0 to 100")
	}
	window, err := windowOf(d.Spec.TimeWindow)
	if err != nil {
		return "", nil, err
	}
	if m := d.Spec.BudgetingMethod; m != "Occurrences" && m != "" {
		notes = append(notes, fmt.Sprintf("%s: budgetingMethod %s is counted as Occurrences", name, m))
	}
	parts := []string{"name: " + scalar(name), "target: " + target, "window: " + window}
	parts = append(parts, fromAnnotations(d.Metadata.Annotations)...)
	if d.Metadata.Annotations[annotation+"kind"] == "" {
		notes = append(notes, fmt.Sprintf("%s: its indicator belongs to another system; say with route or pool, latency or kind what evenkeel is to count, else all requests that did not fail are good", name))
	}
	return "{" + strings.Join(parts, ", ") + "}", notes, nil
}

// percent is a share as a site file writes it.
func percent(f float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(f, 'f', 4, 64), "0"), ".") + "%"
}

// scalar is a text of somebody else in a line of YAML.
func scalar(s string) string { return strconv.Quote(s) }

func windowOf(list []openSLOWindow) (string, error) {
	if len(list) != 1 {
		return "", fmt.Errorf("it has %d time windows, one is read", len(list))
	}
	w := list[0]
	if w.Calendar != nil || !w.IsRolling {
		for word, theirs := range openSLOWindows {
			if theirs == w.Duration {
				return word, nil
			}
		}
		return "", fmt.Errorf("a calendar window of %q is not known; day, week, month, quarter and year are", w.Duration)
	}
	if len(w.Duration) < 2 {
		return "", fmt.Errorf("%q is no duration", w.Duration)
	}
	n, err := strconv.Atoi(w.Duration[:len(w.Duration)-1])
	times := map[byte]int{'m': 1, 'h': 60, 'd': 24 * 60, 'w': 7 * 24 * 60, 'M': 30 * 24 * 60, 'Q': 90 * 24 * 60, 'Y': 365 * 24 * 60}[w.Duration[len(w.Duration)-1]]
	if err != nil || times == 0 || n <= 0 || n > 365*24*60 {
		return "", fmt.Errorf("%q is no duration", w.Duration)
	}
	return Span(time.Duration(n*times) * time.Minute), nil
}

// fromAnnotations are evenkeel's own keys.
func fromAnnotations(all map[string]string) (parts []string) {
	sections := map[string][]string{}
	for _, key := range []string{"kind", "route", "pool", "zone", "latency", "freshness", "limited", "min_failures", "shed.critical", "shed.standard", "shed.low", "policy.freeze", "policy.tighten"} {
		value := all[annotation+key]
		section, inner, nested := strings.Cut(key, ".")
		switch {
		case value == "":
		case nested:
			sections[section] = append(sections[section], inner+": "+plainOrQuoted(value))
		default:
			parts = append(parts, key+": "+plainOrQuoted(value))
		}
	}
	if classes := all[annotation+"classes"]; classes != "" {
		parts = append(parts, "classes: ["+strings.Join(quoteAll(strings.Split(classes, ",")), ", ")+"]")
	}
	for _, section := range []string{"shed", "policy"} {
		if len(sections[section]) > 0 {
			parts = append(parts, section+": {"+strings.Join(sections[section], ", ")+"}")
		}
	}
	return parts
}

func quoteAll(list []string) []string {
	out := slices.Clone(list)
	for i := range out {
		out[i] = plainOrQuoted(out[i])
	}
	return out
}

// plainOrQuoted leaves words, numbers and times as people write them.
func plainOrQuoted(s string) string {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-%", c)) {
			return strconv.Quote(s)
		}
	}
	return s
}
