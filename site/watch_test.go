package site

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatch runs on fake time: each tick is one look at real files.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("site.yaml"), "1")
	for _, v := range []string{"v1", "v2"} { // a config map: the file is a link into a folder that is itself swapped by a link
		if err := os.Mkdir(at(v), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(at(v), "pools.yaml"), "same")
	}
	link(t, "v1", at("..data"))
	link(t, "..data/pools.yaml", at("pools.yaml"))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		files := map[string]fs.FileInfo{at("site.yaml"): nil, at("pools.yaml"): nil}
		var mu sync.Mutex // over what both goroutines touch; fake time orders them, but the race detector cannot know
		calls, during := 0, func() {}
		named := func() map[string]fs.FileInfo { mu.Lock(); defer mu.Unlock(); return maps.Clone(files) }
		done := make(chan struct{})
		go func() {
			defer close(done)
			Watch(ctx, named, time.Second, func() { mu.Lock(); defer mu.Unlock(); calls++; during() })
		}()
		// tick lets one look happen and says how often changed was called by then.
		tick := func(want int, why string) {
			t.Helper()
			<-time.After(time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if calls != want {
				t.Fatalf("%s: %d calls, want %d", why, calls, want)
			}
		}
		<-time.After(time.Second / 2) // looks lie between the steps of this test
		tick(0, "nothing changed")
		write(t, at("site.yaml"), "22")
		tick(0, "not quiet yet")
		write(t, at("site.yaml"), "333")
		tick(0, "still being written")
		tick(1, "quiet")
		tick(1, "said once")
		link(t, "v2", at("..data"))
		tick(1, "swapped")
		tick(2, "the link was followed")
		if err := os.Remove(at("site.yaml")); err != nil {
			t.Fatal(err)
		}
		tick(2, "gone")
		tick(3, "a missing file is a change")
		mu.Lock()
		during = func() { write(t, at("site.yaml"), "written while the reload ran"); during = func() {} }
		mu.Unlock()
		write(t, at("site.yaml"), "4444")
		tick(3, "back")
		tick(4, "and read")
		tick(4, "what was written while the reload ran is seen")
		tick(5, "and read too")
		write(t, at("new.yaml"), "1")
		mu.Lock()
		files[at("new.yaml")] = nil
		mu.Unlock()
		tick(5, "a file that is named newly is no change")
		write(t, at("new.yaml"), "22")
		tick(5, "but what happens to it")
		tick(6, "is")
		cancel()
		<-done
	})
}

// TestWatchLate: what happens to a file between being read and being named is a change.
func TestWatchLate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "late.yaml")
	write(t, path, "1")
	read, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "22")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls := 0
		Watch(ctx, func() map[string]fs.FileInfo { return map[string]fs.FileInfo{path: read} }, time.Second, func() { calls++ })
		if calls != 1 {
			t.Errorf("%d calls, want one", calls)
		}
	})
}

// TestWatchNamedByReload: a file that the call of changed names is known from there on, and not from the next look.
func TestWatchNamedByReload(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "first.yaml"), filepath.Join(t.TempDir(), "second.yaml")
	write(t, first, "1")
	write(t, second, "1")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		files, calls := map[string]fs.FileInfo{first: nil}, 0
		time.AfterFunc(time.Second/2, func() { write(t, first, "22") })
		time.AfterFunc(5*time.Second/2, func() { write(t, second, "22") }) // it was named after two seconds
		Watch(ctx, func() map[string]fs.FileInfo { return files }, time.Second, func() { files[second] = nil; calls++ })
		if calls != 2 {
			t.Errorf("%d calls, want two", calls)
		}
	})
}

// link points a name elsewhere in one step, as config maps do.
func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name+".tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		t.Fatal(err)
	}
}
