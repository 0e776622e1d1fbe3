package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// session opens the store and writes until ctx ends or the settings change.
func (s *Store) session(ctx context.Context, p *place) {
	e := s.opened(ctx, p)
	if e == nil {
		return
	}
	s.use(e)
	defer func() {
		s.use(nil)
		if err := e.close(); err != nil {
			s.deps.Log.Warn("the store of events was not closed in order", "err", err)
		}
	}()
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	var b batch
	var lost losses
	for {
		// Without room in the batch what comes waits in the queue, and is dropped when that is full too.
		queue := s.queue
		if len(b.entries) >= e.batchRoom() {
			queue = nil
		}
		select {
		case entry := <-queue:
			if b.entries = append(b.entries, entry); len(b.entries) >= e.batchRoom() && !b.stuck {
				s.flush(e, &b)
			}
		case <-tick.C:
			s.flush(e, &b)
			e.trim()
			s.tellLosses(&lost)
		case <-s.change:
			s.flush(e, &b)
			return
		case <-ctx.Done():
			s.drain(e, &b)
			return
		}
		if b.reopen {
			return // what is in the batch is lost with the file; the queue goes on
		}
	}
}

// tellEvery is how often people are told, at the most, that something was not kept.
const tellEvery = time.Minute

// losses are what was told of what was not kept.
type losses struct {
	requests, others uint64
	at               time.Time
}

// tellLosses tells what was dropped since it was last told.
func (s *Store) tellLosses(l *losses) {
	requests, others, now := s.counts.droppedRequests.Load(), s.counts.droppedOthers.Load(), s.deps.Now()
	if requests == l.requests && others == l.others || !l.at.IsZero() && now.Sub(l.at) < tellEvery {
		return
	}
	text := fmt.Sprintf("%d requests and %d events were not kept, because too much came at once or could not be written", requests-l.requests, others-l.others)
	*l = losses{requests, others, now}
	s.deps.Event("events", text)
}

// opened opens the store, and waits as long as it cannot. nil: ctx is over.
func (s *Store) opened(ctx context.Context, p *place) *session {
	told := ""
	for ctx.Err() == nil {
		e, err := s.open(p)
		if err == nil {
			return e
		}
		s.say(StateFailed, err.Error())
		if told != err.Error() {
			told = err.Error()
			s.deps.Log.Warn("events are not kept until their store can be opened", "err", err)
		}
		t := time.NewTimer(openTick)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
	return nil
}

// use makes e the session that answers.
func (s *Store) use(e *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.state = e, StateStarting
	if e != nil {
		s.state, s.trouble = StateRunning, ""
	}
}

// batch is what will be written in one transaction.
type batch struct {
	entries []any
	stuck   bool // the last attempt failed
	reopen  bool // the file is damaged
}

// drain writes what waits, as long as it can be written.
func (s *Store) drain(e *session, b *batch) {
	for {
		for len(b.entries) < e.batchRoom() && len(s.queue) > 0 {
			b.entries = append(b.entries, <-s.queue)
		}
		if len(b.entries) == 0 {
			return
		}
		if s.flush(e, b); b.stuck || b.reopen {
			return
		}
	}
}

// flush writes the batch. What fails is told once, and tried again with the next tick.
func (s *Store) flush(e *session, b *batch) {
	if len(b.entries) == 0 {
		return
	}
	err := e.commit(b.entries)
	if codeOf(err) == codeFull { // by its own bound, or that of the disk: room may be made
		e.shrink()
		err = e.commit(b.entries)
	}
	switch {
	case err == nil:
		for _, entry := range b.entries {
			if w, is := entry.(written); is {
				close(w)
			} else {
				s.counts.written.Add(1)
			}
		}
		if b.stuck {
			s.tell("", "events are written again")
		}
		b.entries, b.stuck = b.entries[:0], false
	case damaged(err):
		b.reopen = true
		if err := s.reopen(e, err); err != nil {
			s.tell(err.Error(), "events are not kept: "+err.Error())
		}
	case !b.stuck:
		b.stuck = true
		s.tell(err.Error(), "events cannot be written, and are dropped when "+strconv.Itoa(queueLength)+" wait: "+err.Error())
	}
}

// reopen puts a file aside that turned out to be damaged.
func (s *Store) reopen(e *session, why error) error {
	s.use(nil)
	e.close()
	return e.putAside(why)
}

// tell notes what is wrong, and lets people know.
func (s *Store) tell(trouble, event string) {
	s.mu.Lock()
	s.trouble = trouble
	s.mu.Unlock()
	if trouble != "" {
		s.deps.Log.Warn(event)
	}
	s.deps.Event("events", event)
}

// next is an id for a moment: that moment, or the nearest after it that no row has.
func (e *session) next(at time.Time) int64 {
	if at.IsZero() {
		at = e.s.deps.Now()
	}
	e.last = max(e.last+1, at.UnixNano())
	return e.last
}

// Statements by kind of entry.
const (
	insertEvent   = "INSERT INTO events VALUES (?, ?, ?, ?, ?)"
	insertTrace   = "INSERT INTO traces VALUES (?, ?, ?, ?)"
	insertRequest = "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	insertCheck   = "INSERT INTO checks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
	insertMetric  = "INSERT INTO metrics VALUES (?, ?, ?, ?, ?)"
	addEvents     = "INSERT INTO events_rollup VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET items = items + excluded.items"
	addRequests   = `INSERT INTO requests_rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET items = items + excluded.items,
  records = records + excluded.records, took = took + excluded.took, took_max = max(took_max, excluded.took_max)`
)

// sums are the summaries of one batch.
type sums struct {
	events   map[eventKey]int64
	requests map[requestKey]*requestSum
}

type eventKey struct {
	at   int64
	kind string
}

type requestKey struct {
	at                                 int64
	route, pool, class, result, reason string
}

type requestSum struct {
	items, took, most float64
	records           int64
}

// commit writes entries and their summaries, all or nothing.
func (e *session) commit(entries []any) error {
	tx, err := e.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	prepared := map[string]*sql.Stmt{}
	exec := func(text string, args ...any) error {
		st := prepared[text]
		if st == nil {
			var err error
			if st, err = tx.Prepare(text); err != nil {
				return err
			}
			prepared[text] = st
		}
		_, err := st.Exec(args...)
		return err
	}
	before, added := e.last, map[string]int64{}
	sums := sums{map[eventKey]int64{}, map[requestKey]*requestSum{}}
	for _, entry := range entries {
		table, err := e.insert(exec, entry, &sums)
		if codeOf(err) == codeConstraint { // it can never be written, and must not hold up the others
			e.s.counts.droppedOthers.Add(1)
			continue
		}
		if err != nil {
			e.last = before
			return err
		}
		added[table]++
	}
	if err := sums.write(exec); err != nil {
		e.last = before
		return err
	}
	if err := tx.Commit(); err != nil {
		e.last = before
		return err
	}
	for table, n := range added {
		e.rows[table] += n
	}
	return nil
}

// insert writes one entry, and says into which table.
func (e *session) insert(exec func(string, ...any) error, entry any, sums *sums) (table string, err error) {
	switch v := entry.(type) {
	case written:
		return "", nil
	case Event:
		id := e.next(v.At)
		sums.events[eventKey{id - id%rollupStep, cut(v.Kind, nameMost)}]++
		return "events", exec(insertEvent, id, cut(v.Kind, nameMost), max(v.Level, Info), cut(v.Text, textMost), props(v.Properties))
	case Trace:
		return "traces", exec(insertTrace, e.next(v.At), max(v.Level, Info), cut(v.Text, textMost), props(v.Properties))
	case *Request:
		return "requests", e.insertRequest(exec, v, sums)
	case Check:
		return "checks", exec(insertCheck, e.next(time.Time{}), v.At.UnixNano(), cut(v.Name, nameMost), cut(v.Location, nameMost), v.Success, ms(v.Took), cut(v.Message, textMost), v.Source, props(v.Properties))
	case Metric:
		return "metrics", exec(insertMetric, e.next(time.Time{}), v.At.UnixNano(), cut(v.Name, nameMost), v.Value, props(v.Properties))
	}
	return "", fmt.Errorf("a %T cannot be kept", entry)
}

func (e *session) insertRequest(exec func(string, ...any) error, r *Request, sums *sums) error {
	id := e.next(r.At)
	key := requestKey{id - id%rollupStep, r.Route, r.Pool, r.Class, "none", r.Reason}
	if r.Status >= 100 {
		key.result = strconv.Itoa(r.Status/100) + "xx"
	}
	sum := sums.requests[key]
	if sum == nil {
		sum = new(requestSum)
		sums.requests[key] = sum
	}
	sum.items += r.Weight
	sum.took += r.Weight * ms(r.Took)
	sum.most = max(sum.most, ms(r.Took))
	sum.records++
	return exec(insertRequest, id, r.Listener, r.Protocol, cut(r.Method, nameMost), cut(r.Host, nameMost), cut(r.Path, 2*nameMost), r.Status, ms(r.Took), ms(r.FirstByte), r.BytesIn, r.BytesOut,
		r.Route, r.Class, r.Pool, r.Endpoint, r.Client, cut(r.ID, nameMost), r.RefusedBy, r.Reason, r.Attempts, r.Failed, r.Weight)
}

func (s *sums) write(exec func(string, ...any) error) error {
	for k, n := range s.events {
		if err := exec(addEvents, k.at, k.kind, n); err != nil {
			return err
		}
	}
	for k, v := range s.requests {
		if err := exec(addRequests, k.at, k.route, k.pool, k.class, k.result, k.reason, v.items, v.records, v.took, v.most); err != nil {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// cut bounds a text, and makes it UTF-8: clients send anything.
func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// props are properties as JSON; NULL: there are none.
func props(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	b, err := json.Marshal(m)
	if err != nil || len(b) > 4*textMost {
		return nil
	}
	return string(b)
}
