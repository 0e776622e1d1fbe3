// Package worlds plays the shedder in random worlds: other capacities, service times, distributions, demands and mishaps, in fake time.
package worlds

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Shapes of service times. All have the same mean.
const (
	fixed = "fixed"
	exp   = "exp"
	heavy = "heavy" // log-normal with p99/p50 = 20
	mixed = "mixed" // nine light requests to one that takes 25 times as long
)

// heavySigma: p99/p50 = exp(2.326 sigma) = 20.
const heavySigma = 1.28775

// World is everything about a run that chance decides before it.
type World struct {
	Seed      uint64
	Endpoints int
	Workers   int       // of each endpoint
	Uneven    []float64 // by which service times are multiplied, of each endpoint; nil: all are alike
	Service   time.Duration
	Dist      string
	Sharing   bool    // all at an endpoint share its workers (CPU), else first come first served
	Jumps     float64 // the part of newcomers that an endpoint works on before all who wait there: locks and pools of threads are not fair
	Ignores   bool    // the gateway does not see clients leave before it answers them
	Timeout   time.Duration
	Critical  float64 // demand of critical requests, in parts of the least capacity
	Low       float64 // share of the rest
	Tenants   int
	Greedy    float64 // the part of everything that one more tenant sends
	Cold      bool    // it may begin with an overload of which nothing is known yet; else with calm
	Length    time.Duration
	Steps     []Step
	Others    Others
	longer    float64 // than it was made
}

// Others are requests for something else, which come by and by.
type Others struct {
	Most       float64 // requests per second, in the end; 0: none
	From, Over time.Duration
	Times      float64 // as much work as the mean of all else
}

// rate is how many of them come per second.
func (o *Others) rate(now time.Duration) float64 {
	if now <= o.From {
		return 0
	}
	return o.Most * min(1, float64(now-o.From)/float64(max(o.Over, 1)))
}

// Step is a change at a time.
type Step struct {
	At      time.Duration
	Demand  float64 // in capacities of the beginning; 0: as before
	Workers float64 // by which the workers of the beginning are multiplied; 0: as before
	Slow    float64 // by which service times are; 0: as before
	Failing bool    // endpoints fail at once until the next step
}

// logUniform is a number between low and high whose logarithm is uniform.
func logUniform(r *rand.Rand, low, high float64) float64 {
	return low * math.Pow(high/low, r.Float64())
}

// Make makes the world of a seed.
func Make(seed uint64) World {
	r := rand.New(rand.NewPCG(seed, 0x5ea))
	w := World{Seed: seed, Endpoints: 1, Dist: []string{fixed, exp, heavy, mixed}[r.IntN(4)], Sharing: r.IntN(4) == 0, Ignores: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		w.Endpoints = 2 + r.IntN(9)
	}
	for {
		all := logUniform(r, 1, 1000)
		w.Workers = max(1, int(math.Round(all/float64(w.Endpoints))))
		w.Service = time.Duration(logUniform(r, 0.001, 2) * float64(time.Second))
		if c := w.Capacity(); c >= 1 && c <= 5000 {
			break
		}
	}
	w.Timeout = max(time.Second, 10*w.Service)
	if r.IntN(2) == 0 {
		w.Timeout = 10 * w.Service
	}
	w.Tenants = 1 + r.IntN(20)
	if r.IntN(3) == 0 {
		w.Greedy = 0.5
	}
	if lot := rand.New(rand.NewPCG(seed, 0x0dd)); !w.Sharing && lot.IntN(3) == 0 {
		w.Jumps = logUniform(lot, 0.02, 1)
	}
	w.Low = []float64{0, 0.3}[r.IntN(2)]
	w.steps(r)
	return w
}

// Capacity is what the endpoints of the beginning answer per second.
func (w *World) Capacity() float64 {
	all := float64(w.Endpoints)
	if w.Uneven != nil {
		all = 0
		for _, by := range w.Uneven {
			all += 1 / by
		}
	}
	return all * float64(w.Workers) / w.Service.Seconds()
}

// mean is how long the endpoints work on a request, in the mean of all that they can answer.
func (w *World) mean() float64 { return float64(w.Workers*w.Endpoints) / w.Capacity() }

// steps lays out what happens: some changes of demand, some of capacity, sometimes a sick period.
func (w *World) steps(r *rand.Rand) {
	// Long enough for the controller to matter and for chance to even out, and no more than some 10,000 requests of capacity.
	w.Length = max(time.Duration(2500/w.Capacity()*float64(time.Second)), 60*w.Service, 8*time.Second)
	n := 2 + r.IntN(4)
	part := w.Length / time.Duration(n)
	least := 1.0
	workers, slow := 1.0, 1.0
	w.Cold = r.IntN(5) == 0
	w.Steps = []Step{{Demand: logUniform(r, 0.3, 0.8)}}
	if w.Cold {
		w.Steps[0].Demand = logUniform(r, 0.3, 10)
	}
	for i := 1; i < n; i++ {
		s := Step{At: time.Duration(i)*part + time.Duration((r.Float64()-0.5)*0.5*float64(part))}
		switch r.IntN(6) {
		case 0, 1:
			s.Demand = logUniform(r, 0.3, 10)
		case 2:
			workers = logUniform(r, 0.3, 3)
			s.Workers = workers
		case 3:
			slow = logUniform(r, 1.0/3, 3)
			s.Slow = slow
		case 4:
			s.Demand, workers = logUniform(r, 0.3, 10), logUniform(r, 0.3, 3)
			s.Workers = workers
		case 5:
			sick := Step{At: s.At, Slow: 10 * slow}
			if r.IntN(2) == 0 {
				sick = Step{At: s.At, Failing: true}
			}
			w.Steps = append(w.Steps, sick)
			s = Step{At: s.At + part/8, Slow: slow}
		}
		w.Steps = append(w.Steps, s)
		least = min(least, workers/slow)
	}
	w.Critical = 0.4 * least * r.Float64()
}

// Longer is the world with so many times as much time for all that happens in it. The changes of random worlds follow each other within 12 to 30 service times where there are many
// places, and there a gate can hardly learn one before the next.
func (w World) Longer(by float64) World {
	w.longer = by
	w.Length = time.Duration(by * float64(w.Length))
	w.Steps = slices.Clone(w.Steps)
	for i := range w.Steps {
		w.Steps[i].At = time.Duration(by * float64(w.Steps[i].At))
	}
	return w
}

// String says in one line what is special about the world.
func (w World) String() string {
	order := "fifo"
	switch {
	case w.Sharing:
		order = "sharing"
	case w.Jumps > 0:
		order = fmt.Sprintf("%.2f jump", w.Jumps)
	}
	return fmt.Sprintf("seed %d: %d x %d workers, %v %s %s, timeout %v, %.0f/s, %d steps in %v", w.Seed, w.Endpoints, w.Workers,
		w.Service.Round(time.Microsecond), w.Dist, order, w.Timeout.Round(time.Millisecond), w.Capacity(), len(w.Steps), w.Length.Round(time.Millisecond))
}

// draw is the service time of the i-th request, in units of the mean: the same in every run of the world.
func (w *World) draw(i int) float64 {
	var src rand.PCG
	src.Seed(w.Seed, uint64(i)*0x9e3779b97f4a7c15+1)
	r := rand.New(&src)
	switch w.Dist {
	case exp:
		return r.ExpFloat64()
	case heavy:
		return math.Exp(heavySigma*r.NormFloat64() - heavySigma*heavySigma/2)
	case mixed:
		if r.IntN(10) == 0 {
			return 25.0 / 3.4
		}
		return 1.0 / 3.4
	}
	return 1
}

// shows is how many answers show a change of capacity by two to one who counts them: as many as are inside, which came before it, and as many as make ln 2
// two and a half standard deviations of the logarithm of a mean.
func (w *World) shows(workers float64) int {
	scatter := map[string]float64{fixed: 0.05, exp: 1, heavy: math.Exp(heavySigma*heavySigma) - 1, mixed: 4.5}[w.Dist] // squared coefficient of variation
	return int(math.Ceil(workers*float64(w.Workers*w.Endpoints) + 13*scatter))
}
