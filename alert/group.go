package alert

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Receiver is who is told.
type Receiver struct {
	Name       string
	Severities []string // empty: all
	Alerts     []string // empty: all but the watchdog
	Resolved   bool     // tell too when an alert is over
	Raw        bool     // groups and repeats by itself: every change is told at once, and what fires every minute
}

// wants reports whether a receiver is told of an alert.
func (r Receiver) wants(a Alert) bool {
	named := slices.Contains(r.Alerts, a.Name)
	return (named || len(r.Alerts) == 0 && a.Name != Watchdog) && (named || len(r.Severities) == 0 || slices.Contains(r.Severities, a.Severity))
}

// Notification is what one receiver is told of one group of alerts.
type Notification struct {
	Receiver string
	Group    string            // key of the group, the same over time
	Labels   map[string]string // that its alerts have in common by the site's group_by
	Status   string            // Firing while any of its alerts does, else Resolved
	Alerts   []Alert           // what fires, then what is over, by key
	At       time.Time
}

// group is what a receiver knows of alerts that belong together.
type group struct {
	Receiver string            `json:"receiver"`
	Labels   map[string]string `json:"labels"`
	Begin    time.Time         `json:"begin"`
	Told     time.Time         `json:"told,omitzero"` // last; zero: never
	Fires    map[string]bool   `json:"fires"`         // keys of alerts that were told as firing and not yet as over
}

// Notify says who is to be told what now, and counts it as told. Receivers come in the order of the site, groups by key.
func (s *Set) Notify(now time.Time) (all []Notification) {
	for _, r := range s.cfg.Receivers {
		by := s.cfg.GroupBy
		if r.Raw {
			by = nil
		}
		members := s.members(r, by)
		for key, g := range s.groups {
			if g.Receiver == r.Name && members[key] == nil {
				members[key] = []Alert{}
			}
		}
		for _, key := range slices.Sorted(maps.Keys(members)) {
			if n := s.tell(now, r, key, by, members[key]); len(n.Alerts) > 0 {
				all = append(all, n)
			}
		}
	}
	return all
}

// members are the alerts that fire for a receiver and nothing mutes, by group.
func (s *Set) members(r Receiver, by []string) map[string][]Alert {
	out := map[string][]Alert{}
	for _, a := range s.Alerts() {
		if a.State == Firing && r.wants(a) && len(a.Silences) == 0 && a.Inhibited == "" {
			key := groupKey(r.Name, a, by)
			out[key] = append(out[key], a)
		}
	}
	return out
}

// groupKey is made of texts that may hold anything.
func groupKey(receiver string, a Alert, by []string) string {
	parts := []string{receiver}
	if a.Sample { // who tries does not wait for others, nor make them wait
		parts = append(parts, "sample")
	}
	for _, l := range by {
		parts = append(parts, a.label(l))
	}
	b, _ := json.Marshal(parts) // texts always can be written
	return string(b)
}

// tell decides about one group.
func (s *Set) tell(now time.Time, r Receiver, key string, by []string, firing []Alert) Notification {
	g := s.groups[key]
	if g == nil {
		g = &group{Receiver: r.Name, Labels: map[string]string{}, Begin: now, Fires: map[string]bool{}}
		for _, l := range by {
			if v := firing[0].label(l); v != "" {
				g.Labels[l] = v
			}
		}
		s.groups[key] = g
	}
	over, fresh := s.over(g, firing), false
	for _, a := range firing {
		fresh = fresh || !g.Fires[a.Key()]
	}
	sample := slices.ContainsFunc(firing, func(a Alert) bool { return a.Sample })
	var due bool
	switch {
	case g.Told.IsZero():
		due = len(firing) > 0 && (r.Raw || sample || now.Sub(g.Begin) >= s.cfg.GroupWait)
	case fresh || len(over) > 0:
		due = r.Raw || sample || now.Sub(g.Told) >= s.cfg.GroupInterval || overSample(over)
	default:
		due = len(firing) > 0 && (now.Sub(g.Told) >= s.cfg.Repeat || r.Raw && now.Sub(g.Told) >= resendEvery)
	}
	if !due {
		if len(firing) == 0 && len(g.Fires) == 0 {
			delete(s.groups, key)
		}
		return Notification{}
	}
	g.Told, g.Fires = now, map[string]bool{}
	for _, a := range firing {
		g.Fires[a.Key()] = true
	}
	n := Notification{Receiver: r.Name, Group: key, Labels: maps.Clone(g.Labels), Status: Firing, Alerts: firing, At: now}
	if len(firing) == 0 {
		n.Status = Resolved
		delete(s.groups, key)
	}
	if r.Resolved {
		n.Alerts = append(n.Alerts, over...)
	}
	return n
}

func overSample(over []Alert) bool {
	return slices.ContainsFunc(over, func(a Alert) bool { return a.Sample })
}

// over are alerts that a group was told of as firing and that have ended. What is muted since is forgotten without a word: it is not over.
func (s *Set) over(g *group, firing []Alert) (all []Alert) {
	now := map[string]bool{}
	for _, a := range firing {
		now[a.Key()] = true
	}
	for key := range g.Fires {
		a := s.alerts[key]
		switch {
		case now[key]:
		case a != nil && a.State == Resolved:
			all = append(all, *a)
		default:
			delete(g.Fires, key)
		}
	}
	slices.SortFunc(all, func(a, b Alert) int { return cmp.Compare(a.Key(), b.Key()) })
	return all
}

// Forget makes a group one that was never told of what fires: whoever was to be told was not reached.
func (s *Set) Forget(key string) {
	if g := s.groups[key]; g != nil {
		g.Told, g.Fires = time.Time{}, map[string]bool{}
	}
}
