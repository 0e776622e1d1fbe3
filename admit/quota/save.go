package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/keep"
)

// file is what writing needs of a file. Tests put full disks here.
type file interface {
	Write(b []byte) (int, error)
	Sync() error
	Truncate(size int64) error
}

// pending is an amount that is on its way into a file.
type pending struct {
	a     *account
	w     *window
	delta used
}

// save appends what was counted since the last call to the own journal, and makes it last. What cannot be
// written is tried again at the next call.
func (k *keeper) save() error {
	for _, t := range k.book.list() {
		list := t.changed()
		for len(list) > 0 {
			rest, err := k.saveSome(t, list)
			if err != nil {
				for _, a := range rest {
					a.dirty.Store(false)
					t.note(a)
				}
				return err
			}
			list = rest
		}
	}
	return nil
}

// saveSome writes one record with what has changed in the first accounts of list, and returns the others. With an error
// these are all of which nothing was written.
func (k *keeper) saveSome(t *table, list []*account) (rest []*account, err error) {
	body := appendTable(nil, t.mark)
	begin := len(body)
	var all []pending
	n := 0
	for ; n < len(list) && len(body) < bodyAim; n++ {
		a := list[n]
		a.dirty.Store(false) // from now on it is noted again when it counts
		var moved bool
		all, moved = a.unsaved(all)
		k.want = k.want || moved
		for _, p := range all[len(all)-pendingOf(all, a):] {
			body = appendEntry(body, entry{a.packed, p.w.start, p.delta})
		}
	}
	if len(body) > begin {
		if err := k.append(body); err != nil {
			return list, err
		}
	}
	for _, p := range all {
		p.a.mu.Lock()
		p.w.saved.calls += p.delta.calls
		p.w.saved.bytes += p.delta.bytes
		p.a.mu.Unlock()
	}
	return list[n:], nil
}

// pendingOf is how many at the end of all are of a.
func pendingOf(all []pending, a *account) (n int) {
	for n < len(all) && all[len(all)-1-n].a == a {
		n++
	}
	return n
}

// unsaved appends what the account has counted and no file has. moved: a wrong clock was put right.
func (a *account) unsaved(all []pending) (_ []pending, moved bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := a.now.Load(); w != nil && w.start != gone; w = w.prev {
		moved = moved || w.moved
		w.moved = false
		d := used{w.calls.Load() - w.saved.calls, w.bytes.Load() - w.saved.bytes}
		if d != (used{}) {
			all = append(all, pending{a, w, d})
		}
	}
	return all, moved
}

// append adds a record to the own journal. After an error the journal is as it was, or is not used any more.
func (k *keeper) append(body []byte) error {
	if k.own == nil {
		own, err := k.openJournal()
		if err != nil {
			return err
		}
		k.own = own
	}
	j := k.own
	record := appendRecord(nil, j.place.number, body)
	err := writeSynced(j.file, record)
	if err == nil {
		j.place.offset += int64(len(record))
		j.place.number++
		return nil
	}
	// A record that was half written would look like damage once others follow it.
	if bad := j.file.Truncate(j.place.offset); bad != nil || !errors.Is(err, syscall.ENOSPC) {
		k.leave()
	}
	return err
}

// writeSynced writes b and makes it last.
func writeSynced(f file, b []byte) error {
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// leave closes the own journal. It counts as one that was read to its end.
func (k *keeper) leave() {
	if k.own != nil {
		k.own.file.Close()
		k.seen[k.own.id] = &other{place: k.own.place, done: true, ended: k.book.now()}
		k.own = nil
	}
}

// openJournal makes the own journal. It gets its name only when it is locked, so that nobody takes it for that of a process that ended.
func (k *keeper) openJournal() (*journal, error) {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder cannot be made: %w", err)
	}
	k.takeLock()
	id := newID()
	path := filepath.Join(k.dir, journalMark+id)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("a journal cannot be opened: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = writeSynced(f, header(kindJournal, id))
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = keep.SyncDir(k.dir)
	}
	if err != nil {
		f.Close()
		_, _ = os.Remove(path+".new"), os.Remove(path)
		return nil, fmt.Errorf("a journal cannot be opened: %w", err)
	}
	return &journal{file: f, id: id, place: filePlace{offset: int64(headerBytes)}}, nil
}

// due says whether a snapshot should be written.
func (k *keeper) due() bool {
	if k.lock == nil || k.stuck {
		return false
	}
	if !k.snapshotAt.IsZero() && k.book.now().Sub(k.snapshotAt).Abs() < snapshotPause {
		return false
	}
	return k.want || k.own != nil && k.own.place.offset > max(journalMost, snapshotRatio*k.snapshotBytes)
}

// snapshot writes all that is known beside the old snapshot and puts it in its place. The old one stays as snapshot.old, with the
// journals that it lacks, so that a damaged snapshot loses nothing.
func (k *keeper) snapshot() error {
	k.snapshotAt = k.book.now() // a failure waits as long as a success
	k.leave()                   // all that follows is not in this snapshot
	list := map[string]folded{}
	for id, o := range k.seen {
		if !o.bad {
			list[id] = folded{o.place.offset, o.done}
		}
	}
	path := filepath.Join(k.dir, nameSnapshot)
	size, err := k.writeSnapshot(path+".new", k.encode(list))
	if err != nil {
		_ = os.Remove(path + ".new")
		return fmt.Errorf("the snapshot cannot be written: %w", err)
	}
	old := filepath.Join(k.dir, nameOld)
	if err := os.Rename(path, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the old snapshot cannot be kept: %w", err)
	}
	if err := errors.Join(os.Rename(path+".new", path), keep.SyncDir(k.dir)); err != nil {
		return fmt.Errorf("the snapshot cannot be put in place: %w", err)
	}
	k.drop()
	k.taken, k.snapshotBytes, k.want = list, size, false
	return nil
}

// drop removes journals that both snapshots have taken in to their end, and what a crash left half made.
func (k *keeper) drop() {
	for id, f := range k.taken {
		o := k.seen[id]
		if !f.complete || o == nil || !o.done || k.book.now().Sub(o.ended).Abs() < journalGrace {
			continue
		}
		if err := os.Remove(filepath.Join(k.dir, journalMark+id)); err == nil || errors.Is(err, fs.ErrNotExist) {
			delete(k.seen, id)
		}
	}
	half, _ := filepath.Glob(filepath.Join(k.dir, journalMark+"*.new"))
	for _, path := range half {
		// One that another process is making just now is locked or younger than a minute.
		if st, err := os.Stat(path); err == nil && k.book.now().Sub(st.ModTime()) > time.Minute {
			_ = os.Remove(path)
		}
	}
}

// encode is a snapshot as a file. It holds what is in files already, so that it fits the places to which journals were read: 45 bytes
// per key with a name of 16 letters.
func (k *keeper) encode(list map[string]folded) []byte {
	b := header(kindSnapshot, newID())
	number := uint32(0)
	put := func(body []byte) {
		b = appendRecord(b, number, body)
		number++
	}
	for _, id := range slices.Sorted(maps.Keys(list)) {
		put(appendFolded(nil, id, list[id]))
	}
	entries := uint64(0)
	for _, t := range k.book.list() {
		begin := appendTable(nil, t.mark)
		body := slices.Clone(begin)
		span := t.span(k.book.now())
		t.each(func(a *account) {
			for _, p := range a.inFiles(t.period.reach(span)) {
				body = appendEntry(body, entry{a.packed, p.w.start, p.delta})
				entries++
			}
			if len(body) > bodyAim {
				put(body)
				body = append(body[:0], begin...)
			}
		})
		if len(body) > len(begin) {
			put(body)
		}
	}
	put(appendEnd(nil, entries))
	return b
}

// inFiles is what files have of the account in spans from reach on.
func (a *account) inFiles(reach int64) (all []pending) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := a.now.Load(); w != nil && w.start >= reach; w = w.prev {
		if w.saved != (used{}) {
			all = append(all, pending{a, w, w.saved})
		}
	}
	return all
}

// writeSnapshot writes b, and meanwhile what is counted, so that a large snapshot on a slow disk does not lengthen what a crash loses.
func (k *keeper) writeSnapshot(path string, b []byte) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	const piece = 8 << 20
	size, saved := int64(len(b)), time.Now()
	for len(b) > 0 && err == nil {
		n := min(len(b), piece)
		err = writeSynced(f, b[:n])
		b = b[n:]
		if err == nil && time.Since(saved) >= saveEvery {
			err = k.save()
			saved = time.Now()
		}
	}
	return size, errors.Join(err, f.Close())
}
