package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/monitor/otlp"
	"github.com/even-keel/evenkeel/site"
)

// Reload reads the site again and changes over to it without losing a request. When anything is wrong with it, the error
// says what, and the old site stays in force as a whole. A second caller waits for the first.
func (n *Node) Reload() error {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	n.mu.Lock()
	old, was, ends := n.site, n.revision, n.phase == phaseDraining
	n.mu.Unlock()
	if ends { // no mistake in the site: files that are changed for a successor told people of one, and systemd that this process serves
		n.log.Info("the site is not read again, as this process ends", "event", "reload")
		return errNotServing
	}
	notifyReloading()
	err := n.reload()
	n.mu.Lock()
	n.lastReload = &console.Reload{At: time.Now(), OK: err == nil}
	change := console.SiteChange{At: n.lastReload.At, OK: err == nil, From: was, Revision: n.revision}
	if err != nil {
		change.Error = err.Error()
		n.lastReload.Error = err.Error()
		n.reloads[0]++
	} else {
		n.reloads[1]++
		change.Lines = site.Diff(old, n.site)
	}
	n.changed.add(change)
	n.mu.Unlock()
	status := "STATUS=serving"
	if err != nil {
		n.events.add(time.Now(), "reload", "the site was not changed: "+err.Error())
		n.log.Error("the site was not changed", "event", "reload", "err", err)
		status = "STATUS=serving; the last reload was refused"
	}
	notify("READY=1", status)
	return err
}

func (n *Node) reload() error {
	if n.opts.Load == nil {
		return errNoFile
	}
	n.mu.Lock()
	serving := n.phase == phaseServing
	n.mu.Unlock()
	if !serving {
		return errNotServing
	}
	next, err := n.opts.Load()
	if err != nil {
		return err
	}
	return n.change(next)
}

// change makes next the site in force, or changes nothing. Everything that can fail comes before the swap, and is undone in
// reverse order when a later step fails.
func (n *Node) change(next *site.Site) (err error) {
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()
	n.mu.Lock()
	old, pools := n.site, maps.Clone(n.pools)
	n.mu.Unlock()

	log, changed, err := n.nextLog(old, next)
	if err != nil {
		return err
	}
	if changed && log != nil {
		undo = append(undo, log.close)
	}
	back, err := n.prepare(next)
	undo = append(undo, back)
	if err != nil {
		return err
	}
	fresh, err := n.startPools(next, pools, &undo)
	if err != nil {
		return err
	}
	n.facts.Await(context.Background(), n.finder)
	n.awaitVerdicts(context.Background(), next, fresh)
	gone := map[string]*runningPool{}
	for name, p := range pools {
		if next.Pools[name] == nil {
			gone[name] = p
			delete(pools, name)
		}
	}
	// Pools that stay, and what else handlers are made of, such as shedders and breakers, outlive reloads and have the settings of next from then on: they are touched once
	// listeners cannot fail any more. An endpoint that next leaves out forgets all, and would come back as a stranger when next is refused.
	if err := n.front.Update(next.Listeners, func() (map[string]exchange.Handler, error) {
		if err := n.changePools(old, next, pools, fresh, &undo); err != nil {
			return nil, err
		}
		return n.handlers(next, parts(pools)), nil
	}); err != nil {
		return err
	}
	if changed {
		n.useLog(log)
	}
	n.useFinder(n.finder)
	n.limits.Use()
	n.book.Use(n.quotas)
	n.swap(next, pools)
	n.retire(gone, old)
	n.event("reload", fmt.Sprintf("site %s is in force: %s", n.revision, sizeOf(next)))
	return nil
}

// prepare makes what admits requests by next: who asks, and what limits say to that. It is used for handlers that are made
// from now on; back undoes it, whatever err is.
func (n *Node) prepare(next *site.Site) (back func(), err error) {
	finder, limits, quotas, built, sampler := n.finder, n.limits, n.quotas, n.built, n.sampler
	back = func() {
		n.limits, n.quotas, n.built, n.sampler = limits, quotas, built, sampler
		n.knobs.Update(n.site.Switches, time.Now())
		n.useFinder(finder)
		n.screen.Keep(n.site) // a rule set takes some 28 MiB
	}
	if n.finder, err = n.facts.Finder(&next.Identify); err != nil {
		return back, err
	}
	n.quotas = n.newQuotas(next)
	if n.limits, err = n.newLimits(next); err != nil {
		return back, err
	}
	return back, n.screen.Prepare(next)
}

// startPools starts the pools that next names anew, which it returns. What undoes it is added to undo.
func (n *Node) startPools(next *site.Site, pools map[string]*runningPool, undo *[]func()) (fresh map[string]*runningPool, err error) {
	fresh = map[string]*runningPool{}
	*undo = append(*undo, func() { n.stopPools(fresh) })
	for _, name := range slices.Sorted(maps.Keys(next.Pools)) {
		if pools[name] != nil {
			continue
		}
		p, err := n.newPool(next.Pools[name])
		if err != nil {
			return fresh, fmt.Errorf("pool %s cannot be built: %w", name, err)
		}
		fresh[name] = n.runPool(name, p)
		pools[name] = fresh[name]
	}
	return fresh, nil
}

// changePools changes the pools that stay and differ. What undoes it is added to undo.
func (n *Node) changePools(old, next *site.Site, pools, fresh map[string]*runningPool, undo *[]func()) error {
	for _, name := range slices.Sorted(maps.Keys(next.Pools)) {
		if fresh[name] != nil || reflect.DeepEqual(old.Pools[name], next.Pools[name]) {
			continue
		}
		if err := pools[name].Update(next.Pools[name]); err != nil {
			return fmt.Errorf("pool %s cannot be changed: %w", name, err)
		}
		*undo = append(*undo, func() { _ = pools[name].Update(old.Pools[name]) })
	}
	return nil
}

// sizeOf says how much there is in a site.
func sizeOf(s *site.Site) string {
	count := func(n int, noun string) string {
		if n != 1 {
			noun += "s"
		}
		return fmt.Sprint(n, " ", noun)
	}
	return count(len(s.Listeners), "listener") + ", " + count(len(s.Pools), "pool") + ", " + count(len(s.Routes), "route")
}

// swap makes next the site that is shown and watched, and forgets counters of what it does not name.
func (n *Node) swap(next *site.Site, pools map[string]*runningPool) {
	n.countObjectives(time.Now())
	if was := n.site.Admin; was.Listen != next.Admin.Listen || !reflect.DeepEqual(was.TLS, next.Admin.TLS) {
		n.event("admin", "the admin listener's address and tls change with the next start or upgrade, not with a reload")
	}
	if n.site.Zone != next.Zone {
		n.event("reload", "zone changes with the next start or upgrade, not with a reload")
	}
	if n.site.StateDir != next.StateDir {
		n.event("quota", "state_dir changes with the next start or upgrade, not with a reload")
	}
	if was, is := n.site.Cache.Disk, next.Cache.Disk; (was == nil) != (is == nil) || was != nil && was.Path != is.Path {
		n.event("cache", "cache.disk comes, goes and moves with the next start or upgrade, not with a reload")
	}
	n.keepCache(n.site, next)
	n.fellBack.keep(next)
	n.knobs.Update(next.Switches, time.Now())
	n.mu.Lock()
	n.site, n.pools, n.revision, n.limited = next, pools, revision(next), n.limits
	n.chains, n.counted, n.sampling = n.built, n.quotas, n.sampler
	maps.DeleteFunc(n.retried, func(name string, _ *retries) bool { return next.Pools[name] == nil })
	for name, g := range n.gates {
		if p := next.Pools[name]; p == nil || p.Shed.Mode == site.ModeOff {
			g.Update(shed.Settings{Shed: site.Shed{Mode: site.ModeOff}}) // for those who wait there, or are about to
			delete(n.gates, name)
		}
	}
	for name := range n.breakers {
		if next.Pools[name] == nil {
			delete(n.breakers, name)
		}
	}
	for name := range n.flights {
		if next.Listeners[name] == nil {
			delete(n.flights, name)
		}
	}
	n.mu.Unlock()
	routes := map[string]bool{"": true}
	for i, r := range next.Routes {
		routes[routeName(i, r)] = true
	}
	n.mu.Lock()
	maps.DeleteFunc(n.hedges, func(name string, _ *hedging) bool { return !routes[name] })
	maps.DeleteFunc(n.cut, func(name string, _ *atomic.Uint64) bool { return !routes[name] })
	n.mu.Unlock()
	n.tallies.keep(func(key tallyKey) bool { return next.Listeners[key.listener] != nil && routes[key.route] })
	n.useObjectives(next)
	n.useAlerts(next)
	n.guard.update(next.Guard)
	n.monitor.Update(&next.Monitor)
	n.otlp.Update(otlp.ConfigOf(next))
	n.useTelling(next)
	n.records.Update(&next.Events)
	n.useSender(next)
	n.screen.Keep(next)
	if n.admin != nil {
		n.door.Use(next.Admin)
		n.admin.use(n.console(next))
	}
}

// retire ends pools that the site does not name any more, each once nothing is in flight to it or its drain timeout is over.
func (n *Node) retire(gone map[string]*runningPool, old *site.Site) {
	for name, p := range gone {
		patience := old.Pools[name].DrainTimeout
		n.tasks.start("retired pool "+name, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			tick := time.NewTicker(idleTick)
			defer tick.Stop()
			for inFlight(p) > 0 && ctx.Err() == nil {
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
			if left := inFlight(p); left > 0 {
				n.event("drain", fmt.Sprintf("pool %s is gone with %d requests still in flight", name, left))
			}
			if !p.task.stop(partStop) {
				return errors.New("its pool has not ended")
			}
			return nil
		})
	}
}

// inFlight is what a pool has in flight.
func inFlight(p *runningPool) (left int64) {
	for _, e := range p.view().Endpoints {
		left += e.InFlight
	}
	return left
}

// nextLog opens the access log of the next site, when it differs.
func (n *Node) nextLog(old, next *site.Site) (log *accessLog, changed bool, err error) {
	if old.AccessLog == next.AccessLog {
		return nil, false, nil
	}
	log, err = newAccessLog(next.AccessLog, &n.logDropped)
	return log, true, err
}

// revision is a short fingerprint of everything that a site says.
func revision(s *site.Site) string {
	var b bytes.Buffer
	if err := site.Print(&b, s); err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:4])
}
