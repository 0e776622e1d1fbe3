package degrade

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Pressure is how a pool is.
type Pressure struct{ Overloaded, LowOff bool }

// Set is the switches of a site. Its methods may be called by any goroutine.
type Set struct {
	event func(text string) // nil allowed

	mu     sync.Mutex
	byName map[string]*state
}

// state is one switch. It outlives reloads, by its name.
type state struct {
	name    string
	on      atomic.Bool
	changes atomic.Uint64

	knob  Knob   // guarded by the set's lock, as what follows
	cause string // what there was to turn it on at the last look
	why   string
	since time.Time
}

// New makes a set without switches. event is told of every change.
func New(event func(text string)) *Set { return &Set{event: event, byName: map[string]*state{}} }

// Update makes cfg the switches there are. Those that were there stay as they are.
func (s *Set) Update(cfg map[string]*site.Switch, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.byName {
		if cfg[name] == nil {
			delete(s.byName, name)
		}
	}
	for name, one := range cfg {
		s.named(name, now).knob.cfg = *one
	}
}

// named finds or makes a switch. The lock is held.
func (s *Set) named(name string, now time.Time) *state {
	st := s.byName[name]
	if st == nil {
		st = &state{name: name, why: "nobody has set it", since: now}
		s.byName[name] = st
	}
	return st
}

// Senses are what switches look at. Step asks them.
type Senses struct {
	Pressure func(pool string) Pressure // how a pool is; asked once for each pool that has switches
	// Fires is the first alert that fires of those with such names and labels, in a few words; empty: none does.
	Fires func(names []string, labels map[string]string) string
}

// Step looks at all switches.
func (s *Set) Step(now time.Time, by Senses) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := map[string]Pressure{}
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		st := s.byName[name]
		st.cause = by.cause(&st.knob.cfg, asked)
		s.step(st, now)
	}
}

// cause is what there is to turn a switch on, in a sentence; empty: nothing.
func (by *Senses) cause(cfg *site.Switch, asked map[string]Pressure) string {
	if cfg.Pool != "" {
		p, known := asked[cfg.Pool]
		if !known {
			p = by.Pressure(cfg.Pool)
			asked[cfg.Pool] = p
		}
		switch {
		case p.LowOff && cfg.When == "low_off":
			return "low requests of pool " + cfg.Pool + " are refused"
		case p.LowOff, p.Overloaded && cfg.When != "low_off":
			return "pool " + cfg.Pool + " is overloaded"
		}
	}
	if len(cfg.Alerts) > 0 {
		if a := by.Fires(cfg.Alerts, cfg.Labels); a != "" {
			return "alert " + a + " fires"
		}
	}
	return ""
}

// step moves one switch. The lock is held.
func (s *Set) step(st *state, now time.Time) {
	was := st.on.Load()
	on, why := st.knob.Step(now, st.cause)
	st.why = why
	if on == was {
		return
	}
	st.on.Store(on)
	st.changes.Add(1)
	st.since = now
	if s.event != nil {
		s.event(fmt.Sprintf("switch %s is %s: %s", st.name, word(on), why))
	}
}

func word(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Hold turns a switch on or off until a moment, whatever its pool and alerts do: by people, or by what else watches over the site. A zero until
// leaves it to itself again.
func (s *Set) Hold(name string, h Hold, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byName[name]
	if st == nil {
		return fmt.Errorf("there is no switch %q", name)
	}
	st.knob.hold = h
	s.step(st, now)
	return nil
}

// Status is one switch, as plain data.
type Status struct {
	Name    string
	On      bool
	Why     string
	Since   time.Time
	Until   time.Time // somebody's word holds until then; zero: it goes by itself
	By      string
	Pool    string
	Alerts  []string
	Changes uint64
}

// Status lists the switches by name.
func (s *Set) Status(now time.Time) []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Status, 0, len(s.byName))
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		st := s.byName[name]
		one := Status{Name: name, On: st.on.Load(), Why: st.why, Since: st.since, Pool: st.knob.cfg.Pool, Alerts: st.knob.cfg.Alerts, Changes: st.changes.Load()}
		if h := st.knob.hold; h.Until.After(now) {
			one.Until, one.By = h.Until, h.By
		}
		out = append(out, one)
	}
	return out
}

// Group is the switches that one route has.
type Group struct {
	list []*state
	told atomic.Pointer[told]
}

// told is what endpoints are told while the switches of mask are on.
type told struct {
	mask uint64
	text []byte
}

// Group makes a group of the switches called names, of which there are 32 at the most; nil for none.
func (s *Set) Group(names []string, now time.Time) *Group {
	if len(names) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &Group{}
	for _, name := range names {
		g.list = append(g.list, s.named(name, now))
	}
	return g
}

// Value is a list of the names of those that are on (RFC 9651), nil for none. It takes no lock, and allocates only when something changed.
func (g *Group) Value() []byte {
	mask := uint64(0)
	for i, st := range g.list {
		if st.on.Load() {
			mask |= 1 << i
		}
	}
	if mask == 0 {
		return nil
	}
	if t := g.told.Load(); t != nil && t.mask == mask {
		return t.text
	}
	t := &told{mask: mask}
	for i, st := range g.list {
		if mask>>i&1 == 0 {
			continue
		}
		if len(t.text) > 0 {
			t.text = append(t.text, ", "...)
		}
		t.text = append(t.text, st.name...)
	}
	g.told.Store(t)
	return t.text
}
