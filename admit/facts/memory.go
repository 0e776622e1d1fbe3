package facts

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/key"
)

// Limits of what is remembered about tokens.
const (
	memorySets  = 8192     // of memoryWays tokens each: 32768 in all
	memoryWays  = 4        // places where one token may stand
	memoryBytes = 32 << 20 // of tokens that hold
	memoryTidy  = 64       // sets that are looked through for expired tokens when there are so many bytes: some microseconds, beside a signature check
)

// judged is what is known of one token. It is never changed.
type judged struct {
	hash  uint64
	until int64  // ns since 1970
	token []byte // nil: it does not hold. Bad ones are known by their hash alone: a mistake costs one honest request in 2^64.
	value []byte
	by    *signer
	gen   uint64 // of the ring that a bad one was held against: another may know its key
}

// memory remembers tokens that were checked, so that a token that comes again costs no signature check. Nobody waits for
// anybody: a place is one pointer. Bad tokens take places of bad ones only, so that a flood of them makes nothing forgotten.
type memory struct {
	seed   maphash.Seed
	sets   [][memoryWays]atomic.Pointer[judged]
	bytes  atomic.Int64
	tidied atomic.Uint64 // sets so far
}

func newMemory() *memory {
	return &memory{seed: maphash.MakeSeed(), sets: make([][memoryWays]atomic.Pointer[judged], memorySets)}
}

// find is what is known of token, nil: nothing that still holds. now is in ns since 1970, gen that of the ring in use.
func (m *memory) find(token []byte, now int64, gen uint64) *judged {
	h := maphash.Bytes(m.seed, token)
	set := &m.sets[h%memorySets]
	for i := range set {
		j := set[i].Load()
		if j == nil || j.hash != h || now >= j.until {
			continue
		}
		if j.token == nil {
			if j.gen == gen {
				return j
			}
		} else if bytes.Equal(j.token, token) && !j.by.gone.Load() {
			return j
		}
	}
	return nil
}

// put remembers j, whose token is text.
func (m *memory) put(j *judged, text []byte, now int64) {
	j.hash = maphash.Bytes(m.seed, text)
	set := &m.sets[j.hash%memorySets]
	best, at := 0, 0
	for i := range set {
		if w := worth(set[i].Load(), j.hash, now); w > best {
			best, at = w, i
		}
	}
	switch {
	case best == 0 && j.token == nil:
		return
	case best == 0:
		at = int(j.hash >> 62) // any of them
	}
	if j.token != nil && m.bytes.Load()+int64(len(j.token)-set[at].Load().size()) > memoryBytes {
		m.tidy(now)
		if m.bytes.Load()+int64(len(j.token)-set[at].Load().size()) > memoryBytes {
			return
		}
	}
	m.bytes.Add(int64(len(j.token) - set[at].Swap(j).size()))
}

// tidy forgets tokens that do not hold any more, in the sets whose turn it is. Else they would keep the bytes until another token came to their
// place, and a token whose own places are empty, as most are when tokens are long, would never be remembered again.
func (m *memory) tidy(now int64) {
	for range memoryTidy {
		set := &m.sets[m.tidied.Add(1)%memorySets]
		for i := range set {
			if j := set[i].Load(); j != nil && (now >= j.until || j.token != nil && j.by.gone.Load()) && set[i].CompareAndSwap(j, nil) {
				m.bytes.Add(-int64(j.size()))
			}
		}
	}
}

// worth says how well the place of old suits a new one with that hash; 0: it holds a good token, which must not give way to a bad one.
func worth(old *judged, hash uint64, now int64) int {
	switch {
	case old == nil:
		return 2
	case old.hash == hash:
		return 4
	case now >= old.until || old.token != nil && old.by.gone.Load():
		return 3
	case old.token == nil:
		return 1
	}
	return 0
}

// size is how many octets of tokens j holds.
func (j *judged) size() int {
	if j == nil {
		return 0
	}
	return len(j.token)
}

// Limits of forgers.
const (
	forgerSlots = 4096
	forgerRate  = 50 // forged signatures of one network in a second; honest clients send none, broken ones few
)

// forgers counts signatures that do not hold, by the network that they come from. Who sends many gets no further ones checked for
// the rest of the second. Networks that share a slot share their luck for that long.
type forgers struct {
	seed  maphash.Seed
	slots [forgerSlots]atomic.Uint64 // second<<16 | count
}

func (f *forgers) slot(a netip.Addr) *atomic.Uint64 {
	b := key.Network(a, 64).As16()
	return &f.slots[maphash.Bytes(f.seed, b[:])%forgerSlots]
}

// many reports whether a is among them.
func (f *forgers) many(a netip.Addr, now time.Time) bool {
	v := f.slot(a).Load()
	return v>>16 == uint64(now.Unix()) && v&0xffff >= forgerRate
}

// add counts one.
func (f *forgers) add(a netip.Addr, now time.Time) {
	s, second := f.slot(a), uint64(now.Unix())
	for {
		v := s.Load()
		next := second<<16 | 1
		if v>>16 == second {
			next = v + 1
		}
		if next&0xffff == 0 || s.CompareAndSwap(v, next) {
			return
		}
	}
}
