package site

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("site.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("site.json") // holds it against the meta-schema of its draft
	if err != nil {
		t.Fatal(err)
	}
	if schema.DraftVersion != 2020 {
		t.Errorf("draft %d", schema.DraftVersion)
	}
	return schema
}

// asJSON is the document as an editor hands it to a validator.
func asJSON(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestSchemaTakesGoodFiles: as they are written, and as they are printed.
func TestSchemaTakesGoodFiles(t *testing.T) {
	schema := compiled(t)
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/good/conf.d/*.yaml", "testdata/good/*.printed"} {
		files, _ := filepath.Glob(pattern)
		if len(files) == 0 {
			t.Errorf("no files %s", pattern)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(asJSON(t, data)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := compiled(t)
	for _, text := range []string{
		"listenerz: {}", "listeners: {web: {}}", "listeners: {web: {listen: 80}}", "listeners: {'a b': {listen: ':80'}}",
		"listeners: {web: {listen: ':80', protocol: https}}", "listeners: {web: {listen: ':80', limits: {headers: 0}}}",
		"listeners: {web: {listen: ':80', limits: {headers: many}}}", "listeners: {web: {listen: ':80', limits: {idle_timeout: 60}}}",
		"listeners: {web: {listen: ':80', limits: {header_bytes: 16k}}}", "listeners: {web: {listen: ':80', limits: {body_bytes: 1MB/s}}}",
		"listeners: {web: {listen: ':80', limits: {accept_rate: 10}}}", "listeners: {web: {listen: ':80', http2: yes please}}",
		"pools: {a: {endpoints: ['http://10.0.0.1']}}", "pools: {a: {endpoints: [{weight: 1}]}}", "pools: {a: {panic: 0.5}}",
		"pools: {a: {method: rr}}", "pools: {a: {probe: {http: {status: [700]}}}}", "routes: {}", "routes: [{paths: [/a*]}]",
		"routes: [{hosts: ['*']}]", "routes: [{redirect: {status: 200}}]", "identify: {trusted_proxies: [ten]}",
		"listeners: {web: {listen: ':80', tls: {certificates: []}}}",
	} {
		if schema.Validate(asJSON(t, []byte(text))) == nil {
			t.Errorf("taken: %s", text)
		}
	}
}

// TestTags: what the tags say holds together.
func TestTags(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if isScalar(typ) || seen[typ] {
			return
		}
		seen[typ] = true
		setDefaults(reflect.New(typ).Elem()) // panics when a default does not pass its own field
		for _, f := range fieldsOf(typ) {
			name := typ.Name() + "." + f.key
			if f.doc == "" || strings.ContainsAny(f.doc, "\n") {
				t.Errorf("%s: no doc of one line", name)
			}
			if f.form != "" && forms[f.form].check == nil {
				t.Errorf("%s: unknown form %s", name, f.form)
			}
			if _, err := regexp.Compile(forms[f.form].pattern); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, bound := range []string{f.min, f.max} {
				if _, err := readScalar(f, bound); bound != "" && err != nil {
					t.Errorf("%s: bound %v", name, err)
				}
			}
			if f.required && f.hasDef {
				t.Errorf("%s: required and with a default", name)
			}
			if isScalar(f.typ) && f.typ.Kind() == reflect.Int && f.form != "" {
				t.Errorf("%s: a number with a form", name)
			}
			walk(f.typ)
		}
	}
	walk(reflect.TypeFor[Site]())
	if len(seen) < 25 {
		t.Errorf("only %d sections", len(seen))
	}
}
