package console

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// needsShown is how many objectives and alerts stand in the terminal view beside everything else; the rest is counted.
const needsShown = 4

// Needs is what a node promised, and what needs a person now.
type Needs struct {
	Objectives []Objective
	Firing     []Alert // pages first
}

// Needs asks the node.
func (c *Client) Needs(ctx context.Context) (n Needs, err error) {
	o, err := c.Objectives(ctx)
	if err != nil {
		return n, err
	}
	a, err := c.Alerts(ctx)
	n.Objectives = o.Objectives
	for _, one := range a.Alerts {
		if one.State == "firing" && one.Severity != "none" && !one.Sample {
			n.Firing = append(n.Firing, one)
		}
	}
	return n, err
}

// NeedsText writes n behind what Plain writes. A node that promised nothing, and of which nothing needs a person, has no more to say.
func NeedsText(w io.Writer, n Needs) error {
	var b strings.Builder
	if len(n.Objectives) > 0 {
		b.WriteString("\nobjectives\n")
		objectiveGrid(n.Objectives).write(&b, "  ")
	}
	if len(n.Firing) > 0 {
		b.WriteString("\nalerts\n")
		alertGrid(n.Firing).write(&b, "  ")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func objectiveGrid(list []Objective) grid {
	g := grid{head: []string{"name", "target", "over", "good", "budget left", "burn", "state"}, right: []bool{false, true, false, false, true, true, false}}
	for _, o := range list {
		g.add(o.Name, shareText(o.Target), o.Window, goodText(o), budgetText(o.Left), burnText(o.BurnRate), o.State)
	}
	return g
}

func alertGrid(list []Alert) grid {
	g := grid{head: []string{"alert", "severity", "since", "about", "text"}, right: make([]bool, 5)}
	for _, a := range list {
		since := a.Since
		if !a.Fired.IsZero() {
			since = a.Fired
		}
		g.add(a.Name, a.Severity, since.Format("15:04:05"), a.about(), a.Text)
	}
	return g
}

// about is what an alert is about, and who keeps it quiet.
func (a Alert) about() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		parts = append(parts, k+" "+a.Labels[k])
	}
	if len(a.Silences) > 0 {
		parts = append(parts, "silenced")
	}
	if a.Inhibited != "" {
		parts = append(parts, "left out by "+a.Inhibited)
	}
	return strings.Join(parts, ", ")
}

// needLines are what stands on top of the terminal view: what fires, and how much of each error budget is left.
func (m top) needLines() (lines []string) {
	for _, a := range m.needs.Firing[:min(len(m.needs.Firing), needsShown)] {
		mood := "warn"
		if a.Severity == "page" {
			mood = "bad"
		}
		if len(a.Silences) > 0 || a.Inhibited != "" {
			mood = "calm"
		}
		text := "▲ " + a.Name
		if about := a.about(); about != "" {
			text += " (" + about + ")"
		}
		lines = append(lines, m.ink.tones[mood].Render(clip(clean(text+": "+a.Text), m.width)))
	}
	if more := len(m.needs.Firing) - needsShown; more > 0 {
		lines = append(lines, m.ink.soft.Render(clip(fmt.Sprintf("  and %d more alerts: evenkeel alert list", more), m.width)))
	}
	shown := m.needs.Objectives
	if len(shown) > needsShown { // those with the least left
		shown = slices.SortedStableFunc(slices.Values(shown), func(a, b Objective) int { return cmp.Compare(a.Left, b.Left) })[:needsShown]
	}
	for _, o := range shown {
		mood := map[string]string{StateKept: "good", StateBurning: "warn", StatePaging: "bad", StateSpent: "bad"}[o.State]
		text := fmt.Sprintf("%s of %s: %s of its error budget left, burns %s", o.Name, shareText(o.Target), budgetText(o.Left), burnText(o.BurnRate))
		lines = append(lines, clip(bar(o.Left, 8), m.width)+" "+m.ink.tones[mood].Render(clip(clean(text), m.width-9)))
	}
	if more := len(m.needs.Objectives) - len(shown); more > 0 {
		lines = append(lines, m.ink.soft.Render(clip(fmt.Sprintf("  and %d more objectives: evenkeel slo", more), m.width)))
	}
	if len(lines) > 0 {
		lines = append(lines, "")
	}
	return lines
}
