package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/even-keel/evenkeel/console"
)

// defaultAdmin is the address of the admin listener that nobody changed.
const defaultAdmin = "127.0.0.1:7600"

// lookEvery is how often a command that waits looks at the node.
const lookEvery = 200 * time.Millisecond

// asker is how commands reach a running node.
type asker struct {
	admin, tokenFile, ca, cert, key string
}

// flags adds the flags of every command that asks a node.
func (a *asker) flags(fs *flag.FlagSet) {
	fs.StringVar(&a.admin, "admin", cmp.Or(os.Getenv("EVENKEEL_ADMIN"), defaultAdmin), "`ADDR` of the node's admin listener: host:port or URL; also from EVENKEEL_ADMIN")
	fs.StringVar(&a.tokenFile, "token-file", "", "`FILE` with the admin token; or the token itself in EVENKEEL_TOKEN")
	fs.StringVar(&a.ca, "ca", "", "`FILE` of authorities for an https admin listener (the system's)")
	fs.StringVar(&a.cert, "cert", "", "`FILE` with an own certificate to show")
	fs.StringVar(&a.key, "key", "", "`FILE` with its key")
}

// token is what the node wants to see, or "".
func (a *asker) token() (string, error) {
	if a.tokenFile == "" {
		return os.Getenv("EVENKEEL_TOKEN"), nil
	}
	b, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return "", fmt.Errorf("token cannot be read: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// tls is how an https admin listener is spoken to; nil: as the system does.
func (a *asker) tls() (*tls.Config, error) {
	if a.ca == "" && a.cert == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.ca != "" {
		pem, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, fmt.Errorf("authorities cannot be read: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate was found in %s", a.ca)
		}
	}
	if a.cert != "" {
		pair, err := tls.LoadX509KeyPair(a.cert, cmp.Or(a.key, a.cert))
		if err != nil {
			return nil, fmt.Errorf("own certificate cannot be read: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// client connects to nothing yet.
func (a *asker) client() (*console.Client, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	conf, err := a.tls()
	if err != nil {
		return nil, err
	}
	return console.NewClient(a.admin, token).WithTLS(conf), nil
}

// untilSignal is a context that ends with Ctrl-C.
func untilSignal() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

// failed says what went wrong with asking, and returns the exit code: what the node refused did not hold; bad input is 2;
// no answer says nothing.
func failed(t terminal, name string, err error) int {
	var refused *console.RefusedError
	switch {
	case !errors.As(err, &refused):
		fmt.Fprintf(t.err, "evenkeel %s: %v\n", name, err)
		return notRun
	case refused.Problem.Reason == "site_refused": // a mistake a line, as check has them
		fmt.Fprintf(t.err, "%s\nevenkeel %s: the site file was refused, the old site stays in force (%s)\n", refused.Problem.Detail, name, refused.Admin)
	default:
		fmt.Fprintf(t.err, "evenkeel %s: %v\n", name, err)
	}
	switch refused.Problem.Reason {
	case "site_refused", "unknown_pool", "unknown_endpoint", "bad_question", "bad_shed", "bad_breaker", "bad_silence", "unknown_silence", "unknown_alert", "unknown_session", "bad_data",
		"bad_switch", "unknown_switch", "bad_purge", "unknown_route", "bad_query", "bad_filter", "bad_mark", "bad_report":
		return misused
	}
	return notHeld
}

func statusCommand() command {
	return command{
		name: "status", use: "[--json]", short: "Show what a running node does",
		help: "Exit code 0 when the node is ready for traffic, 1 when it is not, 3 when it does not answer.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			asJSON := fs.Bool("json", false, "print the JSON of /api/v1/status")
			return func(t terminal, args []string) int {
				if len(args) > 0 {
					return wrong(t, "status", "it takes no arguments, got %q", args)
				}
				client, err := a.client()
				if err != nil {
					return failed(t, "status", err)
				}
				ctx, cancel := untilSignal()
				defer cancel()
				v, err := client.Status(ctx)
				if err != nil {
					return failed(t, "status", err)
				}
				if *asJSON {
					if code := printJSON(t, v); code != held {
						return code
					}
				} else if err := console.Plain(t.out, v); err != nil {
					return failed(t, "status", err)
				} else if needs, err := client.Needs(ctx); err == nil { // a node that cannot say is shown without
					if err := console.NeedsText(t.out, needs); err != nil {
						return failed(t, "status", err)
					}
				}
				if !v.Node.Ready {
					return notHeld
				}
				return held
			}
		},
	}
}

func topCommand() command {
	return command{
		name: "top", use: "[--once]", short: "Watch a running node in the terminal",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			once := fs.Bool("once", false, "show one view and end")
			every := lengthFlag(fs, "every", time.Second, "`TIME` between two views")
			return func(t terminal, args []string) int {
				if len(args) > 0 {
					return wrong(t, "top", "it takes no arguments, got %q", args)
				}
				token, err := a.token()
				if err != nil {
					return failed(t, "top", err)
				}
				conf, err := a.tls()
				if err != nil {
					return failed(t, "top", err)
				}
				ctx, cancel := untilSignal()
				defer cancel()
				err = console.Top(ctx, console.TopOptions{Admin: a.admin, Token: token, TLS: conf, In: t.in, Out: t.out,
					Terminal: isTerminal(t.out) && isTerminal(t.in), Every: *every, Once: *once})
				if err != nil && ctx.Err() == nil {
					return failed(t, "top", err)
				}
				return held
			}
		},
	}
}

// isTerminal reports whether a person looks at f.
func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

func reloadCommand() command {
	return command{
		name: "reload", short: "Make a running node read its site file again",
		help: "Returns when the new site is in force. When the file has mistakes they are shown, the node keeps its old site, and the exit code is 2.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			return func(t terminal, args []string) int {
				if len(args) > 0 {
					return wrong(t, "reload", "it takes no arguments, got %q", args)
				}
				client, err := a.client()
				if err != nil {
					return failed(t, "reload", err)
				}
				ctx, cancel := untilSignal()
				defer cancel()
				if err := client.Post(ctx, "/api/v1/reload"); err != nil {
					return failed(t, "reload", err)
				}
				v, err := client.Status(ctx)
				if err != nil {
					return failed(t, "reload", err)
				}
				fmt.Fprintf(t.out, "site %s is in force\n", v.Node.SiteRevision)
				return held
			}
		},
	}
}

func drainCommand() command {
	return command{
		name: "drain", use: "[POOL ADDRESS] [--wait TIME]", short: "Stop a node in order, or take one endpoint out of its pool",
		help: "Without arguments the node closes its listeners, finishes what it has and ends.\nWith POOL and ADDRESS that endpoint gets nothing new and finishes what it has; \"evenkeel up POOL ADDRESS\" brings it back.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			wait := lengthFlag(fs, "wait", 0, "wait up to this `TIME` until the drain is over; exit code 1 when it is not")
			return func(t terminal, args []string) int {
				client, err := a.client()
				if err != nil {
					return failed(t, "drain", err)
				}
				ctx, cancel := untilSignal()
				defer cancel()
				switch len(args) {
				case 0:
					err = client.Post(ctx, "/api/v1/drain")
				case 2:
					err = client.SetEndpoint(ctx, args[0], args[1], console.AdminDrain)
				default:
					return wrong(t, "drain", "name a pool and an address, or nothing for the whole node")
				}
				if err != nil {
					return failed(t, "drain", err)
				}
				if len(args) == 0 {
					return awaitEnd(ctx, t, client, *wait)
				}
				return awaitIdle(ctx, t, client, args[0], args[1], *wait)
			}
		},
	}
}

// awaitEnd waits until the node does not answer any more.
func awaitEnd(ctx context.Context, t terminal, client *console.Client, wait time.Duration) int {
	if wait <= 0 {
		fmt.Fprintln(t.out, "draining")
		return held
	}
	open := int64(0)
	if poll(ctx, wait, func() bool {
		v, err := client.Status(ctx)
		open = v.Totals.Open
		return err != nil && ctx.Err() == nil
	}) {
		fmt.Fprintln(t.out, "drained: the node has ended")
		return held
	}
	fmt.Fprintf(t.out, "still draining: %s open\n", count(int(open), "connection"))
	return notHeld
}

// awaitIdle waits until nothing is in flight to an endpoint.
func awaitIdle(ctx context.Context, t terminal, client *console.Client, pool, address string, wait time.Duration) int {
	if wait <= 0 {
		fmt.Fprintf(t.out, "draining %s of pool %s\n", address, pool)
		return held
	}
	left := int64(0)
	if poll(ctx, wait, func() bool {
		v, err := client.Status(ctx)
		if err != nil {
			return false
		}
		left = 0
		for _, p := range v.Pools {
			for _, e := range p.Endpoints {
				if p.Name == pool && e.Address == address {
					left += e.InFlight
				}
			}
		}
		return left == 0
	}) {
		fmt.Fprintf(t.out, "drained %s of pool %s\n", address, pool)
		return held
	}
	fmt.Fprintf(t.out, "%s of pool %s still has %s in flight\n", address, pool, count(int(left), "request"))
	return notHeld
}

// poll asks until over reports true, and reports whether that was in time.
func poll(ctx context.Context, wait time.Duration, over func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if over() {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// stateCommand is up or down.
func stateCommand(state string) command {
	c := command{name: state, use: "POOL ADDRESS", short: "Bring an endpoint back that was drained or taken down by hand"}
	if state == console.AdminDown {
		c.short = "Take an endpoint out at once; see drain for the gentle way"
	}
	c.setup = func(fs *flag.FlagSet) func(terminal, []string) int {
		var a asker
		a.flags(fs)
		return func(t terminal, args []string) int {
			if len(args) != 2 {
				return wrong(t, state, "name a pool and the address of an endpoint")
			}
			client, err := a.client()
			if err != nil {
				return failed(t, state, err)
			}
			ctx, cancel := untilSignal()
			defer cancel()
			if err := client.SetEndpoint(ctx, args[0], args[1], state); err != nil {
				return failed(t, state, err)
			}
			fmt.Fprintf(t.out, "%s of pool %s is set to %s\n", args[1], args[0], state)
			return held
		}
	}
	return c
}
