package node

import (
	"maps"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// classOrder are the classes, the most important first.
var classOrder = [classCount]exchange.Class{exchange.Critical, exchange.Standard, exchange.Low}

// viewOverload is how the node and its pools are loaded, and who refuses what.
func (n *Node) viewOverload(s *site.Site, now time.Time) console.Overload {
	o := console.Overload{Limits: n.viewLimits(), Quotas: n.viewQuotas(), Guard: n.viewGuard(), Screen: n.viewScreen()}
	loads := n.loads(false)
	o.Classes = classLoads(loads[nodeLoad], n.curves.of(nodeLoad))
	for _, name := range slices.Sorted(maps.Keys(s.Pools)) {
		p := n.viewShed(name)
		r := n.curves.of(name)
		would := p.Classes
		p.Pool, p.Classes, p.P50MS, p.P99MS = name, classLoads(loads[name], r), r.p50, r.p99
		for i := range p.Classes {
			for _, c := range would {
				if c.Class == p.Classes[i].Class {
					p.Classes[i].WouldRefuse = c.WouldRefuse
				}
			}
		}
		p.ByHand = n.byHand(name, now)
		o.Pools = append(o.Pools, p)
	}
	kinds := map[reasonKey]uint64{}
	for route, m := range n.tallies.refusedAll() {
		for key, count := range m {
			kinds[shownKind(route, key)] += count
		}
	}
	for key, count := range kinds {
		o.Refused = append(o.Refused, console.RefusedLoad{
			Stage: key.stage, Reason: key.reason, Limit: key.limit, Class: kindClass(key), Count: count, RPS: n.rates.of(key.name()),
		})
	}
	slices.SortFunc(o.Refused, func(a, b console.RefusedLoad) int {
		return slices.Compare([]string{a.Stage, a.Reason, a.Limit, a.Class}, []string{b.Stage, b.Reason, b.Limit, b.Class})
	})
	return o
}

// noClass is the class of what was refused before it had one.
const noClass = exchange.Class(classCount)

// shownKind is a kind of refusals without its route.
func shownKind(route string, key reasonKey) reasonKey {
	if route == "" {
		key.class = noClass
	}
	return key
}

func kindClass(key reasonKey) string {
	if key.class == noClass {
		return ""
	}
	return key.class.String()
}

// name is the key of the rate of these refusals.
func (k reasonKey) name() string {
	return "refused " + k.stage + " " + k.reason + " " + k.limit + " " + kindClass(k)
}

// classLoads are the classes of a pool or the node.
func classLoads(load loadNow, r loadRates) []console.ClassLoad {
	out := make([]console.ClassLoad, 0, classCount)
	for _, class := range classOrder {
		out = append(out, console.ClassLoad{
			Class: class.String(), Demand: load.came[class], Refused: load.away[class],
			DemandRPS: r.came[class], AdmittedRPS: r.came[class] - r.away[class], RefusedRPS: r.away[class], ShedRPS: r.shed[class],
		})
	}
	return out
}

// loads are the counters of all pools and of the node. Latencies are only read when wanted, because they are many.
func (n *Node) loads(latency bool) map[string]loadNow {
	n.mu.Lock()
	s := n.site
	n.mu.Unlock()
	poolOf := make(map[string]string, len(s.Routes))
	for i, r := range s.Routes {
		poolOf[routeName(i, r)] = r.Pool
	}
	out := map[string]loadNow{nodeLoad: {of: s}}
	for name := range s.Pools {
		out[name] = loadNow{of: s, gauges: n.gauges(name)}
	}
	shards := map[string]int{}
	n.tallies.each(func(key tallyKey, t *tally) {
		for _, name := range [...]string{nodeLoad, poolOf[key.route]} {
			load, known := out[name]
			if known {
				shards[name] += t.addDemand(&load.demand)
				out[name] = load
			}
		}
	})
	for route, kinds := range n.tallies.refusedAll() {
		for key, count := range kinds {
			if key.stage != "shed" || key.reason == "client_gone" { // who left was not refused
				continue
			}
			for _, name := range [...]string{nodeLoad, poolOf[route]} {
				if load, known := out[name]; known {
					load.shed[key.class%classCount] += count
					out[name] = load
				}
			}
		}
	}
	if latency {
		n.addLatencies(out, poolOf, shards)
	}
	return out
}

// addLatencies reads the latencies of pools: of those with many shards not in every second.
func (n *Node) addLatencies(out map[string]loadNow, poolOf map[string]string, shards map[string]int) {
	n.sampled++
	for name, load := range out {
		if every := 1 + shards[name]/latencyReads; n.sampled%every == 0 {
			load.latency = new([latencyBuckets]uint64)
			out[name] = load
		}
	}
	n.tallies.each(func(key tallyKey, t *tally) {
		for _, name := range [...]string{nodeLoad, poolOf[key.route]} {
			if to := out[name].latency; to != nil {
				t.addLatency(to)
			}
		}
	})
}

// gauges are what the shedder of a pool says of this moment.
func (n *Node) gauges(pool string) loadGauges {
	v := n.viewShed(pool)
	return loadGauges{v.Limit, v.CapacityPerSecond, float64(v.InFlight), float64(v.Waiting), v.QueueMS}
}

// refusalCounters are the refusals of each kind, for rates.
func (n *Node) refusalCounters(out map[string]uint64) {
	for route, kinds := range n.tallies.refusedAll() {
		for key, count := range kinds {
			out[shownKind(route, key).name()] += count
		}
	}
	for _, l := range n.limitStatus() {
		out["limit "+l.Name] = l.Refused
	}
	for _, q := range n.quotaStatus() {
		out["quota "+q.Name] = q.Refused
	}
}

// viewShed is what the shedder of a pool says.
func (n *Node) viewShed(pool string) console.PoolLoad {
	n.mu.Lock()
	s, g := n.site, n.gates[pool]
	n.mu.Unlock()
	cfg := s.Pools[pool]
	switch {
	case cfg == nil || cfg.Shed.Mode == "" || shedsNot(s, pool):
		return console.PoolLoad{Mode: site.ModeOff}
	case g == nil: // no route leads here yet
		return console.PoolLoad{Mode: cfg.Shed.Mode}
	}
	st := g.Status()
	v := console.PoolLoad{
		Mode: st.Mode, Limit: st.Limit, Max: st.Max, InFlight: st.InFlight, Strays: st.Strays, Waiting: st.Waiting, QueueMS: st.QueueMS, ServiceMS: st.ServiceMS,
		CapacityPerSecond: st.CapacityPerSecond, Behind: st.Behind, LowOff: st.LowOff,
	}
	for _, c := range st.Classes {
		v.Classes = append(v.Classes, console.ClassLoad{Class: c.Class, WouldRefuse: c.WouldRefuse})
	}
	return v
}

// viewLimits are the limits of the site.
func (n *Node) viewLimits() (out []console.LimitLoad) {
	for _, l := range n.limitStatus() {
		v := console.LimitLoad{
			Name: l.Name, By: l.By, Rate: l.Rate, Burst: l.Burst, Cost: l.Cost, Concurrency: l.Concurrency, DryRun: l.DryRun, Keys: l.Keys, KeyBytes: l.KeyBytes,
			Shared: l.Shared, Admitted: l.Admitted, Refused: l.Refused, WouldRefuse: l.WouldRefuse, RefusedRPS: n.rates.of("limit " + l.Name),
		}
		for _, k := range l.Top {
			v.Top = append(v.Top, console.KeyLoad{Key: k.Key, Refused: k.Refused})
		}
		out = append(out, v)
	}
	return out
}

// viewQuotas are the quotas of the site.
func (n *Node) viewQuotas() (out []console.QuotaLoad) {
	for _, q := range n.quotaStatus() {
		v := console.QuotaLoad{
			Name: q.Name, By: q.By, Calls: q.Calls, Bytes: q.Bytes, Period: q.Period, Sliding: q.Sliding, Kept: q.Kept, Trouble: q.Trouble, Beyond: q.Beyond,
			DryRun: q.DryRun, Keys: q.Keys, Admitted: q.Admitted, Refused: q.Refused, WouldRefuse: q.WouldRefuse, RefusedRPS: n.rates.of("quota " + q.Name),
		}
		for _, k := range q.Top {
			v.Top = append(v.Top, console.KeyLoad{Key: k.Key, Refused: k.Refused})
		}
		out = append(out, v)
	}
	return out
}

// viewGuard is how evenkeel protects itself.
func (n *Node) viewGuard() *console.GuardLoad {
	g := n.guard.Status()
	return &console.GuardLoad{
		Mode: g.Mode, Overloaded: g.Overloaded, Why: g.Why, SchedulerP99MS: g.SchedulerP99MS, CPUShare: g.CPUShare,
		MemoryShare: g.MemoryShare, FilesShare: g.FilesShare, FlightShare: g.FlightShare, AcceptShare: g.AcceptShare,
		StreamsShare: g.StreamsShare, RefuseLow: g.RefuseLow, RefuseStandard: g.RefuseStandard, RefuseCritical: g.RefuseCritical,
		Refused: g.Refused, WouldRefuse: g.WouldRefuse, IdleClosed: g.IdleClosed, Warnings: g.Warnings,
	}
}

// viewScreen is how requests are screened; nil: not at all. Own rules are asked where screening is off, too.
func (n *Node) viewScreen() *console.ScreenLoad {
	s := n.screen.Status()
	n.mu.Lock()
	rules := len(n.site.Rules)
	n.mu.Unlock()
	if rules == 0 && (s.Mode == site.ModeOff || s.Mode == "") {
		return nil
	}
	v := &console.ScreenLoad{
		Mode: s.Mode, Screened: s.Screened, Passed: s.Passed, Unsampled: s.Unsampled, Attacks: s.Attacks, Malformed: s.Malformed,
		Refused: s.Refused, Failed: s.Failed, Blocked: s.Blocked, Waited: s.Waited, Concurrency: s.Concurrency, Busy: s.Busy,
	}
	for _, h := range s.RuleHits[:min(len(s.RuleHits), console.TopLimit)] {
		v.RuleHits = append(v.RuleHits, console.RuleHit{Rule: h.Rule, Hits: h.Hits})
	}
	for _, h := range s.OwnHits {
		v.OwnHits = append(v.OwnHits, console.RuleHit{Rule: h.Rule, Hits: h.Hits})
	}
	return v
}
