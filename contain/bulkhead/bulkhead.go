// Package bulkhead parts a number of places among compartments, so that one that fills up does not sink the others.
//
// Each part has places kept for it and may borrow from those that are kept for nobody, up to its most. What a part does not use of its own
// is lent to the others, but for a quarter: a part that wakes up has that at once, and the rest as soon as borrowers leave. Entering and
// leaving take no lock and allocate nothing, nobody waits, and time comes in as an argument.
package bulkhead

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Numbers of lending.
const (
	// lendEvery is how often what is idle is looked at.
	lendEvery = time.Second
	// idleFor is how long places must have been idle until they are lent.
	idleFor = 10 * time.Second
	// keepLeast is the part of its own places that nobody else ever gets.
	keepLeast = 0.25
	// headroom times what a part lately used at most stays with it.
	headroom = 2
)

// Share is what one part is due.
type Share struct {
	Name string
	Kept float64 // part of all places that is kept for it, 0 to 1
	Most float64 // part of all places that it may have at the most; 0: all
	Cap  int     // and never more places than this; 0: no such bound
}

// Bulkhead is a number of places and who may have them. All methods may be called from any goroutine.
type Bulkhead struct {
	common atomic.Int64 // borrowed places in use
	open   atomic.Int64 // places that are kept for nobody

	mu     sync.Mutex // guards what follows, and every change of kept and open
	places int
	parts  []*Part
	lent   time.Time
}

// Part is one compartment.
type Part struct {
	name string
	home *Bulkhead

	used    atomic.Int64 // own and borrowed
	own     atomic.Int64 // of the kept ones
	kept    atomic.Int64 // kept at the moment
	most    atomic.Int64
	peak    atomic.Int64 // highest use since the last look
	refused atomic.Uint64
	_       [64]byte

	due   int64                      // kept when nothing is lent
	peaks [idleFor / lendEvery]int64 // the latest peaks; the lock guards them
	at    int
}

// New makes a bulkhead of so many places.
func New(places int, shares []Share) *Bulkhead {
	b := &Bulkhead{}
	b.Update(places, shares)
	return b
}

// Update makes places and shares those in force. Parts of the same name stay, with what they hold; when the kept shares come to more than
// all places, each gets its part of them. What parts are due and others have borrowed or still hold, they get as those leave, as with Lend.
func (b *Bulkhead) Update(places int, shares []Share) {
	b.mu.Lock()
	defer b.mu.Unlock()
	places = max(places, 1)
	sum := 0.0
	for _, s := range shares {
		sum += max(s.Kept, 0)
	}
	old := b.parts
	b.places, b.parts = places, nil
	wants, kept := make([]int64, len(shares)), int64(0)
	for i, s := range shares {
		p := find(old, s.Name)
		known := p != nil
		if !known {
			p = &Part{name: s.Name, home: b}
		}
		p.due = int64(max(s.Kept, 0) / max(sum, 1) * float64(places))
		most := int64(places)
		if s.Most > 0 && s.Most < 1 {
			most = max(int64(math.Round(s.Most*float64(places))), 1)
		}
		if s.Cap > 0 {
			most = min(most, int64(s.Cap))
		}
		p.due = min(p.due, most)
		p.most.Store(most)
		wants[i] = p.due
		if known { // what it has lent stays lent
			wants[i] = p.wants(p.peak.Load())
		}
		kept += p.kept.Load()
		b.parts = append(b.parts, p)
	}
	b.open.Store(int64(places) - kept)
	for _, less := range []bool{true, false} { // what some give up, others can have
		for i, p := range b.parts {
			if less == (wants[i] < p.kept.Load()) {
				b.keep(p, wants[i])
			}
		}
	}
}

func find(parts []*Part, name string) *Part {
	for _, p := range parts {
		if p.name == name {
			return p
		}
	}
	return nil
}

// Part finds a part by name; nil: there is none.
func (b *Bulkhead) Part(name string) *Part {
	b.mu.Lock()
	defer b.mu.Unlock()
	return find(b.parts, name)
}

// Places is how many there are.
func (b *Bulkhead) Places() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.places
}

// Enter takes a place, of the part's own or a borrowed one. Each place is given back by Leave, with the same word.
func (p *Part) Enter() (borrowed, ok bool) {
	n := p.used.Add(1)
	if n > p.most.Load() {
		p.used.Add(-1)
		p.refused.Add(1)
		return false, false
	}
	if n > p.peak.Load() {
		p.peak.Store(n) // a lost update of two at once is off by one
	}
	if p.own.Add(1) <= p.kept.Load() {
		return false, true
	}
	p.own.Add(-1)
	if p.home.common.Add(1) <= p.home.open.Load() {
		return true, true
	}
	p.home.common.Add(-1)
	p.used.Add(-1)
	p.refused.Add(1)
	return false, false
}

// Leave gives a place back.
func (p *Part) Leave(borrowed bool) {
	if borrowed {
		p.home.common.Add(-1)
	} else {
		p.own.Add(-1)
	}
	p.used.Add(-1)
}

// Idle is how many places nobody has.
func (b *Bulkhead) Idle() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	idle := int64(b.places) - b.common.Load()
	for _, p := range b.parts {
		idle -= p.own.Load()
	}
	return int(max(idle, 0))
}

// Lend looks at what is idle, at most once a second: a part keeps twice what it used at most in the last ten seconds, at least a quarter of
// its own and at most all of it. What others have borrowed comes back as they leave.
func (b *Bulkhead) Lend(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.lent) < lendEvery {
		return
	}
	b.lent = now
	for _, p := range b.parts {
		p.peaks[p.at] = p.peak.Swap(p.used.Load())
		p.at = (p.at + 1) % len(p.peaks)
		b.keep(p, p.wants(0))
	}
}

// wants is how many places a part should keep, that lately used as many as it remembers, and peak.
func (p *Part) wants(peak int64) int64 {
	for _, n := range p.peaks {
		peak = max(peak, n)
	}
	return min(max(headroom*peak, int64(math.Ceil(keepLeast*float64(p.due)))), p.due)
}

// keep moves places between a part and those that are kept for nobody. The lock is held.
func (b *Bulkhead) keep(p *Part, want int64) {
	have := p.kept.Load()
	switch {
	case want < have:
		p.kept.Store(want)                        // from here on nobody enters above it
		want = max(want, min(p.own.Load(), have)) // what is in use is not lent
		p.kept.Store(want)
		b.open.Add(have - want)
	case want > have:
		// First nobody may borrow them any more, then what is still borrowed is given up.
		left := b.open.Add(have - want)
		if over := b.common.Load() - left; over > 0 {
			over = min(over, want-have)
			b.open.Add(over)
			want -= over
		}
		p.kept.Store(want)
	}
}

// Status is one part as people see it.
type Status struct {
	Name    string
	Used    int
	Kept    int // at the moment
	Due     int // when nothing is lent
	Most    int
	Refused uint64
}

// Status is the part at this moment.
func (p *Part) Status() Status {
	p.home.mu.Lock()
	due := p.due
	p.home.mu.Unlock()
	return Status{Name: p.name, Used: int(p.used.Load()), Kept: int(p.kept.Load()), Due: int(due), Most: int(p.most.Load()), Refused: p.refused.Load()}
}
