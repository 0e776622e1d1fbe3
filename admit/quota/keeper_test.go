package quota

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// asked sends n requests.
func (w *world) asked(customer string, n int) {
	for range n {
		w.ask(customer, 10)
	}
}

// save writes what is counted, and fails the test when that fails.
func (w *world) save() {
	w.t.Helper()
	w.book.keeper.step()
	if trouble := w.book.Trouble(); trouble != "" {
		w.t.Fatal(trouble)
	}
}

// crash lets go of the files without writing, as a kill does.
func (w *world) crash() {
	k := w.book.keeper
	k.leave()
	if k.lock != nil {
		k.lock.Close()
	}
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func both(calls int) *site.Quota {
	q := monthly(calls)
	q.Bytes = 1 << 40
	return q
}

func TestRestart(t *testing.T) {
	for _, sliding := range []bool{false, true} {
		q := both(1000)
		q.Sliding = sliding
		w := newWorld(t, t.TempDir()+"/quotas", q)
		dir := w.book.deps.Dir
		want := map[string]used{}
		r := rand.New(rand.NewPCG(7, 7))
		for range 30 {
			for c := range 10 {
				name, n := fmt.Sprint("customer ", c), r.IntN(4)
				w.asked(name, n)
				want[name] = used{want[name].calls + int64(n), want[name].bytes + 10*int64(n)}
			}
			w.clock.add(time.Hour)
			w.save()
			if r.IntN(3) == 0 {
				w.asked("customer 0", 1) // lost: it was not written
				w.crash()
				w.open(dir, q)
			}
			if r.IntN(4) == 0 {
				w.book.keeper.want = true
			}
			for name, u := range want {
				if got := w.used(name); got != u {
					t.Fatalf("sliding %v: %s has %v, want %v", sliding, name, got, u)
				}
			}
		}
		if n := len(files(t, dir, "journal-*")); n > 12 {
			t.Errorf("%d journals are left", n)
		}
	}
}

// TestFilesArePruned: snapshots keep the folder small, whatever is counted.
func TestFilesArePruned(t *testing.T) {
	w := newWorld(t, t.TempDir(), monthly(1<<40))
	for range 20 {
		w.asked("acme", 1)
		w.clock.add(time.Minute)
		w.book.keeper.want = true
		w.save()
	}
	if n := len(files(t, w.book.deps.Dir, "*")); n > 6 {
		t.Errorf("%d files are left: %v", n, files(t, w.book.deps.Dir, "*"))
	}
	w.crash()
	w.open(w.book.deps.Dir, monthly(1<<40))
	if u := w.used("acme"); u.calls != 20 {
		t.Errorf("%d calls, want 20", u.calls)
	}
}

// TestTornJournal: at every length to which a crash can cut the last record, what was written before is there, and it is
// not called damage.
func TestTornJournal(t *testing.T) {
	w := newWorld(t, t.TempDir(), monthly(1000))
	dir := w.book.deps.Dir
	w.asked("acme", 5)
	w.save()
	path := filepath.Join(dir, journalMark+w.book.keeper.own.id)
	whole := w.book.keeper.own.place.offset
	w.asked("acme", 3)
	w.save()
	w.crash()
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := whole; cut <= int64(len(full)); cut++ {
		for _, tail := range []string{"", strings.Repeat("\x00", len(full)-int(cut))} {
			fresh := t.TempDir()
			if err := os.WriteFile(filepath.Join(fresh, filepath.Base(path)), append(full[:cut:cut], tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			if tail != "" && cut > whole && cut < whole+frameBytes {
				continue // half a head: damage, which is told
			}
			v := newWorld(t, fresh, monthly(1000))
			want := int64(5)
			if strings.Trim(string(full[cut:]), "\x00") == "" && (tail != "" || cut == int64(len(full))) {
				want = 8
			}
			if got := v.used("acme").calls; got != want || len(v.events) > 0 {
				t.Fatalf("cut at %d of %d, %d zeros: %d calls, want %d; told %q", cut, len(full), len(tail), got, want, v.events)
			}
			v.crash()
		}
	}
}

// TestDamage: whichever byte of a file is changed, the file is taken whole or not at all, is told of and set aside.
func TestDamage(t *testing.T) {
	w := newWorld(t, t.TempDir(), monthly(1000))
	dir := w.book.deps.Dir
	w.asked("acme", 5)
	w.save()
	w.asked("acme", 2)
	w.asked("other", 2)
	w.save()
	w.crash()
	journal := files(t, dir, "journal-*")[0]
	whole, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	lastRecord := 0
	_, _ = readRecords(whole[headerBytes:], filePlace{offset: int64(headerBytes)}, func(_ []byte, at int64) error { lastRecord = int(at); return nil })
	for i := range whole {
		bad := append([]byte(nil), whole...)
		bad[i] ^= 0x41
		fresh := t.TempDir()
		path := filepath.Join(fresh, filepath.Base(journal))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		v := newWorld(t, fresh, monthly(1000))
		got := v.used("acme").calls
		aside := files(t, fresh, "*.corrupt-20261123T090000Z")
		switch {
		case i >= lastRecord+frameBytes: // like a record of which not all was written
			if got != 5 || len(aside) != 0 {
				t.Fatalf("byte %d: %d calls, aside %v", i, got, aside)
			}
		case got != 0 || len(aside) != 1 || len(v.events) != 1 || !strings.Contains(v.events[0], path) || !strings.Contains(v.events[0], "at byte"):
			t.Fatalf("byte %d: %d calls, aside %v, told %q", i, got, aside, v.events)
		default:
			if kept, _ := os.ReadFile(aside[0]); string(kept) != string(bad) {
				t.Fatalf("byte %d: what was set aside is not what was found", i)
			}
		}
		v.asked("acme", 1)
		v.save()
		v.crash()
	}
}

func TestDamagedSnapshot(t *testing.T) {
	build := func() *world {
		w := newWorld(t, t.TempDir(), monthly(1000))
		for range 3 {
			w.asked("acme", 5)
			w.clock.add(time.Minute)
			w.save()
			w.book.keeper.want = true
			w.save()
			w.clock.add(time.Minute)
		}
		w.asked("acme", 2)
		w.save()
		w.crash()
		return w
	}
	for name, spoil := range map[string]func(path string, b []byte) []byte{
		"cut":     func(_ string, b []byte) []byte { return b[:len(b)-5] },
		"empty":   func(string, []byte) []byte { return nil },
		"foreign": func(string, []byte) []byte { return []byte("#!/bin/sh\necho hello\n") },
		"newer":   func(_ string, b []byte) []byte { return []byte(strings.Replace(string(b), "quotas/1", "quotas/2", 1)) },
		"flipped": func(_ string, b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		w := build()
		dir := w.book.deps.Dir
		path := filepath.Join(dir, nameSnapshot)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, spoil(path, b), 0o600); err != nil {
			t.Fatal(err)
		}
		w.events = nil
		w.open(dir, monthly(1000))
		if u := w.used("acme"); u.calls != 17 {
			t.Errorf("%s: %d calls, want 17 of the old snapshot and the journals", name, u.calls)
		}
		if len(w.events) != 1 || !strings.Contains(w.events[0], "set aside as "+path+".corrupt-") || len(files(t, dir, "snapshot.corrupt-*")) != 1 {
			t.Errorf("%s: told %q", name, w.events)
		}
		w.clock.add(time.Minute)
		w.book.keeper.want = true
		w.save()
		w.crash()
		w.open(dir, monthly(1000))
		if u := w.used("acme"); u.calls != 17 {
			t.Errorf("%s: after the next snapshot %d calls, want 17", name, u.calls)
		}
		w.crash()
	}
}

// fullDisk has no room.
type fullDisk struct{ file }

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestDiskFull(t *testing.T) {
	if err := writeSynced(fullDisk{}, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	w := newWorld(t, t.TempDir(), monthly(1000))
	w.asked("acme", 5)
	w.save()
	own := w.book.keeper.own
	good := own.file
	closed, err := os.Open(filepath.Join(w.book.deps.Dir, journalMark+own.id)) // for reading: writing to it fails
	if err != nil {
		t.Fatal(err)
	}
	own.file = closed
	w.asked("acme", 5)
	w.book.keeper.step()
	if !strings.Contains(w.book.Trouble(), "tried again") || w.set.Status()[0].Trouble == "" || len(w.events) != 1 {
		t.Errorf("trouble %q, told %q", w.book.Trouble(), w.events)
	}
	w.asked("acme", 5) // it serves on
	w.book.keeper.step()
	if w.book.Trouble() != "" || len(w.events) != 2 {
		t.Errorf("trouble %q, told %q", w.book.Trouble(), w.events)
	}
	good.Close()
	w.crash()
	w.open(w.book.deps.Dir, monthly(1000))
	if u := w.used("acme"); u.calls != 15 {
		t.Errorf("%d calls, want 15", u.calls)
	}
}

// TestFolderThatCannotBeMade: it serves, tells, and keeps what it counted once the folder can be made.
func TestFolderThatCannotBeMade(t *testing.T) {
	base := t.TempDir()
	block := filepath.Join(base, "state")
	if err := os.WriteFile(block, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, filepath.Join(block, "quotas"), monthly(1000))
	w.asked("acme", 3)
	w.book.keeper.step()
	if w.book.Trouble() == "" {
		t.Error("no word of a folder that cannot be made")
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	w.save()
	w.crash()
	w.open(w.book.deps.Dir, monthly(1000))
	if u := w.used("acme"); u.calls != 3 {
		t.Errorf("%d calls, want 3", u.calls)
	}
}

// TestTwoProcesses: while a successor takes over, both count; each has the other's counts with the next step, nothing is lost
// and nothing is counted twice, whoever writes snapshots and whoever ends how.
func TestTwoProcesses(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 3))
		q := both(1 << 40)
		dir := t.TempDir()
		alive := []*world{newWorld(t, dir, q)}
		want := int64(0)
		for i := range 160 {
			if i%20 == 19 { // nobody stands still for longer than journalGrace
				for _, v := range alive {
					v.save()
				}
			}
			w := alive[r.IntN(len(alive))]
			switch r.IntN(8) {
			case 0:
				if len(alive) < 3 {
					for _, v := range alive {
						v.save()
					}
					next := &world{t: t}
					next.clock.at.Store(w.clock.at.Load())
					next.open(dir, q)
					alive = append(alive, next)
				}
			case 1:
				if len(alive) > 1 {
					w.book.keeper.end() // writes first, as an orderly stop does
					next := alive[:0]
					for _, v := range alive {
						if v != w {
							next = append(next, v)
						}
					}
					alive = next
				}
			case 2:
				w.book.keeper.want = true
				w.save()
			case 3:
				w.save()
				w.crash()
				w.open(dir, q)
			default:
				n := 1 + r.IntN(3)
				w.asked("acme", n)
				want += int64(n)
			}
			for _, v := range alive {
				v.clock.add(2500 * time.Millisecond)
			}
		}
		for range 2 {
			for _, v := range alive {
				v.save()
			}
		}
		for i, v := range alive {
			if u := v.used("acme"); u != (used{want, 10 * want}) {
				t.Fatalf("seed %d: process %d of %d has %v, want %d", seed, i+1, len(alive), u, want)
			}
			v.crash()
		}
		w := newWorld(t, dir, q)
		if u := w.used("acme"); u.calls != want {
			t.Fatalf("seed %d: after all have ended %d calls, want %d", seed, u.calls, want)
		}
		w.crash()
	}
}

// TestWrongClockOnDisk: what was counted under a clock that was years ahead stays counted after restarts, once.
func TestWrongClockOnDisk(t *testing.T) {
	w := newWorld(t, t.TempDir(), monthly(1000))
	dir := w.book.deps.Dir
	w.clock.add(70 * year)
	w.asked("acme", 5)
	w.save()
	w.clock.set(start)
	w.asked("acme", 2)
	for range 3 {
		w.save()
		w.crash()
		w.open(dir, monthly(1000))
		if u := w.used("acme"); u.calls != 7 {
			t.Fatalf("%d calls, want 7", u.calls)
		}
		w.asked("none", 1)
		w.clock.add(time.Minute)
	}
	w.save()
	w.crash()
	w.clock.add(31 * day)
	w.open(dir, monthly(1000))
	if u := w.used("acme"); u.calls != 0 {
		t.Errorf("the next month begins with %d", u.calls)
	}
}

// TestClockBackForAWhile: a clock that is months behind for some minutes, or at the start, makes no count forgotten, in memory or on disk.
func TestClockBackForAWhile(t *testing.T) {
	w := newWorld(t, t.TempDir(), monthly(1000))
	dir := w.book.deps.Dir
	sweep := func() {
		for _, t := range w.book.list() {
			t.sweep(w.clock.now())
		}
	}
	restart := func() {
		w.save()
		w.crash()
		w.open(dir, monthly(1000))
	}
	check := func(what string, want int64) {
		t.Helper()
		if u := w.used("acme"); u.calls != want {
			t.Errorf("%s: %d calls, want %d", what, u.calls, want)
		}
	}
	w.clock.set(start.AddDate(0, -1, 0))
	w.asked("acme", 100)
	w.save()
	w.clock.set(start)
	w.asked("acme", 4)
	w.save()
	w.clock.set(time.Unix(1000, 0))
	restart()
	w.clock.set(start)
	w.asked("acme", 1)
	check("the month before, which a wrong clock had not seen either, is over", 5)
	w.clock.add(-100 * day)
	w.asked("acme", 2)
	w.save()
	sweep()
	w.clock.set(start)
	sweep()
	check("the clock is right again", 7)
	w.asked("acme", 1)
	restart()
	check("after a restart", 8)
	w.clock.set(time.Unix(1000, 0))
	restart()
	w.asked("acme", 1)
	w.save()
	sweep()
	w.clock.set(start)
	sweep()
	w.asked("acme", 1)
	check("the clock was wrong at a start", 10)
	restart()
	check("and after one more", 10)
	w.clock.add(-100 * day)
	w.asked("acme", 1)
	w.save()
	w.clock.add(31 * day) // time goes on: this clock is the right one
	sweep()
	w.clock.add(69 * day)
	check("what was counted by a wrong clock is over with the period it was put in", 0)
}

// TestSpansToComeInAnyOrder: files are read in the order of their names, and of spans that have not come by a wrong clock the last one counts.
func TestSpansToComeInAnyOrder(t *testing.T) {
	p := newPeriod(monthly(1000))
	november := p.at(start)
	october := p.before(november)
	for _, spans := range [][]span{{october, november}, {november, october}} {
		a, wrong := new(account), time.Unix(1000, 0)
		a.now.Store(&window{start: p.at(wrong).start})
		for _, s := range spans {
			a.add(p, wrong, s.start, used{calls: map[int64]int64{october.start: 100, november.start: 4}[s.start]})
		}
		if w := a.window(p, start, november); w.calls.Load() != 4 {
			t.Errorf("%v: %d calls, want 4", spans, w.calls.Load())
		}
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := &world{t: t}
		w.book = NewBook(Deps{Dir: dir})
		w.set = w.book.Set(&site.Site{Quotas: []*site.Quota{monthly(1000)}}, []string{"a"})
		w.book.Load()
		w.clock.set(time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.book.Run(ctx) }()
		w.asked("acme", 3)
		<-time.After(1100 * time.Millisecond)
		synctest.Wait()
		if n := len(files(t, dir, "journal-*")); n != 1 {
			t.Errorf("%d journals after a second", n)
		}
		w.asked("acme", 4)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		next := NewBook(Deps{Dir: dir})
		set := next.Set(&site.Site{Quotas: []*site.Quota{monthly(1000)}}, []string{"a"})
		next.Load()
		if e := set.Explain(&exchange.Exchange{Customer: []byte("acme"), Route: &exchange.Route{}}); e[0].UsedCalls != 7 {
			t.Errorf("%d calls, want 7", e[0].UsedCalls)
		}
	})
}

// FuzzFiles: whatever a file holds, reading it ends without a panic, and a snapshot that passes the check says what was counted.
func FuzzFiles(f *testing.F) {
	w := newWorld(f, f.TempDir(), both(1000))
	w.asked("acme", 3)
	w.book.keeper.want = true
	w.book.keeper.step()
	w.asked("acme", 3)
	w.book.keeper.step()
	list, _ := filepath.Glob(filepath.Join(w.book.deps.Dir, "*"))
	for _, path := range list {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []string{kindJournal, kindSnapshot} {
			if _, err := parseHeader(b, kind); err == nil && len(b) < headerBytes {
				t.Fatal("half a first line passes")
			}
		}
		_ = checkSnapshot(b)
		if len(b) < headerBytes {
			return
		}
		seen := map[string]used{}
		place, err := readRecords(b[headerBytes:], filePlace{offset: int64(headerBytes)}, func(body []byte, at int64) error {
			return parseBody(body, at, sink{entry: func(mark string, e entry) { seen[mark+e.packed] = e.delta }})
		})
		if err == nil && place.offset > int64(len(b)) {
			t.Fatalf("read to %d of %d", place.offset, len(b))
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without a word")
		}
		// A body without its frame is what a checksum that fits by chance lets through.
		_ = parseBody(b, 0, sink{entry: func(mark string, e entry) { maps.Copy(seen, map[string]used{mark: e.delta}) }})
	})
}
