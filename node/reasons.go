package node

import (
	"sync"
	"sync/atomic"

	"github.com/even-keel/evenkeel/exchange"
)

// maxReasons bounds the kinds of refusals of one route that are told apart, each of which takes 1 KiB. Their parts are of closed
// sets: words of the program, limits of the site file, three classes. With hundreds of limits that all refuse, the rest is other.
const maxReasons = 512

// reasonKey names a kind of refusals. Its parts are labels of metrics: never a customer, an address or anything else that senders choose.
type reasonKey struct {
	stage, reason, limit string
	class                exchange.Class
}

// reasons counts refusals of one route by kind. Looking one up takes no lock; only the first of its kind does.
type reasons struct {
	known atomic.Pointer[map[reasonKey]*[shardCount]paddedCount]
	mu    sync.Mutex
}

// paddedCount is a counter that shares its cache line with no other.
type paddedCount struct {
	n atomic.Uint64
	_ [56]byte
}

// count adds one refusal.
func (c *reasons) count(r *exchange.Refusal, class exchange.Class, shard uint32) {
	key := reasonKey{r.Stage, r.Reason, r.Limit, class}
	m := c.known.Load()
	var counter *[shardCount]paddedCount
	if m != nil {
		counter = (*m)[key]
	}
	if counter == nil {
		counter = c.add(key)
	}
	counter[shard%shardCount].n.Add(1)
}

// add makes the counter of a new kind of refusal.
func (c *reasons) add(key reasonKey) *[shardCount]paddedCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	grown := map[reasonKey]*[shardCount]paddedCount{}
	if m := c.known.Load(); m != nil {
		if counter := (*m)[key]; counter != nil {
			return counter
		}
		for k, v := range *m {
			grown[k] = v
		}
	}
	if len(grown) >= maxReasons {
		key = reasonKey{stage: "other", reason: "other", class: key.class}
	}
	if grown[key] == nil {
		grown[key] = new([shardCount]paddedCount)
	}
	c.known.Store(&grown)
	return grown[key]
}

// sums is the number of refusals of each kind.
func (c *reasons) sums() map[reasonKey]uint64 {
	out := map[reasonKey]uint64{}
	if m := c.known.Load(); m != nil {
		for k, counter := range *m {
			for i := range counter {
				out[k] += counter[i].n.Load()
			}
		}
	}
	return out
}
