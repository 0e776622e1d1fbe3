// Package stress shows what evenkeel stands: changes under load without a failed request, and floods beside which others are served as ever.
package stress

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

// What every experiment asks for.
const (
	bystanderRate    = 200           // requests each second
	bystanderWorkers = 16            // connections
	bystanderFrom    = "127.0.0.200" // nothing else comes from there, so that a limit by address tells it from floods
	bystanderShare   = 0.999         // that must succeed
	calm             = 500 * time.Millisecond
	servesPatience   = 20 * time.Second
)

// setup is what an experiment runs on.
type setup struct {
	endpoints int
	limits    string // of the listener, as in a site file
	protect   string // further lines of the site file
	pinned    bool   // evenkeel has a core of its own
	files     int    // ulimit -n of evenkeel; 0: as it is
	short     bool   // the bystander opens a connection for each request
	memory    int64  // bytes of resident memory that evenkeel may have at its peak
	pools     string // more pools; lines of a site file
	routes    string // more routes, before the one for all; lines of a site file
	site      string // more of the site file
}

// experiment is one thing that is done to evenkeel.
type experiment struct {
	name, doc string
	setup     setup
	run       func(ctx context.Context, t *trial) error // an error means that it could not be done
}

const mib = 1 << 20

// experiments are all, in the order of a full run. The memory limits are about twice what was seen.
func experiments() []experiment {
	return []experiment{
		{"reloads", "changed site files by SIGHUP under load", setup{endpoints: 2, memory: 192 * mib}, reloads},
		{"rolling", "rolling restarts of endpoints with drain, under load", setup{endpoints: 4, memory: 128 * mib}, rolling},
		{"upgrade", "binary upgrades by SIGUSR2 under load", setup{endpoints: 2, memory: 128 * mib}, upgrade},
		{"upgrade-short", "the same with a connection for each request, the bystander's too", setup{endpoints: 2, memory: 128 * mib, short: true}, upgrade},
		{"certificate", "certificate files replaced under TLS load", setup{endpoints: 2, memory: 192 * mib}, certificate},
		{"kill", "an endpoint killed by SIGKILL under load", setup{endpoints: 4, memory: 128 * mib}, kill},
		{"duplicates", "a million requests, those that must not be repeated too, to endpoints that end connections at every moment", setup{memory: 256 * mib}, duplicates},
		{"idle-20k", "20,000 idle connections", setup{memory: 384 * mib}, idleMany},
		{"slow-headers", "clients that send a byte of a head now and then", setup{memory: 192 * mib}, slowHeaders},
		{"slow-body", "clients that send a byte of a body now and then", setup{memory: 384 * mib}, slowBody},
		{"slow-read", "clients that hardly read their answer", setup{memory: 512 * mib}, slowRead},
		{"connects", "10,000 new connections each second", setup{memory: 256 * mib}, connects},
		{"slow-headers-limited", "the same as slow-headers, with limits that refuse it", setup{memory: 128 * mib, limits: limitedConnections}, slowHeaders},
		{"slow-body-limited", "the same as slow-body, with limits that refuse it", setup{memory: 192 * mib, limits: limitedConnections}, slowBody},
		{"slow-read-limited", "the same as slow-read, with limits that refuse it", setup{memory: 384 * mib, limits: limitedConnections}, slowRead},
		{"connects-limited", "the same as connects, with limits that refuse it", setup{memory: 256 * mib, protect: limitedRequests}, connectsLimited},
		{"refusals", "as many requests as evenkeel refuses with one core, beside a client that is served", setup{memory: 128 * mib, protect: limitedRequests, pinned: true}, refusals},
		{"malformed", "malformed heads from the parser's own corpus and mutations of it", setup{memory: 192 * mib}, malformed},
		{"screen-flood", "an attack flood on a service whose critical requests must go on", setup{memory: 384 * mib, routes: screenRoutes, site: screenSite}, screenFlood},
		{"full-fd-table", "more connections than evenkeel has file descriptors", setup{files: 512, memory: 128 * mib}, fullTable},
	}
}

// lab is what all experiments share.
type lab struct {
	dir, self, program, root string
	ports                    machine.Ports
	short, race              bool
	talk                     io.Writer
}

// pick is the size of something: full, or small for a short run.
func pick[T any](l *lab, full, short T) T {
	if l.short {
		return short
	}
	return full
}

// trial is one run of an experiment.
type trial struct {
	*gateway
	result *result
}

// result is what came of an experiment.
type result struct {
	Name      string   `json:"name"`
	Verdict   string   `json:"verdict"` // held, NOT HELD, or COULD NOT RUN
	Why       []string `json:"why,omitempty"`
	Bystander tally    `json:"bystander"`
	Load      *tally   `json:"load,omitempty"`
	PeakRSS   int64    `json:"peak_rss_bytes"`
	Seconds   float64  `json:"seconds"`
	Figures   []string `json:"figures"`
}

// say notes a figure.
func (t *trial) say(format string, args ...any) {
	t.result.Figures = append(t.result.Figures, fmt.Sprintf(format, args...))
}

// fail notes why the experiment did not hold.
func (t *trial) fail(format string, args ...any) {
	t.result.Why = append(t.result.Why, fmt.Sprintf(format, args...))
}

// Main runs `bench stress` and returns its exit code.
func Main(ctx context.Context, args []string) int {
	l := &lab{talk: os.Stderr}
	f := flag.NewFlagSet("bench stress", flag.ContinueOnError)
	f.BoolVar(&l.short, "short", false, "small numbers, a few seconds each")
	f.BoolVar(&l.race, "race", false, "build evenkeel with the race detector; memory limits are then off")
	asJSON := f.Bool("json", false, "write the results as JSON")
	f.StringVar(&l.program, "evenkeel", "", "program to try; empty: built from this clone")
	logs := f.String("logs", "", "folder that gets evenkeel's log of every experiment that did not hold")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: bench stress [flags] all | NAME...")
		f.PrintDefaults()
		for _, e := range experiments() {
			fmt.Fprintf(f.Output(), "  %-21s %s\n", e.name, e.doc)
		}
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return held
		}
		return wrongUse
	}
	chosen, err := choose(f.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench stress:", err)
		return wrongUse
	}
	results, err := l.run(ctx, chosen, *logs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench stress:", err)
		return silent
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		_ = e.Encode(map[string]any{"experiments": results})
	} else {
		fmt.Printf("%s, %d cores; Linux %s; %d file descriptors for a process\n", machine.Model(), len(machine.CPUs()), machine.Kernel(), machine.FileLimit())
		for _, r := range results {
			r.print(os.Stdout)
		}
	}
	return exitCode(results)
}

// choose finds experiments by name.
func choose(names []string) (list []experiment, err error) {
	all := experiments()
	if len(names) == 1 && names[0] == "all" {
		return all, nil
	}
	known := []string{"all"}
	for _, e := range all {
		known = append(known, e.name)
	}
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 1 {
			return nil, fmt.Errorf("there is no experiment %q; known are %s (flags stand before the names)", name, strings.Join(known, ", "))
		}
		list = append(list, all[i-1])
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("name an experiment: %s", strings.Join(known, ", "))
	}
	return list, nil
}

func exitCode(results []*result) (code int) {
	for _, r := range results {
		switch r.Verdict {
		case "NOT HELD":
			code = max(code, notHeld)
		case "COULD NOT RUN":
			code = silent
		}
	}
	return code
}

func (l *lab) run(ctx context.Context, chosen []experiment, logs string) (results []*result, err error) {
	if l.dir, err = os.MkdirTemp("", "evenkeel-stress-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(l.dir)
	if l.root, err = machine.Root(); err != nil {
		return nil, err
	}
	if l.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if err := adopt(); err != nil {
		return nil, err
	}
	if l.program == "" {
		fmt.Fprintln(l.talk, "building evenkeel")
		if l.program, err = machine.Evenkeel(l.dir, l.race); err != nil {
			return nil, err
		}
	}
	if l.program, err = filepath.Abs(l.program); err != nil {
		return nil, err
	}
	for _, e := range chosen {
		fmt.Fprintf(l.talk, "%s: %s ... ", e.name, e.doc)
		r := l.try(ctx, e, logs)
		fmt.Fprintln(l.talk, r.Verdict)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		results = append(results, r)
	}
	return results, nil
}

// try does one experiment with fresh processes.
func (l *lab) try(ctx context.Context, e experiment, logs string) *result {
	r := &result{Name: e.name, Verdict: "COULD NOT RUN"}
	began := time.Now()
	defer func() { r.Seconds = time.Since(began).Seconds() }()
	dir := filepath.Join(l.dir, e.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.Why = append(r.Why, err.Error())
		return r
	}
	g, err := newGateway(l, e.setup, dir)
	defer g.close()
	if err != nil {
		r.Why = append(r.Why, err.Error())
		return r
	}
	t := &trial{gateway: g, result: r}
	bystander := &caller{address: g.web, from: bystanderFrom, rate: bystanderRate, workers: bystanderWorkers, path: "/bystander", late: patience, short: e.setup.short}
	bystander.start(ctx)
	time.Sleep(calm)
	err = e.run(ctx, t)
	time.Sleep(calm)
	r.Bystander = bystander.stop()
	if ctx.Err() != nil {
		return r
	}
	if err == nil {
		t.judge(l, e)
	} else {
		r.Why = append(r.Why, err.Error())
		if g.ended() {
			r.Verdict = "NOT HELD"
		}
	}
	if len(r.Why) > 0 && logs != "" {
		if err := os.MkdirAll(logs, 0o755); err == nil {
			_ = g.keepLog(filepath.Join(logs, e.name+".log"))
		}
	}
	return r
}

// judge looks at what every experiment has in common.
func (t *trial) judge(l *lab, e experiment) {
	r := t.result
	if b := r.Bystander; b.share() < bystanderShare {
		t.fail("the bystander's success was %.2f %%, below %.1f %%", 100*b.share(), 100*bystanderShare)
	}
	if n := r.Bystander.Wrong; n > 0 {
		t.fail("the bystander got %d answers that were malformed or to other requests", n)
	}
	if t.ended() {
		t.fail("evenkeel ended: %s %s", t.process.Ending(), t.process.LogTail())
	} else if err := wait(servesPatience, func() error {
		var n line
		defer n.close()
		return n.ask(&caller{address: t.web, path: "/after"}, "GET", "", 1)
	}); err != nil {
		t.fail("evenkeel does not serve afterwards: %v", err)
	}
	r.PeakRSS = t.peakRSS()
	if r.PeakRSS > e.setup.memory && !l.race {
		t.fail("resident memory reached %.0f MiB, more than %d MiB", float64(r.PeakRSS)/mib, e.setup.memory/mib)
	}
	if err := t.stop(); err != nil {
		t.fail("%v", err)
	}
	for _, c := range t.complaints() {
		t.fail("%s", c)
	}
	r.Verdict = "held"
	if len(r.Why) > 0 {
		r.Verdict = "NOT HELD"
	}
}

// share is the part of the requests that were due that succeeded.
func (t tally) share() float64 { return float64(t.OK) / float64(max(t.Sent+t.NotSent, 1)) }

// String is a tally in one line.
func (t tally) String() string {
	s := fmt.Sprintf("%d sent at %.0f/s, %d failed", t.Sent, t.Rate, t.Failed)
	if t.Resent > 0 {
		s += fmt.Sprintf(", %d sent again on a new connection", t.Resent)
	}
	if t.NotSent > 0 {
		s += fmt.Sprintf(", %d not sent since no connection was free in time", t.NotSent)
	}
	s += fmt.Sprintf("; p50 %.1f ms, p99 %.1f ms, max %.0f ms", t.P50MS, t.P99MS, t.MaxMS)
	for why, n := range t.Reasons {
		s += fmt.Sprintf("\n                   %d x %s", n, why)
	}
	return s
}

func (r *result) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s (%.0f s)\n", r.Name, r.Verdict, r.Seconds)
	for _, w := range r.Why {
		fmt.Fprintln(out, "  because        ", strings.ReplaceAll(w, "\n", "\n      "))
	}
	fmt.Fprintln(out, "  bystander      ", r.Bystander)
	if r.Load != nil {
		fmt.Fprintln(out, "  load           ", r.Load)
	}
	fmt.Fprintf(out, "  peak memory     %.0f MiB\n", float64(r.PeakRSS)/mib)
	for _, f := range r.Figures {
		fmt.Fprintln(out, "                 ", f)
	}
}
