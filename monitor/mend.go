package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb"
)

const (
	asideDir = "set-aside" // in the store's folder; what lies there is read by nobody
	asideMax = 3           // things are kept there, so that damage does not fill the disk
	walDir   = "wal"

	blockName = 26 // characters of a block's folder, a ULID; nothing else in the store has as many
)

// mend opens the database. What is damaged is put aside, and told: history with a hole is better than none, and than a
// node that does not start.
func (m *Monitor) mend(dir string, o *tsdb.Options) (*tsdb.DB, error) {
	copied, err := linkAll(filepath.Join(dir, walDir), filepath.Join(dir, asideDir, stamp("wal", m.deps.Now())))
	if err != nil && !full(err) {
		m.deps.Log.Warn("the log of the store cannot be put aside should it be damaged", "err", err)
	}
	listener := &listener{Handler: m.deps.Log.Handler()}
	open := func() (*tsdb.DB, error) { return tsdb.Open(dir, slog.New(listener), nil, o, nil) }
	m.asideBlocks(dir, nameless) // which the store would pass over without a word
	db, err := open()
	if err != nil && !full(err) && m.asideBlocks(dir, unreadable) {
		db, err = open()
	}
	// What is left is the log, and the chunks that were made of it: those first, because the log holds their samples too.
	for _, name := range []string{"chunks_head", walDir} {
		if err == nil || full(err) {
			break
		}
		if all, _ := os.ReadDir(filepath.Join(dir, name)); len(all) > 0 {
			m.put(dir, name, fmt.Sprintf("cannot be read: %v", err))
			db, err = open()
		}
	}
	switch {
	case err != nil:
		os.RemoveAll(copied)
		return nil, fmt.Errorf("the store %s cannot be opened: %w", dir, err)
	case listener.repaired.Load() && copied != "":
		m.prune(dir)
		m.setAside(fmt.Sprintf("the log of the store was damaged: samples behind the damage are lost; what it was lies in %s", copied))
	default:
		os.RemoveAll(copied)
	}
	// Nothing else stands in the folder when all is well.
	_ = os.Remove(filepath.Join(dir, asideDir))
	return db, nil
}

// nameless says that a block does not say what it is.
func nameless(block string) error {
	b, err := os.ReadFile(filepath.Join(block, "meta.json"))
	if err == nil {
		err = json.Unmarshal(b, new(tsdb.BlockMeta))
	}
	return err
}

// unreadable says that a block cannot be opened.
func unreadable(block string) error {
	b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), block, nil, nil)
	if err == nil {
		b.Close()
	}
	return err
}

// asideBlocks puts all blocks aside that are damaged, and reports whether there were any.
func (m *Monitor) asideBlocks(dir string, damaged func(block string) error) (found bool) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range all {
		if len(e.Name()) != blockName || !e.IsDir() {
			continue
		}
		if err := damaged(filepath.Join(dir, e.Name())); err != nil && !full(err) {
			m.put(dir, e.Name(), fmt.Sprintf("is damaged: %v", err))
			found = true
		}
	}
	return found
}

// put moves a part of the store aside.
func (m *Monitor) put(dir, name, why string) {
	to := filepath.Join(dir, asideDir, stamp(name, m.deps.Now()))
	err := os.MkdirAll(filepath.Dir(to), 0o700)
	if err == nil {
		err = os.Rename(filepath.Join(dir, name), to)
	}
	if err != nil {
		m.deps.Log.Error("a damaged part of the store cannot be put aside", "part", name, "err", err)
		return
	}
	m.prune(dir)
	m.setAside(fmt.Sprintf("%s of the store %s; it was put aside to %s", name, why, to))
}

// prune removes what was put aside first, when there is too much.
func (m *Monitor) prune(dir string) {
	at := filepath.Join(dir, asideDir)
	all, err := os.ReadDir(at)
	if err != nil {
		return
	}
	age := func(e fs.DirEntry) string { // the stamp, which sorts by time
		_, at, _ := strings.Cut(e.Name(), "@")
		return at
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(age(b), age(a)) })
	for _, e := range all[min(len(all), asideMax):] {
		os.RemoveAll(filepath.Join(at, e.Name()))
	}
}

// stamp is the name of something put aside at a moment.
func stamp(name string, at time.Time) string {
	return name + "@" + at.UTC().Format("20060102T150405.000000000")
}

// linkAll copies a folder by links to its files: it costs nothing, and what the store deletes stays there. Without the folder
// there is no copy.
func linkAll(from, to string) (copied string, err error) {
	if all, err := os.ReadDir(from); err != nil || len(all) == 0 {
		return "", nil
	}
	return to, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

// listener hears in the store's log that it repaired something, for which it has no other word. Only warnings are passed on.
type listener struct {
	slog.Handler
	repaired atomic.Bool
}

func (l *listener) Enabled(_ context.Context, at slog.Level) bool { return at >= slog.LevelWarn }

func (l *listener) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "attempting repair") {
		l.repaired.Store(true)
	}
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	r.Message = "store: " + r.Message
	return l.Handler.Handle(ctx, r)
}

// WithAttrs and WithGroup keep listening.
func (l *listener) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *listener) WithGroup(string) slog.Handler { return l }
