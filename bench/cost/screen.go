package cost

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// ask is one kind of request whose screening is measured.
type ask struct {
	name, text string
	status     int // with screening; 200 without
}

// asks are the requests: as small as can be, with three arguments, with a body of one kilobyte, and an attack that the cheap checks find.
func asks() []ask {
	const more = " HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\n"
	js := `{"user":"anna","items":[` + strings.Repeat(`{"id":123,"name":"green tea","price":4.5},`, 23) + `{"id":1}]}`
	form := "name=Anna+Schmidt&street=Long+Street+12&note=" + strings.Repeat("please+ring+twice+", 50)
	post := func(kind, body string) string {
		return fmt.Sprintf("POST /100%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", more, kind, len(body), body)
	}
	return []ask{
		{"GET", "GET /100" + more + "\r\n", 200},
		{"GET, 3 arguments", "GET /100?q=green+tea&page=2&sort=price.desc" + more + "\r\n", 200},
		{"POST, 1 KB JSON", post("application/json", js), 200},
		{"POST, 1 KB form", post("application/x-www-form-urlencoded", form), 200},
		{"GET, attack", "GET /100?id=1%27+or+1%3D1+--+-" + more + "\r\n", 403},
	}
}

// mode is one of the sites that are compared, by what its route says besides.
type mode struct{ name, route string }

// screenModes are the sites that are compared; the first is what the others are measured against.
var screenModes = []mode{
	{"off", "screen: {mode: off}"},
	{"cheap checks", "screen: {mode: block, sample: 0%}"},
	{"rule set", "screen: {mode: block}"},
	{"rule set, level 4", "screen: {mode: detect, paranoia: 4}"},
}

// cacheModes are those that show what the cache costs and spares. A ttl of some years outlives the fixed date of the service's answers.
var cacheModes = []mode{
	{"no cache", ""},
	{"passed by", "cache: {}"},
	{"hit", "cache: {ttl: 200000h}"},
}

// screenRow is what one kind of request costs.
type screenRow struct {
	Ask   string             `json:"request"`
	CPU   map[string]float64 `json:"cpu_us"` // by mode, median of the rounds
	Ratio map[string]float64 `json:"ratio"`  // to off
}

// Screen runs `bench screen` and returns its exit code.
func Screen(ctx context.Context, args []string) int {
	return compare(ctx, "screen", args, &screenBench{modes: screenModes, asks: asks()})
}

// Cache runs `bench cache` and returns its exit code.
func Cache(ctx context.Context, args []string) int {
	small := asks()[0]
	large := small
	large.name, large.text = "GET, 10 kB", strings.Replace(small.text, "/100 ", "/10000 ", 1)
	return compare(ctx, "cache", args, &screenBench{modes: cacheModes, asks: []ask{small, large}})
}

// compare measures one process for each mode of b in turn.
func compare(ctx context.Context, name string, args []string, b *screenBench) int {
	f := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	rounds := f.Int("rounds", 5, "rounds; the median counts")
	seconds := f.Float64("seconds", 1, "seconds of each measurement")
	asJSON := f.Bool("json", false, "write the results as JSON")
	program := f.String("evenkeel", "", "program to measure; empty: built from this clone")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *rounds < 1 || *seconds <= 0 || f.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench "+name+": rounds and seconds must be above zero, and there is nothing else to say")
		return 2
	}
	rows, start, err := b.measure(ctx, *program, *rounds, time.Duration(*seconds*float64(time.Second)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench "+name+":", err)
		return 3
	}
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"rows": rows, "start": start})
		return 0
	}
	printScreen(os.Stdout, b.modes, rows, start)
	return 0
}

// screenStart is what a mode costs before any request.
type screenStart struct {
	Mode  string  `json:"mode"`
	Ready float64 `json:"ready_ms"` // from start to readiness
	RSS   float64 `json:"rss_mib"`  // soon after
}

func printScreen(out io.Writer, modes []mode, rows []screenRow, start []screenStart) {
	fmt.Fprintf(out, "%s, %d cores\nprocessor time of evenkeel per request in µs, and how many times that of mode %s\n\n%-18s", machine.Model(), len(machine.CPUs()), modes[0].name, "")
	for _, m := range modes {
		fmt.Fprintf(out, "%22s", m.name)
	}
	for _, r := range rows {
		fmt.Fprintf(out, "\n%-18s", r.Ask)
		for _, m := range modes {
			fmt.Fprintf(out, "%14.1f %6.1f×", r.CPU[m.name], r.Ratio[m.name])
		}
	}
	fmt.Fprintf(out, "\n\n%-18s", "ready after, ms")
	for _, s := range start {
		fmt.Fprintf(out, "%22.0f", s.Ready)
	}
	fmt.Fprintf(out, "\n%-18s", "memory, MiB")
	for _, s := range start {
		fmt.Fprintf(out, "%22.1f", s.RSS)
	}
	fmt.Fprintln(out)
}

// screenBench is one evenkeel for each mode, before one service.
type screenBench struct {
	modes   []mode
	asks    []ask
	process []*machine.Process
	address []string
}

func (b *screenBench) measure(ctx context.Context, program string, rounds int, d time.Duration) (rows []screenRow, start []screenStart, err error) {
	dir, err := os.MkdirTemp("", "evenkeel-screen-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	if program == "" {
		if program, err = machine.Evenkeel(dir, false); err != nil {
			return nil, nil, err
		}
	}
	defer func() {
		for _, p := range b.process {
			p.Stop(0)
		}
	}()
	if start, err = b.start(dir, program); err != nil {
		return nil, nil, err
	}
	samples := map[[2]int][]float64{}
	for range rounds {
		for i, a := range b.asks {
			for m := range b.modes {
				cost, err := b.cost(ctx, m, a, d)
				if err != nil {
					return nil, nil, fmt.Errorf("%s, %s: %w", b.modes[m].name, a.name, err)
				}
				samples[[2]int{i, m}] = append(samples[[2]int{i, m}], cost)
			}
		}
	}
	for i, a := range b.asks {
		r := screenRow{Ask: a.name, CPU: map[string]float64{}, Ratio: map[string]float64{}}
		for m, mode := range b.modes {
			s := samples[[2]int{i, m}]
			slices.Sort(s)
			r.CPU[mode.name] = s[len(s)/2]
			r.Ratio[mode.name] = r.CPU[mode.name] / r.CPU[b.modes[0].name]
		}
		rows = append(rows, r)
	}
	return rows, start, nil
}

// start starts the service and one evenkeel for each mode.
func (b *screenBench) start(dir, program string) (out []screenStart, err error) {
	var ports machine.Ports
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	service, err := ports.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	p, err := machine.Start(machine.Command{Name: "service", Argv: []string{self, "worker", "endpoint", service}, Dir: dir, Grab: true})
	if err != nil {
		return nil, err
	}
	process := []*machine.Process{p}
	defer func() { b.process = append(b.process, process...) }()
	if err := p.Listening(service); err != nil {
		return nil, err
	}
	for i, m := range b.modes {
		at, err := ports.FreeAddress("127.0.0.1")
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, fmt.Sprintf("site%d.yaml", i))
		text := fmt.Sprintf("name: screen\nlisteners: {web: {listen: %q}}\npools: {p: {endpoints: [%q], probe: {http: {path: /healthz}}}}\nroutes: [{name: all, pool: p, %s}]\nadmin: {listen: off}\n", at, service, m.route)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		began := time.Now()
		e, err := machine.Start(machine.Command{Name: fmt.Sprintf("evenkeel%d", i), Argv: []string{program, "run", "-f", file}, Dir: dir})
		if err != nil {
			return nil, err
		}
		process = append(process, e)
		if err := e.Listening(at); err != nil {
			return nil, err
		}
		ready := time.Since(began)
		rss, err := machine.RSS(e.Pid())
		if err != nil {
			return nil, err
		}
		out = append(out, screenStart{m.name, float64(ready.Milliseconds()), float64(rss) / (1 << 20)})
		b.address = append(b.address, at)
	}
	b.process = nil
	return out, nil
}

// cost is the processor time per request, in microseconds, while one connection asks as fast as it is answered.
func (b *screenBench) cost(ctx context.Context, mode int, a ask, d time.Duration) (float64, error) {
	c, err := net.DialTimeout("tcp", b.address[mode], 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	want := a.status
	if mode == 0 || b.modes[mode].name == "rule set, level 4" { // which only detects
		want = 200
	}
	in := bufio.NewReader(c)
	pid := b.process[len(b.process)-len(b.modes)+mode].Pid()
	before, err := machine.CPUTime(pid)
	if err != nil {
		return 0, err
	}
	n := 0
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; n++ {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, a.text); err != nil {
			return 0, err
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return 0, err
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return 0, err
		}
		if answer.StatusCode != want {
			return 0, fmt.Errorf("status %d, want %d", answer.StatusCode, want)
		}
	}
	after, err := machine.CPUTime(pid)
	if err != nil {
		return 0, err
	}
	return float64(after.Since(before).Total().Microseconds()) / float64(cmp.Or(n, 1)), ctx.Err()
}
