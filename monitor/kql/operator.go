package kql

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxTake is how many rows take and top may ask for; results are cut much earlier.
const maxTake = 1_000_000

// operators are those that may stand behind a |.
var operators = []string{"where", "filter", "project", "project-away", "project-rename", "extend", "summarize", "top", "sort", "order", "take", "limit", "count", "distinct", "join", "union", "render"}

// operator is one step of a pipeline.
func (c *compiler) operator(f *frame) (*frame, error) {
	c.env = f
	t := c.take()
	if t.kind != word {
		return nil, c.wrong(t, "want an operator behind |, found %s", t.shown())
	}
	switch t.text {
	case "where", "filter":
		return c.where(f)
	case "project":
		return c.listed("project", f, false)
	case "extend":
		return c.listed("extend", f, true)
	case "project-away":
		return c.away(f)
	case "project-rename":
		return c.rename(f)
	case "summarize":
		return c.summarize(f)
	case "top":
		return c.top(f)
	case "sort", "order":
		order, err := c.order()
		if err != nil {
			return nil, err
		}
		return &frame{"SELECT * FROM (" + f.sql + ") ORDER BY " + order, f.cols}, nil
	case "take", "limit":
		n, err := c.rows()
		if err != nil {
			return nil, err
		}
		return &frame{"SELECT * FROM (" + f.sql + ") LIMIT " + n, f.cols}, nil
	case "count":
		return &frame{`SELECT COUNT(*) AS "Count" FROM (` + f.sql + ")", []Column{{Name: "Count", Type: Long}}}, nil
	case "distinct":
		return c.distinct(f)
	case "join":
		return c.join(f)
	case "union":
		return c.union(f)
	case "render":
		return f, c.chart()
	}
	return nil, c.wrong(t, "there is no operator %q%s; there are %s", t.text, near(t.text, operators), strings.Join(operators, ", "))
}

func (c *compiler) where(f *frame) (*frame, error) {
	at := c.peek()
	v, err := c.expr()
	if err != nil {
		return nil, err
	}
	if t := c.peek(); t.kind == sign && t.text == "=" {
		return nil, c.wrong(t, "write == to compare; = gives a name")
	}
	if v.typ != Bool && v.typ != Null {
		return nil, c.wrong(at, "where wants a condition, and this is a %s", v.typ)
	}
	return &frame{"SELECT * FROM (" + f.sql + ") WHERE " + v.sql, f.cols}, nil
}

// named is an expression with the name that its column gets.
func (c *compiler) named() (name string, v value, at token, err error) {
	at = c.peek()
	if at.kind == word && c.tokens[min(c.at+1, len(c.tokens)-1)].text == "=" && c.tokens[c.at+1].kind == sign {
		c.take()
		c.take()
		name = at.text
	}
	if v, err = c.expr(); err != nil {
		return "", v, at, err
	}
	if name == "" {
		name = v.name
	}
	return name, v, at, nil
}

// listed is project, extend and print: expressions with names.
func (c *compiler) listed(what string, f *frame, keep bool) (*frame, error) {
	c.env = f
	var parts []string
	out := &frame{}
	if keep {
		out.cols = slices.Clone(f.cols)
		for _, col := range f.cols {
			parts = append(parts, quote(col.Name))
		}
	}
	count := 0
	for {
		name, v, at, err := c.named()
		if err != nil {
			return nil, err
		}
		if count++; name == "" {
			name = free(out.cols, "Column"+strconv.Itoa(count))
		}
		part := v.sql + " AS " + quote(name)
		if i := index(out.cols, name); i >= 0 && keep {
			out.cols[i].Type, parts[i] = v.typ, part
		} else if i >= 0 {
			return nil, c.wrong(at, "there are two columns %q", name)
		} else {
			out.cols, parts = append(out.cols, Column{Name: name, Type: v.typ}), append(parts, part)
		}
		if !c.is(",") {
			break
		}
	}
	out.sql = "SELECT " + strings.Join(parts, ", ")
	if what != "print" {
		out.sql += " FROM (" + f.sql + ")"
	}
	return out, nil
}

func index(cols []Column, name string) int {
	return slices.IndexFunc(cols, func(c Column) bool { return c.Name == name })
}

// free is a name that no column has yet.
func free(cols []Column, name string) string {
	try := name
	for i := 1; index(cols, try) >= 0; i++ {
		try = name + strconv.Itoa(i)
	}
	return try
}

// column takes the name of a column.
func (c *compiler) column(f *frame) (int, error) {
	t := c.take()
	if t.kind != word {
		return 0, c.wrong(t, "want the name of a column, found %s", t.shown())
	}
	if i := index(f.cols, t.text); i >= 0 {
		return i, nil
	}
	return 0, c.unknown(t, f)
}

func (c *compiler) unknown(t token, f *frame) error {
	names := make([]string, len(f.cols))
	for i := range f.cols {
		names[i] = f.cols[i].Name
	}
	return c.wrong(t, "there is no column %q%s; there are %s", t.text, near(t.text, names), strings.Join(names, ", "))
}

// pick reads columns from f.
func pick(f *frame, cols []Column, parts []string) *frame {
	return &frame{"SELECT " + strings.Join(parts, ", ") + " FROM (" + f.sql + ")", cols}
}

func (c *compiler) away(f *frame) (*frame, error) {
	gone := map[int]bool{}
	at := c.peek()
	for {
		i, err := c.column(f)
		if err != nil {
			return nil, err
		}
		if gone[i] = true; !c.is(",") {
			break
		}
	}
	var cols []Column
	var parts []string
	for i, col := range f.cols {
		if !gone[i] {
			cols, parts = append(cols, col), append(parts, quote(col.Name))
		}
	}
	if len(cols) == 0 {
		return nil, c.wrong(at, "no column would be left")
	}
	return pick(f, cols, parts), nil
}

func (c *compiler) rename(f *frame) (*frame, error) {
	cols := slices.Clone(f.cols)
	for {
		t := c.take()
		if t.kind != word {
			return nil, c.wrong(t, "want a new name, found %s", t.shown())
		}
		if err := c.want("="); err != nil {
			return nil, err
		}
		i, err := c.column(f)
		if err != nil {
			return nil, err
		}
		if index(cols, t.text) >= 0 {
			return nil, c.wrong(t, "there is a column %q already", t.text)
		}
		if cols[i].Name = t.text; !c.is(",") {
			break
		}
	}
	parts := make([]string, len(cols))
	for i := range cols {
		parts[i] = quote(f.cols[i].Name) + " AS " + quote(cols[i].Name)
	}
	return pick(f, cols, parts), nil
}

// summarize is aggregates by groups.
func (c *compiler) summarize(f *frame) (*frame, error) {
	var by, aggs []Column
	var bySQL, aggSQL, keys []string
	add := func(cols *[]Column, parts *[]string, i int) (value, error) {
		name, v, at, err := c.named()
		if err != nil {
			return v, err
		}
		if name == "" {
			name = free(append(slices.Clone(by), aggs...), "Column"+strconv.Itoa(i))
		}
		if index(by, name) >= 0 || index(aggs, name) >= 0 {
			return v, c.wrong(at, "there are two columns %q; give one a name: NAME = …", name)
		}
		*cols, *parts = append(*cols, Column{Name: name, Type: v.typ}), append(*parts, v.sql+" AS "+quote(name))
		return v, nil
	}
	if t := c.peek(); t.kind != word || t.text != "by" {
		c.inAgg = true
		for i := 1; ; i++ {
			if _, err := add(&aggs, &aggSQL, i); err != nil {
				return nil, err
			}
			if !c.is(",") {
				break
			}
		}
		c.inAgg = false
	}
	if c.is("by") {
		for i := 1; ; i++ {
			v, err := add(&by, &bySQL, i)
			if err != nil {
				return nil, err
			}
			if keys = append(keys, v.sql); !c.is(",") {
				break
			}
		}
	}
	cols, parts := append(by, aggs...), append(bySQL, aggSQL...)
	if len(cols) == 0 {
		return nil, c.wrong(c.peek(), "summarize wants aggregates such as count(), or by and columns")
	}
	out := pick(f, cols, parts)
	if len(keys) > 0 {
		// A constant would be taken for the number of a column. A plus keeps an index from being used for the order.
		for i := range keys {
			if keys[i] = "(" + keys[i] + ")"; c.bounded {
				keys[i] = "+" + keys[i]
			}
		}
		out.sql += " GROUP BY " + strings.Join(keys, ", ")
	}
	return out, nil
}

// rows is a number of rows.
func (c *compiler) rows() (string, error) {
	t := c.take()
	if t.kind != number || t.num > maxTake {
		return "", c.wrong(t, "want a number of rows up to %d, found %s", maxTake, t.shown())
	}
	return t.text, nil
}

// order is what sort and top go by. Without a word it is descending, as in Kusto.
func (c *compiler) order() (string, error) {
	if err := c.want("by"); err != nil {
		return "", err
	}
	var parts []string
	for {
		v, err := c.expr()
		if err != nil {
			return "", err
		}
		part := "(" + v.sql + ") DESC"
		if c.is("asc") {
			part = "(" + v.sql + ") ASC"
		} else {
			c.is("desc")
		}
		if c.is("nulls") {
			t := c.take()
			if t.text != "first" && t.text != "last" {
				return "", c.wrong(t, "want first or last, found %s", t.shown())
			}
			part += " NULLS " + strings.ToUpper(t.text)
		}
		if parts = append(parts, part); !c.is(",") {
			return strings.Join(parts, ", "), nil
		}
	}
}

func (c *compiler) top(f *frame) (*frame, error) {
	n, err := c.rows()
	if err != nil {
		return nil, err
	}
	order, err := c.order()
	if err != nil {
		return nil, err
	}
	return &frame{"SELECT * FROM (" + f.sql + ") ORDER BY " + order + " LIMIT " + n, f.cols}, nil
}

func (c *compiler) distinct(f *frame) (*frame, error) {
	if c.is("*") {
		return &frame{"SELECT DISTINCT * FROM (" + f.sql + ")", f.cols}, nil
	}
	out, err := c.listed("distinct", f, false)
	if err != nil {
		return nil, err
	}
	out.sql = "SELECT DISTINCT" + strings.TrimPrefix(out.sql, "SELECT")
	return out, nil
}

// joinKinds are the kinds of joins, with what SQL calls them.
var joinKinds = map[string]string{"inner": "JOIN", "innerunique": "JOIN", "leftouter": "LEFT JOIN", "leftsemi": "", "leftanti": ""}

// join is a table beside another.
func (c *compiler) join(left *frame) (*frame, error) {
	kind := "innerunique"
	if c.is("kind") {
		if err := c.want("="); err != nil {
			return nil, err
		}
		t := c.take()
		if _, known := joinKinds[t.text]; !known {
			return nil, c.wrong(t, "there is no join of kind %s; there are inner, innerunique, leftouter, leftsemi and leftanti", t.shown())
		}
		kind = t.text
	}
	var right *frame
	var err error
	if t := c.peek(); t.kind == word && c.table(t) != nil {
		right, err = c.source()
	} else if err = c.want("("); err == nil {
		if right, err = c.pipeline(); err == nil {
			err = c.want(")")
		}
	}
	if err != nil {
		return nil, err
	}
	if err := c.want("on"); err != nil {
		return nil, err
	}
	pairs, err := c.pairs(left, right)
	if err != nil {
		return nil, err
	}
	return joined(kind, left, right, pairs), nil
}

// joined writes the join of two tables.
func joined(kind string, left, right *frame, pairs [][2]int) *frame {
	var on, keys []string
	for _, p := range pairs {
		l := quote(left.cols[p[0]].Name)
		on = append(on, "l."+l+" = r."+quote(right.cols[p[1]].Name))
		keys = append(keys, l)
	}
	if kind == "leftsemi" || kind == "leftanti" {
		not := map[string]string{"leftsemi": "", "leftanti": "NOT "}[kind]
		return &frame{"SELECT * FROM (" + left.sql + ") AS l WHERE " + not + "EXISTS (SELECT 1 FROM (" + right.sql + ") AS r WHERE " + strings.Join(on, " AND ") + ")", left.cols}
	}
	out := &frame{cols: slices.Clone(left.cols)}
	var parts []string
	for _, col := range left.cols {
		parts = append(parts, "l."+quote(col.Name)+" AS "+quote(col.Name))
	}
	for _, col := range right.cols {
		name := free(out.cols, col.Name)
		out.cols, parts = append(out.cols, Column{Name: name, Type: col.Type}), append(parts, "r."+quote(col.Name)+" AS "+quote(name))
	}
	from := "(" + left.sql + ")"
	if kind == "innerunique" {
		from = "(SELECT * FROM " + from + " GROUP BY " + strings.Join(keys, ", ") + ")"
	}
	out.sql = "SELECT " + strings.Join(parts, ", ") + " FROM " + from + " AS l " + joinKinds[kind] + " (" + right.sql + ") AS r ON " + strings.Join(on, " AND ")
	return out
}

// pairs are the columns that a join compares: a name that both have, or $left.a == $right.b.
func (c *compiler) pairs(left, right *frame) (out [][2]int, err error) {
	for {
		at := c.peek()
		var p [2]int
		if c.is("$") {
			for i, side := range []struct {
				name string
				f    *frame
			}{{"left", left}, {"right", right}} {
				if i == 1 && !c.is("$") {
					return nil, c.wrong(c.peek(), "want $right, found %s", c.peek().shown())
				}
				for _, s := range []string{side.name, "."} {
					if err := c.want(s); err != nil {
						return nil, err
					}
				}
				if p[i], err = c.column(side.f); err != nil {
					return nil, err
				}
				if i == 0 {
					if err := c.want("=="); err != nil {
						return nil, err
					}
				}
			}
		} else {
			if p[0], err = c.column(left); err != nil {
				return nil, err
			}
			if p[1] = index(right.cols, left.cols[p[0]].Name); p[1] < 0 {
				return nil, c.unknown(at, right)
			}
		}
		if l, r := left.cols[p[0]].Type, right.cols[p[1]].Type; !alike(l, r) {
			return nil, c.wrong(at, "a %s and a %s are never equal", l, r)
		}
		if out = append(out, p); !c.is(",") && !c.is("and") {
			return out, nil
		}
	}
}

// union is tables below each other: all columns that any of them has.
func (c *compiler) union(first *frame) (*frame, error) {
	var all []*frame
	if first != nil {
		all = append(all, first)
	}
	for {
		f, err := c.source()
		if err != nil {
			return nil, err
		}
		if all = append(all, f); !c.is(",") {
			break
		}
	}
	out := &frame{}
	for _, f := range all {
		for _, col := range f.cols {
			if index(out.cols, col.Name) < 0 {
				out.cols = append(out.cols, Column{Name: col.Name, Type: col.Type})
			}
		}
	}
	var parts []string
	for _, f := range all {
		var list []string
		for _, col := range out.cols {
			expr := "NULL"
			if index(f.cols, col.Name) >= 0 {
				expr = quote(col.Name)
			}
			list = append(list, expr+" AS "+quote(col.Name))
		}
		parts = append(parts, "SELECT "+strings.Join(list, ", ")+" FROM ("+f.sql+")")
	}
	out.sql = "SELECT * FROM (" + strings.Join(parts, " UNION ALL ") + ")"
	return out, nil
}

// charts are what a result can be drawn as.
var charts = []string{"timechart", "linechart", "areachart", "barchart", "columnchart", "piechart", "table"}

// chart is render: it is said, not computed.
func (c *compiler) chart() error {
	t := c.take()
	if !slices.Contains(charts, t.text) {
		return c.wrong(t, "there is no chart %s%s; there are %s", t.shown(), near(t.text, charts), strings.Join(charts, ", "))
	}
	c.render = t.text
	if c.is("with") { // titles and axes: taken, so that questions paste in, and left aside
		if err := c.want("("); err != nil {
			return err
		}
		for !c.is(")") {
			if t := c.take(); t.kind == end {
				return c.wrong(t, "the brackets behind with are not closed")
			}
		}
	}
	if t := c.peek(); t.kind == sign && t.text == "|" {
		return c.wrong(t, "nothing can stand behind render")
	}
	return nil
}

// alike says whether values of two types can be compared.
func alike(a, b Type) bool {
	numeric := func(t Type) bool { return t == Long || t == Real }
	return a == b || a == Null || b == Null || a == Dynamic || b == Dynamic || numeric(a) && numeric(b)
}

func argumentsText(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprint(n, " arguments")
}
