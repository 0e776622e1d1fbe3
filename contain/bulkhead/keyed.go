package bulkhead

import (
	"hash/maphash"
	"math"
	"sync/atomic"
)

// Keyed bounds how many places one key of very many may have, such as a customer. Two rows of counters stand for all keys: the lesser
// of a key's two is never less than what it has, and hardly ever more.
type Keyed struct {
	share   atomic.Uint64 // part of the places that each key may have; float64
	places  atomic.Int64
	used    atomic.Int64
	refused atomic.Uint64
	seed    maphash.Seed
	rows    [2][keyedLen]atomic.Int32
}

// keyedLen is how many counters a row has: with a thousand keys under way, one in sixteen shares one row's counter, and one in 256 both.
const keyedLen = 1 << 14

// NewKeyed makes one. share is the part of places that each key may always have.
func NewKeyed(share float64, places int) *Keyed {
	k := &Keyed{seed: maphash.MakeSeed()}
	k.Update(share, places)
	return k
}

// Update changes the numbers.
func (k *Keyed) Update(share float64, places int) {
	k.share.Store(math.Float64bits(share))
	k.places.Store(int64(max(places, 1)))
}

// Seat is where a key is counted.
type Seat [2]uint32

// Enter takes a place for key. Beyond its share a key may have as many places as are idle then, so that one alone leaves half to others.
func (k *Keyed) Enter(key []byte) (Seat, bool) {
	h := maphash.Bytes(k.seed, key)
	s := Seat{uint32(h) % keyedLen, uint32(h>>32) % keyedLen}
	// Each counts itself everywhere before it looks, or of many at once two would get the last place.
	a, b := &k.rows[0][s[0]], &k.rows[1][s[1]]
	k.used.Add(1)
	a.Add(1)
	b.Add(1)
	n, used, places := min(a.Load(), b.Load()), k.used.Load(), k.places.Load()
	due := max(int64(math.Float64frombits(k.share.Load())*float64(places)), 1)
	if int64(n) <= due || int64(n) <= places-used+1 {
		return s, true
	}
	k.Leave(s)
	k.refused.Add(1)
	return s, false
}

// Leave gives a place back.
func (k *Keyed) Leave(s Seat) {
	k.rows[0][s[0]].Add(-1)
	k.rows[1][s[1]].Add(-1)
	k.used.Add(-1)
}

// Used is how many places all keys have together.
func (k *Keyed) Used() int { return int(k.used.Load()) }

// Refused is how many places were asked for in vain.
func (k *Keyed) Refused() uint64 { return k.refused.Load() }
