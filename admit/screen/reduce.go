package screen

import "encoding/json"

// reduceJSON leaves out of a JSON text what rules would look at in vain: numbers, true, false and null, and strings that were there
// before. What the rule set costs is in proportion to the number of values, and lists of records are mostly
// repetition. Every distinct string and every distinct name is kept, in its first place, spelled as it was; positions in
// lists change. A text that is malformed, or nested too deep, is left as it is, so that the rules see that.
func reduceJSON(body []byte) []byte {
	if !json.Valid(body) {
		return body
	}
	r := &reducer{in: body, out: make([]byte, 0, len(body)), names: map[string]bool{}, texts: map[string]bool{}}
	if !r.value(nil, 0) || r.deep {
		if r.deep {
			return body
		}
		return []byte("{}")
	}
	return r.out
}

// reducer walks over a valid JSON text.
type reducer struct {
	in, out      []byte
	names, texts map[string]bool
	deep         bool
}

// fresh reports whether raw was not there before.
func fresh(seen map[string]bool, raw []byte) bool {
	if raw == nil || seen[string(raw)] {
		return false
	}
	seen[string(raw)] = true
	return true
}

// value copies the next value with its name, nil for none, and reports whether there was anything new in it. If not, nothing was copied.
func (r *reducer) value(name []byte, depth int) bool {
	if depth > maxDepth {
		r.deep = true
		return true
	}
	mark := len(r.out)
	if mark > 0 && r.out[mark-1] != '{' && r.out[mark-1] != '[' {
		r.out = append(r.out, ',')
	}
	if name != nil {
		r.out = append(append(r.out, name...), ':')
	}
	isNew := fresh(r.names, name)
	at := len(r.out)
	switch c := r.next(); c {
	case '{', '[':
		inner := r.list(c, depth)
		if r.deep {
			return true
		}
		if isNew && !inner { // rules look at names of values, and a list has none when it is empty
			r.out = append(r.out[:at], '0')
		}
		isNew = isNew || inner
	case '"':
		text := r.text()
		isNew = fresh(r.texts, text) || isNew
		r.out = append(r.out, text...)
	default:
		n := 0
		for n < len(r.in) && !isBreak(r.in[n]) {
			n++
		}
		r.in = r.in[n:]
		r.out = append(r.out, '0')
	}
	if !isNew {
		r.out = r.out[:mark]
	}
	return isNew
}

// list copies an object or array that begins with c.
func (r *reducer) list(c byte, depth int) (isNew bool) {
	r.in = r.in[1:]
	r.out = append(r.out, c)
	for !r.deep {
		switch r.next() {
		case '}', ']':
			r.in = r.in[1:]
			r.out = append(r.out, c+2)
			return isNew
		case ',':
			r.in = r.in[1:]
			continue
		}
		var name []byte
		if c == '{' {
			name = r.text()
			r.next() // the colon
			r.in = r.in[1:]
		}
		isNew = r.value(name, depth+1) || isNew
	}
	return isNew
}

// next skips white space and says what comes then.
func (r *reducer) next() byte {
	for len(r.in) > 0 {
		switch c := r.in[0]; c {
		case ' ', '\t', '\r', '\n':
			r.in = r.in[1:]
		default:
			return c
		}
	}
	return 0
}

// text takes a string with its quotes.
func (r *reducer) text() []byte {
	n := 1
	for r.in[n] != '"' {
		if r.in[n] == '\\' {
			n++
		}
		n++
	}
	text := r.in[:n+1]
	r.in = r.in[n+1:]
	return text
}

// isBreak reports whether c ends a number or word.
func isBreak(c byte) bool {
	return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'
}
