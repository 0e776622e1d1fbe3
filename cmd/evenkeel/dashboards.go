package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/dashboard"
	"github.com/even-keel/evenkeel/slo"
)

func dashboardsCommand() command {
	return command{
		name: "dashboards", use: "--out DIR", short: "Write dashboards for Grafana and a rule file for Prometheus",
		help: `The dashboards show what the console does, over any data source that speaks like Prometheus: one that scrapes /metrics, or the
node itself. The rule file has the alerts that evenkeel ships; those of a site's objectives are printed by evenkeel slo rules.`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			dir := fs.String("out", "", "folder `DIR` to write to; it is made when it is not there")
			return func(t terminal, args []string) int {
				if len(args) > 0 || *dir == "" {
					return wrong(t, "dashboards", "say where to: --out DIR")
				}
				files, err := dashboard.Files(shippedAlerts(), burnFactors())
				if err == nil {
					err = writeFiles(t, *dir, files)
				}
				if err != nil {
					fmt.Fprintf(t.err, "evenkeel dashboards: %v\n", err)
					return notRun
				}
				return held
			}
		},
	}
}

// shippedAlerts are the alerts that evenkeel ships, as rules are made of them.
func shippedAlerts() (out []dashboard.Alert) {
	for _, r := range alert.Shipped() {
		out = append(out, dashboard.Alert{Name: r.Name, Severity: r.Severity, Summary: r.Summary, Runbook: alert.Runbook(r.Name), For: r.For, Threshold: r.Threshold})
	}
	return out
}

// burnFactors are the burn rates from which somebody is told, the least first.
func burnFactors() (out []float64) {
	for _, b := range slo.Burns(slo.Window{Calendar: "month"}) {
		out = append(out, b.Factor)
	}
	slices.Sort(out)
	return out
}

func writeFiles(t terminal, dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return err
		}
		fmt.Fprintln(t.out, path)
	}
	return nil
}
