package console

import (
	"net/http"
	"strings"
)

// Bounds of what the page of free charts takes.
const (
	freeChart = "free"
	graphAsks = 6    // expressions
	graphLong = 2000 // bytes of one
)

// graphShown is what the page of free charts sees.
type graphShown struct {
	shown
	Exprs   []string // asked for, and an empty one to fill in
	Unit    string
	Range   string
	Usual   []period
	Units   []string
	History *pasts
}

// hasHistory says whether there is a past to ask.
func (c *console) hasHistory(View) bool { return c.deps.Ask != nil }

// showGraph draws any expressions.
func (c *console) showGraph(on shown, r *http.Request) any {
	q := r.URL.Query()
	s := graphShown{shown: on, Unit: q.Get("unit"), Range: periodOf(q, on.At, on.Node.Started).Word, Usual: usual(), Units: []string{"/s", "ms", "%", "B"}}
	d := drawing{id: freeChart, name: "Values", unit: s.Unit}
	for _, expr := range q["expr"] {
		if expr = strings.TrimSpace(expr); expr != "" && len(expr) <= graphLong && len(d.asks) < graphAsks {
			d.asks = append(d.asks, asks{expr: expr})
			s.Exprs = append(s.Exprs, expr)
		}
	}
	s.Exprs = append(s.Exprs, "")
	if len(d.asks) > 0 {
		s.History = c.pasts(on, r, d)
	} else {
		s.History = c.pasts(on, r)
	}
	return s
}
