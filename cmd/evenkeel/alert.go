package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/console"
)

func alertCommand() command {
	return command{
		name: "alert", use: "list [--json]  |  alert silence LABEL=VALUE... --for TIME  |  alert silences  |  alert expire ID...  |  alert test ALERT", short: "Show alerts, silence them, or try who is told",
		help: `list shows what is pending or fires, silences, and how receivers fare; exit code 1 while a page fires that is not silenced.
silence keeps alerts from being told: alert=many-429, pool=shop, objective=checkout-*; all that is named must fit.
silences lists those that hold, expire ends some of them (silence --end ID does too).
test sends a sample of an alert to all who would be told of it, through the same queues; it ends after a minute.`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			o := silenceFlags{}
			lengthVar(fs, &o.order.Length, "for", 0, "silence for this `TIME`, up to 2160h")
			fs.StringVar(&o.order.Comment, "comment", "", "`TEXT`: why")
			fs.StringVar(&o.order.By, "by", os.Getenv("USER"), "`NAME` of who silences; from USER")
			fs.StringVar(&o.end, "end", "", "end the silence `ID` now")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(t terminal, args []string) int {
				if len(args) == 0 {
					return wrong(t, "alert", "say list, silence, silences, expire or test")
				}
				client, err := a.client()
				if err != nil {
					return failed(t, "alert", err)
				}
				switch word, rest := args[0], args[1:]; {
				case word == "list" && len(rest) == 0:
					return listAlerts(t, client, *asJSON)
				case word == "silence":
					return o.run(t, client, rest, *asJSON)
				case word == "silences" && len(rest) == 0:
					return listSilences(t, client, *asJSON)
				case word == "expire" && len(rest) > 0:
					return expireSilences(t, client, rest)
				case word == "test" && len(rest) == 1:
					return testAlert(t, client, rest[0])
				}
				return wrong(t, "alert", "say list, silence LABEL=VALUE --for TIME, silences, expire ID, or test NAME")
			}
		},
	}
}

func listAlerts(t terminal, client *console.Client, asJSON bool) int {
	ctx, cancel := untilSignal()
	defer cancel()
	v, err := client.Alerts(ctx)
	if err != nil {
		return failed(t, "alert", err)
	}
	if asJSON {
		if code := printJSON(t, v); code != held {
			return code
		}
	} else if err := console.AlertsText(t.out, v); err != nil {
		return failed(t, "alert", err)
	}
	for _, one := range v.Alerts {
		if one.State == "firing" && one.Severity == "page" && len(one.Silences) == 0 {
			return notHeld
		}
	}
	return held
}

// silenceFlags is what silence was told to do.
type silenceFlags struct {
	order console.SilenceOrder
	end   string
}

func (o silenceFlags) run(t terminal, client *console.Client, conditions []string, asJSON bool) int {
	ctx, cancel := untilSignal()
	defer cancel()
	if o.end != "" {
		if len(conditions) > 0 || o.order.Length != 0 {
			return wrong(t, "alert", "--end takes the name of a silence and nothing else")
		}
		if err := client.EndSilence(ctx, o.end); err != nil {
			return failed(t, "alert", err)
		}
		fmt.Fprintf(t.out, "silence %s was ended\n", o.end)
		return held
	}
	var err error
	if o.order.Matchers, err = console.ParseMatchers(conditions); err != nil {
		return wrong(t, "alert", "%v", err)
	}
	switch {
	case len(conditions) == 0:
		return wrong(t, "alert", "say which alerts, such as alert=many-429 or pool=shop")
	case o.order.Length <= 0:
		return wrong(t, "alert", "say for how long with --for, such as --for 2h")
	}
	made, err := client.Silence(ctx, o.order)
	if err != nil {
		return failed(t, "alert", err)
	}
	if asJSON {
		return printJSON(t, made)
	}
	fmt.Fprintf(t.out, "silence %s holds until %s; end it with: evenkeel alert expire %s\n", made.ID, made.End.Local().Format(time.DateTime), made.ID)
	return held
}

// listSilences shows those that hold.
func listSilences(t terminal, client *console.Client, asJSON bool) int {
	ctx, cancel := untilSignal()
	defer cancel()
	v, err := client.Alerts(ctx)
	if err != nil {
		return failed(t, "alert", err)
	}
	v.Silences = slices.DeleteFunc(v.Silences, func(x console.Silence) bool { return !v.At.Before(x.End) })
	if asJSON {
		return printJSON(t, map[string]any{"silences": v.Silences})
	}
	if err := console.SilencesText(t.out, v.Silences); err != nil {
		return failed(t, "alert", err)
	}
	return held
}

func expireSilences(t terminal, client *console.Client, ids []string) int {
	ctx, cancel := untilSignal()
	defer cancel()
	for _, id := range ids {
		if err := client.EndSilence(ctx, id); err != nil {
			return failed(t, "alert", err)
		}
		fmt.Fprintf(t.out, "silence %s was ended\n", id)
	}
	return held
}

func testAlert(t terminal, client *console.Client, name string) int {
	ctx, cancel := untilSignal()
	defer cancel()
	if err := client.TestAlert(ctx, name); err != nil {
		return failed(t, "alert", err)
	}
	fmt.Fprintf(t.out, "a sample of %s goes out with the next look at alerts; see evenkeel alert list for how receivers fare\n", name)
	return held
}
