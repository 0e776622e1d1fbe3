package keep

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWriteAndRead(t *testing.T) {
	f := NewFolder(filepath.Join(t.TempDir(), "deep", "state"))
	now := time.Unix(1e9, 0)
	if body, warning, err := f.Read("counts", "counts", now); body != nil || warning != "" || err != nil {
		t.Fatalf("of nothing: %q %q %v", body, warning, err)
	}
	if ok, err := f.Own(); !ok || err != nil {
		t.Fatalf("own: %v %v", ok, err)
	}
	defer f.Close()
	if ok, _ := NewFolder(f.Dir()).Own(); ok {
		t.Error("two own the folder")
	}
	for _, text := range []string{"one", "two"} {
		if err := f.Write("counts", "counts", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if body, warning, err := f.Read("counts", "counts", now); string(body) != "two" || warning != "" || err != nil {
		t.Errorf("%q %q %v", body, warning, err)
	}

	// A byte is changed anywhere, or the end is missing: the one before is read, and nothing is overwritten.
	path := filepath.Join(f.Dir(), "counts")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) + 1 {
		bad := whole[:len(whole)-1]
		if i < len(whole) {
			bad = bytes.Clone(whole)
			bad[i] ^= 1
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		body, warning, err := f.Read("counts", "counts", now)
		if string(body) != "one" || err != nil || !strings.Contains(warning, ".corrupt-20010909T014640Z") {
			t.Fatalf("byte %d: %q %q %v", i, body, warning, err)
		}
	}
	aside, _ := filepath.Glob(path + ".corrupt-*")
	if len(aside) != len(whole)+1 {
		t.Errorf("%d files were set aside, want %d", len(aside), len(whole)+1)
	}
	if _, _, err := f.Read("counts", "counts", now); err != nil {
		t.Error(err)
	}
}

func TestAnotherKindIsForeign(t *testing.T) {
	f := NewFolder(t.TempDir())
	if err := f.Write("x", "counts", []byte("1")); err != nil {
		t.Fatal(err)
	}
	body, warning, err := f.Read("x", "alerts", time.Unix(0, 0))
	if body != nil || err != nil || !strings.Contains(warning, "no evenkeel alerts") {
		t.Errorf("%q %q %v", body, warning, err)
	}
}

func TestFolderThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFolder(filepath.Join(file, "state"))
	if ok, err := f.Own(); ok || err == nil {
		t.Error("a folder within a file")
	}
	if _, _, err := f.Read("x", "counts", time.Now()); err != nil {
		t.Errorf("reading what cannot be there: %v", err)
	}
	if err := f.Write("x", "counts", nil); err == nil {
		t.Error("written into a file")
	}
}
