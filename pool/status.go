package pool

import (
	"time"
)

// verdictsShown is how many of the last verdicts Status carries for each endpoint.
const verdictsShown = 32

// Status is what a pool knows, as plain data.
type Status struct {
	Pool         string           `json:"pool"`
	Method       string           `json:"method"`
	Ready        bool             `json:"ready"`
	Endpoints    []EndpointStatus `json:"endpoints"`     // members in the site file's order, then those that leave
	HealthyShare float64          `json:"healthy_share"` // of the capacity of which something is known; 0 to 1
	Panic        bool             `json:"panic"`         // all endpoints are used, sick ones too
	Spilt        int64            `json:"spill_refused"` // for want of room at the endpoints that were left; in a dry run: would have been
	Blind        bool             `json:"blind"`         // nothing is known yet, and all endpoints are used
	Membership   MembershipStatus `json:"membership"`
}

// MembershipStatus is how the members are found.
type MembershipStatus struct {
	Source  string    `json:"source"`           // static, dns or file, with the name
	Held    bool      `json:"held"`             // the last set was not applied
	Reason  string    `json:"reason,omitempty"` // why it was not
	Since   time.Time `json:"since,omitzero"`   // held since
	Found   int       `json:"found"`            // endpoints in use that were found
	Updated time.Time `json:"updated,omitzero"` // when a set was last applied
}

// EndpointStatus is one endpoint.
type EndpointStatus struct {
	Address         string          `json:"address"`
	Zone            string          `json:"zone,omitempty"`
	Priority        int             `json:"priority"`
	Weight          int             `json:"weight"`
	EffectiveWeight float64         `json:"effective_weight"` // after slow start and 429 or 503 answers; 0: not picked
	State           string          `json:"state"`            // up, down, drain, ejected, unknown or slow_start
	Admin           string          `json:"admin"`            // up, down or drain
	Why             string          `json:"why"`
	Suspect         string          `json:"suspect,omitempty"` // why its answers look bad beside the others'; its share is lowered
	Since           time.Time       `json:"since"`             // in this state
	InFlight        int64           `json:"in_flight"`
	Picks           int64           `json:"picks"`
	Failures        int64           `json:"failures"`                 // no answer, 5xx or 429
	Ejections       int             `json:"ejections"`                // in a row
	Ejected         int64           `json:"ejected"`                  // since it joined
	Breaker         string          `json:"breaker"`                  // closed, half-open (on trial) or open (ejected)
	BreakerByHand   time.Time       `json:"breaker_by_hand,omitzero"` // held by hand until then
	EWMA            float64         `json:"ewma_ms"`                  // latency: as ewma and prequal weigh it, with other methods the mean of about the last 16 answers; 0: unknown
	Utilisation     float64         `json:"utilisation,omitempty"`    // as the endpoint tells it, 1 for full; 0: it does not, or not lately
	Room            int64           `json:"room,omitempty"`           // requests at once that may spill to it; 0: any number
	Leaving         bool            `json:"leaving,omitempty"`
	Verdicts        []VerdictStatus `json:"verdicts,omitempty"` // the last 32, oldest first
}

// VerdictStatus is the result of one probe.
type VerdictStatus struct {
	At      time.Time `json:"at"`
	Healthy bool      `json:"healthy"`
	Void    bool      `json:"void,omitempty"` // the probe could not be made; says nothing about the endpoint
	Reason  string    `json:"reason"`
	Took    float64   `json:"took_ms"`
}

// InService is how many endpoints are picked now. It takes no lock.
func (p *Pool) InService() int { return p.snap.Load().inUse }

// Strays is how many exchanges wait for an answer of endpoints that were taken out of service since they were sent there: they take nothing of what the others can
// do. It takes no lock.
func (p *Pool) Strays() int { return int(max(p.strays.Load(), 0)) }

// Status returns what the pool knows. It costs some µs per endpoint and takes the lock of the pool for as long.
func (p *Pool) Status() Status {
	p.mu.Lock()
	defer p.unlock()
	now, s := p.clock(), p.snap.Load()
	out := Status{Pool: p.name, Method: p.cfg.Method, Ready: p.ready.Load(), HealthyShare: s.share, Panic: s.panics, Blind: s.unknown, Spilt: p.spilt.Load(),
		Membership: p.found.status(p.cfg), Endpoints: make([]EndpointStatus, 0, len(p.members)+len(p.leaving))}
	for _, m := range p.members {
		out.Endpoints = append(out.Endpoints, p.statusOf(m, now))
	}
	for _, m := range p.leaving {
		out.Endpoints = append(out.Endpoints, p.statusOf(m, now))
	}
	return out
}

func (p *Pool) statusOf(m *member, now time.Time) EndpointStatus {
	busy := m.InFlight.Load()
	out := EndpointStatus{Address: m.Address, Zone: m.zone, Priority: m.priority, Weight: m.weight, State: m.state(now),
		Admin: m.admin, Why: m.why, Since: m.since, InFlight: busy, Picks: m.done.Load() + busy, Failures: m.failures.Load(),
		Ejections: m.strikes + m.terms, Suspect: m.standing.suspect, Leaving: m.left,
		Room: m.room.Load(), Ejected: m.ejections.Load(), Breaker: m.breaker(), BreakerByHand: m.held.until}
	if !m.skip.Load() {
		out.EffectiveWeight = float64(m.weight) * max(m.vitals.factor(now)*m.believed(), seldom)
	}
	if u, ok := m.utilisation(p.nanos()); ok {
		out.Utilisation = u
	}
	out.EWMA = float64(m.took.Load()) / float64(time.Millisecond)
	if m.rtt.word.Load() != 0 {
		out.EWMA = m.rtt.at(p.nanos(), 0) / float64(time.Millisecond)
	}
	past := m.health.History()
	for _, v := range past[max(0, len(past)-verdictsShown):] {
		out.Verdicts = append(out.Verdicts, VerdictStatus{At: v.At, Healthy: v.Healthy, Void: v.Void, Reason: v.Reason,
			Took: float64(v.Took) / float64(time.Millisecond)})
	}
	return out
}
