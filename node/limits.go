package node

import (
	"github.com/even-keel/evenkeel/admit/limit"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// newLimits makes the limits of s. They keep what those before them know of their keys.
func (n *Node) newLimits(s *site.Site) (*limit.Set, error) {
	cfg := limit.Config{Limits: s.Limits, IPv6: s.Identify.IPv6Prefix, Overloaded: overloaded}
	for i, r := range s.Routes {
		cfg.Routes = append(cfg.Routes, routeName(i, r))
	}
	return limit.New(cfg, n.limits)
}

// overloaded says whether the pool of x gets more than it can answer.
func overloaded(x *exchange.Exchange) bool { return x.Route.Overloaded != nil && x.Route.Overloaded() }

// limitStatus is what the limits in force show.
func (n *Node) limitStatus() []limit.Status {
	n.mu.Lock()
	set := n.limited
	n.mu.Unlock()
	return set.Status()
}

// limits shows what the limits let through and what not.
func (s sink) limits(all []limit.Status) {
	for _, l := range all {
		s.counter(descLimited, l.Admitted, l.Name, "admitted")
		s.counter(descLimited, l.Refused, l.Name, "refused")
		s.counter(descLimited, l.WouldRefuse, l.Name, "would_refuse")
		s.gauge(descLimitKeys, float64(l.Keys), l.Name)
		s.gauge(descLimitBytes, float64(l.KeyBytes), l.Name)
		s.counter(descLimitShared, l.Shared, l.Name)
	}
}
