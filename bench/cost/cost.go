// Package cost measures what a request, a byte and a connection cost evenkeel beside HAProxy and nginx, in one run on one machine.
package cost

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
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// Exit codes.
const (
	held     = 0 // everything was measured and every expectation holds
	notHeld  = 1
	wrongUse = 2
	silent   = 3 // it could not run, or a case that an expectation names is invalid: the result says nothing
)

// What a run is made of.
const (
	warmUp     = 1                      // seconds of load before the first round: caches, connections, heap
	rest       = 50 * time.Millisecond  // after load, for closing connections, before CPU time is read
	otherShare = 0.20                   // a round is disturbed when other work took more of the proxy core
	idleHold   = 8                      // seconds of silence before the memory of idle connections is read
	stopGrace  = 2 * time.Second        // for a proxy to end before it is killed
	toolGrace  = 30 * time.Second       // beyond its seconds, before a load tool is given up
	look       = 100 * time.Millisecond // between two looks at a worker's output
)

// kind is how a case is loaded.
type kind uint8

const (
	requests   kind = iota // wrk: keep-alive requests
	refusals               // wrk: keep-alive requests that are all refused
	handshakes             // wrk: a connection with a full handshake for each request
	streams                // h2load
	bulk                   // own worker: downloads without end
	connects               // own worker: connect, one byte there and back, reset
	memory                 // own worker: idle connections
)

// kase is one thing to measure.
type kase struct {
	name, mode  string
	kind        kind
	body, conns int
	unit        string
}

// cases are all, in the order of a full run.
var cases = []kase{
	{"h1-100B-64", modeHTTP, requests, 100, 64, "us/request"},
	{"h1-100B-512", modeHTTP, requests, 100, 512, "us/request"},
	{"h1-10kB-64", modeHTTP, requests, 10000, 64, "us/request"},
	{"refusal", modeRefuse, refusals, 100, 64, "us/refusal"},
	{"refusal-512", modeRefuse, refusals, 100, 512, "us/refusal"},
	{"tls-100B-64", modeTLS, requests, 100, 64, "us/request"},
	{"tls-handshake", modeTLS, handshakes, 100, 64, "us/request"},
	{"h2c-16x16", modeH2C, streams, 100, 16, "us/request"},
	{"l4-bulk", modeTCP, bulk, 0, 4, "ms/GB"},
	{"l4-conns", modeTCP, connects, 0, 16, "us/connection"},
	{"idle-10k", modeHTTP, memory, 100, 10000, "B/connection"},
}

// findCases reads a list of names; all stands for all.
func findCases(list string) (found []kase, err error) {
	if list == "all" {
		return cases, nil
	}
	var names []string
	for _, k := range cases {
		names = append(names, k.name)
	}
	for name := range strings.SplitSeq(list, ",") {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("there is no case %q; known are %s, and all", name, strings.Join(names, ", "))
		}
		found = append(found, cases[i])
	}
	return found, nil
}

// plan is what the flags say.
type plan struct {
	cases           []kase
	rivals          []string
	bounds          []bound
	rounds, seconds int
	json            bool
	program         string
	proxyCPU, load  []int
	talk            io.Writer
}

// Main runs `bench cost` and returns its exit code.
func Main(ctx context.Context, args []string) int {
	p, err := readPlan(args)
	if errors.Is(err, flag.ErrHelp) {
		return held
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench cost:", err)
		return wrongUse
	}
	if os.Geteuid() == 0 && !machine.Inside() {
		if code, err := machine.Enter(); err == nil {
			return code
		}
		fmt.Fprintln(os.Stderr, "no network namespace of its own: measuring in this one")
	}
	if machine.Inside() {
		if err := machine.Prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "bench cost:", err)
			return silent
		}
	}
	r, err := p.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench cost:", err)
		return silent
	}
	code := r.judge(p.bounds)
	if p.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		_ = e.Encode(r)
	} else {
		r.print(os.Stdout)
	}
	return code
}

func readPlan(args []string) (*plan, error) {
	p := &plan{talk: os.Stderr}
	f := flag.NewFlagSet("bench cost", flag.ContinueOnError)
	list := f.String("cases", "all", "comma-separated names of cases")
	rivals := f.String("rivals", "haproxy,nginx", "comma-separated, the first is what ratios are taken to; what is not installed is left out")
	f.IntVar(&p.rounds, "rounds", 5, "rounds per case, 3 to 100")
	f.IntVar(&p.seconds, "seconds", 2, "seconds of load per proxy and round, 1 to 60")
	f.BoolVar(&p.json, "json", false, "write everything, every round included, as JSON")
	f.StringVar(&p.program, "evenkeel", "", "program to measure; empty: built from this clone")
	var wrong error
	f.Func("expect", "CASE[:ratio|cost|rate]<=VALUE, such as h1-100B-64<=0.90; may be repeated; exit code 1 when it does not hold", func(s string) error {
		b, err := readBound(s)
		p.bounds = append(p.bounds, b)
		return err
	})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if p.cases, wrong = findCases(*list); wrong != nil {
		return nil, wrong
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("%q is not a flag", f.Arg(0))
	case p.rounds < 3 || p.rounds > 100:
		return nil, fmt.Errorf("--rounds %d is not from 3 to 100", p.rounds)
	case p.seconds < 1 || p.seconds > 60:
		return nil, fmt.Errorf("--seconds %d is not from 1 to 60", p.seconds)
	}
	for name := range strings.SplitSeq(*rivals, ",") {
		if !slices.Contains(rivalNames, name) {
			return nil, fmt.Errorf("there is no rival %q; known are %s", name, strings.Join(rivalNames, ", "))
		}
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintf(p.talk, "%s is not installed (Debian: apt-get install %s) and is left out\n", name, name)
			continue
		}
		p.rivals = append(p.rivals, name)
	}
	cpus := machine.CPUs()
	p.proxyCPU, p.load = cpus[:min(1, len(cpus))], cpus[min(1, len(cpus)-1):min(2, len(cpus))]
	return p, nil
}

// run measures every case.
func (p *plan) run(ctx context.Context) (*report, error) {
	if len(p.rivals) == 0 {
		return nil, errors.New("no rival is installed: there is nothing to take a ratio to")
	}
	for _, k := range p.cases {
		tool := map[kind]string{requests: "wrk", refusals: "wrk", handshakes: "wrk", streams: "h2load"}[k.kind]
		if _, err := exec.LookPath(tool); tool != "" && err != nil {
			return nil, fmt.Errorf("%s needs %s, which is not installed (Debian: wrk, nghttp2-client)", k.name, tool)
		}
	}
	dir, err := os.MkdirTemp("", "evenkeel-cost-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // nginx gives up root and must get at its files
		return nil, err
	}
	if p.program == "" {
		fmt.Fprintln(p.talk, "building evenkeel")
		if p.program, err = machine.Evenkeel(dir, false); err != nil {
			return nil, err
		}
	}
	if p.program, err = filepath.Abs(p.program); err != nil {
		return nil, err
	}
	r := &report{Machine: p.machine(), Rounds: p.rounds, Seconds: p.seconds}
	b := &bench{plan: p, dir: dir}
	if err := machine.Certificate(b.file("cert.pem"), b.file("key.pem"), b.file("both.pem"), 1); err != nil {
		return nil, err
	}
	for _, k := range p.cases {
		fmt.Fprintf(p.talk, "%s ", k.name)
		t, err := b.measure(ctx, k)
		fmt.Fprintln(p.talk)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		r.Cases = append(r.Cases, t)
	}
	return r, nil
}

func (p *plan) machine() facts {
	m := facts{Processor: machine.Model(), Cores: runtime.NumCPU(), Kernel: machine.Kernel(), Go: runtime.Version(), Congestion: machine.Congestion(),
		OwnNamespace: machine.Inside(), ProxyCPU: p.proxyCPU, LoadCPU: p.load, Versions: map[string]string{evenkeel: version(evenkeel, p.program)}}
	for _, name := range p.rivals {
		m.Versions[name] = version(name, "")
	}
	return m
}
