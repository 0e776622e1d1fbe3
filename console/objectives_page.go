package console

import (
	"net/http"
	"strings"
)

// objectivesShown is what the template of the page about objectives sees.
type objectivesShown struct {
	shown
	Promised Objectives
	Word     string // for all of them
	Tone     string
	Why      string
	History  *pasts
}

// showObjectives makes a view ready for the page about objectives.
func (c *console) showObjectives(on shown, r *http.Request) any {
	s := objectivesShown{shown: on, Promised: c.objectivesNow()}
	s.Word, s.Tone, s.Why = s.Promised.judge()
	if len(s.Promised.Objectives) > 0 {
		s.History = c.pasts(on, r,
			drawing{id: "budgets", name: "Error budget left", unit: "%", asks: []asks{{expr: `evenkeel_slo_budget_left`, by: "objective"}}},
			drawing{id: "burning", name: "Burn rate over an hour", asks: []asks{{expr: `evenkeel_slo_burn_rate{window="1h"}`, by: "objective"}}})
	}
	return s
}

// judge says how it stands with all promises, and in one sentence why.
func (o Objectives) judge() (word, tone, why string) {
	by := map[string][]string{}
	for _, one := range o.Objectives {
		by[one.State] = append(by[one.State], one.Name)
	}
	switch {
	case len(o.Objectives) == 0:
		return "nothing promised", "calm", "The site file names no objectives: write some under objectives, and their budgets are counted from then on."
	case len(by[StatePaging]) > 0:
		return "▲ burning fast", "bad", "The budget of " + strings.Join(by[StatePaging], ", ") + " burns so fast that somebody should look now."
	case len(by[StateBurning]) > 0:
		return "▲ burning", "warn", "The budget of " + strings.Join(by[StateBurning], ", ") + " burns faster than it may."
	case len(by[StateSpent]) > 0:
		return "▲ spent", "warn", "The budget of " + strings.Join(by[StateSpent], ", ") + " is spent, and does not burn now."
	}
	return "● kept", "good", "Every promise is kept, and no budget burns faster than it may."
}

// objectiveWord is a state with its sign, and its colour.
func objectiveWord(state string) (word, tone string) {
	switch state {
	case StatePaging:
		return "▲ burning fast", "bad"
	case StateBurning:
		return "▲ burning", "warn"
	case StateSpent:
		return "▲ spent", "warn"
	}
	return "● kept", "good"
}

// Acts says what the budget's policy asks for.
func (o Objective) Acts() string { return o.acts() }

// WindowWords says over which time the target holds.
func (o Objective) WindowWords() string {
	switch o.Window {
	case "day", "week", "month", "quarter", "year":
		return "this " + o.Window
	}
	return "last " + o.Window
}

// About says what an alert is about.
func (a Alert) About() string { return matchersText(a.Labels) }

// Match says the conditions of a silence in words.
func (x Silence) Match() string { return matchersText(x.Matchers) }
