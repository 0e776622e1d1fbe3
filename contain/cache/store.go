package cache

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/wire"
)

const (
	tableShards = 64 // tables, so that those who look something up rarely meet; a power of two
	maxVariants = 32 // answers of one key; the oldest goes when there are more
	smallShare  = 10 // the small queue gets one part in so many (S3-FIFO, SOSP 2023)
	usesMost    = 3
	ghostLeast  = 1 << 10 // hashes of what was evicted early that are remembered…
	ghostMost   = 1 << 16
	tableEras   = 1 << 8 // of each table: 64 KiB in all
)

// store keeps objects within a bound of bytes. Looking up takes the read lock of one table and moves nothing. Storing takes one lock for all, for
// about a microsecond: it happens once for each answer of an endpoint that is kept.
//
// Who has to go is found by S3-FIFO: what is new waits in a small queue, and gets into the main one only when it was used meanwhile, or is asked for again
// soon after it went. So a crawler that asks for everything once pushes nothing out that is asked for often.
type store struct {
	seed   maphash.Seed
	tables [tableShards]table

	mu          sync.Mutex // guards the queues; taken before the lock of a table
	small, main list
	ghosts      ghosts
	most        int64         // bytes
	count       int64         // objects; 0: as many as have room
	gone        func(*Object) // is told of each that goes, with the lock held; nil: nobody

	bytes, entries    atomic.Int64
	evicted, admitted atomic.Uint64

	purges atomic.Uint32
}

// table is a part of what is stored. An era of it ends when something of a key is forgotten; keys with the same hash modulo tables and eras share it.
type table struct {
	mu    sync.RWMutex
	byKey map[string]*Object
	eras  [tableEras]atomic.Uint32
}

func newStore(most int64) *store {
	s := &store{seed: maphash.MakeSeed(), most: most}
	for i := range s.tables {
		s.tables[i].byKey = map[string]*Object{}
	}
	s.ghosts.known = map[uint64]struct{}{}
	return s
}

func (s *store) hash(key []byte) uint64 { return maphash.Bytes(s.seed, key) }

func (s *store) table(hash uint64) *table { return &s.tables[hash%tableShards] }

// noEra is that of answers which are not to be stored: no era is.
const noEra = 1

// era is another one after whatever is stored under a key with that hash was forgotten, and never 0. Who asks an endpoint notes it before: an answer of an
// era that is over may tell of what was before the change, and is not stored.
func (s *store) era(hash uint64) uint64 {
	return 1<<63 | uint64(s.purges.Load())<<32 | uint64(s.eraOf(hash).Load())
}

func (s *store) eraOf(hash uint64) *atomic.Uint32 {
	return &s.table(hash).eras[hash/tableShards%tableEras]
}

// query is what is looked for.
type query struct {
	key, extra []byte
	hash       uint64
	fields     []wire.Field // of the request, as the client sent them
	personal   bool
	now        time.Time
}

// found is what is there.
type found struct {
	object *Object
	pass   bool // a mark says not to hold requests together
	others bool // there are answers for other requests of the same key
	flight uint64
}

// find looks for the newest answer that fits. flight is the same for requests that the same answer will fit, as far as is known: who comes after a change
// does not wait for what was asked before it.
func (s *store) find(q *query) (f found) {
	t := s.table(q.hash)
	f.flight = q.hash ^ maphash.Bytes(s.seed, q.extra)*31 ^ s.era(q.hash)*0x9e3779b97f4a7c15
	if q.personal {
		f.flight++
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	mixed := false
	for o := t.byKey[string(q.key)]; o != nil; o = o.next {
		switch {
		case o.extra != string(q.extra):
		case o.pass:
			f.pass = f.pass || o.personal == q.personal && o.useful(q.now)
		case o.plain && q.personal:
		case !o.fits(q.fields):
			f.others = true
			if !mixed {
				f.flight, mixed = mix(s.seed, f.flight, o.vary, q.fields), true
			}
		default:
			if n := o.uses.Load(); n < usesMost {
				o.uses.Store(n + 1)
			}
			f.object = o
			return f
		}
	}
	return f
}

// fits reports whether a request with fields is answered by o as far as Vary goes.
func (o *Object) fits(fields []wire.Field) bool {
	for i := range o.vary {
		if !o.vary[i].fits(fields) {
			return false
		}
	}
	return true
}

// like reports whether o, which is new, takes the place of p.
func (o *Object) like(p *Object) bool {
	if o.extra != p.extra {
		return false
	}
	if o.pass || p.pass { // an answer that is kept ends the marks of those whom it serves
		return p.pass && (o.pass && o.personal == p.personal || !o.pass && (!o.plain || !p.personal))
	}
	if len(o.vary) != len(p.vary) {
		return false
	}
	for i := range o.vary {
		if o.vary[i] != p.vary[i] {
			return false
		}
	}
	return true
}

// add stores o unless something like it is there, which is newer.
func (s *store) add(o *Object, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(maphash.String(s.seed, o.key))
	t.mu.RLock()
	for p := t.byKey[o.key]; p != nil; p = p.next {
		if !p.pass && o.like(p) {
			t.mu.RUnlock()
			return true
		}
	}
	t.mu.RUnlock()
	return s.place(o, now)
}

// put stores o instead of what is like it. It reports false when o is too large to be kept beside others, or its era is over.
func (s *store) put(o *Object, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place(o, now)
}

// place is put. The lock is held.
func (s *store) place(o *Object, now time.Time) bool {
	if o.size > s.most/8 {
		return false
	}
	o.hash = maphash.String(s.seed, o.key)
	t := s.table(o.hash)
	t.mu.Lock()
	if o.era != 0 && o.era != s.era(o.hash) { // with the lock: forget ends the era first, and looks what is there then
		t.mu.Unlock()
		return false
	}
	kept, n := &o.next, 0
	warm := false
	for p := t.byKey[o.key]; p != nil; p = p.next {
		if o.like(p) || n == maxVariants-1 {
			warm = warm || p.queue == &s.main
			s.unqueue(p)
			continue
		}
		*kept, kept = p, &p.next
		n++
	}
	*kept = nil
	t.byKey[o.key] = o
	t.mu.Unlock()
	if warm || s.ghosts.take(o.hash) {
		s.enqueue(&s.main, o)
	} else {
		s.enqueue(&s.small, o)
	}
	s.admitted.Add(1)
	s.shrink(now)
	return true
}

// enqueue counts o in. The lock is held.
func (s *store) enqueue(l *list, o *Object) {
	l.push(o)
	s.bytes.Add(o.size)
	s.entries.Add(1)
}

// unqueue counts o out. The lock is held.
func (s *store) unqueue(o *Object) {
	if o.queue == nil {
		return
	}
	o.queue.remove(o)
	s.bytes.Add(-o.size)
	s.entries.Add(-1)
	if s.gone != nil {
		s.gone(o)
	}
}

// holds reports whether o is stored.
func (s *store) holds(o *Object) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.queue != nil
}

// bound changes how many bytes and objects there may be; 0 objects: as many as have room.
func (s *store) bound(most, count int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most, s.count = most, count
	s.shrink(now)
}

// shrink evicts until the bound holds. The lock is held. It ends, because every object goes round the main queue usesMost times at the most.
func (s *store) shrink(now time.Time) {
	for s.bytes.Load() > s.most || s.count > 0 && s.entries.Load() > s.count {
		if o := s.small.tail; o != nil && (s.small.bytes*smallShare >= s.most || s.main.tail == nil) {
			if o.uses.Load() > 0 && o.useful(now) {
				s.small.remove(o)
				o.uses.Store(0)
				s.main.push(o)
				continue
			}
			if !o.pass {
				s.ghosts.add(o.hash, s.main.n)
			}
			s.evict(o)
			continue
		}
		o := s.main.tail
		if n := o.uses.Load(); n > 0 && o.useful(now) {
			o.uses.Store(n - 1)
			s.main.remove(o)
			s.main.push(o)
			continue
		}
		s.evict(o)
	}
}

// evict takes o out because there is no room. The lock is held.
func (s *store) evict(o *Object) {
	s.evicted.Add(1)
	s.take(o)
}

// take takes o out of queue and table. The lock is held.
func (s *store) take(o *Object) {
	s.unqueue(o)
	t := s.table(o.hash)
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.byKey[o.key]
	if first == o {
		if o.next == nil {
			delete(t.byKey, o.key)
		} else {
			t.byKey[o.key] = o.next
		}
		return
	}
	for p := first; p != nil; p = p.next {
		if p.next == o {
			p.next = o.next
			return
		}
	}
}

// drop takes o out, if it is there still.
func (s *store) drop(o *Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.queue != nil {
		s.take(o)
	}
}

// forget takes out all answers of one key.
func (s *store) forget(key []byte) (n int) {
	hash := s.hash(key)
	t := s.table(hash)
	s.eraOf(hash).Add(1)
	t.mu.RLock()
	known := t.byKey[string(key)] != nil
	t.mu.RUnlock()
	if !known {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		t.mu.RLock()
		o := t.byKey[string(key)]
		t.mu.RUnlock()
		if o == nil {
			return n
		}
		s.take(o)
		n++
	}
}

// purge takes out what is of a route, any for "", and whose key begins with prefix.
func (s *store) purge(route, prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purges.Add(1)
	for _, l := range [...]*list{&s.small, &s.main} {
		for o := l.head; o != nil; {
			older := o.back
			if (route == "" || routeOf(o.extra) == route) && strings.HasPrefix(o.key, prefix) {
				if !o.pass {
					n++
				}
				s.take(o)
			}
			o = older
		}
	}
	return n
}

// routeOf is the route in the part of a key that holds it.
func routeOf(extra string) string {
	route, _, _ := strings.Cut(extra, "\x00")
	return route
}

// list is a queue of objects, the newest at its head.
type list struct {
	head, tail *Object
	bytes      int64
	n          int
}

func (l *list) push(o *Object) {
	o.queue, o.fore, o.back = l, nil, l.head
	if l.head != nil {
		l.head.fore = o
	} else {
		l.tail = o
	}
	l.head = o
	l.bytes += o.size
	l.n++
}

func (l *list) remove(o *Object) {
	if o.fore != nil {
		o.fore.back = o.back
	} else {
		l.head = o.back
	}
	if o.back != nil {
		o.back.fore = o.fore
	} else {
		l.tail = o.fore
	}
	o.queue, o.fore, o.back = nil, nil, nil
	l.bytes -= o.size
	l.n--
}

// ghosts are hashes of what went from the small queue unused, as many as there is in the main one.
type ghosts struct {
	known map[uint64]struct{}
	ring  []uint64 // oldest first, from next on
	next  int
}

func (g *ghosts) add(hash uint64, most int) {
	most = min(max(most, ghostLeast), ghostMost)
	for len(g.ring)-g.next >= most {
		delete(g.known, g.ring[g.next])
		g.next++
	}
	if g.next > len(g.ring)/2 && g.next > ghostLeast {
		g.ring = append(g.ring[:0], g.ring[g.next:]...)
		g.next = 0
	}
	g.ring = append(g.ring, hash)
	g.known[hash] = struct{}{}
}

// take reports whether hash is known, and forgets it.
func (g *ghosts) take(hash uint64) bool {
	_, known := g.known[hash]
	delete(g.known, hash)
	return known
}
