package retry

import (
	"sync"
	"sync/atomic"
	"time"
)

// What a budget gives, unless it is told otherwise.
const (
	// Share of the requests may be repeats (Google SRE book, "Handling Overload": 10 %).
	Share = 0.1
	// Floor is how many repeats per second there always are, so that a quiet pool may try again at all.
	Floor = 1.0
)

// The budget looks back over seconds windows. Repeats are bounded over all of them, and over the last two by twice the share, so that what was
// saved up does not come out at one moment.
const (
	seconds = 10
	burst   = 2
)

// counterShards spreads the count of requests over cores; a power of two.
const counterShards = 8

// Budget bounds repeats, hedges too, to a share of the requests: whenever one is granted, the last ten seconds have seen no more than
// a tenth (or ten, when there are few requests), and the last no more than a fifth. Time is an argument. All methods may be called by any goroutine; Request takes no lock.
//
// The requests of a time in which nobody called Take or Left count as if they had come evenly. Who wants it exact calls Left once a second.
type Budget struct {
	requests [counterShards]struct {
		n atomic.Uint64
		_ [56]byte // a cache line of its own
	}

	mu    sync.Mutex // guards what follows; only repeats take it
	share float64
	floor float64
	slots [seconds]slot
	at    time.Time // when the second of slots[0] began
	seen  uint64    // requests that are in slots, or were
	dry   bool      // the last Take was denied
}

// slot is one second.
type slot struct{ requests, repeats float64 }

// NewBudget makes a budget that gives share of the requests, from 0 to 1, and at least floor repeats per second.
func NewBudget(now time.Time, share, floor float64) *Budget {
	b := &Budget{at: now}
	b.Update(share, floor)
	return b
}

// Update changes what the budget gives. What was counted stays.
func (b *Budget) Update(share, floor float64) {
	b.mu.Lock()
	b.share, b.floor = min(max(share, 0), 1), max(floor, 0)
	b.mu.Unlock()
}

// Request counts a request that might need a repeat. shard spreads the counting over cores: any value, best steady for one caller.
func (b *Budget) Request(shard uint32) { b.requests[shard%counterShards].n.Add(1) }

// Requests is how many were counted.
func (b *Budget) Requests() (n uint64) {
	for i := range b.requests {
		n += b.requests[i].n.Load()
	}
	return n
}

// Take takes one repeat. spent: it is denied, and it is the first that is after one was granted.
func (b *Budget) Take(now time.Time) (ok, spent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roll(now)
	if b.left() < 1 {
		spent, b.dry = !b.dry, true
		return false, spent
	}
	b.slots[0].repeats++
	b.dry = false
	return true, false
}

// Return gives back a repeat that was taken and not made.
func (b *Budget) Return() {
	b.mu.Lock()
	b.slots[0].repeats = max(b.slots[0].repeats-1, 0)
	b.mu.Unlock()
}

// Left is how many repeats there are now, at least 0.
func (b *Budget) Left(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roll(now)
	return max(b.left(), 0)
}

// left is how many repeats both windows leave.
func (b *Budget) left() float64 {
	var all, last slot
	for i, s := range b.slots {
		all.add(s)
		if i < 2 {
			last.add(s)
		}
	}
	few := b.floor * seconds
	long := max(few, b.share*all.requests) - all.repeats
	// The second before counts half: the one under way may be young.
	short := max(few, burst*b.share*max(last.requests/2, b.slots[0].requests)) - b.slots[0].repeats
	return min(long, short)
}

func (s *slot) add(t slot) { s.requests, s.repeats = s.requests+t.requests, s.repeats+t.repeats }

// roll moves the windows up to now, and takes the requests since the last call in.
func (b *Budget) roll(now time.Time) {
	total := b.Requests()
	came := float64(total - b.seen)
	b.seen = total
	steps := int64(now.Sub(b.at) / time.Second)
	if steps <= 0 { // in the same second, or the clock went back
		b.slots[0].requests += came
		return
	}
	b.at = b.at.Add(time.Duration(steps) * time.Second)
	each := came / float64(steps)
	for range min(steps, seconds) {
		b.slots[0].requests += each
		copy(b.slots[1:], b.slots[:seconds-1])
		b.slots[0] = slot{}
	}
}
