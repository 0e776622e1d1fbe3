package console

import (
	"math"
	"net/http"
	"slices"
	"strconv"
)

// Dependency is a pool as those see it who need it. Rates are of the last second.
type Dependency struct {
	Pool       string   `json:"pool"`
	Routes     []string `json:"routes"`
	StandsIn   []string `json:"stands_in"` // routes that it is the fallback of
	RPS        float64  `json:"rps"`
	FailedRPS  float64  `json:"failed_rps"`
	ErrorShare float64  `json:"error_share"` // of attempts, 0 to 1; -1: there were none
	P50MS      float64  `json:"p50_ms"`      // 0: unknown
	P99MS      float64  `json:"p99_ms"`
	InFlight   int64    `json:"in_flight"`
	Saturation float64  `json:"saturation"` // share of what it takes at once, 0 to 1; -1: nothing bounds it
	BudgetLeft float64  `json:"retry_budget_left"`
	Breaker    string   `json:"breaker,omitempty"`
	Up         int      `json:"endpoints_up"`
	Endpoints  int      `json:"endpoints"`
	State      string   `json:"-"`
	Tone       string   `json:"-"`
}

// dependencies are the pools of a view.
func (v View) dependencies() []Dependency {
	list := []Dependency{}
	for _, p := range v.Pools {
		row := rowOf(v, p)
		d := Dependency{Pool: p.Name, Routes: []string{}, StandsIn: []string{}, RPS: p.RPS, FailedRPS: p.FailedRPS, ErrorShare: row.ErrorShare(), P50MS: row.Load.P50MS, P99MS: row.Load.P99MS,
			InFlight: row.InFlight(), Saturation: row.Full(), BudgetLeft: p.Retries.BudgetLeft, Up: row.Up, Endpoints: len(p.Endpoints), State: row.State, Tone: row.Tone}
		if p.Breaker != nil {
			d.Breaker = p.Breaker.State
		}
		for _, r := range v.Routes {
			if r.Pool == p.Name {
				d.Routes = append(d.Routes, r.Name)
			}
			if r.Fallback == p.Name {
				d.StandsIn = append(d.StandsIn, r.Name)
			}
		}
		list = append(list, d)
	}
	return list
}

// hasPools says whether anything stands behind this node.
func hasPools(v View) bool { return len(v.Pools) > 0 }

func (c *console) dependenciesTwin(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"dependencies": c.now().dependencies()})
}

// showDependencies makes a view ready for the page about what this node depends on.
func (c *console) showDependencies(on shown, r *http.Request) any {
	list := on.dependencies()
	return struct {
		pastShown
		List []Dependency
		Map  sketch
	}{pastShown{on, c.pasts(on, r,
		drawing{id: "dep-errors", name: "Share of attempts that failed", unit: "%", asks: []asks{
			{expr: `sum by (pool) (rate(evenkeel_endpoint_failures_total[$w])) / sum by (pool) (rate(evenkeel_attempts_total[$w]))`, by: "pool"}}},
		drawing{id: "dep-rate", name: "Attempts per second", unit: "/s", asks: []asks{{expr: `sum by (pool) (rate(evenkeel_attempts_total[$w]))`, by: "pool"}}},
		drawing{id: "dep-full", name: "In flight, of the limit found", unit: "%", asks: []asks{{expr: `evenkeel_shed_in_flight / evenkeel_shed_limit`, by: "pool"}}},
		drawing{id: "dep-budget", name: "Retry budget left", asks: []asks{{expr: `evenkeel_retry_budget`, by: "pool"}}},
	)}, list[:min(len(list), rowLimit)], sketchOf(on.View)}
}

// The map of routes, pools and endpoints is drawn by the node. What does not fit is left out and said.
const (
	sketchRows = 24  // of each column
	sketchWide = 960 // units across
	sketchBox  = 220
	sketchStep = 34
	sketchTall = 26
)

// sketch is a drawn map.
type sketch struct {
	Nodes []sketchNode
	Edges []sketchEdge
	High  int
	Heads []sketchHead
	Left  int // nodes that are left out
}

type sketchHead struct {
	X    int
	Text string
}

// sketchNode is one box.
type sketchNode struct {
	X, Y       int
	Text, Note string
	Tone       string
	Link       string
}

// sketchEdge is one line; wider where more flows.
type sketchEdge struct {
	D, Tone string
	Wide    string
}

// sketchOf draws the map of a view: routes at the left, pools in the middle, endpoints at the right.
func sketchOf(v View) sketch {
	s := sketch{Heads: []sketchHead{{0, "Routes"}, {(sketchWide - sketchBox) / 2, "Pools"}, {sketchWide - sketchBox, "Endpoints"}}}
	most := 1.0
	for _, p := range v.Pools {
		most = max(most, p.RPS)
	}
	routes, ends := 0, 0
	for _, r := range v.Routes {
		if v.pool(r.Pool) != nil {
			routes++
		}
	}
	for _, p := range v.Pools {
		ends += len(p.Endpoints)
	}
	s.Left = max(0, routes-sketchRows) + max(0, len(v.Pools)-sketchRows) + max(0, ends-sketchRows)
	pools := v.Pools[:min(len(v.Pools), sketchRows)]
	routes, ends = min(routes, sketchRows), min(ends, sketchRows)
	rows := max(routes, len(pools), ends, 1)
	s.High = rows*sketchStep + 24
	place := func(i, n int) int { // columns with fewer boxes are spread
		return 24 + (2*i+1)*rows*sketchStep/(2*n) - sketchTall/2
	}
	at := map[string]int{}
	row := 0
	for i, p := range pools {
		_, tone := poolState(p)
		y := place(i, len(pools))
		at[p.Name] = y
		s.Nodes = append(s.Nodes, sketchNode{(sketchWide - sketchBox) / 2, y, p.Name, rateText(p.RPS) + "/s", tone, poolPath(p.Name)})
		for _, e := range p.Endpoints[:min(len(p.Endpoints), max(0, ends-row))] {
			to := place(row, ends)
			s.Nodes = append(s.Nodes, sketchNode{sketchWide - sketchBox, to, glyph(e.State) + " " + e.Address, rateText(e.RPS) + "/s", toneOf(e), ""})
			s.Edges = append(s.Edges, edge((sketchWide+sketchBox)/2, y, sketchWide-sketchBox, to, e.RPS, most, toneOf(e)))
			row++
		}
	}
	row = 0
	for _, r := range v.Routes {
		to, known := at[r.Pool]
		if !known || row == routes {
			continue
		}
		y := place(row, routes)
		s.Nodes = append(s.Nodes, sketchNode{0, y, r.Name, rateText(r.RPS) + "/s", "calm", ""})
		s.Edges = append(s.Edges, edge(sketchBox, y, (sketchWide-sketchBox)/2, to, r.RPS, most, "good"))
		if to, known := at[r.Fallback]; known { // how much of the route goes there is not known
			s.Edges = append(s.Edges, edge(sketchBox, y, (sketchWide-sketchBox)/2, to, 0, most, "calm"))
		}
		row++
	}
	slices.SortStableFunc(s.Edges, func(a, b sketchEdge) int { return urgencyOf(a.Tone) - urgencyOf(b.Tone) }) // what is wrong lies on top
	return s
}

// toneOf is tone, in which what takes traffic is good.
func toneOf(e Endpoint) string { return tone(e.State) }

func urgencyOf(tone string) int {
	return slices.Index([]string{"calm", "good", "warn", "bad"}, tone)
}

// edge is a line from the right side of a box to the left side of another.
func edge(x1, y1, x2, y2 int, rps, most float64, tone string) sketchEdge {
	y1, y2 = y1+sketchTall/2, y2+sketchTall/2
	mid := strconv.Itoa((x1 + x2) / 2)
	d := "M" + strconv.Itoa(x1) + " " + strconv.Itoa(y1) + "C" + mid + " " + strconv.Itoa(y1) + " " + mid + " " + strconv.Itoa(y2) + " " + strconv.Itoa(x2) + " " + strconv.Itoa(y2)
	return sketchEdge{D: d, Tone: tone, Wide: strconv.FormatFloat(1+7*math.Sqrt(partOf(rps, most)), 'f', 1, 64)}
}
