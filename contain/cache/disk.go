package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/keep"
	"github.com/even-keel/evenkeel/site"
)

const (
	diskReaders  = 4                      // files that are read at once
	diskLoads    = 64                     // files that are read or wait for it; requests for further ones ask an endpoint
	diskWait     = 250 * time.Millisecond // for a file; asking an endpoint is faster than a disk that takes longer
	diskOffers   = 256                    // answers that wait to be written; further ones stay in memory only
	diskLeast    = 10 * time.Second       // an answer that is useful for less is not worth a file
	diskRenewed  = time.Minute            // the same for one that an endpoint only said of that it still holds: the file says what to ask about
	diskAgain    = 10 * time.Second       // after a write that failed
	diskUpgrade  = 120                    // seconds in which another process may have the folder without a word: it drains
	diskNames    = 384                    // bytes of key and Vary; what has more stays in memory only
	diskEntry    = objectCost + diskNames // memory of one entry of the index, at the most
	diskBlock    = 4 << 10                // what a file takes is counted in blocks of file systems
	earlyMost    = 10_000                 // of what was forgotten while the folder is read; more empty it
	markAnswer   = ".answer"
	markUnwhole  = ".new"
	clockTrusted = time.Minute // an answer from further in the future was kept by a clock that went wrong
)

// disk keeps answers in files behind those in memory, so that they outlive a restart and may be more than memory holds. Files are written by one goroutine,
// after the answer is in memory, and read by a few, for whom requests wait a moment at the most. Nothing is synced: a checksum tells after a crash
// what is whole. What is where stands in memory: an index of objects without fields and bodies, found and evicted as those in memory are.
//
// A change forgets index, memory and index again: so neither a file that is being written nor one that is being read brings back what was forgotten.
type disk struct {
	folder *keep.Folder
	index  *store
	memory *store
	now    func() time.Time
	claim  func(int64) bool // memory for what is read; a negative number gives it back
	event  func(string)

	offers  chan *Object
	pending atomic.Int64 // bytes of offers
	bound   atomic.Int64 // of pending
	asks    chan *load
	doom    chan struct{} // doomed is not empty
	ready   atomic.Bool   // the folder is ours, and read
	down    atomic.Bool   // the last write failed
	retryAt time.Time     // of the writer
	written uint64        // files so far, for their names

	mu     sync.Mutex
	doomed []string // files whose answers are not in the index any more; at most as many as there were
	loads  map[*Object]*load
	early  []func(*Object) bool // what was forgotten before ready

	hits, late, busy, damaged, writes, unwritten, failed atomic.Uint64
}

// load is one file that is read. done is closed when found says what came of it.
type load struct {
	o     *Object
	done  chan struct{}
	found bool
}

func newDisk(cfg *site.CacheDisk, memory *store, now func() time.Time, event func(string)) *disk {
	d := &disk{
		folder: keep.NewFolder(cfg.Path), index: newStore(int64(cfg.Size)), memory: memory, now: now, event: event,
		offers: make(chan *Object, diskOffers), asks: make(chan *load, diskLoads), doom: make(chan struct{}, 1), loads: map[*Object]*load{},
	}
	d.index.seed = memory.seed // one hash of a key serves both
	d.index.gone = d.condemn
	return d
}

// update changes how much may be there. The index takes half as much again as memory at the most.
func (d *disk) update(size, memory int64) {
	d.index.bound(size, memory/2/diskEntry, d.now())
	d.bound.Store(memory / 8)
}

// condemn notes that a file is not needed any more. It is called with the index locked, and waits for nothing.
func (d *disk) condemn(o *Object) {
	d.mu.Lock()
	d.doomed = append(d.doomed, o.file)
	d.mu.Unlock()
	select {
	case d.doom <- struct{}{}:
	default:
	}
}

// offer has o written some time later, if that is worth it and there is room among those that wait.
func (d *disk) offer(o *Object) {
	if d == nil || o.volatile || o.print == 0 || o.names() > diskNames || !o.useful(d.now().Add(diskLeast)) {
		return
	}
	if d.pending.Add(o.size) <= d.bound.Load() {
		select {
		case d.offers <- o:
			return
		default:
		}
	}
	d.pending.Add(-o.size)
	d.unwritten.Add(1)
}

// names is how many bytes tell o from others.
func (o *Object) names() int {
	n := len(o.key) + len(o.extra)
	for i := range o.vary {
		n += len(o.vary[i].name) + len(o.vary[i].value)
	}
	return n
}

// forget forgets what is kept of a key. It is called before and after memory forgets it.
func (d *disk) forget(key []byte) {
	if d == nil {
		return
	}
	if !d.ready.Load() {
		name := string(key)
		d.note(func(o *Object) bool { return o.key == name })
	}
	d.index.forget(key)
}

// purge is the same for a route and a prefix.
func (d *disk) purge(route, prefix string) int {
	if d == nil {
		return 0
	}
	if !d.ready.Load() {
		d.note(func(o *Object) bool {
			return (route == "" || routeOf(o.extra) == route) && strings.HasPrefix(o.key, prefix)
		})
	}
	return d.index.purge(route, prefix)
}

// note remembers what was forgotten until the folder is read.
func (d *disk) note(is func(*Object) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.early) >= earlyMost {
		d.early, is = nil, func(*Object) bool { return true }
	}
	d.early = append(d.early, is)
}

// bring looks for what q asks for, takes it into memory, and reports whether it did. It waits until end at the latest, if that is not zero.
func (d *disk) bring(q *query, print uint64, end time.Time) bool {
	if !d.ready.Load() {
		return false
	}
	o := d.index.find(q).object
	if o == nil {
		return false
	}
	if o.print != print || !o.useful(q.now) { // kept by other rules, or for nothing
		d.index.drop(o)
		return false
	}
	d.mu.Lock()
	l := d.loads[o]
	if l == nil {
		if len(d.loads) == diskLoads {
			d.mu.Unlock()
			d.busy.Add(1)
			return false
		}
		l = &load{o: o, done: make(chan struct{})}
		d.loads[o] = l
		d.asks <- l // has room for all loads
	}
	d.mu.Unlock()
	wait := diskWait
	if !end.IsZero() {
		wait = min(wait, end.Sub(q.now))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-l.done:
		return l.found
	case <-t.C:
		d.late.Add(1)
		return false
	}
}

// run reads the folder and then reads and writes files until ctx ends.
func (d *disk) run(ctx context.Context) {
	defer d.folder.Close()
	if !d.own(ctx) {
		return
	}
	d.scan(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	for range diskReaders {
		readers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case l := <-d.asks:
					d.read(l)
				}
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			for len(d.offers) > 0 { // what came in last is kept too
				d.write(<-d.offers)
			}
			d.bury()
			return
		case o := <-d.offers:
			d.write(o)
		case <-d.doom:
		}
		d.bury()
	}
}

// own waits until the folder is ours: before an upgrade is over it belongs to the process that drains.
func (d *disk) own(ctx context.Context) bool {
	told := false
	for tries := 0; ; tries++ {
		ours, err := d.folder.Own()
		if ours {
			return true
		}
		if err == nil && tries >= diskUpgrade {
			err = errors.New("another process has it")
		}
		if err != nil && !told {
			told = true
			d.event(fmt.Sprintf("answers are kept in memory only, because cache.disk cannot be used: %v", err))
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
		}
	}
}

// scan reads the heads of all files, and removes what is no whole answer. Other files than those of a cache are left alone.
func (d *disk) scan(ctx context.Context) {
	dir, err := os.Open(d.folder.Dir())
	if err != nil {
		d.fail(err)
		return
	}
	defer dir.Close()
	var all []*Object
	for ctx.Err() == nil {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			switch filepath.Ext(name) {
			case markUnwhole:
				_ = os.Remove(filepath.Join(d.folder.Dir(), name))
			case markAnswer:
				if o := d.head(name); o != nil {
					all = append(all, o)
				}
			}
		}
		if err != nil {
			break
		}
	}
	slices.SortFunc(all, func(a, b *Object) int { return cmp.Or(a.born.Compare(b.born), cmp.Compare(a.file, b.file)) })
	now := d.now()
	for _, o := range all {
		if !o.useful(now) || !d.index.put(o, now) {
			d.condemn(o)
		}
	}
	d.mu.Lock()
	early := d.early // what is forgotten from here on is in the index
	d.mu.Unlock()
	for _, o := range all {
		if slices.ContainsFunc(early, func(is func(*Object) bool) bool { return is(o) }) {
			d.index.drop(o)
		}
	}
	d.ready.Store(true)
	d.mu.Lock()
	d.early = nil
	d.mu.Unlock()
}

// head is a file without its body; nil: it was none that is whole.
func (d *disk) head(name string) *Object {
	path := filepath.Join(d.folder.Dir(), name)
	o, err := readHead(path)
	if err == nil && o.born.After(d.now().Add(clockTrusted)) {
		err = errDamaged
	}
	if err != nil {
		d.damaged.Add(1)
		_ = os.Remove(path)
		return nil
	}
	o.file = name
	return o
}

func readHead(path string) (*Object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, frameSize)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	fr, err := readFrame(b)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || st.Size() != fr.size() {
		return nil, errors.Join(err, errDamaged)
	}
	b = make([]byte, fr.head)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	o, err := fr.decodeHead(b)
	if err != nil {
		return nil, err
	}
	return stub(o, "", fr.size()), nil
}

// stub is what the index knows of o, whose file has so many bytes.
func stub(o *Object, file string, size int64) *Object {
	s := &Object{
		key: o.key, extra: o.extra, print: o.print, vary: o.vary, file: file, born: o.born, life: o.life, whileRevalidate: o.whileRevalidate, ifError: o.ifError,
		ifOverloaded: o.ifOverloaded, always: o.always, strict: o.strict, plain: o.plain, size: (size + diskBlock - 1) / diskBlock * diskBlock,
	}
	if o.validator() {
		s.etag = []byte{} // that there is one is all that matters
	}
	return s
}

// read takes one file into memory. What is damaged is removed, and never used.
func (d *disk) read(l *load) {
	defer func() {
		d.mu.Lock()
		delete(d.loads, l.o)
		d.mu.Unlock()
		close(l.done)
	}()
	if !d.claim(l.o.size) {
		d.busy.Add(1)
		return
	}
	defer d.claim(-l.o.size)
	o, err := d.load(l.o)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.damaged.Add(1)
		}
		d.index.drop(l.o)
		return
	}
	if l.found = d.memory.add(o, d.now()); l.found && !d.index.holds(l.o) { // forgotten meanwhile
		d.memory.drop(o)
		l.found = false
	}
	if l.found {
		d.hits.Add(1)
	}
}

func (d *disk) load(s *Object) (*Object, error) {
	f, err := os.Open(filepath.Join(d.folder.Dir(), s.file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > s.size {
		return nil, errDamaged
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	o, err := decode(b)
	if err == nil && (o.key != s.key || o.extra != s.extra || o.print != s.print || !slices.Equal(o.vary, s.vary)) {
		err = errDamaged
	}
	return o, err
}

// write writes o, unless it was forgotten or evicted meanwhile.
func (d *disk) write(o *Object) {
	defer d.pending.Add(-o.size)
	now := d.now()
	if now.Before(d.retryAt) || !d.memory.holds(o) {
		d.unwritten.Add(1)
		return
	}
	b := encode(o)
	if b == nil {
		d.unwritten.Add(1)
		return
	}
	d.written++
	name := fmt.Sprintf("%x-%x%s", now.UnixNano(), d.written, markAnswer)
	path := filepath.Join(d.folder.Dir(), name)
	err := os.WriteFile(path+markUnwhole, b, 0o600)
	if err == nil {
		err = os.Rename(path+markUnwhole, path)
	}
	if err != nil {
		_ = os.Remove(path + markUnwhole)
		d.fail(err)
		return
	}
	if d.down.Swap(false) {
		d.event("cache.disk is written again")
	}
	s := stub(o, name, int64(len(b)))
	switch {
	case !d.index.put(s, now):
		d.condemn(s)
		d.unwritten.Add(1)
	case !d.memory.holds(o):
		d.index.drop(s)
	default:
		d.writes.Add(1)
	}
}

// fail tells of a folder that cannot be written, once, and leaves it alone for a while.
func (d *disk) fail(err error) {
	d.failed.Add(1)
	d.retryAt = d.now().Add(diskAgain)
	if !d.down.Swap(true) {
		d.event(fmt.Sprintf("answers are kept in memory only, because cache.disk cannot be written: %v", err))
	}
}

// bury removes files that are not needed any more.
func (d *disk) bury() {
	d.mu.Lock()
	list := d.doomed
	d.doomed = nil
	d.mu.Unlock()
	for _, name := range list {
		_ = os.Remove(filepath.Join(d.folder.Dir(), name))
	}
}

// DiskStatus is what the disk tier of a cache holds.
type DiskStatus struct {
	Bytes, Most, Entries                                          int64
	Hits, Late, Busy, Damaged, Writes, Unwritten, Failed, Evicted uint64
	Down                                                          bool // the last write failed
}

func (d *disk) status() *DiskStatus {
	if d == nil {
		return nil
	}
	d.index.mu.Lock()
	most := d.index.most
	d.index.mu.Unlock()
	return &DiskStatus{
		Bytes: d.index.bytes.Load(), Most: most, Entries: d.index.entries.Load(), Hits: d.hits.Load(), Late: d.late.Load(), Busy: d.busy.Load(),
		Damaged: d.damaged.Load(), Writes: d.writes.Load(), Unwritten: d.unwritten.Load(), Failed: d.failed.Load(), Evicted: d.index.evicted.Load(),
		Down: d.down.Load(),
	}
}
