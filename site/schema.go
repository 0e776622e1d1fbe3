package site

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"unicode"
)

// Patterns of the units, for editors; the decoder is stricter about bounds. Every value may also hold variables.
const (
	patternSize     = `^[0-9]+(\.[0-9]+)?(B|KB|KiB|MB|MiB|GB|GiB)$`
	patternByteRate = `^[0-9]+(\.[0-9]+)?(B|KB|KiB|MB|MiB|GB|GiB)(/s)?$`
	patternRate     = `^[0-9]+(\.[0-9]+)?/[smh]$`
	patternPercent  = `^[0-9]+(\.[0-9]+)?%$`
	patternDuration = `^0$|^([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h))*$`
	patternPrefix   = `^[0-9a-fA-F:.]+(/[0-9]+)?$`
	patternVariable = `\$\{`
)

// Schema is the JSON Schema (draft 2020-12) of the site file, made from the struct tags. Editors complete and explain by it.
// It knows single fields; what fields say of each other only Load checks.
func Schema() []byte {
	s := &schemer{defs: map[string]any{}}
	root := s.object(reflect.TypeFor[Site]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "evenkeel site file"
	root["$defs"] = s.defs
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil { // maps of strings, numbers and such maps always marshal
		panic("site: schema: " + err.Error())
	}
	return append(text, '\n')
}

type schemer struct{ defs map[string]any }

func (s *schemer) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range fieldsOf(t) {
		p := s.value(f)
		p["description"] = f.doc
		if f.hasDef {
			p["default"] = defaultJSON(f)
		}
		properties[f.key] = p
		if f.required {
			required = append(required, f.key)
		}
	}
	object := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		object["required"] = required
	}
	return object
}

// defaultJSON is a default in the type that an editor would write it in.
func defaultJSON(f field) any {
	switch {
	case f.typ.Kind() == reflect.Slice:
		return strings.Split(f.def, ",")
	case f.typ.Kind() == reflect.Bool:
		return f.def == "true"
	case f.typ.Kind() == reflect.Int:
		n, _ := strconv.Atoi(f.def)
		return n
	}
	return f.def
}

func (s *schemer) value(f field) map[string]any {
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case isScalar(t):
		return scalarSchema(f)
	case t.Kind() == reflect.Struct:
		name := kebab(t.Name())
		if _, done := s.defs[name]; !done {
			s.defs[name] = true // holds the name while its fields are walked
			s.defs[name] = s.object(t)
		}
		ref := map[string]any{"$ref": "#/$defs/" + name}
		if t == endpointType {
			address := fieldsOf(t)[0]
			return map[string]any{"anyOf": []any{scalarSchema(address), ref}}
		}
		return ref
	case t.Kind() == reflect.Slice:
		list := map[string]any{"type": "array", "items": s.value(f.each())}
		if f.required {
			list["minItems"] = 1
		}
		if f.one {
			return map[string]any{"anyOf": []any{list, s.value(f.each())}}
		}
		return list
	}
	object := map[string]any{"type": "object", "additionalProperties": s.value(f.each())}
	names := "name"
	if f.form == "headers" || f.form == "patterns" {
		names = "token"
	}
	object["propertyNames"] = map[string]any{"pattern": forms[names].pattern}
	return object
}

func scalarSchema(f field) map[string]any {
	variable := map[string]any{"type": "string", "pattern": patternVariable}
	orVariable := func(m map[string]any) map[string]any { return map[string]any{"anyOf": []any{m, variable}} }
	if len(f.enum) > 0 {
		return orVariable(map[string]any{"enum": enumJSON(f)})
	}
	patterns := map[reflect.Type]string{sizeType: patternSize, rateType: patternRate, percentType: patternPercent,
		durationType: patternDuration, prefixType: patternPrefix}
	if pattern, ok := patterns[f.typ]; ok {
		if f.rate {
			pattern = patternByteRate
		}
		return orVariable(map[string]any{"type": "string", "pattern": pattern})
	}
	switch f.typ.Kind() {
	case reflect.Bool:
		return orVariable(map[string]any{"type": "boolean"})
	case reflect.Int:
		m := map[string]any{"type": "integer"}
		if n, err := strconv.Atoi(f.min); err == nil {
			m["minimum"] = n
		}
		if n, err := strconv.Atoi(f.max); err == nil {
			m["maximum"] = n
		}
		return orVariable(m)
	}
	return textSchema(f, variable)
}

// textSchema takes numbers and booleans too where any text goes, because YAML reads an unquoted 8080 as one.
func textSchema(f field, variable map[string]any) map[string]any {
	pattern := forms[f.form].pattern
	if pattern == "" || f.typ == secretType {
		m := map[string]any{"type": []any{"string", "number", "boolean"}}
		if f.required {
			m["minLength"] = 1
		}
		return m
	}
	ways := []any{map[string]any{"type": "string", "pattern": pattern}, variable}
	if f.form == "status" {
		ways = append(ways, map[string]any{"type": "integer", "minimum": 100, "maximum": 599})
	} else if _, err := forms[f.form].check("1"); err == nil { // a pattern holds strings alone
		ways = append(ways, map[string]any{"type": "number"})
	}
	if len(f.words) > 0 {
		ways = append(ways, map[string]any{"enum": f.words})
	}
	if !f.required && !f.hasDef && !f.element {
		ways = append(ways, map[string]any{"const": ""})
	}
	return map[string]any{"anyOf": ways}
}

// enumJSON lists words, and beside those that look like numbers the numbers: 1.2 need not be in quotes.
func enumJSON(f field) []any {
	var all []any
	for _, w := range f.enum {
		n, err := strconv.ParseFloat(w, 64)
		if f.typ.Kind() != reflect.Int {
			all = append(all, w)
		}
		if err == nil {
			all = append(all, n)
		}
	}
	return all
}

// kebab turns ListenProxyProtocol into listen-proxy-protocol and ProbeHTTP into probe-http.
func kebab(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
