package console

import (
	"net/http"
	"strings"
	"time"
)

// What the first page shows of events and alerts.
const (
	overviewEvents = 8
	overviewAlerts = 6
)

// overviewShown is what the first page sees: how much comes and what becomes of it, who is well, what is promised, who has to come.
type overviewShown struct {
	loadShown
	Promised   Objectives
	Firing     []Alert
	MoreFiring int // that are not shown
	Pending    int
	Latest     []Event
	History    *pasts
}

// showOverview makes a view ready for the first page.
func (c *console) showOverview(on shown, r *http.Request) any {
	s := overviewShown{loadShown: c.showLoad(on, r), Promised: c.objectivesNow()}
	for _, a := range c.alertsNow().Alerts {
		switch a.State {
		case "firing":
			s.Firing = append(s.Firing, a)
		case "pending":
			s.Pending++
		}
	}
	s.MoreFiring = max(0, len(s.Firing)-overviewAlerts)
	s.Firing = s.Firing[:len(s.Firing)-s.MoreFiring]
	s.Latest = fewOfEach(on.Events, overviewEvents, 2)
	s.History = c.pasts(on, r,
		demand(),
		drawing{id: "refusals", name: "Refused by stage", unit: "/s", asks: []asks{{expr: `sum by (stage) (rate(evenkeel_refused_total[$w]))`, by: "stage"}}},
		drawing{id: "answers", name: "Answers by status", unit: "/s", asks: []asks{{expr: `sum by (code) (rate(evenkeel_requests_total[$w]))`, by: "code"}}},
		drawing{id: "latency", name: "Time of requests", unit: "ms", asks: []asks{
			{expr: millis("0.5"), name: "median", kind: "half"},
			{expr: millis("0.99"), name: "99th", kind: "tail"},
		}})
	return s
}

// millis asks for a quantile of latencies: of native histograms where there are any, else, as of an existing Prometheus, of classic ones.
func millis(q string) string {
	return "1000 * (histogram_quantile(" + q + ", sum(rate(evenkeel_request_seconds[$w]))) or histogram_quantile(" + q + ", sum by (le) (rate(evenkeel_request_seconds_bucket[$w]))))"
}

// demand is the chart of what comes, by class.
func demand() drawing {
	return drawing{id: "load", name: "Requests per second by class", unit: "/s", stack: true, asks: []asks{
		{expr: `sum by (class) (rate(evenkeel_requests_total{class="critical"}[$w]))`, name: "critical", kind: "critical"},
		{expr: `sum by (class) (rate(evenkeel_requests_total{class="standard"}[$w]))`, name: "standard", kind: "standard"},
		{expr: `sum by (class) (rate(evenkeel_requests_total{class="low"}[$w]))`, name: "low", kind: "low"},
	}}
}

// fewOfEach are the latest most events, at most so many of a kind: what happens again and again hides nothing else.
func fewOfEach(events []Event, most, each int) (list []Event) {
	seen := map[string]int{}
	for _, e := range events {
		if seen[e.Kind]++; seen[e.Kind] <= each && len(list) < most {
			list = append(list, e)
		}
	}
	return list
}

func wellText(v View) string { text, _ := wellness(v); return text }

func wellTone(v View) string { _, tone := wellness(v); return tone }

// fullText is a share that may be unknown.
func fullText(v float64) string {
	if v < 0 {
		return none
	}
	return percentText(v)
}

// wellness is how many endpoints of all pools take traffic, in words, and its tone.
func wellness(v View) (text, tone string) {
	up, all := 0, 0
	for _, p := range v.Pools {
		up, all = up+upCount(p), all+len(p.Endpoints)
	}
	switch {
	case all == 0:
		return "no endpoints", "calm"
	case up == 1 && all == 1:
		return "its endpoint is up", "good"
	case up == all:
		return "all " + grouped(uint64(all)) + " endpoints up", "good"
	case up == 0:
		return "no endpoint is up", "bad"
	}
	return grouped(uint64(up)) + " of " + grouped(uint64(all)) + " endpoints up", "warn"
}

// poolState is a pool in one word with its shape, and the tone it is shown in.
func poolState(p Pool) (text, tone string) {
	up, hand := upCount(p), ""
	if p.Breaker != nil && !p.Breaker.ByHand.IsZero() {
		hand = " by hand"
	}
	switch {
	case p.Panic:
		return "▲ sick endpoints used too", "bad"
	case len(p.Endpoints) > 0 && up == 0:
		return "▲ nobody is up", "bad"
	case p.Breaker != nil && p.Breaker.Mode == "on" && p.Breaker.State == BreakerOpen:
		return "▲ breaker open" + hand, "bad"
	case up < len(p.Endpoints):
		return "▲ " + grouped(uint64(len(p.Endpoints)-up)) + " not up", "warn"
	case p.Breaker != nil && (p.Breaker.State != BreakerClosed || hand != ""):
		return "◐ breaker " + p.Breaker.State + hand, "warn"
	}
	return "● well", "good"
}

// about says whether an event speaks of a pool: its text has the words "pool NAME".
func (e Event) about(pool string) bool {
	_, rest, found := strings.Cut(e.Text, "pool "+pool)
	return found && (rest == "" || !nameByte(rest[0]))
}

// nameByte says whether a name can go on with b.
func nameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_'
}

// cutText cuts a text that is longer than its room.
func cutText(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// whenText is a moment: the time of day, and the day when it is not today's.
func whenText(now, t time.Time) string {
	if now.Sub(t) < 12*time.Hour {
		return t.Format("15:04:05")
	}
	return t.Format("Jan 2 15:04")
}
