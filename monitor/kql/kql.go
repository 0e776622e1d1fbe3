// Package kql turns a part of the Kusto query language into SQL for SQLite: pure, with mistakes told by line and column.
package kql

import (
	"fmt"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Type is what a column or an expression holds.
type Type uint8

// The types. Moments and lengths of time are nanoseconds, moments since 1970; a Bool is 0 or 1.
const (
	Null Type = iota // nothing but null
	String
	Long
	Real
	Bool
	DateTime
	TimeSpan
	Dynamic // JSON
)

// String is the type as Kusto calls it.
func (t Type) String() string {
	return [...]string{"null", "string", "long", "real", "bool", "datetime", "timespan", "dynamic"}[t]
}

// Column is one column of a table or of a result.
type Column struct {
	Name string
	Type Type
	SQL  string // how it is read from Table.From; empty in results
}

// Table is what a name stands for.
type Table struct {
	Name    string
	From    string // what stands behind FROM
	Columns []Column
}

// Query is a question in SQL.
type Query struct {
	SQL     string
	Columns []Column // of the result, in order
	Render  string   // timechart, barchart, columnchart, piechart or table; empty: not said
}

// Compile turns src into SQL over tables. now is what now() says. The error is an *Error.
func Compile(src string, tables []Table, now time.Time) (Query, error) {
	list, bad := lex(src)
	if bad != nil {
		return Query{}, bad
	}
	c := &compiler{src: src, tokens: list, tables: tables, now: now, lets: map[string]value{}}
	q, err := c.question()
	if err != nil {
		return Query{}, err
	}
	return q, nil
}

// compiler walks through the tokens once, and writes SQL as it goes.
type compiler struct {
	src    string
	tokens []token
	at     int
	tables []Table
	now    time.Time
	lets   map[string]value
	depth  int
	stages int
	render string

	env    *frame // whose columns expressions may name; nil: none
	inAgg  bool   // within summarize, where aggregates may stand
	within int    // aggregates around the expression

	bounded bool // the pipeline reads a part of the time only
}

// frame is a table on its way through the operators.
type frame struct {
	sql  string // a whole SELECT
	cols []Column
}

// value is an expression in SQL.
type value struct {
	sql   string
	typ   Type
	name  string // that a column of it gets when nobody gives one; empty: none
	plain bool   // a column, by its own name
	num   *int64 // of a whole number, a length of time or a moment that is known now
	str   *string
}

func (c *compiler) peek() token { return c.tokens[c.at] }

func (c *compiler) take() token {
	t := c.tokens[c.at]
	if t.kind != end {
		c.at++
	}
	return t
}

// is takes the next token when it is the sign or word s.
func (c *compiler) is(s string) bool {
	t := c.peek()
	if (t.kind == sign || t.kind == word) && t.text == s {
		c.take()
		return true
	}
	return false
}

func (c *compiler) want(s string) error {
	if c.is(s) {
		return nil
	}
	return c.wrong(c.peek(), "want %q, found %s", s, c.peek().shown())
}

func (t token) shown() string {
	switch t.kind {
	case end:
		return "the end"
	case text:
		return "a text"
	}
	return fmt.Sprintf("%q", t.text)
}

func (c *compiler) wrong(t token, format string, args ...any) error {
	return mistake(c.src, t.at, fmt.Sprintf(format, args...))
}

// down guards against questions that would take the stack.
func (c *compiler) down() error {
	if c.depth++; c.depth > maxDepth {
		return c.wrong(c.peek(), "more than %d things stand within each other", maxDepth)
	}
	return nil
}

// question is lets, a table and its operators.
func (c *compiler) question() (Query, error) {
	for c.peek().kind == word && c.peek().text == "let" {
		if err := c.let(); err != nil {
			return Query{}, err
		}
	}
	f, err := c.pipeline()
	if err != nil {
		return Query{}, err
	}
	c.is(";")
	if t := c.peek(); t.kind != end {
		return Query{}, c.wrong(t, "want | or the end, found %s", t.shown())
	}
	cols := make([]Column, len(f.cols))
	for i, col := range f.cols {
		cols[i] = Column{Name: col.Name, Type: col.Type}
	}
	return Query{SQL: f.sql, Columns: cols, Render: c.render}, nil
}

// let gives a name to a value.
func (c *compiler) let() error {
	c.take()
	t := c.take()
	if t.kind != word {
		return c.wrong(t, "want a name behind let, found %s", t.shown())
	}
	if err := c.want("="); err != nil {
		return err
	}
	if c.table(c.peek()) != nil {
		return c.wrong(c.peek(), "let names values here, not tables")
	}
	v, err := c.expr()
	if err != nil {
		return err
	}
	c.lets[t.text] = v
	return c.want(";")
}

// table is what a token names; nil: no table.
func (c *compiler) table(t token) *Table {
	for i := range c.tables {
		if t.kind == word && c.tables[i].Name == t.text {
			return &c.tables[i]
		}
	}
	return nil
}

// pipeline is a table and the operators behind it.
func (c *compiler) pipeline() (f *frame, err error) {
	if err := c.down(); err != nil {
		return nil, err
	}
	defer func(was bool) { c.depth--; c.bounded = was }(c.bounded)
	c.bounded = false
	if f, err = c.source(); err != nil {
		return nil, err
	}
	for c.is("|") {
		if c.stages++; c.stages > maxStages {
			return nil, c.wrong(c.peek(), "more than %d operators stand behind each other", maxStages)
		}
		if f, err = c.operator(f); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// source is what a pipeline begins with.
func (c *compiler) source() (*frame, error) {
	t := c.take()
	switch {
	case t.kind == sign && t.text == "(":
		f, err := c.pipeline()
		if err != nil {
			return nil, err
		}
		return f, c.want(")")
	case t.kind == word && t.text == "print":
		return c.listed("print", &frame{}, false)
	case t.kind == word && t.text == "union":
		return c.union(nil)
	case t.kind != word:
		return nil, c.wrong(t, "want the name of a table, found %s", t.shown())
	}
	tab := c.table(t)
	if tab == nil {
		names := make([]string, len(c.tables))
		for i := range c.tables {
			names[i] = c.tables[i].Name
		}
		return nil, c.wrong(t, "there is no table %q%s; there are %s", t.text, near(t.text, names), strings.Join(names, ", "))
	}
	parts := make([]string, len(tab.Columns))
	for i, col := range tab.Columns {
		parts[i] = col.SQL + " AS " + quote(col.Name)
	}
	return &frame{sql: "SELECT " + strings.Join(parts, ", ") + " FROM " + tab.From, cols: tab.Columns}, nil
}

// quote writes a name for SQL.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal writes a text for SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// near proposes the name that was perhaps meant.
func near(name string, names []string) string {
	if best := site.Near(name, names); best != "" {
		return fmt.Sprintf(" (did you mean %q?)", best)
	}
	return ""
}
