package alert

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Bounds of what is remembered.
const (
	maxAlerts    = 1000      // at once; a thousand endpoints that flap are one incident
	maxSilences  = 200       // at once
	resolvedFor  = time.Hour // alerts that are over are shown for so long
	maxText      = 500       // characters of a comment
	maxSilence   = 90 * day  // longest silence: for longer, change the site
	maxMatchers  = 10        // of one silence
	resendEvery  = time.Minute
	silencedKept = day // silences that are over are shown for so long
)

// States of an alert.
const (
	Pending  = "pending"
	Firing   = "firing"
	Resolved = "resolved"
)

// Signal says that something holds now.
type Signal struct {
	Name   string
	Labels map[string]string // what it is about, such as pool and endpoint
	Text   string            // one sentence with figures
	Link   string            // path in the console
}

// Alert is one thing that needs, or needed, a person.
type Alert struct {
	Name      string            `json:"name"`
	Severity  string            `json:"severity"`
	Labels    map[string]string `json:"labels"`
	Summary   string            `json:"summary"`
	Text      string            `json:"text"`
	Link      string            `json:"link,omitempty"`
	Runbook   string            `json:"runbook,omitempty"` // empty: that of the shipped alert
	State     string            `json:"state"`
	Since     time.Time         `json:"since"`            // holds without a break
	Seen      time.Time         `json:"seen"`             // held last
	Fired     time.Time         `json:"fired,omitzero"`   // began to fire
	Ended     time.Time         `json:"ended,omitzero"`   // resolved
	Silences  []string          `json:"silences"`         // that cover it now
	Inhibited string            `json:"inhibited"`        // alert that leaves it out now
	Sample    bool              `json:"sample,omitempty"` // somebody tries whether it arrives
}

// Page is where it is said what to do.
func (a Alert) Page() string { return cmp.Or(a.Runbook, Runbook(a.Name)) }

// Key tells alerts apart.
func (a Alert) Key() string { return keyOf(a.Name, a.Labels) }

func keyOf(name string, labels map[string]string) string {
	var b strings.Builder
	b.WriteString(name)
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, " %s=%q", l, labels[l])
	}
	return b.String()
}

// label is what a matcher or a group sees.
func (a Alert) label(name string) string {
	switch name {
	case "alert":
		return a.Name
	case "severity":
		return a.Severity
	}
	return a.Labels[name]
}

// Has reports whether the alert has all of some labels.
func (a Alert) Has(labels map[string]string) bool {
	for name, value := range labels {
		if a.label(name) != value {
			return false
		}
	}
	return true
}

// Change is one step of an alert from a state to another; From is empty when it is new.
type Change struct {
	Alert Alert
	From  string
}

// Silence keeps alerts from being told for a while.
type Silence struct {
	ID       string            `json:"id"`
	Matchers map[string]string `json:"matchers"` // label: value, in which * stands for anything
	Begin    time.Time         `json:"begin"`
	End      time.Time         `json:"end"`
	By       string            `json:"by"`
	Comment  string            `json:"comment"`
}

// covers reports whether a silence holds for an alert.
func (s Silence) covers(a Alert, now time.Time) bool {
	if now.Before(s.Begin) || !now.Before(s.End) {
		return false
	}
	for label, pattern := range s.Matchers {
		if ok, err := path.Match(escape(pattern), escape(a.label(label))); err != nil || !ok {
			return false
		}
	}
	return true
}

// escape takes away what path.Match sees in slashes and brackets: only * means something here.
func escape(s string) string {
	return strings.NewReplacer("/", "\x00", "[", `\[`, "?", `\?`, `\`, `\\`).Replace(s)
}

// Config is how alerts are judged and told.
type Config struct {
	Rules         map[string]Rule // those that are looked for, by name
	Inhibitions   []Inhibition
	Receivers     []Receiver
	GroupBy       []string
	GroupWait     time.Duration
	GroupInterval time.Duration
	Repeat        time.Duration
}

// Set holds alerts, silences and who was told what. It is pure: time comes in, and is used by one goroutine at a time.
type Set struct {
	cfg      Config
	alerts   map[string]*Alert
	silences []Silence
	groups   map[string]*group
	made     int    // silences ever made, for their names
	lost     uint64 // signals beyond maxAlerts
}

// NewSet holds nothing yet.
func NewSet(cfg Config) *Set {
	return &Set{cfg: cfg, alerts: map[string]*Alert{}, groups: map[string]*group{}}
}

// Use changes how alerts are judged and told. What fires goes on firing.
func (s *Set) Use(cfg Config) {
	s.cfg = cfg
	names := map[string]bool{}
	for _, r := range cfg.Receivers {
		names[r.Name] = true
	}
	maps.DeleteFunc(s.groups, func(_ string, g *group) bool { return !names[g.Receiver] })
}

// Step takes all that holds now and returns what has changed, in the order of the keys.
func (s *Set) Step(now time.Time, signals []Signal) (changes []Change) {
	holds := map[string]bool{}
	for _, sig := range signals {
		rule, on := s.cfg.Rules[sig.Name]
		key := keyOf(sig.Name, sig.Labels)
		if !on || holds[key] {
			continue
		}
		holds[key] = true
		a := s.alerts[key]
		if a == nil || a.State == Resolved {
			if a == nil && len(s.alerts) >= maxAlerts {
				s.lost++
				continue
			}
			a = &Alert{Name: sig.Name, Labels: sig.Labels, Since: now}
			s.alerts[key] = a
		}
		a.Severity, a.Summary, a.Runbook, a.Text, a.Link, a.Seen = rule.Severity, rule.Summary, rule.Runbook, sig.Text, sig.Link, now
		from := a.State
		switch {
		case a.State == Firing:
		case now.Sub(a.Since) >= rule.For:
			a.State, a.Fired = Firing, now
		default:
			a.State = Pending
		}
		if a.State != from {
			changes = append(changes, Change{*a, from})
		}
	}
	for key, a := range s.alerts {
		if holds[key] {
			continue
		}
		rule, on := s.cfg.Rules[a.Name]
		switch {
		case a.State == Pending:
			if !now.Before(a.Seen) {
				delete(s.alerts, key)
			}
		case a.State == Firing && (!on || now.Sub(a.Seen) >= rule.Hold) && !(a.Sample && now.Before(a.Seen)):
			a.State, a.Ended = Resolved, now
			changes = append(changes, Change{*a, Firing})
		case a.State == Resolved && now.Sub(a.Ended) >= resolvedFor:
			delete(s.alerts, key)
		}
	}
	s.silences = slices.DeleteFunc(s.silences, func(x Silence) bool { return now.Sub(x.End) >= silencedKept })
	s.mute(now)
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Alert.Key(), b.Alert.Key()) })
	return changes
}

// Try makes a sample of an alert fire until a moment. It goes the way of all others, and says that it is a sample.
func (s *Set) Try(now, until time.Time, rule Rule) {
	a := &Alert{Name: rule.Name, Severity: rule.Severity, Summary: rule.Summary, Runbook: rule.Runbook, Labels: map[string]string{"sample": "true"},
		Text: "This is a sample: somebody tries whether alerts arrive. Nothing is wrong.", State: Firing, Since: now, Fired: now, Seen: until, Sample: true}
	s.alerts[a.Key()] = a
	s.mute(now)
}

// mute finds out which alerts are silenced or inhibited.
func (s *Set) mute(now time.Time) {
	for _, a := range s.alerts {
		a.Silences, a.Inhibited = []string{}, ""
		for _, x := range s.silences {
			if x.covers(*a, now) {
				a.Silences = append(a.Silences, x.ID)
			}
		}
		if a.Sample {
			continue
		}
		for _, in := range s.cfg.Inhibitions {
			if a.Name == in.Target && a.Inhibited == "" && s.fires(in, *a) {
				a.Inhibited = in.Source
			}
		}
	}
}

// fires reports whether the source of an inhibition fires with the labels that it has to have in common with a.
func (s *Set) fires(in Inhibition, a Alert) bool {
	for _, src := range s.alerts {
		if src.Name == in.Source && src.State == Firing && !src.Sample &&
			!slices.ContainsFunc(in.Equal, func(l string) bool { return src.label(l) != a.label(l) }) {
			return true
		}
	}
	return false
}

// Alerts are all alerts: what fires first, pages before tickets, then by key.
func (s *Set) Alerts() []Alert {
	order := map[string]int{Firing: 0, Pending: 1, Resolved: 2, Page: 0, Ticket: 1, None: 2}
	all := make([]Alert, 0, len(s.alerts))
	for _, a := range s.alerts {
		all = append(all, *a)
	}
	slices.SortFunc(all, func(a, b Alert) int {
		return cmp.Or(order[a.State]-order[b.State], order[a.Severity]-order[b.Severity], cmp.Compare(a.Key(), b.Key()))
	})
	return all
}

// Silences are all silences, those that end last first.
func (s *Set) Silences() []Silence {
	all := slices.Clone(s.silences)
	slices.SortStableFunc(all, func(a, b Silence) int { return b.End.Compare(a.End) })
	return all
}

// CheckSilence says what is wrong with a silence before it is made.
func CheckSilence(matchers map[string]string, length time.Duration, comment string) error {
	switch {
	case len(matchers) == 0:
		return fmt.Errorf("say which alerts, such as alert=%s or pool=shop: a silence of everything would hide what nobody expects", Many429)
	case len(matchers) > maxMatchers:
		return fmt.Errorf("a silence has at most %d conditions", maxMatchers)
	case length <= 0 || length > maxSilence:
		return fmt.Errorf("a silence lasts up to 90 days, not %v", length)
	case len(comment) > maxText:
		return fmt.Errorf("a comment has at most %d characters", maxText)
	}
	for label, value := range matchers {
		if strings.Trim(value, "*") == "" && len(matchers) == 1 {
			return fmt.Errorf("%s=%s stands for everything; name what is meant", label, value)
		}
	}
	return nil
}

// Silence keeps alerts from being told until a moment, and returns the silence.
func (s *Set) Silence(now, until time.Time, matchers map[string]string, by, comment string) (Silence, error) {
	if err := CheckSilence(matchers, until.Sub(now), comment); err != nil {
		return Silence{}, err
	}
	if len(s.silences) >= maxSilences {
		return Silence{}, fmt.Errorf("there are %d silences already; end one", maxSilences)
	}
	s.made++
	x := Silence{ID: fmt.Sprintf("s%d", s.made), Matchers: maps.Clone(matchers), Begin: now, End: until, By: by, Comment: comment}
	s.silences = append(s.silences, x)
	s.mute(now)
	return x, nil
}

// EndSilence ends a silence now.
func (s *Set) EndSilence(now time.Time, id string) error {
	for i := range s.silences {
		if x := &s.silences[i]; x.ID == id && now.Before(x.End) {
			x.End = now
			s.mute(now)
			return nil
		}
	}
	return fmt.Errorf("there is no silence %q that holds now", id)
}
