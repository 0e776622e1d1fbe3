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

	descLimitKeys     = desc("limit_keys", "Keys that the limit remembers.", "limit")
	descLimitAdmitted = desc("limit_admitted_total", "Requests that the limit let through.", "limit")
	descLimitRefused  = desc("limit_refused_total", "Requests that the limit refused.", "limit")
	descLimitWould    = desc("limit_would_refuse_total", "Requests that a dry run of the limit would have refused.", "limit")

	descQuotaKeys     = desc("quota_keys", "Keys that the quota counts.", "quota")
	descQuotaAdmitted = desc("quota_admitted_total", "Requests that the quota let through.", "quota")
	descQuotaRefused  = desc("quota_refused_total", "Requests that the quota refused.", "quota")
	descQuotaWould    = desc("quota_would_refuse_total", "Requests that a dry run of the quota would have refused.", "quota")

	descGuardOver      = desc("guard_overloaded", "1 while evenkeel itself is overloaded.")
	descGuardScheduler = desc("guard_scheduler_seconds", "99th percentile of the time that runnable work waits for a processor.")
	descGuardShare     = desc("guard_share", "Used share of a resource of the process, 0 to 1.", "resource")
	descGuardRefused   = desc("guard_refused_total", "Requests refused because evenkeel itself was overloaded.")
	descGuardWould     = desc("guard_would_refuse_total", "Requests that a dry run of the guard would have refused.")
	descGuardIdle      = desc("guard_idle_closed_total", "Idle connections closed because files ran short.")

	descScreened     = desc("screen_requests_total", "Requests by what became of their screening: screened, or passed for want of a place.", "result")
	descScreenAttack = desc("screen_attacks_total", "Requests that were found to be attacks.")
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
	for _, l := range n.viewLimits() {
		out.gauge(descLimitKeys, float64(l.Keys), l.Name)
		out.counter(descLimitAdmitted, l.Admitted, l.Name)
		out.counter(descLimitRefused, l.Refused, l.Name)
		out.counter(descLimitWould, l.WouldRefuse, l.Name)
	}
	for _, q := range n.viewQuotas() {
		out.gauge(descQuotaKeys, float64(q.Keys), q.Name)
		out.counter(descQuotaAdmitted, q.Admitted, q.Name)
		out.counter(descQuotaRefused, q.Refused, q.Name)
		out.counter(descQuotaWould, q.WouldRefuse, q.Name)
	}
	if g := n.viewGuard(); g != nil {
		out.guard(*g)
	}
	if s := n.viewScreen(); s != nil {
		out.counter(descScreened, s.Screened, "screened")
		out.counter(descScreened, s.Passed, "passed")
		out.counter(descScreenAttack, s.Attacks)
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

func (s sink) guard(g console.GuardLoad) {
	s.gauge(descGuardOver, number(g.Overloaded))
	s.gauge(descGuardScheduler, g.SchedulerP99MS/1000)
	s.gauge(descGuardShare, g.MemoryShare, "memory")
	s.gauge(descGuardShare, g.FilesShare, "files")
	s.gauge(descGuardShare, g.FlightShare, "flight")
	s.counter(descGuardRefused, g.Refused)
	s.counter(descGuardWould, g.WouldRefuse)
	s.counter(descGuardIdle, g.IdleClosed)
}
