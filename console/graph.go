package console

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
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

// exprsOf are the expressions that are asked for.
func exprsOf(q url.Values) (list []string) {
	for _, expr := range q["expr"] {
		if expr = strings.TrimSpace(expr); expr != "" && len(expr) <= graphLong && len(list) < graphAsks {
			list = append(list, expr)
		}
	}
	return list
}

// showGraph draws any expressions.
func (c *console) showGraph(on shown, r *http.Request) any {
	q := r.URL.Query()
	s := graphShown{shown: on, Exprs: exprsOf(q), Unit: q.Get("unit"), Range: periodOf(q, on.At, on.Node.Started).Word, Usual: usual(), Units: []string{"/s", "ms", "%", "B"}}
	if r.URL.RawQuery != "" {
		s.Twin += "?" + r.URL.RawQuery
	}
	d := drawing{id: freeChart, name: "Values", unit: s.Unit}
	for _, expr := range s.Exprs {
		d.asks = append(d.asks, asks{expr: expr})
	}
	s.Exprs = append(s.Exprs, "")
	if len(d.asks) > 0 {
		s.History = c.pasts(on, r, d)
	} else {
		s.History = c.pasts(on, r)
	}
	return s
}

// Graph is what expressions were over a period, and what happened in it.
type Graph struct {
	From   time.Time     `json:"from"`
	To     time.Time     `json:"to"`
	StepS  float64       `json:"step_s"`
	Series []GraphSeries `json:"series"`
	Marks  []Mark        `json:"marks"`
}

// GraphSeries is one series of one expression.
type GraphSeries struct {
	Expr   string            `json:"expr"`
	Labels map[string]string `json:"labels"`
	Points []GraphPoint      `json:"points"`
}

// GraphPoint is one value.
type GraphPoint struct {
	At    time.Time `json:"at"`
	Value any       `json:"value"` // a number, or a text for what JSON has no number for: NaN, +Inf, -Inf
}

// graphTwin is the page of free charts as JSON.
func (c *console) graphTwin(w http.ResponseWriter, r *http.Request) {
	if c.deps.Ask == nil {
		problem(w, http.StatusNotFound, "not_offered", "this node keeps no history")
		return
	}
	p := periodOf(r.URL.Query(), c.deps.Now(), c.now().Node.Started)
	g := Graph{From: p.From, To: p.To, StepS: p.Step.Seconds(), Series: []GraphSeries{}, Marks: []Mark{}}
	if c.deps.Marks != nil {
		g.Marks = copied(c.deps.Marks(p.From, p.To))
	}
	ctx, cancel := context.WithTimeout(r.Context(), pastTime)
	defer cancel()
	for _, expr := range exprsOf(r.URL.Query()) {
		got, err := c.past(ctx, expr, p)
		if err != nil {
			problem(w, http.StatusBadRequest, "bad_query", sentence(err))
			return
		}
		for _, s := range got.Series {
			one := GraphSeries{Expr: expr, Labels: s.Labels, Points: make([]GraphPoint, 0, len(s.Points))}
			for _, point := range s.Points {
				one.Points = append(one.Points, GraphPoint{point.At, jsonNumber(point.Value)})
			}
			g.Series = append(g.Series, one)
		}
	}
	answer(w, http.StatusOK, g)
}

// jsonNumber is a value as JSON can say it.
func jsonNumber(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return v
}
