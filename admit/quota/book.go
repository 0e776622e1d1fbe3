// Package quota counts amounts over periods for each key, refuses what is beyond, and keeps the counts over restarts.
package quota

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Times of the book.
const (
	saveEvery  = time.Second // what is counted is in a file after this: the bound of what a crash loses
	sweepEvery = time.Minute // keys of which nothing counts any more are forgotten
)

// Deps is what a book works with.
type Deps struct {
	Dir   string                  // folder for files; empty: what is counted ends with the process
	Now   func() time.Time        // nil: time.Now
	Event func(kind, text string) // told what people should know; nil: nobody
	Log   *slog.Logger            // nil: slog.Default()
}

// Book is everything that quotas have counted. It outlives reloads, and with a folder restarts. Its methods may be called by any
// goroutine; Load once, before Run.
type Book struct {
	deps    Deps
	keeper  *keeper // nil: nothing is kept
	trouble atomic.Pointer[string]
	fewer   atomic.Bool // tables were forgotten: files should forget them too

	mu     sync.Mutex // guards tables; never taken on the way of a request
	tables map[string]*table
	told   bool // that nothing is kept
}

// NewBook makes an empty book. It opens nothing.
func NewBook(deps Deps) *Book {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.Default()
	}
	b := &Book{deps: deps, tables: map[string]*table{}}
	if deps.Dir != "" {
		b.keeper = newKeeper(b, deps.Dir)
	}
	return b
}

func (b *Book) now() time.Time { return b.deps.Now() }

// event tells people.
func (b *Book) event(text string) {
	if b.deps.Event != nil {
		b.deps.Event("quota", text)
	}
}

// alarm tells people of something that they should mend.
func (b *Book) alarm(text string) {
	b.deps.Log.Error(text, "event", "quota")
	if b.deps.Event != nil {
		b.deps.Event("quota", text)
	}
}

// Trouble is why counts are not kept as they should be; empty: all is well.
func (b *Book) Trouble() string {
	if p := b.trouble.Load(); p != nil {
		return *p
	}
	return ""
}

// Set makes the quotas of a site ready, over the counts that the book has for them; nil when there are none. routes are
// the names of the site's routes in order. Counts of quotas that are new to the book begin at nothing.
func (b *Book) Set(s *site.Site, routes []string) *Set {
	if b == nil || len(s.Quotas) == 0 {
		return nil
	}
	set := &Set{book: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range s.Quotas {
		mark := markOf(q, s.Identify.IPv6Prefix)
		t := b.tables[mark]
		if t == nil {
			t = newTable(q, s.Identify.IPv6Prefix, b.keeper != nil)
			t.most.Store(int64(q.Keys))
			b.tables[mark] = t
		}
		set.rules = append(set.rules, newRule(q, t, routes))
	}
	return set
}

// Use says that the site of set is in force: counts of quotas that it does not name are forgotten.
func (b *Book) Use(set *Set) {
	if b == nil {
		return
	}
	used, names := map[*table]bool{}, map[string]bool{}
	if set != nil {
		for i := range set.rules {
			r := &set.rules[i]
			used[r.table], names[r.cfg.Name] = true, true
			r.table.most.Store(int64(r.cfg.Keys))
		}
	}
	var anew []string
	b.mu.Lock()
	for mark, t := range b.tables {
		if !used[t] {
			delete(b.tables, mark)
			b.fewer.Store(true)
			if names[t.name] {
				anew = append(anew, t.name)
			}
		}
	}
	forgetful := set != nil && b.keeper == nil && !b.told
	b.told = b.told || forgetful
	b.mu.Unlock()
	for _, name := range anew {
		b.event("quota " + name + " counts anew, because it counts by something else or over another period than before")
	}
	if forgetful {
		b.event("quotas are kept in memory only and begin anew with every restart, because the site has no state_dir")
	}
}

// list is the tables at the moment.
func (b *Book) list() []*table {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*table, 0, len(b.tables))
	for _, t := range b.tables {
		out = append(out, t)
	}
	return out
}

// byMark is the table of a mark; nil: there is none.
func (b *Book) byMark(mark string) *table {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tables[mark]
}

// Load reads what earlier processes have counted for the quotas of all sets made so far. Files that cannot be read
// are set aside and told of; the book then holds what the others say.
func (b *Book) Load() {
	if b != nil && b.keeper != nil {
		b.keeper.load()
	}
}

// Run writes what is counted, about once a second, until ctx ends, and then once more.
func (b *Book) Run(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	swept := b.now()
	for {
		select {
		case <-ctx.Done():
			if b.keeper != nil {
				b.keeper.end()
			}
			return nil
		case <-tick.C:
		}
		if b.keeper != nil {
			b.keeper.step()
		}
		if now := b.now(); now.Sub(swept) >= sweepEvery || now.Before(swept) {
			swept = now
			for _, t := range b.list() {
				t.sweep(now)
			}
		}
	}
}
