package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/node"
	"github.com/even-keel/evenkeel/site"
)

// runFlags is what `run` can be told.
type runFlags struct {
	file, listen, admin string
	to                  []string
	logLevel            slog.Level
	logJSON             bool
}

func runCommand() command {
	return command{
		name: "run", use: "--to URL... [--listen ADDR] [--admin ADDR|off]  |  run -f site.yaml", short: "Stand in front of a service",
		help: `URL is http, https, h2c (HTTP/2 without TLS), tcp or udp. Several are balanced.

Signals: SIGTERM, SIGINT drain and end, a second one ends at once; SIGHUP reads the site file again; SIGUSR1 opens the
access log anew; SIGUSR2 starts the program anew and hands the listeners over (docs/running.md).`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var f runFlags
			fs.StringVar(&f.file, "f", "", "site `FILE`")
			fs.StringVar(&f.listen, "listen", "", "`ADDR` to serve on (127.0.0.1:8080)")
			fs.Func("to", "`URL` of the service; may be given several times", func(s string) error { f.to = append(f.to, s); return nil })
			fs.StringVar(&f.admin, "admin", "", "`ADDR` of the console and API, or off ("+defaultAdmin+"); with -f it goes before the file's")
			fs.TextVar(&f.logLevel, "log", slog.LevelInfo, "least `LEVEL` of the log on standard error: debug, info, warn, error")
			fs.BoolVar(&f.logJSON, "log-json", false, "write the log as JSON")
			return func(t terminal, args []string) int { return run(t, f, args) }
		},
	}
}

// run serves until it is told to stop.
func run(t terminal, f runFlags, args []string) int {
	if len(f.to) > 0 {
		f.to, args = append(f.to, args...), nil // --to a b c
	}
	switch {
	case len(args) > 0:
		return wrong(t, "run", "what is %q? the site file is named with -f, a service with --to", args[0])
	case f.file == "" && len(f.to) == 0:
		return wrong(t, "run", "say what to stand in front of: --to URL, or -f site.yaml")
	case f.file != "" && (len(f.to) > 0 || f.listen != ""):
		return wrong(t, "run", "-f and --to or --listen exclude each other: the site file says both")
	}
	load := f.load()
	s, err := load()
	if err != nil {
		return printMistakes(t, err)
	}
	sockets, err := node.InheritedSockets()
	if err != nil {
		fmt.Fprintf(t.err, "evenkeel run: %v\n", err)
		return notRun
	}
	collect := node.Tune()
	log := newLog(t.err, f)
	opts := node.Options{Site: s, Collect: collect, Version: thisBuild().Version, Log: log, Sockets: sockets}
	if f.file != "" {
		opts.Load = load
	}
	var n *node.Node
	opts.Ready = func() { greet(t.err, n.View(), s, n.AdminAddr()) }
	if n, err = node.New(opts); err != nil {
		fmt.Fprintf(t.err, "evenkeel run: %v\n", err)
		return notRun
	}
	if err := serve(n, log); err != nil {
		fmt.Fprintf(t.err, "evenkeel run: %v\n", err)
		return notRun
	}
	return held
}

// load reads the site: from the file, with --admin going before it, or from the flags.
func (f runFlags) load() func() (*site.Site, error) {
	if f.file == "" {
		return func() (*site.Site, error) { return site.Quick(f.listen, f.to, f.admin) }
	}
	return func() (*site.Site, error) {
		s, err := site.Load(f.file, node.Check)
		if err != nil || f.admin == "" {
			return s, err
		}
		// Quick knows what an admin address may be.
		if _, err := site.Quick("", []string{"http://127.0.0.1:1"}, f.admin); err != nil {
			return nil, err
		}
		changed := *s
		changed.Admin.Listen = f.admin
		return &changed, nil
	}
}

// newLog makes the log on standard error. systemd writes the time itself.
func newLog(w io.Writer, f runFlags) *slog.Logger {
	opts := &slog.HandlerOptions{Level: f.logLevel}
	if os.Getenv("JOURNAL_STREAM") != "" {
		opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	if f.logJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// serve runs the node and does what signals say.
func serve(n *node.Node, log *slog.Logger) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { obey(ctx, cancel, n, signals, ended, log) })
	err := n.Run(ctx)
	close(ended)
	cancel()
	wg.Wait()
	return err
}

// obey does what signals say until the node has ended. Reloads and upgrades run beside it, so that a stop is heard meanwhile.
func obey(ctx context.Context, cancel context.CancelFunc, n *node.Node, signals <-chan os.Signal, ended <-chan struct{}, log *slog.Logger) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ended:
			return
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				wg.Go(func() { _ = n.Reload() }) // the node logs what came of it
			case syscall.SIGUSR1:
				n.ReopenLogs()
			case syscall.SIGUSR2:
				wg.Go(func() { _ = n.Upgrade(ctx, nil) })
			default:
				if ctx.Err() != nil {
					log.Warn("told to stop twice: what is open is cut off")
					n.Abort()
					continue
				}
				log.Info("told to stop: draining, once more to stop at once", "signal", s.String())
				cancel()
			}
		}
	}
}

// greetLines is how many listeners and pools are greeted by name; `status` shows all.
const greetLines = 4

// greet says what serves where, once.
func greet(w io.Writer, v console.View, s *site.Site, at net.Addr) {
	for i, l := range v.Listeners {
		if i == greetLines {
			fmt.Fprintf(w, "          and %s more\n", count(len(v.Listeners)-i, "listener"))
			break
		}
		scheme := l.Protocol
		if l.TLS && scheme == site.ProtocolHTTP {
			scheme = "https"
		}
		fmt.Fprintf(w, "%-9s %s://%s\n", cmp.Or(l.Name, "listener"), scheme, l.Address)
	}
	for i, p := range v.Pools {
		if i == greetLines {
			fmt.Fprintf(w, "          and %s more\n", count(len(v.Pools)-i, "pool"))
			break
		}
		up := 0
		for _, e := range p.Endpoints {
			if e.State == console.StateUp || e.State == console.StateSlow {
				up++
			}
		}
		fmt.Fprintf(w, "pool      %s: %d of %s healthy, %s\n", p.Name, up, count(len(p.Endpoints), "endpoint"), strings.ReplaceAll(p.Method, "_", " "))
	}
	admin := s.Admin
	if s.StateDir == "" && !s.Monitor.Off && s.Monitor.Prometheus == nil {
		fmt.Fprintln(w, "history   ends with this process; state_dir in a site file keeps it")
	}
	if admin.Listen == "off" {
		return
	}
	scheme := "http"
	if admin.TLS != nil {
		scheme = "https"
	}
	fmt.Fprintf(w, "console   %s://%s\n", scheme, at)
}
