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
	Now      func() time.Time // nil: time.Now
}

// Cache is what all listeners of a node keep together. Its methods may be called by any goroutine.
type Cache struct {
	deps    Deps
	store   *store
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
	c.works.New = func() any { return new(work) }
	c.Update(cfg)
	return c
}

// Update makes cfg the settings in force. What is stored stays as far as it has room.
func (c *Cache) Update(cfg site.Cache) {
	c.store.resize(int64(cfg.Memory), c.deps.Now())
	c.most.Store(int64(cfg.Memory))
	c.flights.most.Store(int64(cfg.Waiting))
	c.places.Store(int64(cfg.Refreshes))
}

// Purge takes out what is stored of a route, any for "", under URLs that begin with prefix, such as https://shop.example/img/; "" is all.
func (c *Cache) Purge(route, prefix string) int {
	n := c.store.purge(route, prefix)
	c.purged.Add(uint64(n))
	return n
}

// Status is what a cache holds, as plain data.
type Status struct {
	Bytes, Most, Capturing, Entries, Waiting                                         int64
	Stored, Evicted, Invalidated, Purged, Refreshed, Unrefreshed, WaitedOut, Crowded uint64
	Routes                                                                           []RouteStatus
}

// Status returns what the cache holds.
func (c *Cache) Status() Status {
	s := Status{
		Bytes: c.store.bytes.Load(), Most: c.most.Load(), Capturing: c.capturing.Load(), Entries: c.store.entries.Load(), Waiting: c.flights.waiting.Load(),
		Stored: c.stored.Load(), Evicted: c.store.evicted.Load(), Invalidated: c.invalidated.Load(), Purged: c.purged.Load(),
		Refreshed: c.refreshed.Load(), Unrefreshed: c.unrefreshed.Load(), WaitedOut: c.waitedOut.Load(), Crowded: c.crowded.Load(),
	}
	s.Routes = c.routes()
	return s
}

// Run refreshes what is stale until ctx ends, and waits for what is under way.
func (c *Cache) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
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
