package journal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// Sizes of the files.
const (
	pageSize   = 4096
	tempSize   = 64 << 20 // of a temporary store: nobody said that it may fill the system's temporary folder
	logShare   = 8        // the log may have an eighth of the size, and never more than
	logMost    = 8 << 20
	cacheBytes = 8 << 20         // of one connection
	openTick   = 5 * time.Second // how often a store that cannot be opened is tried again
	fileName   = "events.db"
	asideDir   = "set-aside"
	tempPrefix = "evenkeel-events-"
	lockFile   = "owner.lock"
)

// codes of SQLite. The low byte says what it is.
const (
	codeCorrupt    = 11
	codeFull       = 13
	codeConstraint = 19
	codeNotADB     = 26
)

// place is where the store lies. It outlives sessions, so that a change of settings loses nothing.
type place struct {
	s    *Store
	temp string
	lock *os.File
}

// dir is the store's folder, made when it is not there.
func (p *place) dir() (dir string, temporary bool, err error) {
	if p.s.deps.Dir != "" {
		return p.s.deps.Dir, false, os.MkdirAll(p.s.deps.Dir, 0o700)
	}
	if p.temp == "" {
		p.sweep()
		if p.temp, err = os.MkdirTemp(p.s.deps.Temp, tempPrefix); err != nil {
			return "", true, err
		}
		p.lock, err = lockDir(p.temp)
	}
	return p.temp, true, err
}

// sweep removes temporary stores of processes that were killed. Those without a lock file are being made just now.
func (p *place) sweep() {
	root := p.s.deps.Temp
	if root == "" {
		root = os.TempDir()
	}
	left, _ := filepath.Glob(filepath.Join(root, tempPrefix+"*"))
	for _, dir := range left {
		if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
			continue
		}
		if lock, err := lockDir(dir); err == nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}
}

// lockDir takes a folder for this process. The kernel gives it back when the process dies.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// remove ends a temporary store.
func (p *place) remove() {
	if p.temp != "" {
		os.RemoveAll(p.temp)
	}
	if p.lock != nil {
		p.lock.Close()
	}
}

// session is an open store.
type session struct {
	s         *Store
	dir, path string
	temporary bool
	most      int64   // bytes of file and log
	write     *sql.DB // one connection
	read      *sql.DB // for questions
	last      int64   // newest id that was given
	rows      map[string]int64
	trimmed   time.Time
}

// connector opens connections with our functions.
type connector struct {
	driver *sqlite.Driver
	dsn    string
}

// Connect implements driver.Connector.
func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return c.driver }

// dsn names a file and what holds for a connection to it.
func dsn(path, mode string, pragmas ...string) string {
	v := url.Values{"mode": {mode}}
	for _, p := range append([]string{"busy_timeout(5000)", "cache_size(-" + strconv.Itoa(cacheBytes>>10) + ")", "trusted_schema(0)"}, pragmas...) {
		v.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: v.Encode()}).String()
}

// logBytes is how large the write-ahead log may get before it is written back.
func logBytes(most int64) int64 { return min(most/logShare, logMost) }

// batchRoom is how many entries go into one transaction: the log of a small store must take them beside what it holds already.
func (e *session) batchRoom() int {
	return int(min(max(logBytes(e.most)/2/batchBytes, batchLeast), batchMost))
}

// open opens the store, and puts aside what cannot be read.
func (s *Store) open(p *place) (*session, error) {
	dir, temporary, err := p.dir()
	if err != nil {
		return nil, fmt.Errorf("the folder of events cannot be made: %w", err)
	}
	e := &session{s: s, dir: dir, path: filepath.Join(dir, fileName), temporary: temporary, most: int64(s.cfg.Load().Retention.Size)}
	if temporary {
		e.most = min(e.most, tempSize)
	}
	err = e.connect()
	if damaged(err) {
		e.close()
		if err := e.putAside(err); err != nil {
			return nil, err
		}
		err = e.connect()
	}
	if err != nil {
		e.close()
		return nil, fmt.Errorf("the store of events %s cannot be opened: %w", e.path, err)
	}
	return e, nil
}

// errVersion is a store of another layout.
var errVersion = errors.New("it was written by another version of evenkeel")

// damaged says that a file is none of ours, or none any more.
func damaged(err error) bool {
	if errors.Is(err, errVersion) {
		return true
	}
	code := codeOf(err)
	return code == codeCorrupt || code == codeNotADB
}

// codeOf is what SQLite says, 0: it is not SQLite that says it.
func codeOf(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// connect opens the connections, makes the tables when there are none, and looks whether the newest rows can be read.
func (e *session) connect() (err error) {
	pages := max((e.most-logBytes(e.most))/pageSize, 256)
	e.write = sql.OpenDB(&connector{newDriver(false, ""), dsn(e.path, "rwc", "auto_vacuum(incremental)", "journal_mode(wal)", "synchronous(full)",
		"wal_autocheckpoint("+strconv.FormatInt(max(logBytes(e.most)/pageSize/2, 64), 10)+")", "journal_size_limit("+strconv.FormatInt(logBytes(e.most), 10)+")",
		"max_page_count("+strconv.FormatInt(pages, 10)+")")})
	e.write.SetMaxOpenConns(1)
	var has int
	if err := e.write.QueryRow("PRAGMA user_version").Scan(&has); err != nil {
		return err
	}
	switch has {
	case version:
	case 0:
		if err := e.create(); err != nil {
			return err
		}
	default:
		return errVersion
	}
	if err := e.look(); err != nil {
		return err
	}
	e.read = sql.OpenDB(&connector{newDriver(true, e.s.deps.Site), dsn(e.path, "ro")})
	e.read.SetMaxOpenConns(questionsAtOnce + 2) // pages of the console wait for nobody's question
	e.read.SetConnMaxIdleTime(time.Minute)
	return nil
}

// create makes the tables. What is there already under another name shows that the file is not ours.
func (e *session) create() error {
	tx, err := e.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(layout + "PRAGMA user_version = " + strconv.Itoa(version)); err != nil {
		if strings.Contains(err.Error(), "already exists") {
			return errVersion
		}
		return err
	}
	return tx.Commit()
}

// look reads the ends of all tables, and counts their rows.
func (e *session) look() error {
	e.rows = map[string]int64{}
	for _, t := range kept {
		var n int64
		var last sql.NullInt64
		if err := e.write.QueryRow("SELECT count(*), max("+t.key+") FROM "+t.name).Scan(&n, &last); err != nil {
			return err
		}
		e.rows[t.name] = n
		if t.key == "id" {
			e.last = max(e.last, last.Int64)
		}
	}
	return nil
}

// close closes the connections.
func (e *session) close() error {
	var errs []error
	for _, db := range []*sql.DB{e.read, e.write} { // the last one writes the log back
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// putAside moves a damaged file away, and removes one that was put there before: damage must not fill the disk.
func (e *session) putAside(why error) error {
	aside := filepath.Join(e.dir, asideDir)
	os.RemoveAll(aside)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return fmt.Errorf("damaged events cannot be put aside: %w", err)
	}
	name := e.s.deps.Now().UTC().Format("20060102T150405-") + fileName
	for _, end := range []string{"", "-wal", "-shm"} {
		err := os.Rename(e.path+end, filepath.Join(aside, name+end))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("damaged events cannot be put aside: %w", err)
		}
	}
	text := fmt.Sprintf("the store of events was damaged (%v): it begins anew, and what it was lies in %s", why, filepath.Join(aside, name))
	e.s.mu.Lock()
	e.s.aside = append(e.s.aside, text)
	e.s.mu.Unlock()
	e.s.deps.Log.Warn(text)
	e.s.deps.Event("events", text)
	return nil
}

// bytes is the size of file and log.
func (e *session) bytes() (n int64) {
	for _, end := range []string{"", "-wal"} {
		if st, err := os.Stat(e.path + end); err == nil {
			n += st.Size()
		}
	}
	return n
}
