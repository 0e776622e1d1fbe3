package node

import "github.com/even-keel/evenkeel/console"

var (
	descBreaker        = desc("breaker_state", "The breaker of the pool: 0 closed, 1 half-open, 2 open.", "pool")
	descBreakerTurns   = desc("breaker_transitions_total", "Changes of the pool's breaker by the state they led to and their cause.", "pool", "to", "cause")
	descBreakerRefused = desc("breaker_refused_total", "Requests that the pool's breaker refused, or would have in a dry run.", "pool")
	descBreakerHand    = desc("breaker_by_hand", "1 while the pool's breaker is held by hand.", "pool")
	descEndBreaker     = desc("endpoint_breaker_state", "The breaker of the endpoint: 0 closed, 1 half-open (on probation), 2 open (ejected).", "pool", "endpoint")
	descEjections      = desc("endpoint_ejections_total", "Times the endpoint was taken out because of its answers or for want of them.", "pool", "endpoint")
)

// breakerNumber is a breaker's state as a metric.
func breakerNumber(state string) float64 {
	switch state {
	case console.BreakerHalfOpen:
		return 1
	case console.BreakerOpen:
		return 2
	}
	return 0
}

// breakers writes those of a pool and its endpoints.
func (s sink) breakers(pool string, p console.Pool) {
	if b := p.Breaker; b != nil {
		s.gauge(descBreaker, breakerNumber(b.State), pool)
		s.counter(descBreakerRefused, b.Refused, pool)
		s.gauge(descBreakerHand, number(!b.ByHand.IsZero()), pool)
		for _, t := range b.Turns {
			s.counter(descBreakerTurns, t.Count, pool, t.To, t.Cause)
		}
	}
	for _, e := range p.Endpoints {
		s.gauge(descEndBreaker, breakerNumber(e.Breaker), pool, e.Address)
		s.counter(descEjections, e.Ejections, pool, e.Address)
	}
}

var (
	descBulkUsed    = desc("bulkhead_in_use", "Places in use, by what they are shared out: pool, route, class or customer.", "pool", "by", "name")
	descBulkKept    = desc("bulkhead_kept", "Places that are kept at the moment; what is idle is lent.", "pool", "by", "name")
	descBulkMost    = desc("bulkhead_most", "Places that may be in use at the most.", "pool", "by", "name")
	descBulkRefused = desc("bulkhead_refused_total", "Requests that found no place, or would not have in a dry run.", "pool", "by", "name")
)

// bulkhead writes that of a pool.
func (s sink) bulkhead(pool string, b *console.Bulkhead) {
	if b == nil {
		return
	}
	for _, p := range b.Parts {
		s.gauge(descBulkUsed, float64(p.Used), pool, p.By, p.Name)
		s.counter(descBulkRefused, p.Refused, pool, p.By, p.Name)
		if p.By != "customer" {
			s.gauge(descBulkKept, float64(p.Kept), pool, p.By, p.Name)
			s.gauge(descBulkMost, float64(p.Most), pool, p.By, p.Name)
		}
	}
}
