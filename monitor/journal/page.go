package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/monitor/kql"
)

// scanMost is how many events one page looks through for a text. What lies behind is a page of its own, so that no page takes long.
const scanMost = 40_000

// Filter says which events are asked for. Zero fields ask for all.
type Filter struct {
	Kind         string
	Text         string // that the text contains, whatever its case
	Since, Until time.Time
	Before       int64 // id of the last event of the page before
	Limit        int
}

// Found is an event that was kept.
type Found struct {
	Event
	ID int64
}

// Page is events, newest first.
type Page struct {
	Events []Found
	Next   int64 // Before of the next page; 0: this is the last. A page may be empty and have a next
}

// Events is one page of events.
func (s *Store) Events(ctx context.Context, f Filter) (p Page, err error) {
	db, err := s.readers()
	if err != nil {
		return p, err
	}
	inner, args := "SELECT id, kind, level, text, props FROM events WHERE id < ?", []any{before(f)}
	if !f.Since.IsZero() {
		inner, args = inner+" AND id >= ?", append(args, f.Since.UnixNano())
	}
	if f.Kind != "" {
		inner, args = inner+" AND kind = ?", append(args, f.Kind)
	}
	inner += fmt.Sprintf(" ORDER BY id DESC LIMIT %d", scanMost)
	outer := "SELECT * FROM (" + inner + ")"
	if f.Text != "" {
		outer, args = outer+" WHERE instr(lower(text), ?) > 0", append(args, strings.ToLower(f.Text))
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("%s LIMIT %d", outer, f.Limit+1), args...)
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for rows.Next() {
		var e Found
		var props sql.NullString
		if err := rows.Scan(&e.ID, &e.Kind, &e.Level, &e.Text, &props); err != nil {
			return p, err
		}
		e.At = time.Unix(0, e.ID)
		if props.Valid {
			_ = json.Unmarshal([]byte(props.String), &e.Properties)
		}
		p.Events = append(p.Events, e)
	}
	if err := rows.Err(); err != nil {
		return p, err
	}
	if len(p.Events) > f.Limit {
		p.Events = p.Events[:f.Limit]
		p.Next = p.Events[f.Limit-1].ID
		return p, nil
	}
	if f.Text == "" {
		return p, nil
	}
	var n int
	var last sql.NullInt64
	err = db.QueryRowContext(ctx, "SELECT count(*), min(id) FROM ("+inner+")", args[:len(args)-1]...).Scan(&n, &last)
	if n == scanMost {
		p.Next = last.Int64
	}
	return p, err
}

// before is the id that all events of a page lie before.
func before(f Filter) int64 {
	at := int64(1<<63 - 1)
	if !f.Until.IsZero() {
		at = f.Until.UnixNano()
	}
	if f.Before > 0 {
		at = min(at, f.Before)
	}
	return at
}

// KindCount is how many events there were of a kind.
type KindCount struct {
	Kind  string
	Count int64
}

// Kinds are the kinds of events since a moment, the most frequent first, from their summaries.
func (s *Store) Kinds(ctx context.Context, since time.Time) (out []KindCount, err error) {
	db, err := s.readers()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT kind, sum(items) FROM events_rollup WHERE at > ? GROUP BY kind ORDER BY 2 DESC, 1 LIMIT 100", since.UnixNano()-rollupStep)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var k KindCount
		if err := rows.Scan(&k.Kind, &k.Count); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, rows.Err()
}

// stored are the tables whose rows can be read one after the other, with where they lie.
var stored = map[string]string{"AppEvents": "events", "AppTraces": "traces", "AppRequests": "requests", "AppDependencies": "requests", "AppAvailabilityResults": "checks", "AppMetrics": "metrics"}

// Exported are the names of the tables that Rows reads.
func Exported() []string {
	var names []string
	for _, t := range Tables("") {
		if stored[t.Name] != "" {
			names = append(names, t.Name)
		}
	}
	return names
}

// Rows reads up to limit rows of a table that were kept after an id, oldest first, each as JSON with the columns in their order, and the
// id of the last one. It returns none when there are no newer ones.
func (s *Store) Rows(ctx context.Context, name string, after int64, limit int) (list []json.RawMessage, last int64, err error) {
	tables := Tables(s.deps.Site)
	i := slices.IndexFunc(tables, func(t kql.Table) bool { return t.Name == name })
	if i < 0 || stored[name] == "" {
		return nil, 0, &QuestionError{fmt.Errorf("%q is no table with rows of its own; there are %s", name, strings.Join(Exported(), ", "))}
	}
	db, err := s.readers()
	if err != nil {
		return nil, 0, err
	}
	parts := []string{"id"}
	for _, c := range tables[i].Columns {
		parts = append(parts, c.SQL)
	}
	rows, err := db.QueryContext(ctx, "SELECT "+strings.Join(parts, ", ")+" FROM (SELECT * FROM "+tables[i].From+") WHERE id > ? ORDER BY id LIMIT ?", after, limit)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	cells, into := make([]any, len(parts)), make([]any, len(parts))
	for i := range cells {
		into[i] = &cells[i]
	}
	last = after
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, 0, err
		}
		last, _ = cells[0].(int64)
		row, err := jsonRow(tables[i].Columns, cells[1:])
		if err != nil {
			return nil, 0, err
		}
		list = append(list, row)
	}
	return list, last, rows.Err()
}

// jsonRow is a row as a JSON object; what is NULL is left out.
func jsonRow(cols []kql.Column, cells []any) (json.RawMessage, error) {
	b := []byte{'{'}
	for i, c := range cols {
		typ := c.Type
		v := shown(cells[i], &typ)
		if v == nil {
			continue
		}
		if at, is := v.(time.Time); is {
			v = at.Format("2006-01-02T15:04:05.0000000Z")
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, c.Name...)
		b = append(append(b, '"', ':'), text...)
	}
	return append(b, '}'), nil
}

// Sent is the id of the last row that a sender of a name has sent.
func (s *Store) Sent(ctx context.Context, name string) (id int64, err error) {
	db, err := s.readers()
	if err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM sent WHERE name = ?", name).Scan(&id)
	return id, err
}

// NoteSent notes that a sender has sent all rows up to an id.
func (s *Store) NoteSent(ctx context.Context, name string, id int64) error {
	s.mu.Lock()
	e := s.current
	s.mu.Unlock()
	if e == nil {
		return ErrNotOpen
	}
	_, err := e.write.ExecContext(ctx, "INSERT INTO sent VALUES (?, ?) ON CONFLICT DO UPDATE SET id = excluded.id", name, id)
	return err
}
