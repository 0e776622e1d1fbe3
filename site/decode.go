package site

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder walks a tree and a struct side by side, and remembers where every value stands.
type decoder struct {
	*loader
	places map[string]place // path to where a person would look: the value of a scalar, the key of a section
	bad    map[string]bool  // paths whose value is a mistake already, so that checks need not say it again

	badInside map[string]bool // sections around such paths
}

// wrong reports a mistake at the place of path.
func (d *decoder) wrong(path, format string, args ...any) {
	d.bad[path] = true
	for around := path; around != "" && !d.badInside[around]; {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
		d.badInside[around] = true
	}
	d.report(d.at(path), path, fmt.Sprintf(format, args...))
}

// at is where path stands, or the nearest section around it that the file has.
func (d *decoder) at(path string) place {
	for {
		if p, ok := d.places[path]; ok {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// structure decodes a mapping into a struct that holds its defaults.
func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if n.kind != mappingNode {
		d.wrongKind(n, mappingNode, path)
		return
	}
	fields := fieldsOf(v.Type())
	for _, e := range n.entries {
		at := join(path, e.key)
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.key })
		switch {
		case i < 0:
			d.places[at] = e.at
			d.wrong(at, "unknown key%s", meantKey(e.key, fields))
		case path == "" && e.key == "include": // was followed when the file was read
		case e.value == nil:
			d.places[at], d.bad[at] = e.at, true
		default:
			d.places[at] = e.at
			if e.value.kind == scalarNode {
				d.places[at] = e.value.at
			}
			d.value(e.value, v.Field(fields[i].index), fields[i], at)
		}
	}
	for _, f := range fields {
		at := join(path, f.key)
		if !f.required || d.bad[at] {
			continue
		}
		if n.find(f.key) == nil {
			d.wrong(at, "is missing: %s", f.doc)
		} else if v.Field(f.index).IsZero() || f.typ.Kind() == reflect.Slice && v.Field(f.index).Len() == 0 {
			d.wrong(at, "is empty: %s", f.doc)
		}
	}
}

// meantKey finds the key that was meant: here, or in a section of here.
func meantKey(seen string, fields []field) string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	if w := Near(seen, keys); w != "" {
		return "; did you mean " + w + "?"
	}
	for _, f := range fields {
		t := f.typ
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || isScalar(t) {
			continue
		}
		for _, inner := range fieldsOf(t) {
			if inner.key == seen {
				return "; did you mean " + f.key + "." + inner.key + "?"
			}
		}
	}
	slices.Sort(keys)
	return "; allowed are " + strings.Join(keys, ", ")
}

// value decodes into any kind of field.
func (d *decoder) value(n *node, v reflect.Value, f field, path string) {
	switch t := f.typ; {
	case n.null:
		d.wrong(path, "nothing follows the key; %s", emptyHelp(t))
	case isScalar(t):
		d.scalar(n, v, f, path)
	case t == endpointType && n.kind == scalarNode:
		setDefaults(v)
		address := fieldsOf(t)[0]
		address.element = true
		d.scalar(n, v.Field(address.index), address, path)
	case t.Kind() == reflect.Struct:
		setDefaults(v)
		d.structure(n, v, path)
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		f.typ = t.Elem()
		d.value(n, v.Elem(), f, path)
	case t.Kind() == reflect.Slice:
		d.list(n, v, f, path)
	case t.Kind() == reflect.Map:
		d.names(n, v, f, path)
	}
}

func emptyHelp(t reflect.Type) string {
	switch {
	case isScalar(t):
		return "give a value, or leave the key out"
	case t.Kind() == reflect.Slice:
		return "write [] for an empty list, or leave the key out"
	}
	return "write {} for the defaults, or leave the key out"
}

func (d *decoder) wrongKind(n *node, want nodeKind, path string) {
	text := fmt.Sprintf("%s is wanted here, not %s", want, n.kind)
	switch {
	case want == listNode && n.kind == scalarNode:
		text += fmt.Sprintf("; did you mean [%s]?", n.text)
	case want == mappingNode && n.kind == scalarNode:
		text += " " + quote(n.text)
	}
	d.wrong(path, "%s", text)
}

func (d *decoder) list(n *node, v reflect.Value, f field, path string) {
	if f.one && n.kind == scalarNode {
		n = &node{kind: listNode, at: n.at, items: []*node{n}}
	}
	if n.kind != listNode {
		d.wrongKind(n, listNode, path)
		return
	}
	if len(n.items) == 0 {
		v.SetZero() // an empty list says none, also where the default says some
		return
	}
	v.Set(reflect.MakeSlice(f.typ, len(n.items), len(n.items)))
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.places[at] = item.at
		d.value(item, v.Index(i), f.each(), at)
		fillHole(v.Index(i))
	}
}

// fillHole puts an element with its defaults where the file has something unusable, because checks look into every element.
func fillHole(v reflect.Value) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
		setDefaults(v.Elem())
	}
}

func (d *decoder) names(n *node, v reflect.Value, f field, path string) {
	if n.kind != mappingNode {
		d.wrongKind(n, mappingNode, path)
		return
	}
	if len(n.entries) == 0 {
		v.SetZero()
		return
	}
	v.Set(reflect.MakeMapWithSize(f.typ, len(n.entries)))
	folded := map[string]string{}
	for _, e := range n.entries {
		at := join(path, e.key)
		d.places[at] = e.at
		one := reflect.New(f.typ.Elem()).Elem()
		if e.value == nil {
			d.bad[at] = true
			fillHole(one)
			v.SetMapIndex(reflect.ValueOf(e.key), one)
			continue
		}
		if err := checkKey(e.key, f, folded); err != nil {
			d.wrong(at, "%v", err)
		}
		if e.value.kind == scalarNode && !e.value.null {
			d.places[at] = e.value.at
		}
		d.value(e.value, one, f.each(), at)
		fillHole(one)
		v.SetMapIndex(reflect.ValueOf(e.key), one)
	}
}

// checkKey checks the name of an entry: of a header, without regard to case, or of a thing in the site.
func checkKey(key string, f field, folded map[string]string) error {
	if key == "" {
		return errors.New("the name is empty")
	}
	if f.form != "headers" && f.form != "patterns" {
		_, err := checkName(key)
		return err
	}
	low := strings.ToLower(key)
	if first, twice := folded[low]; twice {
		return fmt.Errorf("given twice, as %s before; header names have no case", first)
	}
	folded[low] = key
	_, err := checkToken(key)
	return err
}

// scalar decodes one value: variables in, type, form, bounds.
func (d *decoder) scalar(n *node, v reflect.Value, f field, path string) {
	if n.kind != scalarNode {
		d.wrongKind(n, scalarNode, path)
		return
	}
	if f.typ == secretType {
		d.secretValue(n, v, path)
		return
	}
	text, err := expand(n.text, d.env)
	if err == nil && n.quoted && text == n.text && (v.Kind() == reflect.Bool || v.Kind() == reflect.Int && f.typ != durationType) {
		err = fmt.Errorf("%s is text because of its quotes; leave them out", quote(text))
	}
	if err == nil {
		err = setScalar(v, f, text)
	}
	if err != nil {
		d.wrong(path, "%v", err)
		return
	}
	if (f.form == "file" || f.form == "place" && !isURL(text)) && text != "" && !slices.Contains(f.words, text) {
		v.SetString(absolute(text, n.at.src.dir))
	}
}

func (d *decoder) secretValue(n *node, v reflect.Value, path string) {
	text, err := d.secret(n, n.text)
	switch {
	case err != nil:
		d.wrong(path, "%v", err)
	case text == masked:
		d.wrong(path, "%s only stands where a secret was masked; write ${NAME} or file:PATH", masked)
	case text == "":
		d.wrong(path, "the secret is empty; leave the key out for none")
	case !utf8.ValidString(text):
		d.wrong(path, "the secret is not UTF-8")
	default:
		v.SetString(text)
	}
}

// setScalar reads a text as the field's type and checks what its tags say. It is the one way for values and defaults alike.
func setScalar(v reflect.Value, f field, text string) error {
	read, err := readScalar(f, text)
	if err != nil {
		return err
	}
	if len(f.enum) > 0 && !slices.Contains(f.enum, text) {
		words := slices.DeleteFunc(slices.Clone(f.enum), func(w string) bool { return w == "" })
		return fmt.Errorf("%s is not allowed; write %s%s", quote(text), either(words), didYouMean(text, words))
	}
	if err := inRange(read, f, text); err != nil {
		return err
	}
	v.Set(read.Convert(v.Type()))
	return nil
}

// readScalar reads a text as the field's type.
func readScalar(f field, text string) (reflect.Value, error) {
	var read any
	var err error
	switch f.typ {
	case sizeType:
		read, err = parseSize(text, f.rate)
	case rateType:
		read, err = parseRate(text)
	case percentType:
		read, err = parsePercent(text)
	case durationType:
		read, err = ParseDuration(text)
	case prefixType:
		read, err = parsePrefix(text)
	default:
		switch f.typ.Kind() {
		case reflect.Bool:
			read, err = parseBool(text)
		case reflect.Int:
			read, err = parseInt(text)
		default:
			read, err = formed(f, text)
		}
	}
	return reflect.ValueOf(read), err
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true", "false":
		return text == "true", nil
	}
	meant := map[string]string{"yes": "true", "on": "true", "1": "true", "y": "true", "no": "false", "off": "false", "0": "false", "n": "false"}
	if w := meant[strings.ToLower(text)]; w != "" {
		return false, fmt.Errorf("%s is not allowed; write true or false; did you mean %s?", quote(text), w)
	}
	return false, fmt.Errorf("%s is not allowed; write true or false%s", quote(text), didYouMean(text, []string{"true", "false"}))
}

func parseInt(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if n > maxNumber {
		return 0, fmt.Errorf("%s is too large; at most %d is allowed", quote(text), int64(maxNumber))
	}
	if err != nil || strings.HasPrefix(text, "+") {
		return 0, fmt.Errorf("%s is not a whole number", quote(text))
	}
	return int(n), nil
}

// formed checks a text against the form of its field. An empty text is no value, and passes where none is needed.
func formed(f field, text string) (string, error) {
	header := f.form == "headers"
	switch {
	case text == "" && f.element && !header && f.form != "":
		return "", errors.New("is empty")
	case text == "" && f.hasDef && !slices.Contains(f.enum, ""):
		return "", fmt.Errorf("is empty; leave the key out for the default %s", f.def)
	case text == "" || f.form == "" || slices.Contains(f.words, text):
		return text, nil
	}
	fixed, err := forms[f.form].check(text)
	if err != nil && len(f.words) > 0 {
		if w := Near(text, f.words); w != "" && f.form != "file" {
			return "", fmt.Errorf("%w; did you mean %s?", err, w)
		}
		if f.form != "file" {
			return "", fmt.Errorf("%w; also allowed: %s", err, either(f.words))
		}
	}
	return fixed, err
}

// inRange checks min and max, which are written as values of the field's own type.
func inRange(read reflect.Value, f field, text string) error {
	if f.min == "" && f.max == "" {
		return nil
	}
	compare := func(bound string) int {
		b, err := readScalar(f, bound)
		switch {
		case bound == "" || err != nil:
			return 0
		case read.CanFloat():
			return cmp.Compare(read.Float(), b.Float())
		}
		return cmp.Compare(read.Int(), b.Int())
	}
	allowed := "at least " + f.min
	if f.max != "" {
		allowed = f.min + " to " + f.max
	}
	if f.max != "" && f.min == "" {
		allowed = "at most " + f.max
	}
	if _, isInt := read.Interface().(int); !isInt {
		text = quote(text)
	}
	switch {
	case f.min != "" && compare(f.min) < 0:
		return fmt.Errorf("%s is too small; allowed is %s", text, allowed)
	case f.max != "" && compare(f.max) > 0:
		return fmt.Errorf("%s is too large; allowed is %s", text, allowed)
	}
	return nil
}
