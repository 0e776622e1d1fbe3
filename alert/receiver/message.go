// Package receiver tells people and programs of alerts in their own languages, each with a bounded queue of its own.
package receiver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/alert"
)

// Site is what every message says of where it comes from.
type Site struct {
	Name string // of the site
	Link string // of the console, without a slash at its end
}

// message is a notification in the shape of version 4 of Alertmanager's webhook, which most programs understand.
type message struct {
	Version           string            `json:"version"`
	GroupKey          string            `json:"groupKey"`
	TruncatedAlerts   int               `json:"truncatedAlerts"`
	Status            string            `json:"status"`
	Receiver          string            `json:"receiver"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	ExternalURL       string            `json:"externalURL"`
	Alerts            []messageAlert    `json:"alerts"`
}

// messageAlert is one alert of it.
type messageAlert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

// mostAlerts is how many alerts one message carries; the rest is only counted.
const mostAlerts = 50

// newMessage makes the message for a notification.
func newMessage(s Site, n alert.Notification) message {
	m := message{Version: "4", GroupKey: n.Group, Status: n.Status, Receiver: n.Receiver, ExternalURL: s.Link, GroupLabels: map[string]string{}}
	for l, v := range n.Labels {
		m.GroupLabels[promLabel(l)] = v
	}
	m.TruncatedAlerts = max(0, len(n.Alerts)-mostAlerts)
	for _, a := range n.Alerts[:len(n.Alerts)-m.TruncatedAlerts] {
		m.Alerts = append(m.Alerts, newMessageAlert(s, a))
	}
	m.CommonLabels, m.CommonAnnotations = maps.Clone(m.Alerts[0].Labels), maps.Clone(m.Alerts[0].Annotations)
	for _, a := range m.Alerts[1:] {
		maps.DeleteFunc(m.CommonLabels, func(k, v string) bool { return a.Labels[k] != v })
		maps.DeleteFunc(m.CommonAnnotations, func(k, v string) bool { return a.Annotations[k] != v })
	}
	return m
}

func newMessageAlert(s Site, a alert.Alert) messageAlert {
	m := messageAlert{Status: a.State, Labels: map[string]string{"alertname": a.Name, "severity": a.Severity, "site": s.Name}, StartsAt: a.Fired, EndsAt: a.Ended,
		Annotations: map[string]string{"summary": a.Summary, "runbook_url": a.Page()}, GeneratorURL: s.Link + a.Link, Fingerprint: fingerprint(a)}
	for l, v := range a.Labels {
		m.Labels[promLabel(l)] = v
	}
	if a.Text != "" {
		m.Annotations["description"] = a.Text
	}
	return m
}

// promLabel is a label as Prometheus calls it.
func promLabel(l string) string {
	if l == "alert" {
		return "alertname"
	}
	return l
}

// title is one line about a notification.
func title(s Site, n alert.Notification) string {
	firing := 0
	for _, a := range n.Alerts {
		if a.State == alert.Firing {
			firing++
		}
	}
	text := fmt.Sprintf("[%s] ", s.Name)
	switch {
	case firing > 0 && n.Alerts[0].Severity == alert.Page:
		text += "PAGE: "
	case firing == 0:
		text += "over: "
	}
	text += n.Alerts[0].Summary
	if about := aboutAlert(n.Alerts[0]); about != "" && len(n.Alerts) == 1 {
		text += " (" + about + ")"
	}
	if len(n.Alerts) > 1 {
		text += fmt.Sprintf(" and %d more", len(n.Alerts)-1)
	}
	return text
}

// aboutAlert is what an alert is about, in words.
func aboutAlert(a alert.Alert) string {
	var parts []string
	for _, l := range slices.Sorted(maps.Keys(a.Labels)) {
		parts = append(parts, l+" "+a.Labels[l])
	}
	return strings.Join(parts, ", ")
}

// line is one alert in a sentence or two.
func line(a alert.Alert) string {
	text := a.Name
	if about := aboutAlert(a); about != "" {
		text += " (" + about + ")"
	}
	if a.State == alert.Resolved {
		return text + ": over since " + a.Ended.UTC().Format("15:04:05 UTC")
	}
	if a.Text != "" {
		return text + ": " + a.Text
	}
	return text + ": " + a.Summary
}

// shown are the alerts of a notification that a message for people has room for, and how many there are beside them.
func shown(n alert.Notification, most int) (list []alert.Alert, more int) {
	more = max(0, len(n.Alerts)-most)
	return n.Alerts[:len(n.Alerts)-more], more
}
