package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
)

// alertRows is how many alerts a page shows; the rest is in the API.
const alertRows = 50

// alertsShown is what the template of the page about alerts sees.
type alertsShown struct {
	shown
	Trouble  string
	Firing   []Alert // and pending
	Resolved []Alert
	Quiet    []Silence
	Told     []AlertReceiver
	Word     string
	Tone     string
	More     int
	Rules    []AlertRule
	Error    string     // of the form that silences
	Asked    url.Values // that was sent with it
	History  *pasts
}

func (c *console) hasAlerts(View) bool { return c.deps.Alerts != nil }

// showAlerts makes a view ready for the page about alerts.
func (c *console) showAlerts(on shown, r *http.Request) any {
	a := c.alertsNow()
	s := alertsShown{shown: on, Trouble: a.Trouble, Told: a.Receivers, Rules: a.Rules, Word: "● nothing fires", Tone: "good"}
	firing := 0
	for _, one := range a.Alerts {
		if one.State == "firing" {
			firing++
			if s.Tone != "bad" {
				s.Tone = "warn"
			}
			if one.Severity == "page" {
				s.Tone = "bad"
			}
		}
		if one.State == "resolved" {
			s.Resolved = append(s.Resolved, one)
		} else {
			s.Firing = append(s.Firing, one)
		}
	}
	if firing > 0 {
		s.Word = "▲ " + countText(uint64(firing)) + " firing"
	}
	s.More = max(0, len(s.Firing)-alertRows) + max(0, len(s.Resolved)-alertRows)
	s.Firing, s.Resolved = s.Firing[:min(len(s.Firing), alertRows)], s.Resolved[:min(len(s.Resolved), alertRows)]
	for _, x := range a.Silences {
		if on.At.Before(x.End) {
			s.Quiet = append(s.Quiet, x)
		}
	}
	if text, wrong := r.Context().Value(wrongKey{}).(string); wrong {
		s.Error, s.Asked = text, r.Form
	}
	s.History = c.pasts(on, r, drawing{id: "alerts", name: "Alerts that fire", asks: []asks{{expr: `sum by (alert) (evenkeel_alerts{state="firing"} > 0)`, by: "alert"}}})
	return s
}

// wrongKey is where the context of a request holds what is wrong with a silence that was asked for.
type wrongKey struct{}

// silenceWrong shows the page about alerts with what is wrong with the silence that its form asked for.
func (c *console) silenceWrong(w http.ResponseWriter, r *http.Request, text string) {
	p := c.table[slices.IndexFunc(c.table, func(p page) bool { return p.path == "/alerts" })]
	r = r.Clone(context.WithValue(r.Context(), wrongKey{}, text))
	r.URL = &url.URL{Path: p.path}
	part, _, err := c.writePart(r, p, true)
	if err != nil || part == nil {
		problem(w, http.StatusBadRequest, "bad_silence", text)
		return
	}
	c.putPage(w, http.StatusBadRequest, r, p, part)
}

// Ask is what was written into a field of the form.
func (s alertsShown) Ask(field string) string { return s.Asked.Get(field) }

// Hush is where a button posts to that silences one alert for two hours.
func (a Alert) Hush() string {
	q := url.Values{"for": {"2h"}, "match": {"alert=" + a.Name}}
	for label, value := range a.Labels {
		if value != "" {
			q.Add("match", label+"="+value)
		}
	}
	return "/api/v1/alerts/silence?" + q.Encode()
}
