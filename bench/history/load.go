package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

const (
	roundsLeast = 5
	maxWorse    = 1.02 // processor time of a request with history over that without, at the most
	connections = 16
)

// Ratio is what something came to with history over without, round by round.
type Ratio struct {
	Median float64   `json:"median"`
	All    []float64 `json:"all"`
}

func (r *Ratio) add(on, off float64) {
	r.All = append(r.All, on/off)
	sorted := slices.Sorted(slices.Values(r.All))
	if r.Median = sorted[len(sorted)/2]; len(sorted)%2 == 0 {
		r.Median = (r.Median + sorted[len(sorted)/2-1]) / 2
	}
}

func (r Ratio) String() string {
	if len(r.All) == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%.3f (median of %d rounds, %.3f to %.3f)", r.Median, len(r.All), slices.Min(r.All), slices.Max(r.All))
}

// load measures a node that keeps history every ten seconds, with objectives and an endpoint's metrics, beside one that does not: in turns, each
// as long as it takes to look at its figures once, the other one stopped meanwhile.
func (o order) load(ctx context.Context, r *Result) error {
	if o.turns == 0 {
		return nil
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		fmt.Fprintln(os.Stderr, "bench monitor: requests are not measured: wrk is not there")
		return nil
	}
	shown, end, err := o.show()
	if err != nil {
		return err
	}
	defer end()
	at, err := o.ports.FreeAddress("127.0.0.1")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cpus := machine.CPUs()
	service, err := machine.Start(machine.Command{Name: "service", Argv: []string{self, "worker", "service", at}, CPUs: cpus[len(cpus)-1:], Dir: o.dir})
	if err != nil {
		return err
	}
	defer service.Stop(0)
	if err := service.Listening(at); err != nil {
		return err
	}
	var nodes [2]*node
	for i := range nodes {
		if nodes[i], err = o.node(ctx, setting{off: i == 1, every: 10 * time.Second, shown: shown, service: at, cpus: cpus[:1], name: []string{"on", "off"}[i]}); err != nil {
			return err
		}
		defer nodes[i].stop()
		defer nodes[i].Signal(syscall.SIGCONT)
	}
	for i := range nodes { // warm, and one look at all figures
		if _, _, err := o.burst(ctx, nodes[i], 3); err != nil {
			return err
		}
	}
	nodes[0].Signal(syscall.SIGSTOP)
	nodes[1].Signal(syscall.SIGSTOP)
	for turn := range o.turns {
		var rate, cost [2]float64
		for k := range nodes {
			i := (k + turn) % 2 // who is first takes turns too
			nodes[i].Signal(syscall.SIGCONT)
			rate[i], cost[i], err = o.burst(ctx, nodes[i], o.seconds)
			nodes[i].Signal(syscall.SIGSTOP)
			if err != nil {
				return err
			}
		}
		r.Rate.add(rate[0], rate[1])
		r.Cost.add(cost[0], cost[1])
	}
	return nil
}

var wrkTotal = regexp.MustCompile(`(\d+) requests in ([\d.]+)(ms|s|m),`)

// burst asks a node as fast as it answers, and returns requests a second, and seconds of its processor time for each.
func (o order) burst(ctx context.Context, n *node, seconds int) (rate, cost float64, err error) {
	before, err := machine.CPUTime(n.Pid())
	if err != nil {
		return 0, 0, err
	}
	cpus := machine.CPUs()
	list := strconv.Itoa(cpus[len(cpus)-1])
	c := exec.CommandContext(ctx, "taskset", "-c", list, "wrk", "-t1", "-c"+strconv.Itoa(connections), "-d"+strconv.Itoa(seconds)+"s", "--timeout", "10s", "http://"+n.web+"/100")
	out, err := c.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := machine.CPUTime(n.Pid())
	if err != nil {
		return 0, 0, err
	}
	m := wrkTotal.FindStringSubmatch(string(out))
	if m == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		return 0, 0, errors.New("wrk says: " + string(out))
	}
	count, _ := strconv.ParseFloat(m[1], 64)
	took, _ := strconv.ParseFloat(m[2], 64)
	took *= map[string]float64{"ms": 1e-3, "s": 1, "m": 60}[m[3]]
	if count == 0 || took == 0 {
		return 0, 0, errors.New("no request was answered")
	}
	return count / took, after.Since(before).Total().Seconds() / count, nil
}

// printLoad says what requests cost.
func (r Result) printLoad(w io.Writer) {
	fmt.Fprintf(w, "requests a second   %v   with history, objectives and a look every 10 s over without\n", r.Rate)
	fmt.Fprintf(w, "processor time      %v   of a request, the same (at most %.2f)\n", r.Cost, maxWorse)
}

// setting is how a node is started.
type setting struct {
	name    string
	off     bool          // no history, no objectives
	every   time.Duration // between two looks; 0: 1s
	shown   []string      // endpoints with metrics
	service string        // that answers requests; empty: nobody does
	cpus    []int
}

// site is its site file.
func (s setting) site(dir, admin, web string) string {
	every := s.every
	if every == 0 {
		every = time.Second
	}
	pool := "{endpoints: [\"127.0.0.1:1\"], probe: {off: true}}"
	if len(s.shown) > 0 {
		pool = fmt.Sprintf("{endpoints: [%s], probe: {off: true}, metrics: {samples: 1000000}}", strings.Join(s.shown, ", "))
	}
	text := fmt.Sprintf("state_dir: %q\nadmin: {listen: %q}\nlisteners: {web: {listen: %q}}\nmonitor: {off: %v, scrape_every: %v, series: 1000000}\npools:\n  shop: %s\n",
		filepath.Join(dir, "state-"+s.name), admin, web, s.off, every, pool)
	if s.service == "" {
		return text
	}
	text += fmt.Sprintf("  served: {endpoints: [%q], probe: {off: true}}\nroutes: [{name: all, pool: served}]\n", s.service)
	if !s.off {
		text += "objectives:\n  - {name: available, route: all, target: 99.9%}\n  - {name: fast, route: all, target: 99%, latency: 300ms}\n"
	}
	return text
}
