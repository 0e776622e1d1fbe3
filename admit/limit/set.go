// Package limit bounds how fast requests come and how many are under way, for each customer, user, address, region, route or combination.
package limit

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

const (
	// maxChecks bounds the limits that hold for one route: which of them took something is remembered in 64 bits, of which one is tight.
	maxChecks = site.MaxRouteLimits
	// maxHeld bounds those among them that have to do with a request after its answer. Their keys stand on the stack of every request that
	// waits, eight bytes each.
	maxHeld = site.MaxHeldLimits
)

// Config is what a Set is made of.
type Config struct {
	Limits []*site.Limit
	Routes []string // names of routes, by exchange.Route.Index
	IPv6   int      // bits of an IPv6 address that count
	// Overloaded says whether the pool of an exchange is overloaded. It is called by all requests of adaptive limits at once; nil: never.
	Overloaded func(x *exchange.Exchange) bool
	Now        func() time.Time // for what is charged after answers; nil: time.Now
	Rand       func() uint32    // for jitter, called by any goroutine; nil: math/rand/v2
}

// Set is all limits of a site. It is never changed; what it counts is shared with the sets that followed it by reloads. Its methods may be
// called by any goroutine.
type Set struct {
	limits  []*limiter
	costs   []string // answer headers that tell costs
	stage   *Stage
	old     *Set // until Use
	epoch   time.Time
	clock   func() time.Time
	routeAt []string
}

// New makes the limits of a site. old is the set before a reload, or nil: a limit of the same name that counts the same keeps what it knows
// of its keys. old stays as it is, so that a reload that fails later changes nothing; Use then makes the new set the one in force.
func New(cfg Config, old *Set) (*Set, error) {
	s := &Set{old: old, clock: cfg.Now, routeAt: cfg.Routes}
	if s.clock == nil {
		s.clock = time.Now
	}
	before := map[string]*limiter{}
	if old != nil {
		s.epoch = old.epoch
		for _, l := range old.limits {
			before[l.cfg.Name] = l
		}
	} else {
		s.epoch = s.clock().Add(-time.Hour) // so that requests that began a little before have a time above zero
	}
	for _, c := range cfg.Limits {
		l, err := newLimiter(c, cfg.IPv6, before[c.Name])
		if err != nil {
			return nil, err
		}
		if l.alone {
			l.makeCells(cfg.Routes)
		}
		if c.Cost == site.CostHeader {
			if l.costIndex, err = s.cost(c.CostHeader); err != nil {
				return nil, fmt.Errorf("limits: %s: %w", c.Name, err)
			}
		}
		s.limits = append(s.limits, l)
	}
	rnd := cfg.Rand
	if rnd == nil {
		rnd = rand.Uint32
	}
	s.stage = &Stage{epoch: s.epoch, clock: s.clock, rand: rnd, overloaded: cfg.Overloaded}
	for i, name := range cfg.Routes {
		p, err := s.plan(name)
		if err != nil {
			return nil, err
		}
		s.stage.plans = append(s.stage.plans, p)
		s.stage.any = s.stage.any || len(s.stage.plans[i].checks) > 0
	}
	return s, nil
}

// cost is where in x.Costs the number of an answer header will stand.
func (s *Set) cost(header string) (int, error) {
	name := textproto.CanonicalMIMEHeaderKey(header)
	if i := slices.Index(s.costs, name); i >= 0 {
		return i, nil
	}
	if s.costs = append(s.costs, name); len(s.costs) > exchange.MaxCosts {
		return 0, fmt.Errorf("cost_header %s is one too many: allowed are %d different ones, here are %s", name, exchange.MaxCosts, strings.Join(s.costs, ", "))
	}
	return len(s.costs) - 1, nil
}

// makeCells makes the cells that a limit does not have yet: one for all, or one for each route.
func (l *limiter) makeCells(routes []string) {
	l.cells = maps.Clone(l.cells)
	if l.cells == nil {
		l.cells = map[string]*cell{}
	}
	names := routes
	if l.cfg.By[0] == site.ByGlobal {
		names = []string{site.ByGlobal}
	}
	for _, name := range names {
		if l.cells[name] == nil {
			l.cells[name] = new(cell)
		}
	}
	maps.DeleteFunc(l.cells, func(name string, _ *cell) bool { return !slices.Contains(names, name) })
}

// plan is what the limits say of one route.
func (s *Set) plan(route string) (p plan, err error) {
	held := 0
	for _, l := range s.limits {
		if len(l.cfg.Routes) > 0 && !slices.Contains(l.cfg.Routes, route) {
			continue
		}
		c := check{l: l, classes: l.classes, held: -1}
		if l.alone {
			text := route
			if l.cfg.By[0] == site.ByGlobal {
				text = site.ByGlobal
			}
			c.cell, c.numbers = l.cells[text], l.numbersOf(text)
		}
		if l.cfg.Held(route) {
			c.held = int8(held)
			held++
		}
		p.adaptive = p.adaptive || l.cfg.Adaptive
		p.checks = append(p.checks, c)
	}
	p.after = held > 0
	if len(p.checks) > maxChecks {
		return p, fmt.Errorf("limits: %d limits hold for route %s; allowed are %d", len(p.checks), route, maxChecks)
	}
	if held > maxHeld {
		return p, fmt.Errorf("limits: %d limits with a concurrency, or with a cost that is charged after the answer, hold for route %s; allowed are %d", held, route, maxHeld)
	}
	return p, nil
}

// Stage is the stage of all listeners; nil, which passes everything on, when no limit holds for any route.
func (s *Set) Stage() *Stage {
	if s == nil || !s.stage.any {
		return nil
	}
	return s.stage
}

// CostHeaders are the answer headers that tell costs, in canonical spelling: what stands in place i is expected in x.Costs[i].
func (s *Set) CostHeaders() []string {
	if s == nil {
		return nil
	}
	return s.costs
}

// Use makes s the set in force in place of the one it was made from, once nothing can keep its stage from being used any more: keys that owe
// something are left with the same share of their budgets, and tables may grow to their new sizes.
func (s *Set) Use() {
	if s == nil || s.old == nil {
		return
	}
	now := s.stage.at(s.clock())
	for _, l := range s.limits {
		for _, o := range s.old.limits {
			if o.counts != l.counts {
				continue
			}
			l.now.Store(l)
			l.rescale(o, now)
			if l.cfg.Keys != o.cfg.Keys {
				for _, t := range []*table{l.rate, l.busy} {
					if t != nil {
						t.resize(l.cfg.Keys)
					}
				}
			}
		}
	}
	s.old = nil
}

// Status is what a limit shows.
type Status struct {
	Name        string   `json:"name"`
	By          []string `json:"by"`
	Rate        float64  `json:"rate"`  // per second; 0: none
	Burst       float64  `json:"burst"` // at once
	Cost        string   `json:"cost"`
	Concurrency int      `json:"concurrency"` // 0: none
	DryRun      bool     `json:"dry_run"`
	Keys        int      `json:"keys"`      // remembered
	KeyBytes    int      `json:"key_bytes"` // memory for all of them
	Admitted    uint64   `json:"admitted"`
	Refused     uint64   `json:"refused"`
	WouldRefuse uint64   `json:"would_refuse"` // by a dry run
	// Shared counts requests of keys for which there was no place, because all were taken by keys that owe: they share one budget.
	Shared uint64   `json:"shared"`
	Top    []TopKey `json:"top,omitempty"`
}

// Status is the state of all limits, in the order of the site file.
func (s *Set) Status() []Status {
	if s == nil {
		return nil
	}
	now := s.stage.at(s.clock())
	out := make([]Status, 0, len(s.limits))
	for _, l := range s.limits {
		st := Status{Name: l.cfg.Name, By: l.cfg.By, Rate: l.base.rate, Burst: l.base.burst, Cost: l.cfg.Cost,
			Concurrency: l.cfg.Concurrency, DryRun: l.cfg.DryRun, Keys: len(l.cells), KeyBytes: len(l.cells) * cellBytes, Top: l.top.shown(now)}
		for i := range l.counts {
			c := &l.counts[i]
			st.Admitted += c.admitted.Load()
			st.Refused += c.refused.Load()
			st.WouldRefuse += c.wouldRefuse.Load()
		}
		for _, t := range []*table{l.rate, l.busy} {
			if t != nil {
				z := t.size()
				st.Keys, st.KeyBytes = max(st.Keys, z.keys), st.KeyBytes+z.bytes
				st.Admitted, st.Shared = st.Admitted+z.admitted, st.Shared+z.spilled
			}
		}
		out = append(out, st)
	}
	return out
}
