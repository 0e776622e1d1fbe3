package console

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// ObjectivesText writes objectives for a terminal.
func ObjectivesText(w io.Writer, o Objectives) error {
	if len(o.Objectives) == 0 {
		_, err := fmt.Fprintln(w, "no objectives: the site file promises nothing")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "OBJECTIVE\tTARGET\tOVER\tGOOD\tBUDGET LEFT\tBURN\tSTATE")
	for _, one := range o.Objectives {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", clean(one.Name), shareText(one.Target), one.Window, goodText(one), budgetText(one.Left), burnText(one.BurnRate), one.State)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for _, one := range o.Objectives {
		fmt.Fprintf(&b, "\n%s: %s, %s\n", clean(one.Name), clean(one.About), one.Good)
		for _, a := range one.Alerts {
			fmt.Fprintf(&b, "  %s\n", a.sentence())
		}
		if one.SpentInS > 0 {
			fmt.Fprintf(&b, "  at this rate the budget is spent in %s\n", spanText(seconds(one.SpentInS)))
		}
		if acts := one.acts(); acts != "" {
			fmt.Fprintf(&b, "  %s\n", acts)
		}
	}
	if o.Trouble != "" {
		fmt.Fprintf(&b, "\n%s\n", clean(o.Trouble))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shareText is a share with as many decimals as a target has.
func shareText(v float64) string {
	s := strconv.FormatFloat(100*v, 'f', 4, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "%"
}

// goodText is what was good: cut, not rounded, so that 100 % means all.
func goodText(o Objective) string {
	if o.Total == 0 {
		return "nothing came"
	}
	cut := float64(int64(o.Indicator*1e6)) / 1e6
	return fmt.Sprintf("%s of %s", shareText(cut), countText(o.Total))
}

func budgetText(left float64) string { return strconv.FormatFloat(100*left, 'f', 1, 64) + "%" }

// burnText is a burn rate with as many decimals as say something.
func burnText(rate float64) string {
	places := 2
	if rate >= 100 {
		places = 0
	}
	s := strconv.FormatFloat(rate, 'f', places, 64)
	if places > 0 {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s + "x"
}

// windowText is the length of a window.
func windowText(s float64) string { return spanText(seconds(s)) }

// sentence says what an alert is due at, how it stands, and how long it takes to see an outage.
func (b BurnRate) sentence() string {
	text := fmt.Sprintf("%s at %s over %s and %s", b.Severity, burnText(b.Factor), windowText(b.LongS), windowText(b.ShortS))
	if !b.CanFire {
		return text + ": never due, the target allows so many bad"
	}
	text += fmt.Sprintf(": now %s and %s", burnText(b.LongRate), burnText(b.ShortRate))
	switch {
	case b.Due:
		text += ", due since " + b.Since.Local().Format("2006-01-02 15:04:05")
	case b.HeldBack:
		text += fmt.Sprintf(", held back: only %d bad", b.Bad)
	}
	return text + "; sees a total outage in " + detectText(b.OutageS)
}

// detectText is how long an outage goes unseen.
func detectText(s float64) string {
	if s < 120 {
		return strconv.FormatFloat(s, 'f', 1, 64) + "s"
	}
	return spanText(seconds(s))
}

// acts says what the budget's policy asks for.
func (o Objective) acts() string {
	var all []string
	if o.Freeze {
		all = append(all, "changes should wait")
	}
	if o.Tighten {
		all = append(all, "low requests are refused")
	}
	if o.Abort {
		all = append(all, "experiments should end")
	}
	return strings.Join(all, ", ")
}

// AlertsText writes alerts, silences and receivers for a terminal.
func AlertsText(w io.Writer, a Alerts) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	shown := 0
	for _, one := range a.Alerts {
		if one.State == "resolved" {
			continue
		}
		if shown++; shown == 1 {
			fmt.Fprintln(t, "ALERT\tSEVERITY\tSTATE\tSINCE\tWHAT")
		}
		state := one.State
		switch {
		case len(one.Silences) > 0:
			state += ", silenced by " + strings.Join(one.Silences, " ")
		case one.Inhibited != "":
			state += ", left out for " + one.Inhibited
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", clean(one.name()), one.Severity, state, one.Since.Local().Format("01-02 15:04:05"), clean(one.Text))
	}
	if shown == 0 {
		fmt.Fprintln(t, "no alert is pending or fires")
	}
	for _, x := range a.Silences {
		if a.At.Before(x.End) {
			fmt.Fprintf(t, "silence %s of %s until %s, by %s: %s\n", x.ID, clean(matchersText(x.Matchers)), x.End.Local().Format("2006-01-02 15:04:05"), clean(or(x.By, "nobody named")), clean(x.Comment))
		}
	}
	for _, r := range a.Receivers {
		fmt.Fprintf(t, "receiver %s, %s: %d told, %d waiting, %d lost", clean(r.Name), r.Kind, r.Sent, r.Waiting, r.Lost)
		if r.Trouble != "" {
			fmt.Fprintf(t, "; %s", clean(r.Trouble))
		}
		fmt.Fprintln(t)
	}
	if a.Trouble != "" {
		fmt.Fprintln(t, clean(a.Trouble))
	}
	return t.Flush()
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// SilencesText writes silences for a terminal.
func SilencesText(w io.Writer, list []Silence) error {
	if len(list) == 0 {
		_, err := io.WriteString(w, "nothing is silenced\n")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SILENCE\tUNTIL\tOF\tBY\tWHY")
	for _, x := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.ID, x.End.Local().Format("2006-01-02 15:04:05"), clean(matchersText(x.Matchers)), clean(or(x.By, "nobody named")), clean(x.Comment))
	}
	return t.Flush()
}

// AccessText writes who is in and who did what for a terminal.
func AccessText(w io.Writer, a Access) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "you are %s, role %s, by %s\n", clean(a.You.Name), a.You.Role, a.You.Via)
	for i, s := range a.Sessions {
		if i == 0 {
			fmt.Fprintln(t, "\nSESSION\tWHO\tROLE\tBY\tFROM\tSEEN\tENDS")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, clean(s.Name), s.Role, s.Via, clean(s.From), s.Seen.Local().Format("01-02 15:04:05"), s.End.Local().Format("01-02 15:04:05"))
	}
	for i, x := range a.Actions {
		if i == 0 {
			fmt.Fprintln(t, "\nWHEN\tWHO\tROLE\tFROM\tWHAT\tRESULT")
		}
		result := "done"
		if !x.OK {
			result = "refused, " + clean(x.Reason)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", x.At.Local().Format("01-02 15:04:05"), clean(x.Who), or(x.Role, none), clean(x.From), clean(x.What), result)
	}
	return t.Flush()
}
