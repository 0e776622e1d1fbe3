package node

import (
	"cmp"
	"context"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/contain/degrade"
	"github.com/even-keel/evenkeel/site"
)

// codeNames are the first digits of statuses as the console and the metrics show them.
var codeNames = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// View is a copy of the node's status.
func (n *Node) View() console.View {
	n.mu.Lock()
	s, pools := n.site, maps.Clone(n.pools)
	n.mu.Unlock()
	v := console.View{At: time.Now(), Node: n.viewNode(), Events: n.events.newest(console.EventLimit)}
	byListener, byRoute := map[string]*sums{}, map[string]*sums{}
	var total sums
	n.tallies.each(func(key tallyKey, t *tally) {
		for _, m := range []struct {
			in  map[string]*sums
			key string
		}{{byListener, key.listener}, {byRoute, key.route}} {
			if m.in[m.key] == nil {
				m.in[m.key] = new(sums)
			}
			t.addTo(m.in[m.key])
		}
		t.addTo(&total)
	})
	v.Totals = console.Totals{Requests: total.Requests, Refused: total.Refused, Failed: total.Failed, RPS: n.rates.of(nodeKey)}
	v.Totals.History, v.Totals.RPS10 = n.rates.curve()
	fronts := n.front.views()
	for _, name := range slices.Sorted(maps.Keys(s.Listeners)) {
		l := n.viewListener(s.Listeners[name], fronts[name], byListener[name])
		v.Totals.Open += l.Open
		v.Listeners = append(v.Listeners, l)
	}
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		p := n.viewPool(name, pools[name])
		if cfg := s.Pools[name]; cfg != nil {
			p.Probe = probeWords(cfg.Probe)
		}
		v.Pools = append(v.Pools, p)
	}
	expired := n.expired()
	for i, r := range s.Routes {
		one := n.viewRoute(routeName(i, r), r, byRoute[routeName(i, r)])
		one.Expired = expired[one.Name]
		v.Routes = append(v.Routes, one)
	}
	if u := byRoute[""]; u != nil && u.Requests > 0 {
		v.Routes = append(v.Routes, n.viewRoute("", &site.Route{Class: site.ClassStandard}, u))
	}
	v.Overload = n.viewOverload(s, v.At)
	v.Degrade = n.viewDegrade(v.At)
	return v
}

func (n *Node) viewNode() console.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := console.Node{
		Name: n.site.Name, Zone: n.site.Zone, Version: n.opts.Version, PID: os.Getpid(),
		Started: n.started, UptimeS: time.Since(n.started).Seconds(),
		Ready: n.phase == phaseServing, Draining: n.phase == phaseDraining,
		SiteRevision: n.revision, LastReload: n.lastReload,
	}
	switch n.phase {
	case phaseNew:
		out.Why = "waiting for the first verdicts of the probes"
	case phaseDraining:
		out.Why = "draining"
	}
	out.Go.Goroutines, out.Go.HeapBytes = runtime.NumGoroutine(), heapBytes()
	out.Go.RSSBytes, out.Go.FDs, out.Go.CPUS = processFacts()
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		out.Go.FDLimit = limit.Cur
	}
	return out
}

// viewListener adds to what the listener knows of its connections what became of the exchanges.
func (n *Node) viewListener(cfg *site.Listener, l console.Listener, s *sums) console.Listener {
	l.Name, l.Protocol, l.TLS = cfg.Name, cfg.Protocol, cfg.TLS != nil
	l.Address = cfg.Listen
	if a := n.front.Addr(cfg.Name); a != nil {
		l.Address = a.String()
	}
	if s != nil {
		l.Requests, l.BytesIn, l.BytesOut = s.Requests, s.BytesIn, s.BytesOut
	}
	l.RPS = n.rates.of("listener " + cfg.Name)
	return l
}

func (n *Node) viewPool(name string, p poolPart) console.Pool {
	v := p.view()
	v.Name = name
	r := n.retriesOf(name)
	v.Requests, v.Retries = r.budget.Requests(), r.view(time.Now())
	v.RPS, v.FailedRPS = n.rates.of("pool "+name), n.rates.of("failures "+name)
	v.Breaker, v.Bulkhead = n.viewBreaker(name, time.Now()), n.hull.view(name)
	for i := range v.Endpoints {
		e := &v.Endpoints[i]
		e.RPS = n.rates.of("endpoint " + name + " " + e.Address)
	}
	return v
}

func (n *Node) viewRoute(name string, cfg *site.Route, s *sums) console.Route {
	r := console.Route{Name: cmp.Or(name, "(no route)"), Pool: cfg.Pool, Class: cfg.Class, Status: map[string]uint64{}}
	switch {
	case cfg.Redirect != nil:
		r.Pool = "redirect"
	case cfg.Respond != nil:
		r.Pool = "respond"
	}
	if cfg.Fallback != nil {
		r.Fallback = cfg.Fallback.Pool
	}
	r.RPS = n.rates.of("route " + name)
	r.Refused = n.tallies.refused(name)
	if s == nil {
		return r
	}
	r.Requests = s.Requests
	for i, name := range codeNames {
		if c := s.code(i); c > 0 && i > 0 {
			r.Status[name] = c
		}
	}
	r.P50MS, r.P99MS = milliseconds(s.quantile(0.5)), milliseconds(s.quantile(0.99))
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sample steps the rates once a second, and gives memory back when the node falls quiet.
func (n *Node) sample(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var trim trimmer
	var pace pacer
	var bursts bursts
	var seen outcomes
	for {
		counters, now := n.counters(), time.Now()
		n.rates.step(now, counters)
		n.curves.step(now, n.loads(true))
		n.learnHedges()
		n.endSwitches(now)
		n.knobs.Step(now, degrade.Senses{Pressure: n.pressure, Fires: n.alerting.fires})
		n.tickBreakers(now)
		n.tickBulkheads(now)
		n.tickBursts(now, &bursts)
		seen = n.lookAtOutcomes(now, seen)
		if trim.step(counters[nodeKey]) {
			debug.FreeOSMemory()
		}
		if n.opts.Collect != nil {
			if percent := pace.step(liveBytes()); percent > 0 {
				n.opts.Collect(percent)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// counters are all counters that are shown as rates.
func (n *Node) counters() map[string]uint64 {
	n.mu.Lock()
	pools := maps.Clone(n.pools)
	n.mu.Unlock()
	out := map[string]uint64{}
	n.refusalCounters(out)
	n.tallies.each(func(key tallyKey, t *tally) {
		var d demand
		t.addDemand(&d)
		c := d.came[0] + d.came[1] + d.came[2]
		out[nodeKey] += c
		out["listener "+key.listener] += c
		out["route "+key.route] += c
	})
	for name, p := range pools {
		r := n.retriesOf(name)
		r.tick(time.Now())
		out["pool "+name] = r.budget.Requests()
		for _, e := range p.view().Endpoints {
			out["endpoint "+name+" "+e.Address] = e.Picks
			out["failures "+name] += e.Failures
		}
	}
	return out
}
