package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/even-keel/evenkeel/site"
)

// patience is how long a test waits for what must come.
const patience = time.Minute // the race detector makes SQLite ten times slower

// settings are those of a site file without events.
func settings(change func(*site.Events)) *site.Events {
	c := &site.Events{
		Retention: site.EventRetention{Time: 24 * time.Hour, Requests: time.Hour, Size: 64 << 20},
		Query:     site.EventQuery{Timeout: 20 * time.Second, Rows: 1000},
	}
	if change != nil {
		change(c)
	}
	return c
}

// diary is what a store told.
type diary struct {
	mu    sync.Mutex
	texts []string
}

func (d *diary) add(_, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.texts = append(d.texts, text)
}

func (d *diary) count(part string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.texts {
		if strings.Contains(t, part) {
			n++
		}
	}
	return n
}

// running is a store that runs until the test ends or stop is called.
type running struct {
	*Store
	diary *diary
	later *atomic.Int64 // ns that its clock is ahead
	stop  func()
}

func run(t *testing.T, cfg *site.Events, dir string) *running {
	t.Helper()
	d, later := &diary{}, new(atomic.Int64)
	s := New(cfg, Deps{Dir: dir, Temp: t.TempDir(), Site: "shop", Event: d.add, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	r := &running{s, d, later, func() { cancel(); <-done }}
	t.Cleanup(r.stop)
	until(t, "the store is open", func() bool { return s.Status().State == StateRunning })
	return r
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// settled waits until all that was given is written.
func (r *running) settled(t *testing.T, n uint64) {
	t.Helper()
	until(t, fmt.Sprintf("%d are written", n), func() bool { return r.Status().Written >= n })
}

// TestRemember: what is given comes back over a restart, page by page and in both languages.
func TestRemember(t *testing.T) {
	dir := t.TempDir()
	r := run(t, settings(nil), dir)
	base := time.Now().Add(-time.Minute)
	for i := range 250 {
		r.Event(Event{At: base.Add(time.Duration(i) * time.Millisecond), Kind: []string{"reload", "mark"}[i%2], Text: fmt.Sprintf("event %d", i), Properties: map[string]string{"n": fmt.Sprint(i)}})
	}
	r.Request(&Request{At: base, Method: "GET", Host: "shop.example", Path: "/a\xff", Status: 503, Took: 20 * time.Millisecond, Route: "rest", Endpoint: "10.0.0.1:8000", Weight: 4, Failed: true})
	r.Check(Check{At: base, Name: "home", Location: "a", Success: true, Took: time.Second, Source: "probe"})
	r.Metric(Metric{At: base, Name: "build_seconds", Value: 12.5})
	r.Trace(Trace{At: base, Level: Warning, Text: "look here"})
	r.settled(t, 254)
	r.stop()
	r = run(t, settings(nil), dir)
	var seen []string
	for f := (Filter{Kind: "mark", Limit: 50}); ; {
		p, err := r.Events(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			seen = append(seen, e.Text)
		}
		if f.Before = p.Next; p.Next == 0 {
			break
		}
	}
	if len(seen) != 125 || seen[0] != "event 249" || seen[124] != "event 1" {
		t.Errorf("the pages hold %d events: %.80q", len(seen), seen)
	}
	if p, err := r.Events(t.Context(), Filter{Text: "EVENT 77", Limit: 5}); err != nil || len(p.Events) != 1 || p.Next != 0 || p.Events[0].Properties["n"] != "77" {
		t.Errorf("looking for a text finds %+v, %v", p, err)
	}
	kinds, err := r.Kinds(t.Context(), base.Add(-time.Hour))
	if err != nil || len(kinds) != 2 || kinds[0].Count != 125 {
		t.Errorf("kinds are %v, %v", kinds, err)
	}
	for question, want := range map[string]string{
		`AppEvents | summarize n = count() by Name | sort by Name asc`:                                        `[["mark",125],["reload",125]]`,
		`SELECT Name, count(*) FROM AppEvents GROUP BY Name ORDER BY Name`:                                    `[["mark",125],["reload",125]]`,
		`AppRequests | project Success, ResultCode, DurationMs, ItemCount, Path`:                              `[[false,"503",20,4,"/a�"]]`,
		`AppDependencies | project Target, Success`:                                                           `[["10.0.0.1:8000",false]]`,
		`AppRequestsRollup | project Route, ResultClass, ItemCount, Records`:                                  `[["rest","5xx",4,1]]`,
		`AppAvailabilityResults | project Name, Success, DurationMs, AppRoleName`:                             `[["home",true,1000,"shop"]]`,
		`AppMetrics | project Name, Sum`:                                                                      `[["build_seconds",12.5]]`,
		`AppTraces | project Message, SeverityLevel`:                                                          `[["look here",2]]`,
		`AppEventsRollup | summarize sum(ItemCount)`:                                                          `[[250]]`,
		`AppEvents | where Properties.n == "7" | project Message`:                                             `[["event 7"]]`,
		`AppEvents | summarize p = percentile(toint(Properties.n), 50) | project ok = p between (120 .. 130)`: `[[true]]`,
	} {
		a, err := r.Ask(t.Context(), question)
		if err != nil {
			t.Errorf("%s: %v", question, err)
			continue
		}
		if got, _ := json.Marshal(a.Rows); string(got) != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
	rows, last, err := r.Rows(t.Context(), "AppMetrics", 0, 10)
	if err != nil || len(rows) != 1 || !strings.Contains(string(rows[0]), `"Name":"build_seconds","Sum":12.5`) {
		t.Errorf("rows are %s, %v", rows, err)
	}
	if err := r.NoteSent(t.Context(), "azure/AppMetrics", last); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Sent(t.Context(), "azure/AppMetrics"); got != last || err != nil {
		t.Errorf("sent is %d, %v, want %d", got, err, last)
	}
}

// TestQuestionsAreHarmless: nothing can be changed or taken by a question.
func TestQuestionsAreHarmless(t *testing.T) {
	r := run(t, settings(func(c *site.Events) { c.Query.Timeout = 2 * time.Second }), t.TempDir())
	r.Event(Event{At: time.Now(), Kind: "mark", Text: "v1"})
	r.settled(t, 1)
	for question, want := range map[string]string{
		`DELETE FROM events`:                                                  "no table",
		`WITH x AS (SELECT 1) DELETE FROM events`:                             "questions read tables and nothing else",
		`WITH x AS (SELECT 1) INSERT INTO events SELECT 1, 'a', 1, 'b', NULL`: "questions read tables and nothing else",
		`SELECT 1; DELETE FROM events`:                                        "1:11: only one statement",
		"SELECT 1;\n DROP TABLE events":                                       "2:2: only one statement",
		`SELECT load_extension('x')`:                                          "questions read tables and nothing else",
		`SELECT * FROM pragma_table_info('events')`:                           "questions read tables and nothing else",
		`EXPLAIN PRAGMA query_only = 0`:                                       "questions read tables and nothing else",
		`SELECT zeroblob(1000000000)`:                                         "longer than 1048576 bytes",
		`SELECT printf('%.*c', 100000000, 'x')`:                               "longer than 1048576 bytes",
		`SELECT nix FROM AppEvents`:                                           "no such column: nix",
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n`: "took longer than 2s",
		`AppEvents | where Nme == "x"`: `1:19: there is no column "Nme" (did you mean "Name"?)`,
		"SELECT 1; 'x'":                "1:11: only one statement",
	} {
		if _, err := r.Ask(t.Context(), question); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", question, err, want)
		}
	}
	if a, err := r.Ask(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n`); err != nil || len(a.Rows) != 1000 || !a.Truncated {
		t.Errorf("an endless answer has %d rows, cut %v, %v", len(a.Rows), a.Truncated, err)
	}
	if a, err := r.Ask(t.Context(), `SELECT count(*) FROM AppEvents; -- the end`); err != nil || fmt.Sprint(a.Rows) != "[[1]]" {
		t.Errorf("the events are %v, %v", a.Rows, err)
	}
	r.asking <- struct{}{}
	r.asking <- struct{}{}
	if _, err := r.Ask(t.Context(), "AppEvents"); err != ErrBusy {
		t.Errorf("a third question at once: %v", err)
	}
}

// TestBounds: the file stays within its size however much comes, the oldest go, and what is too old goes too.
func TestBounds(t *testing.T) {
	const size = 8 << 20
	r := run(t, settings(func(c *site.Events) { c.Retention.Size = size }), t.TempDir())
	most, given := int64(0), uint64(0)
	for i := range 20_000 { // rows of 600 bytes
		for !r.add(&Request{At: time.Now(), Method: "GET", Path: fmt.Sprintf("/item/%d/%s", i, strings.Repeat("x", 470)), Status: 200, Weight: 1}, requestShare, new(atomic.Uint64)) {
			most = max(most, r.Status().Bytes)
			<-time.After(time.Millisecond)
		}
		given++
	}
	r.settled(t, given)
	st := r.Status()
	if most = max(most, st.Bytes); most > size || st.Trimmed == 0 {
		t.Errorf("the files had %d bytes, allowed are %d; %d rows were deleted", most, size, st.Trimmed)
	}
	a, err := r.Ask(t.Context(), "AppRequests | summarize n = count(), newest = max(Path) | extend Kept = n > 1000 | project Kept")
	if err != nil || fmt.Sprint(a.Rows) != "[[true]]" {
		t.Errorf("what is left is %v, %v", a.Rows, err)
	}
	r.Event(Event{At: time.Now(), Kind: "old"})
	r.settled(t, given+1)
	r.later.Store(int64(2 * time.Hour)) // requests are kept for one, events for 24
	until(t, "the requests are gone", func() bool {
		a, err := r.Ask(t.Context(), "AppRequests | count")
		return err == nil && fmt.Sprint(a.Rows) == "[[0]]"
	})
	if p, err := r.Events(t.Context(), Filter{Limit: 10}); err != nil || len(p.Events) != 1 {
		t.Errorf("events are %v, %v", p.Events, err)
	}
	r.later.Store(int64(25 * time.Hour))
	until(t, "the event is gone", func() bool {
		p, err := r.Events(t.Context(), Filter{Limit: 10})
		return err == nil && len(p.Events) == 0
	})
}

// TestDamage: a file that cannot be read is put aside with a word, at the start and later.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, settings(nil), dir)
	if st := r.Status(); len(st.Aside) != 1 || r.diary.count("was damaged") != 1 {
		t.Errorf("put aside is %q, told was %q", st.Aside, r.diary.texts)
	}
	r.Event(Event{At: time.Now(), Kind: "mark", Text: "after"})
	r.settled(t, 1)
	r.stop()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := pageSize; i < len(b); i++ { // all but the head of the file
		b[i] = 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r = run(t, settings(nil), dir)
	if st := r.Status(); len(st.Aside) != 1 {
		t.Errorf("put aside is %q, told was %q", st.Aside, r.diary.texts)
	}
	r.Event(Event{At: time.Now(), Kind: "mark", Text: "again"})
	r.settled(t, 1)
	if left, _ := os.ReadDir(filepath.Join(dir, asideDir)); len(left) == 0 || len(left) > 3 {
		t.Errorf("%d files lie aside", len(left))
	}
}

// TestDiskFull: while nothing can be written events are dropped, nothing waits, one word is said, and it goes on by itself. The limit
// for the size of files stands for a full disk, because it needs no rights.
func TestDiskFull(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(size uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer limit(was.Cur)
	r := run(t, settings(nil), t.TempDir())
	r.Event(Event{At: time.Now(), Kind: "mark", Text: "before"})
	r.settled(t, 1)
	limit(16)
	began := time.Now()
	for range 3 * queueLength {
		r.Event(Event{At: time.Now(), Kind: "mark", Text: "lost"})
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("giving events took %v while the disk was full", took)
	}
	until(t, "trouble shows", func() bool { return r.Trouble() != "" })
	until(t, "the losses are told", func() bool { return r.diary.count("were not kept") > 0 })
	if st := r.Status(); st.DroppedEvents == 0 || r.diary.count("cannot be written") != 1 || r.diary.count("were not kept") != 1 {
		t.Errorf("dropped were %d, told was %q", st.DroppedEvents, r.diary.texts)
	}
	if p, err := r.Events(t.Context(), Filter{Limit: 10}); err != nil || len(p.Events) != 1 {
		t.Errorf("what was kept before is %v, %v", p.Events, err)
	}
	limit(was.Cur)
	until(t, "it goes on", func() bool { return r.Trouble() == "" && r.Status().Waiting == 0 })
	if n := r.diary.count("are written again"); n != 1 {
		t.Errorf("told was %q", r.diary.texts)
	}
}

// TestOff: a store that is off takes nothing and answers nothing, and can be turned on.
func TestOff(t *testing.T) {
	cfg := settings(func(c *site.Events) { c.Off = true })
	s := New(cfg, Deps{Dir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	until(t, "it is off", func() bool { return s.Status().State == StateOff })
	s.Event(Event{Kind: "mark"})
	if _, err := s.Ask(ctx, "AppEvents"); err != ErrOff {
		t.Errorf("asked while off: %v", err)
	}
	s.Update(settings(nil))
	until(t, "it runs", func() bool { return s.Status().State == StateRunning })
	if a, err := s.Ask(ctx, "AppEvents"); err != nil || len(a.Rows) != 0 {
		t.Errorf("asked after: %v, %v", a.Rows, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTables: the site file knows the tables by their names.
func TestTables(t *testing.T) {
	var names []string
	for _, tab := range Tables("") {
		names = append(names, tab.Name)
	}
	if fmt.Sprint(names) != fmt.Sprint(site.EventTables) {
		t.Errorf("tables are %v, the site file knows %v", names, site.EventTables)
	}
}
