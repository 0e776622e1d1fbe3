package pool

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// fleet simulates a pool in front of endpoints that work on a few requests at a time, first come first served, in simulated time.
type fleet struct {
	p       *Pool
	now     time.Time
	rnd     *rand.Rand
	patient time.Duration // clients leave after this
	nodes   map[string]*node
	queue   happenings
	events  []string
	log     strings.Builder
	sent    int
	errors  int
	picks   map[string]int
	lookAt  time.Time
	spare   []*exchange.Exchange // answered
}

// node is one simulated endpoint.
type node struct {
	free    workers
	service func(*rand.Rand) time.Duration
	fails   float64
	failIn  time.Duration // 0: after the service
	status  int
	reason  string    // why an answer broke off
	stall   time.Time // nothing is answered until then
}

// workers is when each of them is free, the first one at the front: a heap.
type workers []time.Time

// busy keeps the first of them until then.
func (w workers) busy(until time.Time) {
	i := 0
	for {
		next := 2*i + 1
		if next+1 < len(w) && w[next+1].Before(w[next]) {
			next++
		}
		if next >= len(w) || !w[next].Before(until) {
			w[i] = until
			return
		}
		w[i], i = w[next], next
	}
}

type happening struct {
	at time.Time
	do func()
}

type happenings []happening

func (q happenings) Len() int           { return len(q) }
func (q happenings) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q happenings) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *happenings) Push(x any)        { *q = append(*q, x.(happening)) }
func (q *happenings) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = happening{}
	*q = (*q)[:len(*q)-1]
	return last
}

func fixed(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

// heavy is log-normal with a 99th percentile of 20 times the median.
func heavy(median time.Duration) func(*rand.Rand) time.Duration {
	sigma := math.Log(20) / 2.3263
	return func(r *rand.Rand) time.Duration {
		return time.Duration(float64(median) * math.Exp(sigma*r.NormFloat64()))
	}
}

func newFleet(t testing.TB, method string, n, each int, seed uint64, service func(*rand.Rand) time.Duration) *fleet {
	t.Helper()
	f := &fleet{now: time.Unix(1_700_000_000, 0), rnd: rand.New(rand.NewPCG(seed, 1)), patient: time.Minute,
		nodes: make(map[string]*node), picks: make(map[string]int)}
	cfg := *setup(t, method, n).cfg
	cfg.Outliers = site.Outliers{Mode: site.ModeOn, Slow: 4, First: 30 * time.Second, Max: 5 * time.Minute}
	p, err := newPool(&cfg, Deps{Seed: seed, Event: func(kind, text string) {
		f.events = append(f.events, kind)
		f.log.WriteString(f.now.Format("04:05.000 ") + kind + ": " + text + "\n")
	}}, func() time.Time { return f.now })
	if err != nil {
		t.Fatal(err)
	}
	f.p = p
	for _, m := range p.members {
		f.nodes[m.Address] = &node{free: make(workers, each), service: service, status: 500}
	}
	return f
}

// nth is the simulated endpoint number i.
func (f *fleet) nth(i int) *node { return f.nodes[f.p.members[i].Address] }

func (f *fleet) share(i int) float64 {
	sum := 0
	for _, n := range f.picks {
		sum += n
	}
	return float64(f.picks[f.p.members[i].Address]) / float64(max(sum, 1))
}

// length is full, or what is played in short, as with the race detector: it makes a simulation ten times as slow, and sees nothing in one goroutine.
// `make full` plays all of it.
func length[T any](full, short T) T {
	if testing.Short() {
		return short
	}
	return full
}

// begin forgets what was counted.
func (f *fleet) begin() { f.sent, f.errors, f.picks = 0, 0, make(map[string]int) }

func (f *fleet) later(at time.Time, do func()) { heap.Push(&f.queue, happening{at, do}) }

// run lets requests come at rate, per second, for a time.
func (f *fleet) run(t testing.TB, rate float64, long time.Duration) {
	t.Helper()
	end := f.now.Add(long)
	next := f.now
	for {
		next = next.Add(time.Duration(f.rnd.ExpFloat64() / rate * float64(time.Second)))
		if next.After(end) {
			f.until(end)
			return
		}
		f.until(next)
		f.send(t)
	}
}

// until lets happen what happens until then, with a look when one is due or asked for.
func (f *fleet) until(end time.Time) {
	for {
		at := end
		if len(f.queue) > 0 && f.queue[0].at.Before(at) {
			at = f.queue[0].at
		}
		if !f.lookAt.IsZero() && f.lookAt.Before(at) {
			f.now, f.lookAt = f.lookAt, time.Time{}
			f.look()
			continue
		}
		f.now = at
		if len(f.queue) == 0 || f.queue[0].at.After(at) {
			return
		}
		heap.Pop(&f.queue).(happening).do()
		f.kicked()
		if at == end && (len(f.queue) == 0 || f.queue[0].at.After(end)) {
			return
		}
	}
}

func (f *fleet) kicked() {
	select {
	case <-f.p.kicked:
		f.look()
	default:
	}
}

func (f *fleet) look() {
	if wait := f.p.look(f.now); wait > 0 {
		f.lookAt = f.now.Add(wait)
	}
}

func (f *fleet) send(t testing.TB) {
	x := &exchange.Exchange{Request: &wire.Request{}}
	if n := len(f.spare); n > 0 {
		x, f.spare = f.spare[n-1], f.spare[:n-1]
	}
	*x = exchange.Exchange{Shard: uint32(f.sent), Request: x.Request, Client: from(f.rnd.IntN(200)).Client}
	f.sent++
	e, no := f.p.Pick(x)
	f.kicked()
	if no != nil {
		f.errors++
		return
	}
	f.picks[e.Address]++
	n, start := f.nodes[e.Address], f.now
	r := exchange.Result{Status: 200}
	at := start
	if f.rnd.Float64() < n.fails {
		r.Status, r.Reason = n.status, n.reason
	}
	if (r.Status != 200 || r.Reason != "") && n.failIn > 0 {
		at = at.Add(n.failIn)
	} else {
		for _, earliest := range []time.Time{n.free[0], n.stall} {
			if earliest.After(at) {
				at = earliest
			}
		}
		at = at.Add(n.service(f.rnd))
		n.free.busy(at)
	}
	if at.Sub(start) > f.patient {
		at = start.Add(f.patient)
		r = exchange.Result{Kind: exchange.Cancelled}
	}
	r.Latency = at.Sub(start)
	if r.Status != 200 || r.Reason != "" {
		f.errors++
	}
	f.later(at, func() { f.p.Done(x, e, r); f.spare = append(f.spare, x) })
}

func (f *fleet) count(kind string) (n int) {
	for _, k := range f.events {
		if k == kind {
			n++
		}
	}
	return n
}

var httpMethods = []string{site.MethodLeastRequests, site.MethodRoundRobin, site.MethodWeighted, site.MethodEWMA, site.MethodPrequal}

// An endpoint that fails in a millisecond behind probes that stay green is found within seconds, and costs little.
func TestOutlierFailingFast(t *testing.T) {
	for _, method := range httpMethods {
		f := newFleet(t, method, 5, 5, 3, fixed(100*time.Millisecond))
		f.run(t, 125, 10*time.Second)
		f.nth(2).fails, f.nth(2).failIn = 1, time.Millisecond
		f.begin()
		f.run(t, 125, 3*time.Second)
		// With ewma and prequal failures cost so much that next to nothing comes that could tell.
		if n := f.count("endpoint_ejected"); n != 1 && method != site.MethodEWMA && method != site.MethodPrequal {
			t.Errorf("%s: %d ejections in 3s, want 1", method, n)
		}
		if f.errors > 25 {
			t.Errorf("%s: %d errors until it was found, want at most 25", method, f.errors)
		}
		f.begin()
		f.run(t, 125, length(10*time.Minute, time.Minute))
		if part := float64(f.errors) / float64(f.sent); part > 0.001 || f.share(2) > 0.04 {
			t.Errorf("%s: %.4f of the requests failed and %.4f went to the sick endpoint, want at most 0.001 and 0.04\n%s", method, part, f.share(2), f.log.String())
		}
	}
}

func TestOutlierSlow(t *testing.T) {
	for _, method := range httpMethods {
		f := newFleet(t, method, 5, 5, 4, fixed(100*time.Millisecond))
		f.patient = time.Second
		f.run(t, 125, 10*time.Second)
		f.nth(2).service = fixed(time.Second)
		f.begin()
		f.run(t, 125, 4*time.Second)
		if n := f.count("endpoint_ejected"); n != 1 && method != site.MethodEWMA { // which avoids it by itself
			t.Errorf("%s: %d ejections in 4s, want 1", method, n)
		}
		f.begin()
		f.run(t, 125, length(10*time.Minute, time.Minute))
		if part := float64(f.errors) / float64(f.sent); part > 0.001 || f.share(2) > 0.04 {
			t.Errorf("%s: %.4f of the requests failed and %.4f went to the sick endpoint, want at most 0.001 and 0.04\n%s", method, part, f.share(2), f.log.String())
		}
	}
}

// What is common to all endpoints ejects none of them, however it begins.
func TestOutlierCommonFaults(t *testing.T) {
	faults := map[string]func(*node){
		"30% fail":  func(n *node) { n.fails = 0.3 },
		"half fail": func(n *node) { n.fails = 0.5 },
		"all fail":  func(n *node) { n.fails = 1 },
		"fail fast": func(n *node) { n.fails, n.failIn = 1, time.Millisecond },
		"slow":      func(n *node) { n.service = fixed(time.Second) },
		"hang":      func(n *node) { n.service = fixed(time.Hour) },
		"heavy":     func(n *node) { n.service = heavy(300 * time.Millisecond) },
	}
	methods := append([]string{site.MethodHash}, httpMethods...)
	for name, fault := range faults {
		for _, method := range methods[:length(len(methods), 2)] {
			for _, rate := range []float64{2, 40, 1000} {
				f := newFleet(t, method, 5, 400, 5, fixed(100*time.Millisecond))
				f.patient = 2 * time.Second
				long := time.Duration(min(length(60., 20), length(10_000., 1000)/rate) * float64(time.Second))
				f.run(t, rate, long)
				for _, n := range f.nodes {
					fault(n)
				}
				f.run(t, rate, long)
				for _, n := range f.nodes {
					n.fails, n.service, n.free = 0, fixed(100*time.Millisecond), make(workers, len(n.free))
				}
				f.run(t, rate, long)
				if n := f.count("endpoint_ejected"); n > 0 {
					t.Errorf("%s, %s at %v/s: %d ejections, want none\n%s", name, method, rate, n, f.log.String())
				}
			}
		}
	}
}

// Heavy tails and queues behind them are no illness: an hour of each ejects nobody.
func TestOutlierNoFalseEjections(t *testing.T) {
	for _, c := range []struct {
		name    string
		rate    float64
		workers int
		median  time.Duration
		n       int
	}{
		{"a trickle", 1, 5, 50 * time.Millisecond, 5},
		{"light", 20, 5, 50 * time.Millisecond, 5},
		{"queues at four fifths", 175, 5, 50 * time.Millisecond, 5}, // a mean of 114 ms: 219 per second is all of it
		{"two endpoints", 70, 5, 50 * time.Millisecond, 2},
		{"many endpoints", 100, 2, 50 * time.Millisecond, 20},
		{"fast", 300, 20, 5 * time.Millisecond, 5},
	} {
		for _, method := range []string{site.MethodLeastRequests, site.MethodRoundRobin} {
			f := newFleet(t, method, c.n, c.workers, 9, heavy(c.median))
			f.patient = 30 * time.Second
			hour := length(time.Hour, time.Minute)
			if method == site.MethodRoundRobin {
				hour /= 6
			}
			f.run(t, c.rate, hour)
			if n := f.count("endpoint_ejected"); n > 0 {
				t.Errorf("%s, %s: %d ejections in %v of %d requests, want none\n%s", c.name, method, n, hour, f.sent, f.log.String())
			}
		}
	}
}
