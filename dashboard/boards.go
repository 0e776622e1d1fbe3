package dashboard

// lines is a chart of curves.
func lines(title, about, unit string, queries ...Query) Panel {
	return Panel{Title: title, About: about, Kind: "timeseries", Unit: unit, Queries: queries}
}

// stacked is a chart of parts of a whole.
func stacked(title, about, unit string, queries ...Query) Panel {
	p := lines(title, about, unit, queries...)
	p.Stacked = true
	return p
}

// figure is one number.
func figure(title, unit, expr string, limits ...float64) Panel {
	return Panel{Title: title, Kind: "stat", Unit: unit, Limits: limits, Queries: []Query{{expr, ""}}}
}

// share is a chart of shares of one.
func share(title, about string, queries ...Query) Panel {
	p := lines(title, about, "percentunit", queries...)
	p.Max = 1
	return p
}

// Boards are the dashboards that evenkeel ships. burns are the burn rates from which somebody is told, the least first.
func Boards(burns []float64) []Board {
	return []Board{overview(), pools(), overload(), objectives(burns), machine()}
}

func overview() Board {
	return Board{Name: "overview", Title: "evenkeel / Overview", About: "What comes, what is answered, what is refused, and who needs somebody.", Rows: []Row{
		{"Now", []Panel{
			figure("Requests", "reqps", `sum(rate(evenkeel_requests_total{$of}[$__rate_interval]))`),
			figure("Failed (5xx)", "percentunit", `sum(rate(evenkeel_requests_total{$of,code="5xx"}[$__rate_interval])) / sum(rate(evenkeel_requests_total{$of}[$__rate_interval]))`, 0.001, 0.01),
			figure("Refused", "percentunit", `sum(rate(evenkeel_refused_total{$of}[$__rate_interval])) / sum(rate(evenkeel_requests_total{$of}[$__rate_interval]))`, 0.01, 0.1),
			figure("99th percentile", "s", `histogram_quantile(0.99, sum by (le) (rate(evenkeel_request_seconds_bucket{$of}[$__rate_interval])))`),
			figure("Least budget left", "percentunit", `min(evenkeel_slo_budget_left{$of})`),
			figure("Alerts firing", "short", `count(evenkeel_alerts{$of,state="firing",severity!="none"}) or vector(0)`, 1),
		}},
		{"Load", []Panel{
			stacked("Requests by class", "All that ended, refused ones too.", "reqps", Query{`sum by (class) (rate(evenkeel_requests_total{$of}[$__rate_interval]))`, "{{class}}"}),
			stacked("Refused by stage", "Who said no.", "reqps", Query{`sum by (stage, reason) (rate(evenkeel_refused_total{$of}[$__rate_interval]))`, "{{stage}}: {{reason}}"}),
			lines("429 and 503", "The first signs of overload, of evenkeel and of endpoints.", "reqps", Query{`sum by (route, code) (rate(evenkeel_overload_answers_total{$of}[$__rate_interval])) > 0`, "{{route}} {{code}}"}),
		}},
		{"Answers", []Panel{
			stacked("Answers by status", "", "reqps", Query{`sum by (code) (rate(evenkeel_requests_total{$of}[$__rate_interval]))`, "{{code}}"}),
			lines("Latency by route", "99th percentile of those that were not turned away. Points are recorded traces.", "s", Query{`histogram_quantile(0.99, sum by (le, route) (rate(evenkeel_request_seconds_bucket{$of}[$__rate_interval])))`, "{{route}}"}),
			lines("In flight", "", "short", Query{`sum by (listener) (evenkeel_in_flight{$of})`, "{{listener}}"}),
		}},
		{"Health", []Panel{
			share("Healthy share of pools", "", Query{`min by (pool) (evenkeel_pool_healthy_share{$of})`, "{{pool}}"}),
			lines("Error budget left", "Below 0: overspent.", "percentunit", Query{`min by (objective) (evenkeel_slo_budget_left{$of})`, "{{objective}}"}),
			{Title: "Alerts", Kind: "table", Unit: "short", Queries: []Query{{`max by (alert, severity, state) (evenkeel_alerts{$of,severity!="none"})`, ""}}},
		}},
	}}
}

func pools() Board {
	return Board{Name: "pools", Title: "evenkeel / Pools", About: "Endpoints, breakers, retries and bulkheads.", Vars: []Var{{"pool", "pool", "evenkeel_pool_healthy_share"}}, Rows: []Row{
		{"Endpoints", []Panel{
			{Title: "Up", Kind: "state-timeline", Unit: "short", Limits: []float64{0.5}, Rising: true, Queries: []Query{{`evenkeel_endpoint_up{$of}`, "{{pool}} {{endpoint}}"}}},
			lines("In flight", "", "short", Query{`evenkeel_endpoint_in_flight{$of}`, "{{pool}} {{endpoint}}"}),
			lines("Chosen", "", "reqps", Query{`sum by (pool, endpoint) (rate(evenkeel_endpoint_picks_total{$of}[$__rate_interval]))`, "{{pool}} {{endpoint}}"}),
			lines("Failed attempts", "", "reqps", Query{`sum by (pool, endpoint) (rate(evenkeel_endpoint_failures_total{$of}[$__rate_interval]))`, "{{pool}} {{endpoint}}"}),
		}},
		{"Retries", []Panel{
			lines("Attempts", "The first of each request and all repeats.", "reqps", Query{`sum by (pool) (rate(evenkeel_attempts_total{$of}[$__rate_interval]))`, "{{pool}}"}),
			stacked("Repeats by what had failed", "", "reqps", Query{`sum by (pool, reason) (rate(evenkeel_retries_total{$of}[$__rate_interval]))`, "{{pool}}: {{reason}}"}),
			stacked("Not repeated, and why", "", "reqps", Query{`sum by (pool, why) (rate(evenkeel_retries_denied_total{$of}[$__rate_interval]))`, "{{pool}}: {{why}}"}),
			lines("Repeats that the budget has left", "", "short", Query{`evenkeel_retry_budget{$of}`, "{{pool}}"}),
		}},
		{"Breakers", []Panel{
			lines("Breakers of pools", "0 closed, 1 half-open, 2 open.", "short", Query{`max by (pool) (evenkeel_breaker_state{$of})`, "{{pool}}"}),
			lines("Breakers of endpoints", "0 closed, 1 half-open, 2 open.", "short", Query{`max by (pool, endpoint) (evenkeel_endpoint_breaker_state{$of})`, "{{pool}} {{endpoint}}"}),
			lines("Ejections", "", "short", Query{`sum by (pool, endpoint) (increase(evenkeel_endpoint_ejections_total{$of}[$__rate_interval]))`, "{{pool}} {{endpoint}}"}),
			lines("Refused by breakers", "", "reqps", Query{`sum by (pool) (rate(evenkeel_breaker_refused_total{$of}[$__rate_interval]))`, "{{pool}}"}),
		}},
		{"Bulkheads", []Panel{
			lines("Places in use", "", "short", Query{`sum by (pool, by, name) (evenkeel_bulkhead_in_use{$of})`, "{{pool}} {{by}} {{name}}"}),
			lines("Found no place", "", "reqps", Query{`sum by (pool, by, name) (rate(evenkeel_bulkhead_refused_total{$of}[$__rate_interval]))`, "{{pool}} {{by}} {{name}}"}),
		}},
	}}
}

func overload() Board {
	return Board{Name: "overload", Title: "evenkeel / Overload", About: "Shedders, limits, quotas, and how evenkeel protects itself.", Rows: []Row{
		{"Shedders", []Panel{
			lines("Limit and load", "Requests at once that the shedder found right, and those admitted.", "short", Query{`evenkeel_shed_limit{$of}`, "{{pool}} limit"}, Query{`evenkeel_shed_in_flight{$of}`, "{{pool}} in flight"}),
			lines("Waiting", "", "short", Query{`evenkeel_shed_waiting{$of}`, "{{pool}}"}),
			lines("Longest wait", "", "s", Query{`evenkeel_shed_queue_seconds{$of}`, "{{pool}}"}),
			lines("Capacity found", "", "reqps", Query{`evenkeel_shed_capacity{$of} > 0`, "{{pool}}"}),
		}},
		{"Who is refused", []Panel{
			share("Share of each class that gets in", "", Query{`1 - sum by (class) (rate(evenkeel_refused_total{$of}[$__rate_interval])) / (sum by (class) (rate(evenkeel_requests_total{$of}[$__rate_interval])) > 0)`, "{{class}}"}),
			stacked("By limit", "", "reqps", Query{`sum by (limit) (rate(evenkeel_limit_requests_total{$of,result="refused"}[$__rate_interval]))`, "{{limit}}"}),
			stacked("By quota", "", "reqps", Query{`sum by (quota) (rate(evenkeel_quota_requests_total{$of,result="refused"}[$__rate_interval]))`, "{{quota}}"}),
			stacked("Would be, in dry runs", "", "reqps", Query{`sum by (pool, class) (rate(evenkeel_shed_would_refuse_total{$of}[$__rate_interval]))`, "shed {{pool}} {{class}}"}, Query{`sum by (limit) (rate(evenkeel_limit_requests_total{$of,result="would_refuse"}[$__rate_interval]))`, "limit {{limit}}"}),
		}},
		{"evenkeel itself", []Panel{
			share("What of the node is in use", "", Query{`evenkeel_guard_used{$of}`, "{{of}}"}),
			share("Refused to protect itself", "", Query{`evenkeel_guard_refused_share{$of}`, "{{class}}"}),
			lines("Wait for a processor", "99th percentile.", "s", Query{`evenkeel_guard_scheduler_seconds{$of}`, "{{instance}}"}),
			lines("Accept queues full", "", "short", Query{`sum by (instance) (increase(evenkeel_guard_listen_overflows_total{$of}[$__rate_interval]))`, "{{instance}}"}),
		}},
		{"Screening", []Panel{
			stacked("Screened", "", "reqps", Query{`sum by (result) (rate(evenkeel_screen_requests_total{$of}[$__rate_interval]))`, "{{result}}"}),
			lines("Attacks", "", "reqps", Query{`sum(rate(evenkeel_screen_attacks_total{$of}[$__rate_interval]))`, "found"}, Query{`sum(rate(evenkeel_screen_blocked_total{$of}[$__rate_interval]))`, "blocked"}),
		}},
	}}
}

func objectives(burns []float64) Board {
	burn := lines("Burn rate", "How many times as fast as it may the error budget burns. Lines: from where somebody is told.", "short", Query{`max by (objective, window) (evenkeel_slo_burn_rate{$of})`, "{{objective}} {{window}}"})
	burn.Limits = burns
	return Board{Name: "objectives", Title: "evenkeel / Objectives", About: "What was promised, and how much of the error budgets is left.", Vars: []Var{{"objective", "objective", "evenkeel_slo_target"}}, Rows: []Row{
		{"Now", []Panel{
			{Title: "Error budget left", Kind: "stat", Unit: "percentunit", Queries: []Query{{`min by (objective) (evenkeel_slo_budget_left{$of})`, "{{objective}}"}}},
			{Title: "Good in the window", Kind: "stat", Unit: "percentunit", Queries: []Query{{`min by (objective) (evenkeel_slo_indicator{$of})`, "{{objective}}"}}},
			{Title: "Promised", Kind: "stat", Unit: "percentunit", Queries: []Query{{`max by (objective) (evenkeel_slo_target{$of})`, "{{objective}}"}}},
			{Title: "Changes should wait", Kind: "stat", Unit: "bool_yes_no", Limits: []float64{1}, Queries: []Query{{`max by (objective) (evenkeel_slo_frozen{$of})`, "{{objective}}"}}},
		}},
		{"Budgets", []Panel{
			lines("Error budget left", "Below 0: overspent.", "percentunit", Query{`min by (objective) (evenkeel_slo_budget_left{$of})`, "{{objective}}"}),
			burn,
		}},
		{"Events", []Panel{
			lines("Counted", "", "reqps", Query{`sum by (objective) (rate(evenkeel_slo_events_total{$of}[$__rate_interval]))`, "{{objective}}"}),
			lines("Bad", "", "reqps", Query{`sum by (objective) (rate(evenkeel_slo_events_total{$of}[$__rate_interval])) - sum by (objective) (rate(evenkeel_slo_good_events_total{$of}[$__rate_interval]))`, "{{objective}}"}),
		}},
	}}
}

func machine() Board {
	return Board{Name: "node", Title: "evenkeel / Node", About: "The process, its connections, its cache, and what it remembers and sends.", Rows: []Row{
		{"Process", []Panel{
			lines("Processors in use", "", "short", Query{`rate(process_cpu_seconds_total{$of}[$__rate_interval]) and on (instance) evenkeel_build_info{$of}`, "{{instance}}"}),
			lines("Resident memory", "", "bytes", Query{`process_resident_memory_bytes{$of} and on (instance) evenkeel_build_info{$of}`, "{{instance}}"}),
			lines("Goroutines", "", "short", Query{`go_goroutines{$of} and on (instance) evenkeel_build_info{$of}`, "{{instance}}"}),
		}},
		{"Connections", []Panel{
			lines("Open", "", "short", Query{`sum by (listener) (evenkeel_connections{$of})`, "{{listener}}"}),
			lines("Accepted", "", "cps", Query{`sum by (listener) (rate(evenkeel_connections_accepted_total{$of}[$__rate_interval]))`, "{{listener}}"}),
			stacked("Refused or cut off", "", "cps", Query{`sum by (listener, reason) (rate(evenkeel_connections_refused_total{$of}[$__rate_interval]))`, "{{listener}}: {{reason}}"}),
			lines("Bodies", "", "Bps", Query{`sum(rate(evenkeel_received_bytes_total{$of}[$__rate_interval]))`, "received"}, Query{`sum(rate(evenkeel_sent_bytes_total{$of}[$__rate_interval]))`, "sent"}),
		}},
		{"Cache", []Panel{
			stacked("Requests at the cache", "", "reqps", Query{`sum by (result) (rate(evenkeel_cache_requests_total{$of}[$__rate_interval]))`, "{{result}}"}),
			lines("Memory", "", "bytes", Query{`evenkeel_cache_bytes{$of}`, "stored"}, Query{`evenkeel_cache_limit_bytes{$of}`, "limit"}),
			stacked("Fallbacks", "", "reqps", Query{`sum by (route, cause) (rate(evenkeel_fallback_total{$of}[$__rate_interval]))`, "{{route}}: {{cause}}"}),
		}},
		{"What it remembers and sends", []Panel{
			lines("Series", "", "short", Query{`evenkeel_monitor_series{$of}`, "in memory"}, Query{`evenkeel_monitor_series_budget{$of}`, "budget"}),
			stacked("Samples dropped", "", "short", Query{`sum by (reason) (rate(evenkeel_monitor_samples_dropped_total{$of}[$__rate_interval]))`, "{{reason}}"}),
			lines("To collectors", "", "short", Query{`sum by (signal) (rate(evenkeel_otlp_sent_total{$of}[$__rate_interval]))`, "{{signal}}"}, Query{`sum by (signal, reason) (rate(evenkeel_otlp_dropped_total{$of}[$__rate_interval]))`, "{{signal}} dropped: {{reason}}"}),
			lines("Notifications", "", "short", Query{`sum by (receiver, result) (increase(evenkeel_notifications_total{$of}[$__rate_interval]))`, "{{receiver}} {{result}}"}),
		}},
	}}
}
