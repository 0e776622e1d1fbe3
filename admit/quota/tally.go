package quota

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// tallyShards is over how many places counters are spread, so that cores do not write to the same cache line.
const tallyShards = 16

// tally counts what became of requests.
type tally struct {
	shards [tallyShards]struct {
		admitted, refused, would atomic.Uint64
		_                        [40]byte // a cache line each
	}
}

func (t *tally) sum() (admitted, refused, would uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		admitted += s.admitted.Load()
		refused += s.refused.Load()
		would += s.would.Load()
	}
	return admitted, refused, would
}

// Bounds of the sketch of the keys that are refused most (Metwally et al., "Efficient computation of frequent and
// top-k elements", 2005: space saving). With 32 places every key that has more than a 32nd of a shard's refusals is among them.
const (
	topShards = 4
	topPlaces = 32
	topShown  = 10
)

// top finds the keys that are refused most. A refusal that meets another in its shard is left out: the figures
// are for people, and a flood must not wait for them.
type top struct {
	shards [topShards]topShard
}

type topShard struct {
	mu     sync.Mutex
	places [topPlaces]topPlace
}

type topPlace struct {
	of    *account
	count uint64
}

// count adds one refusal of a key.
func (t *top) count(a *account, shard uint32) {
	s := &t.shards[shard%topShards]
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	least := 0
	for i := range s.places {
		p := &s.places[i]
		if p.of == a {
			p.count++
			return
		}
		if p.count < s.places[least].count {
			least = i
		}
	}
	s.places[least].of = a
	s.places[least].count++
}

// list is the keys that are refused most, the first most.
func (t *top) list(text func(packed string) string) []TopKey {
	sums := map[string]uint64{}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, p := range s.places {
			if p.of != nil {
				sums[p.of.packed] += p.count
			}
		}
		s.mu.Unlock()
	}
	out := make([]TopKey, 0, len(sums))
	for packed, n := range sums {
		out = append(out, TopKey{Key: text(packed), Refused: n})
	}
	slices.SortFunc(out, func(a, b TopKey) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(a.Key, b.Key))
	})
	return out[:min(len(out), topShown)]
}
