package slo

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// TestOutagePagesInComputedTime: what is shown as the time to detect an outage is what it takes, to within one evaluation.
func TestOutagePagesInComputedTime(t *testing.T) {
	for _, target := range []float64{0.99, 0.995, 0.999, 0.9995, 0.9999} {
		for _, w := range []Window{{Length: 30 * day}, {Length: 7 * day}, {Length: 90 * day}, {Calendar: "month"}, {Calendar: "week"}} {
			for _, share := range []float64{1, 0.5, 0.2} {
				o := newTracker(Objective{Target: target, Window: w, MinFailures: 5}, Count{})
				now, n := time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC), Count{}
				run := func(bad uint64) {
					now = now.Add(evaluation)
					n = n.plus(Count{10000 - bad, 10000})
					o.step(now, n)
				}
				page := Burns(w)[0]
				for end := now.Add(2 * page.Long); now.Before(end); {
					run(0)
				}
				want, ok := page.Detects(target, share)
				if !ok {
					continue
				}
				begin := now
				for !o.burns(now)[0].Due && now.Sub(begin) < page.Long {
					run(uint64(10000 * share))
				}
				if got := now.Sub(begin); got < want-evaluation || got > want+evaluation {
					t.Errorf("target %v, window %v, %v%% bad: due after %v, computed were %v", target, w, 100*share, got, want)
				}
				shown := newTracker(Objective{Target: target, Window: w}, Count{}).burns(now)[0]
				if full, _ := page.Detects(target, 1); shown.Outage != full {
					t.Errorf("shown is %v, computed %v", shown.Outage, full)
				}
			}
		}
	}
}

// TestCounterMatchesItsBuckets compares sums with those of a list of all events, to within one bucket at each end.
func TestCounterMatchesItsBuckets(t *testing.T) {
	w := Window{Length: 30 * day}
	c := newCounter(w)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type event struct {
		at time.Time
		n  Count
	}
	var all []event
	seed := uint64(7)
	for at := begin; at.Before(begin.Add(40 * day)); at = at.Add(time.Duration(seed>>40%7200) * time.Second) {
		seed = seed*6364136223846793005 + 1442695040888963407
		n := Count{seed >> 60, seed>>60 + seed>>61}
		c.add(at, n)
		all = append(all, event{at, n})
	}
	now := all[len(all)-1].at
	for _, long := range []time.Duration{5 * time.Minute, time.Hour, 30 * time.Minute, 6 * time.Hour, 3 * day, 30 * day} {
		width := 10 * time.Second
		for _, tier := range c.tiers {
			if width = tier.width; long/width < time.Duration(len(tier.ring)) {
				break
			}
		}
		within := func(from time.Time) (n Count) {
			for _, e := range all {
				if !e.at.Before(from) {
					n = n.plus(e.n)
				}
			}
			return n
		}
		got, least, most := c.sum(now.Add(-long), now), within(now.Add(-long+width)), within(now.Add(-long))
		if got.Total < least.Total || got.Total > most.Total {
			t.Errorf("%v: %d events, want %d to %d", long, got.Total, least.Total, most.Total)
		}
	}
}

func TestClockThatJumps(t *testing.T) {
	c := newCounter(Window{Length: 30 * day})
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	c.add(now, Count{1, 1})
	c.add(now.Add(-30*time.Second), Count{1, 1}) // back a little: the bucket is there
	if got := c.sum(now.Add(-time.Hour), now).Total; got != 2 {
		t.Errorf("%d events after a small step back, want 2", got)
	}
	c.add(now.AddDate(5, 0, 0), Count{100, 100}) // a wrong clock, put right
	c.add(now, Count{1, 1})
	if got := c.sum(now.Add(-time.Hour), now).Total; got != 1 {
		t.Errorf("%d events after a wrong clock, want 1", got)
	}
}

func TestSourceThatBeginsAnew(t *testing.T) {
	o := newTracker(Objective{Target: 0.99, Window: Window{Length: 30 * day}}, Count{50, 100})
	now := time.Unix(1e9, 0)
	o.step(now, Count{60, 110})
	o.step(now, Count{5, 10}) // the route was taken out and came back
	o.step(now, Count{10, 15})
	if got := o.status(now).Window; got != (Count{15, 15}) {
		t.Errorf("counted %+v, want 15 good of 15", got)
	}
}

// A route that comes to what an objective counts brings what it counted before, which is not of now; what an objective counted itself stays.
func TestSourceOfOtherRoutes(t *testing.T) {
	b, now := NewBook(Deps{}), time.Unix(1e9, 0)
	use := func(of string, n Count) {
		b.Use([]Objective{{Name: "o", Mark: "m", Of: of, Target: 0.99, Window: Window{Length: 30 * day}}}, now, func(string) Count { return n })
	}
	step := func(n Count) { b.Step(now, func(string) Count { return n }) }
	use("a", Count{})
	step(Count{90, 100})
	use("a", Count{95, 110}) // nothing has changed: what came since counts with the next step
	step(Count{100, 120})
	use("a,b", Count{1100, 2120})
	step(Count{1110, 2130})
	if got := b.Status(now)[0].Window; got != (Count{110, 130}) {
		t.Errorf("counted %+v, want 110 good of 130", got)
	}
}

func TestBookWithDamagedFile(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1e9, 0)
	var told []string
	open := func() *Book {
		b := NewBook(Deps{Dir: dir, Event: func(_, text string) { told = append(told, text) }})
		b.Use([]Objective{{Name: "a", Mark: "m", Target: 0.99, Window: Window{Length: 30 * day}}}, now, func(string) Count { return Count{} })
		return b
	}
	b := open()
	for i := range uint64(3) {
		b.Step(now, func(string) Count { return Count{90 * (i + 1), 100 * (i + 1)} })
		b.Save(now)
	}
	b.folder.Close()
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, []byte("evenkeel objectives 1\nwhat somebody typed"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = open()
	if got := b.Status(now)[0].Window; got != (Count{180, 200}) {
		t.Errorf("%+v, want what the file before had", got)
	}
	if len(told) != 1 || !strings.Contains(told[0], "damaged") {
		t.Errorf("told %q", told)
	}
	b.Close(now)

	// What another version wrote is not understood, and not overwritten.
	told = nil
	if err := b.folder.Write(fileName, fileKind, []byte(`{"version": 2}`)); err != nil {
		t.Fatal(err)
	}
	b = open()
	b.Step(now, func(string) Count { return Count{1, 1} })
	b.Close(now)
	if body, _, err := b.folder.Read(fileName, fileKind, now); string(body) != `{"version": 2}` || err != nil || len(told) != 1 || !strings.Contains(b.Trouble(), "cannot be understood") {
		t.Errorf("%s, %v, told %q", body, err, told)
	}

	// A folder that cannot be written to is told of once, and counting goes on.
	told = nil
	b = NewBook(Deps{Dir: path + "/none", Event: func(_, text string) { told = append(told, text) }})
	b.Use([]Objective{{Name: "a", Target: 0.99, Window: Window{Length: 30 * day}}}, now, func(string) Count { return Count{} })
	b.Step(now, func(string) Count { return Count{1, 1} })
	b.Save(now)
	b.Save(now)
	if b.Trouble() == "" || len(told) != 1 || b.Status(now)[0].Window.Total != 1 {
		t.Errorf("trouble %q, told %q", b.Trouble(), told)
	}
}

// FuzzCounter reads what anybody wrote, and never more than the counter's fixed memory.
func FuzzCounter(f *testing.F) {
	c := newCounter(Window{Length: 30 * day})
	c.add(time.Unix(1e9, 0), Count{1, 2})
	b, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`[{"width":10000000000,"numbers":[9,-3],"good":[1,1],"total":[1,1]},{},{}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newCounter(Window{Length: 30 * day})
		if json.Unmarshal(b, c) == nil {
			c.sum(time.Unix(0, 0), time.Unix(1e9, 0))
		}
	})
}

// BenchmarkBook is one look at as many objectives as a site may have, with counters that are full: counting, judging, writing.
func BenchmarkBook(b *testing.B) {
	book := NewBook(Deps{Dir: b.TempDir()})
	var list []Objective
	for i := range site.MaxObjectives {
		list = append(list, Objective{Name: fmt.Sprint("o", i), Mark: "m", Target: 0.999, Window: Window{Length: 30 * day}, MinFailures: 5, Tighten: -1})
	}
	now, n := time.Unix(1e9, 0), Count{}
	book.Use(list, now, func(string) Count { return n })
	step := func(d time.Duration) {
		now, n = now.Add(d), Count{n.Good + 999, n.Total + 1000}
		book.Step(now, func(string) Count { return n })
	}
	for range 800 {
		step(time.Hour)
	}
	for range 800 {
		step(evaluation)
	}
	b.Run("step", func(b *testing.B) {
		for b.Loop() {
			step(evaluation)
		}
	})
	b.Run("status", func(b *testing.B) {
		for b.Loop() {
			book.Status(now)
		}
	})
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			book.Save(now)
		}
	})
	book.Close(now)
}

// Counts that outlived a restart may make a burn due before anything is counted again.
func TestDueSinceTheRestart(t *testing.T) {
	now, dir, n := time.Unix(1e9, 0), t.TempDir(), Count{}
	open := func() *Book {
		b := NewBook(Deps{Dir: dir})
		b.Use([]Objective{{Name: "a", Mark: "m", Target: 0.99, MinFailures: 5, Window: Window{Length: 30 * day}}}, now, func(string) Count { return n })
		return b
	}
	b := open()
	now, n = now.Add(10*time.Second), Count{Good: 10, Total: 100}
	b.Step(now, func(string) Count { return n })
	b.Close(now)
	n = Count{}
	b = open()
	defer b.Close(now)
	if s := b.Status(now)[0].Burns[0]; !s.Due || !s.Since.Equal(now) {
		t.Errorf("%+v", s)
	}
}
