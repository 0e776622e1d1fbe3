package site

import (
	"fmt"
	"maps"
	"slices"
)

// Bulkheads is how many requests may be under way on the node at once, which its pools share.
type Bulkheads struct {
	Mode        string `yaml:"mode" default:"on" enum:"on|dry_run|off" doc:"on: no pool, route, class or customer takes all places; dry_run: only count what would be refused"`
	Concurrency int    `yaml:"concurrency" default:"0" min:"0" max:"10000000" doc:"places: requests under way at once; 0: as many as memory, file descriptors and the connections of the http listeners allow"`
}

// PoolBulkhead is a pool's part of the node's places, and how its own are shared.
type PoolBulkhead struct {
	Share       Percent `yaml:"share" default:"0%" min:"0%" max:"100%" doc:"part of the node's places kept for this pool, whatever others do; what it leaves idle is lent, but for a quarter; 0%: 5%, less with more than ten pools"`
	Most        Percent `yaml:"most" default:"0%" min:"0%" max:"100%" doc:"part of the node's places that it may have at the most, kept and borrowed; 0%: 80%, or all when it is the only pool"`
	Concurrency int     `yaml:"concurrency" default:"0" min:"0" max:"10000000" doc:"and never more requests under way than this; 0: no such bound"`
	Critical    Percent `yaml:"critical" default:"0%" min:"0%" max:"100%" doc:"part of the pool's places kept for critical requests"`
	Standard    Percent `yaml:"standard" default:"0%" min:"0%" max:"100%" doc:"part of the pool's places kept for standard requests"`
	Low         Percent `yaml:"low" default:"0%" min:"0%" max:"100%" doc:"part of the pool's places kept for low requests"`
	Customer    Percent `yaml:"customer" default:"0%" min:"0%" max:"100%" doc:"part of the pool's places that one customer (or address) may always have; beyond, as many as are idle then; 0%: no such bound"`
}

// RouteBulkhead is a route's part of its pool's places.
type RouteBulkhead struct {
	Share       Percent `yaml:"share" default:"0%" min:"0%" max:"100%" doc:"part of the pool's places kept for this route; what it leaves idle is lent, but for a quarter"`
	Most        Percent `yaml:"most" default:"100%" min:"1%" max:"100%" doc:"part of the pool's places that it may have at the most, kept and borrowed"`
	Concurrency int     `yaml:"concurrency" default:"0" min:"0" max:"10000000" doc:"and never more requests waiting for an answer than this; 0: no such bound"`
}

// bulkheads checks that what is kept is there.
func (c *checker) bulkheads() {
	if c.suspect("pools") || c.suspect("routes") {
		return
	}
	kept, routes := Percent(0), map[string]Percent{}
	for i, r := range c.site.Routes {
		at := fmt.Sprintf("routes[%d].bulkhead", i)
		switch {
		case r.Bulkhead == nil:
		case r.Pool == "":
			c.wrong(at, "has no effect on a route that sends nothing to a pool")
		default:
			if routes[r.Pool] += r.Bulkhead.Share; routes[r.Pool] > 1 {
				c.wrong(at+".share", "together with other routes of pool %s it comes to more than 100%%", r.Pool)
			}
			c.mostOf(r.Bulkhead.Share, r.Bulkhead.Most, at)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.site.Pools)) {
		p, at := c.site.Pools[name], "pools."+name+".bulkhead"
		if kept += p.Bulkhead.Share; kept > 1 {
			c.wrong(at+".share", "together with other pools it comes to more than 100%%")
			kept = 0
		}
		if b := p.Bulkhead; b.Critical+b.Standard+b.Low > 1 {
			c.wrong(at+".critical", "together with standard and low it comes to more than 100%%")
		}
		c.mostOf(p.Bulkhead.Share, p.Bulkhead.Most, at)
	}
}

func (c *checker) mostOf(share, most Percent, at string) {
	if most > 0 && most < share {
		c.wrong(at+".most", "is less than share, which is kept for it")
	}
}

// Spill is what endpoints of other zones and priorities take when those that should serve are lost.
type Spill struct {
	Mode        string `yaml:"mode" default:"on" enum:"on|dry_run|off" doc:"on: no more than they can take beside their own; the rest is refused, the less important first; dry_run: all, and count what would be refused; off: all"`
	Concurrency int    `yaml:"concurrency" default:"0" min:"0" max:"1000000" doc:"requests at once that an endpoint of weight 1 can work on; 0: as the pool's shedder finds, or as was seen before the loss"`
}
