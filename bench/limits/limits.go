// Package limits measures what a check of a rate limit costs beside other limiters, in one process and in turn.
package limits

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Exit codes.
const (
	held     = 0
	notHeld  = 1
	wrongUse = 2
	silent   = 3
)

// plan is what the flags say.
type plan struct {
	keys, rounds, checks int
	json, expect         bool
}

// Main runs `bench limit` and returns its exit code.
func Main(ctx context.Context, args []string) int {
	var p plan
	f := flag.NewFlagSet("bench limit", flag.ContinueOnError)
	f.IntVar(&p.keys, "keys", 1_000_000, "keys that are known")
	f.IntVar(&p.rounds, "rounds", 7, "rounds; in each, every limiter has its turn")
	f.IntVar(&p.checks, "checks", 1_000_000, "checks of one turn on one core")
	f.BoolVar(&p.json, "json", false, "print JSON")
	f.BoolVar(&p.expect, "expect", false, "exit with 1 when what is expected does not hold")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return held
	} else if err != nil {
		return wrongUse
	}
	if f.NArg() > 0 || p.keys < 1 || p.keys > 10_000_000 || p.rounds < 1 || p.checks < 1 {
		fmt.Fprintln(os.Stderr, "bench limit: keys are 1 to 10000000, rounds and checks at least 1, and there are no other arguments")
		return wrongUse
	}
	r, err := p.run(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench limit:", err)
		return silent
	}
	if p.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = r.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench limit:", err)
		return silent
	}
	if p.expect && !r.Held {
		return notHeld
	}
	return held
}

// measure is one column of the table: how keys are asked for, and on how many cores at once.
type measure struct {
	name    string
	cores   int
	skewed  bool
	fewKeys bool
}

// fewKeys are so many that their budgets stay in the caches of a core.
const fewKeys = 1000

func measures() []measure {
	list := []measure{{"1,000 keys", 1, false, true}, {"all keys, skewed", 1, true, false}, {"all keys, even", 1, false, false}}
	if runtime.NumCPU() > 1 {
		list = append(list, measure{"skewed, 2 cores", 2, true, false}, measure{"even, 2 cores", 2, false, false})
	}
	return list
}

// row is what one limiter showed.
type row struct {
	Limiter     string          `json:"limiter"`
	BytesPerKey float64         `json:"bytes_per_key"`
	NS          map[string]span `json:"ns_per_check"` // of processor time, without the making of keys
	rounds      map[string][]float64
}

// span is the middle of the rounds and how far they go.
type span struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spanOf(values []float64) span {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return span{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// report is the result of a run.
type report struct {
	Keys     int      `json:"keys"`
	Rounds   int      `json:"rounds"`
	CPU      int      `json:"cpus"`
	Rows     []row    `json:"rows"`
	Expected []string `json:"expected"`
	Held     bool     `json:"held"`
}

// run plays all rounds.
func (p *plan) run(ctx context.Context, talk io.Writer) (*report, error) {
	all := measures()
	orders := map[bool][]uint32{false: p.order(false), true: p.order(true)}
	few := make([]uint32, p.checks)
	for i := range few {
		few[i] = uint32(rand.N(min(fewKeys, p.keys)))
	}
	r := &report{Keys: p.keys, Rounds: p.rounds, CPU: runtime.NumCPU()}
	var checks []check
	for _, one := range rivals {
		fmt.Fprintf(talk, "%s learns %d keys\n", one.name, p.keys)
		c, perKey, err := p.fill(one)
		if err != nil {
			return nil, err
		}
		checks = append(checks, c)
		r.Rows = append(r.Rows, row{Limiter: one.name, BytesPerKey: perKey, NS: map[string]span{}, rounds: map[string][]float64{}})
	}
	for round := range p.rounds {
		fmt.Fprintf(talk, "round %d of %d\n", round+1, p.rounds)
		for _, m := range all {
			order := orders[m.skewed]
			if m.fewKeys {
				order = few
			}
			for i := range checks {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				ns := turn(checks[i], order, m.cores)
				r.Rows[i].rounds[m.name] = append(r.Rows[i].rounds[m.name], ns)
			}
		}
	}
	r.finish(all)
	return r, nil
}

// order is which keys are asked for, one after the other: all alike, or a few often and many seldom, as customers are (Zipf with exponent 1.1).
func (p *plan) order(skewed bool) []uint32 {
	out := make([]uint32, p.checks)
	rnd := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rnd, 1.1, 1, uint64(p.keys-1))
	for i := range out {
		if skewed {
			// Neighbours in rank are no neighbours in memory.
			out[i] = uint32(zipf.Uint64() * 2654435761 % uint64(p.keys))
		} else {
			out[i] = uint32(rnd.IntN(p.keys))
		}
	}
	return out
}

// fill makes a limiter know all keys, and measures what they take.
func (p *plan) fill(one rival) (check, float64, error) {
	before := heap()
	c, err := one.make(p.keys)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", one.name, err)
	}
	now := time.Now()
	var buf [keyBytes]byte
	for i := range uint32(p.keys) {
		c.learn(keyOf(&buf, i), now)
	}
	after := heap()
	return c, max(0, float64(after)-float64(before)) / float64(p.keys), nil
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what has a finalizer goes with the second
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// turn lets so many cores ask for keys at once, each from another place of the order, and returns the nanoseconds of processor time that
// one check takes. Other programs then change little, though waiting for memory and for other cores counts.
func turn(c check, order []uint32, cores int) float64 {
	var wg sync.WaitGroup
	spent := make([]time.Duration, cores)
	now := time.Now()
	for core := range cores {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			start := threadTime()
			var buf [keyBytes]byte
			split := len(order) * core / cores
			now := now
			worker := c.worker(core)
			for _, part := range [2][]uint32{order[split:], order[:split]} {
				for _, i := range part {
					now = now.Add(time.Microsecond)
					worker.ask(keyOf(&buf, i), now)
				}
			}
			spent[core] = threadTime() - start
		})
	}
	wg.Wait()
	sum := time.Duration(0)
	for _, d := range spent {
		sum += d
	}
	return float64(sum) / float64(cores*len(order))
}

// threadTime is the processor time that the thread has had.
func threadTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// keyBytes is the length of a key.
const keyBytes = 16

// keyOf writes the text of a key: a customer's name as a request brings it, which lies in the cache of the core that read the request.
func keyOf(buf *[keyBytes]byte, i uint32) []byte {
	copy(buf[:], "customer-")
	for at := keyBytes - 1; at >= 9; at-- {
		buf[at] = byte('0' + i%10)
		i /= 10
	}
	return buf[:]
}
