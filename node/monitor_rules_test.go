package node

import (
	"testing"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/site"
)

// TestRulesShowAlerts: what asks a Prometheus for rules sees all shipped alerts, and which of them fire about what.
func TestRulesShowAlerts(t *testing.T) {
	a := newAlerting(&site.Site{})
	shipped := alert.Shipped()
	a.cfg.Rules = map[string]alert.Rule{}
	for _, r := range shipped {
		a.cfg.Rules[r.Name] = r
	}
	a.set.Use(a.cfg)
	one := shipped[0]
	signal := []alert.Signal{{Name: one.Name, Labels: map[string]string{"pool": "shop"}, Text: "it fails"}}
	now := time.Now()
	a.set.Step(now, signal)
	a.set.Step(now.Add(one.For+time.Second), signal)
	groups := a.RuleGroups()
	if len(groups) != 1 || len(groups[0].Rules) != len(shipped) {
		t.Fatalf("%d groups, want one of %d rules", len(groups), len(shipped))
	}
	firing := 0
	for i, r := range groups[0].Rules {
		if i > 0 && groups[0].Rules[i-1].Name >= r.Name {
			t.Errorf("%s comes after %s", r.Name, groups[0].Rules[i-1].Name)
		}
		if r.State != "firing" {
			continue
		}
		firing++
		if r.Name != one.Name || len(r.Alerts) != 1 || r.Alerts[0].Labels["pool"] != "shop" || r.Alerts[0].Labels["alertname"] != one.Name {
			t.Errorf("%s fires with %+v", r.Name, r.Alerts)
		}
	}
	if firing != 1 {
		t.Errorf("%d rules fire, want 1", firing)
	}
}
