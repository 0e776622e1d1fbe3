package screen

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// maxHits is how many rules are counted apart. The core rule set has fewer; files of directives may have more.
const maxHits = 1024

// Status is what a Screen has done since it was made.
type Status struct {
	Mode        string     `json:"mode"`        // the strictest of any route: off, detect or block
	Screened    uint64     `json:"screened"`    // by the rule set
	Passed      uint64     `json:"passed"`      // unscreened: no place in time, no room for the body, or the pool overloaded
	Unsampled   uint64     `json:"unsampled"`   // not in the sample
	Attacks     uint64     `json:"attacks"`     // found by the rule set or the cheap checks
	Malformed   uint64     `json:"malformed"`   // found by the cheap checks
	Blocked     uint64     `json:"blocked"`     // of attacks and malformed requests
	Refused     uint64     `json:"refused"`     // on routes marked always, for want of a place or room
	Waited      uint64     `json:"waited"`      // for a place
	Failed      uint64     `json:"failed"`      // the rule set could not look at them
	Concurrency int        `json:"concurrency"` // places
	Busy        int        `json:"busy"`        // places taken
	RuleHits    []RuleHits `json:"rule_hits"`   // rules of the site, checks and numbers of the rule set, most hits first
	OwnHits     []RuleHits `json:"own_hits"`    // of these the rules of the site, all of them, in order of their names
	Sets        []Set      `json:"sets"`        // rule sets that were built
}

// RuleHits says how often a rule was met.
type RuleHits struct {
	Rule string `json:"rule"`
	Hits uint64 `json:"hits"`
}

// Set is a rule set that was built.
type Set struct {
	Paranoia int     `json:"paranoia"`
	Anomaly  int     `json:"anomaly"`
	Rules    int     `json:"rules"`
	BuildMS  float64 `json:"build_ms"`
}

type counters struct {
	screened, passed, unsampled, attacks, malformed, blocked, noPlace, waited, failed atomic.Uint64

	mu   sync.Mutex // taken for attacks only
	hits map[string]uint64
}

// hit counts rules that were met.
func (c *counters) hit(rules []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range rules {
		if _, known := c.hits[r]; !known && len(c.hits) >= maxHits {
			r = "other"
		}
		c.hits[r]++
	}
}

// cheap counts what a cheap check found.
func (c *counters) cheap(f *finding) {
	if f.refusal == refuseMalformed {
		c.malformed.Add(1)
	} else {
		c.attacks.Add(1)
	}
	c.hit(f.found)
}

// Status is a copy of what the Screen has done.
func (s *Screen) Status() Status {
	c := &s.count
	out := Status{
		Screened: c.screened.Load(), Passed: c.passed.Load(), Unsampled: c.unsampled.Load(), Attacks: c.attacks.Load(),
		Malformed: c.malformed.Load(), Blocked: c.blocked.Load(), Refused: c.noPlace.Load(), Waited: c.waited.Load(), Failed: c.failed.Load(),
	}
	out.Concurrency, out.Busy = s.place.now()
	c.mu.Lock()
	hits := maps.Clone(c.hits)
	c.mu.Unlock()
	s.mu.Lock()
	out.Mode = s.mode
	for name, n := range s.hits {
		hits[name] += n.Load()
		out.OwnHits = append(out.OwnHits, RuleHits{name, n.Load()})
	}
	for key, e := range s.engines {
		out.Sets = append(out.Sets, Set{key.paranoia, key.anomaly, e.rules, float64(e.took.Microseconds()) / 1000})
	}
	s.mu.Unlock()
	for name, n := range hits {
		out.RuleHits = append(out.RuleHits, RuleHits{name, n})
	}
	slices.SortFunc(out.RuleHits, func(a, b RuleHits) int {
		return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(a.Rule, b.Rule))
	})
	slices.SortFunc(out.OwnHits, func(a, b RuleHits) int { return cmp.Compare(a.Rule, b.Rule) })
	slices.SortFunc(out.Sets, func(a, b Set) int {
		return cmp.Or(a.Paranoia-b.Paranoia, a.Anomaly-b.Anomaly)
	})
	return out
}

// Bounds of what an attack may make evenkeel write: lines a second, and seconds between events.
const (
	logRate    = 20
	logBurst   = 100
	eventEvery = 10 * time.Second
)

// reporter tells people of attacks, without letting attacks fill logs.
type reporter struct {
	log   *slog.Logger
	event func(string)

	mu      sync.Mutex // taken for attacks only
	tokens  float64
	at      time.Time
	dropped uint64
	since   uint64 // attacks since the last event
	told    time.Time
}

func (r *reporter) init(d Deps) { r.log, r.event, r.tokens = d.Log, d.Event, logBurst }

// attack tells of one: rules, route and who, never values of the request.
func (r *reporter) attack(now time.Time, x *exchange.Exchange, m mode, found []string, logs bool) {
	line, dropped, event := r.step(now)
	if event != "" && r.event != nil {
		r.event(event)
	}
	if !logs || !line {
		return
	}
	attrs := []slog.Attr{slog.Any("rules", slices.Clone(found)), slog.String("route", x.Route.Name), slog.Bool("blocked", m == block),
		slog.String("client", x.IP.String()), slog.String("request_id", string(x.RequestID))}
	if dropped > 0 {
		attrs = append(attrs, slog.Uint64("not_logged_before", dropped))
	}
	r.log.LogAttrs(context.Background(), slog.LevelWarn, "a request looks like an attack", attrs...)
}

// step decides what is told of one attack: whether a line is logged, how many were not before it, and an event.
func (r *reporter) step(now time.Time) (line bool, dropped uint64, event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if past := now.Sub(r.at).Seconds(); past > 0 {
		r.tokens = min(r.tokens+past*logRate, logBurst)
		r.at = now
	}
	r.since++
	if now.Sub(r.told) >= eventEvery {
		event = fmt.Sprintf("screening found %d requests that look like attacks", r.since)
		r.told, r.since = now, 0
	}
	if r.tokens < 1 {
		r.dropped++
		return false, 0, event
	}
	r.tokens--
	dropped, r.dropped = r.dropped, 0
	return true, dropped, event
}
