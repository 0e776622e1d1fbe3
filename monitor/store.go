package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
	"golang.org/x/sys/unix"

	"github.com/even-keel/evenkeel/site"
)

// Sizes of the store: a gateway has some thousand series, not millions.
const (
	walSegment   = 16 << 20 // bytes of one file of the write-ahead log
	stripes      = 1 << 10  // of the table of series
	writeBuffer  = 64 << 10
	maxExemplars = 5000
	replayers    = 2
	longestBlock = 31 * 24 * time.Hour
	lockTick     = 250 * time.Millisecond // how often a store that another process has is looked at
	failedTick   = 30 * time.Second       // and one that cannot be opened
)

// A temporary store keeps less: nobody said that it may fill the system's temporary folder.
const (
	tempTime   = 24 * time.Hour
	tempSize   = 256 << 20
	tempPrefix = "evenkeel-monitor-"
)

// lockFile in a store's folder is held as long as a process has it.
const lockFile = "owner.lock"

// place is where the store lies. It outlives sessions, so that a change of settings loses no temporary history.
type place struct {
	m    *Monitor
	temp string
}

// dir is the store's folder, made when it is not there.
func (p *place) dir() (dir string, temporary bool, err error) {
	if p.m.deps.Dir != "" {
		return p.m.deps.Dir, false, os.MkdirAll(p.m.deps.Dir, 0o700)
	}
	if p.temp == "" {
		p.sweep()
		if p.temp, err = os.MkdirTemp(p.m.deps.Temp, tempPrefix); err != nil {
			return "", true, err
		}
	}
	return p.temp, true, nil
}

// sweep removes temporary stores of processes that were killed.
func (p *place) sweep() {
	root := p.m.deps.Temp
	if root == "" {
		root = os.TempDir()
	}
	left, _ := filepath.Glob(filepath.Join(root, tempPrefix+"*"))
	for _, dir := range left {
		// A store without a lock file is one that is being made just now, or empty.
		if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
			continue
		}
		if lock, err := lockDir(dir); err == nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}
}

// remove ends a temporary store.
func (p *place) remove() {
	if p.temp != "" {
		os.RemoveAll(p.temp)
	}
}

// store is the open database.
type store struct {
	db        *tsdb.DB
	lock      *os.File
	temporary bool
}

var errLocked = errors.New("another process has the store")

// lockDir takes a folder for this process. The kernel gives it back when the process dies.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	return f, nil
}

// openStore opens the store, and waits as long as it cannot: a predecessor may have it until it has drained, or a disk may
// be full. Its only error is that of ctx.
func (m *Monitor) openStore(ctx context.Context, cfg *site.Monitor, p *place) (*store, error) {
	told := ""
	for {
		s, err := m.tryStore(cfg, p)
		if err == nil {
			return s, nil
		}
		wait := failedTick
		if errors.Is(err, errLocked) {
			wait = lockTick
			m.say(StateStarting, err.Error())
		} else {
			m.say(StateFailed, err.Error())
		}
		if told != err.Error() {
			told = err.Error()
			m.deps.Log.Warn("history is not kept until its store can be opened", "err", err)
			if !errors.Is(err, errLocked) {
				m.deps.Event("monitor", "history is not kept: "+told)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// tryStore opens the store once.
func (m *Monitor) tryStore(cfg *site.Monitor, p *place) (s *store, err error) {
	dir, temporary, err := p.dir()
	if err != nil {
		return nil, fmt.Errorf("the store's folder cannot be made: %w", err)
	}
	s = &store{temporary: temporary}
	if s.lock, err = lockDir(dir); err != nil {
		return nil, fmt.Errorf("the store %s cannot be taken: %w", dir, err)
	}
	if s.db, err = m.mend(dir, options(cfg, temporary)); err != nil {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

// options are the store's settings.
func options(cfg *site.Monitor, temporary bool) *tsdb.Options {
	keep, size := cfg.Retention.Time, int64(cfg.Retention.Size)
	if temporary {
		keep, size = min(keep, tempTime), min(size, tempSize)
	}
	o := tsdb.DefaultOptions()
	o.RetentionDuration = keep.Milliseconds()
	o.MaxBytes = size
	o.MaxBlockDuration = max(min(keep/10, longestBlock).Milliseconds(), o.MinBlockDuration)
	o.NoLockfile = true // ours stays when a process dies, and frees itself
	o.WALSegmentSize = walSegment
	o.WALCompression = compression.Snappy
	o.WALReplayConcurrency = replayers
	o.StripeSize = stripes
	o.HeadChunksWriteBufferSize = writeBuffer
	o.EnableExemplarStorage, o.MaxExemplars = true, maxExemplars
	return o
}

// close closes the store; nil allowed.
func (s *store) close() error {
	if s == nil {
		return nil
	}
	err := s.db.Close()
	return errors.Join(err, s.lock.Close())
}

// full reports whether err says that there is no room: then nothing is damaged.
func full(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return strings.Contains(err.Error(), "no space left") // where the store's library does not wrap
}
