package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console/login"
)

// History is what the node remembers of events and requests. Nil functions are allowed: what they would serve answers 404.
type History struct {
	Events func(ctx context.Context, f EventFilter) (EventPage, error)
	// Kinds are the kinds of events since a moment, the most frequent first.
	Kinds func(ctx context.Context, since time.Time) ([]KindCount, error)
	// Ask answers a question in KQL or SQL.
	Ask func(ctx context.Context, question string) (QueryAnswer, error)
	// Tables are those that can be asked for, and their columns.
	Tables func() []QueryTable
	// Rows reads rows of a table that were kept after a moment or after the row that last names, each as JSON.
	Rows func(ctx context.Context, table string, since time.Time, last int64, limit int) (rows []json.RawMessage, newLast int64, err error)
	// Note remembers that something was done, such as a deployment.
	Note func(n Note) error
	// Import takes results of a pipeline.
	Import func(format, name string, body []byte) (Imported, error)
	// Status is what keeps all that, as data for JSON.
	Status func() any
}

// EventFilter says which events are asked for. Zero fields ask for all.
type EventFilter struct {
	Kind, Text   string
	Since, Until time.Time
	Before       int64 // from EventPage.Next
	Limit        int
}

// PastEvent is an event that was kept.
type PastEvent struct {
	ID         string            `json:"id,omitempty"`
	At         time.Time         `json:"at"`
	Kind       string            `json:"kind"`
	Text       string            `json:"text"`
	Level      string            `json:"level,omitempty"` // info, warning or error
	Properties map[string]string `json:"properties,omitempty"`
}

// EventPage is events, newest first.
type EventPage struct {
	Events []PastEvent `json:"events"`
	Next   string      `json:"next,omitempty"` // value of before for the next page; empty: this is the last. A page may be empty and have a next
}

// KindCount is how many events there were of a kind.
type KindCount struct {
	Kind  string `json:"kind"`
	Count int64  `json:"count"`
}

// QueryTable is a table that can be asked for.
type QueryTable struct {
	Name    string        `json:"name"`
	Columns []QueryColumn `json:"columns"`
}

// QueryColumn is a column and its type, as Kusto calls it.
type QueryColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// QueryAnswer is a table. Cells are null, texts, numbers, booleans, or JSON; moments are texts (RFC 3339), lengths of time too.
type QueryAnswer struct {
	Columns   []QueryColumn `json:"columns"`
	Rows      [][]any       `json:"rows"`
	Render    string        `json:"render,omitempty"`
	Truncated bool          `json:"truncated"` // there is more than is shown
	TookMS    float64       `json:"took_ms"`
	SQL       string        `json:"sql"` // that was run
}

// Note is something that was done.
type Note struct {
	Text       string            `json:"text"`
	By         string            `json:"by,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// Imported is what was taken of the results of a pipeline.
type Imported struct {
	Checks  int `json:"checks"`
	Failed  int `json:"failed"` // of the checks and runs
	Metrics int `json:"metrics"`
	Events  int `json:"events"`
	Runs    int `json:"runs"`    // of load
	Dropped int `json:"dropped"` // for want of room
}

// HistoryError says why history does not answer.
type HistoryError struct {
	Status int
	Reason string // word of the problem
	Err    error
}

// Error is the sentence.
func (e *HistoryError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *HistoryError) Unwrap() error { return e.Err }

// Bounds of what is asked for at once.
const (
	eventsPage  = 100      // events on a page of the console
	eventsMost  = 1000     // and of the API
	exportRows  = 2000     // rows read at once for an export
	importLimit = 16 << 20 // bytes of a report
	noteMost    = 1000     // bytes of a note
	exportWait  = 30 * time.Second
)

// importPath takes reports, which are larger than other bodies.
const importPath = "/api/v1/events/import"

// historyRoutes serves events, questions, marks and imports.
func (c *console) historyRoutes(mux *http.ServeMux, serve func(method, path string, h http.HandlerFunc)) {
	serve("GET", "/api/v1/events", c.events)
	serve("GET", "/api/v1/events/export", c.export)
	serve("POST", importPath, c.importReport)
	serve("POST", "/api/v1/marks", c.mark)
	serve("GET", "/api/v1/records", func(w http.ResponseWriter, _ *http.Request) {
		if c.deps.History.Status == nil {
			problem(w, http.StatusNotFound, "not_offered", "this node keeps no events")
			return
		}
		answer(w, http.StatusOK, c.deps.History.Status())
	})
	serve("GET", "/api/v1/query/tables", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"tables": c.queryTables()})
	})
	mux.HandleFunc("GET /api/v1/query", c.query)
	mux.HandleFunc("POST /api/v1/query", c.query)
	mux.HandleFunc("/api/v1/query", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, POST")
		problem(w, http.StatusMethodNotAllowed, "method_not_allowed", r.URL.Path+" answers GET and POST only")
	})
}

func (c *console) queryTables() []QueryTable {
	if c.deps.History.Tables == nil {
		return []QueryTable{}
	}
	return c.deps.History.Tables()
}

// unheard answers with why history does not.
func unheard(w http.ResponseWriter, err error) {
	var e *HistoryError
	if !errors.As(err, &e) {
		e = &HistoryError{Status: http.StatusInternalServerError, Reason: "history_failed", Err: err}
	}
	if e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	problem(w, e.Status, e.Reason, sentence(e.Err))
}

// filterOf reads what events are asked for. wide is how many may be asked for at once.
func filterOf(q url.Values, wide int) (f EventFilter, err error) {
	f = EventFilter{Kind: q.Get("kind"), Text: q.Get("text"), Limit: min(eventsPage, wide)}
	for name, into := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if s := q.Get(name); s != "" {
			if *into, err = momentOf(s); err != nil {
				return f, err
			}
		}
	}
	if s := q.Get("before"); s != "" {
		if f.Before, err = strconv.ParseInt(s, 10, 64); err != nil {
			return f, errors.New("before is no value of next: " + strconv.Quote(s))
		}
	}
	if s := q.Get("limit"); s != "" {
		if f.Limit, err = strconv.Atoi(s); err != nil || f.Limit < 1 || f.Limit > wide {
			return f, errors.New("limit is " + strconv.Quote(s) + "; want 1 to " + strconv.Itoa(wide))
		}
	}
	return f, nil
}

// momentOf reads a moment as programs and as forms of browsers write it.
func momentOf(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New(strconv.Quote(s) + " is no moment; write 2026-01-31T10:00:00Z")
}

// events are the newest events, or a page of what is kept of them.
func (c *console) events(w http.ResponseWriter, r *http.Request) {
	f, err := filterOf(r.URL.Query(), eventsMost)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad_filter", sentence(err))
		return
	}
	page, err := c.eventsOf(r.Context(), f)
	if err != nil {
		unheard(w, err)
		return
	}
	answer(w, http.StatusOK, page)
}

// eventsOf is a page of events; those that the node has in mind when it keeps none.
func (c *console) eventsOf(ctx context.Context, f EventFilter) (p EventPage, err error) {
	if c.deps.History.Events != nil {
		p, err = c.deps.History.Events(ctx, f)
		var e *HistoryError
		if err == nil || !errors.As(err, &e) || e.Reason != "unavailable" && e.Reason != "not_offered" {
			p.Events = copied(p.Events)
			return p, err
		}
	}
	p.Events = []PastEvent{}
	for _, e := range c.now().Events {
		fits := (f.Kind == "" || e.Kind == f.Kind) && (f.Text == "" || strings.Contains(strings.ToLower(e.Text), strings.ToLower(f.Text)))
		if fits && !e.At.Before(f.Since) && (f.Until.IsZero() || e.At.Before(f.Until)) && len(p.Events) < f.Limit {
			p.Events = append(p.Events, PastEvent{At: e.At, Kind: e.Kind, Text: e.Text})
		}
	}
	return p, nil
}

// query answers a question. It comes as q in the query or a form, or as the body itself.
func (c *console) query(w http.ResponseWriter, r *http.Request) {
	question, err := questionOf(r)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad_query", sentence(err))
		return
	}
	a, err := c.ask(r.Context(), question)
	if err != nil {
		unheard(w, err)
		return
	}
	answer(w, http.StatusOK, a)
}

func questionOf(r *http.Request) (string, error) {
	q := r.URL.Query().Get("q")
	if r.Method == http.MethodPost {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			q = r.PostFormValue("q")
		} else if q == "" {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return "", err
			}
			q = string(b)
		}
	}
	if strings.TrimSpace(q) == "" {
		return "", errors.New("there is no question: give one as q, such as AppEvents | take 10")
	}
	return q, nil
}

func (c *console) ask(ctx context.Context, question string) (QueryAnswer, error) {
	if c.deps.History.Ask == nil {
		return QueryAnswer{}, &HistoryError{http.StatusNotFound, "not_offered", errors.New("this node keeps no events")}
	}
	a, err := c.deps.History.Ask(ctx, question)
	a.Columns, a.Rows = copied(a.Columns), copied(a.Rows)
	return a, err
}

// export writes a table as JSON lines, oldest first.
func (c *console) export(w http.ResponseWriter, r *http.Request) {
	if c.deps.History.Rows == nil {
		problem(w, http.StatusNotFound, "not_offered", "this node keeps no events")
		return
	}
	q := r.URL.Query()
	var since time.Time
	if s := q.Get("since"); s != "" {
		var err error
		if since, err = momentOf(s); err != nil {
			problem(w, http.StatusBadRequest, "bad_filter", sentence(err))
			return
		}
	}
	table := q.Get("table")
	if table == "" {
		table = "AppEvents"
	}
	rows, last, err := c.deps.History.Rows(r.Context(), table, since, 0, exportRows)
	if err != nil {
		unheard(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	for err == nil && len(rows) > 0 {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(exportWait)) // a large table takes longer than an answer may
		for _, row := range rows {
			if _, err := w.Write(append(row, '\n')); err != nil {
				return
			}
		}
		rows, last, err = c.deps.History.Rows(r.Context(), table, since, last, exportRows)
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the caller must not take a part for the whole
	}
}

// mark remembers a deployment or the like. It takes text and by from the query, a form, or JSON.
func (c *console) mark(w http.ResponseWriter, r *http.Request) {
	if c.deps.History.Note == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node takes no marks")
		return
	}
	n := Note{Text: r.FormValue("text"), By: r.FormValue("by")}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			problem(w, http.StatusBadRequest, "bad_mark", "the body is no JSON: "+err.Error())
			return
		}
	}
	if n.Text = strings.TrimSpace(n.Text); n.Text == "" || len(n.Text) > noteMost {
		problem(w, http.StatusBadRequest, "bad_mark", "say in text what was done, in up to "+strconv.Itoa(noteMost)+" bytes")
		return
	}
	if n.By != "" || whoIs(r).Via != login.ViaLocal { // the machine's own people have no name unless they say one
		n.By = byName(r, n.By)
	}
	if err := c.deps.History.Note(n); err != nil {
		unheard(w, err)
		return
	}
	c.stale()
	done(w, r, http.StatusOK, n)
}

// importReport takes the results of a pipeline: format junit, json, load, k6 or vegeta, name of the pipeline.
func (c *console) importReport(w http.ResponseWriter, r *http.Request) {
	if c.deps.History.Import == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node takes no reports")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad_report", "the report broke off: "+err.Error())
		return
	}
	q := r.URL.Query()
	got, err := c.deps.History.Import(q.Get("format"), q.Get("name"), body)
	if err != nil {
		unheard(w, err)
		return
	}
	c.runsStale()
	answer(w, http.StatusOK, got)
}
