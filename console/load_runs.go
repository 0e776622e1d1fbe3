package console

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// LoadRun is what a load generator found, as it was reported.
type LoadRun struct {
	At      time.Time `json:"at"` // when it began
	Seconds float64   `json:"seconds"`
	Name    string    `json:"name"`
	Tool    string    `json:"tool"` // whose format it came in
	Target  string    `json:"target"`
	Shape   string    `json:"shape"`
	Verdict string    `json:"verdict"` // held, failed, invalid, or empty: nothing was demanded
	Sent    uint64    `json:"sent"`
	NotSent uint64    `json:"not_sent"`
	OK      uint64    `json:"ok"`
	Refused uint64    `json:"refused"`
	Failed  uint64    `json:"failed"`
	Goodput float64   `json:"goodput"` // good answers a second
	P50MS   float64   `json:"p50_ms"`  // 0 here and below: the tool does not say
	P90MS   float64   `json:"p90_ms"`
	P99MS   float64   `json:"p99_ms"`
	MaxMS   float64   `json:"max_ms"`
	LagMS   float64   `json:"lag_ms"` // by which the generator itself was late
}

// Limits of load runs.
const (
	runKind  = "load"           // of their events
	runsMost = 100              // shown, the newest
	runsLook = 10 * time.Second // between two looks whether there are any: every page has them in its navigation
	runsWait = 2 * time.Second
	runFrame = time.Minute // shown of the node before and after
)

// runOf is the load run that an event tells of.
func runOf(e PastEvent) LoadRun {
	p := e.Properties
	count := func(name string) uint64 { n, _ := strconv.ParseUint(p[name], 10, 64); return n }
	number := func(name string) float64 { v, _ := strconv.ParseFloat(p[name], 64); return v }
	return LoadRun{At: e.At, Seconds: number("seconds"), Name: p["pipeline"], Tool: p["tool"], Target: p["target"], Shape: p["shape"], Verdict: p["verdict"],
		Sent: count("sent"), NotSent: count("not_sent"), OK: count("ok"), Refused: count("refused"), Failed: count("failed"), Goodput: number("goodput"),
		P50MS: number("p50_ms"), P90MS: number("p90_ms"), P99MS: number("p99_ms"), MaxMS: number("max_ms"), LagMS: number("lag_ms")}
}

// loadRuns are the newest that are kept.
func (c *console) loadRuns(ctx context.Context, limit int) ([]LoadRun, error) {
	list := []LoadRun{}
	if c.deps.History.Events == nil {
		return list, nil
	}
	page, err := c.deps.History.Events(ctx, EventFilter{Kind: runKind, Limit: limit})
	for _, e := range page.Events {
		list = append(list, runOf(e))
	}
	return list, err
}

// hasRuns says whether any are kept.
func (c *console) hasRuns(View) bool {
	now := c.deps.Now()
	c.mu.Lock()
	known, seen := c.runs, c.runsSeen
	c.mu.Unlock()
	if d := now.Sub(seen); c.deps.History.Events == nil || !seen.IsZero() && d >= 0 && d < runsLook {
		return known
	}
	ctx, cancel := context.WithTimeout(context.Background(), runsWait)
	defer cancel()
	list, err := c.loadRuns(ctx, 1)
	if err == nil { // a store that cannot say now leaves it as it was
		known = len(list) > 0
	}
	c.mu.Lock()
	c.runs, c.runsSeen = known, now
	c.mu.Unlock()
	return known
}

// runsStale looks anew: a report came.
func (c *console) runsStale() {
	c.mu.Lock()
	c.runsSeen = time.Time{}
	c.mu.Unlock()
}

func (c *console) runsTwin(w http.ResponseWriter, r *http.Request) {
	list, err := c.loadRuns(r.Context(), runsMost)
	if err != nil {
		unheard(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"runs": list})
}

// runsShown is what the template of the page about load runs sees.
type runsShown struct {
	pastShown
	Runs  []LoadRun
	Wrong string // why they are not shown
}

// showRuns makes the page about load runs.
func (c *console) showRuns(on shown, r *http.Request) any {
	s := runsShown{pastShown: pastShown{on, c.pasts(on, r,
		demand(),
		drawing{id: "run-refused", name: "Refused by stage", unit: "/s", asks: []asks{{expr: `sum by (stage) (rate(evenkeel_refused_total[$w]))`, by: "stage"}}},
	)}}
	var err error
	if s.Runs, err = c.loadRuns(r.Context(), runsMost); err != nil {
		s.Wrong = sentence(err)
	}
	return s
}

// Word is the verdict with its shape; Tone is its colour.
func (r LoadRun) Word() string {
	return map[string]string{"held": "● held", "failed": "▲ failed", "invalid": "■ says nothing"}[r.Verdict]
}

// Tone is the colour of Word.
func (r LoadRun) Tone() string {
	return map[string]string{"held": "good", "failed": "bad"}[r.Verdict]
}

// Then is the node at the time of the run, with a little before and after; now bounds it.
func (r LoadRun) Then(now time.Time) string {
	end := r.At.Add(time.Duration(r.Seconds*float64(time.Second)) + runFrame)
	if end.After(now) {
		end = now
	}
	p := period{From: r.At.Add(-runFrame), To: end}
	if p.To.Sub(p.From) < rangeLeast {
		p.From = p.To.Add(-rangeLeast)
	}
	return "/load?" + p.query().Encode() + "#past"
}
