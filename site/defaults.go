package site

import (
	"fmt"
	"reflect"
	"strings"
)

// setDefaults fills a struct from its default tags, sections within it too. Pointers stay nil: what they point to gets its
// defaults when the file gives the section.
func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		at := v.Field(f.index)
		switch {
		case f.hasDef && f.typ.Kind() == reflect.Slice:
			words := strings.Split(f.def, ",")
			at.Set(reflect.MakeSlice(f.typ, len(words), len(words)))
			for i, w := range words {
				mustSet(at.Index(i), f.each(), w)
			}
		case f.hasDef:
			mustSet(at, f, f.def)
		case f.typ.Kind() == reflect.Struct && !isScalar(f.typ):
			setDefaults(at)
		}
	}
}

// mustSet puts in a default. A default that its own field refuses is a slip in site.go, which the first test finds.
func mustSet(v reflect.Value, f field, text string) {
	if err := setScalar(v, f, text); err != nil {
		panic(fmt.Sprintf("site: the default of %s: %v", f.key, err))
	}
}
