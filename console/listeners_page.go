package console

import "net/http"

// pastShown is a page that shows the view and a past.
type pastShown struct {
	shown
	History *pasts
}

// showListeners makes a view ready for the page about listeners and routes.
func (c *console) showListeners(on shown, r *http.Request) any {
	return pastShown{on, c.pasts(on, r,
		drawing{id: "listener-rate", name: "Requests and connections per second", unit: "/s", asks: []asks{
			{expr: `sum by (listener) (rate(evenkeel_requests_total[$w]))`, by: "listener"}}},
		drawing{id: "listener-open", name: "Open connections", asks: []asks{{expr: `sum by (listener) (evenkeel_connections)`, by: "listener"}}},
		drawing{id: "listener-refused", name: "Connections refused, by why", unit: "/s", asks: []asks{
			{expr: `sum by (reason) (rate(evenkeel_connections_refused_total[$w]))`, by: "reason"}}},
		drawing{id: "listener-sent", name: "Sent to clients a second", unit: "B", asks: []asks{{expr: `sum by (listener) (rate(evenkeel_sent_bytes_total[$w]))`, by: "listener"}}},
	)}
}

// showLimits makes a view ready for the page about limits and quotas.
func (c *console) showLimits(on shown, r *http.Request) any {
	return pastShown{on, c.pasts(on, r,
		drawing{id: "limit-refused", name: "Refused by limits", unit: "/s", asks: []asks{
			{expr: `sum by (limit) (rate(evenkeel_limit_requests_total{result="refused"}[$w]))`, by: "limit"},
			{expr: `sum by (quota) (rate(evenkeel_quota_requests_total{result="refused"}[$w]))`, by: "quota"}}},
		drawing{id: "limit-admitted", name: "Admitted by limits", unit: "/s", asks: []asks{
			{expr: `sum by (limit) (rate(evenkeel_limit_requests_total{result="admitted"}[$w]))`, by: "limit"}}},
		drawing{id: "limit-dry", name: "Would be refused, in dry runs", unit: "/s", asks: []asks{
			{expr: `sum by (limit) (rate(evenkeel_limit_requests_total{result="would_refuse"}[$w]))`, by: "limit"}}},
		drawing{id: "limit-keys", name: "Keys remembered", asks: []asks{{expr: `sum by (limit) (evenkeel_limit_keys)`, by: "limit"}}},
	)}
}

// hasLimits says whether the site limits anybody.
func hasLimits(v View) bool { return len(v.Overload.Limits)+len(v.Overload.Quotas) > 0 }

// limitsTwin is the page about limits as data.
func (c *console) limitsTwin(w http.ResponseWriter, _ *http.Request) {
	o := c.now().Overload
	answer(w, http.StatusOK, map[string]any{"limits": o.Limits, "quotas": o.Quotas})
}

// showCache makes a view ready for the page about the cache.
func (c *console) showCache(on shown, r *http.Request) any {
	return struct {
		pastShown
		Cache    *CacheLoad
		CanPurge bool
	}{pastShown{on, c.pasts(on, r,
		drawing{id: "cache-results", name: "What became of requests", unit: "/s", stack: true, asks: []asks{
			{expr: `sum by (result) (rate(evenkeel_cache_requests_total[$w]))`, by: "result"}}},
		drawing{id: "cache-stale", name: "Stale answers, by why", unit: "/s", asks: []asks{{expr: `sum by (why) (rate(evenkeel_cache_stale_total[$w]))`, by: "why"}}},
		drawing{id: "cache-bytes", name: "Memory of stored answers", unit: "B", asks: []asks{
			{expr: `evenkeel_cache_bytes`, name: "stored"}, {expr: `evenkeel_cache_limit_bytes`, name: "allowed", kind: "limit"}}},
		drawing{id: "cache-removed", name: "Removed, by why", unit: "/s", asks: []asks{{expr: `sum by (why) (rate(evenkeel_cache_removed_total[$w]))`, by: "why"}}},
	)}, on.Degrade.Cache, c.deps.Purge != nil}
}

// hasCache says whether a route keeps answers.
func hasCache(v View) bool { return v.Degrade != nil && v.Degrade.Cache != nil }
