package pool

import (
	"crypto/tls"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/site"
)

// Update makes the pool follow another configuration. Endpoints that stay keep their health, counters and what they have in
// flight; those that left drain; what an operator set stays set. It fails, and changes nothing, for the reasons
// that New fails for.
func (p *Pool) Update(cfg *site.Pool) error {
	p.change.Lock()
	defer p.change.Unlock()
	if err := check(cfg); err != nil {
		return err
	}
	var secure *tls.Config
	if cfg.TLS != nil && p.deps.ProbeTLS != nil && p.watch != nil {
		c, err := p.deps.ProbeTLS(cfg)
		if err != nil {
			return fmt.Errorf("cannot probe the endpoints of pool %s over tls: %w", cfg.Name, err)
		}
		secure = c
	}
	p.mu.Lock()
	defer p.unlock()
	now, old := p.clock(), p.cfg
	p.cfg, p.tls = cfg, secure
	if old != nil && !reflect.DeepEqual(old.Discover, cfg.Discover) {
		p.found.forget(cfg.Discover == nil)
		p.sourceNo++
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
	p.merge(now)
	if old != nil && p.running && (secure != nil || old.HTTP != cfg.HTTP || !reflect.DeepEqual(old.Probe, cfg.Probe) ||
		!reflect.DeepEqual(old.TLS, cfg.TLS)) {
		// Over TLS always: the certificate files may have changed though their names have not.
		for _, m := range p.members {
			p.unwatch(m)
			p.watchOver(m)
		}
	}
	judged, bounded := cfg.Outliers.Mode == site.ModeOn, cfg.Breaker.Mode == site.ModeOn && cfg.Breaker.Endpoint.Any()
	for _, m := range p.members {
		p.bondTo(m)
		if m.acquit(now, cfg.SlowStart, judged, bounded) {
			m.standing.suspect = ""
			p.notice(m, now)
		}
	}
	p.rebuild(now)
	p.kick()
	return nil
}

// check finds what the site file's own checks may not have seen.
func check(cfg *site.Pool) error {
	if len(cfg.Endpoints) > endpointsMax {
		return fmt.Errorf("pool %s has %d endpoints: at most %d are allowed", cfg.Name, len(cfg.Endpoints), endpointsMax)
	}
	seen := make(map[string]bool, len(cfg.Endpoints))
	for _, e := range cfg.Endpoints {
		if seen[e.Address] {
			return fmt.Errorf("endpoint %s stands twice in pool %s: once is allowed", e.Address, cfg.Name)
		}
		seen[e.Address] = true
	}
	return nil
}

// merge makes the members those of the site file and those found; an address in both is as the file says. The lock is held.
func (p *Pool) merge(now time.Time) {
	want := make([]site.Endpoint, 0, len(p.cfg.Endpoints)+len(p.found.set))
	index := make(map[string]bool, cap(want))
	for _, list := range [][]site.Endpoint{p.cfg.Endpoints, p.found.set} {
		for _, e := range list {
			if !index[e.Address] && len(want) < endpointsMax {
				index[e.Address] = true
				want = append(want, e)
			}
		}
	}
	var left, joined []string
	for _, m := range p.members {
		if !index[m.Address] {
			p.leave(m, now)
			left = append(left, m.Address)
		}
	}
	members := make([]*member, 0, len(want))
	for _, e := range want {
		m := p.byName[e.Address]
		if m == nil || m.left {
			m = p.join(m, e, now)
			joined = append(joined, e.Address)
		}
		m.weight, m.zone, m.priority = e.Weight, e.Zone, min(max(e.Priority, 1), prioritiesMax)
		members = append(members, m)
	}
	p.members = members
	if len(left)+len(joined) > 0 {
		p.ids = make(map[uint64]*member, len(members))
		for _, m := range members {
			p.ids[m.id] = m
		}
		p.tellMembers(joined, left)
	}
}

// join makes a member of e, or takes it back while it was still leaving. The lock is held.
func (p *Pool) join(m *member, e site.Endpoint, now time.Time) *member {
	if m == nil {
		m = newMember(p.name, e)
		m.probed, m.Strays = p.probes(), &p.strays
		p.byName[e.Address] = m
		if p.deps.Attach != nil {
			p.deps.Attach(&m.Endpoint)
		}
	} else {
		for i, o := range p.leaving {
			if o == m {
				p.leaving = append(p.leaving[:i], p.leaving[i+1:]...)
				break
			}
		}
		m.vitals = vitals{probed: m.probed} // it may be another process that answers there now
		m.row.Store(0)
		m.away.Store(false)
		m.standing.forget(&m.ledger, now)
	}
	m.admin, m.drained, m.shown = StateUp, false, ""
	if state := p.admin[e.Address]; state != "" {
		m.admin, m.drainFrom = state, now
	}
	if !m.probed && p.ready.Load() {
		m.rampFrom, m.ramp = now, p.cfg.SlowStart
	}
	m.why, m.since = "joined", now
	if m.admin != StateUp {
		m.why = "set by an operator"
	}
	p.recall(m, now)
	p.bondTo(m)
	p.watchOver(m)
	p.notice(m, now)
	return m
}

// leave makes m drain and go. The lock is held.
func (p *Pool) leave(m *member, now time.Time) {
	p.unwatch(m)
	p.keepOrder(m, now)
	m.left, m.drained, m.drainFrom = true, false, now
	m.why = "no longer a member"
	m.retire()
	m.Gone.Store(true)
	m.away.Store(true) // the snapshot that is made next counts without it
	m.shown, m.since = m.state(now), now
	p.leaving = append(p.leaving, m)
}

// tellMembers reports who came and went, in one line when they are many.
func (p *Pool) tellMembers(joined, left []string) {
	const several = 8
	if len(joined) > several {
		p.tell("endpoint_joined", "%d endpoints joined", len(joined))
		joined = nil
	}
	if len(left) > several {
		p.tell("endpoint_left", "%d endpoints left the set and drain", len(left))
		left = nil
	}
	for _, a := range joined {
		p.tell("endpoint_joined", "endpoint %s joined", a)
	}
	for _, a := range left {
		p.tell("endpoint_left", "endpoint %s left the set and drains", a)
	}
}

// bondTo makes the affinity cookie of m ready. The lock is held.
func (p *Pool) bondTo(m *member) {
	if p.cfg.Affinity == nil {
		m.bond.Store(nil)
		return
	}
	m.bond.Store(newBond(p.cfg.Affinity, m.id))
}

// probes reports whether the endpoints are probed. The lock is held.
func (p *Pool) probes() bool { return p.watch != nil && (p.cfg.Probe == nil || !p.cfg.Probe.Off) }

// watchOver starts to probe m, once the pool runs. The lock is held.
func (p *Pool) watchOver(m *member) {
	m.health.Rise, m.health.Fall = 1, 3 // as the site file does
	if p.cfg.Probe != nil {
		m.health.Rise, m.health.Fall = p.cfg.Probe.Rise, p.cfg.Probe.Fall
	}
	was := m.probed
	if m.probed = p.probes(); was && !m.probed && strings.HasPrefix(m.why, "probe ") {
		m.why = "not probed any more" // what the last probe found is no reason for anything now
	}
	if !m.probed || !p.running || m.stop != nil {
		return
	}
	m.born++
	born := m.born
	m.stop = p.watch(probe.Target{Address: m.Address, TLS: p.tls, H2: p.cfg.HTTP == "h2"}, p.cfg.Probe,
		func(v probe.Verdict) { p.heard(m, born, v) })
}

// unwatch ends the probes of m. The lock is held; a verdict under way is passed over, for born changed.
func (p *Pool) unwatch(m *member) {
	m.born++
	if m.stop != nil {
		m.stop()
		m.stop = nil
	}
}

// start makes the pool run.
func (p *Pool) start() error {
	p.mu.Lock()
	defer p.unlock()
	if p.running {
		return errRunsAlready
	}
	p.running = true
	wait := verdictGrace
	if p.cfg.Probe != nil && p.cfg.Probe.Timeout > 0 {
		wait += p.cfg.Probe.Timeout
	} else {
		wait += 2 * time.Second // the prober's default timeout
	}
	if p.cfg.Discover != nil {
		wait += lookupTimeout
	}
	p.startBy = p.clock().Add(wait)
	for _, m := range p.members {
		p.watchOver(m)
	}
	return nil
}

// stopAll ends what start began.
func (p *Pool) stopAll() {
	p.mu.Lock()
	defer p.unlock()
	for _, m := range p.members {
		p.unwatch(m)
	}
	p.running = false
}
