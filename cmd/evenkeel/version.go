package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

// build is what `version --json` prints.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes
	Go       string `json:"go"`
	System   string `json:"system"`
}

// thisBuild reads what the Go tool wrote into the program.
func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "(devel)" {
		b.Version = cmp.Or(v, b.Version)
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func versionCommand() command {
	return command{name: "version", short: "Say which evenkeel this is", use: "[--json]", setup: func(fs *flag.FlagSet) func(terminal, []string) int {
		asJSON := fs.Bool("json", false, "print JSON")
		return func(t terminal, args []string) int {
			if len(args) > 0 {
				return wrong(t, "version", "it takes no arguments, got %q", args)
			}
			b := thisBuild()
			if *asJSON {
				return printJSON(t, b)
			}
			fmt.Fprintf(t.out, "evenkeel %s %s %s", b.Version, b.Go, b.System)
			if b.Commit != "" {
				fmt.Fprintf(t.out, " %.12s", b.Commit)
			}
			fmt.Fprintln(t.out)
			return held
		}
	}}
}

// printJSON prints v as the result of a command.
func printJSON(t terminal, v any) int {
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		fmt.Fprintf(t.err, "evenkeel: the result cannot be written: %v\n", err)
		return notRun
	}
	return held
}
