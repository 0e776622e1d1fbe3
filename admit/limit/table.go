package limit

import (
	"math"
	"sync"
	"sync/atomic"
)

// Sizes of a table.
const (
	// lineSlots keys stand in one cache line: a key that is known is found with one miss, mostly.
	lineSlots = 4
	// keysPerShard bounds what one request may wait for: a shard grows as a whole, and 2,048 keys are moved in some 20 µs.
	keysPerShard = 2048
	// minShards keeps cores apart in small tables too.
	minShards = 16
	// firstLines is what a shard begins with: 256 bytes.
	firstLines = 4
	// anyLines is the bound of tables whose keys are bounded elsewhere.
	anyLines = math.MaxInt32
)

// slot is what a table knows of one key: 16 bytes. A slot whose value is not above "now" says nothing any more, because a key
// that is not there is answered alike: it may be taken by another key.
type slot struct {
	key   uint64
	value int64
}

// line is one cache line of slots.
type line [lineSlots]slot

// table is a hash table from keyed hashes to one number, in shards of a lock each. A key has two lines where it may stand
// (cuckoo hashing with one step; Dietzfelbinger and Weidling 2007), which fills tables to more than four fifths.
type table struct {
	shards []shard
	shift  uint8
	most   atomic.Int64 // lines of one shard
}

// shard is a part of a table. Its lock is held for some ten nanoseconds, and for some ten microseconds when it grows.
type shard struct {
	mu    sync.Mutex
	lines []line
	used  int   // slots that were ever taken
	spill int64 // the value that newcomers share while all their places are taken by keys that owe
	full  bool  // it cannot grow any more

	admitted uint64
	spilled  uint64 // newcomers that shared
	_        [48]byte
}

// newTable makes a table for so many keys that owe at once. It holds next to no memory before keys come.
func newTable(keys int) *table {
	count, shift := minShards, uint8(64-4)
	for count*keysPerShard < keys {
		count, shift = count*2, shift-1
	}
	t := &table{shards: make([]shard, count), shift: shift}
	t.resize(keys)
	return t
}

// resize says anew how many keys may be there. Shards keep their number, and what they hold.
func (t *table) resize(keys int) {
	mean := float64(keys) / float64(len(t.shards))
	// Half again as many slots as keys, and four standard deviations for shards that get more keys than others: 24 to 26 bytes per key.
	slots := 1.5*mean + 4*math.Sqrt(mean)
	t.most.Store(max(firstLines, int64(slots/lineSlots)+1))
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.full = false
		s.mu.Unlock()
	}
}

// shard is where h stands.
func (t *table) shard(h uint64) *shard { return &t.shards[h>>t.shift] }

// places are the two lines of h among n.
func places(h uint64, n int) (a, b int) {
	a = int(uint64(uint32(h)) * uint64(n) >> 32)
	b = int((h * 0x9e3779b97f4a7c15 >> 32) * uint64(n) >> 32)
	if b == a {
		if b++; b == n {
			b = 0
		}
	}
	return a, b
}

// find is the value of h; nil: it is not there.
func (s *shard) find(h uint64) *int64 {
	n := len(s.lines)
	if n == 0 {
		return nil
	}
	l := &s.lines[uint64(uint32(h))*uint64(n)>>32]
	for i := range l {
		if l[i].key == h {
			return &l[i].value
		}
	}
	_, b := places(h, n)
	l = &s.lines[b]
	for i := range l {
		if l[i].key == h {
			return &l[i].value
		}
	}
	return nil
}

// place takes a slot for h, which find did not find, with the value now. It is nil when all places that h may have, or could be
// given by moving others or by growing, are taken by keys whose values are above now.
func (s *shard) place(h uint64, now int64, most int) *int64 {
	for {
		if p := s.fit(h, now); p != nil {
			return p
		}
		if !s.grow(now, most) {
			return nil
		}
	}
}

// fit is place without growing.
func (s *shard) fit(h uint64, now int64) *int64 {
	n := len(s.lines)
	if n == 0 {
		return nil
	}
	a, b := places(h, n)
	if p := s.put(a, h, now); p != nil {
		return p
	}
	if p := s.put(b, h, now); p != nil {
		return p
	}
	for _, at := range [2]int{a, b} {
		for i := range s.lines[at] {
			e := &s.lines[at][i]
			other, second := places(e.key, n)
			if other == at {
				other = second
			}
			if p := s.put(other, e.key, now); p != nil {
				*p = e.value
				e.key, e.value = h, now
				return &e.value
			}
		}
	}
	return nil
}

// put takes a slot of one line for h when one of them says nothing any more.
func (s *shard) put(at int, h uint64, now int64) *int64 {
	l := &s.lines[at]
	for i := range l {
		if e := &l[i]; e.value <= now {
			if e.key == 0 && e.value == 0 {
				s.used++
			}
			e.key, e.value = h, now
			return &e.value
		}
	}
	return nil
}

// grow gives s half again as many lines, up to most. What says nothing any more is left behind, nothing else.
func (s *shard) grow(now int64, most int) bool {
	for n := len(s.lines); n < most && !s.full; {
		n = min(max(firstLines, n+n/2), most)
		next := shard{lines: make([]line, n)}
		if next.adopt(s.lines, now) {
			s.lines, s.used = next.lines, next.used
			return true
		}
		s.full = n == most
	}
	return false
}

// adopt takes over all that still says something. It is false when there was no place for all.
func (s *shard) adopt(lines []line, now int64) bool {
	for i := range lines {
		for _, e := range lines[i] {
			if e.value <= now {
				continue
			}
			p := s.fit(e.key, now)
			if p == nil {
				return false
			}
			*p = e.value
		}
	}
	return true
}

// size is what a table holds.
type size struct {
	keys              int
	bytes             int
	admitted, spilled uint64
}

// size counts. keys are slots that were ever taken: those of whole budgets too, until others take them.
func (t *table) size() (z size) {
	z.bytes = len(t.shards) * 128
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		z.keys += s.used
		z.bytes += cap(s.lines) * lineSlots * 16
		z.admitted += s.admitted
		z.spilled += s.spilled
		s.mu.Unlock()
	}
	return z
}

// scale multiplies what every key owes by factor(key): after a change of rate, a key has used up as much as before.
func (t *table) scale(now int64, factor func(h uint64) float64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for j := range s.lines {
			for k := range s.lines[j] {
				if e := &s.lines[j][k]; e.value > now {
					e.value = scaled(e.value, now, factor(e.key))
				}
			}
		}
		s.mu.Unlock()
	}
}
