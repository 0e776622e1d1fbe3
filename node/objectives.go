package node

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/slo"
)

// objectivesDir is the folder of what objectives count within state_dir.
const objectivesDir = "objectives"

// judgeEvery is how often objectives and alerts are judged when the site does not say.
const judgeEvery = 10 * time.Second

// tightenFor is how much longer than until the next look low requests stay refused: a node that stopped looking must not refuse them for ever.
const tightenFor = 30 * time.Second

// objectives are what the site promises, and what is remembered between two looks at the counters.
type objectives struct {
	book  *slo.Book
	saved time.Time // only judge looks

	mu    sync.Mutex
	seen  map[string]*seenEndpoint // by pool and address
	zones map[string]attempts      // by pool and zone
	pools map[string]slo.Count     // probes, by pool
	fresh map[string]slo.Count     // moments, by objective
	acts  map[string]slo.Actions   // what policies asked for at the last look
	hooks map[string]*hook         // who is told of that, by objective
}

// attempts are those at the endpoints of a zone. One that was begun fails a moment later.
type attempts struct{ made, failed uint64 }

// seenEndpoint is what was counted of an endpoint.
type seenEndpoint struct {
	picks, failures uint64
	verdict         time.Time
}

// newObjectives makes the book of what objectives count. It keeps to the state_dir of the site that the node begins with.
func (n *Node) newObjectives(s *site.Site) *objectives {
	deps := slo.Deps{Event: n.event}
	if s.StateDir != "" {
		deps.Dir = filepath.Join(s.StateDir, objectivesDir)
	}
	return &objectives{book: slo.NewBook(deps), seen: map[string]*seenEndpoint{}, zones: map[string]attempts{},
		pools: map[string]slo.Count{}, fresh: map[string]slo.Count{}, acts: map[string]slo.Actions{}, hooks: map[string]*hook{}}
}

// promises are the objectives of s.
func promises(s *site.Site) (all []slo.Objective) {
	for _, o := range s.Objectives {
		w, err := slo.ParseWindow(o.Window, func(string) (time.Duration, bool) { return o.WindowLength() })
		if err != nil {
			continue // no checked site has such a window
		}
		one := slo.Objective{
			Name: o.Name, Target: float64(o.Target), Window: w, MinFailures: uint64(o.MinFailures), Freeze: float64(o.Policy.Freeze), Tighten: -1,
			Mark: fmt.Sprint(o.Kind, "|", o.Route, "|", o.Pool, "|", o.Zone, "|", strings.Join(o.Classes, ","), "|", o.Latency, "|", o.Freshness, "|", o.Shed, "|", o.Limited),
		}
		if o.Pool != "" {
			one.Of = routesOf(s, o.Pool)
		}
		if o.Policy.Tighten > 0 {
			one.Tighten = float64(o.Policy.Tighten)
		}
		all = append(all, one)
	}
	return all
}

// useObjectives makes the objectives of s those that are judged. What was counted goes on where what is counted has not changed.
func (n *Node) useObjectives(s *site.Site) {
	counts := n.objectiveCounts(s, time.Now())
	n.promised.book.Use(promises(s), time.Now(), func(name string) slo.Count { return counts[name] })
	n.useHooks(s)
}

// judge looks at objectives and alerts as often as the site says. It is the last part that starts and the first that ends: by
// then what came is answered and counted.
func (n *Node) judge(ctx context.Context) error {
	for {
		n.mu.Lock()
		every := cmp.Or(n.site.Alerts.Every, judgeEvery)
		n.mu.Unlock()
		wait := time.NewTimer(every)
		select {
		case <-ctx.Done():
			wait.Stop()
			n.endJudging(every)
			return nil
		case <-wait.C:
			n.judgeOnce(time.Now(), every)
		}
	}
}

// judgeOnce takes the counters, keeps them, does what budget policies ask for, and looks for alerts.
func (n *Node) judgeOnce(now time.Time, every time.Duration) {
	n.mu.Lock()
	s := n.site
	n.mu.Unlock()
	counts := n.objectiveCounts(s, now)
	n.promised.book.Step(now, func(name string) slo.Count { return counts[name] })
	if now.Sub(n.promised.saved) >= judgeEvery { // who looks more often does not write more often
		n.promised.book.Save(now)
		n.promised.saved = now
	}
	for _, st := range n.promised.book.Status(now) {
		n.obey(s, st, now, now.Add(every+tightenFor))
	}
	n.judgeAlerts(now, s)
}

// obey does what an error budget's policy asks for, and tells when that changes.
func (n *Node) obey(s *site.Site, st slo.Status, now, until time.Time) {
	name := st.Objective.Name
	n.promised.mu.Lock()
	was := n.promised.acts[name]
	n.promised.acts[name] = st.Policy
	told := n.promised.hooks[name]
	n.promised.mu.Unlock()
	if told != nil && told.last != st.Policy {
		told.last = st.Policy
		told.tell(policyNow(s.Name, st, now))
	}
	left := fmt.Sprintf("%.1f%% of its error budget is left", 100*st.Left)
	if was.Freeze != st.Policy.Freeze {
		n.event("objectives", map[bool]string{
			true:  "objective " + name + ": changes should wait, " + left,
			false: "objective " + name + ": changes may go on, " + left}[st.Policy.Freeze])
	}
	if was.Abort != st.Policy.Abort {
		n.event("objectives", map[bool]string{
			true:  fmt.Sprintf("objective %s: experiments should end, its error budget burns %.3g times as fast as it may", name, st.Burn),
			false: "objective " + name + ": experiments may go on, its error budget burns slower"}[st.Policy.Abort])
	}
	i := slices.IndexFunc(s.Objectives, func(o *site.Objective) bool { return o.Name == name })
	if i < 0 || was.Tighten == st.Policy.Tighten && !st.Policy.Tighten {
		return
	}
	pool := cmp.Or(s.Objectives[i].Pool, poolOfRoute(s, s.Objectives[i].Route))
	if st.Policy.Tighten {
		n.mu.Lock()
		key := switchKey{pool, exchange.Low}
		n.switchTo(key, n.switches.put(key, until, true))
		n.mu.Unlock()
	}
	if was.Tighten != st.Policy.Tighten {
		n.event("objectives", map[bool]string{
			true:  "objective " + name + ": low requests of pool " + pool + " are refused, " + left,
			false: "objective " + name + ": low requests of pool " + pool + " come back, " + left}[st.Policy.Tighten])
	}
}

// routesOf are the names of the routes that lead to a pool.
func routesOf(s *site.Site, pool string) string {
	var names []string
	for i, r := range s.Routes {
		if r.Pool == pool {
			names = append(names, routeName(i, r))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// countObjectives takes what was counted until now. A reload does before routes leave or go to other pools.
func (n *Node) countObjectives(now time.Time) {
	counts := n.objectiveCounts(n.site, now)
	n.promised.book.Step(now, func(name string) slo.Count { return counts[name] })
}

// poolOfRoute is the pool of a route by its name, or "".
func poolOfRoute(s *site.Site, route string) string {
	for i, r := range s.Routes {
		if routeName(i, r) == route {
			return r.Pool
		}
	}
	return ""
}

// viewObjectives is what the objectives show.
func (n *Node) viewObjectives() console.Objectives {
	n.mu.Lock()
	s := n.site
	n.mu.Unlock()
	now := time.Now()
	out := console.Objectives{At: now, Trouble: n.promised.book.Trouble()}
	for _, st := range n.promised.book.Status(now) {
		i := slices.IndexFunc(s.Objectives, func(o *site.Objective) bool { return o.Name == st.Objective.Name })
		if i < 0 {
			continue
		}
		cfg := s.Objectives[i]
		v := console.Objective{
			Name: cfg.Name, Kind: cfg.Kind, About: aboutObjective(cfg), Good: goodOf(cfg), Target: st.Objective.Target, Window: cfg.Window,
			Begin: st.Begin, End: st.Objective.Window.End(now), GoodCount: st.Window.Good, Total: st.Window.Total, Indicator: st.Indicator, Left: st.Left,
			BurnRate: st.Burn, SpentInS: st.Spent.Seconds(), Freeze: st.Policy.Freeze, Tighten: st.Policy.Tighten, Abort: st.Policy.Abort, MinBad: st.Objective.MinFailures,
		}
		for _, b := range st.Burns {
			v.Alerts = append(v.Alerts, console.BurnRate{
				Severity: b.Severity, Factor: b.Factor, Budget: b.Budget, LongS: b.Long.Seconds(), ShortS: b.Short.Seconds(), LongRate: b.LongRate, ShortRate: b.ShortRate,
				Bad: b.Failures, Due: b.Due, Since: b.Since, HeldBack: b.Few, CanFire: b.CanFire, OutageS: b.Outage.Seconds(),
			})
		}
		out.Objectives = append(out.Objectives, v)
	}
	return out
}

// aboutObjective says in words whose requests or probes an objective counts.
func aboutObjective(o *site.Objective) string {
	text := "all requests"
	switch {
	case o.Route != "":
		text = "route " + o.Route
	case o.Pool != "":
		text = "pool " + o.Pool
	}
	if o.Zone != "" {
		text += ", zone " + o.Zone
	}
	if len(o.Classes) > 0 {
		text += ", " + strings.Join(o.Classes, " and ")
	}
	return text
}

// goodOf says in words what is good.
func goodOf(o *site.Objective) string {
	switch o.Kind {
	case site.KindLatency:
		return "answered within " + o.Latency.String()
	case site.KindProbes:
		return "probes that succeed"
	case site.KindFreshness:
		return "time with an endpoint found healthy within " + o.Freshness.String()
	case site.KindShed:
		return "not shed"
	}
	return "not failed"
}
