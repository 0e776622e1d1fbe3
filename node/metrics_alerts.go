package node

import "github.com/even-keel/evenkeel/console"

var (
	descAlerts   = desc("alerts", "Alerts that are pending or firing.", "alert", "severity", "state")
	descToldOf   = desc("notifications_total", "Notifications by receiver: sent, attempts that failed, and lost ones, which were refused, too old or too many.", "receiver", "result")
	descWaiting  = desc("notifications_waiting", "Notifications that wait for their receiver.", "receiver")
	descSilences = desc("silences", "Silences that hold now.")
)

// alerts shows what needs a person, and how those fare who are told.
func (s sink) alerts(v console.Alerts) {
	count := map[[3]string]int{}
	for _, a := range v.Alerts {
		if a.State != "resolved" {
			count[[3]string{a.Name, a.Severity, a.State}]++
		}
	}
	for key, n := range count {
		s.gauge(descAlerts, float64(n), key[0], key[1], key[2])
	}
	silences := 0
	for _, x := range v.Silences {
		if v.At.Before(x.End) {
			silences++
		}
	}
	s.gauge(descSilences, float64(silences))
	for _, r := range v.Receivers {
		s.counter(descToldOf, r.Sent, r.Name, "sent")
		s.counter(descToldOf, r.Failed, r.Name, "failed")
		s.counter(descToldOf, r.Lost, r.Name, "lost")
		s.gauge(descWaiting, float64(r.Waiting), r.Name)
	}
}
