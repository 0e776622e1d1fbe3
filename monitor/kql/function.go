package kql

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// function is one that stands for a piece of SQL, in which %1, %2 and %3 are the arguments.
type function struct {
	sql  string
	typ  Type   // of the result; Null: that of the first argument
	args []Type // Null takes all
}

// functions by name. What needs more than a text stands in call.
var functions = map[string]function{
	"not":              {"(NOT %1)", Bool, []Type{Bool}},
	"isempty":          {"(%1 IS NULL OR %1 = '')", Bool, []Type{Null}},
	"isnotempty":       {"(%1 IS NOT NULL AND %1 <> '')", Bool, []Type{Null}},
	"isnull":           {"(%1 IS NULL)", Bool, []Type{Null}},
	"isnotnull":        {"(%1 IS NOT NULL)", Bool, []Type{Null}},
	"tolower":          {"lower(%1)", String, []Type{String}},
	"toupper":          {"upper(%1)", String, []Type{String}},
	"strlen":           {"length(%1)", Long, []Type{String}},
	"trim_space":       {"trim(%1)", String, []Type{String}},
	"replace_string":   {"replace(%1, %2, %3)", String, []Type{String, String, String}},
	"indexof":          {"(instr(%1, %2) - 1)", Long, []Type{String, String}},
	"toint":            {"CAST(%1 AS INTEGER)", Long, []Type{Null}},
	"tolong":           {"CAST(%1 AS INTEGER)", Long, []Type{Null}},
	"toreal":           {"CAST(%1 AS REAL)", Real, []Type{Null}},
	"todouble":         {"CAST(%1 AS REAL)", Real, []Type{Null}},
	"tobool":           {"(CASE WHEN lower(%1) IN ('true', '1') THEN 1 WHEN lower(%1) IN ('false', '0') THEN 0 END)", Bool, []Type{Null}},
	"todatetime":       {"CAST(round((julianday(%1) - 2440587.5) * 86400000) AS INTEGER) * 1000000", DateTime, []Type{String}},
	"parse_json":       {"(CASE WHEN json_valid(%1) THEN %1 END)", Dynamic, []Type{String}},
	"abs":              {"abs(%1)", Null, []Type{Real}},
	"sqrt":             {"sqrt(%1)", Real, []Type{Real}},
	"log10":            {"log10(%1)", Real, []Type{Real}},
	"pow":              {"pow(%1, %2)", Real, []Type{Real, Real}},
	"floor":            {"floor(%1)", Real, []Type{Real}},
	"ceiling":          {"ceil(%1)", Real, []Type{Real}},
	"startofday":       {"(%1 - %1 % 86400000000000)", DateTime, []Type{DateTime}},
	"hourofday":        {"(%1 / 3600000000000 % 24)", Long, []Type{DateTime}},
	"unixtime_seconds": {"(%1 / 1000000000)", Long, []Type{DateTime}},
	"array_length":     {"json_array_length(%1)", Long, []Type{Dynamic}},
	"min_of":           {"min(%1, %2)", Null, []Type{Null, Null}},
	"max_of":           {"max(%1, %2)", Null, []Type{Null, Null}},
}

// aggregates by name; %1 and %2 are the arguments.
var aggregates = map[string]function{
	"count":      {"COUNT(*)", Long, nil},
	"countif":    {"COUNT(CASE WHEN %1 THEN 1 END)", Long, []Type{Bool}},
	"sum":        {"SUM(%1)", Null, []Type{Real}},
	"sumif":      {"SUM(CASE WHEN %2 THEN %1 ELSE 0 END)", Null, []Type{Real, Bool}},
	"avg":        {"AVG(%1)", Real, []Type{Real}},
	"avgif":      {"AVG(CASE WHEN %2 THEN %1 END)", Real, []Type{Real, Bool}},
	"min":        {"MIN(%1)", Null, []Type{Null}},
	"max":        {"MAX(%1)", Null, []Type{Null}},
	"dcount":     {"COUNT(DISTINCT %1)", Long, []Type{Null}},
	"take_any":   {"MIN(%1)", Null, []Type{Null}},
	"any":        {"MIN(%1)", Null, []Type{Null}},
	"make_set":   {"json_group_array(DISTINCT %1)", Dynamic, []Type{Null}},
	"percentile": {"kql_percentile(%1, %2)", Real, []Type{Real, Real}},
}

// special are the functions that call knows.
var special = []string{"ago", "now", "bin", "iff", "iif", "case", "strcat", "coalesce", "round", "substring", "tostring", "extract", "datetime", "timespan"}

// call is a function whose opening bracket was taken.
func (c *compiler) call(t token) (v value, err error) {
	if f, is := aggregates[t.text]; is && c.inAgg {
		return c.aggregate(t, f)
	}
	args, places, err := c.arguments()
	if err != nil {
		return v, err
	}
	if slices.Contains(special, t.text) {
		return c.specially(t, args, places)
	}
	f, known := functions[t.text]
	if known {
		return c.apply(t, f, args, places)
	}
	if _, is := aggregates[t.text]; is {
		return v, c.wrong(t, "%s is an aggregate and stands behind summarize only", t.text)
	}
	names := slices.Concat(slices.Collect(maps.Keys(functions)), slices.Collect(maps.Keys(aggregates)), special)
	slices.Sort(names)
	return v, c.wrong(t, "there is no function %q%s", t.text, near(t.text, names))
}

// arguments are expressions up to the closing bracket.
func (c *compiler) arguments() (args []value, places []token, err error) {
	for !c.is(")") {
		if len(args) > 0 {
			if err := c.want(","); err != nil {
				return nil, nil, err
			}
		}
		at := c.peek()
		v, err := c.expr()
		if err != nil {
			return nil, nil, err
		}
		args, places = append(args, v), append(places, at)
	}
	return args, places, nil
}

// aggregate is one of summarize.
func (c *compiler) aggregate(t token, f function) (value, error) {
	if c.within++; c.within > 1 {
		return value{}, c.wrong(t, "an aggregate cannot stand within another")
	}
	args, places, err := c.arguments()
	c.within--
	if err != nil {
		return value{}, err
	}
	if t.text == "percentile" && len(args) == 2 && args[1].typ != Long && args[1].typ != Real {
		return value{}, c.wrong(places[1], "want a share in percent, such as 95")
	}
	v, err := c.apply(t, f, args, places)
	if err != nil {
		return v, err
	}
	v.name = t.text + "_"
	if len(args) > 0 && args[0].plain && t.text != "countif" {
		v.name += args[0].name
	}
	if t.text == "percentile" && args[1].num != nil {
		v.name += "_" + strconv.FormatInt(*args[1].num, 10)
	}
	return v, nil
}

// apply puts arguments into a function.
func (c *compiler) apply(t token, f function, args []value, places []token) (value, error) {
	if len(args) != len(f.args) {
		return value{}, c.wrong(t, "%s wants %s, and here are %d", t.text, argumentsText(len(f.args)), len(args))
	}
	var put []string
	for i, a := range args {
		want, ok := f.args[i], true
		switch want {
		case String:
			ok = textual(a)
		case Real: // lengths of time are numbers too
			ok = a.typ == Long || a.typ == Real || a.typ == Dynamic || a.typ == TimeSpan || a.typ == Null
		case Bool, DateTime, Dynamic:
			ok = a.typ == want || a.typ == Null
		}
		if !ok {
			return value{}, c.wrong(places[i], "%s wants a %s here, and this is a %s", t.text, want, a.typ)
		}
		put = append(put, "%"+strconv.Itoa(i+1), a.sql)
	}
	typ := f.typ
	if typ == Null && len(args) > 0 {
		typ = args[0].typ
	}
	if typ == Real && len(args) > 0 && args[0].typ == TimeSpan { // the mean of lengths is one
		return value{sql: "CAST(" + strings.NewReplacer(put...).Replace(f.sql) + " AS INTEGER)", typ: TimeSpan}, nil
	}
	return value{sql: strings.NewReplacer(put...).Replace(f.sql), typ: typ}, nil
}

// specially are the functions that look at their arguments.
func (c *compiler) specially(t token, args []value, places []token) (v value, err error) {
	counts := map[string][2]int{"ago": {1, 1}, "now": {0, 1}, "bin": {2, 2}, "iff": {3, 3}, "iif": {3, 3}, "case": {3, 41}, "strcat": {1, 32}, "coalesce": {1, 32},
		"round": {1, 2}, "substring": {2, 3}, "tostring": {1, 1}, "extract": {3, 3}}
	if n := counts[t.text]; len(args) < n[0] || len(args) > n[1] {
		return v, c.wrong(t, "%s wants %s, and here are %d", t.text, argumentsText(n[0]), len(args))
	}
	all := make([]string, len(args))
	for i, a := range args {
		all[i] = a.sql
	}
	switch t.text {
	case "ago", "now":
		return c.relative(t, args, places)
	case "bin":
		return c.bin(args, places)
	case "iff", "iif", "case":
		return c.choice(t, args, places)
	case "strcat":
		for i, a := range args {
			all[i] = shownSQL(a)
		}
		return value{sql: "(" + strings.Join(all, " || ") + ")", typ: String}, nil
	case "coalesce":
		if len(all) == 1 {
			return args[0], nil
		}
		typ := Null
		for i := 0; i < len(args) && typ == Null; i++ {
			typ = args[i].typ
		}
		return value{sql: "coalesce(" + strings.Join(all, ", ") + ")", typ: typ}, nil
	case "round":
		return value{sql: "round(" + strings.Join(all, ", ") + ")", typ: Real}, nil
	case "substring":
		all[1] = "(" + all[1] + ") + 1"
		return value{sql: "substr(" + strings.Join(all, ", ") + ")", typ: String}, nil
	case "tostring":
		return value{sql: shownSQL(args[0]), typ: String, name: args[0].name}, nil
	default: // extract
		if err := c.pattern(places[0], args[0]); err != nil {
			return v, err
		}
		return value{sql: "kql_extract(" + strings.Join(all, ", ") + ")", typ: String}, nil
	}
}

// shownSQL is a value as text.
func shownSQL(v value) string {
	switch v.typ {
	case String:
		return "coalesce(" + v.sql + ", '')"
	case Bool:
		return "(CASE WHEN " + v.sql + " THEN 'true' WHEN NOT " + v.sql + " THEN 'false' ELSE '' END)"
	case DateTime:
		return "coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', " + v.sql + " / 1e9, 'unixepoch'), '')"
	}
	return "coalesce(CAST(" + v.sql + " AS TEXT), '')"
}

// relative is ago and now: a number that is known now, so that the table's order by time is used.
func (c *compiler) relative(t token, args []value, places []token) (value, error) {
	at := c.now.UnixNano()
	if len(args) == 1 {
		if args[0].typ != TimeSpan || args[0].num == nil {
			return value{}, c.wrong(places[0], "%s wants a length of time such as 1h", t.text)
		}
		if t.text == "ago" {
			at -= *args[0].num
		} else {
			at += *args[0].num
		}
	}
	return value{sql: strconv.FormatInt(at, 10), typ: DateTime, num: &at}, nil
}

// bin rounds down to a multiple.
func (c *compiler) bin(args []value, places []token) (value, error) {
	x, size := args[0], args[1]
	fits := x.typ == DateTime && size.typ == TimeSpan || x.typ == TimeSpan && size.typ == TimeSpan ||
		(x.typ == Long || x.typ == Real || x.typ == Dynamic) && (size.typ == Long || size.typ == Real)
	switch {
	case !fits:
		return value{}, c.wrong(places[1], "a %s cannot be rounded to a %s", x.typ, size.typ)
	case size.num != nil && *size.num <= 0:
		return value{}, c.wrong(places[1], "want more than nothing to round to")
	case x.typ == Real || size.typ == Real || x.typ == Dynamic:
		return value{sql: "(floor(" + x.sql + " / CAST(" + size.sql + " AS REAL)) * " + size.sql + ")", typ: Real, name: x.name}, nil
	}
	// The rest of a negative number is negative.
	rest := "((" + x.sql + " % " + size.sql + ") + " + size.sql + ") % " + size.sql
	if x.typ == DateTime {
		rest = x.sql + " % " + size.sql
	}
	return value{sql: "(" + x.sql + " - " + rest + ")", typ: x.typ, name: x.name}, nil
}

// choice is iff and case: conditions and what they stand for, and at the end what else.
func (c *compiler) choice(t token, args []value, places []token) (value, error) {
	if len(args)%2 == 0 {
		return value{}, c.wrong(t, "%s wants conditions with a value each, and a last value", t.text)
	}
	var b strings.Builder
	typ := Null
	for i, a := range args {
		if i%2 == 0 && i < len(args)-1 {
			if a.typ != Bool && a.typ != Null {
				return value{}, c.wrong(places[i], "want a condition, and this is a %s", a.typ)
			}
			b.WriteString(" WHEN " + a.sql)
			continue
		}
		if !alike(typ, a.typ) {
			return value{}, c.wrong(places[i], "the values must be of one type, and these are a %s and a %s", typ, a.typ)
		}
		if typ = max(typ, a.typ); i == len(args)-1 {
			b.WriteString(" ELSE " + a.sql)
		} else {
			b.WriteString(" THEN " + a.sql)
		}
	}
	return value{sql: "(CASE" + b.String() + " END)", typ: typ}, nil
}

// layouts are the forms of a moment.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"}

// moment is datetime(2026-01-31T10:00:00Z) or timespan(1h): what stands between the brackets is a text.
func (c *compiler) moment(t token) (value, error) {
	c.take()
	from := c.take()
	if from.kind != text {
		return value{}, c.wrong(from, "want a moment or a length of time behind %s(, found %s", t.text, from.shown())
	}
	return c.momentOf(t, from, from.text)
}

func (c *compiler) momentOf(t, from token, s string) (value, error) {
	if err := c.want(")"); err != nil {
		return value{}, err
	}
	if t.text == "timespan" {
		list, err := lex(s)
		if err != nil || len(list) != 2 || list[0].kind != span {
			return value{}, c.wrong(from, "%q is no length of time; write 1d, 2h, 30m, 5s or 10ms", s)
		}
		return value{sql: strconv.FormatInt(list[0].num, 10), typ: TimeSpan, num: &list[0].num}, nil
	}
	for _, layout := range layouts {
		if at, err := time.Parse(layout, s); err == nil {
			if at.Year() < 1970 || at.Year() > 2200 {
				break
			}
			ns := at.UnixNano()
			return value{sql: strconv.FormatInt(ns, 10), typ: DateTime, num: &ns}, nil
		}
	}
	return value{}, c.wrong(from, "%q is no moment; write 2026-01-31 or 2026-01-31T10:00:00Z, from 1970 to 2200", s)
}
