// Package history measures what it costs that a node remembers its figures: the size of the program, its cold start, and memory and processor time with thousands of series.
package history

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// What must hold.
const (
	maxBytes  = 47 << 20 // 50 MB, rounded down: of the stripped program
	maxStart  = 1500 * time.Millisecond
	maxMemory = 143 << 20 // 150 MB, rounded down: resident, with 10,000 series
)

const (
	endpoints = 4 // that share the series
	maxRate   = 50000
	lookEvery = 2 * time.Millisecond
	patience  = 30 * time.Second
)

// Result is what was measured. Bytes, milliseconds.
type Result struct {
	Bytes       int64   `json:"program_bytes"`
	StartMS     float64 `json:"start_ms"`       // median
	StartOffMS  float64 `json:"start_off_ms"`   // without history
	Series      int     `json:"series"`         // that the store has
	Rounds      int     `json:"rounds"`         // of scraping
	Resident    int64   `json:"resident"`       // at the end
	ResidentOff int64   `json:"resident_off"`   // of a node without history
	CPUPerRound float64 `json:"cpu_per_round"`  // milliseconds of processor time, beyond those of a node without history
	Rate        Ratio   `json:"requests_ratio"` // requests a second with history over without
	Cost        Ratio   `json:"cost_ratio"`     // processor time of a request, the same
	Hour        *Hour   `json:"hour,omitempty"` // under load, and then nothing else
	Held        bool    `json:"held"`
}

// order is what was asked for.
type order struct {
	series, rounds, starts int
	turns, seconds         int
	rate                   int // of requests while the memory is measured; 0: as many rounds as said, without load
	length, tell           time.Duration
	program                string
	dir                    string
	ports                  *machine.Ports
}

// Main is bench monitor.
func Main(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("monitor", flag.ContinueOnError)
	var o order
	flags.IntVar(&o.series, "series", 10000, "series of the endpoints together")
	flags.IntVar(&o.rounds, "rounds", 60, "rounds of scraping, one a second; 360 are as many samples as an hour brings")
	flags.IntVar(&o.starts, "starts", 7, "starts with and without history")
	flags.IntVar(&o.turns, "turns", 7, "turns of load with and without history; 0: none, else 5 at the least")
	flags.IntVar(&o.seconds, "seconds", 20, "length of one of them; short ones say little, because one look falls into each")
	flags.IntVar(&o.rate, "load", 0, "requests a second through the node while its memory is measured, and nothing else is measured then; 0: none")
	flags.DurationVar(&o.length, "for", time.Hour, "how long that load lasts, 10s at the least")
	flags.DurationVar(&o.tell, "tell", 5*time.Minute, "how often it is said meanwhile what the node holds")
	asJSON := flags.Bool("json", false, "print JSON")
	if flags.Parse(args) != nil || flags.NArg() > 0 || o.series < endpoints || o.rounds < 0 || o.starts < 1 || o.turns > 0 && o.turns < roundsLeast || o.seconds < 1 ||
		o.rate < 0 || o.rate > maxRate || o.length < hourLook || o.length > 24*time.Hour || o.tell <= 0 {
		return 2
	}
	dir, err := os.MkdirTemp("", "evenkeel-bench")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench monitor:", err)
		return 3
	}
	defer os.RemoveAll(dir)
	o.dir, o.ports = dir, new(machine.Ports)
	r, err := o.measure(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench monitor:", err)
		return 3
	}
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(r)
	} else {
		r.print(os.Stdout)
	}
	if !r.Held {
		return 1
	}
	return 0
}

func (r Result) print(w io.Writer) {
	const mb = 1 << 20
	fmt.Fprintf(w, "program, stripped   %6.1f MiB   (at most %d)\n", float64(r.Bytes)/mb, maxBytes/mb)
	if r.Hour != nil {
		r.Hour.print(w)
		return
	}
	fmt.Fprintf(w, "cold start          %6.0f ms    (at most %d; %.0f without history)\n", r.StartMS, maxStart.Milliseconds(), r.StartOffMS)
	fmt.Fprintf(w, "memory              %6.1f MiB   (at most %d at 10,000 series; %.1f without history): %d series, %d rounds\n",
		float64(r.Resident)/mb, maxMemory/mb, float64(r.ResidentOff)/mb, r.Series, r.Rounds)
	fmt.Fprintf(w, "processor time      %6.1f ms    a round, more than without history\n", r.CPUPerRound)
	r.printLoad(w)
}

func (o order) measure(ctx context.Context) (r Result, err error) {
	root, err := machine.Root()
	if err != nil {
		return r, err
	}
	o.program = filepath.Join(o.dir, "evenkeel")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", o.program, "./cmd/evenkeel")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return r, fmt.Errorf("the program cannot be built: %w\n%s", err, out)
	}
	st, err := os.Stat(o.program)
	if err != nil {
		return r, err
	}
	r.Bytes = st.Size()
	if o.rate > 0 {
		h, err := o.hour(ctx, os.Stderr)
		r.Hour, r.Held = &h, h.Held && r.Bytes <= maxBytes
		return r, err
	}
	if r.StartMS, r.StartOffMS, err = o.start(ctx); err != nil {
		return r, err
	}
	if err := o.remember(ctx, &r); err != nil {
		return r, err
	}
	if err := o.load(ctx, &r); err != nil {
		return r, err
	}
	r.Held = r.Cost.Median <= maxWorse && r.Bytes <= maxBytes && r.StartMS <= float64(maxStart.Milliseconds()) && (r.Series > 11000 || r.Resident <= maxMemory)
	return r, nil
}

// start measures how long a node takes until it is ready, in turns with and without history. The history is there from the
// second start on.
func (o order) start(ctx context.Context) (on, off float64, err error) {
	var took [2][]float64
	for i := range 2 * o.starts {
		n, err := o.node(ctx, setting{off: i%2 == 1})
		if err != nil {
			return 0, 0, err
		}
		took[i%2] = append(took[i%2], float64(n.took.Microseconds())/1e3)
		n.stop()
	}
	slices.Sort(took[0])
	slices.Sort(took[1])
	return took[0][o.starts/2], took[1][o.starts/2], nil
}

// node is a running evenkeel.
type node struct {
	*machine.Process
	admin, web string
	took       time.Duration
}

func (n *node) stop() {
	n.Signal(syscall.SIGTERM)
	n.Stop(patience)
}

// node starts one and waits until it is ready.
func (o order) node(ctx context.Context, s setting) (*node, error) {
	admin, err := o.ports.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	web, err := o.ports.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	if s.name == "" {
		s.name = "site"
	}
	text := s.site(o.dir, admin, web)
	file := filepath.Join(o.dir, s.name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	began := time.Now()
	p, err := machine.Start(machine.Command{Name: "evenkeel-" + s.name, CPUs: s.cpus, Argv: []string{o.program, "run", "-f", file}, Dir: o.dir})
	if err != nil {
		return nil, err
	}
	n := &node{Process: p, admin: admin, web: web}
	for time.Since(began) < patience && ctx.Err() == nil && !p.Ended() {
		if status, _, _ := fetch("http://" + admin + "/readyz"); status == http.StatusOK {
			n.took = time.Since(began)
			return n, nil
		}
		time.Sleep(lookEvery)
	}
	p.Stop(0)
	return nil, errors.Join(ctx.Err(), errors.New("the node is not ready: "+p.Ending()))
}

// remember measures a node with many series, and one without history beside the same endpoints.
func (o order) remember(ctx context.Context, r *Result) error {
	if o.rounds == 0 {
		return nil
	}
	shown, end, err := o.show()
	if err != nil {
		return err
	}
	defer end()
	var cpu [2]time.Duration
	for i, off := range []bool{false, true} {
		n, err := o.node(ctx, setting{off: off, shown: shown})
		if err != nil {
			return err
		}
		before, err := machine.CPUTime(n.Pid())
		if err == nil {
			err = wait(ctx, time.Duration(o.rounds)*time.Second)
		}
		after, later := machine.CPUTime(n.Pid())
		cpu[i] = after.Since(before).Total()
		resident, last := machine.RSS(n.Pid())
		if off {
			r.ResidentOff = resident
		} else {
			r.Resident = resident
			last = errors.Join(last, n.status(r))
		}
		n.stop()
		if err := errors.Join(err, later, last); err != nil {
			return err
		}
	}
	r.CPUPerRound = float64((cpu[0] - cpu[1]).Microseconds()) / 1e3 / float64(max(r.Rounds, 1))
	return nil
}

// status reads what the node remembers.
func (n *node) status(r *Result) error {
	_, body, err := fetch("http://" + n.admin + "/api/v1/monitor")
	if err != nil {
		return err
	}
	return json.Unmarshal(body, r)
}

// show serves the metrics of endpoints, whose values move.
func (o order) show() (addresses []string, end func(), err error) {
	var servers []*http.Server
	end = func() {
		for _, s := range servers {
			s.Close()
		}
	}
	for e := range endpoints {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			end()
			return nil, nil, err
		}
		var asked atomic.Int64
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			at := asked.Add(1)
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			for i := range o.series / endpoints {
				fmt.Fprintf(w, "shop_requests_total{endpoint=\"%d\",handler=\"/path/%d\",code=\"%d\"} %d\n", e, i/10, 200+i%10, at*int64(i))
			}
		})}
		servers, addresses = append(servers, s), append(addresses, strconv.Quote(ln.Addr().String()))
		go func() { _ = s.Serve(ln) }()
	}
	return addresses, end, nil
}

func fetch(url string) (status int, body []byte, err error) {
	c := http.Client{Timeout: time.Second}
	a, err := c.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	body, err = io.ReadAll(io.LimitReader(a.Body, 1<<20))
	return a.StatusCode, body, err
}

// wait waits, or ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
