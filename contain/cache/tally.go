package cache

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/even-keel/evenkeel/exchange"
)

// Result is what became of a request at the cache.
type Result uint8

// The results: of each request exactly one.
const (
	Hit         Result = iota // answered from memory, fresh
	Stale                     // answered from memory, stale
	Revalidated               // the endpoint said that what is stored still holds
	Coalesced                 // answered with what another request at the same time brought
	Miss                      // an endpoint was asked
	Bypass                    // not a question for the cache: passed on
	Refused                   // further in, and there was nothing to answer with
	results
)

// resultNames are the words for metrics, in the order of the results.
var resultNames = [results]string{"hit", "stale", "revalidated", "coalesced", "miss", "bypass", "refused"}

// why a stale answer was given.
const (
	staleClient = iota // the client takes it
	staleWhile
	staleError
	staleOverloaded
	staleWhys
)

var staleNames = [staleWhys]string{"max-stale", "while_revalidate", "if_error", "if_overloaded"}

const tallyShards = 16

// Tally counts what became of the requests of one route, and knows by which rules the route keeps answers now.
type Tally struct {
	shards [tallyShards]tallyShard
	print  atomic.Uint64 // the Print of the policy in force
}

// tallyShard fills cache lines of its own.
type tallyShard struct {
	results [results]atomic.Uint64
	stale   [staleWhys]atomic.Uint64
	_       [128 - (results+staleWhys)*8]byte
}

// count counts a request, and tells it what became of it.
func (t *Tally) count(x *exchange.Exchange, r Result) {
	x.Cached = resultNames[r]
	t.shards[x.Shard%tallyShards].results[r].Add(1)
}

// tally finds or makes the tally of a route. Tallies outlive reloads.
func (c *Cache) tally(route string) *Tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tallies[route] == nil {
		c.tallies[route] = new(Tally)
	}
	return c.tallies[route]
}

// Keep forgets the tallies of routes that are not named any more, and what is stored of them.
func (c *Cache) Keep(named func(route string) bool) {
	c.mu.Lock()
	var gone []string
	for route := range c.tallies {
		if t := c.tallies[route]; !named(route) {
			t.print.Add(1) // no policy that is known has it
			delete(c.tallies, route)
			gone = append(gone, route)
		}
	}
	c.mu.Unlock()
	for _, route := range gone {
		c.Purge(route, "")
	}
}

// RouteStatus is what became of the requests of one route.
type RouteStatus struct {
	Route   string
	Results map[string]uint64 // by word of result, all words
	Stale   map[string]uint64 // by why, all words
}

func (c *Cache) routes() []RouteStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]RouteStatus, 0, len(c.tallies))
	for route, t := range c.tallies {
		s := RouteStatus{route, map[string]uint64{}, map[string]uint64{}}
		for i := range t.shards {
			for r, word := range resultNames {
				s.Results[word] += t.shards[i].results[r].Load()
			}
			for w, word := range staleNames {
				s.Stale[word] += t.shards[i].stale[w].Load()
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b RouteStatus) int { return cmp.Compare(a.Route, b.Route) })
	return out
}
