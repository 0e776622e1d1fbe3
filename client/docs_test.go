package client_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocument: what docs/client.md shows in Go stands, line by line, in examples, which are run.
func TestDocument(t *testing.T) {
	plain := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`(?m)^[ \t]+|[ \t]+$`).ReplaceAllString(string(text), "")
	}
	examples := plain("example_test.go") + plain("grpcclient/example_test.go")
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(plain("../docs/client.md"), -1)
	for _, b := range blocks {
		if !strings.Contains(examples, b[1]) {
			t.Errorf("docs/client.md shows what is in no example:\n%s", b[1])
		}
	}
	if len(blocks) < 5 {
		t.Errorf("only %d blocks were found", len(blocks))
	}
}
