// Package cache keeps answers of endpoints and gives them to others (RFC 9111), holds together requests that one answer serves, and answers with what is
// out of date while a pool cannot answer better.
//
// It is written here because no library for Go is both a shared cache and apart from net/http, whose header maps cost more than a whole request here.
// What decides is in rules.go: pure, with the time as an argument.
package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// Deps is what a cache needs of its surroundings. Functions may be called by any goroutine.
type Deps struct {
	// Answer answers an exchange from memory.
	Answer func(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal
	// Alone makes an exchange one without a client, for refreshing; cancel ends it early.
	Alone func(x *exchange.Exchange) (cancel func())
	// Cause says why a refusal from further in came.
	Cause func(r *exchange.Refusal) Cause
	// Panicked is told of a refresh that panicked; nil allowed.
	Panicked func(v any)
	// Event is told what people should know of the files; nil allowed.
	Event func(text string)
	Now   func() time.Time // nil: time.Now
}

// Cache is what all listeners of a node keep together. Its methods may be called by any goroutine.
type Cache struct {
	deps    Deps
	store   *store
	disk    *disk // nil: memory only
	flights *flights
	works   sync.Pool
	jobs    chan *job
	places  atomic.Int64 // refreshes at once, at the most
	running atomic.Int64

	capturing atomic.Int64 // bytes of answers that are coming in
	most      atomic.Int64 // of the store; a quarter of it may come in besides

	stored, invalidated, purged, refreshed, unrefreshed, waitedOut, crowded atomic.Uint64

	mu      sync.Mutex
	tallies map[string]*Tally // by route
}

// New makes a cache. It starts nothing.
func New(cfg site.Cache, deps Deps) *Cache {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := &Cache{deps: deps, store: newStore(int64(cfg.Memory)), flights: newFlights(int64(cfg.Waiting)), jobs: make(chan *job, jobsWaiting), tallies: map[string]*Tally{}}
	if deps.Event == nil {
		c.deps.Event = func(string) {}
	}
	if cfg.Disk != nil {
		c.disk = newDisk(cfg.Disk, c.store, deps.Now, c.deps.Event)
		c.disk.claim = c.claim
	}
	c.works.New = func() any { return new(work) }
	c.Update(cfg)
	return c
}

// Update makes cfg the settings in force, but for the folder of files. What is stored stays as far as it has room.
func (c *Cache) Update(cfg site.Cache) {
	c.store.bound(int64(cfg.Memory), 0, c.deps.Now())
	if c.disk != nil && cfg.Disk != nil {
		c.disk.update(int64(cfg.Disk.Size), int64(cfg.Memory))
	}
	c.most.Store(int64(cfg.Memory))
	c.flights.most.Store(int64(cfg.Waiting))
	c.places.Store(int64(cfg.Refreshes))
}

// Purge takes out what is stored of a route, any for "", under URLs that begin with prefix, such as https://shop.example/img/; "" is all.
func (c *Cache) Purge(route, prefix string) int {
	onDisk := c.disk.purge(route, prefix)
	n := c.store.purge(route, prefix)
	n = max(n, onDisk) + c.disk.purge(route, prefix) // most of what is in memory is in a file too
	c.purged.Add(uint64(n))
	return n
}

// Status is what a cache holds, as plain data.
type Status struct {
	Bytes, Most, Capturing, Entries, Waiting                                         int64
	Stored, Evicted, Invalidated, Purged, Refreshed, Unrefreshed, WaitedOut, Crowded uint64
	Disk                                                                             *DiskStatus // nil: memory only
	Routes                                                                           []RouteStatus
}

// Status returns what the cache holds.
func (c *Cache) Status() Status {
	s := Status{
		Bytes: c.store.bytes.Load(), Most: c.most.Load(), Capturing: c.capturing.Load(), Entries: c.store.entries.Load(), Waiting: c.flights.waiting.Load(),
		Stored: c.stored.Load(), Evicted: c.store.evicted.Load(), Invalidated: c.invalidated.Load(), Purged: c.purged.Load(),
		Refreshed: c.refreshed.Load(), Unrefreshed: c.unrefreshed.Load(), WaitedOut: c.waitedOut.Load(), Crowded: c.crowded.Load(),
	}
	s.Disk, s.Routes = c.disk.status(), c.routes()
	return s
}

// Run refreshes what is stale, and reads and writes files, until ctx ends, and waits for what is under way.
func (c *Cache) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if c.disk != nil {
		wg.Go(func() { c.disk.run(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-c.jobs:
			c.running.Add(1)
			wg.Go(func() {
				defer c.running.Add(-1)
				j.run(ctx)
			})
		}
	}
}

// claim takes n bytes more of what may come in at once, from endpoints and files: a quarter of what may be stored. A negative n gives back.
func (c *Cache) claim(n int64) bool {
	if c.capturing.Add(n) > c.most.Load()/4 && n > 0 {
		c.capturing.Add(-n)
		return false
	}
	return true
}

// drop takes one answer out of memory, and with it the files of its key.
func (c *Cache) drop(o *Object) {
	if c.disk == nil {
		c.store.drop(o)
		return
	}
	key := []byte(o.key)
	c.disk.forget(key)
	c.store.drop(o)
	c.disk.forget(key)
}

// forget takes out all answers of a key. Files are forgotten before and after memory: see disk.
func (c *Cache) forget(key []byte) {
	c.disk.forget(key)
	c.invalidated.Add(uint64(c.store.forget(key)))
	c.disk.forget(key)
}
