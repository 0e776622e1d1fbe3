package quota

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/key"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// tableShards is over how many parts a table's keys are spread. Only new keys lock a part, so 64 are plenty.
const tableShards = 64

// table holds the accounts of one quota. It is found again after a reload by what its counts mean: name, by and period.
// Finding an account takes no lock.
type table struct {
	name   string
	mark   string // what its counts mean, the same in files
	period period
	keys   *key.Maker
	kept   bool // somebody writes it to files: note what changed

	most   atomic.Int64 // keys
	count  atomic.Int64
	beyond atomic.Uint64 // requests that were not counted because the table was full
	full   atomic.Bool   // said already; false again once there is room
	now    atomic.Pointer[span]
	dirty  atomic.Pointer[account] // those whose counts are not in files yet
	tally  tally
	top    top
	shards [tableShards]tableShard
}

// tableShard is an open-addressing table: readers walk slots without a lock, writers of new keys take mu.
type tableShard struct {
	mu    sync.Mutex
	held  int
	slots atomic.Pointer[[]atomic.Pointer[account]]
}

// markOf says what the counts of a quota mean. Counts of another mark are of no use for it.
func markOf(q *site.Quota, ipv6 int) string {
	parts := []string{q.Name, strings.Join(q.By, "+"), q.Period}
	if q.Sliding {
		parts = append(parts, "sliding")
	}
	if q.First != "" {
		parts = append(parts, q.First)
	}
	for _, word := range q.By {
		if word == site.ByIP {
			parts = append(parts, strconv.Itoa(ipv6))
		}
	}
	return strings.Join(parts, " ")
}

func newTable(q *site.Quota, ipv6 int, kept bool) *table {
	t := &table{name: q.Name, mark: markOf(q, ipv6), period: newPeriod(q), keys: key.New(q.By, ipv6), kept: kept}
	return t
}

// span is the present span. Most requests find it ready.
func (t *table) span(now time.Time) span {
	if s := t.now.Load(); s != nil && s.holds(now.UnixNano()) {
		return *s
	}
	return t.turn(now)
}

//go:noinline
func (t *table) turn(now time.Time) span {
	s := t.period.at(now)
	t.now.Store(&s)
	return s
}

// find is the account of a hash; nil: there is none.
func (t *table) find(h uint64) *account {
	slots := t.shards[h%tableShards].slots.Load()
	if slots == nil {
		return nil
	}
	list := *slots
	mask := uint64(len(list) - 1)
	for i := (h / tableShards) & mask; ; i = (i + 1) & mask {
		a := list[i].Load()
		if a == nil || a.hash == h {
			return a
		}
	}
}

// account finds or makes the account of x; nil when the table is full. h is the hash of x.
func (t *table) account(x *exchange.Exchange, h uint64, now time.Time) *account {
	if a := t.find(h); a != nil {
		return a
	}
	return t.open(x, h, now)
}

//go:noinline
func (t *table) open(x *exchange.Exchange, h uint64, now time.Time) *account {
	var buf [64]byte
	packed, ok := t.keys.Pack(buf[:0], x)
	if !ok {
		return nil
	}
	return t.enter(string(packed), h, t.span(now).start)
}

// enter finds or makes an account; nil when the table is full.
func (t *table) enter(packed string, h uint64, start int64) *account {
	s := &t.shards[h%tableShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := t.find(h); a != nil {
		return a
	}
	if t.count.Add(1) > t.most.Load() {
		t.count.Add(-1)
		return nil
	}
	a := &account{hash: h, packed: packed}
	a.now.Store(&window{start: start})
	s.put(a)
	return a
}

// put adds an account. A shard is at the most two thirds full, so that walks stay short. The caller holds s.mu.
func (s *tableShard) put(a *account) {
	slots := s.slots.Load()
	if slots == nil || 3*(s.held+1) > 2*len(*slots) {
		size := 8
		if slots != nil {
			size = 2 * len(*slots)
		}
		slots = s.rebuild(size, nil)
	}
	place(*slots, a)
	s.held++
}

// rebuild copies the accounts into new slots but for those that drop names. The caller holds s.mu.
func (s *tableShard) rebuild(size int, drop map[*account]bool) *[]atomic.Pointer[account] {
	next := make([]atomic.Pointer[account], size)
	if old := s.slots.Load(); old != nil {
		for i := range *old {
			if a := (*old)[i].Load(); a != nil && !drop[a] {
				place(next, a)
			}
		}
	}
	s.slots.Store(&next)
	return &next
}

func place(list []atomic.Pointer[account], a *account) {
	mask := uint64(len(list) - 1)
	i := (a.hash / tableShards) & mask
	for list[i].Load() != nil {
		i = (i + 1) & mask
	}
	list[i].Store(a)
}

// each calls do with every account. Accounts that come or go meanwhile may be left out.
func (t *table) each(do func(a *account)) {
	for i := range t.shards {
		slots := t.shards[i].slots.Load()
		if slots == nil {
			continue
		}
		for j := range *slots {
			if a := (*slots)[j].Load(); a != nil {
				do(a)
			}
		}
	}
}

// sweep forgets accounts of which nothing counts any more.
func (t *table) sweep(now time.Time) {
	span := t.span(now)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		t.sweepShard(s, span)
		s.mu.Unlock()
	}
	if t.count.Load() < t.most.Load() {
		t.full.Store(false)
	}
}

// sweepShard does one shard. The caller holds s.mu.
func (t *table) sweepShard(s *tableShard, now span) {
	slots := s.slots.Load()
	if slots == nil {
		return
	}
	drop := map[*account]bool{}
	for i := range *slots {
		if a := (*slots)[i].Load(); a != nil && a.empty(t.period, now) && a.forget(t.period, now) {
			drop[a] = true
		}
	}
	if len(drop) == 0 {
		return
	}
	s.held -= len(drop)
	t.count.Add(-int64(len(drop)))
	size := 8
	for 3*(s.held+1) > 2*size {
		size *= 2
	}
	s.rebuild(size, drop)
}

// note puts an account on the list of those that have to be written.
func (t *table) note(a *account) {
	if !t.kept || a.dirty.Load() || !a.dirty.CompareAndSwap(false, true) {
		return
	}
	for {
		head := t.dirty.Load()
		a.after = head
		if t.dirty.CompareAndSwap(head, a) {
			return
		}
	}
}

// changed takes the list of accounts whose counts are not in files. The caller is the only one who does.
func (t *table) changed() (list []*account) {
	for a := t.dirty.Swap(nil); a != nil; {
		next := a.after
		a.after = nil
		list = append(list, a)
		a = next
	}
	return list
}
