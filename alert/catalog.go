// Package alert decides who is told what needs a person: what is pending, fires and is over, what is grouped, inhibited, silenced and told again.
package alert

import "time"

// Severities of alerts.
const (
	Page   = "page"   // somebody should look now
	Ticket = "ticket" // somebody should look on a working day
	None   = "none"   // nobody need look: it says that alerts work
)

// Rule is one alert that evenkeel ships.
type Rule struct {
	Name     string
	Severity string
	Summary  string        // one sentence, without figures
	For      time.Duration // how long it must hold before it fires
	Hold     time.Duration // how long it goes on firing when it does not hold any more: what comes and goes is one alert
	// Threshold is a share, 0 to 1, and Within a time before an end, for alerts that have them.
	Threshold float64
	Within    time.Duration
	// Expr is the PromQL of an alert that a site makes itself, Runbook the page that says what to do about it; both empty: it is shipped.
	Expr, Runbook string
}

// day is 24 hours: certificates end by the clock, not by the calendar.
const day = 24 * time.Hour

// Names of alerts.
const (
	BurnPage       = "burn-page"
	BurnTicket     = "burn-ticket"
	BudgetSpent    = "budget-spent"
	Many429        = "many-429"
	Many503        = "many-503"
	LimitBreached  = "limit-breached"
	NearCap        = "connections-near-cap"
	AcceptDrops    = "accept-drops"
	PoolCapacity   = "pool-capacity"
	BreakerOpen    = "breaker-open"
	ProbeFlapping  = "probe-flapping"
	ProberSilent   = "prober-silent"
	CertExpiry     = "certificate-expiry"
	CertSoon       = "certificate-expiry-soon"
	ReloadFailed   = "reload-failed"
	SelfOverloaded = "self-overloaded"
	DiskFull       = "disk-full"
	StateNotKept   = "state-not-kept"
	ReceiverFails  = "receiver-failing"
	Watchdog       = "watchdog"
)

// Shipped are all alerts that evenkeel looks for, on by default. docs/alerts.md says of each what to do.
func Shipped() []Rule {
	return []Rule{
		{Name: BurnPage, Severity: Page, Summary: "An error budget burns so fast that it needs somebody now"},
		{Name: BurnTicket, Severity: Ticket, Summary: "An error budget burns faster than it may"},
		{Name: BudgetSpent, Severity: Ticket, Summary: "An error budget is spent"},
		{Name: Many429, Severity: Ticket, For: time.Minute, Hold: time.Minute, Threshold: 0.05, Summary: "Many requests are answered with 429"},
		{Name: Many503, Severity: Page, For: time.Minute, Hold: time.Minute, Threshold: 0.05, Summary: "Many requests are answered with 503"},
		{Name: LimitBreached, Severity: Ticket, For: time.Minute, Hold: time.Minute, Threshold: 0.1, Summary: "A limit or quota refuses much of what it sees"},
		{Name: NearCap, Severity: Ticket, For: time.Minute, Threshold: 0.8, Summary: "Nearly as many connections are open as may be"},
		{Name: AcceptDrops, Severity: Page, Hold: 5 * time.Minute, Summary: "The kernel drops new connections because they are not accepted fast enough"},
		{Name: PoolCapacity, Severity: Page, For: 30 * time.Second, Hold: time.Minute, Threshold: 0.6, Summary: "Too little of a pool's capacity is left"},
		{Name: BreakerOpen, Severity: Page, Hold: time.Minute, Summary: "The breaker of a pool is open: its endpoints are left alone and its requests refused"},
		{Name: ProbeFlapping, Severity: Ticket, Hold: 5 * time.Minute, Summary: "An endpoint is found healthy and sick in turn"},
		{Name: ProberSilent, Severity: Page, For: 30 * time.Second, Summary: "Health is not looked at any more: no probe of a pool has ended for long"},
		{Name: CertExpiry, Severity: Ticket, Within: 21 * day, Summary: "A certificate ends soon"},
		{Name: CertSoon, Severity: Page, Within: 3 * day, Summary: "A certificate ends in days"},
		{Name: ReloadFailed, Severity: Ticket, Summary: "The site file was refused: the node runs on with the old one"},
		{Name: SelfOverloaded, Severity: Page, For: 30 * time.Second, Hold: time.Minute, Summary: "evenkeel itself is overloaded and refuses requests"},
		{Name: DiskFull, Severity: Ticket, Hold: time.Minute, Threshold: 0.05, Summary: "The disk of state_dir is nearly full"},
		{Name: StateNotKept, Severity: Ticket, Summary: "What must outlive a restart cannot be written"},
		{Name: ReceiverFails, Severity: Ticket, For: 2 * time.Minute, Summary: "Somebody who is to be told of alerts cannot be reached"},
		{Name: Watchdog, Severity: None, Summary: "Alerts work: this one always fires, for receivers that wake somebody when it stops"},
	}
}

// Inhibition leaves out Target while Source fires and both have the labels Equal in common.
type Inhibition struct {
	Source, Target string
	Equal          []string
}

// ShippedInhibitions are what nobody needs to be told twice.
func ShippedInhibitions() []Inhibition {
	return []Inhibition{
		{BurnPage, BurnTicket, []string{"objective"}},
		{BurnPage, BudgetSpent, []string{"objective"}},
		{BurnTicket, BudgetSpent, []string{"objective"}},
		{CertSoon, CertExpiry, []string{"listener", "host"}},
		{ProberSilent, PoolCapacity, []string{"pool"}},
		{DiskFull, StateNotKept, nil},
	}
}

// Runbook is where docs/alerts.md says what to do about an alert.
func Runbook(name string) string {
	return "https://github.com/even-keel/evenkeel/blob/main/docs/alerts.md#" + name
}
