package quota

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/keep"
)

// Names of files in the folder.
const (
	nameSnapshot = "snapshot"
	nameOld      = "snapshot.old"
	journalMark  = "journal-"
)

// When a snapshot is written: when the own journal has grown to this and to twice the last snapshot, so that what is written in
// all stays below three times what is counted, and not more often than every ten seconds.
const (
	journalMost   = 4 << 20
	snapshotRatio = 2
	snapshotPause = 10 * time.Second
)

// journalGrace is how long a journal stays that no snapshot needs any more: another process that counts here looks for new
// journals every second, and must not miss one because its disk stood still.
const journalGrace = time.Minute

// fileMost bounds what is read of one file: ten million keys with long names.
const fileMost = 4 << 30

// keeper keeps the counts of a book in files. Every process appends what it counts to a journal of its own, which it holds a lock
// on while it lives, and takes in what others append to theirs: while a successor takes over from a process that drains, both count
// and each has the other's counts a second later. Whoever holds the folder's lock now and then writes all that it knows as a
// snapshot. All methods but newKeeper are called by one goroutine at a time.
type keeper struct {
	book   *Book
	dir    string
	lock   *os.File // held: this process writes snapshots; nil: another one does
	own    *journal
	seen   map[string]*other // journals of others by id, and own ones that are closed
	taken  map[string]folded // what the snapshot on disk has taken in
	loaded bool
	stuck  bool // a snapshot that cannot be set aside is in the way of the next

	snapshotBytes int64
	snapshotAt    time.Time
	want          bool // write a snapshot soon
}

// journal is the own journal.
type journal struct {
	file  *os.File
	id    string
	place filePlace
}

// other is the journal of another process.
type other struct {
	file  *os.File
	place filePlace
	done  bool // its process has ended, and all of it was read
	ended time.Time
	bad   bool
	told  bool // that it cannot be read
}

func newKeeper(b *Book, dir string) *keeper {
	return &keeper{book: b, dir: dir, seen: map[string]*other{}, taken: map[string]folded{}}
}

// trouble notes and tells what is wrong, once, and that it is well again.
func (k *keeper) trouble(err error) {
	was, text := k.book.Trouble(), ""
	if err != nil {
		text = "what quotas count cannot be written, they are kept in memory and it is tried again every second: " + err.Error()
	}
	if (text == "") == (was == "") {
		return
	}
	k.book.trouble.Store(&text)
	if text != "" {
		k.book.alarm(text)
		return
	}
	k.book.event("what quotas count is written again")
}

// load reads all that is there, once there is a quota to read it for.
func (k *keeper) load() {
	if k.loaded || len(k.book.list()) == 0 {
		return
	}
	k.loaded = true
	k.takeLock()
	if !k.loadSnapshot(nameSnapshot) {
		k.loadSnapshot(nameOld)
	}
	k.follow()
	for id, o := range k.seen {
		k.want = k.want || o.done && o.place.offset > k.taken[id].offset
	}
	// Opened now, so that a folder that cannot be written to is told of at the start, and the first write takes no longer than others.
	own, err := k.openJournal()
	if err == nil {
		k.own = own
	}
	k.trouble(err)
}

// loadSnapshot takes in a snapshot; false when there is none that can be read.
func (k *keeper) loadSnapshot(name string) bool {
	path := filepath.Join(k.dir, name)
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false
	}
	if err != nil {
		k.stuck = true // what it holds must not be overwritten
		k.book.alarm("the quota file " + path + " cannot be read, so no snapshot is written until evenkeel is started anew: " + err.Error())
		return false
	}
	if err := checkSnapshot(b); err != nil {
		k.setAside(name, err)
		return false
	}
	k.snapshotBytes = int64(len(b))
	_, _ = readRecords(b[headerBytes:], filePlace{offset: int64(headerBytes)}, func(body []byte, at int64) error {
		return parseBody(body, at, sink{entry: k.apply, folded: func(id string, f folded) { k.taken[id] = f }})
	})
	return true
}

// checkSnapshot says what is wrong with a snapshot: nothing is taken from one that is not whole.
func checkSnapshot(b []byte) error {
	if _, err := parseHeader(b, kindSnapshot); err != nil {
		return err
	}
	entries, told, ended := uint64(0), uint64(0), false
	place, err := readRecords(b[headerBytes:], filePlace{offset: int64(headerBytes)}, func(body []byte, at int64) error {
		if ended {
			return damaged(at, "a record follows the end")
		}
		return parseBody(body, at, sink{entry: func(string, entry) { entries++ }, end: func(n uint64) { told, ended = n, true }})
	})
	switch {
	case err != nil:
		return err
	case !ended || place.offset != int64(len(b)):
		return damaged(place.offset, "it ends too early")
	case told != entries:
		return damaged(place.offset, "it has %d entries where %d were written", entries, told)
	}
	return nil
}

// apply adds what a file says.
func (k *keeper) apply(mark string, e entry) {
	t := k.book.byMark(mark)
	if t == nil {
		return // of a quota that the site does not name any more
	}
	h, ok := t.keys.HashPacked(e.packed)
	if !ok {
		return
	}
	now := k.book.now()
	if span := t.span(now); e.start < t.period.reach(span) {
		return // of a period that is over
	}
	if a := t.find(h); a != nil {
		a.add(t.period, now, e.start, e.delta)
	} else if a := t.enter(e.packed, h, t.span(now).start); a != nil {
		a.add(t.period, now, e.start, e.delta)
	} else {
		t.beyondKeys(k.book)
	}
}

// follow takes in what other processes have appended to their journals.
func (k *keeper) follow() {
	names, err := os.ReadDir(k.dir)
	if err != nil {
		return // there is none yet, or writing will say what is wrong
	}
	for _, entry := range names {
		id, is := strings.CutPrefix(entry.Name(), journalMark)
		if !is || !isID(id) || k.own != nil && id == k.own.id {
			continue
		}
		o := k.seen[id]
		if o == nil {
			f, err := os.Open(filepath.Join(k.dir, entry.Name()))
			if err != nil {
				continue
			}
			o = &other{file: f}
			k.seen[id] = o
		}
		if o.file != nil {
			k.followOne(id, o)
		}
	}
}

// followOne takes in what is new in one journal. At the first look the whole of it is checked before anything is taken.
func (k *keeper) followOne(id string, o *other) {
	dead := unlocked(o.file) // asked before reading: what is read then is all there will be
	b, err := readFrom(o.file, o.place.offset)
	if err != nil {
		if !o.told {
			o.told = true
			k.book.alarm("a journal of quotas cannot be read, it is tried again every second: " + err.Error())
		}
		return
	}
	place := o.place
	if place.offset == 0 {
		var found string
		if found, err = parseHeader(b, kindJournal); err == nil && found != id {
			err = damaged(0, "its first line names the id %s, its name %s", found, id)
		}
		place.offset = int64(headerBytes)
		b = b[min(len(b), headerBytes):]
	}
	if err == nil && !o.bad {
		_, err = readRecords(b, place, func(body []byte, at int64) error { return parseBody(body, at, sink{}) })
	}
	switch {
	case err != nil && !o.bad:
		o.bad = true
		if !dead {
			k.book.alarm(fmt.Sprintf("the quota journal %s of a running process is damaged, nothing more is taken from it: %v", filepath.Join(k.dir, journalMark+id), err))
		}
	case !o.bad:
		from := k.taken[id].offset
		o.place, _ = readRecords(b, place, func(body []byte, at int64) error {
			if at < from {
				return nil
			}
			return parseBody(body, at, sink{entry: k.apply})
		})
	}
	if !dead {
		return
	}
	o.done, o.ended = true, k.book.now()
	o.file.Close()
	o.file = nil
	switch {
	case o.bad:
		k.setAside(journalMark+id, cmp.Or(err, error(damaged(o.place.offset, "it was damaged while its process ran"))))
		delete(k.seen, id)
	case o.place.offset == int64(headerBytes) && len(b) == 0 && k.lock != nil:
		// Its process counted nothing.
		if os.Remove(filepath.Join(k.dir, journalMark+id)) == nil {
			delete(k.seen, id)
		}
	}
}

// setAside renames a file that cannot be read, so that nothing overwrites it and people can look at it.
func (k *keeper) setAside(name string, why error) {
	path := filepath.Join(k.dir, name)
	text := fmt.Sprintf("the quota file %s was not read, because it is damaged or foreign (%v)", path, why)
	aside, err := keep.SetAside(path, k.book.now())
	if err != nil {
		k.stuck = k.stuck || name == nameSnapshot || name == nameOld
		k.book.alarm(text + "; it could not be set aside, so no snapshot is written until it is moved away: " + err.Error())
		return
	}
	k.book.alarm(text + "; it was set aside as " + aside + ", and counting goes on with what the other files say: put the file of a backup in its place with evenkeel stopped, or remove it")
}

// step writes what was counted since the last step.
func (k *keeper) step() {
	if len(k.book.list()) == 0 {
		return
	}
	k.load()
	k.takeLock()
	k.follow()
	if k.book.fewer.Swap(false) {
		k.want = true
	}
	err := k.save()
	if err == nil && k.due() {
		err = k.snapshot()
	}
	k.trouble(err)
}

// end writes what was counted and lets go of the files.
func (k *keeper) end() {
	k.trouble(k.save())
	if k.own != nil {
		if k.own.place.number == 0 {
			_ = os.Remove(filepath.Join(k.dir, journalMark+k.own.id))
		}
		k.own.file.Close()
		k.own = nil
	}
	for _, o := range k.seen {
		if o.file != nil {
			o.file.Close()
			o.file = nil
		}
	}
	if k.lock != nil {
		k.lock.Close()
		k.lock = nil
	}
}

// takeLock takes the folder's lock if nobody has it.
func (k *keeper) takeLock() {
	if k.lock != nil {
		return
	}
	// An error is said when saving.
	k.lock, _ = keep.Lock(k.dir)
}

// unlocked says whether the process that wrote a journal has ended.
func unlocked(f *os.File) bool {
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
		return false
	}
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	return true
}

// newID names a journal.
func newID() string {
	var raw [idBytes / 2]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return hex.EncodeToString(raw[:])
}

// readFile reads a file of sane size.
func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > fileMost {
		return nil, damaged(0, "it has %d bytes, at most %d are read", st.Size(), int64(fileMost))
	}
	return os.ReadFile(path)
}

// readFrom reads what a file has from an offset on.
func readFrom(f *os.File, from int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := st.Size() - from
	if n <= 0 {
		return nil, nil
	}
	if n > fileMost {
		return nil, damaged(0, "it has %d bytes, at most %d are read", n, int64(fileMost))
	}
	b := make([]byte, n)
	read, err := f.ReadAt(b, from)
	if read == len(b) {
		err = nil
	}
	return b[:read], err
}
