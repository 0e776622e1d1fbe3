package node

import (
	"github.com/even-keel/evenkeel/admit/guard"
	"github.com/even-keel/evenkeel/site"
)

var (
	descGuardShare  = desc("guard_refused_share", "Share of the requests of a class that evenkeel refuses to protect itself, 0 to 1.", "class")
	descGuardWait   = desc("guard_scheduler_seconds", "99th percentile of the time that work waited for a processor, of the last window.")
	descGuardUsed   = desc("guard_used", "What evenkeel uses of what it may use, 0 to 1.", "of")
	descGuardWould  = desc("guard_would_refuse_total", "Requests that would have been refused, in a dry run.")
	descGuardClosed = desc("guard_idle_closed_total", "Idle connections closed because memory or descriptors were short.")
)

// guard tells what the guard does.
func (s sink) guard(g guard.Status) {
	s.gauge(descGuardShare, g.RefuseLow, site.ClassLow)
	s.gauge(descGuardShare, g.RefuseStandard, site.ClassStandard)
	s.gauge(descGuardShare, g.RefuseCritical, site.ClassCritical)
	s.gauge(descGuardWait, g.SchedulerP99MS/1e3)
	s.gauge(descGuardUsed, g.CPUShare, "processors")
	s.gauge(descGuardUsed, g.MemoryShare, "memory")
	s.gauge(descGuardUsed, g.FilesShare, "files")
	s.gauge(descGuardUsed, g.FlightShare, "in_flight")
	s.gauge(descGuardUsed, g.AcceptShare, "accept_queue")
	s.counter(descGuardWould, g.WouldRefuse)
	s.counter(descGuardClosed, g.IdleClosed)
}
