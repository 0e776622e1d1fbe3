package main

import (
	"flag"
	"fmt"

	"github.com/even-keel/evenkeel/console"
)

func accessCommand() command {
	return command{
		name: "access", use: "[--json]  |  access --end SESSION", short: "Show who is signed in to a node's console, and who changed what",
		help: "Lists who you are there, sessions of browsers, and the last actions of people and programs, also those that were refused.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			end := fs.String("end", "", "sign out the `SESSION` of this name")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(t terminal, args []string) int {
				if len(args) > 0 {
					return wrong(t, "access", "it takes no arguments, got %q", args)
				}
				client, err := a.client()
				if err != nil {
					return failed(t, "access", err)
				}
				ctx, cancel := untilSignal()
				defer cancel()
				if *end != "" {
					if err := client.EndSession(ctx, *end); err != nil {
						return failed(t, "access", err)
					}
					fmt.Fprintf(t.out, "session %s was ended\n", *end)
					return held
				}
				v, err := client.Access(ctx)
				if err != nil {
					return failed(t, "access", err)
				}
				if *asJSON {
					return printJSON(t, v)
				}
				if err := console.AccessText(t.out, v); err != nil {
					return failed(t, "access", err)
				}
				return held
			}
		},
	}
}
