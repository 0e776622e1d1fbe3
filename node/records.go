package node

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/monitor/journal"
	"github.com/even-keel/evenkeel/site"
)

// recordsDir is the folder of events within state_dir.
const recordsDir = "events"

var (
	descRecWritten = desc("events_written_total", "Events, requests, checks and figures that were written to the store of events.")
	descRecDropped = desc("events_dropped_total", "What was not kept because too much waited: requests first.", "kind")
	descRecTrimmed = desc("events_trimmed_total", "Rows that were deleted because of their age or the size of the store.")
	descRecWaiting = desc("events_waiting", "Entries that wait to be written.")
	descRecBytes   = desc("events_store_bytes", "Bytes of the store of events and its log on disk.")
	descRecUp      = desc("events_up", "1 when events are written.")
	descRecAsked   = desc("event_queries_total", "Questions about events: run, failed, or turned away because too many ran.", "result")
	descRecSent    = desc("events_sent_total", "Rows sent on to Azure Monitor, by table.", "table")
	descRecUnsent  = desc("events_send_failures_total", "Sends to Azure Monitor that failed, and were tried again.")
)

// newRecords makes the store of events. It keeps to the state_dir of the site that the node begins with.
func (n *Node) newRecords(s *site.Site) *journal.Store {
	deps := journal.Deps{Site: s.Name, Log: n.opts.Log, Event: func(kind, text string) { n.events.add(time.Now(), kind, text) }}
	if s.StateDir != "" {
		deps.Dir = filepath.Join(s.StateDir, recordsDir)
	}
	return journal.New(&s.Events, deps)
}

// startRecords begins to keep events, and lets all that happens be kept.
func (n *Node) startRecords() {
	n.recordsTask = n.tasks.start("events", n.records.Run)
}

// keepEvent has an event kept. It is called for all that happens, and never waits.
func (n *Node) keepEvent(ev console.Event, properties map[string]string) {
	n.records.Event(journal.Event{At: ev.At, Kind: ev.Kind, Text: ev.Text, Level: gravityOf(ev.Kind, ev.Text), Properties: properties})
}

// warnings are the kinds of events that are no good news.
var warnings = map[string]bool{
	"endpoint_ejected": true, "endpoint_down": true, "endpoint_kept": true, "endpoint_outlier": true, "pool_panic": true, "membership_held": true,
	"overload": true, "retry_budget": true, "refusals": true,
}

// gravityOf is how serious an event is.
func gravityOf(kind, text string) int {
	switch {
	case kind == "reload" && strings.Contains(text, "was not changed"):
		return journal.Failure
	case kind == "alert" && strings.Contains(text, " fires: "), kind == "breaker" && strings.Contains(text, " is open"):
		return journal.Warning
	case warnings[kind] && !strings.Contains(text, "no longer") && !strings.Contains(text, "is over"):
		return journal.Warning
	}
	return journal.Info
}

// poolEvent is something that happened in a pool: health of endpoints is a check too.
func (n *Node) poolEvent(pool, kind, text string) {
	now := time.Now()
	properties := map[string]string{"pool": pool}
	_, rest, _ := strings.Cut(text, "endpoint ")
	endpoint, _, _ := strings.Cut(strings.TrimSuffix(rest, ":"), " ")
	if strings.HasPrefix(kind, "endpoint_") && strings.Contains(endpoint, ":") {
		properties["endpoint"] = endpoint
	}
	n.events.addAbout(now, kind, text, properties)
	if up := kind == "endpoint_up"; (up || kind == "endpoint_down") && properties["endpoint"] != "" {
		n.records.Check(journal.Check{At: now, Name: pool, Location: endpoint, Success: up, Message: text, Source: "probe", Properties: properties})
	}
}

// tracer is a log handler that has warnings and errors kept as well.
type tracer struct {
	slog.Handler
	keep func(journal.Trace)
	with []slog.Attr
}

// Enabled implements slog.Handler: warnings are kept whatever is shown.
func (t *tracer) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || t.Handler.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (t *tracer) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		line := journal.Trace{At: r.Time, Text: r.Message, Level: journal.Warning, Properties: map[string]string{}}
		if r.Level >= slog.LevelError {
			line.Level = journal.Failure
		}
		for _, a := range t.with {
			line.Properties[a.Key] = a.Value.String()
		}
		r.Attrs(func(a slog.Attr) bool {
			line.Properties[a.Key] = a.Value.String()
			return true
		})
		t.keep(line)
	}
	if !t.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t *tracer) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &tracer{t.Handler.WithAttrs(attrs), t.keep, append(append([]slog.Attr(nil), t.with...), attrs...)}
}

// WithGroup implements slog.Handler. Names of groups are left out of what is kept.
func (t *tracer) WithGroup(name string) slog.Handler {
	return &tracer{t.Handler.WithGroup(name), t.keep, t.with}
}

// masked is an address without what tells one client of a network from another.
func masked(a netip.Addr) string {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil || !a.IsValid() {
		return ""
	}
	return p.Addr().String()
}

// records tells what the store of events does.
func (s sink) records(st journal.Status) {
	s.gauge(descRecUp, number(st.State == journal.StateRunning && st.Trouble == ""))
	s.gauge(descRecWaiting, float64(st.Waiting))
	s.gauge(descRecBytes, float64(st.Bytes))
	s.counter(descRecWritten, st.Written)
	s.counter(descRecDropped, st.DroppedRequests, "request")
	s.counter(descRecDropped, st.DroppedEvents, "event")
	s.counter(descRecTrimmed, st.Trimmed)
	s.counter(descRecAsked, st.Questions-min(st.QuestionsFailed, st.Questions), "run")
	s.counter(descRecAsked, st.QuestionsFailed, "failed")
	s.counter(descRecAsked, st.QuestionsAway, "turned_away")
}
