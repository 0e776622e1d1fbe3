package cache

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

const flightShards = 32

// flights hold together requests that one answer may serve: the first leads and asks, the others wait for what it finds. A leader that fails hands
// over to one of them, so that a dead endpoint is asked by one request at a time and never by all at once.
type flights struct {
	shards  [flightShards]flightShard
	waiting atomic.Int64
	most    atomic.Int64 // that wait at once
}

type flightShard struct {
	mu sync.Mutex
	m  map[uint64]*flight
}

// flight is one request that leads, and who waits for it, in the order they came.
type flight struct{ waiters []*waiter }

// waiter waits. over: it has stopped; guarded by the shard's lock.
type waiter struct {
	word chan word
	over bool
}

// word is what a waiter is told.
type word struct {
	kind    wordKind
	refusal *exchange.Refusal // of wordRefused
}

type wordKind uint8

const (
	wordStored  wordKind = iota // look again: there is an answer in the store, or what came is from before a change
	wordLead                    // ask yourself: the leader failed, and you are next
	wordAlone                   // the answer cannot be shared: ask for yourself
	wordRefused                 // the leader was refused, and you would be too
	wordLate                    // the wait is over
)

func newFlights(most int64) *flights {
	f := &flights{}
	f.most.Store(most)
	for i := range f.shards {
		f.shards[i].m = map[uint64]*flight{}
	}
	return f
}

func (f *flights) shard(id uint64) *flightShard { return &f.shards[id%flightShards] }

// join makes the caller the leader of flight id, or one who waits; neither when too many wait already.
func (f *flights) join(id uint64) (leads bool, w *waiter) {
	s := f.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	fl := s.m[id]
	if fl == nil {
		s.m[id] = &flight{}
		return true, nil
	}
	if f.waiting.Add(1) > f.most.Load() {
		f.waiting.Add(-1)
		return false, nil
	}
	w = &waiter{word: make(chan word, 1)}
	fl.waiters = append(fl.waiters, w)
	return false, w
}

// wait waits for a word, or until d is over.
func (f *flights) wait(id uint64, w *waiter, d time.Duration) word {
	defer f.waiting.Add(-1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case said := <-w.word:
		return said
	case <-t.C:
	}
	s := f.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case said := <-w.word: // just in time; who was made the leader must know
		return said
	default:
		w.over = true
		return word{kind: wordLate}
	}
}

// settle ends a flight with a word for all who wait; only its leader calls it. wordLead goes to one of them, and the flight goes on with that one.
func (f *flights) settle(id uint64, said word) (told int) {
	s := f.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	fl := s.m[id]
	if fl == nil {
		return 0
	}
	for i, w := range fl.waiters {
		if w.over {
			continue
		}
		w.word <- said
		told++
		if said.kind == wordLead {
			fl.waiters = fl.waiters[i+1:]
			return told
		}
	}
	delete(s.m, id)
	return told
}

// followers is how many wait for the leader of id.
func (f *flights) followers(id uint64) int {
	s := f.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if fl := s.m[id]; fl != nil {
		return len(fl.waiters)
	}
	return 0
}
