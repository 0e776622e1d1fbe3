package receiver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/site"
)

// chatAlerts is how many alerts one message in a chat lists.
const chatAlerts = 10

// object is JSON of a shape that another program defines.
type object map[string]any

// slack sends blocks: a header, one section for each alert, and links.
func (p poster) slack(address string) Sender {
	return func(ctx context.Context, s Site, n alert.Notification) error {
		head := title(s, n)
		blocks := []object{{"type": "header", "text": object{"type": "plain_text", "text": cut(head, 150)}}}
		list, more := shown(n, chatAlerts)
		for _, a := range list {
			text := fmt.Sprintf("%s *%s* %s\n<%s|what to do> · <%s|console>", sign(a), slackText(a.Name), slackText(strings.TrimPrefix(line(a), a.Name)), a.Page(), s.Link+a.Link)
			blocks = append(blocks, object{"type": "section", "text": object{"type": "mrkdwn", "text": cut(text, 3000)}})
		}
		if more > 0 {
			blocks = append(blocks, object{"type": "context", "elements": []object{{"type": "mrkdwn", "text": fmt.Sprintf("and %d more", more)}}})
		}
		return p.post(ctx, address, "", object{"text": head, "blocks": blocks})
	}
}

// slackText takes away what Slack reads as mark-up.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// sign says the severity to who skims.
func sign(a alert.Alert) string {
	switch {
	case a.State == alert.Resolved:
		return "✅"
	case a.Severity == alert.Page:
		return "🔴"
	}
	return "🟡"
}

// cut keeps within what a receiver takes.
func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}

// teams sends an adaptive card, as workflows post them. The older connectors do not exist any more.
func (p poster) teams(address string) Sender {
	return func(ctx context.Context, s Site, n alert.Notification) error {
		color := "attention"
		if n.Status == alert.Resolved {
			color = "good"
		}
		body := []object{{"type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": true, "color": color, "text": title(s, n)}}
		list, more := shown(n, chatAlerts)
		for _, a := range list {
			body = append(body, object{"type": "TextBlock", "wrap": true, "text": sign(a) + " " + line(a)})
		}
		if more > 0 {
			body = append(body, object{"type": "TextBlock", "isSubtle": true, "text": fmt.Sprintf("and %d more", more)})
		}
		return p.post(ctx, address, "", object{"type": "message", "attachments": []object{{
			"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil,
			"content": object{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body,
				"actions": []object{
					{"type": "Action.OpenUrl", "title": "What to do", "url": n.Alerts[0].Page()},
					{"type": "Action.OpenUrl", "title": "Console", "url": s.Link + n.Alerts[0].Link},
				}},
		}}})
	}
}

// pagerDuty sends one event for each alert; its id ties the end to the beginning.
func (p poster) pagerDuty(to *site.ToPagerDuty) Sender {
	return func(ctx context.Context, s Site, n alert.Notification) error {
		return each(n, func(a alert.Alert) error {
			e := object{"routing_key": string(to.Key), "event_action": "trigger", "dedup_key": s.Name + "/" + fingerprint(a), "client": "evenkeel", "client_url": s.Link,
				"links": []object{{"href": a.Page(), "text": "What to do"}}}
			if a.State == alert.Resolved {
				e["event_action"] = "resolve"
			}
			severity := map[string]string{alert.Page: "critical", alert.Ticket: "warning"}[a.Severity]
			if severity == "" {
				severity = "info"
			}
			e["payload"] = object{"summary": cut("["+s.Name+"] "+line(a), 1024), "source": s.Name, "severity": severity, "timestamp": a.Fired.UTC().Format(time.RFC3339),
				"class": a.Name, "custom_details": a.Labels}
			return p.post(ctx, to.URL, "", e)
		})
	}
}

// azure sends the common alert schema of Azure Monitor, which takes one alert at a time.
func (p poster) azure(to *site.ToWebhook) Sender {
	return func(ctx context.Context, s Site, n alert.Notification) error {
		return each(n, func(a alert.Alert) error {
			condition, severity := "Fired", map[string]string{alert.Page: "Sev1", alert.Ticket: "Sev3"}[a.Severity]
			if severity == "" {
				severity = "Sev4"
			}
			essentials := object{"alertId": "/evenkeel/" + s.Name + "/alerts/" + fingerprint(a), "alertRule": a.Name, "severity": severity, "signalType": "Metric",
				"monitoringService": "evenkeel", "alertTargetIDs": []string{}, "configurationItems": []string{s.Name}, "originAlertId": fingerprint(a),
				"firedDateTime": a.Fired.UTC().Format(time.RFC3339Nano), "description": line(a), "essentialsVersion": "1.0", "alertContextVersion": "1.0",
				"investigationLink": s.Link + a.Link}
			if a.State == alert.Resolved {
				condition = "Resolved"
				essentials["resolvedDateTime"] = a.Ended.UTC().Format(time.RFC3339Nano)
			}
			essentials["monitorCondition"] = condition
			return p.post(ctx, to.URL, to.Token, object{"schemaId": "azureMonitorCommonAlertSchema", "data": object{"essentials": essentials,
				"alertContext":     object{"summary": a.Summary, "labels": a.Labels, "runbook": a.Page()},
				"customProperties": object{"site": s.Name, "sample": fmt.Sprint(a.Sample)}}})
		})
	}
}
