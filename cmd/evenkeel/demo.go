package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/node"
	"github.com/even-keel/evenkeel/site"
)

// Numbers of the demo: enough traffic for lively curves, little enough for a laptop's battery.
const (
	demoRate    = 200              // requests a second
	demoReport  = 5 * time.Second  // between two lines
	demoSurge   = 20 * time.Second // of calm, then much more comes
	demoSurging = 15 * time.Second
	demoWell    = 17 * time.Second // of calm, then an endpoint turns sick
	demoSickFor = 8 * time.Second
	demoPorts   = 50 // tried after the first when one is taken
)

func demoCommand() command {
	return command{
		name: "demo", use: "[--for TIME] [--surge]", short: "See evenkeel work: a sample service, traffic, gateway and console on this machine",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			listen := fs.String("listen", "", "`ADDR` of the gateway (127.0.0.1:8080, or the next free port)")
			admin := fs.String("admin", "", "`ADDR` of the console ("+defaultAdmin+", or the next free port)")
			rate := fs.Int("rate", demoRate, "`REQUESTS` a second, up to 5000; 0: no traffic")
			surge := fs.Bool("surge", false, "send six times as much all the time, twice what the endpoints can do")
			length := lengthFlag(fs, "for", 0, "end after this `TIME`; 0: with Ctrl-C")
			return func(t terminal, args []string) int {
				if len(args) > 0 {
					return wrong(t, "demo", "it takes no arguments, got %q", args)
				}
				if *rate < 0 || *rate > 5000 {
					return wrong(t, "demo", "--rate is %d, allowed is 0 to 5000", *rate)
				}
				d := &demo{t: t, listen: *listen, admin: *admin, rate: *rate, length: *length, surge: *surge}
				if err := d.run(); err != nil {
					fmt.Fprintf(t.err, "evenkeel demo: %v\n", err)
					return notRun
				}
				return held
			}
		},
	}
}

// demo is a whole small world in one process.
type demo struct {
	t             terminal
	listen, admin string
	rate          int
	length        time.Duration
	surge         bool

	service *sampleService
	traffic *traffic
	node    *node.Node
	began   time.Time
}

func (d *demo) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if d.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.length)
		defer cancel()
	}
	var err error
	if d.service, err = startSample(); err != nil {
		return err
	}
	defer d.service.stop()
	if d.listen, err = freeAddress(d.listen, "127.0.0.1:8080"); err != nil {
		return err
	}
	if d.admin, err = freeAddress(d.admin, defaultAdmin); err != nil {
		return err
	}
	s, err := site.Parse("demo", d.siteText())
	if err != nil {
		return fmt.Errorf("the demo's site, which has --listen and --admin in it, is wrong: %w", err)
	}
	collect := node.Tune()
	ready := make(chan struct{})
	opts := node.Options{Site: s, Collect: collect, Version: thisBuild().Version, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }}
	if d.node, err = node.New(opts); err != nil {
		return err
	}
	d.traffic = newTraffic("http://"+d.listen, d.rate)
	return d.play(ctx, stop, ready)
}

// play runs the node, and the traffic and the story beside it, until ctx ends.
func (d *demo) play(ctx context.Context, stop func(), ready <-chan struct{}) error {
	inner, end := context.WithCancel(context.Background())
	defer end()
	var failure error
	var wg sync.WaitGroup
	wg.Go(func() {
		failure = d.node.Run(inner)
		stop()
	})
	select {
	case <-ready:
		d.began = time.Now()
		d.story()
		var beside sync.WaitGroup
		beside.Go(func() { d.traffic.run(ctx) })
		beside.Go(func() { d.plot(ctx) })
		d.keys(ctx, stop)
		d.report(ctx)
		beside.Wait()
	case <-ctx.Done():
	}
	end()
	wg.Wait()
	if errors.Is(failure, syscall.EADDRINUSE) {
		return fmt.Errorf("a port was taken meanwhile, try again: %w", failure)
	}
	if failure == nil && !d.began.IsZero() {
		fmt.Fprintf(d.t.out, "\n%s\n", d.traffic.total())
	}
	return failure
}

// plot is what happens by itself, over and over: much more comes for a while, then an endpoint turns sick.
func (d *demo) plot(ctx context.Context) {
	if d.surge {
		d.traffic.surgeUntil(time.Now().AddDate(1, 0, 0))
		d.say("six times as much comes as usual: see http://%s/overload", d.admin)
		return
	}
	for pause(ctx, demoSurge) {
		d.press()
		if !pause(ctx, demoSurging) {
			return
		}
		d.say("the surge is over")
		if !pause(ctx, demoWell) {
			return
		}
		d.service.sicken(ctx, demoSickFor, d.say)
	}
}

// press lets much more come for a while.
func (d *demo) press() {
	if d.rate == 0 {
		return
	}
	d.traffic.surgeUntil(time.Now().Add(demoSurging))
	d.say("surge: six times as much comes for %.0f s, more than the endpoints can do; see http://%s/overload", demoSurging.Seconds(), d.admin)
}

// freeAddress is wanted, with a free port in place of 0, or when that is empty the first of some ports from first on that nobody has.
func freeAddress(wanted, first string) (string, error) {
	if strings.HasSuffix(wanted, ":0") { // the demo's traffic must know it before the node listens there
		ln, err := net.Listen("tcp", wanted)
		if err != nil {
			return "", fmt.Errorf("no free port is found for %s: %w", wanted, err)
		}
		return ln.Addr().String(), ln.Close()
	}
	if wanted != "" {
		ln, err := net.Listen("tcp", wanted)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return "", fmt.Errorf("%s is taken; name another port, or none: then a free one is found", wanted)
		case err != nil: // the check of the demo's site says what is wrong with it
			return wanted, nil
		}
		return wanted, ln.Close()
	}
	host, port, err := net.SplitHostPort(first)
	if err != nil {
		return "", err
	}
	base, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	for i := range demoPorts {
		address := net.JoinHostPort(host, strconv.Itoa(base+i))
		ln, err := net.Listen("tcp", address)
		if err == nil {
			return address, ln.Close()
		}
	}
	return "", fmt.Errorf("ports %d to %d are all taken on %s", base, base+demoPorts-1, host)
}

// siteText is the demo's site file: what a user would write.
func (d *demo) siteText() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "name: demo\nadmin: {listen: %q}\nlisteners:\n  web: {listen: %q}\npools:\n  demo:\n    slow_start: 5s\n    outliers: {slow: 2000%%}\n    shed: {mode: on}\n"+ // one of them is ten times as slow as the others, and stays
		"    probe: {http: {path: /healthz}, every: 500ms, timeout: 1s, fall: 2}\n    endpoints:\n", d.admin, d.listen)
	for _, e := range d.service.endpoints {
		fmt.Fprintf(&b, "      - %q\n", e.address)
	}
	b.WriteString("identify: {customer: {header: X-Customer}}\n" +
		"limits:\n" +
		"  - {name: per-customer, by: customer, rate: 100/s}\n" +
		"routes:\n" +
		"  - {name: tea, paths: [/tea], respond: {status: 418, body: \"a teapot answers for evenkeel\\n\"}}\n" +
		"  - {name: old, paths: [/old/*], redirect: {path: /}}\n" +
		"  - {name: checkout, paths: [/checkout/*], pool: demo, class: critical}\n" +
		"  - {name: suggestions, paths: [/suggestions/*], pool: demo, class: low}\n" +
		"  - {name: everything, pool: demo}\n")
	return []byte(b.String())
}

// say writes one line of the story.
func (d *demo) say(format string, args ...any) {
	at := "      "
	if !d.began.IsZero() {
		at = fmt.Sprintf("%5.0fs", time.Since(d.began).Seconds())
	}
	fmt.Fprintf(d.t.out, "%s  %s\n", at, fmt.Sprintf(format, args...))
}

// story says what there is to see.
func (d *demo) story() {
	w := d.t.out
	fmt.Fprintf(w, "evenkeel stands in front of five endpoints and sends them %d requests a second. All of it runs on this machine.\n\n", d.rate)
	fmt.Fprintf(w, "  gateway    http://%s\n  console    http://%s\n  endpoints", d.listen, d.admin)
	for _, e := range d.service.endpoints {
		fmt.Fprintf(w, "  %s %s (%s)", e.name, e.address, e.median)
	}
	first, me := d.service.endpoints[0].address, ownName()
	fmt.Fprintf(w, "\n\nLook: open the console. Fast endpoints get more than slow ones, without anybody having said so.\nTry, in another terminal:\n"+
		"  curl -i http://%s/\n      who answered, and after what time\n"+
		"  %s top --admin %s\n      the same as the console, in the terminal\n"+
		"  %s shed low --for 1m --admin %s\n      refuse what matters least, by hand\n"+
		"  %s drain demo %s --wait 5s --admin %s\n      take an endpoint out gently\n"+
		"  %s up demo %s --admin %s\n      bring it back\n"+
		"  curl -s http://%s/metrics | grep evenkeel_\n",
		d.listen, me, d.admin, me, d.admin, me, first, d.admin, me, first, d.admin, d.admin)
	fmt.Fprintf(w, "\nEvery minute a surge brings six times as much, twice what the endpoints can do: critical requests come first, low ones wait for\n"+
		"better times. In its first seconds the gate has yet to find its limit. See it at http://%s/overload.\n"+
		"Later one endpoint turns sick: its probe finds out, traffic leaves it, no request fails.\n", d.admin)
	if isTerminal(d.t.in) && isTerminal(w) {
		fmt.Fprintf(w, "Keys, each with Enter: s starts a surge, k kills an endpoint, r brings it back, q ends.\n")
	}
	fmt.Fprintln(w)
}

// ownName is how the user would call this program again.
func ownName() string {
	if strings.Contains(os.Args[0], "go-build") { // go run
		return "go run ./cmd/evenkeel"
	}
	return os.Args[0]
}

// keys reads what people type. The goroutine ends with the process, because reading a terminal cannot be interrupted.
func (d *demo) keys(ctx context.Context, quit func()) {
	if !isTerminal(d.t.in) || !isTerminal(d.t.out) {
		return
	}
	go func() {
		for in := bufio.NewScanner(io.LimitReader(d.t.in, 1<<20)); in.Scan() && ctx.Err() == nil; {
			switch strings.TrimSpace(in.Text()) {
			case "s":
				d.press()
			case "k":
				d.service.kill(d.say)
			case "r":
				d.service.revive(d.say)
			case "q":
				quit()
			}
		}
	}()
}

// report writes a line now and then.
func (d *demo) report(ctx context.Context) {
	tick := time.NewTicker(demoReport)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			healthy, all := 0, 0
			for _, p := range d.node.View().Pools {
				for _, e := range p.Endpoints {
					all++
					if e.EffectiveWeight > 0 {
						healthy++
					}
				}
			}
			d.say("%s, %d of %d endpoints in use", d.traffic.lately(), healthy, all)
		}
	}
}
