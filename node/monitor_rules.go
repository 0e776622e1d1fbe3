package node

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/monitor"
)

// ruleStates orders the states of alerts: a rule is in the worst of its alerts'.
var ruleStates = map[string]int{"inactive": 0, "pending": 1, "firing": 2}

// RuleGroups implements monitor.Rules: what asks a Prometheus for rules and alerts sees the node's own. Those that are shipped are no PromQL: a rule's query
// is the series that shows it.
func (a *alerting) RuleGroups() []monitor.RuleGroup {
	a.mu.Lock()
	rules, all, found := a.cfg.Rules, a.set.Alerts(), a.own
	a.mu.Unlock()
	group, own := monitor.RuleGroup{Name: "alerts", File: "evenkeel", LastEvaluation: time.Now()}, monitor.RuleGroup{Name: "own", File: "evenkeel"}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		rule := rules[name]
		r := monitor.Rule{State: "inactive", Name: rule.Name, Query: `evenkeel_alerts{alert="` + rule.Name + `"}`, Duration: rule.For.Seconds(),
			KeepFiringFor: rule.Hold.Seconds(), Labels: map[string]string{"severity": rule.Severity},
			Annotations: map[string]string{"summary": rule.Summary, "runbook_url": cmp.Or(rule.Runbook, alert.Runbook(rule.Name))},
			Health:      "ok", LastEvaluation: group.LastEvaluation, Type: monitor.RuleAlerting}
		for _, one := range all {
			if one.Name != rule.Name || one.Sample || ruleStates[one.State] == 0 {
				continue
			}
			labels := maps.Clone(one.Labels)
			if labels == nil {
				labels = map[string]string{}
			}
			labels["alertname"], labels["severity"] = one.Name, one.Severity
			r.Alerts = append(r.Alerts, monitor.Alert{Labels: labels, Annotations: map[string]string{"summary": one.Summary, "description": one.Text},
				State: one.State, ActiveAt: one.Since, Value: "1"})
			if ruleStates[one.State] > ruleStates[r.State] {
				r.State = one.State
			}
		}
		if rule.Expr == "" {
			group.Rules = append(group.Rules, r)
			continue
		}
		found[name].show(&r, rule.Expr)
		own.EvaluationTime += r.EvaluationTime
		own.LastEvaluation = r.LastEvaluation
		own.Rules = append(own.Rules, r)
	}
	if len(own.Rules) == 0 {
		return []monitor.RuleGroup{group}
	}
	return []monitor.RuleGroup{group, own}
}
