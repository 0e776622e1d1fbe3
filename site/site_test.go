package site

import (
	"bytes"
	"reflect"
	"testing"
)

func TestDefaultsPass(t *testing.T) {
	s, err := Quick("", []string{"http://127.0.0.1:3000"}, "")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Print(&b, s); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", b.String())
	again, err := Parse("site.yaml", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	again.Files = nil
	if !reflect.DeepEqual(s, again) {
		t.Fatal("not equal")
	}
}
