package site

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestReceiverSecrets: who knows the address of a chat's webhook can write there, so it is never printed.
func TestReceiverSecrets(t *testing.T) {
	d, _ := testDisk(t)
	s, err := parse("site.yaml", []byte(`
listeners: {web: {listen: ":8080"}}
pools: {shop: {endpoints: ["10.0.0.1:80"]}}
alerts:
  receivers:
    - {name: chat, resolved: false, slack: {url: "https://hooks.example/${TOKEN}"}}
    - {name: teams, teams: {url: "https://flow.example/${TOKEN}"}}
    - {name: oncall, pagerduty: {key: "${TOKEN}"}}
    - {name: hook, webhook: {url: "https://hook.example/", token: "${TOKEN}"}}
    - {name: mail, email: {server: "mail.example:587", from: a@b.example, to: [c@d.example], user: a, password: "${TOKEN}"}}
`), d)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Alerts.Receivers
	if string(r[0].Slack.URL) != "https://hooks.example/tell-nobody" || string(r[2].PagerDuty.Key) != "tell-nobody" || r[2].PagerDuty.URL == "" {
		t.Errorf("receivers %+v %+v", r[0].Slack, r[2].PagerDuty)
	}
	var b bytes.Buffer
	if err := Print(&b, s); err != nil || strings.Contains(b.String(), "tell-nobody") {
		t.Errorf("printed: %v\n%s", err, b.String())
	}
}

func TestObjectiveDefaults(t *testing.T) {
	d, _ := testDisk(t)
	s, err := parse("site.yaml", []byte(`
listeners: {web: {listen: ":8080"}}
pools: {shop: {endpoints: ["10.0.0.1:80"]}}
objectives: [{name: a, target: 99.9%}, {name: b, target: 99%, latency: 300ms, window: month}]
`), d)
	if err != nil {
		t.Fatal(err)
	}
	a, b := s.Objectives[0], s.Objectives[1]
	if length, ok := a.WindowLength(); a.Kind != KindAvailability || !ok || length != 30*24*time.Hour || a.MinFailures != 5 || a.Shed.Low != CountNeutral || a.Shed.Critical != CountBad || a.Limited != CountNeutral {
		t.Errorf("%+v", a)
	}
	if _, ok := b.WindowLength(); b.Kind != KindLatency || ok {
		t.Errorf("%+v", b)
	}
	if s.Alerts.Every != 10*time.Second || s.Alerts.GroupWait != 30*time.Second || s.Alerts.Repeat != 4*time.Hour || len(s.Alerts.GroupBy) != 1 {
		t.Errorf("%+v", s.Alerts)
	}
}
