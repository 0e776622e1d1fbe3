package limit

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// mixed spreads small numbers over 64 bits, as keyed hashes are (splitmix64).
func mixed(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// length is full, or a twentieth of it where tests run short, as with the race detector, which is ten times as slow. `make full`
// takes all of it.
func length(full int) int {
	if testing.Short() {
		return full / 20
	}
	return full
}

const second = int64(time.Second)

// A million keys that all owe take at most 32 bytes each, and every one has a place of its own.
func TestBytesPerKey(t *testing.T) {
	keys := length(1_000_000)
	n := newNumbers(1, 1, 0)
	table := newTable(keys)
	if first := table.size().bytes; first > 150_000 {
		t.Errorf("a table without keys takes %d bytes", first)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range uint64(keys) {
		if _, ok := table.take(mixed(i), n.asks(second, 1, 1), true); !ok {
			t.Fatalf("key %d was refused", i)
		}
		if i%300_000 == 0 && i > 0 {
			z := table.size()
			t.Logf("%d keys: %.1f bytes per key", z.keys, float64(z.bytes)/float64(z.keys))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	z := table.size()
	perKey := float64(z.bytes) / float64(keys)
	heap := float64(after.HeapAlloc-before.HeapAlloc) / float64(keys)
	t.Logf("%d keys: %.1f bytes per key, %.1f by the heap", z.keys, perKey, heap)
	if z.keys != keys || z.spilled != 0 || perKey > 32 || heap > 32 {
		t.Errorf("%d of %d keys have a place, %d share one; %.1f bytes per key, %.1f by the heap; want at most 32", z.keys, keys, z.spilled, perKey, heap)
	}
	runtime.KeepAlive(table)
}

// An attack with ten million keys (or a twentieth, on a table as much smaller), each of which owes, resets nobody: keys that were there before are refused all along, the table
// stays within its bound, and newcomers without a place share budgets, one per shard.
func TestManyKeysResetNobody(t *testing.T) {
	const known = 1000
	capacity, attackers := length(100_000), length(10_000_000)
	hour := newNumbers(1.0/3600, 2, 0)
	table := newTable(capacity)
	now := second
	victim := func(i uint64) uint64 { return mixed(1<<40 + i) }
	for i := range uint64(known) {
		for range 2 {
			if _, ok := table.take(victim(i), hour.asks(now, 1, 1), true); !ok {
				t.Fatalf("key %d was refused within its burst", i)
			}
		}
	}
	admitted := 0
	for i := range uint64(attackers) {
		now += 100 // ten million in a second
		if _, ok := table.take(mixed(i), hour.asks(now, 1, 1), true); ok {
			admitted++
		}
		if i%1000 == 0 {
			if _, ok := table.take(victim(i/1000%known), hour.asks(now, 1, 1), true); ok {
				t.Fatalf("after %d keys of an attack, one that has spent its budget is let through", i)
			}
		}
	}
	z := table.size()
	perKey := float64(z.bytes) / float64(capacity)
	t.Logf("%d let through, %d keys have a place, %d requests shared, %.1f bytes per key of the limit", admitted, z.keys, z.spilled, perKey)
	// Never more budgets than there are slots and shards.
	most := int(table.most.Load())*lineSlots*len(table.shards) + 2*len(table.shards)
	if z.keys < capacity || perKey > 32 || admitted > most {
		t.Errorf("let through %d, at most %d; %d keys of %d; %.1f bytes per key", admitted, most, z.keys, capacity, perKey)
	}
	// When their budgets are whole again, their places are free for others.
	now += 3 * 3600 * second
	for i := range uint64(capacity) {
		if _, ok := table.take(mixed(1<<50+i), hour.asks(now, 1, 1), true); !ok {
			t.Fatalf("a newcomer is refused though all budgets are whole")
		}
	}
	if after := table.size(); after.spilled != z.spilled || after.bytes != z.bytes {
		t.Errorf("%d newcomers shared, %d bytes more", after.spilled-z.spilled, after.bytes-z.bytes)
	}
}

// Over a minute with a million keys, which all ask more often than they may, what is let through is what the limit says.
func TestErrorOverAMinute(t *testing.T) {
	const rate, burst, seconds, asks = 0.1, 2, 60, 14
	keys := length(1_000_000)
	n := newNumbers(rate, burst, 0)
	table := newTable(keys)
	rnd := rand.New(rand.NewPCG(1, 2))
	const step = seconds * second / asks
	begin := func(i uint64) int64 { return second + int64(i)*step/int64(keys) } // so that time goes on evenly
	got, perKey := 0, make([]uint8, keys)
	for round := range int64(asks + 1) {
		for i := range uint64(keys) {
			now := begin(i) + round*seconds*second/asks
			if round > 0 && round < asks { // the first and the last ask are a minute apart, the others when they like
				now += rnd.Int64N(step) - step/2
			}
			if _, ok := table.take(mixed(i), n.asks(now, 1, 1), true); ok {
				got++
				perKey[i]++
			}
		}
	}
	const limit = burst + rate*seconds
	for i, c := range perKey {
		if float64(c) > limit {
			t.Fatalf("key %d had %d of %.0f", i, c, limit)
		}
	}
	off := float64(got)/(limit*float64(keys)) - 1
	t.Logf("%d let through, the limit allows %.0f: %.4f %% off; %d shared a budget", got, limit*float64(keys), 100*off, table.size().spilled)
	if off > 0 || off < -0.01 {
		t.Errorf("%.3f %% off, allowed is one", 100*off)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, keys := range []int{1000, 1_000_000} {
		b.Run(map[int]string{1000: "keys=1k", 1_000_000: "keys=1M"}[keys], func(b *testing.B) {
			n := newNumbers(1000, 100, 0)
			table := newTable(1_000_000)
			for i := range uint64(keys) {
				table.take(mixed(i), n.asks(second, 1, 1), true)
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				r := rand.Uint64()
				for pb.Next() {
					r = r*6364136223846793005 + 1442695040888963407
					now := second + int64(r>>60)
					table.take(mixed((r>>20)%uint64(keys)), n.asks(now, 1, 1), true)
				}
			})
		})
	}
}

// All cores at once take no more than the limit, from keys of tables and from cells, while the table grows.
func TestTakeAtOnce(t *testing.T) {
	n := newNumbers(1, 100, 0)
	table, c := newTable(10_000), new(cell)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total, ofCell := 0, 0
	for range 4 {
		wg.Go(func() {
			mine, cells := 0, 0
			for round := range 60 {
				for k := range uint64(200) {
					if _, ok := table.take(mixed(k), n.asks(second, 1, 1), true); ok {
						mine++
					}
					table.take(mixed(uint64(round+1)<<32+k), n.asks(second, 1, 1), true)
				}
				if _, ok := c.tat.take(n.asks(second, 1, 1)); ok {
					cells++
				}
			}
			mu.Lock()
			total, ofCell = total+mine, ofCell+cells
			mu.Unlock()
		})
	}
	wg.Wait()
	if total != 200*100 || ofCell != 100 {
		t.Errorf("%d of %d let through by the table, %d of 100 by the cell", total, 200*100, ofCell)
	}
}

// Requests under way are counted exactly, and a key without any leaves nothing behind.
func TestEnterAtOnce(t *testing.T) {
	table, c := newTable(1000), new(cell)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(w)))
			for range 2000 {
				h := mixed(rnd.Uint64N(300))
				if n, ok := table.enter(h, 2, true); ok {
					if n < 1 || n > 2 {
						t.Errorf("%d under way of at most 2", n)
					}
					runtime.Gosched()
					table.exit(h, false)
				}
				if n, ok := c.enter(3); ok {
					if n < 1 || n > 3 {
						t.Errorf("%d under way of at most 3", n)
					}
					runtime.Gosched()
					c.inFlight.Add(-1)
				}
			}
		})
	}
	wg.Wait()
	for i := range table.shards {
		for _, l := range table.shards[i].lines {
			for _, e := range l {
				if e.value != 0 {
					t.Fatalf("key %x still has %d under way", e.key, e.value)
				}
			}
		}
	}
	if c.inFlight.Load() != 0 {
		t.Errorf("the cell still has %d under way", c.inFlight.Load())
	}
}
