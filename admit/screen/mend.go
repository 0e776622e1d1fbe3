package screen

import (
	"bytes"
	"strings"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// contentType is the media type of the body of x, lower case, without parameters.
func contentType(x *exchange.Exchange) string {
	v, _ := wire.FieldNamed(x.Request.Fields, "Content-Type")
	v, _, _ = bytes.Cut(v, []byte(";"))
	return strings.ToLower(strings.TrimSpace(string(v)))
}

// isJSON reports whether the rule set reads a body of a type as JSON.
func isJSON(kind string) bool {
	return strings.HasPrefix(kind, "application/json") || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}

// readable makes of what was seen of a JSON body something that rules can read, in little time. A text that was cut off is no JSON text, and
// rules would see nothing of it: whoever pads an attack to beyond body_bytes would get through with its first half too.
func readable(body []byte, whole bool) []byte {
	if !whole {
		body = mendJSON(body)
	}
	return reduceJSON(body)
}

// maxDepth is how deep a cut JSON text is followed; the rule set refuses to read deeper ones.
const maxDepth = 128

// mendJSON completes a JSON text that was cut off: an open string is closed, what waits for a value gets null, and what is open is closed. A text
// that was malformed before stays so.
func mendJSON(cut []byte) []byte {
	var open []byte // closing brackets
	inText, escaped := false, false
	last := byte(0)  // last token that is not white space: a bracket, comma, colon, 's' for a string, 'v' for another value
	key := false     // the string under way, or the last one, is a key
	from := len(cut) // where the last value that is no string begins
	expectKey := func() bool { return len(open) > 0 && open[len(open)-1] == '}' && (last == '{' || last == ',') }
	for i, c := range cut {
		if inText {
			switch {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = true
			case c == '"':
				inText, last = false, 's'
			}
			continue
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '"':
			key = expectKey()
			inText = true
			from = i
		case '{', '[':
			if len(open) == maxDepth {
				return cut
			}
			open = append(open, c+2)
			last = c
		case '}', ']':
			if len(open) == 0 || open[len(open)-1] != c {
				return cut
			}
			open = open[:len(open)-1]
			last = 'v'
			key = false
		case ',', ':':
			last = c
		default:
			if last != 'p' {
				from = i
			}
			last = 'p' // part of a number or word, which may not be whole
			continue
		}
	}
	return closed(cut, open, inText, last, key, from)
}

// closed puts behind a cut JSON text what its state asks for.
func closed(cut, open []byte, inText bool, last byte, key bool, from int) []byte {
	out := append(make([]byte, 0, len(cut)+len(open)+8), cut...)
	switch {
	case inText:
		out = append(endText(out, from), '"')
		if key {
			out = append(out, ":null"...)
		}
	case last == 'p':
		out = append(out[:from], "null"...)
	case last == ':':
		out = append(out, "null"...)
	case last == 's' && key:
		out = append(out, ":null"...)
	case last == ',' && len(open) > 0 && open[len(open)-1] == '}':
		out = append(out, `"":null`...)
	case last == ',':
		out = append(out, "null"...)
	}
	for i := len(open) - 1; i >= 0; i-- {
		out = append(out, open[i])
	}
	return out
}

// endText takes half an escape off the end of a string that begins at from.
func endText(out []byte, from int) []byte {
	for i := max(from+1, len(out)-6); i < len(out); i++ {
		if out[i] != '\\' {
			continue
		}
		slashes := 0
		for j := i - 1; j > from && out[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 && (i+1 == len(out) || out[i+1] == 'u' && i+6 > len(out)) {
			return out[:i]
		}
	}
	return out
}
