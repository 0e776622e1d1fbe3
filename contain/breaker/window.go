package breaker

import (
	"sync"
	"sync/atomic"
	"time"
)

// parts is how many parts a window has: what is counted is exact for the last nine to ten of them.
const parts = 10

// kind is what is counted.
type kind uint8

const (
	kindGood kind = iota
	kindSlow
	kindBad
	kindLoad
	kinds
)

// counts are the outcomes of a window.
type counts [kinds]uint64

func (n *counts) total() (all uint64) {
	for _, one := range n {
		all += one
	}
	return all
}

// window counts outcomes lately, spread over shards so that cores do not fight for one cache line.
type window struct {
	length atomic.Int64 // ns of one part
	shards []shard
}

// shard has a ring of parts. It fills whole cache lines.
type shard struct {
	mu    sync.Mutex // only to begin a part
	parts [parts]part
	_     [8]byte
}

// part is one part of the window. What comes in just as it begins anew is counted in one of the two or, when its goroutine slept
// for a whole window between two instructions, not at all.
type part struct {
	number atomic.Int64 // of the part since base, from 1; 0: never used
	n      [kinds]atomic.Uint32
}

func newWindow(shards int) window {
	n := 1
	for n < min(shards, 64) {
		n *= 2
	}
	return window{shards: make([]shard, n)}
}

func (w *window) setLength(all time.Duration) {
	w.length.Store(max(int64(all)/parts, 1))
	w.clear()
}

func (w *window) clear() {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for j := range s.parts {
			s.parts[j].begin(0)
		}
		s.mu.Unlock()
	}
}

// begin empties a part. The shard's lock is held.
func (p *part) begin(number int64) {
	p.number.Store(-1)
	for k := range p.n {
		p.n[k].Store(0)
	}
	p.number.Store(number)
}

// count adds one outcome at a moment.
func (w *window) count(shard uint32, at int64, k kind) {
	s := &w.shards[int(shard)&(len(w.shards)-1)]
	number := max(at, 0)/w.length.Load() + 1
	p := &s.parts[number%parts]
	if p.number.Load() != number {
		s.mu.Lock()
		if p.number.Load() < number { // what comes late counts in the part that took its place
			p.begin(number)
		}
		s.mu.Unlock()
	}
	p.n[k].Add(1)
}

// sum adds up what was counted in the window that ends at a moment.
func (w *window) sum(at int64) (n counts) {
	oldest := max(at, 0)/w.length.Load() + 1 - parts
	for i := range w.shards {
		for j := range w.shards[i].parts {
			p := &w.shards[i].parts[j]
			if number := p.number.Load(); number <= 0 || number <= oldest {
				continue
			}
			for k := range p.n {
				n[k] += uint64(p.n[k].Load())
			}
		}
	}
	return n
}
