package slo

import "time"

// Severities of alerts.
const (
	Page   = "page"   // somebody should look now
	Ticket = "ticket" // somebody should look on a working day
)

// Burn is one pair of windows: an alert is due when the error budget burns Factor times as fast as it may, over the long window so
// that it matters, and over the short one so that it still does.
type Burn struct {
	Severity    string
	Budget      float64 // share of the budget that is spent when the long window has burned at Factor
	Factor      float64
	Long, Short time.Duration
}

// workbook are the windows that the SRE workbook recommends for 30 days, in parts of the window.
var workbook = []struct {
	severity    string
	budget      float64
	long, short time.Duration
}{
	{Page, 0.02, time.Hour, 5 * time.Minute},
	{Page, 0.05, 6 * time.Hour, 30 * time.Minute},
	{Ticket, 0.10, 3 * day, 6 * time.Hour},
}

// Burns are the pairs of windows for an objective: those of the workbook, made longer or shorter with the objective's window, so that
// the factors and the shares of the budget stay the same.
func Burns(w Window) (all []Burn) {
	nominal, _ := w.lengths()
	for _, b := range workbook {
		scale := func(d time.Duration) time.Duration {
			return time.Duration(float64(d) * float64(nominal) / float64(30*day)).Round(time.Second)
		}
		all = append(all, Burn{b.severity, b.budget, b.budget * float64(30*day) / float64(b.long), scale(b.long), scale(b.short)})
	}
	return all
}

// Detects is after how long an alert is due when a share of all events, 0 to 1, turns bad at once and traffic is steady; false: that
// share does not burn fast enough.
func (b Burn) Detects(target, badShare float64) (time.Duration, bool) {
	limit := b.Factor * (1 - target)
	if badShare <= 0 || badShare < limit || limit > 1 {
		return 0, false
	}
	return time.Duration(limit / badShare * float64(b.Long)), true
}
