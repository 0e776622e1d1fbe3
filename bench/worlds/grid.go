package worlds

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// situation is one that every server of the grid meets.
type situation struct {
	name     string
	steps    func(second time.Duration) []Step
	from, to int     // seconds that count
	critical float64 // demand, in capacities of the beginning
	greedy   float64 // the part of it that one tenant sends; what counts then is how many requests of nine others are good, of all they send
}

// situations are those of `bench overload`, in fake time: a calm start, too much, too much from the first request on, a spike, and capacity that changes meanwhile.
func situations() []situation {
	over := func(m float64) situation {
		return situation{fmt.Sprintf("%gx", m), func(s time.Duration) []Step { return []Step{{Demand: 0.7}, {At: 2 * s, Demand: m}} }, 7, 32, 0.4, 0}
	}
	return []situation{
		over(1.1), over(1.5), over(2), over(5), over(10),
		{"cold 2x", func(time.Duration) []Step { return []Step{{Demand: 2}} }, 0, 15, 0.4, 0},
		{"cold 10x", func(time.Duration) []Step { return []Step{{Demand: 10}} }, 0, 15, 0.4, 0},
		{"spike", func(s time.Duration) []Step {
			return []Step{{Demand: 0.7}, {At: 5 * s, Demand: 5}, {At: 11 * s, Demand: 0.7}}
		}, 12, 26, 0.4, 0},
		{"workers x 0.4", func(s time.Duration) []Step {
			return []Step{{Demand: 0.7}, {At: 2 * s, Demand: 1.5}, {At: 10 * s, Workers: 0.4}}
		}, 10, 30, 0.16, 0},
		{"workers x 2", func(s time.Duration) []Step {
			return []Step{{Demand: 0.7}, {At: 2 * s, Demand: 3}, {At: 10 * s, Workers: 2}}
		}, 10, 30, 0.4, 0},
		{"fair", func(time.Duration) []Step { return []Step{{Demand: 5.45}} }, 3, 15, 0, 5 / 5.45},
		{"calm", func(time.Duration) []Step { return []Step{{Demand: 0.8}} }, 3, 28, 0.32, 0},
		{"cold calm", func(time.Duration) []Step { return []Step{{Demand: 0.8}} }, 0, 5, 0.32, 0},
	}
}

// Grid plays the situations before servers of very different sizes, and prints good answers in parts of those of a gate that is told the truth; when calm,
// the share that was refused. It returns the least.
func Grid(out io.Writer, seed uint64) float64 {
	least := 1.0
	t := tabwriter.NewWriter(out, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "workers\tservice\tdistribution\t")
	for _, s := range situations() {
		fmt.Fprint(t, s.name, "\t")
	}
	fmt.Fprintln(t)
	for _, workers := range []int{5, 20, 400} {
		for _, service := range []time.Duration{2 * time.Millisecond, 100 * time.Millisecond, 400 * time.Millisecond} {
			if float64(workers)/service.Seconds() > 5000 {
				continue // as many requests as that take too long to play
			}
			for _, dist := range []string{fixed, exp, heavy} {
				fmt.Fprintf(t, "%d\t%v\t%s\t", workers, service, dist)
				least = min(least, row(t, func(s *situation) (float64, bool) { return s.play(seed, workers, service, dist) }))
			}
		}
	}
	for _, workers := range []int{5, 20} {
		for _, dist := range []string{exp, mixed} {
			fmt.Fprintf(t, "%d shared\t%v\t%s\t", workers, sharedService, dist)
			least = min(least, row(t, func(s *situation) (float64, bool) { return s.shared(seed, workers, dist) }))
		}
	}
	for _, workers := range []int{1, 3, 20} {
		for _, dist := range []string{fixed, exp} {
			fmt.Fprintf(t, "5 x %d\tuneven\t%s\t", workers, dist)
			least = min(least, row(t, func(s *situation) (float64, bool) { return s.uneven(seed, workers, dist) }))
		}
	}
	t.Flush()
	fmt.Fprintf(out, "least: %.2f\n", least)
	return least
}

// row prints what all situations come to, and returns the least share of good answers.
func row(out io.Writer, cell func(*situation) (share float64, calm bool)) float64 {
	least := 1.0
	for _, s := range situations() {
		share, calm := cell(&s)
		if calm {
			fmt.Fprintf(out, "%.1f %%\t", 100*share)
			continue
		}
		least = min(least, share)
		fmt.Fprintf(out, "%.2f\t", share)
	}
	fmt.Fprintln(out)
	return least
}

// play is one cell of the grid. A second lasts ten service times, and no less than 200 ms.
func (s *situation) play(seed uint64, workers int, service time.Duration, dist string) (share float64, calm bool) {
	second := max(10*service, 200*time.Millisecond)
	w := World{Seed: seed, Endpoints: 1, Workers: workers, Service: service, Dist: dist, Timeout: second, Critical: s.critical,
		Length: time.Duration(s.to) * second, Steps: s.steps(second)}
	return s.compare(&w, second)
}

// sharedService is how long processors that are shared work on a request.
const sharedService = 50 * time.Millisecond

// shared is a cell of a row with processors that all who are inside share.
func (s *situation) shared(seed uint64, workers int, dist string) (share float64, calm bool) {
	const second = 10 * sharedService
	w := World{Seed: seed, Endpoints: 1, Workers: workers, Service: sharedService, Dist: dist, Sharing: true, Timeout: 2 * second, Critical: s.critical,
		Length: time.Duration(s.to) * second, Steps: s.steps(second)}
	return s.compare(&w, second)
}

// uneven is a cell of a row with five endpoints of which the slowest takes twenty times as long as the quickest.
func (s *situation) uneven(seed uint64, workers int, dist string) (share float64, calm bool) {
	const second = time.Second
	w := World{Seed: seed, Endpoints: 5, Workers: workers, Service: 10 * time.Millisecond, Uneven: []float64{1, 2, 3, 5, 20}, Dist: dist, Timeout: 4 * second,
		Critical: s.critical, Length: time.Duration(s.to) * second, Steps: s.steps(second)}
	return s.compare(&w, second)
}

// compare plays with our gate and with one that is told.
func (s *situation) compare(w *World, second time.Duration) (share float64, calm bool) {
	w.Low, w.Tenants = 0.5, 1
	if s.greedy > 0 {
		w.Low, w.Tenants, w.Greedy = 0, 9, s.greedy
		r := run(w, learns, 0)
		return float64(r.ModestGood) / float64(r.ModestSent), false
	}
	count := func(gate knows) (good, refused float64, sent int) {
		every := second / 8
		r := run(w, gate, every)
		for _, m := range r.Story {
			if m.At > time.Duration(s.from)*second {
				good, refused = good+m.Good*every.Seconds(), refused+m.Refused*every.Seconds()
			}
		}
		return good, refused, r.Sent
	}
	good, refused, sent := count(learns)
	if strings.HasSuffix(s.name, "calm") {
		return refused / float64(sent), true
	}
	best, _, _ := count(told)
	return good / max(best, 1), false
}
