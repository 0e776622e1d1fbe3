package site

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Severities of alerts.
const (
	SeverityPage   = "page"
	SeverityTicket = "ticket"
)

// AlertNames are the alerts that evenkeel ships, with what of them can be set. Package alert says what they mean; a test there compares.
var AlertNames = []struct {
	Name      string
	Threshold bool // a share
	Within    bool // a time
}{
	{Name: "burn-page"}, {Name: "burn-ticket"}, {Name: "budget-spent"},
	{Name: "many-429", Threshold: true}, {Name: "many-503", Threshold: true}, {Name: "limit-breached", Threshold: true},
	{Name: "connections-near-cap", Threshold: true}, {Name: "accept-drops"}, {Name: "pool-capacity", Threshold: true},
	{Name: "breaker-open"}, {Name: "probe-flapping"}, {Name: "prober-silent"}, {Name: "certificate-expiry", Within: true}, {Name: "certificate-expiry-soon", Within: true},
	{Name: "reload-failed"}, {Name: "self-overloaded"}, {Name: "disk-full", Threshold: true}, {Name: "state-not-kept"}, {Name: "receiver-failing"}, {Name: "watchdog"},
}

// AlertWatchdog is the alert that always fires, for receivers that wake somebody when it stops coming.
const AlertWatchdog = "watchdog"

// Alerts says who is told when something needs a person.
type Alerts struct {
	Every         time.Duration         `yaml:"every" default:"10s" min:"100ms" max:"5m" doc:"how often objectives and alerts are judged"`
	Rules         map[string]*AlertRule `yaml:"rules" form:"name" doc:"changes to shipped alerts, by their name; see docs/alerts.md"`
	Own           []*OwnAlert           `yaml:"own" doc:"alerts of your own, each an expression in PromQL over the history; see docs/alerts.md"`
	Link          string                `yaml:"link" form:"url" doc:"address of the console as people reach it, for links in notifications; empty: that of the admin listener"`
	GroupBy       []string              `yaml:"group_by" default:"alert" enum:"alert|severity|objective|route|pool|endpoint|listener|limit|receiver" doc:"alerts that have these labels in common come in one notification; [] puts all in one"`
	GroupWait     time.Duration         `yaml:"group_wait" default:"30s" min:"0s" doc:"how long the first notification of a group waits for more of its kind"`
	GroupInterval time.Duration         `yaml:"group_interval" default:"5m" min:"1s" doc:"time between two notifications of a group whose alerts have changed"`
	Repeat        time.Duration         `yaml:"repeat" default:"4h" min:"1m" doc:"a group that has not changed is told of again after this"`
	Inhibit       []Inhibit             `yaml:"inhibit" doc:"alerts that are not told while others fire, beside what evenkeel leaves out itself"`
	Receivers     []*Receiver           `yaml:"receivers" doc:"who is told; without any, alerts stand in console, API, events and metrics"`
}

// MaxOwnAlerts bounds the expressions that are evaluated at each look.
const MaxOwnAlerts = 100

// OwnAlert is an alert that a site makes itself. Every series that the expression gives is one.
type OwnAlert struct {
	Name     string        `yaml:"name" required:"true" form:"name" doc:"name of the alert; not one that is shipped"`
	Expr     string        `yaml:"expr" required:"true" doc:"PromQL: as long as it gives a series, the alert holds, with the labels of that series"`
	For      time.Duration `yaml:"for" default:"0s" min:"0s" max:"24h" doc:"how long it must hold before it fires"`
	Hold     time.Duration `yaml:"hold" default:"0s" min:"0s" max:"24h" doc:"how long it goes on firing when it does not hold any more: what comes and goes is one alert"`
	Severity string        `yaml:"severity" default:"ticket" enum:"page|ticket" doc:"page: somebody should look now; ticket: on a working day"`
	Summary  string        `yaml:"summary" required:"true" doc:"one sentence without figures, for who is told"`
	Runbook  string        `yaml:"runbook" form:"page" doc:"page that says what to do"`
}

// AlertRule changes a shipped alert.
type AlertRule struct {
	Off       bool          `yaml:"off" doc:"do not look for it"`
	Severity  string        `yaml:"severity" enum:"|page|ticket" doc:"instead of the shipped severity"`
	For       time.Duration `yaml:"for" default:"0s" min:"0s" doc:"how long it must hold before it fires; 0s: as shipped"`
	Threshold Percent       `yaml:"threshold" default:"0%" min:"0%" max:"100%" doc:"share at which it holds, where it has one; 0%: as shipped"`
	Within    time.Duration `yaml:"within" default:"0s" min:"0s" doc:"how long before the end of a certificate; 0s: as shipped"`
}

// Inhibit leaves out alerts while others fire.
type Inhibit struct {
	Source string   `yaml:"source" required:"true" doc:"the alert that fires"`
	Target string   `yaml:"target" required:"true" doc:"the alert that is not told then"`
	Equal  []string `yaml:"equal" enum:"severity|objective|route|pool|endpoint|listener|limit" doc:"labels that both must have in common"`
}

// Receiver is somebody who is told. Exactly one of its kinds is set.
type Receiver struct {
	Name         string          `yaml:"name" required:"true" form:"name" doc:"name shown in metrics and logs"`
	Severities   []string        `yaml:"severities" enum:"page|ticket" doc:"only alerts of these severities; empty: all"`
	Alerts       []string        `yaml:"alerts" doc:"only these alerts; empty: all but watchdog"`
	Resolved     bool            `yaml:"resolved" default:"true" doc:"tell too when an alert is over"`
	Alertmanager *ToAlertmanager `yaml:"alertmanager" doc:"Alertmanager, by its API v2; it groups and repeats itself"`
	Webhook      *ToWebhook      `yaml:"webhook" doc:"HTTP POST of JSON"`
	Slack        *ToSlack        `yaml:"slack" doc:"Slack, by an incoming webhook"`
	Teams        *ToTeams        `yaml:"teams" doc:"Microsoft Teams, by a workflow that posts adaptive cards"`
	PagerDuty    *ToPagerDuty    `yaml:"pagerduty" doc:"PagerDuty, by its Events API v2"`
	Email        *ToEmail        `yaml:"email" doc:"e-mail by SMTP"`
	Exec         *ToExec         `yaml:"exec" doc:"a program of this machine"`
}

// ToAlertmanager is where an Alertmanager listens.
type ToAlertmanager struct {
	URL   string `yaml:"url" required:"true" form:"url" doc:"its address, such as http://alertmanager.internal:9093"`
	Token Secret `yaml:"token" doc:"bearer token to show"`
}

// ToWebhook is where JSON is sent.
type ToWebhook struct {
	URL    string `yaml:"url" required:"true" form:"url" doc:"where to send it"`
	Format string `yaml:"format" default:"alertmanager" enum:"alertmanager|azure" doc:"alertmanager: version 4 of its webhook; azure: the common alert schema of Azure Monitor, one message for each alert"`
	Token  Secret `yaml:"token" doc:"bearer token to show"`
}

// ToSlack is a Slack channel.
type ToSlack struct {
	URL Secret `yaml:"url" required:"true" doc:"address of the incoming webhook; who knows it can write to the channel"`
}

// ToTeams is a Teams channel or chat.
type ToTeams struct {
	URL Secret `yaml:"url" required:"true" doc:"address of the workflow; who knows it can write to the channel"`
}

// ToPagerDuty is a PagerDuty service.
type ToPagerDuty struct {
	Key Secret `yaml:"key" required:"true" doc:"integration key of the service"`
	URL string `yaml:"url" form:"url" default:"https://events.pagerduty.com/v2/enqueue" doc:"where events are sent"`
}

// ToEmail is people with mailboxes.
type ToEmail struct {
	Server   string   `yaml:"server" required:"true" form:"address" doc:"host:port of the mail server"`
	From     string   `yaml:"from" required:"true" form:"mailbox" doc:"sender"`
	To       []string `yaml:"to" required:"true" form:"mailbox" doc:"who gets it"`
	User     string   `yaml:"user" doc:"user name at the server; empty: without authentication"`
	Password Secret   `yaml:"password" doc:"password at the server; only sent over TLS, or to loopback"`
	TLS      string   `yaml:"tls" default:"starttls" enum:"starttls|tls|off" doc:"starttls: begin without and demand it; tls: from the first byte; off: plain text"`
}

// ToExec is a program. It gets the notification as JSON (version 4 of Alertmanager's webhook) on standard input.
type ToExec struct {
	Command []string      `yaml:"command" required:"true" doc:"program and arguments, started without a shell"`
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"10ms" max:"5m" doc:"it is ended after this"`
}

func checkURL(s string) (string, error) {
	if s == "" {
		return s, nil
	}
	if !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") {
		return s, fmt.Errorf("%s is no URL; write http://host:port or https://host/path", quote(s))
	}
	return checkPlace(s)
}

// checkPage takes a URL that people open, which may lead to a place within a page.
func checkPage(s string) (string, error) {
	page, place, in := strings.Cut(s, "#")
	u, err := checkURL(page)
	if err != nil || !in {
		return u, err
	}
	return u + "#" + place, nil
}

// checkMailbox takes addresses without a name: what is shown is the mail program's business.
func checkMailbox(s string) (string, error) {
	user, host, ok := strings.Cut(s, "@")
	if !ok || user == "" || strings.ContainsAny(s, " \t\r\n<>\",;:()[]\\") {
		return s, fmt.Errorf("%s is no mail address; write name@host, without brackets and further names", quote(s))
	}
	return s, hostName(host)
}

// alertNames are the names of AlertNames.
func alertNames() (names []string) {
	for _, one := range AlertNames {
		names = append(names, one.Name)
	}
	return names
}

// alerts checks what alerts, rules and receivers name.
func (c *checker) alerts() {
	a := c.site.Alerts
	names := alertNames()
	shipped := len(names)
	names = c.ownAlerts(names)
	known := func(path, name string) {
		if !slices.Contains(names, name) && !c.bad[path] {
			c.wrong(path, "there is no alert %s%s", quote(name), didYouMean(name, names))
		}
	}
	for name, rule := range a.Rules {
		path := join("alerts.rules", name)
		if slices.Contains(names[shipped:], name) {
			c.wrong(path, "is an alert of alerts.own; say there what is to be otherwise")
			continue
		}
		known(path, name)
		for _, one := range AlertNames {
			switch {
			case one.Name != name || c.suspect(path):
			case rule.Threshold > 0 && !one.Threshold:
				c.wrong(path+".threshold", "has no effect on %s, which has none", name)
			case rule.Within > 0 && !one.Within:
				c.wrong(path+".within", "has no effect on %s, which is about no certificate", name)
			}
		}
	}
	for i, in := range a.Inhibit {
		path := fmt.Sprintf("alerts.inhibit[%d]", i)
		known(path+".source", in.Source)
		known(path+".target", in.Target)
		if in.Source == in.Target && !c.suspect(path) {
			c.wrong(path+".target", "is the source itself")
		}
	}
	seen := map[string]string{}
	for i, r := range a.Receivers {
		path := fmt.Sprintf("alerts.receivers[%d]", i)
		c.once(seen, r.Name, path)
		for j, name := range r.Alerts {
			known(fmt.Sprintf("%s.alerts[%d]", path, j), name)
		}
		if !c.suspect(path) {
			c.receiver(r, path)
		}
	}
}

// ownAlerts checks the alerts that a site makes itself, and adds their names to those that are shipped.
func (c *checker) ownAlerts(shipped []string) (names []string) {
	own := c.site.Alerts.Own
	names = shipped
	if len(own) > MaxOwnAlerts {
		c.wrong("alerts.own", "has %d alerts; allowed are %d", len(own), MaxOwnAlerts)
	}
	if len(own) > 0 && c.site.Monitor.Off && !c.suspect("monitor") {
		c.wrong("alerts.own", "looks at the history, and monitor.off is true; leave out one of them")
	}
	seen := map[string]string{}
	for i, o := range own {
		path := fmt.Sprintf("alerts.own[%d]", i)
		if c.suspect(path) {
			continue
		}
		if slices.Contains(shipped, o.Name) {
			c.wrong(path+".name", "%s is an alert that evenkeel ships; alerts.rules changes it", quote(o.Name))
			continue
		}
		c.once(seen, o.Name, path)
		names = append(names, o.Name)
	}
	return names
}

func (c *checker) receiver(r *Receiver, path string) {
	var kinds []string
	for _, k := range []struct {
		set  bool
		name string
	}{
		{r.Alertmanager != nil, "alertmanager"}, {r.Webhook != nil, "webhook"}, {r.Slack != nil, "slack"}, {r.Teams != nil, "teams"},
		{r.PagerDuty != nil, "pagerduty"}, {r.Email != nil, "email"}, {r.Exec != nil, "exec"},
	} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) == 0:
		c.wrong(path, "tells nobody; give alertmanager, webhook, slack, teams, pagerduty, email or exec")
		return
	case len(kinds) > 1:
		c.wrong(path, "says %s; a receiver is one of them", strings.Join(kinds, " and "))
		return
	}
	if r.Slack != nil {
		c.secretURL(string(r.Slack.URL), path+".slack.url")
	}
	if r.Teams != nil {
		c.secretURL(string(r.Teams.URL), path+".teams.url")
	}
	if e := r.Email; e != nil {
		switch {
		case e.User == "" && e.Password != "":
			c.wrong(path+".email.password", "has no effect without user")
		case e.User != "" && e.TLS == "off" && !loopback(e.Server):
			c.wrong(path+".email.tls", "the password would travel in plain text; write tls: starttls or tls: tls")
		}
	}
}

// secretURL checks an address that must not be shown.
func (c *checker) secretURL(s, path string) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		c.wrong(path, "the secret is no URL; it begins with https://")
	}
}
