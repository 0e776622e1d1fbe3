package script_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDashboardsAreShipped: docs/grafana holds what evenkeel dashboards writes, and nothing else.
func TestDashboardsAreShipped(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("evenkeel", "dashboards", "--out", dir).CombinedOutput(); err != nil {
		t.Fatalf("evenkeel dashboards: %v\n%s", err, out)
	}
	const shipped = "../docs/grafana"
	names := map[string]bool{}
	for _, d := range []string{dir, shipped} {
		list, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			names[f.Name()] = true
		}
	}
	for name := range names {
		made, err1 := os.ReadFile(filepath.Join(dir, name))
		kept, err2 := os.ReadFile(filepath.Join(shipped, name))
		if err1 != nil || err2 != nil || !bytes.Equal(made, kept) {
			t.Errorf("%s is not what evenkeel dashboards writes; go run ./cmd/evenkeel dashboards --out docs/grafana renews it", name)
		}
	}
	if len(names) < 6 {
		t.Errorf("only %d files were written", len(names))
	}
}
