package node

import (
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/proxy"
	"github.com/even-keel/evenkeel/site"
)

// shedding sends every exchange through the gate of its pool.
type shedding struct {
	gates []*shed.Gate // by Route.Index; nil for routes whose pool is not protected
}

// Serve implements exchange.Stage.
func (s *shedding) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if g := s.gates[x.Route.Index]; g != nil {
		return g.Serve(x, next)
	}
	return next.Do(x)
}

// serving is a pool that tells how many of its endpoints are in service, and how many exchanges wait for others.
type serving interface {
	InService() int
	Strays() int
}

// sharing is a pool that tells whether HTTP/2 was negotiated with its endpoints.
type sharing interface{ Shared() bool }

// gate finds or makes the gate of a pool, with the settings of cfg; nil: the pool is not protected. Gates outlive reloads: what they
// learned of the endpoints is still true.
func (n *Node) gate(s *site.Site, name string, p poolPart) *shed.Gate {
	cfg := s.Pools[name]
	if cfg == nil || cfg.Shed.Mode == "off" || cfg.Shed.Mode == "" {
		return nil
	}
	set := shed.Settings{Shed: cfg.Shed, IPv6: s.Identify.IPv6Prefix}
	if cfg.HTTP != "h2" { // whose connections carry many exchanges each
		set.Connections = cfg.Connections.Max
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.gates[name]; g != nil {
		g.Update(set)
		return g
	}
	deps := shed.Deps{Gone: proxy.Gone,
		Event: func(kind, text string) { n.events.add(time.Now(), kind, text) }}
	if in, is := p.(serving); is {
		deps.Endpoints, deps.Strays = in.InService, in.Strays
	}
	if in, is := p.(sharing); is {
		deps.Shared = in.Shared
	}
	if n.gates == nil {
		n.gates = map[string]*shed.Gate{}
	}
	g := shed.New(name, set, deps)
	for _, class := range [...]exchange.Class{exchange.Standard, exchange.Low} { // refused by hand before a route led here, or before the site switched the shedder off and on
		g.Switch(class, n.switches.until(name, class))
	}
	n.gates[name] = g
	return g
}
