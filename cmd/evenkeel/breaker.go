package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console"
)

func breakerCommand() command {
	return command{
		name: "breaker", use: "open|closed|auto POOL [ENDPOINT] [--for TIME], or breaker status",
		short: "Hold a breaker open or closed by hand for a while",
		help: "\"breaker open shop --for 10m\" refuses all requests for pool shop at once until then; with an endpoint, that one gets nothing.\n" +
			"\"breaker closed\" keeps it from opening, whatever fails. Both end by themselves, outlive reloads, and stand in status, console and events.\n" +
			"auto ends them now: a breaker that was held open goes on with trials. status shows which breakers are not closed, and why.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			length := lengthFlag(fs, "for", 0, "hold it for this `TIME`, up to 24h")
			asJSON := fs.Bool("json", false, "print the breakers that are not closed as JSON")
			return func(t terminal, args []string) int {
				o, err := breakerOrderOf(args, *length)
				if err != nil {
					return wrong(t, "breaker", "%v", err)
				}
				return o.run(t, &a, *asJSON)
			}
		},
	}
}

// breakerOrder is what breaker was told to do.
type breakerOrder struct {
	state, pool, endpoint string
	length                time.Duration
}

// breakerOrderOf makes an order of the arguments, or says what is wrong with them before a node is asked.
func breakerOrderOf(args []string, length time.Duration) (o breakerOrder, err error) {
	if len(args) == 0 {
		return o, errors.New("say open, closed or auto and a pool, or status")
	}
	o = breakerOrder{state: args[0], length: length}
	if o.state == "close" {
		o.state = console.BreakerClosed
	}
	switch {
	case o.state == "status" && (len(args) > 1 || length != 0):
		return o, errors.New("status takes neither a pool nor --for")
	case o.state == "status":
		return o, nil
	case o.state != console.BreakerAuto && length == 0 && (o.state == console.BreakerOpen || o.state == console.BreakerClosed):
		return o, errors.New("say for how long with --for, such as --for 10m")
	}
	if err := console.CheckBreaker(o.state, length); err != nil {
		return o, err
	}
	if len(args) < 2 || len(args) > 3 {
		return o, errors.New("name one pool, and one of its endpoints if only that is meant")
	}
	o.pool = args[1]
	if len(args) == 3 {
		o.endpoint = args[2]
	}
	return o, nil
}

func (o breakerOrder) run(t terminal, a *asker, asJSON bool) int {
	client, err := a.client()
	if err != nil {
		return failed(t, "breaker", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	var list []console.Broken
	if o.state == "status" {
		list, err = client.Broken(ctx)
	} else {
		list, err = client.Break(ctx, o.pool, o.endpoint, o.state, o.length)
	}
	if err != nil {
		return failed(t, "breaker", err)
	}
	if asJSON {
		return printJSON(t, map[string]any{"breakers": list})
	}
	fmt.Fprint(t.out, brokenText(list))
	return held
}

// brokenText says which breakers are not closed, and why.
func brokenText(list []console.Broken) string {
	if len(list) == 0 {
		return "all breakers are closed\n"
	}
	var b strings.Builder
	for _, one := range list {
		if one.Endpoint == "" { // whose reason says the state too
			fmt.Fprintf(&b, "pool %s: %s\n", one.Pool, one.Why)
			continue
		}
		what := "endpoint " + one.Endpoint + " of pool " + one.Pool
		fmt.Fprintf(&b, "%s: %s", what, one.State)
		if !one.ByHand.IsZero() {
			fmt.Fprintf(&b, " by hand until %s", one.ByHand.Local().Format("15:04:05"))
		}
		fmt.Fprintf(&b, ": %s\n", one.Why)
	}
	return b.String()
}
