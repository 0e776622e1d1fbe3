package site

import (
	"bufio"
	"cmp"
	_ "embed"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// referenceIntro is the hand-written head of the reference page.
//
//go:embed reference.md
var referenceIntro string

// Reference writes docs/site-file.md: the introduction, then one table for each section, made from the struct tags.
func Reference(w io.Writer) error {
	r := &referee{w: bufio.NewWriter(w), done: map[reflect.Type]bool{}}
	r.w.WriteString(referenceIntro) //nolint:errcheck // Flush returns the first error
	r.section(reflect.TypeFor[Site](), "", "The whole file.")
	return r.w.Flush()
}

type referee struct {
	w    *bufio.Writer
	done map[reflect.Type]bool
}

// section writes the table of one struct, then those of the structs in it.
func (r *referee) section(t reflect.Type, path, doc string) {
	title := path
	if path == "" {
		title = "top level"
	}
	fmt.Fprintf(r.w, "\n### %s\n\n%s\n\n| key | value | default | meaning |\n|---|---|---|---|\n", title, sentence(doc))
	fields := fieldsOf(t)
	for _, f := range fields {
		def := "–"
		if f.hasDef {
			def = code(f.def)
		}
		if f.required {
			def = "needed"
		}
		fmt.Fprintf(r.w, "| %s | %s | %s | %s |\n", code(f.key), cell(valueText(f)), def, cell(f.doc))
	}
	for _, f := range fields {
		inner, at := f.typ, strings.TrimPrefix(path+"."+f.key, ".")
		for !isScalar(inner) && inner.Kind() != reflect.Struct {
			switch inner.Kind() {
			case reflect.Map:
				at += ".NAME"
			case reflect.Slice:
				at += "[]"
			}
			inner = inner.Elem()
		}
		if isScalar(inner) || r.done[inner] {
			continue
		}
		r.done[inner] = true
		r.section(inner, at, f.doc)
	}
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "." }

func code(s string) string { return "`" + strings.ReplaceAll(s, "|", `\|`) + "`" }

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// valueText says what may stand behind the key.
func valueText(f field) string {
	t := f.typ
	switch {
	case t.Kind() == reflect.Pointer:
		return "section, off when absent"
	case t == endpointType:
		return "host:port or section"
	case t.Kind() == reflect.Slice:
		return "list of: " + valueText(f.each())
	case t.Kind() == reflect.Map && !isScalar(t.Elem()):
		return "name: section"
	case t.Kind() == reflect.Map && f.form == "":
		return "name: " + cmp.Or(enumText(f), "text")
	case t.Kind() == reflect.Map:
		return forms[f.form].says
	case !isScalar(t):
		return "section"
	case len(f.enum) > 0:
		return enumText(f)
	}
	return strings.TrimSuffix(scalarText(f)+", "+boundsText(f), ", ")
}

// enumText is the words that f allows; empty: it has none.
func enumText(f field) string {
	var words []string
	for _, w := range f.enum {
		if w != "" {
			words = append(words, code(w))
		}
	}
	return either(words)
}

func scalarText(f field) string {
	switch f.typ {
	case sizeType:
		if f.rate {
			return "bytes per second"
		}
		return "size"
	case rateType:
		return "rate"
	case percentType:
		return "percentage"
	case durationType:
		return "duration"
	case prefixType:
		return "address or network"
	case secretType:
		return "secret"
	}
	switch f.typ.Kind() {
	case reflect.Bool:
		return "`true` or `false`"
	case reflect.Int:
		return "number"
	}
	says := forms[f.form].says
	if says == "" {
		says = "text"
	}
	if len(f.words) > 0 {
		says += ", or " + either(f.words)
	}
	return says
}

func boundsText(f field) string {
	switch {
	case f.min != "" && f.max != "":
		return f.min + " to " + f.max
	case f.min != "":
		return "at least " + f.min
	case f.max != "":
		return "at most " + f.max
	}
	return ""
}
