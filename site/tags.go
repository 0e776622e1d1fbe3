package site

import (
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// field is one line of a struct as its tags say it.
type field struct {
	key      string
	index    int
	typ      reflect.Type
	def      string
	hasDef   bool
	enum     []string
	words    []string
	min, max string
	form     string
	doc      string
	required bool
	rate     bool // a size per second
	one      bool // a list that may be written as its only element
	element  bool // of a list or mapping
}

// fieldsOf reads the tags of a struct type, in the order of the struct. Fields without a key are not of the file.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		one := field{key: key, index: i, typ: f.Type, min: f.Tag.Get("min"), max: f.Tag.Get("max"), form: f.Tag.Get("form"),
			doc: f.Tag.Get("doc"), required: f.Tag.Get("required") == "true", rate: f.Tag.Get("unit") == "/s", one: f.Tag.Get("one") == "true"}
		one.def, one.hasDef = f.Tag.Lookup("default")
		if enum, ok := f.Tag.Lookup("enum"); ok {
			one.enum = strings.Split(enum, "|")
		}
		if words, ok := f.Tag.Lookup("words"); ok {
			one.words = strings.Split(words, "|")
		}
		fields = append(fields, one)
	}
	return fields
}

// each is the field as its elements see it: the same tags, for one element of a list or mapping.
func (f field) each() field {
	f.typ, f.def, f.hasDef, f.required, f.element = f.typ.Elem(), "", false, false, true
	return f
}

// Types that are one scalar in the file although Go sees more in them.
var (
	sizeType     = reflect.TypeFor[Size]()
	rateType     = reflect.TypeFor[Rate]()
	percentType  = reflect.TypeFor[Percent]()
	secretType   = reflect.TypeFor[Secret]()
	durationType = reflect.TypeFor[time.Duration]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	endpointType = reflect.TypeFor[Endpoint]()
)

// isScalar says whether a value of this type is one scalar in the file.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		return t == prefixType
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return false
	}
	return true
}
