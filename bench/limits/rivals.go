package limits

import (
	"context"
	"sync"
	"time"
	"unsafe"

	limiter "github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"golang.org/x/time/rate"

	"github.com/even-keel/evenkeel/admit/limit"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Every limiter allows so much that all checks pass: no limiter is measured while it says no.
const (
	perSecond = 1_000_000
	atOnce    = 1_000_000_000
)

// check is a limiter that is measured.
type check interface {
	learn(key []byte, now time.Time)
	worker(core int) asker
}

// asker is what one core asks.
type asker interface {
	ask(key []byte, now time.Time)
}

// rival is a limiter by name. The first is the making of keys alone, which is taken off all others; the second is a single read from as
// much memory as the keys of evenkeel take, which no table can be quicker than.
type rival struct {
	name string
	make func(keys int) (check, error)
}

// Names of rows that the report knows.
const (
	nameNothing  = "(making keys)"
	nameRead     = "(one read of memory)"
	nameEvenkeel = "evenkeel"
)

var rivals = []rival{
	{nameNothing, func(int) (check, error) { return &nothing{}, nil }},
	{nameRead, newRead},
	{nameEvenkeel, newEvenkeel},
	{"x/time/rate", func(keys int) (check, error) { return &xtime{all: make(map[string]*rate.Limiter, keys)}, nil }},
	{"go-limiter", newMemorystore},
}

type nothing struct{ sum byte }

func (n *nothing) learn([]byte, time.Time)     {}
func (n *nothing) worker(int) asker            { return new(nothing) }
func (n *nothing) ask(key []byte, _ time.Time) { n.sum += key[keyBytes-1] }

// read reads one line at a place that depends on the key and on the line read before.
type read struct {
	lines [][8]uint64
	last  uint64
}

func newRead(keys int) (check, error) {
	r := &read{lines: make([][8]uint64, max(1, keys*24/64))}
	for i := range r.lines {
		r.lines[i][0] = uint64(i) * 0x9e3779b97f4a7c15 // memory that nobody wrote to is one page for all
	}
	return r, nil
}

func (r *read) learn([]byte, time.Time) {}
func (r *read) worker(int) asker        { return &read{lines: r.lines} }
func (r *read) ask(key []byte, _ time.Time) {
	h := *(*uint64)(unsafe.Pointer(&key[8]))*0x9e3779b97f4a7c15 + r.last
	r.last = r.lines[(h>>32)*uint64(len(r.lines))>>32][0]
}

// evenkeel is the whole stage, with the hash of the key: what a request of a limited route pays.
type evenkeel struct {
	stage *limit.Stage
	next  *exchange.Next
	x     exchange.Exchange
}

func newEvenkeel(keys int) (check, error) {
	set, err := limit.New(limit.Config{Routes: []string{"all"}, Limits: []*site.Limit{{Name: "bench", By: []string{site.ByCustomer},
		Rate: perSecond, Burst: atOnce, Cost: site.CostRequest, Keys: keys, Headers: "refused"}}}, nil)
	if err != nil {
		return nil, err
	}
	return &evenkeel{stage: set.Stage(), next: exchange.Then(func(*exchange.Exchange) *exchange.Refusal { return nil }),
		x: exchange.Exchange{Route: &exchange.Route{Name: "all", Cost: 1}}}, nil
}

func (e *evenkeel) learn(key []byte, now time.Time) { e.ask(key, now) }

func (e *evenkeel) worker(core int) asker {
	w := *e
	w.x.Shard = uint32(core)
	return &w
}

func (e *evenkeel) ask(key []byte, now time.Time) {
	e.x.Customer, e.x.Start = key, now
	if e.stage.Serve(&e.x, e.next) != nil {
		panic("a check was refused")
	}
}

// xtime is a golang.org/x/time/rate.Limiter for each key, in a map behind a lock for readers and writers.
type xtime struct {
	mu  sync.RWMutex
	all map[string]*rate.Limiter
}

func (t *xtime) learn(key []byte, _ time.Time) {
	t.mu.Lock()
	t.all[string(key)] = rate.NewLimiter(perSecond, atOnce)
	t.mu.Unlock()
}

func (t *xtime) worker(int) asker { return t }

func (t *xtime) ask(key []byte, now time.Time) {
	t.mu.RLock()
	l := t.all[string(key)]
	t.mu.RUnlock()
	l.AllowN(now, 1)
}

// memory is the in-memory store of github.com/sethvargo/go-limiter.
type memory struct{ store limiter.Store }

func newMemorystore(keys int) (check, error) {
	s, err := memorystore.New(&memorystore.Config{Tokens: atOnce, Interval: time.Second, InitialAlloc: keys})
	return &memory{s}, err
}

func (m *memory) learn(key []byte, _ time.Time) {
	_, _, _, _, _ = m.store.Take(context.Background(), string(key))
}

func (m *memory) worker(int) asker { return m }

func (m *memory) ask(key []byte, _ time.Time) {
	// The store keeps no key that it knows, so that none need be allocated.
	_, _, _, _, _ = m.store.Take(context.Background(), unsafe.String(&key[0], len(key)))
}
