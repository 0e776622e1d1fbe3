package console

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of the page of one pool.
const (
	poolTurns  = 20 // runs of verdicts, the newest
	poolEvents = 12
)

// poolRow is a pool on the page of all.
type poolRow struct {
	Pool
	Load  PoolLoad
	Up    int
	State string
	Tone  string
}

// poolsShown is what the page of all pools sees.
type poolsShown struct {
	pastShown
	Rows []poolRow
	More int
}

// rowOf joins what a view says about a pool.
func rowOf(v View, p Pool) poolRow {
	row := poolRow{Pool: p, Up: upCount(p)}
	row.State, row.Tone = poolState(p)
	for _, load := range v.Overload.Pools {
		if load.Pool == p.Name {
			row.Load = load
		}
	}
	return row
}

// InFlight is how many requests its endpoints have.
func (r poolRow) InFlight() (n int64) {
	for _, e := range r.Endpoints {
		n += e.InFlight
	}
	return n
}

// Full is which share of what the pool takes at once is taken: of the limit that the shedder found, else of its own compartment's most; below 0: nothing bounds it.
func (r poolRow) Full() float64 {
	if r.Load.Limit > 0 {
		return partOf(float64(r.Load.InFlight), r.Load.Limit)
	}
	if r.Bulkhead != nil {
		for _, part := range r.Bulkhead.Parts {
			if part.By == "pool" && part.Most > 0 {
				return partOf(float64(part.Used), float64(part.Most))
			}
		}
	}
	return -1
}

// ErrorShare is which share of the attempts of the last second failed; below 0: there were none.
func (r poolRow) ErrorShare() float64 {
	if r.RPS < noticeable {
		return -1
	}
	return partOf(r.FailedRPS, max(r.RPS, r.FailedRPS))
}

// showPools makes a view ready for the page of all pools.
func (c *console) showPools(on shown, r *http.Request) any {
	s := poolsShown{pastShown: pastShown{on, c.pasts(on, r,
		drawing{id: "pool-rate", name: "Attempts per second", unit: "/s", asks: []asks{{expr: `sum by (pool) (rate(evenkeel_attempts_total[$w]))`, by: "pool"}}},
		drawing{id: "pool-health", name: "Healthy share of capacity", unit: "%", asks: []asks{{expr: `evenkeel_pool_healthy_share`, by: "pool"}}},
		drawing{id: "pool-failures", name: "Failed attempts", unit: "/s", asks: []asks{{expr: `sum by (pool) (rate(evenkeel_endpoint_failures_total[$w]))`, by: "pool"}}},
		drawing{id: "pool-retries", name: "Attempts made again", unit: "/s", asks: []asks{{expr: `sum by (pool) (rate(evenkeel_retries_total[$w]))`, by: "pool"}}},
	)}}
	for _, p := range on.Pools[:min(len(on.Pools), rowLimit)] {
		s.Rows = append(s.Rows, rowOf(on.View, p))
	}
	s.More = len(on.Pools) - len(s.Rows)
	return s
}

// counted is one word with how often it came.
type counted struct {
	Word  string
	Count uint64
}

// mostFirst lists counts by word, the most first.
func mostFirst(m map[string]uint64) (list []counted) {
	for _, word := range slices.Sorted(maps.Keys(m)) {
		if m[word] > 0 {
			list = append(list, counted{word, m[word]})
		}
	}
	slices.SortStableFunc(list, func(a, b counted) int {
		switch {
		case a.Count > b.Count:
			return -1
		case a.Count < b.Count:
			return 1
		}
		return 0
	})
	return list
}

// verdictRun are verdicts in a row that said the same of one endpoint.
type verdictRun struct {
	Endpoint string
	From, To time.Time
	Healthy  bool
	Reason   string
	Count    int
	On       bool // the latest verdict is one of them
}

// runsOf puts the verdicts of a pool's probes into runs, the newest first. Endpoints that were healthy all the time are left out.
func runsOf(p Pool) (list []verdictRun) {
	for _, e := range p.Endpoints {
		var own []verdictRun
		for _, v := range e.History {
			if n := len(own); n > 0 && own[n-1].Healthy == v.Healthy && (v.Healthy || own[n-1].Reason == v.Reason) {
				own[n-1].To, own[n-1].Count = v.At, own[n-1].Count+1
				continue
			}
			one := verdictRun{Endpoint: e.Address, From: v.At, To: v.At, Healthy: v.Healthy, Reason: v.Reason, Count: 1}
			if v.Void {
				one.Reason = strings.TrimSpace("could not be made " + v.Reason)
			}
			own = append(own, one)
		}
		if n := len(own); n > 1 || n == 1 && !own[0].Healthy {
			own[n-1].On = true
			list = append(list, own...)
		}
	}
	slices.SortStableFunc(list, func(a, b verdictRun) int { return b.To.Compare(a.To) })
	return list[:min(len(list), poolTurns)]
}

// poolPageShown is what the page of one pool sees.
type poolPageShown struct {
	pastShown
	Row      poolRow
	Routes   []Route
	Repeats  []counted
	Denied   []counted
	Runs     []verdictRun
	Told     []Event
	CanBreak bool
}

// showPool makes a view ready for the page of one pool.
func (c *console) showPool(on shown, r *http.Request) any {
	p := on.pool(r.PathValue("pool"))
	if p == nil {
		return nil
	}
	on.Title, on.Twin = p.Name, "/api/v1/pools/"+url.PathEscape(p.Name)
	s := poolPageShown{Row: rowOf(on.View, *p), Repeats: mostFirst(p.Retries.Repeats), Denied: mostFirst(p.Retries.Denied), Runs: runsOf(*p), CanBreak: c.deps.Break != nil && p.Breaker != nil}
	for _, one := range on.Routes {
		if one.Pool == p.Name || one.Fallback == p.Name {
			s.Routes = append(s.Routes, one)
		}
	}
	for _, e := range on.Events {
		if e.about(p.Name) {
			s.Told = append(s.Told, e)
		}
	}
	s.Told = fewOfEach(s.Told, poolEvents, 4)
	is := `{pool=` + strconv.Quote(p.Name) + `}`
	s.pastShown = pastShown{on, c.pasts(on, r,
		drawing{id: "own-up", name: "Endpoints that take traffic", stack: true, asks: []asks{{expr: `evenkeel_endpoint_up` + is, by: "endpoint"}}},
		drawing{id: "own-picks", name: "Attempts by endpoint", unit: "/s", asks: []asks{{expr: `rate(evenkeel_endpoint_picks_total` + is + `[$w])`, by: "endpoint"}}},
		drawing{id: "own-failures", name: "Failed attempts by endpoint", unit: "/s", asks: []asks{{expr: `rate(evenkeel_endpoint_failures_total` + is + `[$w])`, by: "endpoint"}}},
		drawing{id: "own-flight", name: "Requests in flight, and the limit found", asks: []asks{
			{expr: `sum(evenkeel_endpoint_in_flight` + is + `)`, name: "in flight"}, {expr: `evenkeel_shed_limit` + is, name: "limit found", kind: "limit"}}},
		drawing{id: "own-retries", name: "Attempts made again, by why", unit: "/s", asks: []asks{{expr: `rate(evenkeel_retries_total` + is + `[$w])`, by: "reason"}}},
		drawing{id: "own-breaker", name: "Breaker: 0 closed, 1 half-open, 2 open", asks: []asks{{expr: `evenkeel_breaker_state` + is, name: "pool"}, {expr: `evenkeel_endpoint_breaker_state` + is + ` > 0`, by: "endpoint"}}},
	)}
	return s
}

// holdPath is the route of a button that holds a breaker for ten minutes, or leaves it to itself.
func holdPath(pool, state string) string {
	path := breakerPath(pool, "", state)
	if state != BreakerAuto {
		path += "&for=10m"
	}
	return path
}

// poolPath is the page of a pool.
func poolPath(name string) string { return "/pools/" + url.PathEscape(name) }
