package journal

import (
	"fmt"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Deleting goes in small steps, so that writing waits for none long.
const (
	trimEvery = 10 * time.Second
	trimRows  = 5000 // rows deleted in one transaction
	trimAt    = 0.9  // of the pages that the file may have: from here the oldest are deleted
	trimShare = 20   // of the rows of the largest table, one in so many at a time
)

// table is one that rows are deleted from.
type table struct {
	name, key string // key: what its rows are in order of
	age       string // column with the moment
	weight    int64  // bytes of a row, about
}

// kept are all tables, with what a row takes.
var kept = []table{
	{"requests", "id", "id", 260}, {"traces", "id", "id", 200}, {"events", "id", "id", 220}, {"checks", "id", "at", 220}, {"metrics", "id", "at", 120},
	{"requests_rollup", "at", "at", 110}, {"events_rollup", "at", "at", 50},
}

// keptFor is how long rows of a table are kept.
func keptFor(cfg *site.Events, name string) time.Duration {
	if name == "requests" {
		return min(cfg.Retention.Requests, cfg.Retention.Time)
	}
	return cfg.Retention.Time
}

// trim deletes what is too old, and the oldest when the file is nearly full. It is called often, and seldom does something.
func (e *session) trim() {
	now := e.s.deps.Now()
	if d := now.Sub(e.trimmed); d >= 0 && d < trimEvery && !e.tight() {
		return
	}
	e.trimmed = now
	cfg := e.s.cfg.Load()
	for _, t := range kept {
		bound := now.Add(-keptFor(cfg, t.name)).UnixNano()
		for e.delete(t, fmt.Sprintf("%s < %d", t.age, bound)) == trimRows {
		}
	}
	for i := 0; i < 2*trimShare && e.tight(); i++ {
		if !e.oldest() {
			break
		}
	}
}

// shrink makes room when nothing can be written any more.
func (e *session) shrink() {
	for i := 0; i < 3 && e.oldest(); i++ {
	}
}

// oldest deletes the oldest rows of the table that takes most. false: nothing was deleted.
func (e *session) oldest() bool {
	largest, most := table{}, int64(0)
	for _, t := range kept {
		if size := e.rows[t.name] * t.weight; size > most {
			largest, most = t, size
		}
	}
	if most == 0 {
		return false
	}
	n := e.rows[largest.name]/trimShare + 1
	var bound int64
	row := fmt.Sprintf("SELECT %s FROM %s ORDER BY %s LIMIT 1 OFFSET %d", largest.key, largest.name, largest.key, min(n, e.rows[largest.name]-1))
	if err := e.write.QueryRow(row).Scan(&bound); err != nil {
		return false
	}
	deleted := false
	for {
		n := e.delete(largest, fmt.Sprintf("%s <= %d", largest.key, bound))
		if deleted = deleted || n > 0; n < trimRows {
			return deleted
		}
	}
}

// delete deletes up to trimRows rows.
func (e *session) delete(t table, where string) int64 {
	id := "rowid"
	if t.key == "at" { // has none: a moment's rows go together, and are few
		id = "at"
	}
	res, err := e.write.Exec(fmt.Sprintf("DELETE FROM %s WHERE %s IN (SELECT %s FROM %s WHERE %s LIMIT %d)", t.name, id, id, t.name, where, trimRows))
	if err != nil {
		return 0
	}
	n, _ := res.RowsAffected()
	e.rows[t.name] = max(e.rows[t.name]-n, 0)
	e.s.counts.trimmed.Add(uint64(n))
	if id == "at" && n > 0 {
		return min(n, trimRows-1)
	}
	return n
}

// tight says that nearly all pages that the file may have are in use.
func (e *session) tight() bool {
	var pages, free, most int64
	for what, into := range map[string]*int64{"page_count": &pages, "freelist_count": &free, "max_page_count": &most} {
		if err := e.write.QueryRow("PRAGMA " + what).Scan(into); err != nil {
			return false
		}
	}
	if want := max((e.most-logBytes(e.most))/pageSize, 256); pages > want { // the bound was lowered
		_, _ = e.write.Exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", min(pages-want, 1000)))
		return float64(pages-free) >= trimAt*float64(want)
	}
	return float64(pages-free) >= trimAt*float64(most)
}
