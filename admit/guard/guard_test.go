package guard

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

var testConfig = Config{Scheduler: 50 * time.Millisecond, Memory: 0.9, Files: 0.9}

// busy is a sample of a node that works hard and well.
func busy() Sample {
	return Sample{Took: Window, Scheduler: 2 * time.Millisecond, Waits: 10000, CPU: 0.95, Memory: 0.4, Files: 0.1, Demand: [3]uint64{700, 200, 100}}
}

func TestRefusalsBeginAfterThreeHotWindows(t *testing.T) {
	c := New(testConfig)
	hot := busy()
	hot.Scheduler = 55 * time.Millisecond
	for i := range rise - 1 {
		if o := c.Step(hot); o.Why != Calm || !o.Watch || o.Streams >= 1 {
			t.Fatalf("window %d: %+v, want no refusal, but fewer streams", i, o)
		}
	}
	if o := c.Step(busy()); o.Why != Calm {
		t.Fatalf("a good window between: %+v", o)
	}
	c.Step(hot)
	c.Step(hot)
	o := c.Step(hot)
	if o.Why != Scheduler || math.Abs(o.Refuse[exchange.Low]-1) > 1e-9 || o.Refuse[exchange.Standard] != 0 || o.Refuse[exchange.Critical] != 0 {
		t.Fatalf("after three: %+v, want the tenth that is low refused", o)
	}
	for range 100 {
		o = c.Step(hot)
	}
	if o.Refuse[exchange.Low] != 1 || o.Refuse[exchange.Standard] > 0.05 || o.Refuse[exchange.Critical] > 0 {
		t.Errorf("a little above the threshold for long: %+v, want all low and few standard requests refused", o)
	}
	hot.Scheduler = 470 * time.Millisecond
	for range 100 {
		o = c.Step(hot)
	}
	if o.Refuse[exchange.Standard] != 1 || o.Refuse[exchange.Critical] < 0.5 || o.Refuse[exchange.Critical] >= 1 {
		t.Errorf("when it does not help: %+v, want all but some critical ones refused", o)
	}
	windows := 0
	for ; o.Why != Calm || o.Streams < 1; windows++ {
		if o = c.Step(busy()); windows > 200 {
			t.Fatalf("never calm again: %+v", o)
		}
	}
	if after := time.Duration(windows) * Window; after > 25*time.Second {
		t.Errorf("calm after %v", after)
	}
	if o := c.Step(busy()); o.Watch {
		t.Error("classes are counted when all is well")
	}
}

// TestNoFalseAlarm: what looks like overload and is none refuses nothing.
func TestNoFalseAlarm(t *testing.T) {
	for name, change := range map[string]func(i int, s *Sample){
		"busy machine, own work runs":      func(_ int, s *Sample) { s.CPU = 1 },
		"other processes hold the cores":   func(_ int, s *Sample) { s.Scheduler, s.CPU = 90*time.Millisecond, 0.05 },
		"a crowded machine":                func(_ int, s *Sample) { s.Scheduler, s.Crowded = 90*time.Millisecond, 8 },
		"two waits in a quiet night":       func(_ int, s *Sample) { s.Scheduler, s.Waits = time.Second, 2 },
		"a collection every second":        func(i int, s *Sample) { s.Scheduler = []time.Duration{1, 1, 60, 60}[i%4] * time.Millisecond },
		"the process was stopped":          func(_ int, s *Sample) { s.Took, s.Scheduler, s.Accept = 10*time.Second, 9*time.Second, 1 },
		"memory at the edge for a moment":  func(i int, s *Sample) { s.Memory = []float64{0.91, 0.84}[i%2] },
		"all descriptors":                  func(_ int, s *Sample) { s.Files = 1 },
		"accept queue three quarters full": func(_ int, s *Sample) { s.Accept = 0.75 },
	} {
		c := New(testConfig)
		for i := range 400 {
			s := busy()
			change(i, &s)
			if o := c.Step(s); o.Why != Calm || o.Refuse != [3]float64{} {
				t.Errorf("%s: %+v at window %d", name, o, i)
				break
			}
		}
	}
}

func TestMemory(t *testing.T) {
	c := New(testConfig)
	for _, step := range []struct {
		used               float64
		low, std, critical float64
	}{
		{0.85, 0, 0, 0}, {0.91, 0, 0, 0}, {0.91, 1, 1, 0}, {0.94, 1, 1, 0}, {0.96, 1, 1, 1}, {0.94, 1, 1, 1}, {0.92, 1, 1, 0}, {0.88, 1, 1, 0}, {0.86, 1, 1, 0}, {0.84, 0, 0, 0}, {0.89, 0, 0, 0},
	} {
		s := busy()
		s.Memory = step.used
		o := c.Step(s)
		if got := [3]float64{o.Refuse[exchange.Low], o.Refuse[exchange.Standard], o.Refuse[exchange.Critical]}; got != [3]float64{step.low, step.std, step.critical} {
			t.Errorf("at %v: refused %v, want %v %v %v", step.used, got, step.low, step.std, step.critical)
		}
		if (o.Idle > 0) != (step.used >= 0.85) {
			t.Errorf("at %v: idle connections are closed after %v", step.used, o.Idle)
		}
	}
}

func TestIdleGoesOldestFirst(t *testing.T) {
	c := New(testConfig)
	s := busy()
	s.Files = 0.95
	var seen []time.Duration
	for range 40 {
		if o := c.Step(s); len(seen) == 0 || seen[len(seen)-1] != o.Idle {
			seen = append(seen, o.Idle)
		}
	}
	want := []time.Duration{32 * time.Second, 16 * time.Second, 8 * time.Second, 4 * time.Second, 2 * time.Second, time.Second}
	if len(seen) != len(want) || seen[0] != want[0] || seen[5] != want[5] {
		t.Errorf("idle limits %v, want %v", seen, want)
	}
	s.Files = 0.5
	if o := c.Step(s); o.Idle != 0 {
		t.Errorf("idle limit %v when there are descriptors again", o.Idle)
	}
}

// TestWhoIsLeftIsServed: after a flood of standard requests has gone, the critical ones that come as ever are not refused in its place.
// Idle clients give way to new ones, too, where it is memory or a small number of descriptors that bounds connections.
func TestIdleGivesWayWhenThereIsNoRoom(t *testing.T) {
	c := New(testConfig)
	for _, step := range []struct {
		room float64
		idle bool
	}{{0.9, false}, {0.96, true}, {1, true}, {0.5, false}} {
		s := busy()
		s.Room = step.room
		if o := c.Step(s); (o.Idle > 0) != step.idle || o.Streams != 1 || o.Why != Calm {
			t.Errorf("with %v of the room in use: %+v", step.room, o)
		}
	}
}

func TestWhoIsLeftIsServed(t *testing.T) {
	c, s := New(testConfig), busy()
	s.Scheduler, s.Demand = 120*time.Millisecond, [3]uint64{5000, 50, 0}
	for range 40 {
		if o := c.Step(s); o.Refuse[exchange.Critical] > 0 {
			t.Fatalf("during the flood: %+v", o)
		}
	}
	s = Sample{Took: Window, Waits: 20, CPU: 0.05, Demand: [3]uint64{0, 50, 0}}
	windows := 0
	for o := c.Step(s); o.Why != Calm; o = c.Step(s) {
		if windows++; o.Refuse[exchange.Critical] > 0 || o.Refuse[exchange.Standard] > 0.7 {
			t.Fatalf("%d windows after: %+v", windows, o)
		}
	}
	if after := time.Duration(windows) * Window; after > 6*time.Second {
		t.Errorf("calm after %v", after)
	}
}

// TestCrowdedAndOverloaded: whoever has more work than its share of a crowded machine does still refuses.
func TestCrowdedAndOverloaded(t *testing.T) {
	c, s := New(testConfig), busy()
	s.Scheduler, s.Crowded, s.CPU = 400*time.Millisecond, 8, 0.11
	o := Orders{}
	for range rise {
		o = c.Step(s)
	}
	if o.Why != Scheduler {
		t.Errorf("%+v, want refusals", o)
	}
}

// TestClosedLoop: clients that always have one request under way, refused or not, keep the wait long. Most are served all the same.
func TestClosedLoop(t *testing.T) {
	for _, k := range []struct {
		wait time.Duration // when all are served
		most float64       // share of refusals
	}{{15 * time.Millisecond, 0}, {50 * time.Millisecond, 0.2}, {100 * time.Millisecond, 0.4}, {time.Second, 1}} {
		c, share, sum := New(testConfig), 0.0, 0.0
		const windows = 400
		for range windows {
			s := busy()
			s.Scheduler = time.Duration(float64(k.wait) * (1 - share/2)) // a refusal costs half of the cheapest request
			s.Demand = [3]uint64{uint64(1000 / (1 - share/2))}
			share = c.Step(s).Refuse[exchange.Standard]
			sum += share
		}
		if sum/windows > k.most {
			t.Errorf("%v of wait: %.2f refused, want at most %.2f", k.wait, sum/windows, k.most)
		}
	}
}

// world is a node with so much work a second, in which a refusal costs a part of a request.
type world struct {
	core    *Core
	orders  Orders
	random  *rand.Rand
	backlog float64 // work that waits, in windows
	refusal float64 // cost of one, of a request's
}

// window lets one window pass with that much demand by class, in shares of capacity. It returns what was served and refused by class.
func (w *world) window(demand [3]float64) (served, refused [3]float64) {
	s := Sample{Took: Window, Waits: 5000, CPU: 1, Memory: 0.4}
	work := 0.0
	for class, d := range demand {
		d *= 0.8 + 0.4*w.random.Float64()
		s.Demand[class] = uint64(1000 * d)
		no := d * w.orders.Refuse[class]
		served[class], refused[class] = d-no, no
		work += d - no + no*w.refusal
	}
	w.backlog = max(w.backlog+work-1, 0)
	if w.backlog == 0 {
		s.CPU = work
	}
	s.Scheduler = time.Duration((w.backlog + 0.004) * float64(Window))
	w.orders = w.core.Step(s)
	return served, refused
}

// TestShedsJustEnough runs 200 worlds with three times the work that a node can do: the wait is held near its threshold, critical
// work that fits is served, and what the node could do is done.
func TestShedsJustEnough(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := &world{core: New(testConfig), random: r, refusal: 0.02 + 0.25*r.Float64()}
		critical := 0.1 + 0.3*r.Float64()
		low := 0.5 * r.Float64()
		demand := [3]float64{1.5 + r.Float64(), critical, low}
		for range 40 {
			w.window([3]float64{0.4, critical, 0.1})
		}
		if w.orders.Why != Calm {
			t.Fatalf("seed %d: %+v below capacity", seed, w.orders)
		}
		var done, lost, wait, most float64
		const windows = 400
		for i := range windows {
			served, refused := w.window(demand)
			if i < 60 {
				continue
			}
			done += served[0] + served[1] + served[2] + w.refusal*(refused[0]+refused[1]+refused[2])
			lost += refused[exchange.Critical] / critical
			wait += w.backlog
			most = max(most, w.backlog)
		}
		n := float64(windows - 60)
		fits := critical+w.refusal*(demand[exchange.Standard]+low) < 0.8 // else refusing alone is more than the node can do
		if done/n < 0.85 || fits && (lost/n > 0.02 || wait/n > 0.8) {
			t.Errorf("seed %d: work %.2f, critical refused %.3f, mean wait %v, longest %v", seed, done/n, lost/n,
				time.Duration(wait/n*float64(Window)), time.Duration(most*float64(Window)))
		}
		for range 200 {
			w.window([3]float64{0.4, critical, 0.1})
		}
		if w.orders.Why != Calm || w.orders.Streams != 1 {
			t.Errorf("seed %d: %+v fifty seconds later", seed, w.orders)
		}
	}
}
