package site

import (
	"bytes"
	"strings"
	"testing"
)

// TestReferencePageIsCurrent: docs/site-file.md is what the tags say. -update rewrites it.
func TestReferencePageIsCurrent(t *testing.T) {
	var b bytes.Buffer
	if err := Reference(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "` |  |") {
		t.Error("a field has no word on what may stand there")
	}
	golden(t, "../docs/site-file.md", b.String())
}

// TestReferenceExamples: every YAML example of the page that is a whole site loads.
func TestReferenceExamples(t *testing.T) {
	parsed := 0
	for i, block := range strings.Split(referenceIntro, "```yaml\n")[1:] {
		text, _, closed := strings.Cut(block, "```")
		if !closed {
			t.Fatalf("example %d is not closed", i)
		}
		if strings.HasPrefix(text, "include:") { // its files exist in no test; testdata/good/include.yaml shows the same
			continue
		}
		parsed++
		if _, err := Parse("example.yaml", []byte(text)); err != nil {
			t.Errorf("example %d: %v", i, err)
		}
	}
	if parsed < 2 {
		t.Errorf("only %d examples", parsed)
	}
}

// TestReferenceMistakes: the page shows messages as they are.
func TestReferenceMistakes(t *testing.T) {
	_, err := Parse("site.yaml", []byte("listeners:\n  web:\n    listen: ':80'\n    lisen: ':80'\npools:\n  shop:\n    endpoints:\n      - 10.0.0.1:80\n    method: leastconn\n"))
	if err == nil || !strings.Contains(referenceIntro, "```text\n"+err.Error()+"\n```") {
		t.Errorf("the page does not show:\n%v", err)
	}
}
