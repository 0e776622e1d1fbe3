package screen

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// Sizes of a rule's counters: 64 parts with 128 sets of 8 keys hold 65,536 keys in 1.5 MiB, whatever comes.
const (
	windowParts = 64
	windowSets  = 128
	windowWays  = 8
)

// window counts events of many keys over a sliding window: the count of the current window and a share of that of the one
// before, as much of it as the sliding window still covers. It assumes that those of the window before came evenly;
// for a steady stream it is exact, and it errs by at most what came in one window
// (Cloudflare, "How we built rate limiting", 2017, found 0.003 % of requests wrongly decided). Once the newest of the window before is older than the sliding
// window, none of them counts: of one in 10 s, who came each 11 s was refused, and told to wait for up to 20.
//
// When a set is full, the key with the smallest count gives way: one that is far from its limit.
type window struct {
	length time.Duration
	seed   maphash.Seed
	parts  [windowParts]windowPart
}

type windowPart struct {
	mu   sync.Mutex
	sets [windowSets][windowWays]windowCount
}

type windowCount struct {
	key       uint64 // 0: free
	round     uint32 // which window now counts for
	now, then uint32

	// When the newest event of each came, in 1/65536 of its window and rounded up.
	nowLast, thenLast uint16
}

func newWindow(length time.Duration) *window {
	return &window{length: length, seed: maphash.MakeSeed()}
}

// add counts one event of key at a time since some fixed beginning. It says whether that is beyond most, and when one more would be let in.
func (w *window) add(key uint64, at time.Duration, most uint32) (over bool, wait time.Duration) {
	if key == 0 {
		key = 1
	}
	key *= 0x9e3779b97f4a7c15
	round := uint32(at / w.length)
	share := 1 - float64(at%w.length)/float64(w.length) // of the window before that still counts
	part := &w.parts[key%windowParts]
	part.mu.Lock()
	defer part.mu.Unlock()
	c := place1(&part.sets[key/windowParts%windowSets], key, round, share)
	if c.round != round { // it has turned already
		at, share = at+w.length-at%w.length, 1
	}
	if c.now < 2*most { // who goes on all the same waits for one window, and not for all that was refused
		c.now++
	}
	c.nowLast = max(c.nowLast, lastOf(share))
	if c.estimate(share) <= float64(most) {
		return false, 0
	}
	return true, c.wait(w.length, at, share, float64(most))
}

// place1 finds the counter of key in a set, brought to round, or makes room for it.
func place1(set *[windowWays]windowCount, key uint64, round uint32, share float64) *windowCount {
	least, at := 0.0, -1
	for i := range set {
		c := &set[i]
		c.turn(round)
		if c.key == key {
			return c
		}
		if n := c.estimate(share); at < 0 || n < least {
			least, at = n, i
		}
	}
	set[at] = windowCount{key: key, round: round}
	return &set[at]
}

// turn brings c to a round. Who read the clock just before a round ended may come behind one who read it after that, and counts for the new one: c
// must not go back, which would forget all that was counted.
func (c *windowCount) turn(round uint32) {
	switch round - c.round {
	case 0, math.MaxUint32:
	case 1:
		c.then, c.now, c.round = c.now, 0, round
		c.thenLast, c.nowLast = c.nowLast, 0
	default:
		*c = windowCount{key: c.key, round: round}
	}
}

// lastUnits is how many units of windowCount.nowLast make a window.
const lastUnits = 1 << 16

// lastOf is the part of a window that is over while share of the one before still counts. Rounded up, so that nothing is forgotten too early.
func lastOf(share float64) uint16 {
	return uint16(min(math.Ceil((1-share)*lastUnits), lastUnits-1))
}

// gone reports whether all events of the window before are older than the sliding window, of which share covers it. What came at its very end stays for all of it.
func (c *windowCount) gone(share float64) bool {
	return c.thenLast < lastUnits-1 && 1-share > float64(c.thenLast)/lastUnits
}

func (c *windowCount) estimate(share float64) float64 {
	if c.gone(share) {
		return float64(c.now)
	}
	return float64(c.then)*share + float64(c.now)
}

// wait is how long until one more event is within most, if none comes meanwhile.
func (c *windowCount) wait(length, at time.Duration, share, most float64) time.Duration {
	free := most - 1
	if now := float64(c.now); now > free { // only when the current window has become the one before
		rest := length - at%length
		return rest + part(length, min(1-max(free, 0)/now, leaves(c.nowLast)))
	}
	need := (free - float64(c.now)) / float64(c.then)
	return part(length, max(min(share-need, leaves(c.thenLast)-(1-share)), 0))
}

// leaves is the part of a window after which the newest event of the one before no longer counts.
func leaves(last uint16) float64 { return float64(uint32(last)+1) / lastUnits }

func part(length time.Duration, share float64) time.Duration {
	return time.Duration(share * float64(length))
}
