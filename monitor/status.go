package monitor

import (
	"time"
)

// Status is what the monitor does, as plain data. Counters count from the node's start.
type Status struct {
	State     string   `json:"state"`
	Why       string   `json:"why,omitempty"`
	Dir       string   `json:"dir,omitempty"`
	Temporary bool     `json:"temporary,omitempty"` // history ends with the process
	Aside     []string `json:"aside,omitempty"`     // damaged files that were put away

	Series  uint64 `json:"series"` // in memory
	Budget  int    `json:"budget"` // of series
	Bytes   int64  `json:"bytes"`  // on disk, in blocks
	Blocks  int    `json:"blocks"`
	Samples uint64 `json:"samples"`

	Rounds       uint64            `json:"rounds"`  // of scraping
	Late         uint64            `json:"late"`    // rounds left out because the one before had not ended
	RoundTook    time.Duration     `json:"round"`   // the last
	Failed       uint64            `json:"failed"`  // scrapes of endpoints
	Dropped      map[string]uint64 `json:"dropped"` // samples, by reason
	Received     uint64            `json:"received"`
	Queries      uint64            `json:"queries"`
	QueryErrors  uint64            `json:"query_errors"`
	QueriesAway  uint64            `json:"queries_turned_away"`
	RemoteWrites []RemoteStatus    `json:"remote_writes,omitempty"`
}

// RemoteStatus is one place that samples are sent on to.
type RemoteStatus struct {
	URL     string `json:"url"`
	Waiting int    `json:"waiting"`
	Sent    uint64 `json:"sent"`
	Dropped uint64 `json:"dropped"`
	Why     string `json:"why,omitempty"` // the last request failed
}

// Reasons for which samples are dropped.
const (
	droppedBudget   = "budget"   // the store has as many series as it may
	droppedPressure = "pressure" // the node is short of memory
	droppedInvalid  = "invalid"  // out of order, or not well formed
	droppedStore    = "store"    // the store could not write
	droppedLarge    = "large"    // an endpoint shows more than it may
)

// Status is the state of the monitor.
func (m *Monitor) Status() Status {
	c := &m.counts
	m.mu.Lock()
	s := m.current
	if s != nil {
		s.users.Add(1)
		defer s.users.Done()
	}
	st := Status{State: m.state, Why: m.why, Aside: append([]string(nil), m.aside...)}
	m.mu.Unlock()
	st.Samples, st.Rounds, st.Late, st.Failed = c.samples.Load(), c.rounds.Load(), c.late.Load(), c.failed.Load()
	st.RoundTook, st.Received = time.Duration(c.roundNanos.Load()), c.received.Load()
	st.Queries, st.QueryErrors, st.QueriesAway = c.queries.Load(), c.queryErrors.Load(), c.queriesTurnedAway.Load()
	st.Dropped = map[string]uint64{
		droppedBudget: c.overBudget.Load(), droppedPressure: c.pressed.Load(), droppedInvalid: c.invalid.Load(),
		droppedStore: c.unstored.Load(), droppedLarge: c.refused.Load(),
	}
	st.Budget = m.cfg.Load().Series
	if s == nil {
		return st
	}
	if c.full.Load() {
		st.Why = "the store cannot write: samples are dropped until it can"
	}
	if s.store != nil {
		st.Dir, st.Temporary = s.store.db.Dir(), s.store.temporary
		st.Series = s.store.db.Head().NumSeries()
		for _, b := range s.store.db.Blocks() {
			st.Blocks++
			st.Bytes += b.Size()
		}
	}
	for _, r := range s.remotes {
		st.RemoteWrites = append(st.RemoteWrites, r.status())
	}
	return st
}
