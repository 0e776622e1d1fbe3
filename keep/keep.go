// Package keep keeps small files so that a crash leaves the old one or the new one whole, and never takes a damaged one for a good one.
package keep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fileMost bounds what is read of one file.
const fileMost = 64 << 20

// Marks of files in a folder.
const (
	nameLock = "lock"
	markNew  = ".new"
	markOld  = ".old"
)

// A file is a line of text that says what it is, the length and the checksum of what follows, and that.
const headBytes = 48

// Folder is a folder whose files one process writes at a time. While a successor takes over from a process that drains, the
// folder belongs to whoever holds its lock. Its methods are called by one goroutine.
type Folder struct {
	dir  string
	lock *os.File
}

// NewFolder opens nothing yet.
func NewFolder(dir string) *Folder { return &Folder{dir: dir} }

// Dir is where the files are.
func (f *Folder) Dir() string { return f.dir }

// Own takes the folder's lock if nobody has it, makes the folder if it is not there, and reports whether this process holds it.
func (f *Folder) Own() (bool, error) {
	if f.lock != nil {
		return true, nil
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return false, fmt.Errorf("the folder cannot be made: %w", err)
	}
	lock, err := Lock(f.dir)
	if err != nil {
		return false, fmt.Errorf("the folder cannot be locked: %w", err)
	}
	f.lock = lock
	return lock != nil, nil
}

// Close lets go of the lock.
func (f *Folder) Close() {
	if f.lock != nil {
		f.lock.Close()
		f.lock = nil
	}
}

// Write puts body in the place of the named file. What was there stays beside it as .old until the next write.
func (f *Folder) Write(name, kind string, body []byte) error {
	path := filepath.Join(f.dir, name)
	if err := writeNew(path+markNew, append(head(kind, body), body...)); err != nil {
		_ = os.Remove(path + markNew)
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	// A link, so that there is no moment without the file.
	_ = os.Remove(path + markOld)
	if err := os.Link(path, path+markOld); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the old %s cannot be kept: %w", path, err)
	}
	if err := errors.Join(os.Rename(path+markNew, path), SyncDir(f.dir)); err != nil {
		return fmt.Errorf("%s cannot be put in place: %w", path, err)
	}
	return nil
}

// Read reads the named file, or the one before it when that is damaged. warning tells what was set aside, and why; it is
// empty when all is well. Without any file the body is nil.
func (f *Folder) Read(name, kind string, now time.Time) (body []byte, warning string, err error) {
	path := filepath.Join(f.dir, name)
	body, err = read(path, kind)
	switch {
	case err == nil:
		return body, "", nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return nil, "", nil
	case !errors.As(err, new(*DamagedError)):
		return nil, "", fmt.Errorf("%s cannot be read: %w", path, err)
	}
	aside, bad := SetAside(path, now)
	if bad != nil {
		return nil, "", fmt.Errorf("%s is damaged or foreign (%w) and cannot be set aside: %w", path, err, bad)
	}
	warning = fmt.Sprintf("%s was not read, because it is damaged or foreign (%v); it was set aside as %s", path, err, aside)
	if body, err = read(path+markOld, kind); err == nil {
		return body, warning + ", and the file before it was read", nil
	}
	return nil, warning + ", and there is none before it that can be read", nil
}

// DamagedError says why a file is not what was written.
type DamagedError struct{ Why string }

// Error implements error.
func (e *DamagedError) Error() string { return e.Why }

func damaged(format string, args ...any) error { return &DamagedError{fmt.Sprintf(format, args...)} }

func head(kind string, body []byte) []byte {
	b := make([]byte, headBytes)
	copy(b, "evenkeel "+kind+" 1\n")
	binary.LittleEndian.PutUint64(b[headBytes-12:], uint64(len(body)))
	binary.LittleEndian.PutUint32(b[headBytes-4:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func read(path, kind string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > fileMost {
		return nil, damaged("it has %d bytes, at most %d are read", st.Size(), fileMost)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < headBytes {
		return nil, damaged("it has only %d bytes", len(b))
	}
	want := head(kind, b[headBytes:])
	switch {
	case string(b[:headBytes-12]) != string(want[:headBytes-12]):
		return nil, damaged("it is no evenkeel %s of version 1", kind)
	case string(b[:headBytes-4]) != string(want[:headBytes-4]):
		return nil, damaged("it has %d bytes where others were written", len(b))
	case string(b[:headBytes]) != string(want):
		return nil, damaged("its checksum does not fit")
	}
	return b[headBytes:], nil
}

// writeNew makes a file that lasts.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Lock takes the lock of a folder until the file is closed or the process ends; nil when another process has it.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, nameLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil, f.Close()
	}
	return f, nil
}

// SetAside renames a file that cannot be read, so that nothing overwrites it and people can look at it.
func SetAside(path string, now time.Time) (aside string, err error) {
	first := path + ".corrupt-" + now.UTC().Format("20060102T150405Z")
	aside = first
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); err != nil {
			break
		}
		aside = fmt.Sprintf("%s-%d", first, n)
	}
	return aside, os.Rename(path, aside)
}

// SyncDir makes new names in the folder last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
