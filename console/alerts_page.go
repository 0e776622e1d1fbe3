package console

import (
	"encoding/json"
	"net/http"
	"net/url"
)

// alertsShown is what the templates of the page about alerts see.
type alertsShown struct {
	shown
	Trouble string
	Firing  []Alert // and pending
	Quiet   []Silence
	Told    []AlertReceiver
	Rules   []AlertRule
	Error   string     // of the form
	Asked   url.Values // that was sent with it
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

// alertsPageRoutes serves the page about alerts.
func (c *console) alertsPageRoutes(serve func(method, path string, h http.HandlerFunc)) {
	serve("GET", "/alerts", func(w http.ResponseWriter, _ *http.Request) {
		c.html(w, http.StatusOK, "alerts.html", c.shownAlerts(c.now()))
	})
	serve("GET", "/live/alerts", func(w http.ResponseWriter, r *http.Request) {
		c.stream(w, r, "page", func() ([]byte, error) {
			html, err := c.pages.part("alertlist", c.shownAlerts(c.now()))
			if err != nil {
				return nil, err
			}
			return json.Marshal(string(html))
		})
	})
}

// shownAlerts makes a view ready for the page about alerts.
func (c *console) shownAlerts(v View) alertsShown {
	a := c.alertsNow()
	s := alertsShown{shown: c.shown(v), Trouble: a.Trouble, Told: a.Receivers, Rules: a.Rules}
	s.Place = "alerts"
	for _, one := range a.Alerts {
		if one.State != "resolved" && len(s.Firing) < alertRows {
			s.Firing = append(s.Firing, one)
		}
	}
	for _, x := range a.Silences {
		if v.At.Before(x.End) {
			s.Quiet = append(s.Quiet, x)
		}
	}
	return s
}
