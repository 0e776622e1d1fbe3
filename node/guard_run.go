package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/admit/guard"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// update takes the settings of a site.
func (g *selfGuard) update(cfg site.Guard) { g.cfg.Store(&cfg) }

// thresholds are what the controller needs of the settings.
func thresholds(cfg *site.Guard) guard.Config {
	return guard.Config{Scheduler: cfg.Scheduler, Memory: float64(cfg.Memory), Files: float64(cfg.Files)}
}

// run looks at this process every window and says what is refused, until ctx ends.
func (g *selfGuard) run(ctx context.Context) error {
	tick := time.NewTicker(guard.Window)
	defer tick.Stop()
	cfg := g.cfg.Load()
	core := guard.New(thresholds(cfg))
	began := time.Time{} // of the overload
	for {
		select {
		case <-ctx.Done():
			g.apply(guard.Orders{Streams: 1}, cfg)
			return nil
		case now := <-tick.C:
			if next := g.cfg.Load(); next != cfg {
				cfg = next
				core.Update(thresholds(cfg))
			}
			s := g.sample(now)
			o := core.Step(s)
			if cfg.Mode == site.ModeOff {
				o = guard.Orders{Streams: 1}
			}
			g.apply(o, cfg)
			g.note(s, o, cfg)
			began = g.tell(now, began, s, o, cfg)
		}
	}
}

// sample asks the senses, and takes what was counted by class.
func (g *selfGuard) sample(now time.Time) guard.Sample {
	s := g.senses.sample(now)
	s.Demand = g.demandNow()
	if g.softener != nil {
		s.Accept = g.softener.AcceptQueue()
		used, limit := g.softener.Room()
		s.Room = float64(used) / float64(max(limit, 1))
		if s.Files == 0 { // the system does not tell
			s.Files = 0.9 * s.Room // a tenth of the descriptors is not for connections
		}
	}
	return s
}

// demandNow takes what was counted by class since it was last asked.
func (g *selfGuard) demandNow() (demand [3]uint64) {
	for i := range g.shards {
		for class := range demand {
			demand[class] += g.shards[i].demand[class].Swap(0)
		}
	}
	return demand
}

// apply puts orders into force.
func (g *selfGuard) apply(o guard.Orders, cfg *site.Guard) {
	dry := cfg.Mode == site.ModeDryRun
	if next := uint64(levelOf(o, dry)); g.level.Load() != next {
		g.level.Store(next)
	}
	if g.softener == nil {
		return
	}
	if dry {
		o.Streams, o.Idle = 1, 0
	}
	g.closed.Add(uint64(g.softener.Soften(o.Streams, o.Idle)))
}

// note keeps what is shown.
func (g *selfGuard) note(s guard.Sample, o guard.Orders, cfg *site.Guard) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = guard.Status{
		Mode: cfg.Mode, Overloaded: o.Why != guard.Calm, Why: o.Why.String(),
		ListenOverflows: g.senses.overflows,
		SchedulerP99MS:  milliseconds(s.Scheduler), CPUShare: s.CPU, MemoryShare: s.Memory, FilesShare: s.Files, AcceptShare: s.Accept,
		StreamsShare: o.Streams, RefuseLow: o.Refuse[exchange.Low], RefuseStandard: o.Refuse[exchange.Standard], RefuseCritical: o.Refuse[exchange.Critical],
	}
}

// tell makes an event of the beginning and the end of an overload. began is when the one under way began.
func (g *selfGuard) tell(now, began time.Time, s guard.Sample, o guard.Orders, cfg *site.Guard) time.Time {
	switch {
	case o.Why != guard.Calm && began.IsZero():
		verb := "refuses"
		if cfg.Mode == site.ModeDryRun {
			verb = "would refuse (dry run)"
		}
		g.event("overload", fmt.Sprintf("evenkeel itself is overloaded, since %s, and %s %.0f %% of low, %.0f %% of standard and %.0f %% of critical requests; scheduler p99 %.1f ms, processors %.0f %%, memory %.0f %%",
			o.Why, verb, 100*o.Refuse[exchange.Low], 100*o.Refuse[exchange.Standard], 100*o.Refuse[exchange.Critical], milliseconds(s.Scheduler), 100*s.CPU, 100*s.Memory))
		return now
	case o.Why == guard.Calm && !began.IsZero():
		g.event("overload", fmt.Sprintf("evenkeel is no longer overloaded, after %s", now.Sub(began).Round(guard.Window)))
		return time.Time{}
	}
	return began
}

// Status is what the guard does now.
func (g *selfGuard) Status() guard.Status {
	g.mu.Lock()
	s := g.status
	s.Warnings = slices.Clone(g.warnings)
	g.mu.Unlock()
	s.FlightShare = float64(g.inFlight()) / float64(g.limit)
	for i := range g.shards {
		s.Refused += g.shards[i].refused.Load()
		s.WouldRefuse += g.shards[i].would.Load()
	}
	s.IdleClosed = g.closed.Load()
	return s
}

// checkMachine says what of the machine will be in the way under overload: in the log, as events and in the guard's status.
func (n *Node) checkMachine() {
	warnings := machineWarnings("/proc", n.site)
	n.guard.mu.Lock()
	n.guard.warnings = warnings
	n.guard.mu.Unlock()
	for _, w := range warnings {
		n.events.add(time.Now(), "machine", w)
		n.log.Warn(w, "event", "machine")
	}
}

// single is the class of all requests of a listener, unless a sender may raise it; ok is false when there are several.
func single(s *site.Site, cfg *site.Listener) (class exchange.Class, ok bool) {
	if len(s.Identify.TrustedProxies) > 0 || len(s.Identify.Class.From) > 0 {
		return 0, false // may say that a request is critical
	}
	for _, c := range s.Identify.Customers {
		if c.Class != "" {
			return 0, false
		}
	}
	seen := ""
	for _, r := range s.Routes {
		if len(r.Listeners) > 0 && !slices.Contains(r.Listeners, cfg.Name) {
			continue
		}
		if word := classOf(r.Class).String(); seen != "" && word != seen {
			return 0, false
		} else {
			seen = word
		}
	}
	return classOf(seen), true
}

// guardStages are both looks of one listener.
func (n *Node) guardStages(s *site.Site, cfg *site.Listener) (*guardEntry, *guardByClass) {
	class, ok := single(s, cfg)
	e := &guardEntry{selfGuard: n.guard, class: class, blind: ok}
	return e, &guardByClass{e}
}
