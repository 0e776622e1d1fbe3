package main

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console"
)

func switchCommand() command {
	return command{
		name: "switch", use: "NAME on|off --for TIME, switch NAME auto, or switch status",
		short: "Tell endpoints to leave a feature out for a while",
		help: "Switches stand in the site file, and routes name those that their application knows. While one is on, endpoints are told its name in\n" +
			"Evenkeel-Degrade, and routes whose fallback says on: [switched] answer by it. \"on\" and \"off\" hold for --for, whatever the pool of the\n" +
			"switch does, and end by themselves; \"auto\" ends them now.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			length := lengthFlag(fs, "for", 0, "hold for this `TIME`, up to 24h")
			asJSON := fs.Bool("json", false, "print the switches as JSON")
			return func(t terminal, args []string) int {
				if len(args) == 1 && args[0] == "status" && *length == 0 {
					return switches(t, &a, "", "", 0, *asJSON)
				}
				if len(args) != 2 {
					return wrong(t, "switch", "name a switch and say on, off or auto; or say status")
				}
				if *length == 0 && (args[1] == "on" || args[1] == "off") {
					return wrong(t, "switch", "say for how long with --for, such as --for 10m")
				}
				if err := console.CheckSwitch(args[1], *length); err != nil {
					return wrong(t, "switch", "%v", err)
				}
				return switches(t, &a, args[0], args[1], *length, *asJSON)
			}
		},
	}
}

// switches sets a switch, unless name is empty, and shows all.
func switches(t terminal, a *asker, name, set string, length time.Duration, asJSON bool) int {
	client, err := a.client()
	if err != nil {
		return failed(t, "switch", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	var list []console.FeatureSwitch
	if name == "" {
		list, err = client.FeatureSwitches(ctx)
	} else {
		list, err = client.SetSwitch(ctx, name, set, length)
	}
	if err != nil {
		return failed(t, "switch", err)
	}
	if asJSON {
		return printJSON(t, map[string]any{"switches": list})
	}
	fmt.Fprint(t.out, featureText(list, time.Now()))
	return held
}

// featureText says how the switches are.
func featureText(list []console.FeatureSwitch, now time.Time) string {
	if len(list) == 0 {
		return "the site has no switches\n"
	}
	var b strings.Builder
	for _, s := range list {
		state := "off"
		if s.On {
			state = "on"
		}
		fmt.Fprintf(&b, "%s is %s: %s", s.Name, state, s.Why)
		if s.Until != nil {
			fmt.Fprintf(&b, ", until %s, for %s", s.Until.Local().Format("15:04:05"), s.Until.Sub(now).Round(time.Second))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func cacheCommand() command {
	return command{
		name: "cache", use: "show, or cache purge --prefix URL | --route NAME | --all",
		short: "Show what the cache holds, or remove from it",
		help:  "Stored answers are named by their URL as clients ask for it, such as https://shop.example/img/logo.png; --prefix takes the beginning of one.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			prefix := fs.String("prefix", "", "remove answers under `URL`, such as https://shop.example/img/")
			route := fs.String("route", "", "remove answers of route `NAME` only")
			all := fs.Bool("all", false, "remove all answers")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(t terminal, args []string) int {
				some := *prefix != "" || *route != ""
				switch {
				case len(args) != 1 || args[0] != "show" && args[0] != "purge":
					return wrong(t, "cache", "say show or purge")
				case args[0] == "show" && (some || *all):
					return wrong(t, "cache", "show takes neither --prefix nor --route nor --all")
				case args[0] == "purge" && some == *all:
					return wrong(t, "cache", "say what to purge: --prefix URL, --route NAME, or --all")
				case *prefix != "" && !strings.HasPrefix(*prefix, "http://") && !strings.HasPrefix(*prefix, "https://"):
					return wrong(t, "cache", "the prefix %q is no URL; want the beginning of one, such as https://shop.example/img/", *prefix)
				}
				return cacheOrder(t, &a, args[0] == "purge", *route, *prefix, *asJSON)
			}
		},
	}
}

func cacheOrder(t terminal, a *asker, purge bool, route, prefix string, asJSON bool) int {
	client, err := a.client()
	if err != nil {
		return failed(t, "cache", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	if purge {
		n, err := client.Purge(ctx, route, prefix)
		if err != nil {
			return failed(t, "cache", err)
		}
		if asJSON {
			return printJSON(t, map[string]int{"purged": n})
		}
		fmt.Fprintf(t.out, "%s removed\n", count(n, "stored answer"))
		return held
	}
	load, err := client.Cache(ctx)
	if err != nil {
		return failed(t, "cache", err)
	}
	if asJSON {
		return printJSON(t, load)
	}
	fmt.Fprint(t.out, console.CacheText(load))
	return held
}
