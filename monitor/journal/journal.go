// Package journal remembers what happened in an embedded SQLite store: events, sampled requests, checks and imported figures; it answers questions about them in SQL and KQL.
package journal

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Severities of events, by the numbers of Azure Monitor.
const (
	Info    = 1
	Warning = 2
	Failure = 3
)

// Event is something that happened.
type Event struct {
	At         time.Time
	Kind       string // one word: reload, endpoint_ejected, mark, audit, …
	Text       string
	Level      int // Info, Warning or Failure; 0: Info
	Properties map[string]string
}

// Trace is a line of the node's own log.
type Trace Event

// Request is one request, or tcp connection or udp session, that was kept.
type Request struct {
	At                                       time.Time // when it ended
	Listener, Protocol, Method, Host, Path   string    // the path without its query, which may hold secrets
	Status                                   int       // 0: none
	Took, FirstByte                          time.Duration
	BytesIn, BytesOut                        int64
	Route, Class, Pool, Endpoint, Client, ID string
	RefusedBy, Reason                        string // stage and reason of a refusal; empty: it was not refused
	Attempts                                 int
	Failed                                   bool    // on our side
	Weight                                   float64 // for how many requests it stands
}

// Check is the result of a test from outside: a probe whose verdict changed, a test of a pipeline.
type Check struct {
	At             time.Time
	Name, Location string
	Success        bool
	Took           time.Duration
	Message        string
	Source         string // probe, junit, json
	Properties     map[string]string
}

// Metric is a figure that somebody brought.
type Metric struct {
	At         time.Time
	Name       string
	Value      float64
	Properties map[string]string
}

// Deps is what a store needs of its node.
type Deps struct {
	Dir   string // of the store; empty: a temporary one, which ends with the process
	Temp  string // where temporary stores are made; empty: the system's place
	Site  string // name of the site, which rows carry
	Event func(kind, text string)
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now
}

// Sizes of what waits to be written. Events may use all places, requests three quarters: they are the first that are given up.
const (
	queueLength  = 8192
	requestShare = queueLength * 3 / 4
	batchMost    = 2000 // entries in one transaction
	batchLeast   = 50
	batchBytes   = 1 << 10                // that an entry takes in the log, with its part of indexes
	commitEvery  = 500 * time.Millisecond // what a crash can lose, twice over
	textMost     = 4 << 10                // bytes of one text
	nameMost     = 256
)

// States of a store.
const (
	StateOff      = "off"
	StateStarting = "starting"
	StateRunning  = "running"
	StateFailed   = "failed" // it cannot be opened; it is tried again
)

// Store remembers. Its methods may be called by any goroutine, Run once. Those that take something never block.
type Store struct {
	deps   Deps
	cfg    atomic.Pointer[site.Events]
	queue  chan any
	change chan struct{} // has one place
	counts counts
	asking chan struct{} // has a place for each question that may run at once

	mu      sync.Mutex // guards what follows
	current *session   // nil: not open
	state   string
	trouble string // why nothing is written; empty: it is
	aside   []string
}

// counts are what Status shows.
type counts struct {
	written, droppedRequests, droppedOthers, trimmed atomic.Uint64
	asked, failed, turnedAway                        atomic.Uint64
}

// Status is what a store does, as plain data. Counters count from the node's start.
type Status struct {
	State           string   `json:"state"`
	Trouble         string   `json:"trouble,omitempty"` // why nothing is written
	Dir             string   `json:"dir,omitempty"`
	Temporary       bool     `json:"temporary,omitempty"`
	Bytes           int64    `json:"bytes"`      // of the file and its log
	BytesMost       int64    `json:"bytes_most"` // that they may have
	Waiting         int      `json:"waiting"`    // entries
	Written         uint64   `json:"written"`    // entries
	DroppedRequests uint64   `json:"dropped_requests"`
	DroppedEvents   uint64   `json:"dropped_events"` // and checks, figures and lines of the log
	Trimmed         uint64   `json:"trimmed"`        // entries that were deleted because of age or size
	Questions       uint64   `json:"questions"`
	QuestionsFailed uint64   `json:"questions_failed"`
	QuestionsAway   uint64   `json:"questions_turned_away"`
	Aside           []string `json:"aside,omitempty"` // damaged files that were put away since the start
}

// New makes a store. It opens nothing and starts nothing.
func New(cfg *site.Events, deps Deps) *Store {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Event == nil {
		deps.Event = func(string, string) {}
	}
	s := &Store{deps: deps, queue: make(chan any, queueLength), change: make(chan struct{}, 1), asking: make(chan struct{}, questionsAtOnce), state: StateStarting}
	s.cfg.Store(cfg)
	return s
}

// Update changes the settings.
func (s *Store) Update(cfg *site.Events) {
	was := s.cfg.Swap(cfg)
	if was.Off != cfg.Off || was.Retention.Size != cfg.Retention.Size {
		select {
		case s.change <- struct{}{}:
		default:
		}
	}
}

// off says that nothing is kept. A site that was made without its defaults has no size.
func off(cfg *site.Events) bool { return cfg.Off || cfg.Retention.Size <= 0 }

// Event remembers an event.
func (s *Store) Event(e Event) { s.add(e, queueLength, &s.counts.droppedOthers) }

// Trace remembers a line of the log.
func (s *Store) Trace(t Trace) { s.add(t, requestShare, &s.counts.droppedOthers) }

// Request remembers a request, unless much waits.
func (s *Store) Request(r *Request) { s.add(r, requestShare, &s.counts.droppedRequests) }

// Check remembers a result; false: there was no room.
func (s *Store) Check(c Check) bool { return s.add(c, queueLength, &s.counts.droppedOthers) }

// Metric remembers a figure; false: there was no room.
func (s *Store) Metric(m Metric) bool { return s.add(m, queueLength, &s.counts.droppedOthers) }

// written is closed when everything that was given before it is written.
type written chan struct{}

// Await waits until all that was given so far is written, or ctx is over; then it says why.
func (s *Store) Await(ctx context.Context) error {
	done := make(written)
	if !s.add(done, queueLength, new(atomic.Uint64)) {
		return ErrNotOpen
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) add(entry any, most int, dropped *atomic.Uint64) bool {
	if off(s.cfg.Load()) {
		return false
	}
	if len(s.queue) < most {
		select {
		case s.queue <- entry:
			return true
		default:
		}
	}
	dropped.Add(1)
	return false
}

// Run keeps the store until ctx ends, and then writes what waits. It never returns an error: what keeps it from working is shown
// by Status and tried again.
func (s *Store) Run(ctx context.Context) error {
	place := &place{s: s}
	defer place.remove()
	for ctx.Err() == nil {
		if off(s.cfg.Load()) {
			s.say(StateOff, "")
			select {
			case <-s.change:
			case <-ctx.Done():
			}
			continue
		}
		s.session(ctx, place)
	}
	return nil
}

func (s *Store) say(state, trouble string) {
	s.mu.Lock()
	s.state, s.trouble = state, trouble
	s.mu.Unlock()
}

// Trouble is why nothing is written; empty: it is.
func (s *Store) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Status is the state of the store.
func (s *Store) Status() Status {
	c := &s.counts
	s.mu.Lock()
	st := Status{State: s.state, Trouble: s.trouble, Aside: append([]string(nil), s.aside...)}
	if s.current != nil {
		st.Dir, st.Temporary, st.Bytes, st.BytesMost = s.current.dir, s.current.temporary, s.current.bytes(), s.current.most
	}
	s.mu.Unlock()
	st.Waiting, st.Written, st.Trimmed = len(s.queue), c.written.Load(), c.trimmed.Load()
	st.DroppedRequests, st.DroppedEvents = c.droppedRequests.Load(), c.droppedOthers.Load()
	st.Questions, st.QuestionsFailed, st.QuestionsAway = c.asked.Load(), c.failed.Load(), c.turnedAway.Load()
	return st
}
