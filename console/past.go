package console

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits of the charts of the past: a page is to be there at once, however much the history holds.
const (
	pastPoints = 120             // steps of a chart
	pastLines  = 8               // lines of a chart: more cannot be told apart
	pastMarks  = 60              // marks of a page, the newest
	pastTime   = 5 * time.Second // for all questions of one page
	pastKept   = 256             // answers that are remembered, so that many watchers ask the history once
	stepLeast  = 10 * time.Second
	rangeLeast = 2 * time.Minute
	rangeMost  = 92 * 24 * time.Hour
)

// Mark is something that charts mark: a reload, a deployment, an order of a person.
type Mark struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Text string    `json:"text"`
}

// drawing is what a chart of the past shows.
type drawing struct {
	id, name string
	unit     string // of its values: /s, ms, %, B, or empty for a count
	stack    bool   // one on another instead of beside each other
	asks     []asks
}

// asks is one expression of it. $w in it is a window of at least a minute, as long as a step.
type asks struct {
	expr string
	name string // of its line; of several series it is what all have in common
	by   string // label that tells its series apart; empty: there is one
	kind string // of its line or area; empty: the next colour
}

// period is the time that charts show.
type period struct {
	From, To time.Time
	Step     time.Duration
	Word     string // one of the usual ranges that end now; empty: chosen by hand
}

// usual are the ranges that a page offers, in the order it shows them.
func usual() []period {
	list := []period{{Word: "15m"}, {Word: "1h"}, {Word: "6h"}, {Word: "1d"}, {Word: "7d"}}
	for i, length := range []time.Duration{15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		list[i].Step = length
	}
	return list
}

// periodOf is what the query of a page asks for: range, or from and to in Unix seconds. What makes no sense is the last hour, or a quarter of it
// when the node began within that.
func periodOf(q url.Values, now, began time.Time) period {
	from, err1 := strconv.ParseInt(q.Get("from"), 10, 64)
	to, err2 := strconv.ParseInt(q.Get("to"), 10, 64)
	if err1 == nil && err2 == nil && from > 0 && to <= now.Unix() {
		p := period{From: time.Unix(from, 0), To: time.Unix(to, 0)}
		if length := p.To.Sub(p.From); length >= rangeLeast && length <= rangeMost {
			p.Step = max(stepLeast, (length / pastPoints).Truncate(time.Second))
			return p
		}
	}
	all := usual()
	p := all[1]
	if now.Sub(began) < all[0].Step {
		p = all[0]
	}
	if i := slices.IndexFunc(all, func(u period) bool { return u.Word == q.Get("range") }); i >= 0 {
		p = all[i]
	}
	length := p.Step
	p.Step = max(stepLeast, length/pastPoints)
	p.To = now.Truncate(min(p.Step, time.Minute)) // so that those who ask at about the same time ask the same
	p.From = p.To.Add(-length)
	return p
}

// window is what rates of this period are taken over, as PromQL writes it.
func (p period) window() string {
	return strconv.Itoa(int(max(time.Minute, p.Step).Seconds())) + "s"
}

// query is the period as the query of a page.
func (p period) query() url.Values {
	if p.Word != "" {
		return url.Values{"range": {p.Word}}
	}
	return url.Values{"from": {strconv.FormatInt(p.From.Unix(), 10)}, "to": {strconv.FormatInt(p.To.Unix(), 10)}}
}

// answers remembers what was asked of the history a moment ago.
type answers struct {
	mu   sync.Mutex
	kept map[string]Answered
}

// past asks the history, or remembers what it said.
func (c *console) past(ctx context.Context, expr string, p period) (Answered, error) {
	q := Asked{Expr: strings.ReplaceAll(expr, "$w", p.window()), From: p.From, To: p.To, Step: p.Step}
	key := q.Expr + "\n" + unixSeconds(q.From) + " " + unixSeconds(q.To) + " " + q.Step.String()
	c.answers.mu.Lock()
	got, ok := c.answers.kept[key]
	c.answers.mu.Unlock()
	if ok {
		return got, nil
	}
	got, err := c.deps.Ask(ctx, q)
	if err != nil {
		return got, err
	}
	c.answers.mu.Lock()
	defer c.answers.mu.Unlock()
	if c.answers.kept == nil || len(c.answers.kept) >= pastKept {
		c.answers.kept = map[string]Answered{}
	}
	c.answers.kept[key] = got
	return got, nil
}

// pasts is the part of a page that shows the past.
type pasts struct {
	Charts []pastChart
	Marks  []Mark // newest first
	Ranges []rangeLink
	Words  string // the period in words
	From   int64
	To     int64
	Still  bool // a period chosen by hand does not move on
	Every  int  // seconds after which it is worth asking again
	Whole  bool
	Wider  string // link to a period of twice the length
}

type rangeLink struct {
	Word, Link string
	Here       bool
}

// pasts draws what a page wants drawn; nil: this node keeps no history. The stream of a page leaves it out: the page fetches it anew each step.
func (c *console) pasts(s shown, r *http.Request, list ...drawing) *pasts {
	if c.deps.Ask == nil {
		return nil
	}
	if !s.Whole {
		return &pasts{}
	}
	p := periodOf(r.URL.Query(), c.deps.Now(), s.Node.Started)
	h := &pasts{Whole: true, From: p.From.Unix(), To: p.To.Unix(), Still: p.Word == "", Every: int(p.Step.Seconds())}
	h.links(r, p, c.deps.Now())
	if c.deps.Marks != nil {
		h.Marks = c.deps.Marks(p.From, p.To)
		slices.SortStableFunc(h.Marks, func(a, b Mark) int { return b.At.Compare(a.At) })
		h.Marks = h.Marks[:min(pastMarks, len(h.Marks))]
	}
	ctx, cancel := context.WithTimeout(r.Context(), pastTime)
	defer cancel()
	for _, d := range list {
		h.Charts = append(h.Charts, c.draw(ctx, d, p, h.Marks))
	}
	return h
}

// links are the ways to other periods, with what else the page was asked for.
func (h *pasts) links(r *http.Request, p period, now time.Time) {
	to := func(q url.Values) string {
		all := r.URL.Query()
		for _, name := range []string{"range", "from", "to"} {
			all.Del(name)
		}
		for name, list := range q {
			all[name] = list
		}
		return r.URL.Path + "?" + all.Encode()
	}
	for _, u := range usual() {
		h.Ranges = append(h.Ranges, rangeLink{u.Word, to(url.Values{"range": {u.Word}}), u.Word == p.Word})
	}
	if p.Word != "" {
		h.Words = "last " + p.Word
		return
	}
	const day = "Jan 2 15:04"
	h.Words = p.From.Format(day) + " to " + p.To.Format(day)
	half := p.To.Sub(p.From) / 2
	wide := period{From: p.From.Add(-half), To: p.To.Add(half)}
	if wide.To.After(now) {
		wide.To = now
	}
	h.Wider = to(wide.query())
}

// pastChart is one chart, drawn.
type pastChart struct {
	ID, Name    string
	Unit        string
	Lines       []stroke
	Areas       []stroke
	Wide        int // units across
	Top, Middle string
	Ticks       []tick
	Marks       []pastMark
	From, Step  int64  // Unix seconds
	Offset      int    // of the node's clock from UTC, in minutes
	Values      string // JSON: a list for each line, null where nothing is known
	Text        string // the same in words
	Empty       string // why there is nothing
	Graph       string // where the expressions can be changed
	More        int    // lines that are not drawn
}

// tick is a time under a chart, at a share of its width.
type tick struct{ X, Text, Anchor string }

// pastMark is a mark in a chart.
type pastMark struct {
	X          int
	At         int64
	Kind, Text string
}

// curve is one series as it will be drawn.
type curve struct {
	name, kind string
	values     []float64
}

// draw asks and draws.
func (c *console) draw(ctx context.Context, d drawing, p period, marks []Mark) pastChart {
	n := int(p.To.Sub(p.From)/p.Step) + 1
	out := pastChart{ID: d.id, Name: d.name, Unit: d.unit, Wide: (n - 1) * 10, From: p.From.Unix(), Step: int64(p.Step.Seconds()), Graph: d.link(p)}
	_, offset := p.To.Zone()
	out.Offset = offset / 60
	var list []curve
	for _, a := range d.asks {
		got, err := c.past(ctx, a.expr, p)
		if err != nil {
			out.Empty = sentence(err)
			return out
		}
		list = append(list, a.curves(got, p, n)...)
	}
	if len(list) > pastLines {
		slices.SortStableFunc(list, func(a, b curve) int { return int(math.Copysign(1, most(b.values)-most(a.values))) })
		out.More = len(list) - pastLines
		list = list[:pastLines]
	}
	for i := range list {
		if list[i].kind == "" {
			list[i].kind = "s" + strconv.Itoa(i%pastLines+1)
		}
	}
	out.plot(list, d.stack, n)
	out.Ticks = ticksBetween(p)
	out.mark(marks, p.To)
	return out
}

// mark puts marks at their places, as far as they lie before the end.
func (out *pastChart) mark(list []Mark, end time.Time) {
	for _, m := range list {
		if at := m.At.Unix(); at >= out.From && at <= end.Unix() {
			out.Marks = append(out.Marks, pastMark{X: int(10 * (at - out.From) / out.Step), At: at, Kind: m.Kind, Text: m.Text})
		}
	}
}

// curves are the series of one expression at the steps of a period.
func (a asks) curves(got Answered, p period, n int) (list []curve) {
	for _, s := range got.Series {
		one := curve{name: a.name, kind: a.kind, values: unknown(n)}
		if label := s.Labels[a.by]; a.by != "" && label != "" {
			one.name = strings.TrimSpace(a.name + " " + label)
		} else if a.name == "" {
			one.name = matchersText(s.Labels)
		}
		for _, point := range s.Points {
			if i := int(point.At.Sub(p.From).Round(time.Second) / p.Step); i >= 0 && i < n && !math.IsInf(point.Value, 0) {
				one.values[i] = point.Value
			}
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(x, y curve) int { return strings.Compare(x.name, y.name) })
	return list
}

// plot writes the paths.
func (out *pastChart) plot(list []curve, stack bool, n int) {
	format := unitText(out.Unit)
	base := make([]float64, n)
	top := 0.0
	if stack {
		for _, c := range list {
			add(base, known(c.values))
		}
		top = most(base)
		clear(base)
	} else {
		for _, c := range list {
			top = max(top, most(c.values))
		}
	}
	switch {
	case out.Unit == "" && top >= 1 && top <= 10 && top == math.Trunc(top): // few things are counted
	case out.Unit == "%":
		top = min(niceTop(1.04*top), 1)
	default:
		top = niceTop(1.04 * top)
	}
	all := make([][]*float64, 0, len(list))
	var words []string
	for _, c := range list {
		line := stroke{Kind: c.kind, Name: c.name, Now: format(latest(c.values))}
		if stack {
			high := slices.Clone(base)
			add(high, known(c.values))
			if !flat(c.values) {
				line.D = areaPath(base, high, top)
			}
			base = high
			out.Areas = append(out.Areas, line)
		} else {
			line.D = linePath(c.values, top)
			out.Lines = append(out.Lines, line)
		}
		all = append(all, sparse(c.values))
		words = append(words, c.name+" "+line.Now)
	}
	raw, _ := json.Marshal(all) // numbers and nulls only
	out.Values, out.Top, out.Middle = string(raw), format(top), format(top/2)
	out.Text = out.Name + ": " + strings.Join(words, ", ")
	if len(list) == 0 {
		out.Empty = "nothing of this in the time shown"
	}
}

// known is a list in which what is not known is 0.
func known(list []float64) []float64 {
	out := slices.Clone(list)
	for i, v := range out {
		if math.IsNaN(v) {
			out[i] = 0
		}
	}
	return out
}

// sparse is a list for JSON, to four digits: what is not known is null.
func sparse(list []float64) []*float64 {
	out := make([]*float64, len(list))
	for i, v := range list {
		if !math.IsNaN(v) {
			v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
			out[i] = &v
		}
	}
	return out
}

// unitText is how values of a unit are written.
func unitText(unit string) func(v float64) string {
	return func(v float64) string {
		switch {
		case math.IsNaN(v):
			return none
		case unit == "ms":
			return msText(v)
		case unit == "%" && v < 0: // what is overspent
			return strconv.FormatFloat(v*100, 'f', 0, 64) + "%"
		case unit == "%":
			return percentText(v)
		case unit == "/s" && v > 0 && v < .995: // else a scale would read 0, 0, 0, or 0, 0.03, 0.1
			return strconv.FormatFloat(v, 'g', 2, 64) + unit
		case unit == "B":
			return bytesText(uint64(max(v, 0)))
		case unit == "" && v == math.Trunc(v) && v < 1e6:
			return grouped(uint64(max(v, 0)))
		case unit == "" && v < 9.95:
			return strconv.FormatFloat(v, 'g', 3, 64)
		}
		return rateText(v) + unit
	}
}

// ticksBetween are times at fifths of a period.
func ticksBetween(p period) (list []tick) {
	form := "15:04"
	const parts = 4
	switch length := p.To.Sub(p.From); {
	case length > 26*time.Hour:
		form = "Jan 2 15:04"
	case length < 2*parts*time.Minute: // two of them must not say the same
		form = time.TimeOnly
	}
	for i := range parts + 1 {
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case parts:
			anchor = "end"
		}
		at := p.From.Add(p.To.Sub(p.From) * time.Duration(i) / parts)
		list = append(list, tick{strconv.Itoa(i*100/parts) + "%", at.Format(form), anchor})
	}
	return list
}

// link is the page where the expressions of a chart can be changed; empty on that page itself.
func (d drawing) link(p period) string {
	if d.id == freeChart {
		return ""
	}
	q := p.query()
	for _, a := range d.asks {
		q.Add("expr", strings.ReplaceAll(a.expr, "$w", p.window()))
	}
	if d.unit != "" {
		q.Set("unit", d.unit)
	}
	return "/graph?" + q.Encode()
}
