// Package slo knows how good a service promised to be, and how much of its error budget is left: counts, burn rates, and when to wake somebody.
package slo

import (
	"math"
	"time"
)

// Objective is one promise.
type Objective struct {
	Name        string
	Mark        string // what is counted: counts are kept over restarts and reloads as long as it and the window stay the same
	Of          string // whose counts its source adds up now: counting goes on from what the source says when it changes
	Target      float64
	Window      Window
	MinFailures uint64 // no alert is due with fewer bad events in its long window
	Freeze      float64
	Tighten     float64 // budget left at or below which the policy acts; below 0: never
}

// Status is an objective at one moment.
type Status struct {
	Objective Objective
	Window    Count // what counts for the budget
	Source    Count // what the source has counted since it began
	Begin     time.Time
	Indicator float64 // share of good events in the window; 1 without events
	Left      float64 // share of the error budget that is left; below 0: overspent
	Burn      float64 // how many times as fast as it may the budget burned over the long window of the first alert
	Spent     time.Duration
	Burns     []BurnStatus
	Policy    Actions
}

// BurnStatus is one pair of windows at one moment.
type BurnStatus struct {
	Burn
	LongRate, ShortRate float64 // burn rates
	Failures            uint64  // bad events in the long window
	Due                 bool
	Since               time.Time // when it became due
	Few                 bool      // it would be due, were there not too few bad events
	Outage              time.Duration
	CanFire             bool // false: the target allows so many bad events that nothing burns this fast
}

// Actions are what the budget policy asks for now.
type Actions struct {
	Freeze  bool // change nothing that need not change
	Tighten bool // refuse low requests, so that the others do better
	Abort   bool // end experiments: the budget is burning as it is
}

// tracker follows one objective. It is pure: time and counts come in.
type tracker struct {
	obj   Objective
	all   *counter
	own   *counter // nil: all is what the file holds; else what this process counted and the file's owner has not
	last  Count    // what the source had counted
	since [3]time.Time
}

func newTracker(o Objective, source Count) *tracker {
	return &tracker{obj: o, all: newCounter(o.Window), last: source}
}

// step takes what the source has counted in all since it began. A source that has counted less than before was made anew.
func (t *tracker) step(now time.Time, source Count) {
	n := Count{Good: ahead(t.last.Good, source.Good), Total: ahead(t.last.Total, source.Total)}
	switch {
	case source.Total < t.last.Total:
		t.last = source
	default:
		// Good events may be read a moment later than all of them: what is too many counts next time.
		n.Good = min(n.Good, n.Total)
		t.last = Count{t.last.Good + n.Good, source.Total}
		t.all.add(now, n)
		if t.own != nil {
			t.own.add(now, n)
		}
	}
	for i, b := range t.burns(now) {
		switch {
		case !b.Due:
			t.since[i] = time.Time{}
		case t.since[i].IsZero():
			t.since[i] = now
		}
	}
}

func ahead(before, now uint64) uint64 { return max(now, before) - before }

// burns judges every pair of windows.
func (t *tracker) burns(now time.Time) (all []BurnStatus) {
	budget := 1 - t.obj.Target
	for i, b := range Burns(t.obj.Window) {
		long, short := t.all.sum(now.Add(-b.Long), now), t.all.sum(now.Add(-b.Short), now)
		s := BurnStatus{Burn: b, LongRate: long.badShare() / budget, ShortRate: short.badShare() / budget, Failures: long.Bad(), Since: t.since[i]}
		s.Outage, s.CanFire = b.Detects(t.obj.Target, 1)
		if rate := float64(long.Total) / b.Long.Seconds(); s.CanFire && rate > 0 {
			s.Outage = max(s.Outage, time.Duration(float64(t.obj.MinFailures)/rate*float64(time.Second)))
		}
		burning := s.CanFire && atLeastAs(s.LongRate, b.Factor) && atLeastAs(s.ShortRate, b.Factor)
		s.Due = burning && s.Failures >= max(t.obj.MinFailures, 1)
		s.Few = burning && !s.Due
		if s.Due && s.Since.IsZero() { // counts that outlived a restart, before the first step
			s.Since = now
		}
		all = append(all, s)
	}
	return all
}

// atLeastAs compares without minding the last bits of a division.
func atLeastAs(rate, factor float64) bool { return rate >= factor*(1-1e-9) }

// status is all there is to know.
func (t *tracker) status(now time.Time) Status {
	s := Status{Objective: t.obj, Source: t.last, Begin: t.obj.Window.Begin(now), Indicator: 1, Left: 1, Burns: t.burns(now)}
	s.Window = t.all.sum(s.Begin.Add(-1), now) // what comes at the very beginning of a period belongs to it
	nominal, _ := t.obj.Window.lengths()
	if s.Window.Total > 0 {
		s.Indicator = 1 - s.Window.badShare()
		// A period of the calendar that has just begun will see about as many events as the time before it: else the first bad one
		// would spend the budget of the first minute, which nobody promised.
		events := max(s.Window.Total, t.all.sum(now.Add(-nominal), now).Total)
		s.Left = 1 - float64(s.Window.Bad())/float64(events)/(1-t.obj.Target)
	}
	s.Burn = s.Burns[0].LongRate
	if s.Burn > 1 && s.Left > 0 {
		s.Spent = time.Duration(math.Min(s.Left*float64(nominal)/s.Burn, float64(nominal)))
	}
	if s.Window.Bad() >= t.obj.MinFailures {
		s.Policy = Actions{Freeze: t.obj.Freeze >= 0 && s.Left <= t.obj.Freeze, Tighten: t.obj.Tighten >= 0 && s.Left <= t.obj.Tighten}
	}
	for _, b := range s.Burns {
		s.Policy.Abort = s.Policy.Abort || b.Due && b.Severity == Page
	}
	return s
}
