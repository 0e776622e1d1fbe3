package kql

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// expr is an expression: or binds least.
func (c *compiler) expr() (value, error) {
	if err := c.down(); err != nil {
		return value{}, err
	}
	defer func() { c.depth-- }()
	return c.logic("or", func() (value, error) { return c.logic("and", c.compare) })
}

// logic is operands between or, or between and.
func (c *compiler) logic(word string, operand func() (value, error)) (value, error) {
	at := c.peek()
	v, err := operand()
	if err != nil {
		return v, err
	}
	for c.peek().kind != text && c.is(word) {
		next := c.peek()
		r, err := operand()
		if err != nil {
			return v, err
		}
		for _, side := range []struct {
			at token
			v  value
		}{{at, v}, {next, r}} {
			if side.v.typ != Bool && side.v.typ != Null {
				return v, c.wrong(side.at, "%s wants conditions, and this is a %s", word, side.v.typ)
			}
		}
		v = value{sql: "(" + v.sql + " " + strings.ToUpper(word) + " " + r.sql + ")", typ: Bool}
	}
	return v, nil
}

// matchers are the operators for texts; %1 and %2 stand for the sides.
var matchers = map[string]string{
	"=~": "lower(%1) = lower(%2)", "!~": "lower(%1) <> lower(%2)",
	"contains": "instr(lower(%1), lower(%2)) > 0", "!contains": "instr(lower(%1), lower(%2)) = 0",
	"contains_cs": "instr(%1, %2) > 0", "!contains_cs": "instr(%1, %2) = 0",
	"startswith": "lower(substr(%1, 1, length(%2))) = lower(%2)", "!startswith": "lower(substr(%1, 1, length(%2))) <> lower(%2)",
	"startswith_cs": "substr(%1, 1, length(%2)) = %2",
	"endswith":      "(length(%2) = 0 OR lower(substr(%1, -length(%2))) = lower(%2))", "!endswith": "(length(%2) > 0 AND lower(substr(%1, -length(%2))) <> lower(%2))",
	"has": "kql_has(%1, %2)", "!has": "NOT kql_has(%1, %2)",
}

// compare is a sum, or two with an operator between.
func (c *compiler) compare() (value, error) {
	at := c.peek()
	l, err := c.sum()
	if err != nil {
		return l, err
	}
	t := c.peek()
	switch {
	case t.kind != sign && t.kind != word:
		return l, nil
	case t.text == "==" || t.text == "!=" || t.text == "<" || t.text == "<=" || t.text == ">" || t.text == ">=":
		c.take()
		r, err := c.sum()
		if err != nil {
			return l, err
		}
		return c.compared(t, l, r)
	case matchers[t.text] != "":
		c.take()
		r, err := c.sum()
		if err != nil {
			return l, err
		}
		if !textual(l) || !textual(r) {
			return l, c.wrong(at, "%s compares texts; write tostring(…) around what is none", t.text)
		}
		return value{sql: strings.NewReplacer("%1", l.sql, "%2", r.sql).Replace("(" + matchers[t.text] + ")"), typ: Bool}, nil
	case t.text == "in" || t.text == "!in":
		c.take()
		return c.among(t, l)
	case t.text == "between":
		c.take()
		return c.between(t, l)
	case t.text == "matches":
		c.take()
		if err := c.want("regex"); err != nil {
			return l, err
		}
		at := c.peek()
		r, err := c.sum()
		if err != nil {
			return l, err
		}
		if err := c.pattern(at, r); err != nil {
			return l, err
		}
		return value{sql: "kql_matches(" + l.sql + ", " + r.sql + ")", typ: Bool}, nil
	}
	return l, nil
}

// pattern checks a regular expression, which must be known now.
func (c *compiler) pattern(at token, v value) error {
	if v.str == nil {
		return c.wrong(at, "want a regular expression in quotes")
	}
	if _, err := regexp.Compile(*v.str); err != nil {
		return c.wrong(at, "%v", err)
	}
	return nil
}

func textual(v value) bool { return v.typ == String || v.typ == Dynamic || v.typ == Null }

// compared is two values with == and the like between.
func (c *compiler) compared(t token, l, r value) (value, error) {
	if !alike(l.typ, r.typ) {
		hint := ""
		switch {
		case l.typ == String && r.typ == Long:
			hint = "; write the number in quotes, or toint(…) around the text"
		case l.typ == DateTime && r.typ == String:
			hint = "; write datetime(2026-01-31) for a moment, or ago(1h)"
		}
		return l, c.wrong(t, "a %s cannot be compared with a %s%s", l.typ, r.typ, hint)
	}
	c.bound(l, r)
	op := map[string]string{"==": "=", "!=": "<>"}[t.text]
	if op == "" {
		op = t.text
	}
	return value{sql: "(" + l.sql + " " + op + " " + r.sql + ")", typ: Bool}, nil
}

// bound notes that a column of moments is compared with one that is known: then few rows are left, and sorting them for groups is quicker than
// walking through a whole index in the order of the groups, which SQLite would prefer.
func (c *compiler) bound(l, r value) {
	c.bounded = c.bounded || l.typ == DateTime && (l.plain && r.num != nil || r.plain && l.num != nil)
}

// among is the list behind in.
func (c *compiler) among(t token, l value) (value, error) {
	if err := c.want("("); err != nil {
		return l, err
	}
	var list []string
	for {
		at := c.peek()
		r, err := c.expr()
		if err != nil {
			return l, err
		}
		if !alike(l.typ, r.typ) {
			return l, c.wrong(at, "a %s is never among a %s", l.typ, r.typ)
		}
		if list = append(list, r.sql); !c.is(",") {
			break
		}
	}
	not := map[bool]string{true: " NOT"}[t.text == "!in"]
	return value{sql: "(" + l.sql + not + " IN (" + strings.Join(list, ", ") + "))", typ: Bool}, c.want(")")
}

func (c *compiler) between(t token, l value) (value, error) {
	if err := c.want("("); err != nil {
		return l, err
	}
	low, err := c.sum()
	if err != nil {
		return l, err
	}
	if err := c.want(".."); err != nil {
		return l, err
	}
	high, err := c.sum()
	if err != nil {
		return l, err
	}
	if l.typ == DateTime && high.typ == TimeSpan { // so long after the first
		high = value{sql: "(" + low.sql + " + " + high.sql + ")", typ: DateTime}
	}
	for _, v := range []value{low, high} {
		if !alike(l.typ, v.typ) {
			return l, c.wrong(t, "a %s cannot be compared with a %s", l.typ, v.typ)
		}
	}
	c.bound(l, low)
	return value{sql: "(" + l.sql + " BETWEEN " + low.sql + " AND " + high.sql + ")", typ: Bool}, c.want(")")
}

func (c *compiler) sum() (value, error) {
	return c.arithmetic([]string{"+", "-"}, func() (value, error) {
		return c.arithmetic([]string{"*", "/", "%"}, c.unary)
	})
}

func (c *compiler) arithmetic(ops []string, operand func() (value, error)) (value, error) {
	v, err := operand()
	if err != nil {
		return v, err
	}
	for t := c.peek(); t.kind == sign && slices.Contains(ops, t.text); t = c.peek() {
		c.take()
		r, err := operand()
		if err != nil {
			return v, err
		}
		typ, ok := result(t.text, v.typ, r.typ)
		if !ok {
			return v, c.wrong(t, "%s cannot stand between a %s and a %s", t.text, v.typ, r.typ)
		}
		left := v.sql
		switch {
		case t.text == "/" && typ == Real:
			left = "CAST(" + left + " AS REAL)"
		case t.text != "%" && typ == TimeSpan && (v.typ == Real || r.typ == Real):
			v = value{sql: "CAST(" + left + " " + t.text + " " + r.sql + " AS INTEGER)", typ: typ}
			continue
		}
		v = value{sql: "(" + left + " " + t.text + " " + r.sql + ")", typ: typ}
	}
	return v, nil
}

// result is the type of a calculation.
func result(op string, l, r Type) (Type, bool) {
	if l == Dynamic { // what is in JSON is as it comes
		l = Real
	}
	if r == Dynamic {
		r = Real
	}
	switch {
	case l == Null || r == Null:
		return max(l, r), true
	case l == DateTime && r == DateTime && op == "-":
		return TimeSpan, true
	case l == DateTime && r == TimeSpan && (op == "-" || op == "+"):
		return DateTime, true
	case l == TimeSpan && r == DateTime && op == "+":
		return DateTime, true
	case l == TimeSpan && r == TimeSpan:
		return map[string]Type{"+": TimeSpan, "-": TimeSpan, "/": Real, "%": TimeSpan}[op], op != "*"
	case l == TimeSpan && (r == Long || r == Real):
		return TimeSpan, op == "*" || op == "/"
	case (l == Long || l == Real) && r == TimeSpan:
		return TimeSpan, op == "*"
	case l == Long && r == Long:
		return Long, true
	case (l == Long || l == Real) && (r == Long || r == Real):
		return Real, op != "%"
	}
	return Null, false
}

func (c *compiler) unary() (value, error) {
	if t := c.peek(); t.kind == sign && t.text == "-" {
		c.take()
		if err := c.down(); err != nil {
			return value{}, err
		}
		defer func() { c.depth-- }()
		v, err := c.unary()
		if err != nil {
			return v, err
		}
		if v.typ != Long && v.typ != Real && v.typ != TimeSpan && v.typ != Dynamic {
			return v, c.wrong(t, "a %s has no negative", v.typ)
		}
		if v.num != nil {
			n := -*v.num
			v.num = &n
		}
		return value{sql: "(- " + v.sql + ")", typ: v.typ, num: v.num}, nil
	}
	return c.member()
}

// member is a value, and what is read out of it when it is JSON: Properties.pool, Properties["pool"].
func (c *compiler) member() (value, error) {
	v, err := c.primary()
	if err != nil {
		return v, err
	}
	for {
		t := c.peek()
		var key string
		switch {
		case t.kind == sign && t.text == ".":
			c.take()
			k := c.take()
			if k.kind != word {
				return v, c.wrong(k, "want a name behind the point, found %s", k.shown())
			}
			key = "." + strconv.Quote(k.text)
		case t.kind == sign && t.text == "[":
			c.take()
			k := c.take()
			switch {
			case k.kind == number:
				key = "[" + k.text + "]"
			case k.kind == text && !strings.ContainsAny(k.text, "\"\\"):
				key = `."` + k.text + `"`
			default:
				return v, c.wrong(k, "want a name in quotes or a number, found %s", k.shown())
			}
			if err := c.want("]"); err != nil {
				return v, err
			}
		default:
			return v, nil
		}
		if v.typ != Dynamic {
			return v, c.wrong(t, "only a dynamic has members, and this is a %s", v.typ)
		}
		name := strings.Trim(key, `.[]"`)
		v = value{sql: "json_extract(" + v.sql + ", " + literal("$"+key) + ")", typ: Dynamic, name: name}
	}
}

// primary is a literal, a name, a call, or something in brackets.
func (c *compiler) primary() (value, error) {
	t := c.take()
	switch t.kind {
	case number:
		return value{sql: strconv.FormatInt(t.num, 10), typ: Long, num: &t.num}, nil
	case real:
		return value{sql: strconv.FormatFloat(t.flt, 'e', -1, 64), typ: Real}, nil
	case span:
		return value{sql: strconv.FormatInt(t.num, 10), typ: TimeSpan, num: &t.num}, nil
	case text:
		return value{sql: literal(t.text), typ: String, str: &t.text}, nil
	case sign:
		if t.text == "(" {
			v, err := c.expr()
			if err != nil {
				return v, err
			}
			v.name, v.plain = "", false
			return v, c.want(")")
		}
	case word:
		return c.standsFor(t)
	}
	return value{}, c.wrong(t, "want a value, found %s", t.shown())
}

// standsFor is what a word stands for.
func (c *compiler) standsFor(t token) (value, error) {
	next := c.peek()
	called := next.kind == sign && next.text == "("
	switch {
	case called && (t.text == "datetime" || t.text == "timespan"):
		return c.moment(t)
	case called:
		c.take()
		return c.call(t)
	case t.text == "true" || t.text == "false":
		return value{sql: map[string]string{"true": "1", "false": "0"}[t.text], typ: Bool}, nil
	case t.text == "null":
		return value{sql: "NULL"}, nil
	}
	if c.env != nil {
		if i := index(c.env.cols, t.text); i >= 0 {
			if c.inAgg && c.within == 0 {
				return value{}, c.wrong(t, "%s has many values in a group; write it behind by, or in an aggregate such as max(%s)", t.text, t.text)
			}
			return value{sql: quote(t.text), typ: c.env.cols[i].Type, name: t.text, plain: true}, nil
		}
	}
	if v, known := c.lets[t.text]; known {
		return v, nil
	}
	if c.env == nil {
		return value{}, c.wrong(t, "%q is not known here", t.text)
	}
	return value{}, c.unknown(t, c.env)
}
