package node

import (
	"maps"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/console"
)

var (
	descShedLimit    = desc("shed_limit", "Requests at once that the shedder found right for the pool.", "pool")
	descShedFlight   = desc("shed_in_flight", "Requests that the shedder admitted and whose answers have not begun.", "pool")
	descShedWaiting  = desc("shed_waiting", "Requests that wait for a place.", "pool")
	descShedQueue    = desc("shed_queue_seconds", "How long those waited that were admitted lately.", "pool")
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
	descScreenBusy   = desc("screen_busy", "Requests that are screened now.")
)

// overload writes what protects the pools and the node.
func (m *metrics) overload(out sink, pools map[string]*runningPool) {
	n := m.node
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		if p := n.viewShed(name); p.Mode != "off" {
			out.shed(name, p)
		}
		for class := range n.switches.of(name, now) {
			out.gauge(descShedHand, 1, name, class)
		}
	}
	for _, q := range n.viewQuotas() {
		out.gauge(descQuotaKeys, float64(q.Keys), q.Name)
		out.counter(descQuota, q.Admitted, q.Name, "admitted")
		out.counter(descQuota, q.Refused, q.Name, "refused")
		out.counter(descQuota, q.WouldRefuse, q.Name, "would_refuse")
	}
	if s := n.viewScreen(); s != nil {
		out.counter(descScreened, s.Screened, "screened")
		out.counter(descScreened, s.Passed, "passed")
		out.counter(descScreened, s.Unsampled, "unsampled")
		out.counter(descScreened, s.Refused, "refused")
		out.counter(descScreened, s.Failed, "failed")
		out.counter(descScreenAttack, s.Attacks+s.Malformed)
		out.counter(descScreenBlock, s.Blocked)
		out.counter(descScreenWaited, s.Waited)
		out.gauge(descScreenBusy, float64(s.Busy))
	}
}

func (s sink) shed(pool string, p console.PoolLoad) {
	s.gauge(descShedLimit, p.Limit, pool)
	s.gauge(descShedFlight, float64(p.InFlight), pool)
	s.gauge(descShedWaiting, float64(p.Waiting), pool)
	s.gauge(descShedQueue, p.QueueMS/1000, pool)
	s.gauge(descShedCapacity, p.CapacityPerSecond, pool)
	s.gauge(descShedLowOff, number(p.LowOff), pool)
	for _, c := range p.Classes {
		s.counter(descShedWould, c.WouldRefuse, pool, c.Class)
	}
}
