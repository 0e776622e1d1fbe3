package main

import (
	"errors"
	"flag"
	"fmt"

	"github.com/even-keel/evenkeel/node"
	"github.com/even-keel/evenkeel/site"
)

// found is what `check --json` prints.
type found struct {
	OK       bool           `json:"ok"`
	Files    []string       `json:"files"`
	Mistakes []foundMistake `json:"mistakes"`
}

type foundMistake struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Field  string `json:"field,omitempty"`
	Text   string `json:"text"`
}

func checkCommand() command {
	return command{
		name: "check", use: "FILE [--print] [--json]  |  check --schema", short: "Check a site file and say everything that is wrong with it",
		help: "All mistakes are named at once, one per line, as file:line:column: field: what is wrong. Exit code 2 when there are any.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			file := fs.String("f", "", "site file, as for run")
			show := fs.Bool("print", false, "print the site as it would be in force, with every default; secrets are masked")
			schema := fs.Bool("schema", false, "print the JSON Schema of site files, for editors")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(t terminal, args []string) int {
				if *file != "" {
					args = append(args, *file)
				}
				switch {
				case *schema && len(args) == 0:
					t.out.Write(append(site.Schema(), '\n'))
					return held
				case len(args) != 1:
					return wrong(t, "check", "name one site file")
				}
				return check(t, args[0], *show, *asJSON)
			}
		},
	}
}

func check(t terminal, path string, show, asJSON bool) int {
	s, err := site.Load(path, node.Check)
	if err != nil {
		code := printMistakes(t, err)
		if asJSON {
			printJSON(t, mistakesOf(err))
		}
		return code
	}
	switch {
	case asJSON:
		return printJSON(t, found{OK: true, Files: s.Files, Mistakes: []foundMistake{}})
	case show:
		if err := site.Print(t.out, s); err != nil {
			fmt.Fprintf(t.err, "evenkeel check: the site cannot be printed: %v\n", err)
			return notRun
		}
		return held
	}
	fmt.Fprintf(t.out, "%s: ok: %s, %s, %s\n", path,
		count(len(s.Listeners), "listener"), count(len(s.Pools), "pool"), count(len(s.Routes), "route"))
	return held
}

// printMistakes says what is wrong with a site, and returns the exit code.
func printMistakes(t terminal, err error) int {
	fmt.Fprintln(t.err, err)
	var all *site.Mistakes
	if errors.As(err, &all) {
		fmt.Fprintf(t.err, "%s\n", count(len(all.List)+all.More, "mistake"))
	}
	return misused
}

func mistakesOf(err error) found {
	out := found{Mistakes: []foundMistake{}, Files: []string{}}
	var all *site.Mistakes
	if !errors.As(err, &all) {
		out.Mistakes = append(out.Mistakes, foundMistake{Text: err.Error()})
		return out
	}
	for _, m := range all.List {
		out.Mistakes = append(out.Mistakes, foundMistake{File: m.File, Line: m.Line, Column: m.Column, Field: m.Path, Text: m.Text})
	}
	return out
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
