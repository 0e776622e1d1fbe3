package node

import "github.com/even-keel/evenkeel/slo"

var (
	descTold        = desc("overload_answers_total", "Answers with status 429 or 503, of evenkeel and of endpoints: the first signs of overload.", "listener", "route", "code")
	descTarget      = desc("slo_target", "Share that is to be good.", "objective")
	descIndicator   = desc("slo_indicator", "Share that was good in the objective's window; 1 when there was nothing.", "objective")
	descErrorBudget = desc("slo_budget_left", "Share of the error budget that is left; below 0: overspent.", "objective")
	descBurn        = desc("slo_burn_rate", "How many times as fast as it may the error budget burns, over the windows of the alerts.", "objective", "window")
	descDue         = desc("slo_alert_due", "1 while the burn rates of an alert are reached.", "objective", "severity", "window")
	descFrozen      = desc("slo_frozen", "1 while changes should wait, by the objective's policy.", "objective")
	descEvents      = desc("slo_events_total", "Requests, probes or moments that the objective counts.", "objective")
	descGood        = desc("slo_good_events_total", "Those of them that were good.", "objective")
)

// objectives shows what was promised and kept.
func (s sink) objectives(all []slo.Status) {
	for _, st := range all {
		name := st.Objective.Name
		s.gauge(descTarget, st.Objective.Target, name)
		s.gauge(descIndicator, st.Indicator, name)
		s.gauge(descErrorBudget, st.Left, name)
		s.gauge(descFrozen, number(st.Policy.Freeze), name)
		s.counter(descEvents, st.Source.Total, name)
		s.counter(descGood, st.Source.Good, name)
		rates := map[string]float64{} // the long window of one alert may be the short one of another
		for _, b := range st.Burns {
			rates[slo.Span(b.Long)], rates[slo.Span(b.Short)] = b.LongRate, b.ShortRate
			s.gauge(descDue, number(b.Due), name, b.Severity, slo.Span(b.Long))
		}
		for window, rate := range rates {
			s.gauge(descBurn, rate, name, window)
		}
	}
}
