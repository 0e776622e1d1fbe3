package screen

import (
	"sync"
	"time"
)

// waitersPerPlace bounds how many requests wait for one place. At a millisecond per request and the default wait of 20 ms no more could be
// served in time anyway.
const waitersPerPlace = 16

// place is the bulkhead: how many requests are screened at once. Critical requests that wait go first.
type place struct {
	mu      sync.Mutex // taken for each request that the rule set looks at, which costs ten thousand times as much
	size    int
	busy    int
	waiting [2][]*waiter // critical, others; oldest first
}

type waiter struct {
	ready chan struct{}
	given bool
}

// resize changes the number of places. Those that are taken stay taken.
func (p *place) resize(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = n
	for p.busy < p.size && p.next() {
		p.busy++
	}
}

// take waits for a place, at most for wait.
func (p *place) take(critical bool, wait time.Duration) (ok, waited bool) {
	p.mu.Lock()
	if p.busy < p.size {
		p.busy++
		p.mu.Unlock()
		return true, false
	}
	line := 1
	if critical {
		line = 0
	}
	if wait <= 0 || len(p.waiting[line]) >= waitersPerPlace*p.size {
		p.mu.Unlock()
		return false, false
	}
	w := &waiter{ready: make(chan struct{})}
	p.waiting[line] = append(p.waiting[line], w)
	p.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-w.ready:
		return true, true
	case <-t.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.given { // just now
		return true, true
	}
	for i, other := range p.waiting[line] {
		if other == w {
			p.waiting[line] = append(p.waiting[line][:i], p.waiting[line][i+1:]...)
			break
		}
	}
	return false, true
}

// free gives a place back.
func (p *place) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy > p.size || !p.next() {
		p.busy--
	}
}

// next hands a place to who waits first. p.mu is held.
func (p *place) next() bool {
	for line := range p.waiting {
		if q := p.waiting[line]; len(q) > 0 {
			q[0].given = true
			close(q[0].ready)
			p.waiting[line] = append(q[:0], q[1:]...)
			return true
		}
	}
	return false
}

// now is how many places there are, and how many are taken.
func (p *place) now() (size, busy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size, p.busy
}
