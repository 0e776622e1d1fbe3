package dashboard

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Alert is one that evenkeel looks for.
type Alert struct {
	Name, Severity, Summary, Runbook string
	For                              time.Duration
	Threshold                        float64
}

// causes are the alerts' causes in PromQL, where metrics show them; $t is the threshold. What no metric shows is taken from the node's own
// judgement, and holds at once: the node has waited already.
func causes() map[string]string {
	answers := func(code string) string {
		const told = `evenkeel_overload_answers_total{code="CODE"}[5m]`
		return strings.ReplaceAll(`sum by (route) (rate(`+told+`)) >= $t * sum by (route) (rate(evenkeel_requests_total[5m])) and sum by (route) (increase(`+told+`)) >= 10`, "CODE", code)
	}
	limited := func(what string) string {
		return strings.ReplaceAll(`(sum by (WHAT) (rate(evenkeel_WHAT_requests_total{result="refused"}[5m])) >= $t * sum by (WHAT) (rate(evenkeel_WHAT_requests_total{result=~"admitted|refused"}[5m]))`+
			` and sum by (WHAT) (increase(evenkeel_WHAT_requests_total{result="refused"}[5m])) >= 10)`, "WHAT", what)
	}
	return map[string]string{
		"burn-page":       `max by (objective, window) (evenkeel_slo_alert_due{severity="page"}) == 1`,
		"burn-ticket":     `max by (objective, window) (evenkeel_slo_alert_due{severity="ticket"}) == 1`,
		"budget-spent":    `min by (objective) (evenkeel_slo_budget_left) <= 0`,
		"many-429":        answers("429"),
		"many-503":        answers("503"),
		"limit-breached":  limited("limit") + " or " + limited("quota"),
		"accept-drops":    `sum by (instance) (increase(evenkeel_guard_listen_overflows_total[5m])) > 0`,
		"pool-capacity":   `min by (instance, pool) (evenkeel_pool_healthy_share) < $t or max by (instance, pool) (evenkeel_pool_panic) == 1`,
		"probe-flapping":  `changes(evenkeel_endpoint_up[10m]) >= 4`,
		"self-overloaded": `max by (instance) (evenkeel_guard_refused_share) > 0`,
	}
}

// Cause is an alert's cause in PromQL. known says whether metrics show it, or only the node's own judgement.
func Cause(a Alert) (expr string, known bool) {
	expr, known = causes()[a.Name]
	if !known {
		return fmt.Sprintf(`max by (instance) (evenkeel_alerts{alert=%q,state="firing"}) > 0`, a.Name), false
	}
	return strings.ReplaceAll(expr, "$t", strconv.FormatFloat(a.Threshold, 'g', -1, 64)), true
}

// RuleName is an alert's name in Prometheus' manner: EvenkeelMany503.
func RuleName(name string) string {
	var b strings.Builder
	b.WriteString("Evenkeel")
	for _, word := range strings.Split(name, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// Rules is a rule file for Prometheus with the alerts that evenkeel ships, of all nodes that it scrapes. Those of a site's objectives, with their own
// windows, are made by evenkeel slo rules.
func Rules(all []Alert) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Made by evenkeel dashboards from the alerts that evenkeel ships.")
	line("groups:")
	line("  - name: evenkeel")
	line("    rules:")
	line("      - alert: EvenkeelAbsent")
	line("        expr: absent(evenkeel_build_info)")
	line("        for: 2m")
	line("        labels: {severity: page}")
	line("        annotations:")
	line("          summary: \"No evenkeel shows metrics\"")
	for _, a := range all {
		expr, known := Cause(a)
		line("      - alert: %s", RuleName(a.Name))
		line("        expr: %s", strconv.Quote(expr))
		if known && a.For > 0 {
			line("        for: %ds", int(a.For.Seconds()))
		}
		line("        labels: {severity: %s, alert: %s}", a.Severity, a.Name)
		line("        annotations:")
		line("          summary: %q", a.Summary)
		line("          runbook_url: %q", a.Runbook)
	}
	return []byte(b.String())
}

// Known is how many alerts have a cause that metrics show.
func Known() int { return len(causes()) }
