package node

import (
	"maps"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/slo"
)

// turnedAway are requests of a route that no endpoint was tried for, by class and why.
type turnedAway struct{ shed, limited, theirs [classCount]uint64 }

// whyAway says for the stages that turn requests away whose fault it is. What the others refuse is a failure of ours: no endpoint could
// take it, or did.
var whyAway = map[string]func(*turnedAway) *[classCount]uint64{
	"shed": shedAway, "guard": shedAway, "bulkhead": shedAway,
	"limit": limitedAway, "quota": limitedAway,
	"identify": theirsAway, "route": theirsAway, "screen": theirsAway, "rules": theirsAway, "parse": theirsAway,
}

func shedAway(t *turnedAway) *[classCount]uint64    { return &t.shed }
func limitedAway(t *turnedAway) *[classCount]uint64 { return &t.limited }
func theirsAway(t *turnedAway) *[classCount]uint64  { return &t.theirs }

// objectiveCounts is what every objective of s has counted since the node began.
func (n *Node) objectiveCounts(s *site.Site, now time.Time) map[string]slo.Count {
	out := map[string]slo.Count{}
	if len(s.Objectives) == 0 {
		return out
	}
	n.countProbes(s, now)
	routes := map[string]*sums{}
	n.tallies.each(func(key tallyKey, t *tally) {
		if routes[key.route] == nil {
			routes[key.route] = new(sums)
		}
		t.addTo(routes[key.route])
	})
	away := map[string]*turnedAway{}
	for route, kinds := range n.tallies.refusedAll() {
		away[route] = new(turnedAway)
		for key, count := range kinds {
			at := whyAway[key.stage]
			if key.reason == "client_gone" { // who left was not refused
				at = theirsAway
			}
			if at != nil {
				at(away[route])[key.class%classCount] += count
			}
		}
	}
	pools := map[string]string{}
	for i, r := range s.Routes {
		pools[routeName(i, r)] = r.Pool
	}
	n.promised.mu.Lock()
	defer n.promised.mu.Unlock()
	for _, o := range s.Objectives {
		switch {
		case o.Kind == site.KindProbes:
			out[o.Name] = n.promised.pools[o.Pool]
		case o.Kind == site.KindFreshness:
			out[o.Name] = n.promised.fresh[o.Name]
		case o.Zone != "":
			z := n.promised.zones[o.Pool+" "+o.Zone]
			out[o.Name] = slo.Count{Good: less(z.made, z.failed), Total: z.made}
		default:
			var all slo.Count
			for name, v := range routes {
				if name == "" || o.Route != "" && name != o.Route || o.Pool != "" && pools[name] != o.Pool {
					continue
				}
				c := countRequests(o, v, away[name])
				all = slo.Count{Good: all.Good + c.Good, Total: all.Total + c.Total}
			}
			out[o.Name] = all
		}
	}
	return out
}

// countRequests is how many requests of a route an objective counts, and how many of them were good.
func countRequests(o *site.Objective, v *sums, away *turnedAway) (c slo.Count) {
	if o.Kind == site.KindLatency {
		for i, count := range v.Latency {
			c.Total += count
			// A bucket that reaches beyond the objective counts as too slow: up to 6 % of it, never too kind.
			if bucketTop(i) <= o.Latency+time.Microsecond {
				c.Good += count
			}
		}
		return c
	}
	if away == nil {
		away = new(turnedAway)
	}
	for class := range exchange.Class(classCount) {
		if len(o.Classes) > 0 && !slices.Contains(o.Classes, class.String()) {
			continue
		}
		var came uint64
		for _, count := range v.Status[class] {
			came += count
		}
		shed, limited, theirs := away.shed[class], away.limited[class], away.theirs[class]
		bad := v.FailedOf[class] + less(v.Away[class], shed+limited+theirs)
		neutral := theirs
		switch {
		case o.Kind == site.KindShed:
			bad = shed
			neutral += limited
		default:
			bad, neutral = put(shed, countShed(o, class), bad, neutral)
			bad, neutral = put(limited, o.Limited, bad, neutral)
		}
		total := less(came, neutral)
		c.Total += total
		c.Good += less(total, bad)
	}
	return c
}

// put adds to what is bad or to what does not count.
func put(n uint64, as string, bad, neutral uint64) (uint64, uint64) {
	if as == site.CountBad {
		return bad + n, neutral
	}
	return bad, neutral + n
}

// less is a difference that is never below zero: counters that belong together are read one after the other.
func less(a, b uint64) uint64 { return a - min(a, b) }

func countShed(o *site.Objective, class exchange.Class) string {
	switch class {
	case exchange.Critical:
		return o.Shed.Critical
	case exchange.Low:
		return o.Shed.Low
	}
	return o.Shed.Standard
}

// countProbes takes what is new of the endpoints of pools that objectives ask about.
func (n *Node) countProbes(s *site.Site, now time.Time) {
	wanted := map[string]bool{}
	for _, o := range s.Objectives {
		if o.Kind == site.KindProbes || o.Kind == site.KindFreshness || o.Zone != "" {
			wanted[o.Pool] = true
		}
	}
	if len(wanted) == 0 {
		return
	}
	n.mu.Lock()
	pools := maps.Clone(n.pools)
	n.mu.Unlock()
	p := n.promised
	p.mu.Lock()
	defer p.mu.Unlock()
	there, healthy := map[string]bool{}, map[string]time.Time{}
	for name := range wanted {
		if pools[name] == nil {
			continue
		}
		for _, e := range pools[name].view().Endpoints {
			key := name + " " + e.Address
			there[key] = true
			if at := p.endpoint(name, key, e); at.After(healthy[name]) {
				healthy[name] = at
			}
		}
	}
	maps.DeleteFunc(p.seen, func(key string, _ *seenEndpoint) bool { return !there[key] })
	for _, o := range s.Objectives {
		if o.Kind != site.KindFreshness {
			continue
		}
		c := p.fresh[o.Name]
		c.Total++
		if now.Sub(healthy[o.Pool]) <= o.Freshness {
			c.Good++
		}
		p.fresh[o.Name] = c
	}
}

// endpoint counts what is new of one endpoint, and returns when it was last found healthy. p.mu is held.
func (p *objectives) endpoint(pool, key string, e console.Endpoint) (healthy time.Time) {
	seen := p.seen[key]
	if seen == nil {
		seen = &seenEndpoint{}
		p.seen[key] = seen
	}
	zone := p.zones[pool+" "+e.Zone]
	zone.made += less(e.Picks, seen.picks)
	zone.failed += less(e.Failures, seen.failures)
	p.zones[pool+" "+e.Zone] = zone
	seen.picks, seen.failures = e.Picks, e.Failures
	probes := p.pools[pool]
	for _, v := range e.History {
		if v.Healthy && v.At.After(healthy) {
			healthy = v.At
		}
		if v.Void || !v.At.After(seen.verdict) {
			continue
		}
		seen.verdict = v.At
		probes.Total++
		if v.Healthy {
			probes.Good++
		}
	}
	p.pools[pool] = probes
	return healthy
}
