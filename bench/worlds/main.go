package worlds

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Verdict is what became of one world.
type Verdict struct {
	World    World
	Goodput  float64 // in parts of what a gate that is told the truth wins
	Critical float64 // share of critical requests that were good, while critical demand was at most half of the capacity
	False    float64 // share refused while nothing needed refusing
	Won      int     // good answers of the gate that is told the truth
}

// Judge plays a world twice: once with what is learned, or told late, once with the truth.
func Judge(w World, gate knows) Verdict {
	ours, best := run(&w, gate, 0), run(&w, told, 0)
	v := Verdict{World: w, Goodput: 1, Critical: 1, Won: best.Good}
	if best.Good > 0 {
		v.Goodput = float64(ours.Good) / float64(best.Good)
	}
	if best.CriticalGood > 0 {
		v.Critical = float64(ours.CriticalGood) / float64(best.CriticalGood)
	}
	if ours.CalmSent > 0 {
		v.False = float64(ours.CalmShed) / float64(ours.CalmSent)
	}
	return v
}

// wanted is the least share of what a gate that is told the truth wins, in the worst 1 % of worlds and in each cell of the grid.
const wanted = 0.85

// longerMost bounds what worlds cost: a thousand that are ten times as long take some minutes.
const longerMost = 100

// worldsMost bounds how many are played: ten thousand take some minutes.
const worldsMost = 1_000_000

// Main is bench shed.
func Main(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("shed", flag.ContinueOnError)
	n := flags.Int("worlds", 1000, "how many worlds are played")
	seed := flags.Uint64("seed", 1, "of the first world; the others follow")
	replay := flags.Bool("replay", false, "play the world of -seed alone and tell its story")
	grid := flags.Bool("grid", false, "play overload, spikes and changes of capacity before servers of very different sizes, instead of random worlds")
	worst := flags.Int("worst", 10, "how many of the worst worlds are shown")
	longer := flags.Float64("longer", 1, "how many times as long the worlds are and what happens in them lasts")
	reach := flags.Bool("reach", false, "instead of evenkeel's play a gate that is told of changes of capacity when answers could have shown them: what learning can reach")
	if flags.Parse(args) != nil {
		return 2
	}
	if !(*longer > 0 && *longer <= longerMost) { // nor NaN
		fmt.Fprintf(os.Stderr, "bench shed: -longer is %v, allowed is more than 0, at the most %d\n", *longer, longerMost)
		return 2
	}
	if *n < 1 || *n > worldsMost {
		fmt.Fprintf(os.Stderr, "bench shed: -worlds is %d, allowed are 1 to %d\n", *n, worldsMost)
		return 2
	}
	if *worst < 0 {
		fmt.Fprintf(os.Stderr, "bench shed: -worst is %d, allowed is 0 or more\n", *worst)
		return 2
	}
	if *grid && *longer != 1 {
		fmt.Fprintln(os.Stderr, "bench shed: -longer is of random worlds, and does not go with -grid")
		return 2
	}
	gate := learns
	if *reach {
		gate = late
	}
	if *grid {
		if least := Grid(os.Stdout, *seed); least < wanted {
			fmt.Printf("the least is %.2f, %.2f is wanted: did not hold\n", least, wanted)
			return 1
		}
		return 0
	}
	if *replay {
		Tell(os.Stdout, Make(*seed).Longer(*longer))
		return 0
	}
	began := time.Now()
	all := Play(ctx, *seed, *n, *longer, gate)
	if len(all) < *n {
		return 3
	}
	goodput := Report(os.Stdout, all, *worst)
	fmt.Printf("%d worlds in %v\n", len(all), time.Since(began).Round(time.Second))
	if goodput < wanted {
		fmt.Printf("goodput of the worst 1 %% is %.3f, %.2f is wanted: did not hold\n", goodput, wanted)
		return 1
	}
	return 0
}

// Play judges n worlds from seed on, each so many times longer, on all processors. It returns what was done when ctx ended.
func Play(ctx context.Context, seed uint64, n int, longer float64, gate knows) []Verdict {
	all := make([]Verdict, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < n && ctx.Err() == nil; i = next.Add(1) - 1 {
				all[i] = Judge(Make(seed+uint64(i)).Longer(longer), gate)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return all
}

// Report prints what became of the worlds and returns the goodput that 99 % of them reach.
func Report(out io.Writer, all []Verdict, worst int) float64 {
	quantiles := func(name string, low bool, of func(Verdict) float64) float64 {
		list := make([]float64, 0, len(all))
		sum := 0.0
		for _, v := range all {
			list = append(list, of(v))
			sum += of(v)
		}
		slices.Sort(list)
		if !low {
			slices.Reverse(list)
		}
		at := func(q float64) float64 { return list[min(int(q*float64(len(list))), len(list)-1)] }
		fmt.Fprintf(out, "%-10s worst %.4f  worst 0.1 %% %.4f  worst 1 %% %.4f  worst 10 %% %.4f  median %.4f  mean %.4f\n",
			name, list[0], at(0.001), at(0.01), at(0.1), at(0.5), sum/float64(len(list)))
		return at(0.01)
	}
	goodput := quantiles("goodput", true, func(v Verdict) float64 { return v.Goodput })
	quantiles("critical", true, func(v Verdict) float64 { return v.Critical })
	quantiles("false shed", false, func(v Verdict) float64 { return v.False })
	slices.SortFunc(all, func(a, b Verdict) int {
		if a.Goodput < b.Goodput {
			return -1
		}
		return 1
	})
	for _, v := range all[:min(worst, len(all))] {
		fmt.Fprintf(out, "%.3f critical %.3f false %.4f  %v\n", v.Goodput, v.Critical, v.False, v.World)
	}
	if worst > 0 {
		again := ""
		if all[0].World.longer != 1 {
			again = fmt.Sprintf(" -longer %v", all[0].World.longer)
		}
		fmt.Fprintf(out, "replay one: go run ./bench shed -replay -seed %d%s\n", all[0].World.Seed, again)
	}
	return goodput
}

// Tell prints the story of one world.
func Tell(out io.Writer, w World) {
	fmt.Fprintln(out, w)
	for _, s := range w.Steps {
		fmt.Fprintf(out, "  at %v: demand %.2f workers %.2f slow %.2f failing %v\n", s.At.Round(time.Millisecond), s.Demand, s.Workers, s.Slow, s.Failing)
	}
	every := w.Length / 60
	ours, best := run(&w, learns, every), run(&w, told, every)
	fmt.Fprintf(out, "%10s %9s %9s %9s %9s %9s %7s %7s %7s %9s %6s %6s\n", "time", "demand/s", "could/s", "won/s", "good/s", "refused/s",
		"limit", "knee", "true", "service", "inside", "waits")
	for i, m := range ours.Story {
		fmt.Fprintf(out, "%10v %9.1f %9.1f %9.1f %9.1f %9.1f %7.0f %7.1f %7d %9v %6d %6d\n", m.At.Round(time.Millisecond), m.Demand, m.Capacity,
			best.Story[i].Good, m.Good, m.Refused, m.Limit, m.Workers, m.True, seconds(m.Service).Round(10*time.Microsecond), m.InFlight, m.Waiting)
	}
	fmt.Fprintf(out, "good %d of %d sent; told the truth: %d\n", ours.Good, ours.Sent, best.Good)
}
