package node

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/contain/bulkhead"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Shares of pools that say nothing of their own. Two pools that hang leave a third its twentieth: 1,000 of 20,000 requests.
const (
	poolShare      = 0.05
	poolsShare     = 0.5 // of all pools together, when they are many
	poolMost       = 0.8
	filesPerFlight = 2 // file descriptors of one request under way: the client's connection and the endpoint's
)

// hull is the node's places and what pools make of theirs. It outlives reloads.
type hull struct {
	dry   atomic.Bool
	pools *bulkhead.Bulkhead

	mu     sync.Mutex // guards what follows
	off    bool
	inside map[string]*poolHull // by pool; those that share nothing have an empty one
}

// poolHull is how one pool shares its places. What it does not share is nil.
type poolHull struct {
	refused atomic.Uint64

	parts     [2]*bulkhead.Bulkhead // of routes and of classes
	shares    [2][]bulkhead.Share
	customers *bulkhead.Keyed
	customer  float64
}

// The parts of a poolHull, with what they are called.
const (
	ofRoutes = iota
	ofClasses
)

// restOfRoutes is the part of a pool's routes that ask for none of their own. A route's name cannot be empty.
const restOfRoutes = ""

// flightPlaces is how many requests may be under way on the node, when its site does not say: as many as memory holds, as many as have a
// client's connection, and as many as have file descriptors.
func flightPlaces(s *site.Site, memory int64) int {
	clients := 0
	for _, l := range s.Listeners {
		if l.Protocol == site.ProtocolHTTP {
			clients += l.Limits.Connections
		}
	}
	places := memory
	if clients > 0 {
		places = min(places, int64(clients))
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < math.MaxInt32 {
		places = min(places, int64(limit.Cur)/filesPerFlight)
	}
	return int(max(places, 1))
}

// poolShares are the parts of the node's places that pools get which http routes lead to, or fall back on. With one pool there is nothing to part.
func poolShares(s *site.Site) (out []bulkhead.Share) {
	used := usedPools(s)
	for _, name := range used {
		cfg := s.Pools[name].Bulkhead
		one := bulkhead.Share{Name: name, Kept: float64(cfg.Share), Most: float64(cfg.Most), Cap: cfg.Concurrency}
		if len(used) > 1 && one.Kept == 0 {
			one.Kept = min(poolShare, poolsShare/float64(len(used)))
		}
		if len(used) > 1 && one.Most == 0 {
			one.Most = max(poolMost, one.Kept)
		}
		out = append(out, one)
	}
	return out
}

// usedPools are the pools of a site's routes, in their order, and then those that stand in for them.
func usedPools(s *site.Site) (names []string) {
	add := func(name string) {
		if s.Pools[name] != nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, r := range s.Routes {
		add(r.Pool)
	}
	for _, r := range s.Routes {
		if r.Fallback != nil {
			add(r.Fallback.Pool)
		}
	}
	return names
}

// update makes the settings of s those in force.
func (h *hull) update(s *site.Site, memory int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dry.Store(s.Bulkhead.Mode == site.ModeDryRun)
	h.off = s.Bulkhead.Mode == site.ModeOff || s.Bulkhead.Mode == ""
	places := s.Bulkhead.Concurrency
	if places == 0 {
		places = flightPlaces(s, memory)
	}
	if h.pools == nil {
		h.pools = bulkhead.New(places, poolShares(s))
	} else {
		h.pools.Update(places, poolShares(s))
	}
	inside := make(map[string]*poolHull, len(s.Pools))
	for name, cfg := range s.Pools {
		p := h.inside[name]
		if p == nil {
			p = &poolHull{}
		}
		most := places
		if part := h.pools.Part(name); part != nil {
			most = part.Status().Most
		}
		p.update(cfg.Bulkhead, routeShares(s, name), most)
		inside[name] = p
	}
	h.inside = inside
}

// routeShares are the parts of a pool's places that its routes get; nil: no route asks for one.
func routeShares(s *site.Site, pool string) (out []bulkhead.Share) {
	for i, r := range s.Routes {
		if b := r.Bulkhead; r.Pool == pool && b != nil {
			out = append(out, bulkhead.Share{Name: routeName(i, r), Kept: float64(b.Share), Most: float64(b.Most), Cap: b.Concurrency})
		}
	}
	if out != nil {
		out = append(out, bulkhead.Share{Name: restOfRoutes})
	}
	return out
}

func (p *poolHull) update(cfg site.PoolBulkhead, routes []bulkhead.Share, places int) {
	p.shares = [2][]bulkhead.Share{ofRoutes: routes}
	if cfg.Critical+cfg.Standard+cfg.Low > 0 {
		p.shares[ofClasses] = []bulkhead.Share{
			{Name: site.ClassCritical, Kept: float64(cfg.Critical)}, {Name: site.ClassStandard, Kept: float64(cfg.Standard)}, {Name: site.ClassLow, Kept: float64(cfg.Low)},
		}
	}
	if p.customer = float64(cfg.Customer); p.customer == 0 {
		p.customers = nil
	} else if p.customers == nil {
		p.customers = bulkhead.NewKeyed(p.customer, places)
	}
	p.resize(places)
}

// resize shares so many places from now on.
func (p *poolHull) resize(places int) {
	for i, shares := range p.shares {
		switch {
		case shares == nil:
			p.parts[i] = nil
		case p.parts[i] == nil:
			p.parts[i] = bulkhead.New(places, shares)
		default:
			p.parts[i].Update(places, shares)
		}
	}
	if p.customers != nil {
		p.customers.Update(p.customer, places)
	}
}

// berths is what requests of a route ask for at a pool, its own or one that stands in; nil: nothing.
func (h *hull) berths(s *site.Site, route int, pool string) *berths {
	h.mu.Lock()
	defer h.mu.Unlock()
	in := h.inside[pool]
	if h.off || in == nil {
		return nil
	}
	b := &berths{customers: in.customers, dry: &h.dry, refused: &in.refused}
	cfg := s.Pools[pool].Bulkhead
	if len(poolShares(s)) > 1 || cfg.Most > 0 || cfg.Concurrency > 0 || s.Bulkhead.Concurrency > 0 {
		b.pool = h.pools.Part(pool)
	}
	if parts := in.parts[ofRoutes]; parts != nil {
		if b.route = parts.Part(routeName(route, s.Routes[route])); b.route == nil {
			b.route = parts.Part(restOfRoutes)
		}
	}
	if parts := in.parts[ofClasses]; parts != nil {
		for _, class := range classOrder {
			b.class[class] = parts.Part(class.String())
		}
	}
	if b.pool == nil && b.route == nil && b.customers == nil && b.class[exchange.Standard] == nil {
		return nil
	}
	return b
}

// tick lends what is idle, and shares what a pool can work on at once: what its shedder finds, when it bites. found tells it; 0: nobody
// knows.
func (h *hull) tick(now time.Time, found func(pool string) int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off || h.pools == nil {
		return
	}
	h.pools.Lend(now)
	for name, p := range h.inside {
		if p.parts[ofRoutes] == nil && p.parts[ofClasses] == nil && p.customers == nil {
			continue
		}
		places := h.pools.Places()
		if part := h.pools.Part(name); part != nil {
			places = part.Status().Most
		}
		if n := found(name); n > 0 {
			places = min(places, n)
		}
		for _, parts := range p.parts {
			if parts != nil {
				parts.Lend(now)
			}
		}
		p.resize(places)
	}
}

// tickBulkheads lets a second pass for bulkheads.
func (n *Node) tickBulkheads(now time.Time) {
	n.hull.tick(now, n.foundBy)
}

// foundBy is how many requests at once the shedder of a pool found right, when it refuses what is beyond; 0: nobody knows.
func (n *Node) foundBy(pool string) int {
	if v := n.viewShed(pool); v.Mode == site.ModeOn && v.CapacityPerSecond > 0 {
		return int(math.Ceil(v.Limit))
	}
	return 0
}

// view is what bulkheads do for one pool; nil: nothing.
func (h *hull) view(pool string) *console.Bulkhead {
	h.mu.Lock()
	defer h.mu.Unlock()
	in := h.inside[pool]
	if in == nil || h.off {
		return nil
	}
	v := &console.Bulkhead{DryRun: h.dry.Load(), Places: h.pools.Places(), Refused: in.refused.Load()}
	add := func(by string, p *bulkhead.Part) {
		s := p.Status()
		if by == "route" && s.Name == restOfRoutes {
			s.Name = "(others)"
		}
		v.Parts = append(v.Parts, console.BulkheadPart{By: by, Name: s.Name, Used: s.Used, Kept: s.Kept, Share: s.Due, Most: s.Most, Refused: s.Refused})
	}
	if p := h.pools.Part(pool); p != nil {
		add("pool", p)
	}
	for i, by := range [...]string{ofRoutes: "route", ofClasses: "class"} {
		for _, s := range in.shares[i] {
			add(by, in.parts[i].Part(s.Name))
		}
	}
	if c := in.customers; c != nil {
		v.Parts = append(v.Parts, console.BulkheadPart{By: "customer", Used: c.Used(), Refused: c.Refused()})
	}
	return v
}
