package console

import (
	"net/http"
	"slices"
)

// Check is the probe of one endpoint, and what came of it.
type Check struct {
	Pool     string    `json:"pool"`
	Endpoint string    `json:"endpoint"`
	Probe    string    `json:"probe"` // what is asked, in words
	State    string    `json:"state"`
	Latest   *Verdict  `json:"latest,omitempty"` // nil: none yet
	Good     int       `json:"healthy"`          // of the verdicts of history
	TookMS   float64   `json:"took_ms"`          // mean of them
	History  []Verdict `json:"history"`          // oldest first; at most 32
}

// checks are the probes of all endpoints, those that fail first.
func (v View) checks() []Check {
	list := []Check{}
	for _, p := range v.Pools {
		for _, e := range p.Endpoints {
			one := Check{Pool: p.Name, Endpoint: e.Address, Probe: p.Probe, State: e.State, History: copied(e.History)}
			for i, verdict := range e.History {
				if verdict.Healthy {
					one.Good++
				}
				one.TookMS += verdict.TookMS / float64(len(e.History))
				one.Latest = &e.History[i]
			}
			if p.Probe != "" || len(e.History) > 0 {
				list = append(list, one)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Check) int { return b.urgency() - a.urgency() })
	return list
}

// urgency is 2 for a check that fails now, 1 for one that failed lately.
func (k Check) urgency() int {
	switch {
	case k.Latest != nil && !k.Latest.Healthy:
		return 2
	case k.Good < len(k.History):
		return 1
	}
	return 0
}

// Word is the latest outcome with its shape; Tone is its colour.
func (k Check) Word() string {
	switch {
	case k.Latest == nil:
		return "○ not yet"
	case k.Latest.Void:
		return "○ could not be made"
	case k.Latest.Healthy:
		return "● passes"
	}
	return "▲ fails"
}

// Tone is the colour of Word.
func (k Check) Tone() string {
	switch {
	case k.Latest == nil || k.Latest.Void:
		return "calm"
	case k.Latest.Healthy:
		return "good"
	}
	return "bad"
}

// hasChecks says whether anything is probed.
func hasChecks(v View) bool {
	return slices.ContainsFunc(v.Pools, func(p Pool) bool {
		return len(p.Endpoints) > 0 && p.Probe != "" || slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool { return len(e.History) > 0 })
	})
}

func (c *console) checksTwin(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"checks": c.now().checks()})
}

// showChecks makes a view ready for the page about probes.
func (c *console) showChecks(on shown, r *http.Request) any {
	list := on.checks()
	failing := 0
	for _, one := range list {
		if one.urgency() == 2 {
			failing++
		}
	}
	return struct {
		pastShown
		List          []Check
		Failing, More int
	}{pastShown{on, c.pasts(on, r,
		drawing{id: "check-up", name: "Endpoints that take traffic, by pool", stack: true, asks: []asks{{expr: `sum by (pool) (evenkeel_endpoint_up)`, by: "pool"}}},
		drawing{id: "check-share", name: "Healthy share of capacity", unit: "%", asks: []asks{{expr: `evenkeel_pool_healthy_share`, by: "pool"}}},
	)}, list[:min(len(list), rowLimit)], failing, max(0, len(list)-rowLimit)}
}
