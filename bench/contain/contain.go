// Package contain shows that one failure stays one failure: a sick endpoint, a hung pool, a lost zone, beside other proxies.
package contain

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// Exit codes.
const (
	held     = 0
	notHeld  = 1
	wrongUse = 2
	silent   = 3 // it could not run: the result says nothing
)

// Verdicts.
const (
	verdictHeld    = "held"
	verdictNotHeld = "DID NOT HOLD"
	verdictInvalid = "INVALID"
	verdictNotRun  = "COULD NOT RUN"
	verdictShown   = "shown" // of another proxy: nothing is held against it
)

// lagMost is how late one in a hundred requests, or answers of an endpoint, may be before a run says more about this machine than
// about the proxy.
const lagMost = 25 * time.Millisecond

// lab is what all runs share.
type lab struct {
	dir, program string
	ports        machine.Ports
	quick        bool
	seed         uint64
	talk         io.Writer
}

// scenario is one experiment. run returns its figures, or why it could not be made.
type scenario struct {
	name, doc string
	proxies   []string
	run       func(ctx context.Context, t *trial) error
}

func scenarios() []scenario {
	return []scenario{
		{"sick", "one of five endpoints is slow, hangs, fails at once, goes mute, sends garbage, breaks off", []string{evenkeel, haproxy}, sick},
		{"hung", "a pool that hangs beside a healthy one on one listener", []string{evenkeel, haproxy}, hung},
		{"zones", "three zones at 65 % of what they can do, one is lost", []string{evenkeel, haproxy}, zonesLost},
	}
}

// trial is one scenario with one proxy.
type trial struct {
	lab     *lab
	dir     string
	proxy   string
	figures []figure
	invalid string // why the run says nothing; empty: it does
}

// figure is one number of a run.
type figure struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Goal   string `json:"goal,omitempty"`
	Failed bool   `json:"failed,omitempty"`
}

// outcome is what came of a scenario with a proxy.
type outcome struct {
	Scenario string   `json:"scenario"`
	Proxy    string   `json:"proxy"`
	Verdict  string   `json:"verdict"`
	Why      string   `json:"why,omitempty"`
	Figures  []figure `json:"figures,omitempty"`
}

// long is the length of a phase: in a full run, and in a quick one.
func (t *trial) long(full, quick time.Duration) time.Duration {
	if t.lab.quick {
		return quick
	}
	return full
}

func (t *trial) tell(name, value string) {
	t.figures = append(t.figures, figure{Name: name, Value: value})
}

// goal is a figure that was to be reached.
func (t *trial) goal(name, value, goal string, ok bool) {
	t.figures = append(t.figures, figure{name, value, goal, !ok})
}

// watch notes when the clients or endpoints themselves were late.
func (t *trial) watch(d *drive, ends ...*endpoint) {
	if lag := quantile(d.lag, 0.99); lag > lagMost {
		t.doubt(fmt.Sprintf("one in a hundred requests was sent more than %v late", lag.Round(time.Millisecond)))
	}
	for _, e := range ends {
		if late := e.lateness(); late > lagMost {
			t.doubt(fmt.Sprintf("an endpoint slept %v too long in one of a hundred cases", late.Round(time.Millisecond)))
		}
	}
}

func (t *trial) doubt(why string) {
	if t.invalid == "" {
		t.invalid = why
	}
}

func inPercent(v float64) string { return fmt.Sprintf("%.3g %%", 100*v) }
func inMS(d time.Duration) string {
	return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
}

// Main runs `bench contain` and returns its exit code.
func Main(ctx context.Context, args []string) int {
	l := &lab{talk: os.Stderr}
	f := flag.NewFlagSet("bench contain", flag.ContinueOnError)
	f.BoolVar(&l.quick, "quick", false, "a few seconds for each phase")
	f.Uint64Var(&l.seed, "seed", 1, "of the arrivals, the same for every proxy")
	f.StringVar(&l.program, "evenkeel", "", "program to try; empty: built from this clone")
	names := f.String("scenario", "", "only these scenarios, parted by commas")
	against := f.String("against", "", "haproxy: beside it")
	asJSON := f.Bool("json", false, "write the results as JSON")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: bench contain [flags]")
		f.PrintDefaults()
		for _, s := range scenarios() {
			fmt.Fprintf(f.Output(), "  %-14s %s\n", s.name, s.doc)
		}
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return held
		}
		return wrongUse
	}
	chosen, err := choose(*names, *against, f.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench contain:", err)
		return wrongUse
	}
	list, err := l.all(ctx, chosen, *against)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench contain:", err)
		return silent
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		_ = e.Encode(map[string]any{"outcomes": list})
	} else {
		fmt.Printf("%s, %d cores; Linux %s\n\n", machine.Model(), len(machine.CPUs()), machine.Kernel())
		table(os.Stdout, list)
	}
	return exitCode(list)
}

// choose finds scenarios by name; all without one.
func choose(names, against string, rest []string) (list []scenario, err error) {
	if len(rest) > 0 {
		return nil, fmt.Errorf("it takes no arguments, got %q", rest)
	}
	if against != "" && against != haproxy {
		return nil, fmt.Errorf("there is no rival %q; known is haproxy", against)
	}
	if against == haproxy {
		if _, err := exec.LookPath("haproxy"); err != nil {
			return nil, fmt.Errorf("haproxy cannot be compared with: %w", err)
		}
	}
	all := scenarios()
	if names == "" {
		return all, nil
	}
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
		list = append(list, all[i])
	}
	return list, nil
}

// exitCode goes by evenkeel alone: what others do is not to be held against it.
func exitCode(list []*outcome) (code int) {
	for _, o := range list {
		switch {
		case o.Proxy != evenkeel:
		case o.Verdict == verdictNotHeld:
			code = max(code, notHeld)
		case o.Verdict != verdictHeld:
			code = silent
		}
	}
	return code
}

func (l *lab) all(ctx context.Context, chosen []scenario, against string) (list []*outcome, err error) {
	if l.dir, err = os.MkdirTemp("", "evenkeel-contain-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(l.dir)
	if l.program == "" {
		fmt.Fprintln(l.talk, "building evenkeel")
		if l.program, err = machine.Evenkeel(l.dir, false); err != nil {
			return nil, err
		}
	}
	if l.program, err = filepath.Abs(l.program); err != nil {
		return nil, err
	}
	for _, s := range chosen {
		for _, proxy := range s.proxies {
			if proxy != evenkeel && proxy != against {
				continue
			}
			fmt.Fprintf(l.talk, "%s, %s: %s ... ", s.name, proxy, s.doc)
			o := l.try(ctx, s, proxy)
			fmt.Fprintln(l.talk, o.Verdict)
			if ctx.Err() != nil {
				return nil, errors.New("interrupted")
			}
			list = append(list, o)
		}
	}
	return list, nil
}

// try runs one scenario with fresh processes.
func (l *lab) try(ctx context.Context, s scenario, proxy string) *outcome {
	t := &trial{lab: l, proxy: proxy, dir: filepath.Join(l.dir, s.name+"-"+proxy)}
	err := s.run(ctx, t)
	o := &outcome{Scenario: s.name, Proxy: proxy, Verdict: verdictHeld, Figures: t.figures}
	switch {
	case err != nil:
		o.Verdict, o.Why = verdictNotRun, err.Error()
	case proxy != evenkeel:
		o.Verdict = verdictShown
	case t.invalid != "":
		o.Verdict, o.Why = verdictInvalid, t.invalid
	case slices.ContainsFunc(t.figures, func(f figure) bool { return f.Failed }):
		o.Verdict = verdictNotHeld
	}
	return o
}

// table writes the outcomes, a line for each figure.
func table(out io.Writer, list []*outcome) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\tproxy\tfigure\tgoal\tvalue\tverdict")
	for _, o := range list {
		fmt.Fprintf(w, "%s\t%s\t\t\t\t%s\n", o.Scenario, o.Proxy, o.Verdict)
		for _, f := range o.Figures {
			mark := ""
			if f.Failed {
				mark = "x"
			}
			fmt.Fprintf(w, "\t\t%s\t%s\t%s\t%s\n", f.Name, f.Goal, f.Value, mark)
		}
	}
	_ = w.Flush()
	for _, o := range list {
		if o.Why != "" {
			fmt.Fprintf(out, "\n%s, %s: %s\n", o.Scenario, o.Proxy, o.Why)
		}
	}
}
