// Command evenkeel stands in front of a service: it balances, limits, sheds and proves it. This package parses flags and calls one thing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Exit codes of every command.
const (
	held    = 0 // it worked, or what was asked holds
	notHeld = 1 // it does not hold, or the node refused
	misused = 2 // wrong use or bad input
	notRun  = 3 // it could not run, so the result says nothing
)

// terminal is where a command talks: result to out, talk to err.
type terminal struct {
	in       *os.File
	out, err *os.File
}

// command is one sub-command.
type command struct {
	name  string
	use   string // arguments, for the help text
	short string // one line
	help  string // what else there is to know; empty: nothing
	setup func(fs *flag.FlagSet) func(t terminal, args []string) int
}

// commands in the order in which help shows them.
func commands() []command {
	return []command{
		runCommand(), demoCommand(), checkCommand(),
		statusCommand(), topCommand(), limitsCommand(), reloadCommand(), drainCommand(), stateCommand("up"), stateCommand("down"), shedCommand(), breakerCommand(),
		switchCommand(), cacheCommand(), sloCommand(), alertCommand(), accessCommand(), promqlCommand(), dashboardsCommand(),
		eventsCommand(), queryCommand(), markCommand(),
		versionCommand(),
	}
}

func main() {
	os.Exit(evenkeel(terminal{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
}

// evenkeel runs one command and returns the exit code.
func evenkeel(t terminal, args []string) int {
	if len(args) == 0 {
		overview(t.err)
		return misused
	}
	name := args[0]
	switch name {
	case "help", "-h", "--help", "-help":
		if len(args) == 1 {
			overview(t.out)
			return held
		}
		name, args = args[1], []string{args[1], "-h"}
	case "-version", "--version":
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(t, args[1:])
		}
	}
	fmt.Fprintf(t.err, "evenkeel: there is no command %q%s\nrun \"evenkeel help\" for those there are\n", name, didYouMean(name))
	return misused
}

// run parses flags, before and after other arguments, and calls the command.
func (c command) run(t terminal, args []string) int {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	act := c.setup(fs)
	var rest []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			c.usage(t.out, fs)
			return held
		} else if err != nil {
			return c.wrong(t, "%v", err)
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	return act(t, rest)
}

// length is a flag with a length of time, written as in site files: 90s, 1h30m, 2d.
type length time.Duration

func (l *length) Set(text string) error {
	d, err := site.ParseDuration(text)
	*l = length(d)
	return err
}

func (l *length) String() string { return site.FormatDuration(time.Duration(*l)) }

func lengthVar(fs *flag.FlagSet, p *time.Duration, name string, preset time.Duration, usage string) {
	*p = preset
	fs.Var((*length)(p), name, usage)
}

func lengthFlag(fs *flag.FlagSet, name string, preset time.Duration, usage string) *time.Duration {
	p := new(time.Duration)
	lengthVar(fs, p, name, preset, usage)
	return p
}

// wrong says what was wrong with the use of a command.
func (c command) wrong(t terminal, format string, args ...any) int {
	return wrong(t, c.name, format, args...)
}

func wrong(t terminal, name, format string, args ...any) int {
	fmt.Fprintf(t.err, "evenkeel %s: %s\nrun \"evenkeel help %s\" for its use\n", name, fmt.Sprintf(format, args...), name)
	return misused
}

// usage is the help text of one command.
func (c command) usage(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "%s.\n\nUse: evenkeel %s\n", c.short, strings.TrimSpace(c.name+" "+c.use))
	if c.help != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.help))
	}
	first := true
	fs.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprintln(w, "\nFlags:")
			first = false
		}
		arg, text := flag.UnquoteUsage(f)
		left := "--" + f.Name
		if len(f.Name) == 1 {
			left = left[1:]
		}
		if arg != "" {
			left += " " + arg
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0s" {
			text += " (" + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  %-22s %s\n", left, text)
	})
}

// overview is the help text of the program.
func overview(w io.Writer) {
	fmt.Fprint(w, "evenkeel keeps a service on an even keel: it stands in front of it and balances.\n\n"+
		"  evenkeel demo                                     see it work, on this machine alone\n"+
		"  evenkeel run --to http://127.0.0.1:3000           put it before a service\n"+
		"  evenkeel run -f site.yaml                         the same with a site file\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\n\"evenkeel help COMMAND\" says more. Exit codes: 0 held, 1 did not hold, 2 wrong use or bad input, 3 could not run.\n")
}

// didYouMean is the nearest command, if one is near.
func didYouMean(name string) string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	if best := site.Near(name, names); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}
