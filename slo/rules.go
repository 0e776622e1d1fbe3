package slo

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// promSpan is a duration as Prometheus writes it.
func promSpan(d time.Duration) string {
	if d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	if d%time.Hour == 0 {
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	}
	if d%time.Minute == 0 {
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// WriteRules writes the objectives of a site as a rule file for Prometheus: recorded shares of bad events, and the same alerts that
// evenkeel judges itself, over the metrics that it shows. Of all nodes together, where several are scraped.
func WriteRules(w io.Writer, s *site.Site) error {
	p := &rulePrinter{w: w}
	p.line("# Made by evenkeel slo rules from the objectives of site %s. Burn rates and windows are those of the SRE workbook.", s.Name)
	if len(s.Objectives) == 0 {
		p.line("groups: []")
		return p.err
	}
	p.line("groups:")
	for _, o := range s.Objectives {
		window, err := ParseWindow(o.Window, func(string) (time.Duration, bool) { return o.WindowLength() })
		if err != nil {
			return err
		}
		p.objective(o, Burns(window))
	}
	return p.err
}

// rulePrinter keeps the first error.
type rulePrinter struct {
	w   io.Writer
	err error
}

func (p *rulePrinter) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// record is the name of a recorded share of bad events.
func record(d time.Duration) string { return "evenkeel:slo_bad:ratio_rate" + promSpan(d) }

func (p *rulePrinter) objective(o *site.Objective, burns []Burn) {
	labels := fmt.Sprintf("{objective=%q}", o.Name)
	p.line("  - name: %q", "evenkeel-slo-"+o.Name)
	p.line("    rules:")
	seen := map[time.Duration]bool{}
	for _, b := range burns {
		for _, d := range []time.Duration{b.Short, b.Long} {
			if seen[d] {
				continue
			}
			seen[d] = true
			p.line("      - record: %s", record(d))
			p.line("        labels: {objective: %q}", o.Name)
			p.line("        expr: 1 - sum(rate(evenkeel_slo_good_events_total%s[%s])) / (sum(rate(evenkeel_slo_events_total%s[%s])) > 0)", labels, promSpan(d), labels, promSpan(d))
		}
	}
	for _, b := range burns {
		if _, can := b.Detects(float64(o.Target), 1); !can {
			continue
		}
		limit := strconv.FormatFloat(b.Factor*(1-float64(o.Target)), 'g', 6, 64)
		name := map[string]string{Page: "EvenkeelBurnPage", Ticket: "EvenkeelBurnTicket"}[b.Severity]
		p.line("      - alert: %s", name)
		p.line("        expr: %s%s >= %s and %s%s >= %s and sum(increase(evenkeel_slo_events_total%s[%s])) - sum(increase(evenkeel_slo_good_events_total%s[%s])) >= %d",
			"sum("+record(b.Long), labels+")", limit, "sum("+record(b.Short), labels+")", limit, labels, promSpan(b.Long), labels, promSpan(b.Long), max(o.MinFailures, 1))
		p.line("        labels: {severity: %s, objective: %q, window: %s}", b.Severity, o.Name, promSpan(b.Long))
		p.line("        annotations:")
		p.line("          summary: %q", fmt.Sprintf("The error budget of %s burns %.4g times as fast as it may", o.Name, b.Factor))
		p.line("          description: %q", "{{ $value | humanizePercentage }} of the events of the last "+promSpan(b.Long)+" were bad.")
	}
}
