package main

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console"
)

func shedCommand() command {
	return command{
		name: "shed", use: "low|standard --for TIME [--pool NAME], shed low|standard --off, or shed status",
		short: "Refuse less important requests by hand for a while",
		help: "\"shed low --for 10m\" refuses all requests of class low until then, with 503 and Retry-After; \"shed standard\" those of class standard\n" +
			"too. Critical requests are never refused by hand. It ends by itself, outlives reloads, and stands in status, console and events.\n" +
			"--off brings the class back now. Under overload evenkeel refuses by class on its own: this is for what it cannot know beforehand.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			o := shedOrder{}
			lengthVar(fs, &o.length, "for", 0, "refuse for this `TIME`, up to 24h")
			fs.StringVar(&o.pool, "pool", "", "only requests of pool `NAME`; without it those of all pools")
			fs.BoolVar(&o.off, "off", false, "bring the class back now")
			asJSON := fs.Bool("json", false, "print what is refused by hand as JSON")
			return func(t terminal, args []string) int {
				if len(args) != 1 {
					return wrong(t, "shed", "name one class, low or standard, or say status")
				}
				o.class = args[0]
				if err := o.check(); err != nil {
					return wrong(t, "shed", "%v", err)
				}
				return o.run(t, &a, *asJSON)
			}
		},
	}
}

// shedOrder is what shed was told to do.
type shedOrder struct {
	class, pool string
	length      time.Duration
	off         bool
}

// check says what is wrong with the order before a node is asked.
func (o shedOrder) check() error {
	switch {
	case o.class == "status" && (o.off || o.length != 0 || o.pool != ""):
		return fmt.Errorf("status takes neither --for nor --off nor --pool")
	case o.class == "status":
		return nil
	case o.off && o.length != 0:
		return fmt.Errorf("--off and --for exclude each other")
	case !o.off && o.length == 0 && o.class != "critical":
		return fmt.Errorf("say for how long with --for, such as --for 10m, or --off to bring it back")
	}
	return console.CheckShed(o.class, o.length, o.off)
}

func (o shedOrder) run(t terminal, a *asker, asJSON bool) int {
	client, err := a.client()
	if err != nil {
		return failed(t, "shed", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	var list []console.Switched
	if o.class == "status" {
		list, err = client.Switched(ctx)
	} else {
		list, err = client.Shed(ctx, o.pool, o.class, o.length)
	}
	if err != nil {
		return failed(t, "shed", err)
	}
	if asJSON {
		return printJSON(t, map[string]any{"switched": list})
	}
	fmt.Fprint(t.out, switchedText(list, time.Now()))
	return held
}

// switchedText says what is refused by hand.
func switchedText(list []console.Switched, now time.Time) string {
	if len(list) == 0 {
		return "nothing is refused by hand\n"
	}
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintf(&b, "%s requests of pool %s are refused until %s, for %s\n", s.Class, s.Pool, s.Until.Local().Format("15:04:05"), s.Until.Sub(now).Round(time.Second))
	}
	return b.String()
}
