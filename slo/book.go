package slo

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/keep"
)

// Names of the file with what was counted.
const (
	fileName = "counts"
	fileKind = "objectives"
)

// Deps is what a book needs of its surroundings.
type Deps struct {
	Dir   string                  // folder of the counts; empty: they are kept in memory only
	Event func(kind, text string) // nil: nobody is told
}

// Book holds all objectives of a site and what was counted for them. Its methods may be called by any goroutine.
type Book struct {
	deps   Deps
	folder *keep.Folder // nil: memory only

	mu       sync.Mutex
	order    []string
	trackers map[string]*tracker
	owned    bool // this process writes the file
	loaded   bool
	stuck    bool // what is in the file cannot be read or understood: it must not be overwritten
	trouble  string
}

// NewBook opens nothing yet.
func NewBook(deps Deps) *Book {
	b := &Book{deps: deps, trackers: map[string]*tracker{}}
	if deps.Dir != "" {
		b.folder = keep.NewFolder(deps.Dir)
	}
	if b.deps.Event == nil {
		b.deps.Event = func(string, string) {}
	}
	return b
}

// Use says which objectives there are from now on. source is what was counted for one of them until now, which counts for none
// that is new, nor for one that adds up other counts than before. What was counted for others is forgotten.
func (b *Book) Use(list []Objective, now time.Time, source func(name string) Count) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.trackers
	b.trackers, b.order = map[string]*tracker{}, nil
	for _, o := range list {
		b.order = append(b.order, o.Name)
		if t := old[o.Name]; t != nil && t.obj.Mark == o.Mark && t.obj.Window == o.Window {
			if t.obj.Of != o.Of {
				t.last = source(o.Name)
			}
			t.obj = o
			b.trackers[o.Name] = t
			continue
		}
		b.trackers[o.Name] = newTracker(o, source(o.Name))
	}
	if len(list) > 0 && !b.loaded {
		b.loaded = true
		b.load(now)
	}
}

// Len is how many objectives there are.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.order)
}

// Step takes what the sources have counted in all until now.
func (b *Book) Step(now time.Time, source func(name string) Count) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range b.order {
		b.trackers[name].step(now, source(name))
	}
}

// Status is every objective, in the order of the site file.
func (b *Book) Status(now time.Time) (all []Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range b.order {
		all = append(all, b.trackers[name].status(now))
	}
	return all
}

// Trouble is why counts may not outlive a restart; empty: they do.
func (b *Book) Trouble() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.folder == nil && len(b.order) > 0 {
		return "there is no state_dir, so that budgets begin anew with every restart"
	}
	return b.trouble
}

// saved is one objective in the file.
type saved struct {
	Name   string          `json:"name"`
	Mark   string          `json:"mark"`
	Window string          `json:"window"`
	Counts json.RawMessage `json:"counts"`
}

// load takes in what the file holds. Without the folder's lock another process still counts there: then what this one
// counts is also counted apart, and added to what the other leaves behind.
func (b *Book) load(now time.Time) {
	if b.folder == nil {
		return
	}
	owned, err := b.folder.Own()
	b.owned = owned
	if err == nil {
		err = b.read(now)
	}
	if !b.owned {
		for _, t := range b.trackers {
			t.own = newCounter(t.obj.Window)
		}
	}
	b.tell(err)
}

// read makes what the file holds what was counted.
func (b *Book) read(now time.Time) error {
	body, warning, err := b.folder.Read(fileName, fileKind, now)
	if warning != "" {
		b.deps.Event("objectives", warning+"; budgets go on with what is known")
	}
	// What cannot be read or understood must not be overwritten: people can look at it, or another version of evenkeel.
	b.stuck = true
	if err != nil {
		return err
	}
	var list []saved
	if body != nil {
		if err := json.Unmarshal(body, &list); err != nil {
			return fmt.Errorf("what objectives counted cannot be understood: %w", err)
		}
	}
	for _, s := range list {
		t := b.trackers[s.Name]
		if t == nil || t.obj.Mark != s.Mark || t.obj.Window.String() != s.Window {
			continue
		}
		c := newCounter(t.obj.Window)
		if err := json.Unmarshal(s.Counts, c); err != nil {
			return fmt.Errorf("what objective %s counted cannot be understood: %w", s.Name, err)
		}
		t.all = c
	}
	b.stuck = false
	return nil
}

// Save writes what was counted, if this process is the one that does.
func (b *Book) Save(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.folder == nil || len(b.order) == 0 || b.stuck {
		return
	}
	b.tell(b.save(now))
}

func (b *Book) save(now time.Time) error {
	if !b.owned {
		owned, err := b.folder.Own()
		if err != nil || !owned {
			return err
		}
		if err := b.inherit(now); err != nil {
			return err
		}
	}
	list := make([]saved, 0, len(b.order))
	for _, name := range b.order {
		t := b.trackers[name]
		counts, err := json.Marshal(t.all)
		if err != nil {
			return err
		}
		list = append(list, saved{name, t.obj.Mark, t.obj.Window.String(), counts})
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return b.folder.Write(fileName, fileKind, body)
}

// inherit takes over from a process that has ended: what it wrote last, and what was counted here meanwhile.
func (b *Book) inherit(now time.Time) error {
	for _, t := range b.trackers {
		if t.own == nil { // it came with a reload
			t.own = t.all
		}
		t.all = newCounter(t.obj.Window)
	}
	err := b.read(now)
	for _, t := range b.trackers {
		t.all.take(t.own)
		t.own = nil
	}
	b.owned = true
	return err
}

// Close writes what was counted and lets go of the file.
func (b *Book) Close(now time.Time) {
	b.Save(now)
	if b.folder != nil {
		b.folder.Close()
	}
}

// tell notes and tells what is wrong with the file, once, and that it is well again.
func (b *Book) tell(err error) {
	was := b.trouble
	b.trouble = ""
	if err != nil {
		b.trouble = "what objectives count cannot be kept, so that budgets may begin anew with a restart: " + err.Error()
	}
	switch {
	case was == "" && b.trouble != "":
		b.deps.Event("objectives", b.trouble)
	case was != "" && b.trouble == "":
		b.deps.Event("objectives", "what objectives count is kept again")
	}
}
