// Package clients shows what many clients of one kind do to a server that is asked for more than it can do, and how soon all is well after it.
package clients

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
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

// ampMost is how many attempts a request of package client may make of itself, seen over a whole run.
const ampMost = 1.1

// lagMost is how late one in a hundred requests may be sent before a run says more about this machine than about clients.
const lagMost = patience / 10

// judgeAfter is how much time there must be after the spike for a verdict.
const judgeAfter = 30 * time.Second

// standard is the experiment when nothing else is said: 1,000 clients that each ask once in seven seconds, and five times as often for a while.
func standard() plan {
	return plan{Clients: 1000, Workers: 20, Work: 100 * time.Millisecond, Load: 0.7, Spike: 5,
		Warm: 15 * time.Second, SpikeFor: 10 * time.Second, After: time.Minute, Seed: 1}
}

// outcome is what came of one kind of client.
type outcome struct {
	Client  string  `json:"client"`
	Doc     string  `json:"doc"`
	Sent    int     `json:"requests"`
	Amp     float64 `json:"attempts_per_request"`       // in all
	AmpHard float64 `json:"attempts_per_request_spike"` // while too much is asked for
	During  float64 `json:"goodput_spike"`              // good answers in parts of what the server can do
	After   float64 `json:"good_after"`                 // share of the requests after the spike that got a good answer
	Well    bool    `json:"recovered"`
	Seconds float64 `json:"recovery_seconds"`
	Backlog float64 `json:"backlog_seconds"` // of work that waits in the server at the end
	Verdict string  `json:"verdict"`
	Why     string  `json:"why,omitempty"`
}

// Verdicts. Only package client is judged: what others do is not to be held against it.
const (
	verdictHeld    = "held"
	verdictNotHeld = "DID NOT HOLD"
	verdictInvalid = "INVALID"
	verdictNone    = "-"
)

// judge makes figures of a run.
func (r *run) judge(k kind) outcome {
	p := r.plan
	end := p.Warm + p.SpikeFor + p.After
	all, spike, after := r.between(0, end+patience), r.between(p.Warm, p.Warm+p.SpikeFor), r.between(p.Warm+p.SpikeFor, end)
	took, ok := r.recovery()
	o := outcome{Client: k.name, Doc: k.doc, Sent: all.sent, Amp: ratio(all.attempts, all.sent), AmpHard: ratio(spike.attempts, spike.sent),
		During: float64(spike.good) / spike.long.Seconds() / p.capacity(), After: ratio(after.good, after.sent), Well: ok, Seconds: took.Seconds(),
		Backlog: r.service.backlog(r.start.Add(end)).Seconds(), Verdict: verdictNone}
	late := r.late() > lagMost
	if late {
		o.Why = fmt.Sprintf("one in a hundred requests was sent more than %v late", r.late().Round(time.Millisecond))
	}
	switch {
	case k.name != ours || p.After < judgeAfter: // not to be judged, or too short for it
	case late:
		o.Verdict = verdictInvalid
	case o.Amp > ampMost:
		o.Verdict, o.Why = verdictNotHeld, fmt.Sprintf("more than %v attempts per request", ampMost)
	case !ok:
		o.Verdict, o.Why = verdictNotHeld, "not well again at the end"
	default:
		o.Verdict = verdictHeld
	}
	return o
}

func ratio(part, all int) float64 { return float64(part) / float64(max(all, 1)) }

// Main runs `bench clients` and returns its exit code.
func Main(ctx context.Context, args []string) int {
	p := standard()
	f := flag.NewFlagSet("bench clients", flag.ContinueOnError)
	f.IntVar(&p.Clients, "clients", p.Clients, "how many clients there are, each with a memory of its own")
	f.DurationVar(&p.Warm, "warm", p.Warm, "time before too much is asked for")
	f.DurationVar(&p.SpikeFor, "spike", p.SpikeFor, "time in which 3.5 times as much is asked for as can be done")
	f.DurationVar(&p.After, "after", p.After, "time after it")
	f.Uint64Var(&p.Seed, "seed", p.Seed, "of the arrivals, the same for all kinds of clients")
	names := f.String("kinds", "", "only these kinds of clients, parted by commas")
	gateway := f.Bool("gateway", false, "put evenkeel in front of the server, with its shedder on")
	asJSON := f.Bool("json", false, "write the results as JSON")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: bench clients [flags]")
		f.PrintDefaults()
		for _, k := range kinds() {
			fmt.Fprintf(f.Output(), "  %-14s %s\n", k.name, k.doc)
		}
	}
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return held
	} else if err != nil {
		return wrongUse
	}
	chosen, err := choose(*names)
	if err == nil {
		err = p.check(f.NArg())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench clients:", err)
		return wrongUse
	}
	list, err := p.all(ctx, chosen, *gateway, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench clients:", err)
		return silent
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		_ = e.Encode(map[string]any{"plan": p, "gateway": *gateway, "outcomes": list})
	} else {
		fmt.Printf("%s, %d cores; %d clients, a server that can do %.0f requests a second, %.0f of them asked for, %.0f for %v\n\n",
			machine.Model(), len(machine.CPUs()), p.Clients, p.capacity(), p.Load*p.capacity(), p.Load*p.Spike*p.capacity(), p.SpikeFor)
		table(os.Stdout, list)
	}
	return exitCode(list)
}

func (p plan) check(arguments int) error {
	switch {
	case arguments > 0:
		return errors.New("it takes no arguments")
	case p.Clients < 1 || p.Clients > 100_000:
		return fmt.Errorf("clients are 1 to 100000, not %d", p.Clients)
	case p.Warm < time.Second || p.SpikeFor < time.Second || p.After < row*time.Second || p.Warm+p.SpikeFor+p.After > time.Hour:
		return fmt.Errorf("warm and spike last at least a second, after at least %d, and all of it at most an hour", row)
	}
	return nil
}

// choose finds kinds by name; all without one.
func choose(names string) (list []kind, err error) {
	all := kinds()
	if names == "" {
		return all, nil
	}
	var known []string
	for _, k := range all {
		known = append(known, k.name)
	}
	for _, name := range strings.Split(names, ",") {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("there are no clients %q; known are %s", name, strings.Join(known, ", "))
		}
		list = append(list, all[i])
	}
	return list, nil
}

// all runs one kind after the other, each with a new server.
func (p plan) all(ctx context.Context, chosen []kind, gateway bool, talk io.Writer) (list []outcome, err error) {
	var program string
	if gateway {
		dir, err := os.MkdirTemp("", "evenkeel-clients-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		fmt.Fprintln(talk, "building evenkeel")
		if program, err = machine.Evenkeel(dir, false); err != nil {
			return nil, err
		}
	}
	for _, k := range chosen {
		fmt.Fprintf(talk, "%s: %s ... ", k.name, k.doc)
		o, err := p.try(ctx, k, program)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(talk, o.Verdict)
		list = append(list, o)
	}
	return list, nil
}

// try runs one kind over real connections; through evenkeel when there is a program.
func (p plan) try(ctx context.Context, k kind, program string) (outcome, error) {
	s := newService(p.Workers, p.Work)
	address, stop, err := s.listen()
	if err != nil {
		return outcome{}, err
	}
	defer stop()
	if program != "" {
		g, err := startGateway(program, address)
		if err != nil {
			return outcome{}, err
		}
		defer g.stop()
		address = g.address
	}
	base := &http.Transport{MaxIdleConns: 8192, MaxIdleConnsPerHost: 8192, IdleConnTimeout: time.Minute, DisableCompression: true}
	defer base.CloseIdleConnections()
	return p.drive(ctx, k, s, base, "http://"+address+"/work").judge(k), nil
}

// exitCode goes by package client alone.
func exitCode(list []outcome) (code int) {
	for _, o := range list {
		switch o.Verdict {
		case verdictNotHeld:
			code = max(code, notHeld)
		case verdictInvalid:
			code = silent
		}
	}
	return code
}

// table writes the outcomes, a line for each kind.
func table(out io.Writer, list []outcome) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "clients\tattempts per request\tin the spike\tgoodput in the spike\tgood after it\twell again after\tbacklog at the end\tverdict")
	for _, o := range list {
		well := "never"
		if o.Well {
			well = fmt.Sprintf("%.0f s", o.Seconds)
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.0f %%\t%.0f %%\t%s\t%.1f s\t%s\n", o.Client, o.Amp, o.AmpHard, 100*o.During, 100*o.After, well, o.Backlog, o.Verdict)
	}
	_ = w.Flush()
	for _, o := range list {
		if o.Why != "" {
			fmt.Fprintf(out, "\n%s: %s\n", o.Client, o.Why)
		}
	}
}
