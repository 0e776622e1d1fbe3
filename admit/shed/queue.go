package shed

import (
	"slices"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Waiter is one exchange that waits for a place. Its memory belongs to the caller and may be used again once it has left.
type Waiter struct {
	Class    exchange.Class
	Tenant   uint64        // who shares fairly with others
	Weight   float64       // of the tenant; 0 counts as 1
	Deadline time.Duration // when an answer comes too late; 0: never

	since      time.Duration
	of         *tenant
	prev, next *Waiter

	wake  chan verdict // of the gate
	place int32
	era   uint32 // in which it got its place
}

// verdict is how waiting ended.
type verdict uint8

const (
	admitted verdict = iota
	evicted
	expired
	late // its deadline could not be met any more
)

// tenant is who has waiters of one class now.
type tenant struct {
	key         uint64
	weight      float64
	first, last *Waiter // oldest and newest
	count       int
	turn        float64 // virtual time of its next grant: each costs 1/weight
	order       uint64  // of arrival, for tenants of the same turn
	at          int     // in the heap
}

// load is how much of a share a tenant takes.
func (t *tenant) load() float64 { return float64(t.count) / t.weight }

// lane is one class: its tenants in a heap by turn.
type lane struct {
	heap    []*tenant
	by      map[uint64]*tenant
	count   int
	clock   float64 // turn of the last grant
	biggest *tenant // a tenant with a large load; a hint
	credit  float64 // grants that are reserved and were not given yet
	heavy   [heavyMost]hitter
}

// hitter counts the newcomers of a full queue who are of one tenant, less those of tenants that send seldom.
type hitter struct {
	key   uint64
	count int
}

// sure reports whether it is more than chance.
func (h hitter) sure() bool { return h.count >= heavyLeast }

// Numbers of finding who sends most: the frequent items of Misra and Gries (1982). Who sends more than a part in heavyMost+1 is found.
const (
	heavyMost   = 4
	heavyLeast  = 8  // that are more than a chance
	heavyRecall = 64 // bounds for how many others' newcomers a tenant that stopped is remembered; with it all counts are halved
)

// Queue is who waits for a place in one pool: classes in strict order save for reserved shares, tenants in turn within a class. It
// is pure and not safe for concurrent use.
type Queue struct {
	lanes  [3]lane // by rank: critical, standard, low
	share  [3]float64
	count  int
	orders uint64
	spare  []*tenant
}

// NewQueue makes a queue that reserves shares of the grants: of 1, for waiting standard and low requests before higher classes.
func NewQueue(standard, low float64) *Queue {
	q := &Queue{share: [3]float64{0, standard, low}}
	for i := range q.lanes {
		q.lanes[i].by = map[uint64]*tenant{}
	}
	return q
}

// Len is how many wait.
func (q *Queue) Len() int { return q.count }

// Waiting is how many of one class wait.
func (q *Queue) Waiting(c exchange.Class) int { return q.lanes[c.Rank()].count }

// Push lets w wait from now on.
func (q *Queue) Push(w *Waiter, now time.Duration) {
	l := &q.lanes[w.Class.Rank()]
	t := l.by[w.Tenant]
	if t == nil {
		t = q.newTenant()
		q.orders++
		t.key, t.weight, t.order = w.Tenant, max(w.Weight, 1), q.orders
		t.turn = l.clock + 1/t.weight // after who waits already: who comes again and again must not push them back
		l.by[w.Tenant] = t
		l.insert(t)
	}
	w.since, w.of = now, t
	w.prev, w.next = t.last, nil
	if t.last != nil {
		t.last.next = w
	} else {
		t.first = w
	}
	t.last = w
	t.count++
	l.count++
	q.count++
	if l.biggest == nil || t.load() > l.biggest.load() {
		l.biggest = t
	}
}

// Remove takes w out; it reports whether w was still there.
func (q *Queue) Remove(w *Waiter) bool {
	t := w.of
	if t == nil {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		t.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		t.last = w.prev
	}
	w.of, w.prev, w.next = nil, nil, nil
	l := &q.lanes[w.Class.Rank()]
	t.count--
	l.count--
	q.count--
	if t.count == 0 {
		l.remove(t)
		delete(l.by, t.key)
		if l.biggest == t {
			l.biggest = nil
		}
		q.free(t)
	}
	return true
}

// inOrder is how many of a tenant that sends little are served in order though they are not fresh, while others send much more: so few came close to each other by
// chance, and the older one would wait in vain.
const inOrder = 2

// Next takes out whose turn it is: nil when nobody waits. fresh is how old the oldest waiter of a tenant may be for it to be served
// in order, for critical requests or a tenant with few, and for others; beyond that the tenant's newest is served, which can still be answered in time.
func (q *Queue) Next(now, critical, others time.Duration) *Waiter {
	l := q.choose()
	if l == nil {
		return nil
	}
	t := l.heap[0]
	w, fresh := t.first, others
	if w.Class == exchange.Critical || t.count <= inOrder && l.hasHeavy() && !l.isHeavy(t.key) {
		fresh = critical
	}
	if now-w.since > fresh {
		w = t.last
	}
	l.clock = t.turn
	t.turn += 1 / t.weight
	l.sink(0)
	q.Remove(w)
	return w
}

// choose finds the class whose turn it is. Lower classes earn their reserved share of the grants while they wait.
func (q *Queue) choose() *lane {
	top := -1
	for i := range q.lanes {
		if q.lanes[i].count > 0 && top < 0 {
			top = i
		}
		if q.lanes[i].count == 0 {
			q.lanes[i].credit = 0
		}
	}
	if top < 0 {
		return nil
	}
	for i := top + 1; i < len(q.lanes); i++ {
		if q.lanes[i].count > 0 {
			q.lanes[i].credit += q.share[i]
		}
	}
	for i := len(q.lanes) - 1; i > top; i-- {
		if l := &q.lanes[i]; l.credit >= 1 {
			l.credit--
			return l
		}
	}
	return &q.lanes[top]
}

// Victim is who must leave so that one of class c and the tenant may wait, when the queue is full: nobody when the newcomer itself is
// least entitled. It is the newest of the tenant that takes most of the lowest class. spared: nobody must, and it may wait nevertheless. That is so
// where some tenants send so much more than others that they are the reason, for those others, and for one of each of these: a short queue has no room for all who send
// little. tight: the queue is too long for that, too.
func (q *Queue) Victim(c exchange.Class, key uint64, weight float64, tight bool) (victim *Waiter, spared bool) {
	for i := len(q.lanes) - 1; i > c.Rank(); i-- {
		if l := &q.lanes[i]; l.count > 0 {
			return l.largest().last, false
		}
	}
	l := &q.lanes[c.Rank()]
	if l.count == 0 {
		return nil, false
	}
	heavy, mine := l.sends(key), 1/max(weight, 1)
	t := l.by[key]
	if t != nil {
		mine += t.load()
	}
	big := l.largest()
	theirs, load := l.isHeavy(big.key), big.load()
	switch {
	case heavy && !theirs: // it has had its share as places became free
		return nil, t == nil && !tight
	case theirs && !heavy && load == mine && big.count > 1, load > mine && (theirs || tight || !l.hasHeavy()):
		return big.last, false
	}
	return nil, !tight && l.hasHeavy() && (!heavy || t == nil)
}

// Stale is the oldest waiter of class c and the tenant, when it waits for longer than fresh; else nil. Others' are not looked at: who sends more must not push
// them out.
func (q *Queue) Stale(now time.Duration, c exchange.Class, key uint64, fresh time.Duration) *Waiter {
	if t := q.lanes[c.Rank()].by[key]; t != nil && now-t.first.since > fresh {
		return t.first
	}
	return nil
}

// looks bounds the search for the largest tenant: with more of them, none of the others is large.
const looks = 64

// largest is the tenant with the most waiters for its weight, or one that is nearly so. Of those with as many it is one that sends most: a short queue holds one or two
// of each, and who sends fifty times as much must not push out the second of another.
func (l *lane) largest() *tenant {
	big := l.biggest
	for i, t := range l.heap {
		if i == looks {
			break
		}
		if big == nil || t.load() > big.load() {
			big = t
		}
	}
	for _, h := range l.heavy {
		if t := l.by[h.key]; t != nil && h.sure() && t.load() >= big.load() {
			big = t
		}
	}
	l.biggest = big
	return big
}

// sends counts a newcomer of a tenant, and reports whether that is one of those who send most.
func (l *lane) sends(key uint64) bool {
	free := -1
	for i := range l.heavy {
		switch h := &l.heavy[i]; {
		case h.count > 0 && h.key == key:
			if h.count++; h.count > heavyRecall {
				l.fade()
			}
			return h.sure()
		case h.count == 0:
			free = i
		}
	}
	if free >= 0 {
		l.heavy[free] = hitter{key, 1}
		return false
	}
	for i := range l.heavy {
		l.heavy[i].count--
	}
	return false
}

// fade halves the counts: of few tenants each has its own, and who sends a fiftieth of another would count as sending most in the end.
func (l *lane) fade() {
	for i := range l.heavy {
		l.heavy[i].count /= 2
	}
}

// hasHeavy reports whether somebody sends much more than others.
func (l *lane) hasHeavy() bool { return slices.ContainsFunc(l.heavy[:], hitter.sure) }

// isHeavy reports whether that is who the key is of.
func (l *lane) isHeavy(key uint64) bool {
	return slices.ContainsFunc(l.heavy[:], func(h hitter) bool { return h.key == key && h.sure() })
}

// Oldest is for how long the longest waiting waits; 0 when nobody does. It looks at a few tenants of each class only.
func (q *Queue) Oldest(now time.Duration) time.Duration {
	return max(q.OldestOf(now, exchange.Critical), q.OldestOf(now, exchange.Standard), q.OldestOf(now, exchange.Low))
}

// OldestOf is Oldest among those of class c.
func (q *Queue) OldestOf(now time.Duration, c exchange.Class) time.Duration {
	oldest := time.Duration(0)
	for i, t := range q.lanes[c.Rank()].heap {
		if i == looks {
			break
		}
		oldest = max(oldest, now-t.first.since)
	}
	return oldest
}

func (q *Queue) newTenant() *tenant {
	if n := len(q.spare); n > 0 {
		t := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return t
	}
	return new(tenant)
}

// spares is how many tenants are kept for reuse.
const spares = 1024

func (q *Queue) free(t *tenant) {
	if len(q.spare) < spares {
		*t = tenant{}
		q.spare = append(q.spare, t)
	}
}

// before orders tenants.
func (t *tenant) before(o *tenant) bool {
	return t.turn < o.turn || t.turn == o.turn && t.order < o.order
}

func (l *lane) insert(t *tenant) {
	t.at = len(l.heap)
	l.heap = append(l.heap, t)
	l.rise(t.at)
}

func (l *lane) remove(t *tenant) {
	at, last := t.at, len(l.heap)-1
	l.heap[at] = l.heap[last]
	l.heap[at].at = at
	l.heap[last] = nil
	l.heap = l.heap[:last]
	if at < last {
		l.sink(at)
		l.rise(at)
	}
}

func (l *lane) rise(i int) {
	for i > 0 {
		up := (i - 1) / 2
		if !l.heap[i].before(l.heap[up]) {
			return
		}
		l.swap(i, up)
		i = up
	}
}

func (l *lane) sink(i int) {
	for {
		low := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < len(l.heap) && l.heap[c].before(l.heap[low]) {
				low = c
			}
		}
		if low == i {
			return
		}
		l.swap(i, low)
		i = low
	}
}

func (l *lane) swap(i, j int) {
	l.heap[i], l.heap[j] = l.heap[j], l.heap[i]
	l.heap[i].at, l.heap[j].at = i, j
}
