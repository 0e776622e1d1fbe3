package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/site"
)

func queryCommand() command {
	return command{
		name: "query", use: "'QUESTION' [--json]  |  query --tables", short: "Ask a running node about events and requests, in KQL or SQL",
		help: `A question that begins with SELECT or WITH is SQL, every other KQL: a table, and operators behind | each. "-" reads it from standard input.
It can read and nothing else, within events.query.timeout and rows. render draws a chart. Exit code 1 when there are no rows.
docs/query.md has the operators, functions and tables.`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			asJSON := fs.Bool("json", false, "print the answer as the API gives it")
			tables := fs.Bool("tables", false, "show the tables and their columns")
			return func(t terminal, args []string) int {
				client, err := a.client()
				if err != nil {
					return failed(t, "query", err)
				}
				switch {
				case *tables && len(args) == 0:
					return showTables(t, client, *asJSON)
				case *tables || len(args) != 1:
					return wrong(t, "query", "say one question, in quotes: evenkeel query 'AppEvents | take 10'")
				case args[0] == "-":
					b, err := io.ReadAll(io.LimitReader(t.in, 1<<20))
					if err != nil {
						return failed(t, "query", err)
					}
					args[0] = string(b)
				}
				return askQuery(t, client, args[0], *asJSON)
			}
		},
	}
}

func askQuery(t terminal, client *console.Client, question string, asJSON bool) int {
	ctx, cancel := untilSignal()
	defer cancel()
	var got console.QueryAnswer
	var raw []byte
	err := whenOpen(ctx, func() (err error) {
		got, raw, err = client.Query(ctx, question)
		return err
	})
	switch {
	case err != nil:
		return failed(t, "query", err)
	case asJSON:
		fmt.Fprintf(t.out, "%s\n", strings.TrimSpace(string(raw)))
	default:
		if err := console.PrintQuery(t.out, got); err != nil {
			return failed(t, "query", err)
		}
	}
	if len(got.Rows) == 0 {
		return notHeld
	}
	return held
}

// whenOpen asks, and waits a little for a store that is not open yet.
func whenOpen(ctx context.Context, ask func() error) (err error) {
	poll(ctx, promPatience, func() bool {
		err = ask()
		var refused *console.RefusedError
		return !errors.As(err, &refused) || refused.Problem.Reason != "unavailable"
	})
	return err
}

func showTables(t terminal, client *console.Client, asJSON bool) int {
	ctx, cancel := untilSignal()
	defer cancel()
	list, err := client.Tables(ctx)
	if err != nil {
		return failed(t, "query", err)
	}
	if asJSON {
		return printJSON(t, list)
	}
	for _, one := range list {
		fmt.Fprintln(t.out, one.Name)
		for _, c := range one.Columns {
			fmt.Fprintf(t.out, "  %-16s %s\n", c.Name, c.Type)
		}
	}
	return held
}

func markCommand() command {
	return command{
		name: "mark", use: "TEXT [--by NAME] [KEY=VALUE...]", short: "Mark that something was done, such as a deployment",
		help: "The mark is an event of kind mark: it stands among events, and questions can look around it. Words with = in them become its properties.",
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			by := fs.String("by", os.Getenv("USER"), "`NAME` of who did it; from USER")
			return func(t terminal, args []string) int {
				if len(args) == 0 || strings.TrimSpace(args[0]) == "" {
					return wrong(t, "mark", "say what was done: evenkeel mark \"v42\"")
				}
				n := console.Note{Text: args[0], By: *by, Properties: map[string]string{}}
				for _, pair := range args[1:] {
					key, value, ok := strings.Cut(pair, "=")
					if !ok || key == "" {
						return wrong(t, "mark", "%q is no KEY=VALUE; put a text with spaces in quotes", pair)
					}
					n.Properties[key] = value
				}
				client, err := a.client()
				if err != nil {
					return failed(t, "mark", err)
				}
				ctx, cancel := untilSignal()
				defer cancel()
				if err := client.Note(ctx, n); err != nil {
					return failed(t, "mark", err)
				}
				fmt.Fprintf(t.out, "marked: %s\n", n.Text)
				return held
			}
		},
	}
}

func eventsCommand() command {
	return command{
		name: "events", use: "[--kind KIND] [--text TEXT] [--since TIME] [--json]  |  events import FILE [--name NAME]  |  events export [TABLE] [--since TIME]", short: "Show what happened, take in the results of a pipeline, or write all out",
		help: `Without more it shows the newest events. --since takes a moment (2026-01-31T00:00:00Z) or a time before now (2h).
import reads JUnit XML, or results and figures as JSON, and keeps them as AppAvailabilityResults and AppMetrics; "-" is standard input. What a load
generator found (vegeta, k6, or evenkeel's own form) is shown on the page Load runs. Exit code 1 when a test or the run failed. export writes a table (AppEvents) as JSON lines.`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			var o eventsFlags
			a.flags(fs)
			fs.StringVar(&o.kind, "kind", "", "only events of this `KIND`")
			fs.StringVar(&o.text, "text", "", "only events whose text contains `TEXT`")
			fs.StringVar(&o.since, "since", "", "only what is younger than this `TIME`")
			fs.IntVar(&o.limit, "limit", 50, "so `MANY` events, up to 1000")
			fs.StringVar(&o.format, "format", "", "`FORMAT` of the report: junit, json, load, k6 or vegeta (what it looks like)")
			fs.StringVar(&o.name, "name", "", "`NAME` of the pipeline (that of the file)")
			fs.BoolVar(&o.json, "json", false, "print JSON")
			return func(t terminal, args []string) int {
				client, err := a.client()
				if err != nil {
					return failed(t, "events", err)
				}
				switch {
				case len(args) == 0:
					return o.show(t, client)
				case args[0] == "import" && len(args) == 2:
					return o.bring(t, client, args[1])
				case args[0] == "export" && len(args) <= 2:
					return o.export(t, client, args[1:])
				}
				return wrong(t, "events", "say import FILE, export [TABLE], or nothing to see the newest")
			}
		},
	}
}

// eventsFlags is what events was told to do.
type eventsFlags struct {
	kind, text, since, format, name string
	limit                           int
	json                            bool
}

// moment is --since for the API; false: it is wrong.
func (o eventsFlags) moment(q url.Values) bool {
	if o.since == "" {
		return true
	}
	if d, err := site.ParseDuration(o.since); err == nil && d > 0 {
		q.Set("since", time.Now().Add(-d).Format(time.RFC3339Nano))
		return true
	}
	at, err := time.Parse(time.RFC3339, o.since)
	q.Set("since", at.Format(time.RFC3339))
	return err == nil
}

const wrongSince = "--since is %q; write a moment as 2026-01-31T00:00:00Z, or a time before now as 2h"

func (o eventsFlags) show(t terminal, client *console.Client) int {
	q := url.Values{"kind": {o.kind}, "text": {o.text}, "limit": {fmt.Sprint(o.limit)}}
	if !o.moment(q) {
		return wrong(t, "events", wrongSince, o.since)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	p, err := client.Events(ctx, q)
	if err != nil {
		return failed(t, "events", err)
	}
	if o.json {
		return printJSON(t, p)
	}
	if err := console.EventsText(t.out, p); err != nil {
		return failed(t, "events", err)
	}
	return held
}

// bring sends a report.
func (o eventsFlags) bring(t terminal, client *console.Client, file string) int {
	in := t.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return wrong(t, "events", "the report cannot be read: %v", err)
		}
		defer f.Close()
		in = f
		if o.name == "" {
			o.name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		}
	}
	ctx, cancel := untilSignal()
	defer cancel()
	got, err := client.Import(ctx, o.format, o.name, in)
	if err != nil {
		return failed(t, "events", err)
	}
	if o.json {
		if code := printJSON(t, got); code != held {
			return code
		}
	} else if got.Runs > 0 {
		fmt.Fprintln(t.out, map[bool]string{true: "a load run that held, or had nothing to hold", false: "a load run that did not hold"}[got.Failed == 0])
	} else {
		fmt.Fprintf(t.out, "%d tests, %d failed; %d figures, %d events", got.Checks, got.Failed, got.Metrics, got.Events)
		if got.Dropped > 0 {
			fmt.Fprintf(t.out, "; %d were dropped for want of room", got.Dropped)
		}
		fmt.Fprintln(t.out)
	}
	if got.Failed > 0 || got.Dropped > 0 {
		return notHeld
	}
	return held
}

func (o eventsFlags) export(t terminal, client *console.Client, args []string) int {
	q := url.Values{}
	if len(args) == 1 {
		q.Set("table", args[0])
	}
	if !o.moment(q) {
		return wrong(t, "events", wrongSince, o.since)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	if err := whenOpen(ctx, func() error { return client.Export(ctx, q, t.out) }); err != nil {
		return failed(t, "events", err)
	}
	return held
}
