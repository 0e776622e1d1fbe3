package site

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// maxDiff bounds the lines of one Diff: it goes into one log message and one event.
const maxDiff = 50

// Diff says in short lines what changed from old to new, in the order of the file. Secrets show only that they changed.
// No lines: nothing a user wrote has changed.
func Diff(old, new *Site) []string {
	d := &differ{}
	d.fields(reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem(), "")
	if more := d.count - len(d.lines); more > 0 {
		d.lines = append(d.lines, fmt.Sprintf("and %d more", more))
	}
	return d.lines
}

type differ struct {
	lines []string
	count int
}

func (d *differ) say(path, format string, args ...any) {
	d.count++
	if len(d.lines) < maxDiff {
		d.lines = append(d.lines, path+": "+fmt.Sprintf(format, args...))
	}
}

func (d *differ) fields(old, new reflect.Value, path string) {
	for _, f := range fieldsOf(old.Type()) {
		d.value(old.Field(f.index), new.Field(f.index), f, join(path, f.key))
	}
}

func (d *differ) value(old, new reflect.Value, f field, path string) {
	switch {
	case f.typ == secretType || f.element && f.form == "headers": // headers carry credentials
		if old.String() != new.String() {
			d.say(path, "changed")
		}
	case isScalar(f.typ):
		if was, is := format(old, f), format(new, f); was != is {
			d.say(path, "%s → %s", cmp.Or(brief(was), "none"), cmp.Or(brief(is), "none"))
		}
	case f.typ.Kind() == reflect.Pointer:
		switch {
		case old.IsNil() && new.IsNil():
		case old.IsNil():
			d.say(path, "added")
		case new.IsNil():
			d.say(path, "removed")
		default:
			d.fields(old.Elem(), new.Elem(), path)
		}
	case f.typ.Kind() == reflect.Struct:
		d.fields(old, new, path)
	default:
		d.set(old, new, f, path)
	}
}

// brief cuts a long value: a line of a diff names what changed, the file holds the rest.
func brief(s string) string {
	const longest = 40 // characters
	if r := []rune(s); len(r) > longest {
		return string(r[:longest-1]) + "…"
	}
	return s
}

// set compares lists and mappings as sets of named things. Things with the same name are compared field by field.
func (d *differ) set(old, new reflect.Value, f field, path string) {
	was, before := named(old, f)
	is, after := named(new, f)
	for _, name := range before {
		if _, kept := is[name]; !kept {
			d.say(path, "- %s", brief(name))
		}
	}
	for _, name := range after {
		if _, known := was[name]; !known {
			d.say(path, "+ %s", brief(name))
		}
	}
	for _, name := range after {
		if then, known := was[name]; known {
			d.value(then, is[name], f.each(), path+"."+name)
		}
	}
	kept := func(names []string, in map[string]reflect.Value) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, ok := in[n]; return !ok })
	}
	if old.Kind() == reflect.Slice && !slices.Equal(kept(before, is), kept(after, was)) {
		d.say(path, "order changed")
	}
}

// named gives each element of a list or mapping the name that a person knows it by, in order.
func named(v reflect.Value, f field) (map[string]reflect.Value, []string) {
	all := make(map[string]reflect.Value, v.Len())
	var order []string
	if v.Kind() == reflect.Map {
		for _, k := range v.MapKeys() {
			all[k.String()] = v.MapIndex(k)
		}
		return all, slices.Sorted(maps.Keys(all))
	}
	for i := range v.Len() {
		e := reflect.Indirect(v.Index(i))
		name := ""
		switch x := e.Interface().(type) {
		case Endpoint:
			name = x.Address
		case Route:
			name = x.Name
		case Certificate:
			name = x.Cert
		case Objective:
			name = x.Name
		case Receiver:
			name = x.Name
		default:
			name = format(e, f.each())
		}
		for n, base := 2, name; ; n++ { // the same word twice in a list stays two things
			if _, taken := all[name]; !taken {
				break
			}
			name = fmt.Sprintf("%s (%d)", base, n)
		}
		all[name] = v.Index(i)
		order = append(order, name)
	}
	return all, order
}
