package node

import (
	"maps"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/site"
)

var (
	descShedLimit    = desc("shed_limit", "Requests at once that the shedder found right for the pool.", "pool")
	descShedFlight   = desc("shed_in_flight", "Requests that the shedder admitted and whose answers have not begun.", "pool")
	descShedStrays   = desc("shed_strays", "Requests that wait for an endpoint which was taken out of service meanwhile. They take no place of the others.", "pool")
	descShedWaiting  = desc("shed_waiting", "Requests that wait for a place.", "pool")
	descShedQueue    = desc("shed_queue_seconds", "How long the request that waits longest has waited.", "pool")
	descShedCapacity = desc("shed_capacity", "Requests per second that the endpoints were found to do; 0: not known yet.", "pool")
	descShedLowOff   = desc("shed_low_off", "1 while low requests are refused as a whole.", "pool")
	descShedHand     = desc("shed_by_hand", "1 while requests of the class are refused by hand.", "pool", "class")
	descShedWould    = desc("shed_would_refuse_total", "Requests that a dry run of the shedder would have refused.", "pool", "class")

	descQuotaKeys = desc("quota_keys", "Keys that the quota counts.", "quota")
	descQuota     = desc("quota_requests_total", "Requests by quota: admitted, refused, or would_refuse for a dry run.", "quota", "result")

	descScreened     = desc("screen_requests_total", "Requests by what became of their screening: screened, passed for want of a place, unsampled, refused for want of a place, failed.", "result")
	descScreenAttack = desc("screen_attacks_total", "Requests that were found to be attacks, or malformed.")
	descScreenBlock  = desc("screen_blocked_total", "Requests that were blocked as attacks.")
	descScreenWaited = desc("screen_waited_total", "Requests that waited for a place to be screened.")
	descRuleHits     = desc("rule_hits_total", "Requests that met a rule of the site, by its name; of limits those beyond.", "rule")
	descScreenBusy   = desc("screen_busy", "Requests that are screened now.")
)

// overload writes what protects the pools and the node, of which o holds what the shedders, quotas and screening say.
func (s sink) overload(o console.Overload) {
	for _, p := range o.Pools {
		if p.Mode != site.ModeOff && p.Limit > 0 { // 0: no route leads there yet
			s.shed(p.Pool, p)
		}
		for class := range p.ByHand {
			s.gauge(descShedHand, 1, p.Pool, class)
		}
	}
	for _, q := range o.Quotas {
		s.gauge(descQuotaKeys, float64(q.Keys), q.Name)
		s.counter(descQuota, q.Admitted, q.Name, "admitted")
		s.counter(descQuota, q.Refused, q.Name, "refused")
		s.counter(descQuota, q.WouldRefuse, q.Name, "would_refuse")
	}
	if c := o.Screen; c != nil {
		s.counter(descScreened, c.Screened, "screened")
		s.counter(descScreened, c.Passed, "passed")
		s.counter(descScreened, c.Unsampled, "unsampled")
		s.counter(descScreened, c.Refused, "refused")
		s.counter(descScreened, c.Failed, "failed")
		s.counter(descScreenAttack, c.Attacks+c.Malformed)
		s.counter(descScreenBlock, c.Blocked)
		s.counter(descScreenWaited, c.Waited)
		s.gauge(descScreenBusy, float64(c.Busy))
		for _, h := range c.OwnHits {
			s.counter(descRuleHits, h.Hits, h.Rule)
		}
	}
}

// protections are what overload writes.
func (n *Node) protections(pools map[string]*runningPool) console.Overload {
	o, now := console.Overload{Quotas: n.viewQuotas(), Screen: n.viewScreen()}, time.Now()
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		p := n.viewShed(name)
		p.Pool, p.ByHand = name, n.byHand(name, now)
		o.Pools = append(o.Pools, p)
	}
	return o
}

func (s sink) shed(pool string, p console.PoolLoad) {
	s.gauge(descShedLimit, p.Limit, pool)
	s.gauge(descShedFlight, float64(p.InFlight), pool)
	s.gauge(descShedStrays, float64(p.Strays), pool)
	s.gauge(descShedWaiting, float64(p.Waiting), pool)
	s.gauge(descShedQueue, p.QueueMS/1000, pool)
	s.gauge(descShedCapacity, p.CapacityPerSecond, pool)
	s.gauge(descShedLowOff, number(p.LowOff), pool)
	for _, c := range p.Classes {
		s.counter(descShedWould, c.WouldRefuse, pool, c.Class)
	}
}
