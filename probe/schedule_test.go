package probe

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var dawn = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world runs a schedule with a clock of its own, in steps of a millisecond.
type world struct {
	t      *testing.T
	s      schedule
	now    time.Time
	took   func(i int) time.Duration // how long target i's probes take
	all    []*turns
	index  map[*turns]int
	ends   map[int64][]*turns // by millisecond
	begins [][]time.Time      // of every target
	peak   int                // probes at once
}

func newWorld(t *testing.T, seed uint64, places int, took func(int) time.Duration) *world {
	return &world{t: t, now: dawn, took: took, index: map[*turns]int{}, ends: map[int64][]*turns{},
		s: newSchedule(rand.New(rand.NewPCG(seed, seed)), places, 2)}
}

func (w *world) add(every time.Duration, lane int) *turns {
	t := &turns{}
	w.index[t] = len(w.all)
	w.all = append(w.all, t)
	w.begins = append(w.begins, nil)
	w.s.add(t, w.now, every, lane)
	return t
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Millisecond) {
		ms := w.now.Sub(dawn).Milliseconds()
		for _, t := range w.ends[ms] {
			w.s.done(t)
		}
		delete(w.ends, ms)
		for _, t := range w.s.start(w.now) {
			if t.gone {
				w.t.Fatal("a removed target was started")
			}
			i := w.index[t]
			w.begins[i] = append(w.begins[i], w.now)
			at := max(ms+w.took(i).Milliseconds(), ms+1)
			w.ends[at] = append(w.ends[at], t)
		}
		w.peak = max(w.peak, w.s.status(w.now).Running)
	}
}

func quick(int) time.Duration { return 3 * time.Millisecond }

// TestScheduleDoesNotDrift: the n-th turn comes n intervals after the first on the grid, however long probes take.
func TestScheduleDoesNotDrift(t *testing.T) {
	const every = time.Second
	w := newWorld(t, 1, 100, func(i int) time.Duration { return time.Duration(i) * 40 * time.Millisecond })
	for range 10 {
		w.add(every, laneNet)
	}
	w.run(1000 * every)
	for i, begins := range w.begins {
		if n := len(begins); n < 999 || n > 1001 {
			t.Errorf("target %d was probed %d times in 1000 intervals", i, n)
		}
		for n, at := range begins[1:] {
			grid := w.all[i].base.Add(time.Duration(n+1) * every)
			if off := at.Sub(grid); off < -every/10 || off > every/10+2*time.Millisecond {
				t.Fatalf("target %d: turn %d came %v off its grid", i, n+1, off)
			}
		}
	}
	if st := w.s.status(w.now); st.Skipped != 0 || st.LagMax > 2*time.Millisecond {
		t.Errorf("%d skipped, lag %v, want none", st.Skipped, st.LagMax)
	}
}

// TestScheduleSpreads: targets that come together begin together once, and are then spread over the interval.
func TestScheduleSpreads(t *testing.T) {
	const targets, every = 10000, 5 * time.Second
	for seed := range uint64(3) {
		w := newWorld(t, seed, inFlightMax, quick)
		for range targets {
			w.add(every, laneNet)
		}
		w.run(100 * time.Millisecond)
		for i, begins := range w.begins {
			if len(begins) == 0 {
				t.Fatalf("seed %d: target %d had no first probe within 100 ms", seed, i)
			}
		}
		if w.peak > inFlightMax {
			t.Errorf("seed %d: %d probes at once, limit %d", seed, w.peak, inFlightMax)
		}
		from := w.now.Add(every)
		w.run(5 * every)
		perSlice := make([]int, 40) // of 500 ms each
		for _, begins := range w.begins {
			for _, at := range begins {
				if n := int(at.Sub(from) / (500 * time.Millisecond)); !at.Before(from) && n < len(perSlice) {
					perSlice[n]++
				}
			}
		}
		if lo, hi := slices.Min(perSlice), slices.Max(perSlice); lo < 800 || hi > 1200 {
			t.Errorf("seed %d: between %d and %d probes per 500 ms, want 1000 ± 200", seed, lo, hi)
		}
		if st := w.s.status(w.now); st.Skipped != 0 {
			t.Errorf("seed %d: %d turns skipped", seed, st.Skipped)
		}
	}
}

// TestScheduleJitters: neighbouring turns are not evenly spaced, and never further off than a tenth each.
func TestScheduleJitters(t *testing.T) {
	const every = time.Second
	w := newWorld(t, 7, 10, quick)
	w.add(every, laneNet)
	w.run(500 * every)
	var sum float64
	gaps := 0
	for i, at := range w.begins[0][2:] {
		gap := at.Sub(w.begins[0][i+1])
		if gap < every*8/10 || gap > every*12/10+2*time.Millisecond {
			t.Errorf("gap of %v between turns of %v", gap, every)
		}
		sum += math.Abs(float64(gap - every))
		gaps++
	}
	// Two uniform jitters of a tenth each differ by 67 ms in the mean.
	if mean := time.Duration(sum / float64(gaps)); mean < 40*time.Millisecond || mean > 90*time.Millisecond {
		t.Errorf("gaps differ from the interval by %v in the mean, want about 67ms", mean)
	}
}

// TestScheduleHungTargets: those that hang skip their own turns and nobody else's.
func TestScheduleHungTargets(t *testing.T) {
	const every = time.Second
	hung := func(i int) bool { return i%2 == 0 }
	w := newWorld(t, 3, 1000, func(i int) time.Duration {
		if hung(i) {
			return 2500 * time.Millisecond
		}
		return time.Millisecond
	})
	for range 200 {
		w.add(every, laneNet)
	}
	w.run(100 * every)
	for i, begins := range w.begins {
		switch n := len(begins); {
		case hung(i) && (n < 30 || n > 36):
			t.Errorf("hung target %d began %d probes in 100 intervals of which each takes 2.5", i, n)
		case !hung(i) && n < 100:
			t.Errorf("target %d began %d probes in 100 intervals beside hung ones", i, n)
		}
	}
	if st := w.s.status(w.now); st.Skipped < 100*60 || st.LagMax > 2*time.Millisecond {
		t.Errorf("%d skipped, lag %v", st.Skipped, st.LagMax)
	}
}

// TestScheduleLanes: full places make probes wait in order, commands do not hold up connections.
func TestScheduleLanes(t *testing.T) {
	const every = time.Second
	w := newWorld(t, 4, 10, func(int) time.Duration { return 100 * time.Millisecond })
	for i := range 20 {
		w.add(every, map[bool]int{true: laneExec, false: laneNet}[i < 10])
	}
	w.run(50 * time.Millisecond)
	if st := w.s.status(w.now); st.Running != 12 || st.Waiting != 8 {
		t.Errorf("%d running and %d waiting, want 10 connections and 2 commands, and 8 waiting", st.Running, st.Waiting)
	}
	w.run(20 * every)
	if w.peak > 12 {
		t.Errorf("%d at once, places are 12", w.peak)
	}
	for i, begins := range w.begins {
		if len(begins) < 18 {
			t.Errorf("target %d began %d probes in 20 intervals", i, len(begins))
		}
	}
	if st := w.s.status(w.now); st.LagMax < 300*time.Millisecond || st.LagMax > time.Second {
		t.Errorf("lag %v, want that of the first turns of the commands: 400ms", st.LagMax)
	}
	w.run(3 * lagWindow)
	if st := w.s.status(w.now); st.LagMax > 300*time.Millisecond {
		t.Errorf("lag %v is not forgotten", st.LagMax)
	}
}

// TestScheduleAfterStandstill: turns missed while the machine slept are counted and not made up for.
func TestScheduleAfterStandstill(t *testing.T) {
	w := newWorld(t, 5, 10, quick)
	w.add(time.Second, laneNet)
	w.run(10 * time.Second)
	before := len(w.begins[0])
	w.now = w.now.Add(time.Hour)
	w.ends = map[int64][]*turns{}
	w.run(10 * time.Second)
	if n := len(w.begins[0]) - before; n < 10 || n > 11 {
		t.Errorf("%d probes in the 10 s after an hour of sleep", n)
	}
	if st := w.s.status(w.now); st.Skipped < 3598 || st.Skipped > 3600 {
		t.Errorf("%d skipped in an hour, want 3600 less the one that came late", st.Skipped)
	}
}

// TestScheduleChurn adds and removes at random in every state and looks for leaks.
func TestScheduleChurn(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 99))
		w := newWorld(t, seed, 5, func(int) time.Duration { return time.Duration(rnd.IntN(80)) * time.Millisecond })
		for range 2000 {
			switch live := w.s.heap; {
			case len(live) < 5 || len(live) < 40 && rnd.IntN(2) == 0:
				w.add(time.Duration(10+rnd.IntN(200))*time.Millisecond, rnd.IntN(lanes))
			case rnd.IntN(3) == 0:
				gone := live[rnd.IntN(len(live))]
				if !w.s.remove(gone) || w.s.remove(gone) {
					t.Fatal("remove says whether it removed")
				}
			}
			w.run(time.Duration(rnd.IntN(10)) * time.Millisecond)
			for i, want := 0, w.s.heap; i < len(want); i++ {
				if want[i].slot != i {
					t.Fatalf("seed %d: target thinks it is at %d of the heap and is at %d", seed, want[i].slot, i)
				}
			}
		}
		for len(w.s.heap) > 0 {
			w.s.remove(w.s.heap[0])
		}
		w.run(200 * time.Millisecond)
		if st := w.s.status(w.now); st.Targets+st.Running+st.Waiting != 0 || len(w.s.lanes[0].queue)+len(w.s.lanes[1].queue) != 0 {
			t.Errorf("seed %d: all were removed and there is still %+v", seed, st)
		}
	}
}
