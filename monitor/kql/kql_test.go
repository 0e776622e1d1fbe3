package kql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"
)

// twoTables are what testdata/answers.txt speaks of.
const twoTables = `CREATE TABLE t (at INTEGER, name TEXT, n INTEGER, r REAL, ok INTEGER, p TEXT);
INSERT INTO t VALUES (10000000000, 'a', 1, 1.5, 1, '{"k":"x","n":3}'), (80000000000, 'b', 2, 2.5, 0, NULL), (100000000000, 'a', 3, NULL, 1, NULL), (420000000000, 'c d', 4, 4.5, 0, NULL);
CREATE TABLE u (name TEXT, v INTEGER);
INSERT INTO u VALUES ('a', 10), ('z', 20);`

func tables() []Table {
	return []Table{
		{Name: "T", From: "t", Columns: []Column{{"t", DateTime, "at"}, {"Name", String, "name"}, {"N", Long, "n"}, {"R", Real, "r"}, {"Ok", Bool, "ok"}, {"P", Dynamic, "p"}}},
		{Name: "U", From: "u", Columns: []Column{{"Name", String, "name"}, {"V", Long, "v"}}},
	}
}

type connector struct{ d *sqlite.Driver }

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.d.Open(":memory:") }
func (c connector) Driver() driver.Driver                        { return c.d }

type percentile struct {
	Sketch
	share float64
}

func (p *percentile) Step(_ *sqlite.FunctionContext, a []driver.Value) error {
	p.share, _ = number64(a[1])
	if v, ok := number64(a[0]); ok {
		p.Add(v)
	}
	return nil
}
func (p *percentile) WindowInverse(*sqlite.FunctionContext, []driver.Value) error { return nil }
func (p *percentile) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	v, _ := p.Percentile(p.share)
	return v, nil
}
func (p *percentile) Final(*sqlite.FunctionContext) {}

func number64(v driver.Value) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// open makes a database with the two tables and our functions.
func open(t testing.TB) *sql.DB {
	d := new(sqlite.Driver)
	str := func(v driver.Value) string { return fmt.Sprint(v) }
	d.MustRegisterDeterministicScalarFunction("kql_has", 2, func(_ *sqlite.FunctionContext, a []driver.Value) (driver.Value, error) {
		return Has(str(a[0]), str(a[1])), nil
	})
	d.MustRegisterDeterministicScalarFunction("kql_matches", 2, func(_ *sqlite.FunctionContext, a []driver.Value) (driver.Value, error) {
		return regexp.MustCompile(str(a[1])).MatchString(str(a[0])), nil
	})
	d.MustRegisterDeterministicScalarFunction("kql_extract", 3, func(_ *sqlite.FunctionContext, a []driver.Value) (driver.Value, error) {
		group, _ := a[1].(int64)
		return Extract(regexp.MustCompile(str(a[0])), int(group), str(a[2])), nil
	})
	d.MustRegisterFunction("kql_percentile", &sqlite.FunctionImpl{NArgs: 2, MakeAggregate: func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return new(percentile), nil }})
	db := sql.OpenDB(connector{d})
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec(twoTables); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestAnswers asks what testdata/answers.txt asks.
func TestAnswers(t *testing.T) {
	body, err := os.ReadFile("testdata/answers.txt")
	if err != nil {
		t.Fatal(err)
	}
	db, asked := open(t), 0
	for _, part := range strings.Split(string(body), "\n\n") {
		question, ok := strings.CutPrefix(part, "? ")
		if !ok {
			continue
		}
		asked++
		lines := strings.Split(strings.TrimSpace(question), "\n")
		at := 1
		for at < len(lines) && strings.HasPrefix(lines[at], "  ") {
			at++
		}
		question, want := strings.Join(lines[:at], "\n"), strings.Join(lines[at:], "\n")
		if got := answer(t, db, question); got != want {
			t.Errorf("%s\nis\n%s\nwant\n%s", question, got, want)
		}
	}
	if asked < 50 {
		t.Errorf("only %d questions were found", asked)
	}
}

func answer(t *testing.T, db *sql.DB, question string) string {
	q, err := Compile(question, tables(), time.Unix(600, 0))
	if err != nil {
		return "! " + err.Error()
	}
	rows, err := db.Query(q.SQL)
	if err != nil {
		t.Errorf("%s: %v\n%s", question, err, q.SQL)
		return ""
	}
	defer rows.Close()
	var head []string
	for _, c := range q.Columns {
		head = append(head, c.Name+":"+c.Type.String())
	}
	lines := []string{strings.Join(head, " ")}
	for rows.Next() {
		cells := make([]any, len(q.Columns))
		into := make([]any, len(cells))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for i, c := range cells {
			line = append(line, cell(c, q.Columns[i].Type))
		}
		lines = append(lines, strings.Join(line, " "))
	}
	return strings.Join(lines, "\n")
}

func cell(v any, typ Type) string {
	switch n, _ := v.(int64); typ {
	case DateTime:
		return time.Unix(0, n).UTC().Format("15:04:05")
	case TimeSpan:
		return time.Duration(n).String()
	case Bool:
		return fmt.Sprint(n != 0)
	}
	if f, is := v.(float64); is {
		return fmt.Sprintf("%.3g", f)
	}
	return fmt.Sprint(v)
}

// TestSketch: percentiles are right to within 1 %, below zero too.
func TestSketch(t *testing.T) {
	var s Sketch
	if _, ok := s.Percentile(50); ok {
		t.Error("an empty sketch knows a percentile")
	}
	for i := -1000; i <= 1000; i++ {
		s.Add(float64(i))
	}
	for p, want := range map[float64]float64{0: -1000, 25: -500, 50: 0, 75: 500, 99: 980, 100: 1000} {
		if got, _ := s.Percentile(p); got < want-abs(want)/90-1 || got > want+abs(want)/90+1 {
			t.Errorf("percentile %v is %v, want about %v", p, got, want)
		}
	}
}

func abs(v float64) float64 { return max(v, -v) }

// TestDeep: what is nested without end is refused.
func TestDeep(t *testing.T) {
	for _, question := range []string{
		"T | where " + strings.Repeat("(", 10_000), "T | where " + strings.Repeat("-", 10_000) + "1", strings.Repeat("(", 10_000) + "T",
		"T | where " + strings.Repeat("not(", 10_000), "T" + strings.Repeat(" | take 1", 10_000), strings.Repeat("T", maxSource+1),
	} {
		if _, err := Compile(question, tables(), time.Unix(600, 0)); err == nil {
			t.Errorf("%.20s… is taken", question)
		}
	}
}

// FuzzCompile: nothing that people write breaks the compiler; mistakes have a place within the text; what is taken, SQLite takes too.
func FuzzCompile(f *testing.F) {
	body, err := os.ReadFile("testdata/answers.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range strings.Split(string(body), "\n\n") {
		if question, ok := strings.CutPrefix(part, "? "); ok {
			question, _, _ = strings.Cut(question, "\n")
			f.Add(question)
		}
	}
	db := open(f)
	f.Fuzz(func(t *testing.T, question string) {
		q, err := Compile(question, tables(), time.Unix(600, 0))
		var bad *Error
		switch {
		case err == nil:
			if st, err := db.Prepare("EXPLAIN " + q.SQL); err == nil {
				st.Close()
			} else if strings.Contains(err.Error(), "syntax") || strings.Contains(err.Error(), "no such") {
				t.Errorf("%q becomes %s: %v", question, q.SQL, err)
			}
		case !errors.As(err, &bad) || bad.Line < 1 || bad.Column < 1 || bad.Line > 1+strings.Count(question, "\n"):
			t.Errorf("%q: the mistake %v has no place in it", question, err)
		}
	})
}
