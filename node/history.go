package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/monitor/azure"
	"github.com/even-keel/evenkeel/monitor/journal"
	"github.com/even-keel/evenkeel/monitor/pipeline"
	"github.com/even-keel/evenkeel/site"
)

// history is what the console may ask about the past, and have remembered.
func (n *Node) history() console.History {
	return console.History{
		Events: n.pastEvents, Kinds: n.eventKinds, Ask: n.ask, Tables: n.queryTables, Rows: n.pastRows, Note: n.note, Import: n.importReport,
		Status: func() any { return n.viewRecords() },
	}
}

// recordsView is the store of events and who gets them.
type recordsView struct {
	journal.Status
	Azure *azure.Status `json:"azure,omitempty"`
}

func (n *Node) viewRecords() recordsView {
	v := recordsView{Status: n.records.Status()}
	if s := n.sender.Load(); s != nil {
		st := s.Status()
		v.Azure = &st
	}
	return v
}

// unanswered makes an error of the store one of the console.
func unanswered(err error) error {
	var bad *journal.QuestionError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return &console.HistoryError{Status: http.StatusBadRequest, Reason: "bad_query", Err: err}
	case errors.Is(err, journal.ErrBusy):
		return &console.HistoryError{Status: http.StatusServiceUnavailable, Reason: "too_many_queries", Err: err}
	case errors.Is(err, journal.ErrOff):
		return &console.HistoryError{Status: http.StatusNotFound, Reason: "not_offered", Err: err}
	}
	return &console.HistoryError{Status: http.StatusServiceUnavailable, Reason: "unavailable", Err: err}
}

// levels are severities in words.
var levels = map[int]string{journal.Info: "info", journal.Warning: "warning", journal.Failure: "error"}

func (n *Node) pastEvents(ctx context.Context, f console.EventFilter) (out console.EventPage, err error) {
	p, err := n.records.Events(ctx, journal.Filter(f))
	if err != nil {
		return out, unanswered(err)
	}
	for _, e := range p.Events {
		out.Events = append(out.Events, console.PastEvent{ID: strconv.FormatInt(e.ID, 10), At: e.At, Kind: e.Kind, Text: e.Text, Level: cmp.Or(levels[e.Level], "info"), Properties: e.Properties})
	}
	if p.Next > 0 {
		out.Next = strconv.FormatInt(p.Next, 10)
	}
	return out, nil
}

func (n *Node) eventKinds(ctx context.Context, since time.Time) (out []console.KindCount, err error) {
	kinds, err := n.records.Kinds(ctx, since)
	for _, k := range kinds {
		out = append(out, console.KindCount(k))
	}
	return out, unanswered(err)
}

// ask answers a question, in cells that JSON knows.
func (n *Node) ask(ctx context.Context, question string) (out console.QueryAnswer, err error) {
	a, err := n.records.Ask(ctx, question)
	if err != nil {
		return out, unanswered(err)
	}
	out = console.QueryAnswer{Rows: a.Rows, Render: a.Render, Truncated: a.Truncated, TookMS: float64(a.Took) / 1e6, SQL: a.SQL}
	for _, c := range a.Columns {
		out.Columns = append(out.Columns, console.QueryColumn{Name: c.Name, Type: c.Type.String()})
	}
	for _, row := range out.Rows {
		for i, cell := range row {
			switch v := cell.(type) {
			case time.Time:
				row[i] = v.Format(time.RFC3339Nano)
			case time.Duration:
				row[i] = v.String()
			}
		}
	}
	return out, nil
}

func (n *Node) queryTables() (out []console.QueryTable) {
	for _, t := range journal.Tables("") {
		one := console.QueryTable{Name: t.Name}
		for _, c := range t.Columns {
			one.Columns = append(one.Columns, console.QueryColumn{Name: c.Name, Type: c.Type.String()})
		}
		out = append(out, one)
	}
	return out
}

func (n *Node) pastRows(ctx context.Context, table string, since time.Time, last int64, limit int) ([]json.RawMessage, int64, error) {
	if last == 0 && !since.IsZero() {
		last = since.UnixNano() - 1
	}
	rows, next, err := n.records.Rows(ctx, table, last, limit)
	return rows, next, unanswered(err)
}

// note remembers a mark, such as a deployment.
func (n *Node) note(m console.Note) error {
	properties := maps.Clone(m.Properties)
	text := m.Text
	if m.By != "" {
		text += ", by " + m.By
	}
	n.events.addAbout(time.Now(), "mark", text, properties)
	n.log.Info(text, "event", "mark")
	n.awaitRecords()
	return nil
}

// awaitRecords waits a little until what was given is written, so that who gave it finds it. What cannot be written now still is later.
func (n *Node) awaitRecords() {
	ctx, cancel := context.WithTimeout(context.Background(), writtenWithin)
	defer cancel()
	_ = n.records.Await(ctx)
}

// writtenWithin is how long callers wait for what they gave to be written: some commits.
const writtenWithin = 2 * time.Second

// importReport takes the results of a pipeline, and says in an event how it went.
func (n *Node) importReport(format, name string, body []byte) (out console.Imported, err error) {
	r, err := pipeline.Read(format, body, time.Now())
	if err != nil {
		return out, &console.HistoryError{Status: http.StatusBadRequest, Reason: "bad_report", Err: err}
	}
	if st := n.records.Status().State; st == journal.StateOff {
		return out, unanswered(journal.ErrOff)
	}
	took := func(kept bool) {
		if !kept {
			out.Dropped++
		}
	}
	source := "pipeline"
	for _, one := range r.Results {
		took(n.records.Check(journal.Check{At: one.At, Name: one.Name, Location: cmp.Or(one.Suite, name), Success: one.Success, Took: one.Took, Message: one.Message, Source: source,
			Properties: pipelineName(name, nil)}))
	}
	for _, f := range r.Figures {
		took(n.records.Metric(journal.Metric{At: f.At, Name: f.Name, Value: f.Value, Properties: pipelineName(name, f.Properties)}))
	}
	for _, e := range r.Notes {
		n.events.addAbout(e.At, "mark", e.Text, pipelineName(name, nil))
	}
	for _, run := range r.Runs {
		n.events.addAbout(run.At, "load", runText(run, name), pipelineName(name, runProperties(run)))
	}
	out.Checks, out.Failed, out.Metrics, out.Events, out.Runs = len(r.Results), r.Failed(), len(r.Figures), len(r.Notes), len(r.Runs)
	if out.Runs > 0 { // it is an event of its own, and there is nothing else
		n.awaitRecords()
		return out, nil
	}
	text := fmt.Sprintf("pipeline %s: %d tests, %d failed, %d skipped, %d figures", cmp.Or(name, "(no name)"), out.Checks, out.Failed, r.Skipped, out.Metrics)
	n.events.addAbout(time.Now(), "pipeline", text, pipelineName(name, map[string]string{"tests": strconv.Itoa(out.Checks), "failed": strconv.Itoa(out.Failed)}))
	n.awaitRecords()
	return out, nil
}

// runText is a load run in a sentence.
func runText(r pipeline.Run, name string) string {
	text := fmt.Sprintf("load run %s: %s", cmp.Or(name, "(no name)"), cmp.Or(r.Verdict, "no verdict"))
	if r.Target != "" {
		text += " at " + r.Target
	}
	return text + fmt.Sprintf("; %s in %s, %.4g/s good, %d refused, %d failed", r.Shape, r.Took.Round(time.Second), r.Goodput, r.Refused, r.Failed)
}

// runProperties are the figures of a load run, by the names that console.LoadRun has for them.
func runProperties(r pipeline.Run) map[string]string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
	return map[string]string{"tool": r.Tool, "target": r.Target, "shape": r.Shape, "verdict": r.Verdict, "seconds": number(r.Took.Seconds()),
		"sent": strconv.FormatUint(r.Sent, 10), "not_sent": strconv.FormatUint(r.NotSent, 10), "ok": strconv.FormatUint(r.OK, 10),
		"refused": strconv.FormatUint(r.Refused, 10), "failed": strconv.FormatUint(r.Failed, 10), "goodput": number(r.Goodput),
		"p50_ms": number(r.P50), "p90_ms": number(r.P90), "p99_ms": number(r.P99), "max_ms": number(r.Max), "lag_ms": number(r.Lag)}
}

// pipelineName adds the name of a pipeline to properties.
func pipelineName(name string, properties map[string]string) map[string]string {
	if name == "" {
		return properties
	}
	out := maps.Clone(properties)
	if out == nil {
		out = map[string]string{}
	}
	out["pipeline"] = name
	return out
}

// useSender sends events on as s says. One that has not changed goes on.
func (n *Node) useSender(s *site.Site) {
	cfg := s.Events.Azure
	if reflect.DeepEqual(cfg, n.senderCfg) {
		return
	}
	if n.senderTask != nil {
		n.senderTask.stop(partStop)
		n.senderTask = nil
		n.sender.Store(nil)
	}
	if n.senderCfg = cfg; cfg == nil {
		return
	}
	sender := azure.New(cfg, n.records, n.opts.Log, func(kind, text string) { n.events.add(time.Now(), kind, text) })
	n.sender.Store(sender)
	n.senderTask = n.tasks.start("azure", sender.Run)
}

// azure tells how sending to Azure Monitor fares.
func (s sink) azure(sender *azure.Sender) {
	if sender == nil {
		return
	}
	st := sender.Status()
	for table, count := range st.Sent {
		s.counter(descRecSent, count, table)
	}
	s.counter(descRecUnsent, st.Failed)
}
