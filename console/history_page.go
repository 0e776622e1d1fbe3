package console

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Sizes of what the pages about the past show.
const (
	kindsSince  = 24 * time.Hour // kinds that the filter offers occurred within this
	queryLines  = 8              // series of a chart: more cannot be told apart
	queryBars   = 40
	queryRows   = 500 // rows on the page; the rest is in the API
	queryWide   = 1000
	queryHigh   = 240
	queryBarLow = 2 // units that a bar has at least, so that it is seen
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
			s.show()
		}
	}
	return s
}

// show makes the answer ready: cells as texts, and the chart.
func (s *queryShown) show() {
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
		s.Chart = s.Answer.chart()
	}
}

// Number says whether a column is aligned to the right.
func (q QueryColumn) Number() bool { return numericType(q.Type) }

// queryChart is an answer as a drawing.
type queryChart struct {
	Lines         []stroke
	Bars          []queryBar
	Top, Middle   string
	From, To      string
	Text          string // the same in words
	Left          int    // series or bars that are not drawn
	Width, Height int
}

type queryBar struct {
	Name, Value string
	Share       float64 // of the largest, 0 to 1
}

// chart draws an answer; nil: there is nothing to draw in it.
func (a QueryAnswer) chart() *queryChart {
	p, ok := a.plot()
	if !ok {
		return nil
	}
	d := &queryChart{Width: queryWide, Height: queryHigh}
	if len(p.Series) > 0 {
		d.lines(p)
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

// lines draws series over time.
func (d *queryChart) lines(p plotted) {
	from, to, _ := p.span()
	length := max(to.Sub(from).Seconds(), 1)
	top := 0.0
	for _, s := range p.Series {
		for _, point := range s.Points {
			top = max(top, point.Value)
		}
	}
	top = niceTop(top)
	d.Top, d.Middle, d.From, d.To = brief(top), brief(top/2), from.Local().Format("2006-01-02 15:04:05"), to.Local().Format("2006-01-02 15:04:05")
	for i, s := range p.Series {
		if i == queryLines {
			d.Left = len(p.Series) - i
			break
		}
		var path pen
		for k, point := range s.Points {
			x := int(math.Round(point.At.Sub(from).Seconds() / length * queryWide))
			y := queryHigh - int(math.Round(min(max(point.Value/top, 0), 1)*(queryHigh-queryBarLow)))
			if k == 0 {
				path.move(x, y)
				path.line(min(x+1, queryWide), y) // a single point is a dot
			}
			path.line(x, y)
		}
		last := s.Points[len(s.Points)-1].Value
		d.Lines = append(d.Lines, stroke{Kind: "q" + strconv.Itoa(i+1), Name: seriesName(s.Labels), Now: brief(last), D: string(path.b)})
	}
	d.Text = p.What + ", " + strconv.Itoa(len(p.Series)) + " series from " + d.From + " to " + d.To + ", up to " + d.Top
}
