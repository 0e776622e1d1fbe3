package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/even-keel/evenkeel/console"
)

// promSteps is how many steps a range has when nobody says: as many as the curve has columns.
const promSteps = 60

// promPatience is how long a node that was just started may take to open its history.
const promPatience = 3 * time.Second

func promqlCommand() command {
	return command{
		name: "promql", use: "'EXPR' [--at TIME] [--range TIME [--step TIME]]", short: "Ask a running node's history in PromQL",
		help: `Without --range it shows the values now, or at a moment; with it curves over the time before that. Exit code 1 when there are
none. docs/monitoring.md says which metrics there are, and how Grafana asks the same history.`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			at := fs.String("at", "", "`TIME` to look at, as 2026-01-31T00:00:00Z (now)")
			length := lengthFlag(fs, "range", 0, "show the `TIME` before that, such as 1h")
			step := lengthFlag(fs, "step", 0, "`TIME` between two values of a range (a sixtieth of it)")
			asJSON := fs.Bool("json", false, "print the answer as the API gives it")
			return func(t terminal, args []string) int {
				if len(args) != 1 {
					return wrong(t, "promql", "say one expression, in quotes: evenkeel promql 'rate(evenkeel_requests_total[1m])'")
				}
				q := console.Asked{Expr: args[0], To: time.Now(), Step: *step}
				if *at != "" {
					var err error
					if q.To, err = time.Parse(time.RFC3339, *at); err != nil {
						return wrong(t, "promql", "--at is %q; write a time as 2026-01-31T00:00:00Z", *at)
					}
				}
				switch {
				case *length < 0 || *step < 0:
					return wrong(t, "promql", "--range and --step are 0s or more")
				case *length == 0 && *step > 0:
					return wrong(t, "promql", "--step has no effect without --range")
				case *length > 0 && *step == 0:
					q.Step = max((*length / promSteps).Round(time.Second), time.Second)
				}
				q.From = q.To.Add(-*length)
				return askPromQL(t, &a, q, *asJSON)
			}
		},
	}
}

// askPromQL asks the node and prints what it says.
func askPromQL(t terminal, a *asker, q console.Asked, asJSON bool) int {
	client, err := a.client()
	if err != nil {
		return failed(t, "promql", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	got, raw, err := askOpen(ctx, client, q)
	switch {
	case err != nil:
		return failed(t, "promql", err)
	case asJSON:
		fmt.Fprintf(t.out, "%s\n", raw)
	default:
		if err := console.PrintAnswer(t.out, q, got); err != nil {
			return failed(t, "promql", err)
		}
	}
	if len(got.Series) == 0 {
		return notHeld
	}
	return held
}

// askOpen asks, and waits a little for a history that is not open yet.
func askOpen(ctx context.Context, client *console.Client, q console.Asked) (got console.Answered, raw []byte, err error) {
	poll(ctx, promPatience, func() bool {
		got, raw, err = client.PromQL(ctx, q)
		var refused *console.RefusedError
		return !errors.As(err, &refused) || refused.Problem.Reason != "unavailable"
	})
	return got, raw, err
}
