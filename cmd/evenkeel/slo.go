package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/slo"
)

func sloCommand() command {
	return command{
		name: "slo", use: "[--json] [--gate]  |  slo rules -f site.yaml  |  slo export -f site.yaml  |  slo import FILE", short: "Show objectives, their error budgets and burn rates, or convert them",
		help: `Without more it asks a running node: target, what was good, what is left of the error budget, how fast it burns, and how long an
outage goes unseen. With --gate the exit code is 1 when a budget is spent as far as its policy says: changes should wait.
rules prints a rule file for Prometheus, with the same alerts over evenkeel's metrics. export prints OpenSLO v1; import reads it
("-" for standard input) and prints the objectives section of a site file.`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			file := fs.String("f", "", "site `FILE`")
			format := fs.String("format", "openslo", "`FORMAT` of export and import: openslo")
			gate := fs.Bool("gate", false, "exit code 1 when changes should wait")
			asJSON := fs.Bool("json", false, "print the JSON of /api/v1/objectives")
			return func(t terminal, args []string) int {
				switch {
				case *format != "openslo":
					return wrong(t, "slo", "there is no format %q; openslo is", *format)
				case len(args) == 0:
					return showObjectives(t, a, *asJSON, *gate)
				case len(args) == 1 && (args[0] == "rules" || args[0] == "export") && *file != "":
					return convertObjectives(t, args[0], *file)
				case len(args) == 1 && (args[0] == "rules" || args[0] == "export"):
					return wrong(t, "slo", "say of which site: %s -f site.yaml", args[0])
				case len(args) == 2 && args[0] == "import":
					return importObjectives(t, args[1])
				}
				return wrong(t, "slo", "say rules, export, import FILE, or nothing to ask a node")
			}
		},
	}
}

// showObjectives asks the node.
func showObjectives(t terminal, a asker, asJSON, gate bool) int {
	client, err := a.client()
	if err != nil {
		return failed(t, "slo", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	o, err := client.Objectives(ctx)
	if err != nil {
		return failed(t, "slo", err)
	}
	if asJSON {
		if code := printJSON(t, o); code != held {
			return code
		}
	} else if err := console.ObjectivesText(t.out, o); err != nil {
		return failed(t, "slo", err)
	}
	if gate && o.Frozen {
		return notHeld
	}
	return held
}

// convertObjectives prints the objectives of a site file for others.
func convertObjectives(t terminal, what, file string) int {
	s, err := site.Load(file)
	if err != nil {
		return printMistakes(t, err)
	}
	write := slo.ExportOpenSLO
	if what == "rules" {
		write = slo.WriteRules
	}
	if err := write(t.out, s); err != nil {
		fmt.Fprintf(t.err, "evenkeel slo: %s cannot be printed: %v\n", what, err)
		return notRun
	}
	return held
}

// importObjectives prints what others wrote as a section of a site file.
func importObjectives(t terminal, file string) int {
	in := t.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			fmt.Fprintf(t.err, "evenkeel slo: %v\n", err)
			return misused
		}
		defer f.Close()
		in = f
	}
	notes, err := slo.ImportOpenSLO(t.out, in)
	for _, n := range notes {
		fmt.Fprintf(t.err, "evenkeel slo: %s\n", n)
	}
	if err != nil {
		fmt.Fprintf(t.err, "evenkeel slo: %s was not taken: %v\n", file, err)
		return misused
	}
	return held
}
