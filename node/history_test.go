package node

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/monitor/journal"
	"github.com/even-keel/evenkeel/site"
)

// remembering is a node of which only the past works.
func remembering(t *testing.T) *Node {
	s := &site.Site{Name: "shop", Events: site.Events{Retention: site.EventRetention{Time: 24 * time.Hour, Requests: time.Hour, Size: 64 << 20}, Query: site.EventQuery{Timeout: time.Minute, Rows: 100}}}
	n := &Node{opts: Options{Site: s, Log: slog.New(slog.DiscardHandler)}, site: s}
	n.records = journal.New(&s.Events, journal.Deps{Dir: t.TempDir(), Site: s.Name})
	n.events.keep = n.keepEvent
	n.log = slog.New(&tracer{Handler: slog.DiscardHandler, keep: n.records.Trace})
	runRecords(t, n.records, 0)
	return n
}

// answerOf is what a question brings, as text.
func answerOf(t *testing.T, n *Node, question string) string {
	t.Helper()
	if err := n.records.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, err := n.ask(t.Context(), question)
	if err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return fmt.Sprint(a.Rows)
}

// TestWhatIsKept: each thing that happens comes back under its kind, with what it is about and how serious it is.
func TestWhatIsKept(t *testing.T) {
	n := remembering(t)
	if err := n.note(console.Note{Text: "v42", By: "ann", Properties: map[string]string{"commit": "abc"}}); err != nil {
		t.Fatal(err)
	}
	n.poolEvent("a", "endpoint_down", "pool a: endpoint 10.0.0.1:80 is down, was up: timeout")
	n.poolEvent("a", "endpoint_up", "pool a: endpoint 10.0.0.1:80 is up, was down: status 200")
	n.poolEvent("a", "pool_panic", "pool a: too little is healthy")
	n.Record(console.Action{At: time.Now(), Who: "ann", Role: "operate", Via: "token", From: "127.0.0.1", What: "POST /api/v1/reload", OK: true, Status: 200})
	n.event("alert", "many-503 (route rest) fires: 12 of 20")
	n.event("alert", "many-503 (route rest) is over")
	n.log.With("part", "x").Warn("look here", "err", errors.New("broken"))
	n.log.Info("not kept")
	for question, want := range map[string]string{
		`AppEvents | where Name == "mark" | project Message, SeverityLevel, Properties.commit`:                             "[[v42, by ann 1 abc]]",
		`AppEvents | where Name startswith "endpoint" | project Name, SeverityLevel, Properties.pool, Properties.endpoint`: "[[endpoint_down 2 a 10.0.0.1:80] [endpoint_up 1 a 10.0.0.1:80]]",
		`AppEvents | where Name == "pool_panic" | project SeverityLevel, Properties.pool`:                                  "[[2 a]]",
		`AppEvents | where Name == "audit" | project Message, Properties.who, Properties.result`:                           "[[ann (token, from 127.0.0.1): POST /api/v1/reload ann done]]",
		`AppEvents | where Name == "alert" | project SeverityLevel | sort by SeverityLevel asc`:                            "[[1] [2]]",
		`AppAvailabilityResults | project Name, Location, Success, Source`:                                                 "[[a 10.0.0.1:80 false probe] [a 10.0.0.1:80 true probe]]",
		`AppTraces | project Message, SeverityLevel, Properties.part, Properties.err`:                                      "[[look here 2 x broken]]",
		`print d = 90s, t = datetime(2026-01-31)`:                                                                          "[[1m30s 2026-01-31T00:00:00Z]]",
	} {
		if got := answerOf(t, n, question); got != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
	p, err := n.pastEvents(t.Context(), console.EventFilter{Kind: "endpoint_down", Limit: 10})
	if err != nil || len(p.Events) != 1 || p.Events[0].Level != "warning" || p.Events[0].ID == "" {
		t.Errorf("a page is %+v, %v", p, err)
	}
	if kinds, err := n.eventKinds(t.Context(), time.Now().Add(-time.Hour)); err != nil || len(kinds) < 5 {
		t.Errorf("kinds are %v, %v", kinds, err)
	}
}

// TestPipelines: a report becomes checks and figures, and says in an event how it went.
func TestPipelines(t *testing.T) {
	n := remembering(t)
	got, err := n.importReport("", "nightly", []byte(`[{"name":"smoke","success":false,"message":"no"},{"name":"build_seconds","value":42},{"event":"deployed v43"}]`))
	if err != nil || got != (console.Imported{Checks: 1, Failed: 1, Metrics: 1, Events: 1}) {
		t.Fatalf("taken was %+v, %v", got, err)
	}
	for question, want := range map[string]string{
		`AppAvailabilityResults | project Name, Location, Success, Properties.pipeline`: "[[smoke nightly false nightly]]",
		`AppMetrics | project Name, Sum, Properties.pipeline`:                           "[[build_seconds 42 nightly]]",
		`AppEvents | project Name, Message | sort by Name asc`:                          "[[mark deployed v43] [pipeline pipeline nightly: 1 tests, 1 failed, 0 skipped, 1 figures]]",
	} {
		if got := answerOf(t, n, question); got != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
	if got, err := n.importReport("", "spike", []byte(`{"verdict":"failed","target":"http://shop/","shape":"500/s","seconds":30,"sent":100,"ok":80,"refused":15,"failed":5,"goodput":2.5,"latency_ms":{"p50":1.5}}`)); err != nil || got != (console.Imported{Failed: 1, Runs: 1}) {
		t.Errorf("taken of a load run was %+v, %v", got, err)
	}
	if got, want := answerOf(t, n, `AppEvents | where Name == "load" | project Message, Properties.verdict, Properties.pipeline`), "[[load run spike: failed at http://shop/; 500/s in 30s, 2.5/s good, 15 refused, 5 failed failed spike]]"; got != want {
		t.Errorf("a load run is %s, want %s", got, want)
	}
	var refused *console.HistoryError
	if _, err := n.importReport("junit", "", []byte("{}")); !errors.As(err, &refused) || refused.Reason != "bad_report" {
		t.Errorf("a wrong report: %v", err)
	}
}

// TestUnanswered: why the past does not answer is told by a status and a word.
func TestUnanswered(t *testing.T) {
	n := remembering(t)
	for question, want := range map[string]string{"Nothing | count": "bad_query"} {
		var refused *console.HistoryError
		if _, err := n.ask(t.Context(), question); !errors.As(err, &refused) || refused.Reason != want {
			t.Errorf("%s: %v, want %s", question, err, want)
		}
	}
	for err, want := range map[error]string{journal.ErrBusy: "too_many_queries", journal.ErrOff: "not_offered", journal.ErrNotOpen: "unavailable"} {
		var refused *console.HistoryError
		if !errors.As(unanswered(err), &refused) || refused.Reason != want || !strings.Contains(refused.Error(), err.Error()) {
			t.Errorf("%v becomes %v", err, refused)
		}
	}
	if unanswered(nil) != nil {
		t.Error("no error becomes one")
	}
}
