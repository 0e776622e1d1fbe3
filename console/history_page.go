package console

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Sizes of what the pages about the past show.
const (
	kindsSince = 24 * time.Hour // kinds that the filter offers occurred within this
	queryLines = 8              // series of a chart: more cannot be told apart
	queryBars  = 40
	queryRows  = 500 // rows on the page; the rest is in the API
	querySlots = 600 // steps of a chart at which values are shown
	queryDot   = 3   // units of the dash that a single point is
)

// eventsShown is what the template of the page about events sees.
type eventsShown struct {
	shown
	Filter EventFilter
	Page   EventPage
	Kinds  []KindCount
	Wrong  string // with what was asked for, or why nothing is answered
	Twin   string // the same as JSON
	Older  string // link to the next page; empty: there is none
	Newest string // link to the first page; empty: this is it
}

// Field is a value of the filter as forms write it.
func (s eventsShown) Field(name string) string {
	switch name {
	case "since":
		return localMoment(s.Filter.Since)
	case "until":
		return localMoment(s.Filter.Until)
	case "text":
		return s.Filter.Text
	}
	return s.Filter.Kind
}

func localMoment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02T15:04")
}

// status is that of an answer: what was asked for made no sense, or it did.
func status(wrong string) int {
	if wrong != "" {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// Status is that of the answer.
func (s eventsShown) Status() int { return status(s.Wrong) }

// Status is that of the answer.
func (s queryShown) Status() int { return status(s.Wrong) }

func (c *console) hasQuery(View) bool { return c.deps.History.Ask != nil }

// showEvents shows events, newest first.
func (c *console) showEvents(on shown, r *http.Request) any {
	q := url.Values{}
	for _, name := range []string{"kind", "text", "since", "until", "before"} {
		if v := r.URL.Query().Get(name); v != "" {
			q.Set(name, v)
		}
	}
	s := eventsShown{shown: on, Twin: strings.TrimSuffix("/api/v1/events?"+q.Encode(), "?")}
	f, err := filterOf(q, eventsPage)
	if err == nil {
		s.Filter = f
		s.Page, err = c.eventsOf(r.Context(), f)
	}
	if err != nil {
		s.Wrong = sentence(err)
	}
	if c.deps.History.Kinds != nil {
		s.Kinds, _ = c.deps.History.Kinds(r.Context(), c.deps.Now().Add(-kindsSince)) // without them the filter is a text
	}
	if q.Has("before") {
		q.Del("before")
		s.Newest = "/events?" + q.Encode()
	}
	if s.Page.Next != "" {
		q.Set("before", s.Page.Next)
		s.Older = "/events?" + q.Encode()
	}
	return s
}

// Mood is the colour of an event's level.
func (e PastEvent) Mood() string {
	return map[string]string{"warning": "warn", "error": "bad"}[e.Level]
}

// Sign is the shape of an event's level, so that colour is never the only sign.
func (e PastEvent) Sign() string {
	if e.Level == "warning" || e.Level == "error" {
		return "▲ "
	}
	return ""
}

// queryShown is what the template of the page for questions sees.
type queryShown struct {
	shown
	Question string
	Asked    bool
	Answer   QueryAnswer
	Cells    [][]string
	More     int // rows that are not on the page
	Chart    *queryChart
	Wrong    string
	Tables   []QueryTable
	Examples []queryExample
	Twin     string
}

type queryExample struct{ Name, Text, Link string }

// examples are questions to begin with.
func examples() (out []queryExample) {
	for _, e := range [][2]string{
		{"What happened, by kind", "AppEvents\n| where TimeGenerated > ago(1d)\n| summarize Events = count() by Name\n| sort by Events desc\n| render barchart"},
		{"Requests a minute, good and bad", "AppRequests\n| where TimeGenerated > ago(1h)\n| summarize Requests = sum(ItemCount) by bin(TimeGenerated, 1m), Success\n| render timechart"},
		{"Slowest routes", "AppRequests\n| where TimeGenerated > ago(1h)\n| summarize P95 = percentile(DurationMs, 95), Requests = sum(ItemCount) by Route\n| top 10 by P95"},
		{"Who refused, and why", "AppRequests\n| where TimeGenerated > ago(1h) and RefusedBy != \"\"\n| summarize Refused = sum(ItemCount) by RefusedBy, Reason, Route\n| sort by Refused desc"},
		{"Endpoints that fail", "AppDependencies\n| where TimeGenerated > ago(1h) and Success == false\n| summarize Failed = sum(ItemCount) by Target, ResultCode\n| sort by Failed desc"},
		{"Checks that failed", "AppAvailabilityResults\n| where Success == false\n| project TimeGenerated, Name, Location, Message\n| top 50 by TimeGenerated"},
		{"Events around the last mark", "let around = 10m;\nAppEvents\n| where Name == \"mark\"\n| top 1 by TimeGenerated\n| project Mark = Message, At = TimeGenerated, Key = 1\n| join kind=inner (AppEvents | extend Key = 1) on Key\n| where TimeGenerated between (At - around .. At + around)\n| project TimeGenerated, Name, Message\n| sort by TimeGenerated asc"},
	} {
		out = append(out, queryExample{e[0], e[1], "/query?" + url.Values{"q": {e[1]}}.Encode()})
	}
	return out
}

// showQuery answers a question as a page.
func (c *console) showQuery(on shown, r *http.Request) any {
	s := queryShown{shown: on, Twin: "/api/v1/query/tables", Question: strings.ReplaceAll(r.URL.Query().Get("q"), "\r\n", "\n"), Tables: c.queryTables(), Examples: examples()}
	if strings.TrimSpace(s.Question) != "" {
		s.Asked, s.Twin = true, "/api/v1/query?"+url.Values{"q": {s.Question}}.Encode()
		var err error
		if s.Answer, err = c.ask(r.Context(), s.Question); err != nil {
			s.Wrong = sentence(err)
		} else {
			s.show(c.deps.Marks)
		}
	}
	return s
}

// show makes the answer ready: cells as texts, and the chart.
func (s *queryShown) show(marks func(from, to time.Time) []Mark) {
	rows := s.Answer.Rows
	if s.More = max(len(rows)-queryRows, 0); s.More > 0 {
		rows = rows[:queryRows]
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i := range row {
			cells[i] = CellText(row[i])
		}
		s.Cells = append(s.Cells, cells)
	}
	if s.Answer.Render != "" && s.Answer.Render != "table" {
		s.Chart = s.Answer.chart(marks)
	}
}

// Number says whether a column is aligned to the right.
func (q QueryColumn) Number() bool { return numericType(q.Type) }

// queryChart is an answer as a drawing.
type queryChart struct {
	Timed pastChart // lines over time; without any it has bars
	Bars  []queryBar
	Text  string // the same in words
	Left  int    // bars that are not drawn
}

type queryBar struct {
	Name, Value string
	Share       float64 // of the largest, 0 to 1
}

// chart draws an answer; nil: there is nothing to draw in it. marks is what happened between two moments; nil: nothing.
func (a QueryAnswer) chart(marks func(from, to time.Time) []Mark) *queryChart {
	p, ok := a.plot()
	if !ok {
		return nil
	}
	d := new(queryChart)
	if len(p.Series) > 0 {
		d.Timed = p.timed(marks)
		return d
	}
	top := most(p.Values)
	for i, v := range p.Values {
		if i == queryBars {
			d.Left = len(p.Values) - i
			break
		}
		share := 0.0
		if top > 0 {
			share = max(v/top, 0)
		}
		d.Bars = append(d.Bars, queryBar{p.Names[i], brief(v), share})
	}
	d.Text = p.What + " of " + strconv.Itoa(len(p.Values)) + ", the largest " + brief(top)
	return d
}

// timed draws series over time as charts of the past are drawn, so that values are shown in the same way. Lines go from point to point: of a bin
// without a row nothing is known, not even that it is none.
func (p plotted) timed(marks func(from, to time.Time) []Mark) pastChart {
	from, to, step := p.span()
	from, to = from.Local(), to.Local()
	step = max(step, to.Sub(from)/querySlots).Round(time.Second)
	n := int(to.Sub(from)/step) + 2
	out := pastChart{ID: "answer", Name: p.What, Wide: (n - 1) * 10, From: from.Unix(), Step: int64(step.Seconds()), More: max(len(p.Series)-queryLines, 0)}
	_, offset := to.Zone()
	out.Offset = offset / 60
	name := seriesName
	if by := p.by(); by != "" {
		out.Name += " by " + by
		name = func(labels map[string]string) string { return cmp.Or(labels[by], none) }
	}
	format, top := unitText(""), 0.0
	for _, s := range p.Series {
		for _, point := range s.Points {
			top = max(top, point.Value)
		}
	}
	top = niceTop(top)
	all := make([][]*float64, 0, len(p.Series))
	for i, s := range p.Series[:min(len(p.Series), queryLines)] {
		var path pen
		values := unknown(n)
		for k, point := range s.Points {
			at := point.At.Sub(from)
			x, y := int(math.Round(10*at.Seconds()/step.Seconds())), height(point.Value, top)
			if k == 0 {
				path.move(x, y)
				path.line(x+queryDot, y) // a single point is a dash
			}
			path.line(x, y)
			values[int(at.Round(step)/step)] = point.Value
		}
		line := stroke{Kind: "s" + strconv.Itoa(i+1), Name: name(s.Labels), Now: format(s.Points[len(s.Points)-1].Value), D: string(path.b)}
		out.Lines, all = append(out.Lines, line), append(all, sparse(values))
	}
	raw, _ := json.Marshal(all) // numbers and nulls only
	out.Values, out.Top, out.Middle = string(raw), format(top), format(top/2)
	out.Ticks = ticksBetween(period{From: from, To: from.Add(time.Duration(n-1) * step)})
	if marks != nil {
		out.mark(marks(from, to), to)
	}
	out.Text = p.What + ", " + strconv.Itoa(len(p.Series)) + " series from " + from.Format(time.DateTime) + " to " + to.Format(time.DateTime) + ", up to " + out.Top
	return out
}

// by is the label that alone tells the series apart; empty: there is none such.
func (p plotted) by() (label string) {
	for _, s := range p.Series {
		for name := range s.Labels {
			switch {
			case name == "__name__" && s.Labels[name] != p.What, name != "__name__" && label != "" && name != label:
				return ""
			case name != "__name__":
				label = name
			}
		}
	}
	return label
}

// unknown are values of which none is known.
func unknown(n int) []float64 {
	list := make([]float64, n)
	for i := range list {
		list[i] = math.NaN()
	}
	return list
}
