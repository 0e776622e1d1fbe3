package monitor

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/even-keel/evenkeel/site"
)

// history makes a store with two blocks and a log, as a node leaves it that was killed.
func history(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	o := options(settings(nil), false)
	db, err := tsdb.Open(dir, nil, nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now().Add(-7 * time.Hour).Truncate(2 * time.Hour)
	for at := from; at.Before(time.Now()); at = at.Add(time.Minute) {
		app := db.AppenderV2(context.Background())
		for i := range 20 {
			ls := labels.FromStrings(model.MetricNameLabel, "old_total", "n", fmt.Sprint(i))
			if _, err := app.Append(0, ls, 0, at.UnixMilli(), float64(i), nil, nil, storage.AppendV2Options{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(db.Blocks()); n < 2 {
		t.Fatalf("the history has %d blocks, want two", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// blocksOf are the folders of a store's blocks.
func blocksOf(t *testing.T, dir string) (out []string) {
	all, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		out = append(out, filepath.Dir(m))
	}
	slices.Sort(out)
	return out
}

// spoil changes bytes in the middle of a file.
func spoil(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || len(b) < 64 {
		t.Fatalf("%s has %d bytes, %v", path, len(b), err)
	}
	for i := range 32 {
		b[len(b)/3+i] ^= 0xff
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cut ends a file in the midst of its last record. Half of its size may be the end of one.
func cut(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written := len(bytes.TrimRight(b, "\x00"))
	if err := os.Truncate(path, int64(written-3)); err != nil {
		t.Fatal(err)
	}
}

// TestDamage: whatever is damaged, the node starts, keeps what is whole, tells what is not, and goes on counting.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		tells  string // in events; empty: nothing needs to be told
		keeps  bool   // all of the blocks
	}{
		{"none", func(*testing.T, string) {}, "", true},
		{"log cut off", func(t *testing.T, dir string) {
			cut(t, lastLog(t, dir))
		}, "the log of the store was damaged", true},
		{"log spoilt", func(t *testing.T, dir string) { spoil(t, lastLog(t, dir)) }, "the log of the store was damaged", true},
		{"log of noise", func(t *testing.T, dir string) {
			b := make([]byte, 100000)
			r := rand.New(rand.NewPCG(1, 2))
			for i := 0; i+8 <= len(b); i += 8 {
				binary.LittleEndian.PutUint64(b[i:], r.Uint64())
			}
			if err := os.WriteFile(lastLog(t, dir), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "the log of the store was damaged", true},
		{"log is a folder", func(t *testing.T, dir string) {
			path := lastLog(t, dir)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "set-aside", true},
		{"index spoilt", func(t *testing.T, dir string) { cut(t, filepath.Join(blocksOf(t, dir)[0], "index")) }, "is damaged", false},
		{"index gone", func(t *testing.T, dir string) { remove(t, filepath.Join(blocksOf(t, dir)[0], "index")) }, "is damaged", false},
		{"meta empty", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(blocksOf(t, dir)[0], "meta.json"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is damaged", false},
		{"chunks gone", func(t *testing.T, dir string) { remove(t, filepath.Join(blocksOf(t, dir)[0], "chunks", "000001")) }, "", false},
		{"head chunks of noise", func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, "chunks_head"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "chunks_head", "000001"), []byte(strings.Repeat("noise ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "chunks_head", true},
		{"two blocks and the log", func(t *testing.T, dir string) {
			for _, b := range blocksOf(t, dir) {
				cut(t, filepath.Join(b, "index"))
			}
			spoil(t, lastLog(t, dir))
		}, "is damaged", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := history(t)
			blocks := len(blocksOf(t, dir))
			c.damage(t, dir)
			r := run(t, settings(nil), func(d *Deps) { d.Dir = dir })
			until(t, "the store was open", func() bool { return r.Status().State == StateRunning })
			r.rounds(t, 1)
			if v := r.value(t, "test_total", time.Now()); v != 42 {
				t.Errorf("new samples are %v, want 42", v)
			}
			st := r.Status()
			if c.keeps && st.Blocks < blocks { // more of them: one became due just now, as one does every other hour
				t.Errorf("%d of %d blocks are left", st.Blocks, blocks)
			}
			if !r.diary.has(c.tells) || (c.tells != "") != (len(st.Aside) > 0) {
				t.Errorf("told was %q, put aside %q; want %q", r.diary.texts, st.Aside, c.tells)
			}
			_, err := os.Stat(filepath.Join(dir, asideDir))
			if kept := err == nil; kept != (c.tells != "") {
				t.Errorf("there is something put aside: %v; told was %q", kept, r.diary.texts)
			}
			r.stop()
			again := run(t, settings(nil), func(d *Deps) { d.Dir = dir })
			until(t, "the store was open once more", func() bool { return again.Status().State == StateRunning })
			if aside := again.Status().Aside; len(aside) > 0 {
				t.Errorf("the second start put aside %q", aside)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// lastLog is the newest file of the log that holds something.
func lastLog(t *testing.T, dir string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, walDir, "0*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	for _, f := range slices.Backward(all) {
		if st, err := os.Stat(f); err == nil && st.Size() > 0 {
			return f
		}
	}
	t.Fatal("the log is empty")
	return ""
}

func TestPutsAsideOnlySoMuch(t *testing.T) {
	dir := t.TempDir()
	m := New(settings(nil), Deps{})
	at := time.Unix(0, 0)
	m.deps.Now = func() time.Time { at = at.Add(time.Second); return at }
	for i := range 5 {
		name := fmt.Sprint("part", i)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		m.put(dir, name, "is damaged")
	}
	left, err := os.ReadDir(filepath.Join(dir, asideDir))
	if err != nil || len(left) != asideMax || !strings.HasPrefix(left[0].Name(), "part2@") {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestTemporaryStoresAreRemoved(t *testing.T) {
	temp := t.TempDir()
	dead := filepath.Join(temp, tempPrefix+"dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	alive := run(t, settings(nil), func(d *Deps) { d.Temp = temp })
	until(t, "it ran", func() bool { return alive.Status().State == StateRunning })
	if _, err := os.Stat(dead); err == nil {
		t.Error("what a killed process left is still there")
	}
	other := run(t, settings(nil), func(d *Deps) { d.Temp = temp })
	until(t, "another ran", func() bool { return other.Status().State == StateRunning })
	if st := alive.Status(); !st.Temporary {
		t.Error("the store says that it stays")
	} else if _, err := os.Stat(st.Dir); err != nil {
		t.Errorf("the store of a living process is gone: %v", err)
	}
	alive.stop()
	other.stop()
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestSuccessorWaitsForTheStore(t *testing.T) {
	dir := t.TempDir()
	first := run(t, settings(nil), func(d *Deps) { d.Dir = dir })
	first.rounds(t, 1)
	at := time.Now()
	second := run(t, settings(nil), func(d *Deps) { d.Dir = dir })
	until(t, "the second waited", func() bool { s := second.Status(); return s.State == StateStarting && s.Why != "" })
	first.stop()
	until(t, "the second had the store", func() bool { return second.Status().State == StateRunning })
	if v := second.value(t, "test_total", at); v != 42 {
		t.Errorf("what the first kept is %v, want 42", v)
	}
}

func TestRetention(t *testing.T) {
	dir := history(t)
	r := run(t, settings(func(m *site.Monitor) { m.Retention.Time = 2 * time.Hour }), func(d *Deps) { d.Dir = dir })
	until(t, "old blocks were deleted", func() bool { s := r.Status(); return s.State == StateRunning && s.Blocks < 2 })
}
