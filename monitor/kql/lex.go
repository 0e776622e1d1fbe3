package kql

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of one question. People write a few hundred bytes.
const (
	maxSource = 64 << 10 // bytes
	maxDepth  = 64       // expressions and tables within each other
	maxStages = 100      // operators behind each other
)

// kind is what a token is.
type kind uint8

const (
	end    kind = iota
	word        // a name, an operator in letters, or one with ! before it
	number      // integer
	real        // with a point or an exponent
	span        // 5m
	text        // a string
	sign        // everything else
)

// token is one piece of the source.
type token struct {
	kind kind
	text string // as it stands there; of a string, what it says
	at   int    // bytes from the beginning
	num  int64  // of a number; nanoseconds of a span
	flt  float64
}

// Error is a mistake, and where it stands.
type Error struct {
	Line, Column int // from 1; columns count characters
	Text         string
}

// Error is line:column: text.
func (e *Error) Error() string {
	return strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column) + ": " + e.Text
}

// mistake makes an Error for a place in src.
func mistake(src string, at int, text string) *Error {
	before := src[:min(at, len(src))]
	line := strings.Count(before, "\n")
	before = before[strings.LastIndexByte(before, '\n')+1:]
	return &Error{Line: line + 1, Column: utf8.RuneCountInString(before) + 1, Text: text}
}

// signs are the operators of several characters, the longest first.
var signs = []string{"==", "!=", "=~", "!~", "<=", ">=", "..", "<", ">", "=", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", ".", "|", ";", "$", ":"}

// units are what a span may be counted in.
var units = map[string]time.Duration{
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour, "h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"ms": time.Millisecond, "milli": time.Millisecond, "microsecond": time.Microsecond, "tick": 100 * time.Nanosecond,
}

// lex cuts src into tokens.
func lex(src string) (list []token, err *Error) {
	if len(src) > maxSource {
		return nil, &Error{1, 1, "the question has more than " + strconv.Itoa(maxSource) + " bytes"}
	}
	for at := 0; ; {
		at = blank(src, at)
		if at == len(src) {
			return append(list, token{kind: end, at: at}), nil
		}
		t, next, err := one(src, at)
		if err != nil {
			return nil, err
		}
		list, at = append(list, t), next
		if t.kind == word && (t.text == "datetime" || t.text == "timespan") {
			list, at = bare(src, list, at)
		}
	}
}

// bare takes what stands in the brackets behind datetime and timespan as a text: 2026-01-31T10:00 is no expression.
func bare(src string, list []token, at int) ([]token, int) {
	open := blank(src, at)
	if open == len(src) || src[open] != '(' {
		return list, at
	}
	from := blank(src, open+1)
	end := strings.IndexAny(src[from:], ")\n|")
	if end < 0 || src[from+end] != ')' || end > 0 && (src[from] == '"' || src[from] == '\'') {
		return list, at
	}
	return append(list, token{kind: sign, text: "(", at: open}, token{kind: text, text: strings.TrimSpace(src[from : from+end]), at: from}), from + end
}

// blank is where the next token begins: behind spaces and comments.
func blank(src string, at int) int {
	for at < len(src) {
		switch {
		case strings.IndexByte(" \t\r\n", src[at]) >= 0:
			at++
		case strings.HasPrefix(src[at:], "//"):
			line := strings.IndexByte(src[at:], '\n')
			if line < 0 {
				return len(src)
			}
			at += line
		default:
			return at
		}
	}
	return at
}

// one reads the token at a place.
func one(src string, at int) (t token, next int, err *Error) {
	c := src[at]
	switch {
	case c == '"' || c == '\'':
		return quoted(src, at, at, false)
	case (c == '@' || c == 'h') && at+1 < len(src) && (src[at+1] == '"' || src[at+1] == '\''):
		return quoted(src, at, at+1, c == '@')
	case letter(c):
		next = name(src, at)
		return token{kind: word, text: src[at:next], at: at}, next, nil
	case c == '!' && at+1 < len(src) && letter(src[at+1]):
		next = name(src, at+1)
		return token{kind: word, text: src[at:next], at: at}, next, nil
	case digit(c):
		return numeral(src, at)
	}
	for _, s := range signs {
		if strings.HasPrefix(src[at:], s) {
			return token{kind: sign, text: s, at: at}, at + len(s), nil
		}
	}
	r, _ := utf8.DecodeRuneInString(src[at:])
	return t, 0, mistake(src, at, strconv.QuoteRune(r)+" has no meaning here")
}

func letter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// name is where a name that begins at a place ends. A dash belongs to operators such as project-away.
func name(src string, at int) int {
	from := at
	for at < len(src) && (letter(src[at]) || digit(src[at])) {
		at++
	}
	if src[from:at] == "project" && at+1 < len(src) && src[at] == '-' && letter(src[at+1]) {
		for at++; at < len(src) && letter(src[at]); at++ {
		}
	}
	return at
}

// numeral reads a number, or a length of time.
func numeral(src string, from int) (t token, next int, err *Error) {
	at, whole := from, true
	for at < len(src) && digit(src[at]) {
		at++
	}
	if at+1 < len(src) && src[at] == '.' && digit(src[at+1]) {
		whole = false
		for at++; at < len(src) && digit(src[at]); at++ {
		}
	}
	if at+1 < len(src) && (src[at] == 'e' || src[at] == 'E') && (digit(src[at+1]) || at+2 < len(src) && (src[at+1] == '-' || src[at+1] == '+') && digit(src[at+2])) {
		whole = false
		for at += 2; at < len(src) && digit(src[at]); at++ {
		}
	}
	t = token{kind: number, text: src[from:at], at: from}
	unit := at
	for unit < len(src) && (letter(src[unit]) || digit(src[unit])) {
		unit++
	}
	var bad error
	if t.flt, bad = strconv.ParseFloat(t.text, 64); bad != nil {
		return t, 0, mistake(src, from, t.text+" is too large a number")
	}
	if unit > at {
		per, known := units[src[at:unit]]
		if !known {
			return t, 0, mistake(src, from, src[from:unit]+" is neither a number nor a length of time such as 5m; units are d, h, m, s and ms")
		}
		length := t.flt * float64(per)
		if length > float64(1<<62) {
			return t, 0, mistake(src, from, src[from:unit]+" is longer than 146 years")
		}
		t.kind, t.text, t.num = span, src[from:unit], int64(length)
		return t, unit, nil
	}
	if !whole {
		t.kind = real
		return t, at, nil
	}
	if t.num, bad = strconv.ParseInt(t.text, 10, 64); bad != nil {
		return t, 0, mistake(src, from, t.text+" is too large a number")
	}
	return t, at, nil
}

// quoted reads a string whose quote stands at open. Plain ones know no escapes but the doubled quote.
func quoted(src string, from, open int, plain bool) (t token, next int, err *Error) {
	q := src[open]
	var b strings.Builder
	for at := open + 1; at < len(src); at++ {
		c := src[at]
		switch {
		case c == q && plain && at+1 < len(src) && src[at+1] == q:
			b.WriteByte(q)
			at++
		case c == q:
			return token{kind: text, text: b.String(), at: from}, at + 1, nil
		case c == '\n':
			return t, 0, mistake(src, from, "this text is not closed on its line")
		case c == '\\' && !plain && at+1 < len(src):
			at++
			switch src[at] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case '\\', '"', '\'':
				b.WriteByte(src[at])
			default:
				return t, 0, mistake(src, at-1, `\`+string(rune(src[at]))+` is no escape; write \\ for a backslash, or @ before the quote`)
			}
		case c == 0:
			return t, 0, mistake(src, at, "a text cannot hold a zero byte")
		default:
			b.WriteByte(c)
		}
	}
	return t, 0, mistake(src, from, "this text is not closed")
}
