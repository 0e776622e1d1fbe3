package limit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/admit/key"
	"github.com/even-keel/evenkeel/exchange"
)

// Explained is what one limit says of one request. Nothing is counted by asking.
type Explained struct {
	Name    string   `json:"name"`
	By      []string `json:"by"`
	Key     string   `json:"key,omitempty"` // whose budget it is; empty: the limit does not hold
	Applies bool     `json:"applies"`
	Why     string   `json:"why"` // why it does not hold, or whose numbers hold
	DryRun  bool     `json:"dry_run"`

	Rate  float64 `json:"rate"`  // per second; 0: none
	Burst float64 `json:"burst"` // at once
	Cost  string  `json:"cost"`  // site.Limit.Cost
	Price float64 `json:"price"` // what the request costs before it is served
	Left  float64 `json:"left"`  // units that could come at once

	Concurrency int `json:"concurrency"` // 0: none
	InFlight    int `json:"in_flight"`

	Reset      time.Duration `json:"reset"` // until the whole budget is back
	Refuses    bool          `json:"refuses"`
	Reason     string        `json:"reason,omitempty"`
	RetryAfter time.Duration `json:"retry_after"` // when it refuses: until the same request passes
	Status     int           `json:"status"`      // that a refusal has
}

// Explain says what every limit would make of x, which must be routed and classified, if it came now.
func (s *Set) Explain(x *exchange.Exchange) []Explained {
	if s == nil {
		return nil
	}
	now := s.stage.at(s.clock())
	took := uint64(0)
	if x.Class != exchange.Critical && s.stage.overloaded != nil && s.stage.overloaded(x) {
		took = tight
	}
	out := make([]Explained, 0, len(s.limits))
	for _, l := range s.limits {
		e := Explained{Name: l.cfg.Name, By: l.cfg.By, DryRun: l.cfg.DryRun, Cost: l.cfg.Cost, Rate: l.base.rate, Burst: l.base.burst,
			Concurrency: l.cfg.Concurrency, Status: l.slow.Status}
		s.explain(&e, l, x, now, took)
		out = append(out, e)
	}
	return out
}

// explain fills in what depends on the request.
func (s *Set) explain(e *Explained, l *limiter, x *exchange.Exchange, now int64, took uint64) {
	if x.Route == nil {
		e.Why = "the request has no route"
		return
	}
	if len(l.cfg.Routes) > 0 && !slices.Contains(l.cfg.Routes, x.Route.Name) {
		e.Why = "it holds for " + list("route", l.cfg.Routes) + " and this is route " + x.Route.Name
		return
	}
	if l.classes&(1<<x.Class) == 0 {
		e.Why = "it holds for " + list("class", l.cfg.Classes) + " and this is class " + x.Class.String()
		return
	}
	text, ok := l.maker.Append(nil, x)
	if !ok {
		e.Why = "the request lacks a fact that the limit counts by: " + strings.Join(l.missing(x), ", ")
		return
	}
	c := &check{l: l}
	if l.alone {
		c.cell, c.numbers = l.cells[string(text)], l.numbersOf(string(text))
		if c.cell == nil {
			e.Why = "the request has no route of this site"
			return
		}
	}
	n, h, _ := c.key(x)
	e.Key, e.Applies, e.Why = string(text), true, "the numbers of the limit hold"
	if n != &l.base {
		e.Why = "the numbers of an override hold"
	}
	if n.unlimited {
		e.Applies, e.Why = false, "an override says that this key is not limited"
		return
	}
	share := l.share(x, took)
	if share < 1 {
		e.Why += fmt.Sprintf("; its pool is overloaded, and class %s keeps %g of them", x.Class, share)
	}
	c.explain(e, x, n, h, now, share)
}

// explain fills in what the budget of x has.
func (c *check) explain(e *Explained, x *exchange.Exchange, n *numbers, h uint64, now int64, share float64) {
	e.Rate, e.Burst, e.Concurrency, e.Price = n.rate, n.burst, int(n.concurrency), c.l.price(x)
	if n.rate > 0 {
		tat := c.stands(h)
		e.Left, e.Reset = n.left(tat, now), time.Duration(max(0, tat-now))
		if wait := c.wait(x, n, h, now, e.Price, share); wait > 0 && e.Price > 0 {
			e.Refuses, e.Reason, e.RetryAfter = true, reasonRate, wait
		}
	}
	if n.concurrency > 0 {
		if c.cell != nil {
			e.InFlight = int(c.cell.inFlight.Load())
		} else {
			e.InFlight = int(c.l.busy.look(h))
		}
		if int64(e.InFlight) >= max(1, int64(float64(n.concurrency)*share)) {
			e.Refuses, e.Reason, e.RetryAfter = true, reasonConcurrency, max(e.RetryAfter, busyRetry)
		}
	}
	if e.Refuses && e.DryRun {
		e.Refuses, e.Why = false, e.Why+"; it would be refused, were this no dry run"
	}
}

// missing are the facts that x lacks.
func (l *limiter) missing(x *exchange.Exchange) (out []string) {
	for _, word := range l.cfg.By {
		if _, ok := key.New([]string{word}, l.ipv6).Append(nil, x); !ok {
			out = append(out, word)
		}
	}
	return out
}

// list is "route a", or "routes a, b".
func list(noun string, names []string) string {
	if len(names) == 1 {
		return noun + " " + names[0]
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return noun + "s " + strings.Join(names, ", ")
}
