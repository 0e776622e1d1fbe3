package console

import "net/http"

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
	History  *pasts
}

func (c *console) hasAlerts(View) bool { return c.deps.Alerts != nil }

// showAlerts makes a view ready for the page about alerts.
func (c *console) showAlerts(on shown, r *http.Request) any {
	a := c.alertsNow()
	s := alertsShown{shown: on, Trouble: a.Trouble, Told: a.Receivers, Word: "● nothing fires", Tone: "good"}
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
	s.History = c.pasts(on, r, drawing{id: "alerts", name: "Alerts that fire", asks: []asks{{expr: `sum by (alert) (evenkeel_alerts{state="firing"} > 0)`, by: "alert"}}})
	return s
}
