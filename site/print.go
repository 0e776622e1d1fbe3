package site

import (
	"bufio"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Print writes the site with every default as YAML that Parse accepts again for an equal site, except that secrets are masked.
func Print(w io.Writer, s *Site) error {
	p := &printer{w: bufio.NewWriter(w)}
	p.fields(reflect.ValueOf(s).Elem(), "", "")
	return p.w.Flush()
}

type printer struct{ w *bufio.Writer }

func (p *printer) put(parts ...string) {
	for _, s := range parts {
		p.w.WriteString(s) //nolint:errcheck // a bufio.Writer keeps its first error for Flush
	}
}

// fields writes a struct line by line; lead stands before the first line, indent before all others.
func (p *printer) fields(v reflect.Value, lead, indent string) {
	some := false
	for _, f := range fieldsOf(v.Type()) {
		at := v.Field(f.index)
		if absent(at, f) || f.key == "include" && v.Type() == reflect.TypeFor[Site]() {
			continue
		}
		some = true
		p.put(lead, f.key, ":")
		p.value(at, f, indent)
		lead = indent
	}
	if !some {
		p.put(lead, "{}\n")
	}
}

// absent says whether leaving the field out says the same as writing it. What has a default is always written.
func absent(v reflect.Value, f field) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0 && !f.hasDef
	case reflect.Pointer:
		return v.IsNil()
	case reflect.String:
		return v.String() == "" && !f.hasDef
	case reflect.Int:
		return v.Int() == 0 && !f.hasDef
	case reflect.Struct:
		return !isScalar(v.Type()) && empty(v, fieldsOf(v.Type()))
	}
	return false
}

// value writes what stands after a key and its colon.
func (p *printer) value(v reflect.Value, f field, indent string) {
	switch v.Kind() {
	case reflect.Pointer:
		f.typ = f.typ.Elem()
		p.value(v.Elem(), f, indent)
	case reflect.Map:
		p.names(v, f, indent)
	case reflect.Slice:
		p.list(v, f, indent)
	default:
		if isScalar(v.Type()) {
			p.put(" ", text(v, f), "\n")
			return
		}
		if empty(v, fieldsOf(v.Type())) {
			p.put(" {}\n")
			return
		}
		p.put("\n")
		p.fields(v, indent+"  ", indent+"  ")
	}
}

func empty(v reflect.Value, fields []field) bool {
	for _, f := range fields {
		if !absent(v.Field(f.index), f) {
			return false
		}
	}
	return true
}

func (p *printer) names(v reflect.Value, f field, indent string) {
	if v.Len() == 0 {
		p.put(" {}\n")
		return
	}
	p.put("\n")
	for _, name := range slices.Sorted(maps.Keys(keysOf(v))) {
		p.put(indent, "  ", quotedKey(name), ":")
		p.value(v.MapIndex(reflect.ValueOf(name)), f.each(), indent+"  ")
	}
}

func keysOf(v reflect.Value) map[string]bool {
	keys := make(map[string]bool, v.Len())
	for _, k := range v.MapKeys() {
		keys[k.String()] = true
	}
	return keys
}

func (p *printer) list(v reflect.Value, f field, indent string) {
	if one := f.each(); isScalar(one.typ) {
		words := make([]string, v.Len())
		for i := range words {
			words[i] = text(v.Index(i), one)
		}
		p.put(" [", strings.Join(words, ", "), "]\n")
		return
	}
	p.put("\n")
	for i := range v.Len() {
		p.fields(reflect.Indirect(v.Index(i)), indent+"  - ", indent+"    ")
	}
}

// text is a scalar as it stands in a file.
func text(v reflect.Value, f field) string {
	s := format(v, f)
	if v.Kind() == reflect.String || strings.Contains(s, ":") { // 10.0.0.0/8 is plain, ::1 is not
		return quoted(s)
	}
	return s
}

// quoted is a text as a YAML scalar that stands for exactly itself: plain where every YAML reader takes it as
// text, in double quotes otherwise.
func quoted(s string) string { return quotedKey(escape(s)) }

// quotedKey is quoted without the escape of variables, which are not looked for in keys.
func quotedKey(s string) string {
	if plainWord(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString("\\" + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) && r != '\ufeff':
			b.WriteRune(r)
		case r > 0xffff:
			b.WriteString(`\U` + hex(r, 8))
		default:
			b.WriteString(`\u` + hex(r, 4))
		}
	}
	b.WriteByte('"')
	return b.String()
}

func hex(r rune, digits int) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", digits-len(s)) + s
}

// plainWord says whether s needs no quotes: it starts with a letter or /, holds nothing that YAML looks at, and no
// YAML version reads it as true, false, null or a number.
func plainWord(s string) bool {
	if s == "" || !(s[0] == '/' || s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z') {
		return false
	}
	for _, c := range []byte(s) {
		if !alphanumeric(c) && !strings.ContainsRune("_-./", rune(c)) {
			return false
		}
	}
	return !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}, strings.ToLower(s))
}
