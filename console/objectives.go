package console

import (
	"net/http"
	"time"
)

// Objectives is what the service promised, and how much of it was kept.
type Objectives struct {
	At         time.Time   `json:"at"`
	Trouble    string      `json:"trouble,omitempty"` // why budgets may begin anew with a restart; empty: they do not
	Frozen     bool        `json:"frozen"`            // some budget is spent as far as its policy says: changes should wait
	Objectives []Objective `json:"objectives"`        // in the order of the site file
}

// Objective is one promise.
type Objective struct {
	Name      string     `json:"name"`
	Kind      string     `json:"kind"`
	About     string     `json:"about"`  // whose requests or probes, in words
	Good      string     `json:"good"`   // what is good, in words
	Target    float64    `json:"target"` // 0 to 1
	Window    string     `json:"window"`
	Begin     time.Time  `json:"begin"`
	End       time.Time  `json:"end"` // of a calendar window; of one that rolls it is now
	GoodCount uint64     `json:"good_count"`
	Total     uint64     `json:"total"`
	Indicator float64    `json:"indicator"`   // share that was good, 0 to 1; 1 when there was nothing
	Left      float64    `json:"budget_left"` // share of the error budget; below 0: overspent
	BurnRate  float64    `json:"burn_rate"`   // how many times as fast as it may the budget burns, over the long window of the first alert
	SpentInS  float64    `json:"spent_in_s"`  // when the budget is spent at this rate; 0: not by far
	State     string     `json:"state"`       // kept, burning, paging or spent
	Alerts    []BurnRate `json:"alerts"`
	Freeze    bool       `json:"freeze"`  // changes should wait
	Tighten   bool       `json:"tighten"` // low requests of its pool are refused
	Abort     bool       `json:"abort"`   // experiments should end
	MinBad    uint64     `json:"min_failures"`
}

// States of an objective.
const (
	StateKept    = "kept"
	StateBurning = "burning" // a ticket is due
	StatePaging  = "paging"  // a page is due
	StateSpent   = "spent"   // the budget is used up, but does not burn now
)

// BurnRate is one pair of windows.
type BurnRate struct {
	Severity  string    `json:"severity"`
	Factor    float64   `json:"factor"`
	Budget    float64   `json:"budget"` // share that is spent when the long window burned at the factor
	LongS     float64   `json:"long_s"`
	ShortS    float64   `json:"short_s"`
	LongRate  float64   `json:"long_rate"`
	ShortRate float64   `json:"short_rate"`
	Bad       uint64    `json:"bad"` // in the long window
	Due       bool      `json:"due"`
	Since     time.Time `json:"since,omitzero"`
	HeldBack  bool      `json:"held_back"` // it would be due, but there are fewer bad requests than min_failures
	CanFire   bool      `json:"can_fire"`  // false: the target allows so much that nothing burns this fast
	OutageS   float64   `json:"outage_s"`  // how long it takes to see a total outage at the present traffic
}

// settle fills in what the node leaves to the console.
func (o Objectives) settle(now time.Time) Objectives {
	if o.At.IsZero() {
		o.At = now
	}
	o.Objectives = copied(o.Objectives)
	for i := range o.Objectives {
		one := &o.Objectives[i]
		one.Alerts, one.State = copied(one.Alerts), StateKept
		if one.Left <= 0 {
			one.State = StateSpent
		}
		for _, b := range one.Alerts {
			switch {
			case b.Due && b.Severity == "page":
				one.State = StatePaging
			case b.Due && one.State != StatePaging:
				one.State = StateBurning
			}
		}
		o.Frozen = o.Frozen || one.Freeze
	}
	return o
}

// objectives is the answer of the API, and the twin of the page.
func (c *console) objectives(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, c.objectivesNow())
}

func (c *console) objectivesNow() Objectives {
	var o Objectives
	if c.deps.Objectives != nil {
		o = c.deps.Objectives()
	}
	return o.settle(c.deps.Now())
}
