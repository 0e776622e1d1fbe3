// Package events measures the store of events: how fast it writes, how long pages and questions take with a million rows, and whether its file stays within its bound.
package events

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/monitor/journal"
	"github.com/even-keel/evenkeel/site"
)

// What must hold.
const maxPage = 300 * time.Millisecond

// rowBytes is what a request takes in the file, about.
const rowBytes = 180

// order is what was asked for.
type order struct {
	events, requests, times int
	size                    int64
	dir                     string
}

// Result is what was measured.
type Result struct {
	Events     int     `json:"events"`
	Requests   int     `json:"requests"`
	WroteS     float64 `json:"wrote_s"`
	Bytes      int64   `json:"bytes"`
	BytesMost  int64   `json:"bytes_most"`
	HighBytes  int64   `json:"high_bytes"` // largest that was seen
	Pages      []Took  `json:"pages"`
	Questions  []Took  `json:"questions"` // that read whole tables; told, not judged
	BoundBytes int64   `json:"bound_bytes"`
	BoundMost  int64   `json:"bound_most"`
	BoundRows  int     `json:"bound_rows"`
	Trimmed    uint64  `json:"trimmed"`
	Held       bool    `json:"held"`
}

// Took is how long something took, the slowest of all times and the median.
type Took struct {
	Name   string  `json:"name"`
	MS     float64 `json:"ms"`
	MostMS float64 `json:"most_ms"`
}

// Main is bench events.
func Main(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("events", flag.ContinueOnError)
	var o order
	flags.IntVar(&o.events, "events", 1_000_000, "events")
	flags.IntVar(&o.requests, "requests", 200_000, "requests beside them")
	flags.IntVar(&o.times, "times", 5, "how often each page is asked for")
	flags.Int64Var(&o.size, "size", 512<<20, "bytes that the file may have")
	asJSON := flags.Bool("json", false, "print JSON")
	if flags.Parse(args) != nil || flags.NArg() > 0 || o.events < 1000 || o.requests < 100 || o.times < 1 || o.size < 8<<20 {
		return 2
	}
	dir, err := os.MkdirTemp("", "evenkeel-bench")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench events:", err)
		return 3
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	r, err := o.measure(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench events:", err)
		return 3
	}
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(r)
	} else {
		r.print(os.Stdout)
	}
	if !r.Held {
		return 1
	}
	return 0
}

func (r Result) print(w io.Writer) {
	const mb = 1 << 20
	fmt.Fprintf(w, "written     %d events and %d requests in %.1f s, %.0f a second\n", r.Events, r.Requests, r.WroteS, float64(r.Events+r.Requests)/r.WroteS)
	fmt.Fprintf(w, "files       %.1f MiB, at the most %.1f (allowed %.0f)\n", float64(r.Bytes)/mb, float64(r.HighBytes)/mb, float64(r.BytesMost)/mb)
	for _, p := range r.Pages {
		fmt.Fprintf(w, "page        %6.1f ms (allowed %d), at the most %6.1f   %s\n", p.MS, maxPage.Milliseconds(), p.MostMS, p.Name)
	}
	for _, q := range r.Questions {
		fmt.Fprintf(w, "whole table %6.1f ms,               at the most %6.1f   %s\n", q.MS, q.MostMS, q.Name)
	}
	fmt.Fprintf(w, "bound       %.1f MiB at the most while %d requests came (allowed %.0f), %d rows deleted\n", float64(r.BoundBytes)/mb, r.BoundRows, float64(r.BoundMost)/mb, r.Trimmed)
}

// kinds of events, as a site has them: few that are frequent, and some that are rare.
func kinds() []string {
	list := []string{"endpoint_up", "endpoint_down", "refusals", "audit", "alert", "breaker"}
	for range 6 {
		list = append(list, list...)
	}
	return append(list, "mark", "reload")
}

// open runs a store until end is called.
func open(dir string, size int64) (s *journal.Store, end func()) {
	s = journal.New(&site.Events{Retention: site.EventRetention{Time: 720 * time.Hour, Requests: 168 * time.Hour, Size: site.Size(size)}, Query: site.EventQuery{Timeout: time.Minute, Rows: 10000}},
		journal.Deps{Dir: dir, Site: "shop"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	return s, func() { cancel(); <-done }
}

// fill writes events and requests that are spread over a week, as fast as they are taken. high is the largest size of the files.
func fill(ctx context.Context, s *journal.Store, events, requests int) (high int64, err error) {
	names := kinds()
	begin, step := time.Now().Add(-7*24*time.Hour), 7*24*time.Hour/time.Duration(max(events, requests))
	given := uint64(0)
	room := func() {
		for ctx.Err() == nil && s.Status().Waiting > 4000 {
			high = max(high, s.Status().Bytes)
			time.Sleep(time.Millisecond)
		}
		given++
	}
	for i := range max(events, requests) {
		if ctx.Err() != nil {
			return high, ctx.Err()
		}
		at := begin.Add(time.Duration(i) * step)
		if i < events {
			room()
			kind := names[i%len(names)]
			s.Event(journal.Event{At: at, Kind: kind, Text: fmt.Sprintf("pool shop: endpoint 10.0.%d.%d:8000 %s number %d", i%7, i%250, kind, i), Properties: map[string]string{"pool": "shop", "n": strconv.Itoa(i)}})
		}
		if i < requests {
			room()
			s.Request(&journal.Request{At: at, Listener: "web", Protocol: "http/1", Method: "GET", Host: "shop.example", Path: "/item/" + strconv.Itoa(i%5000), Status: []int{200, 200, 200, 404, 503}[i%5],
				Took: time.Duration(i%400) * time.Millisecond, Route: []string{"rest", "checkout", "search"}[i%3], Class: "standard", Pool: "shop", Endpoint: fmt.Sprintf("10.0.0.%d:8000", i%9), Weight: 12, ID: strconv.Itoa(i)})
		}
	}
	for ctx.Err() == nil && s.Status().Written < given {
		time.Sleep(time.Millisecond)
	}
	st := s.Status()
	if st.DroppedEvents+st.DroppedRequests > 0 {
		err = fmt.Errorf("%d events and %d requests were dropped", st.DroppedEvents, st.DroppedRequests)
	}
	return max(high, st.Bytes), err
}

func (o order) measure(ctx context.Context) (r Result, err error) {
	s, end := open(o.dir, o.size)
	began := time.Now()
	r.HighBytes, err = fill(ctx, s, o.events, o.requests)
	r.WroteS = time.Since(began).Seconds()
	st := s.Status()
	r.Events, r.Requests, r.Bytes, r.BytesMost = o.events, o.requests, st.Bytes, st.BytesMost
	if err == nil {
		err = o.pages(ctx, s, &r)
	}
	end()
	if err != nil {
		return r, err
	}
	const small = 8 << 20
	over := max(3*small/rowBytes, min(10*small/rowBytes, o.events))
	dir, err := os.MkdirTemp(o.dir, "bound")
	if err != nil {
		return r, err
	}
	s, end = open(dir, small)
	r.BoundBytes, err = fill(ctx, s, 0, over)
	st = s.Status()
	r.BoundMost, r.BoundRows, r.Trimmed = st.BytesMost, over, st.Trimmed
	end()
	r.Held = r.HighBytes <= r.BytesMost && r.BoundBytes <= r.BoundMost && r.Trimmed > 0
	for _, p := range r.Pages {
		r.Held = r.Held && p.MS <= float64(maxPage.Milliseconds()) // the median: others use the machine too
	}
	return r, err
}

// pages asks for pages of the console through its handler, as a browser would, and for questions that read whole tables.
func (o order) pages(ctx context.Context, s *journal.Store, r *Result) error {
	h := handler(s)
	week := time.Now().Add(-7 * 24 * time.Hour)
	deep := strconv.FormatInt(week.Add(time.Hour).UnixNano(), 10)
	ask := func(q string) string { return "/query?" + url.Values{"q": {q}}.Encode() }
	for _, p := range []struct{ name, path string }{
		{"events, newest", "/events"},
		{"events, a page near the oldest", "/events?before=" + deep},
		{"events of a rare kind", "/events?kind=mark"},
		{"events of a frequent kind in one hour", "/events?kind=alert&since=" + url.QueryEscape(week.Add(time.Hour).Format(time.RFC3339)) + "&until=" + url.QueryEscape(week.Add(2*time.Hour).Format(time.RFC3339))},
		{"events with a text that many have", "/events?text=endpoint"},
		{"events with a text that none has", "/events?text=nowhere"},
		{"query: newest requests", ask("AppRequests | top 100 by TimeGenerated")},
		{"query: events by kind in an hour", ask("AppEvents | where TimeGenerated > ago(1h) | summarize count() by Name")},
		{"query: an hour of requests as a chart", ask("AppRequests | where TimeGenerated > ago(1h) | summarize sum(ItemCount) by bin(TimeGenerated, 1m), Success | render timechart")},
		{"query: a week of summaries as a chart", ask("AppRequestsRollup | summarize sum(ItemCount) by bin(TimeGenerated, 1h), ResultClass | render timechart")},
		{"query: events of a week by kind, from summaries", ask("AppEventsRollup | summarize sum(ItemCount) by Name")},
	} {
		took, err := o.time(ctx, h, p.name, p.path)
		if err != nil {
			return err
		}
		r.Pages = append(r.Pages, took)
	}
	for _, q := range []string{
		"AppEvents | count", "AppEvents | summarize count() by Name", "AppEvents | summarize count() by bin(TimeGenerated, 1h)",
		"AppRequests | summarize P95 = percentile(DurationMs, 95), sum(ItemCount) by Route", "SELECT count(*) FROM AppEvents WHERE Message LIKE '%nowhere%'",
	} {
		took, err := o.time(ctx, h, q, ask(q))
		if err != nil {
			return err
		}
		r.Questions = append(r.Questions, took)
	}
	return nil
}

// time asks for a page several times.
func (o order) time(ctx context.Context, h http.Handler, name, path string) (Took, error) {
	var all []float64
	for range o.times {
		if ctx.Err() != nil {
			return Took{}, ctx.Err()
		}
		q := httptest.NewRequest(http.MethodGet, path, nil)
		q.Host = "127.0.0.1:7600"
		w := httptest.NewRecorder()
		began := time.Now()
		h.ServeHTTP(w, q)
		all = append(all, float64(time.Since(began).Microseconds())/1e3)
		if w.Code != http.StatusOK {
			return Took{}, fmt.Errorf("%s answers %d: %.300s", path, w.Code, w.Body)
		}
	}
	slices.Sort(all)
	return Took{name, all[len(all)/2], all[len(all)-1]}, nil
}

// handler is the console over a store alone.
func handler(s *journal.Store) http.Handler {
	return console.New(console.Deps{Listen: "127.0.0.1:7600", History: console.History{
		Events: func(ctx context.Context, f console.EventFilter) (out console.EventPage, err error) {
			p, err := s.Events(ctx, journal.Filter(f))
			for _, e := range p.Events {
				out.Events = append(out.Events, console.PastEvent{ID: strconv.FormatInt(e.ID, 10), At: e.At, Kind: e.Kind, Text: e.Text, Properties: e.Properties})
			}
			if p.Next > 0 {
				out.Next = strconv.FormatInt(p.Next, 10)
			}
			return out, err
		},
		Kinds: func(ctx context.Context, since time.Time) (out []console.KindCount, err error) {
			kinds, err := s.Kinds(ctx, since)
			for _, k := range kinds {
				out = append(out, console.KindCount(k))
			}
			return out, err
		},
		Ask: func(ctx context.Context, question string) (out console.QueryAnswer, err error) {
			a, err := s.Ask(ctx, question)
			for _, c := range a.Columns {
				out.Columns = append(out.Columns, console.QueryColumn{Name: c.Name, Type: c.Type.String()})
			}
			for _, row := range a.Rows {
				for i, cell := range row {
					if at, is := cell.(time.Time); is {
						row[i] = at.Format(time.RFC3339Nano)
					}
				}
			}
			out.Rows, out.Render = a.Rows, a.Render
			return out, err
		},
	}})
}
