package pool

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/site"
)

var update = flag.Bool("update", false, "write what the scenarios print as what is expected")

// TestScenarios runs testdata/*.txt. A file is a list of blocks: commands, a line of four dashes, what they print, an empty line.
//
//	pool key=value…          a pool; panic, slow, drain, over, method, zone, probes=no
//	endpoint NAME key=value… adds one to the configuration; weight, priority, zone
//	remove NAME              takes one away
//	apply                    New or Update with that configuration
//	ready                    as if Run had waited for the first verdicts
//	verdict NAME ok|bad [reason]
//	fail NAME connect|broken|timeout|stale|refused [times]
//	answer NAME STATUS [times] [retry-after]
//	hold NAME N, release NAME N   requests in flight
//	set NAME up|down|drain
//	breaker NAME open|closed|auto [DURATION]
//	wait DURATION            time passes, looked at every 250ms
//	show, picks N
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s prints another thing (-update writes it):\n%s", file, got)
			}
		})
	}
}

func replay(t *testing.T, text string) string {
	var out strings.Builder
	w := &world{t: t, now: time.Unix(1_700_000_000, 0), cfg: &site.Pool{Name: "p"}}
	for _, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		w.print.Reset()
		for _, line := range strings.Split(commands, "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				w.do(strings.Fields(line))
			}
		}
		fmt.Fprintf(&out, "%s\n", commands)
		if !strings.HasPrefix(commands, "#") || w.print.Len() > 0 {
			fmt.Fprintf(&out, "----\n%s", w.print.String())
		}
		out.WriteString("\n")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// world is one scenario.
type world struct {
	t     *testing.T
	cfg   *site.Pool
	p     *Pool
	now   time.Time
	zone  string
	blind bool // no probes
	print bytes.Buffer
}

func (w *world) do(f []string) {
	name := ""
	if len(f) > 1 {
		name = f[1]
	}
	arg := func(i int, unset string) string {
		if i < len(f) {
			return f[i]
		}
		return unset
	}
	times := func(i int) int {
		n, err := strconv.Atoi(arg(i, "1"))
		if err != nil {
			w.t.Fatalf("%v: %v", f, err)
		}
		return n
	}
	switch f[0] {
	case "pool":
		w.configure(f[1:])
	case "endpoint":
		w.endpoint(name, f[2:])
	case "remove":
		w.remove(name)
	case "apply":
		w.apply()
	case "ready":
		w.p.mu.Lock()
		w.p.startBy = w.now
		w.p.unlock()
		w.p.look(w.now)
	case "verdict":
		m := w.member(name)
		w.p.heard(m, m.born, probe.Verdict{At: w.now, Healthy: arg(2, "") == "ok", Reason: strings.Join(f[3:], " ")})
		w.p.look(w.now)
	case "fail":
		kind := map[string]exchange.ResultKind{"connect": exchange.ConnectFailed, "broken": exchange.Broken, "stale": exchange.Broken, "refused": exchange.Broken,
			"timeout": exchange.TimedOut}[arg(2, "")]
		w.done(name, times(3), exchange.Result{Kind: kind, Unsent: arg(2, "") == "stale", Refused: arg(2, "") == "refused"})
	case "answer":
		after, _ := time.ParseDuration(arg(4, "0s"))
		w.done(name, times(3), exchange.Result{Status: times(2), RetryAfter: after})
	case "hold":
		w.member(name).InFlight.Add(int64(times(2)))
	case "release":
		w.member(name).InFlight.Add(int64(-times(2)))
	case "set":
		if err := w.p.SetState(name, arg(2, "")); err != nil {
			fmt.Fprintln(&w.print, "error:", err)
		}
	case "breaker":
		d, _ := time.ParseDuration(arg(3, "0s"))
		if err := w.p.SetBreaker(name, arg(2, ""), w.now.UTC().Add(d)); err != nil {
			fmt.Fprintln(&w.print, "error:", err)
		}
	case "wait":
		w.wait(arg(1, ""))
	case "show":
		w.show()
	case "picks":
		w.picks(times(1))
	default:
		w.t.Fatalf("unknown command %v", f)
	}
}

func (w *world) configure(args []string) {
	w.cfg.Panic, w.cfg.Overprovision, w.cfg.SlowStart, w.cfg.DrainTimeout = 0.5, 1.4, 0, 30*time.Second
	w.cfg.Method = site.MethodRoundRobin
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		d, _ := time.ParseDuration(v)
		n, _ := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
		switch k {
		case "panic":
			w.cfg.Panic = site.Percent(n / 100)
		case "over":
			w.cfg.Overprovision = site.Percent(n / 100)
		case "slow":
			w.cfg.SlowStart = d
		case "drain":
			w.cfg.DrainTimeout = d
		case "method":
			w.cfg.Method = v
		case "zone":
			w.zone = v
		case "probes":
			w.blind = v == "no"
		default:
			w.t.Fatalf("unknown setting %s", a)
		}
	}
}

func (w *world) endpoint(name string, args []string) {
	w.remove(name)
	e := site.Endpoint{Address: name, Weight: 1, Priority: 1}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		n, _ := strconv.Atoi(v)
		switch k {
		case "weight":
			e.Weight = n
		case "priority":
			e.Priority = n
		case "zone":
			e.Zone = v
		}
	}
	w.cfg.Endpoints = append(w.cfg.Endpoints, e)
}

func (w *world) remove(name string) {
	var kept []site.Endpoint
	for _, e := range w.cfg.Endpoints {
		if e.Address != name {
			kept = append(kept, e)
		}
	}
	w.cfg.Endpoints = kept
}

func (w *world) apply() {
	cfg := *w.cfg
	if w.p != nil {
		if err := w.p.Update(&cfg); err != nil {
			fmt.Fprintln(&w.print, "error:", err)
		}
		return
	}
	deps := Deps{Seed: 1, Zone: w.zone, Event: func(kind, text string) { fmt.Fprintf(&w.print, "%s: %s\n", kind, text) }}
	deps.Detach = func(e *exchange.Endpoint) { fmt.Fprintf(&w.print, "detach %s\n", e.Address) }
	if !w.blind {
		deps.Prober = probe.New(nil)
	}
	p, err := newPool(&cfg, deps, func() time.Time { return w.now })
	if err != nil {
		w.t.Fatal(err)
	}
	p.startBy = w.now.Add(time.Hour)
	w.p = p
}

func (w *world) member(name string) *member {
	m := w.p.byName[name]
	if m == nil {
		w.t.Fatalf("no endpoint %s", name)
	}
	return m
}

// done lets n exchanges with name end.
func (w *world) done(name string, n int, r exchange.Result) {
	m := w.member(name)
	for range n {
		m.InFlight.Add(1)
		w.p.Done(&exchange.Exchange{}, &m.Endpoint, r)
	}
	w.p.look(w.now)
}

func (w *world) wait(text string) {
	d, err := time.ParseDuration(text)
	if err != nil {
		w.t.Fatal(err)
	}
	for ; d > 0; d -= lookEvery {
		w.now = w.now.Add(min(d, lookEvery))
		w.p.look(w.now)
	}
}

func (w *world) show() {
	s := w.p.Status()
	fmt.Fprintf(&w.print, "healthy %.0f%%", s.HealthyShare*100)
	for _, word := range []struct {
		on   bool
		text string
	}{{!s.Ready, " not-ready"}, {s.Panic, " panic"}, {s.Blind, " blind"}} {
		if word.on {
			w.print.WriteString(word.text)
		}
	}
	w.print.WriteString("\n")
	for _, e := range s.Endpoints {
		gone := ""
		if w.member(e.Address).Gone.Load() {
			gone = " gone"
		}
		fmt.Fprintf(&w.print, "  %s %s%s weight=%.2f in-flight=%d (%s)\n", e.Address, e.State, gone, e.EffectiveWeight, e.InFlight, e.Why)
	}
}

// picks prints what part of n picks each endpoint gets, in per cent.
func (w *world) picks(n int) {
	count, none := make(map[string]int), ""
	for i := range n {
		x := &exchange.Exchange{Shard: uint32(i)}
		e, no := w.p.Pick(x)
		if no != nil {
			none = no.Reason
			continue
		}
		count[e.Address]++
		w.p.Done(x, e, exchange.Result{Kind: exchange.Cancelled})
	}
	w.print.WriteString("picks")
	for _, m := range append(append([]*member(nil), w.p.members...), w.p.leaving...) {
		if c := count[m.Address]; c > 0 {
			fmt.Fprintf(&w.print, " %s=%.0f%%", m.Address, float64(c)*100/float64(n))
		}
	}
	if none != "" {
		w.print.WriteString(" refused: " + none)
	}
	w.print.WriteString("\n")
}
