// Package overload shows how well evenkeel protects endpoints that can do only so much, beside other proxies.
package overload

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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

// Units of figures.
const (
	percent = "%"
	times   = "x"
	millis  = "ms"
)

// lagMost is how late one in a hundred requests, or answers of an endpoint, may be before a run says more about this machine than
// about the proxy.
const lagMost = 20 * time.Millisecond

// lab is what all runs share.
type lab struct {
	dir, program string
	ports        machine.Ports
	quick        bool
	seed         uint64
	talk         io.Writer
}

// trial is one scenario with one proxy.
type trial struct {
	lab     *lab
	front   *front
	one     *endpoint
	five    []*endpoint
	figures []figure
	invalid string // why the run says nothing; empty: it does
}

// figure is one number of a run.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Goal   string  `json:"goal,omitempty"`
	Failed bool    `json:"failed,omitempty"`
}

// outcome is what came of a scenario with a proxy.
type outcome struct {
	Scenario string   `json:"scenario"`
	Proxy    string   `json:"proxy"`
	Verdict  string   `json:"verdict"` // held, DID NOT HOLD, INVALID or COULD NOT RUN
	Why      string   `json:"why,omitempty"`
	Figures  []figure `json:"figures,omitempty"`
}

// Verdicts.
const (
	verdictHeld    = "held"
	verdictNotHeld = "DID NOT HOLD"
	verdictInvalid = "INVALID"
	verdictNotRun  = "COULD NOT RUN"
)

// long is the length of a phase: in a full run, and in a quick one.
func (t *trial) long(full, quick float64) time.Duration {
	if t.lab.quick {
		full = quick
	}
	return time.Duration(full * float64(time.Second))
}

func (t *trial) tell(name string, value float64, unit string) {
	t.figures = append(t.figures, figure{Name: name, Value: value, Unit: unit})
}

func (t *trial) atLeast(name string, value, least float64) {
	t.figures = append(t.figures, figure{name, value, percent, ">= " + show(least, percent), value < least})
}

func (t *trial) atMost(name string, value, most float64, unit string) {
	t.figures = append(t.figures, figure{name, value, unit, "<= " + show(most, unit), value > most})
}

// within is a time that must not be exceeded; ok is false when it never came to be.
func (t *trial) within(name string, took, most time.Duration, ok bool) {
	inMS := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	t.figures = append(t.figures, figure{name, inMS(took), millis, "<= " + show(inMS(most), millis), took > most || !ok})
}

func show(v float64, unit string) string {
	switch unit {
	case percent:
		return fmt.Sprintf("%.4g %%", 100*v)
	case times:
		return fmt.Sprintf("%.2f x", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

// single and pool drive load at one of the listeners.
func (t *trial) single(ctx context.Context, retries int, phases ...phase) *drive {
	t.one.change(healthy())
	return t.drive(ctx, t.front.single, retries, phases)
}

func (t *trial) pool(ctx context.Context, retries int, phases ...phase) *drive {
	return t.drive(ctx, t.front.of, retries, phases)
}

func (t *trial) drive(ctx context.Context, address string, retries int, phases []phase) *drive {
	r := run(ctx, "http://"+address+"/work", phases, retries, t.lab.seed)
	if lag := quantile(r.lag, 0.99); lag > lagMost && t.invalid == "" {
		t.invalid = fmt.Sprintf("one in a hundred requests was sent more than %v late", lag.Round(time.Millisecond))
	}
	t.calm(ctx)
	return r
}

// calm waits until the endpoints have worked off what came, so that the next run begins with nothing.
func (t *trial) calm(ctx context.Context) {
	for {
		before, now := 0, time.Now()
		busy := false
		for _, e := range append([]*endpoint{t.one}, t.five...) {
			before += e.counted()
			e.mu.Lock()
			for _, free := range e.free {
				busy = busy || free.After(now)
			}
			e.mu.Unlock()
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return
		}
		after := 0
		for _, e := range append([]*endpoint{t.one}, t.five...) {
			after += e.counted()
		}
		if !busy && after == before {
			return
		}
	}
}

// Main runs `bench overload` and returns its exit code.
func Main(ctx context.Context, args []string) int {
	l := &lab{talk: os.Stderr}
	f := flag.NewFlagSet("bench overload", flag.ContinueOnError)
	f.BoolVar(&l.quick, "quick", false, "a few seconds for each scenario: shows that it works, too short for differences of some points")
	f.Uint64Var(&l.seed, "seed", 1, "of the arrivals, the same for every proxy")
	f.StringVar(&l.program, "evenkeel", "", "program to try; empty: built from this clone")
	names := f.String("scenario", "", "only these scenarios, parted by commas")
	against := f.String("against", "", "haproxy: beside HAProxy as it comes and HAProxy that was told the truth; retries: beside HAProxy, nginx and, where they are installed, Caddy and Traefik with retries as their manuals show them")
	asJSON := f.Bool("json", false, "write the results as JSON")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: bench overload [flags]")
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
	chosen, err := choose(*names)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("it takes no arguments, got %q", f.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench overload:", err)
		return wrongUse
	}
	beside, err := rivals(*against)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench overload:", err)
		return wrongUse
	}
	list, err := l.all(ctx, chosen, append([]string{evenkeel}, beside...))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench overload:", err)
		return silent
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		_ = e.Encode(map[string]any{"outcomes": list})
	} else {
		fmt.Printf("%s, %d cores; Linux %s; %.0f requests a second for each endpoint\n\n", machine.Model(), len(machine.CPUs()), machine.Kernel(), healthy().capacity())
		table(os.Stdout, list)
	}
	return exitCode(list)
}

// choose finds scenarios by name; all without one.
func choose(names string) (list []scenario, err error) {
	all := scenarios()
	if names == "" {
		return all, nil
	}
	var known []string
	for _, s := range all {
		known = append(known, s.name)
	}
	for _, name := range strings.Split(names, ",") {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q; known are %s", name, strings.Join(known, ", "))
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

func (l *lab) all(ctx context.Context, chosen []scenario, proxies []string) (list []*outcome, err error) {
	if l.dir, err = os.MkdirTemp("", "evenkeel-overload-"); err != nil {
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
		for _, proxy := range proxies {
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
	o := &outcome{Scenario: s.name, Proxy: proxy, Verdict: verdictNotRun}
	t := &trial{lab: l}
	var addresses []string
	for i := range poolSize + 1 {
		e, err := startEndpoint(healthy(), l.seed+uint64(i))
		if err != nil {
			o.Why = err.Error()
			return o
		}
		defer e.stop()
		if i == 0 {
			t.one = e
			continue
		}
		t.five, addresses = append(t.five, e), append(addresses, e.address)
	}
	var err error
	if t.front, err = l.start(proxy, filepath.Join(l.dir, s.name), t.one.address, addresses, workers); err != nil {
		o.Why = err.Error()
		return o
	}
	defer t.front.stop()
	err = s.run(ctx, t)
	o.Figures = t.figures
	for _, e := range append([]*endpoint{t.one}, t.five...) {
		if late := e.lateness(); late > lagMost && t.invalid == "" {
			t.invalid = fmt.Sprintf("an endpoint slept %v too long in one of a hundred cases", late.Round(time.Millisecond))
		}
	}
	failed := slices.ContainsFunc(t.figures, func(f figure) bool { return f.Failed })
	switch {
	case err != nil:
		o.Why = err.Error()
	case t.front.process.Ended():
		o.Verdict, o.Why = verdictNotHeld, proxy+" ended: "+t.front.process.Ending()+"\n"+t.front.process.LogTail()
	case t.invalid != "":
		o.Verdict, o.Why = verdictInvalid, t.invalid
	case failed:
		o.Verdict = verdictNotHeld
	default:
		o.Verdict = verdictHeld
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
				mark = "!"
			}
			fmt.Fprintf(w, "\t\t%s\t%s\t%s\t%s\n", f.Name, f.Goal, show(f.Value, f.Unit), mark)
		}
	}
	_ = w.Flush()
	for _, o := range list {
		if o.Why != "" {
			fmt.Fprintf(out, "\n%s, %s: %s\n", o.Scenario, o.Proxy, o.Why)
		}
	}
}
