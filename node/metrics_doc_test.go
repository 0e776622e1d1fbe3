package node

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMetricsAreDocumented: docs/metrics.md names every metric of the node, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`evenkeel_([a-z0-9_]+)`").FindAllStringSubmatch(cells[1], -1) {
				told[name[1]] = true
			}
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`= desc\("([a-z0-9_]+)"`).FindAllStringSubmatch(string(source), -1) {
			shown[name[1]] = true
		}
	}
	for name := range shown {
		if !told[name] {
			t.Errorf("docs/metrics.md does not name evenkeel_%s", name)
		}
	}
	for name := range told {
		if !shown[name] {
			t.Errorf("docs/metrics.md names evenkeel_%s, which nothing shows", name)
		}
	}
	if len(shown) < 100 {
		t.Errorf("only %d metrics were found", len(shown))
	}
}
