package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pastNode is a node with three events and a table.
type pastNode struct {
	mu      sync.Mutex
	filters []EventFilter
	asked   []string
	notes   []Note
	acts    []Action
	reports []string
	runs    []PastEvent
}

func (p *pastNode) history() History {
	at := time.Date(2026, 11, 28, 7, 0, 0, 0, time.UTC)
	return History{
		Events: func(_ context.Context, f EventFilter) (EventPage, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if f.Kind == runKind {
				return EventPage{Events: p.runs}, nil
			}
			p.filters = append(p.filters, f)
			if f.Text == "none" {
				return EventPage{Next: "17"}, nil
			}
			return EventPage{Next: "42", Events: []PastEvent{
				{ID: "44", At: at, Kind: "mark", Text: "v42 <b>", Properties: map[string]string{"commit": "abc"}},
				{ID: "43", At: at.Add(-time.Minute), Kind: "endpoint_down", Text: "it is down", Level: "warning"}}}, nil
		},
		Kinds: func(context.Context, time.Time) ([]KindCount, error) { return []KindCount{{"mark", 3}}, nil },
		Ask: func(_ context.Context, q string) (QueryAnswer, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asked = append(p.asked, q)
			switch q {
			case "wrong":
				return QueryAnswer{}, &HistoryError{http.StatusBadRequest, "bad_query", errors.New(`1:1: there is no table "wrong"`)}
			case "busy":
				return QueryAnswer{}, &HistoryError{http.StatusServiceUnavailable, "too_many_queries", errors.New("busy")}
			case "bars":
				return QueryAnswer{Columns: []QueryColumn{{"Name", "string"}, {"n", "long"}}, Rows: [][]any{{"mark", int64(3)}, {"<i>", int64(1)}}, Render: "barchart"}, nil
			case "none":
				return QueryAnswer{}, nil
			case "ids":
				return QueryAnswer{Columns: []QueryColumn{{"Id", "long"}, {"x", "real"}}, Rows: [][]any{{int64(1795865274664903351), 0.123456789}}}, nil
			}
			a := QueryAnswer{Columns: []QueryColumn{{"t", "datetime"}, {"n", "long"}, {"Ok", "bool"}}, Render: "timechart", TookMS: 1.5}
			for i := range 600 {
				a.Rows = append(a.Rows, []any{at.Add(time.Duration(i) * time.Minute).Format(time.RFC3339), float64(i % 50), i%2 == 0})
			}
			return a, nil
		},
		Tables: func() []QueryTable { return []QueryTable{{"AppEvents", []QueryColumn{{"TimeGenerated", "datetime"}}}} },
		Rows: func(_ context.Context, table string, since time.Time, last int64, limit int) ([]json.RawMessage, int64, error) {
			switch {
			case table == "Nothing":
				return nil, 0, &HistoryError{http.StatusBadRequest, "bad_query", errors.New("no table")}
			case last >= 3:
				return nil, last, nil
			}
			return []json.RawMessage{json.RawMessage(fmt.Sprintf(`{"n":%d}`, last+1))}, last + 1, nil
		},
		Note: func(n Note) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.notes = append(p.notes, n)
			return nil
		},
		Import: func(format, name string, body []byte) (Imported, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.reports = append(p.reports, format+" "+name+" "+string(body))
			if format == "load" {
				p.runs = someRuns(at)
			}
			return Imported{Checks: 2, Failed: 1}, nil
		},
		Status: func() any { return map[string]string{"state": "running"} },
	}
}

func newPast() (*pastNode, http.Handler) {
	p := &pastNode{}
	r := newRig()
	r.deps.History, r.deps.Audit = p.history(), p
	return p, New(r.deps)
}

// Record implements Recorder.
func (p *pastNode) Record(a Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acts = append(p.acts, a)
}

// TestHistoryRoutes: what is asked arrives, what is wrong is said with a reason.
func TestHistoryRoutes(t *testing.T) {
	_, h := newPast()
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/api/v1/events", 200, `"next": "42"`},
		{"GET", "/api/v1/events?limit=0", 400, "bad_filter"},
		{"GET", "/api/v1/events?before=x", 400, "bad_filter"},
		{"GET", "/api/v1/events?since=yesterday", 400, "bad_filter"},
		{"POST", "/api/v1/events", 405, "method_not_allowed"},
		{"GET", "/api/v1/events/export", 200, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n"},
		{"GET", "/api/v1/events/export?table=Nothing", 400, "bad_query"},
		{"GET", "/api/v1/query?q=AppEvents", 200, `"type": "datetime"`},
		{"GET", "/api/v1/query?q=none", 200, `"rows": []`},
		{"GET", "/api/v1/query", 400, "bad_query"},
		{"GET", "/api/v1/query?q=wrong", 400, "bad_query"},
		{"GET", "/api/v1/query?q=busy", 503, "too_many_queries"},
		{"PUT", "/api/v1/query", 405, "method_not_allowed"},
		{"GET", "/api/v1/query/tables", 200, `"name": "AppEvents"`},
		{"GET", "/api/v1/records", 200, `"state": "running"`},
		{"POST", "/api/v1/marks?text=v42&by=ann", 200, `"by": "ann"`},
		{"POST", "/api/v1/marks", 400, "bad_mark"},
		{"POST", "/api/v1/marks?text=" + strings.Repeat("x", 2000), 400, "bad_mark"},
		{"POST", "/api/v1/events/import?format=junit&name=nightly", 200, `"failed": 1`},
		{"GET", "/events", 200, `<li class="warn"><time`},
		{"GET", "/events?limit=9", 200, "older"},
		{"GET", "/events?text=none", 200, "older ones may"},
		{"GET", "/events?since=yesterday", 400, "is no moment"},
		{"GET", "/query", 200, "To begin with"},
		{"GET", "/query?q=AppEvents", 200, `class="l-s2"`},
		{"GET", "/query?q=wrong", 400, "there is no table &#34;wrong&#34;"},
		{"GET", "/query?q=bars", 200, "&lt;i&gt;"},
		{"GET", "/query?q=none", 200, "No rows."},
	} {
		w := ask(h, c.method, c.path)
		if got := reason(w); w.Code != c.status || got != c.want && (got != "" || !strings.Contains(w.Body.String(), c.want)) {
			t.Errorf("%s %s: %d %s, want %d %s\n%.400s", c.method, c.path, w.Code, got, c.status, c.want, w.Body)
		}
	}
}

// TestHistoryAbsent: a node that keeps nothing says so, and shows the events that it has in mind.
func TestHistoryAbsent(t *testing.T) {
	h := New(newRig().deps)
	for path, want := range map[string]string{"/api/v1/query?q=x": "not_offered", "/api/v1/records": "not_offered", "/api/v1/events/export": "not_offered"} {
		if w := ask(h, "GET", path); reason(w) != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(h, "GET", "/api/v1/events?kind=reload"); w.Code != 200 || !strings.Contains(w.Body.String(), "1 route changed") || strings.Contains(w.Body.String(), "discover") {
		t.Errorf("events: %s", w.Body)
	}
	if w := ask(h, "GET", "/query"); w.Code != 404 {
		t.Errorf("query: %s", w.Body)
	}
}

// TestEventsFilter: what the form says arrives as it is meant, and links to other pages keep it.
func TestEventsFilter(t *testing.T) {
	p, h := newPast()
	w := ask(h, "GET", "/events?kind=mark&text=v4&since=2026-11-28T06:00&before=99")
	f := p.filters[0]
	if f.Kind != "mark" || f.Text != "v4" || f.Before != 99 || f.Limit != eventsPage || f.Since.Hour() != 6 || f.Since.Location() != time.Local {
		t.Errorf("asked was %+v", f)
	}
	body := w.Body.String()
	for _, want := range []string{`href="/events?before=42&amp;kind=mark&amp;since=2026-11-28T06%3A00&amp;text=v4" rel="next"`, `href="/events?kind=mark&amp;since=2026-11-28T06%3A00&amp;text=v4">newest`,
		`value="2026-11-28T06:00"`, "v42 &lt;b&gt;", "commit abc", `<option value="mark">`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// TestAudit: what changes something is told of, with its result and who did it; questions are not.
func TestAudit(t *testing.T) {
	p, h := newPast()
	ask(h, "POST", "/api/v1/reload")
	ask(h, "POST", "/api/v1/pools/none/endpoints/x/up")
	ask(h, "POST", "/api/v1/alerts/silence?by=ann&for=1h")
	ask(h, "POST", "/api/v1/query?q=AppEvents")
	ask(h, "GET", "/api/v1/status")
	ask(h, "POST", "/api/v1/drain", "Sec-Fetch-Site", "cross-site") // never reached anything
	var got []string
	for _, a := range p.acts {
		got = append(got, fmt.Sprint(a.What, " ", a.From, " ", a.Status))
	}
	want := []string{"POST /api/v1/reload 192.0.2.1 200", "POST /api/v1/pools/none/endpoints/x/up 192.0.2.1 404", "POST /api/v1/alerts/silence?by=ann&for=1h 192.0.2.1 501"}
	if !slices.Equal(got, want) {
		t.Errorf("told was %q, want %q", got, want)
	}
}

// TestHistoryClient: the commands' client gets back what the node says.
func TestHistoryClient(t *testing.T) {
	p, h := newPast()
	s := httptest.NewServer(h)
	defer s.Close()
	c := NewClient(s.URL, "")
	ctx := t.Context()
	long := "AppEvents //" + strings.Repeat("x", longQuestion)
	for _, q := range []string{"AppEvents", long} {
		if a, raw, err := c.Query(ctx, q); err != nil || len(a.Rows) != 600 || len(raw) == 0 {
			t.Errorf("%.20s: %d rows, %v", q, len(a.Rows), err)
		}
	}
	if !slices.Equal(p.asked, []string{"AppEvents", long}) {
		t.Error("the questions did not arrive as they were asked")
	}
	var refused *RefusedError
	if a, _, err := c.Query(ctx, "ids"); err != nil || CellText(a.Rows[0][0]) != "1795865274664903351" || CellText(a.Rows[0][1]) != "0.123457" {
		t.Errorf("a number of many digits: %v, %v", a.Rows, err)
	}
	if _, _, err := c.Query(ctx, "wrong"); !errors.As(err, &refused) || refused.Problem.Reason != "bad_query" {
		t.Errorf("a wrong question: %v", err)
	}
	if err := c.Note(ctx, Note{Text: "v42", Properties: map[string]string{"commit": "abc"}}); err != nil || len(p.notes) != 1 || p.notes[0].Properties["commit"] != "abc" {
		t.Errorf("a mark: %v, %+v", err, p.notes)
	}
	if got, err := c.Import(ctx, "junit", "a b", strings.NewReader("<x/>")); err != nil || got.Checks != 2 || p.reports[0] != "junit a b <x/>" {
		t.Errorf("an import: %v, %q", err, p.reports)
	}
	if _, err := c.Import(ctx, "", "", strings.NewReader(strings.Repeat("x", importLimit+1))); err == nil {
		t.Error("a report without end is taken")
	}
	var out strings.Builder
	if err := c.Export(ctx, url.Values{}, &out); err != nil || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("an export: %v, %q", err, out.String())
	}
	if tables, err := c.Tables(ctx); err != nil || len(tables) != 1 {
		t.Errorf("tables: %v, %v", tables, err)
	}
	if page, err := c.Events(ctx, url.Values{"kind": {"mark"}}); err != nil || len(page.Events) != 2 {
		t.Errorf("events: %v, %v", page, err)
	}
}

// TestPrintQuery: tables are aligned, charts are drawn, and nothing that a client sent steers the terminal.
func TestPrintQuery(t *testing.T) {
	for _, c := range []struct {
		a    QueryAnswer
		want string
	}{
		{QueryAnswer{Columns: []QueryColumn{{"Name", "string"}, {"n", "long"}, {"Ok", "bool"}, {"J", "dynamic"}}, Rows: [][]any{{"a\x1b[31m", 7.0, true, map[string]any{"k": 1.0}}, {nil, 12.5, false, nil}}, Truncated: true},
			"Name       n  Ok     J\na [31m     7  true   {\"k\":1}\n        12.5  false\nthe first 2 rows; there are more (events.query.rows)\n"},
		{QueryAnswer{Columns: []QueryColumn{{"Name", "string"}, {"n", "long"}}, Rows: [][]any{{"a", 10.0}, {"bb", 5.0}, {"c", 0.0}}, Render: "barchart"},
			"a   ████████████████████████████████████████ 10\nbb  ████████████████████ 5\nc    0\n"},
		{QueryAnswer{Columns: []QueryColumn{{"Name", "string"}}, Rows: [][]any{{"a"}}, Render: "timechart"}, "Name\na\n"},
		{QueryAnswer{Columns: []QueryColumn{{"Name", "string"}}}, "no rows\n"},
	} {
		var b strings.Builder
		if err := PrintQuery(&b, c.a); err != nil || b.String() != c.want {
			t.Errorf("printed is\n%q\nwant\n%q, %v", b.String(), c.want, err)
		}
	}
	var b strings.Builder
	a, _ := (&pastNode{}).history().Ask(t.Context(), "lines")
	if err := PrintQuery(&b, a); err != nil || strings.Count(b.String(), "n{Ok=") != 2 || !strings.Contains(b.String(), "0 to 48, now 48") {
		t.Errorf("curves are\n%s", b.String())
	}
}

// someRuns are three load runs.
func someRuns(at time.Time) []PastEvent {
	run := func(before time.Duration, name, verdict string, more ...string) PastEvent {
		p := map[string]string{"pipeline": name, "verdict": verdict, "tool": "load", "target": "http://10.0.0.1:8443/checkout", "shape": "500/s", "seconds": "30", "sent": "15000", "ok": "14990",
			"refused": "0", "failed": "0", "goodput": "499.6", "p50_ms": "3.1", "p99_ms": "19.2", "lag_ms": "0.21"}
		for i := 0; i+1 < len(more); i += 2 {
			p[more[i]] = more[i+1]
		}
		return PastEvent{At: at.Add(-before), Kind: runKind, Properties: p}
	}
	return []PastEvent{run(9*time.Minute, "steady", "held"), run(42*time.Minute, "spike", "failed", "shape", "500/s, then 5000/s", "refused", "31240", "failed", "12", "sent", "90000", "not_sent", "214", "p99_ms", "812"),
		run(26*time.Hour, "nightly", "", "tool", "vegeta", "target", "", "lag_ms", "0")}
}

// TestLoadRuns: the page is there once a run was reported, and not before.
func TestLoadRuns(t *testing.T) {
	_, h := newPast()
	if code := ask(h, "GET", "/load").Code; code != 404 || strings.Contains(ask(h, "GET", "/").Body.String(), `href="/load"`) {
		t.Errorf("without a run the page answers %d, or is in the navigation", code)
	}
	if w := ask(h, "GET", "/api/v1/load"); w.Code != 200 || !strings.Contains(w.Body.String(), `"runs": []`) {
		t.Errorf("without a run its twin is %d %s", w.Code, w.Body)
	}
	if w := ask(h, "POST", "/api/v1/events/import?format=load&name=steady"); w.Code != 200 {
		t.Fatalf("a report is answered with %d %s", w.Code, w.Body)
	}
	if !strings.Contains(ask(h, "GET", "/").Body.String(), `href="/load"`) {
		t.Error("the page is not in the navigation")
	}
	body := ask(h, "GET", "/load").Body.String()
	for _, want := range []string{"● held", "▲ failed", "214 not sent", "500/s, then 5000/s for 30 s", "http://10.0.0.1:8443/checkout", `href="/load?from=`, "812 ms"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
	var got struct{ Runs []LoadRun }
	if err := json.Unmarshal(ask(h, "GET", "/api/v1/load").Body.Bytes(), &got); err != nil || len(got.Runs) != 3 || got.Runs[0].Goodput != 499.6 || got.Runs[1].NotSent != 214 || got.Runs[2].LagMS != 0 {
		t.Errorf("the twin is %+v, %v", got, err)
	}
	if n := New(Deps{}); ask(n, "GET", "/load").Code != 404 {
		t.Error("a node without events has the page")
	}
}
