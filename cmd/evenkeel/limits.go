package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/node"
	"github.com/even-keel/evenkeel/site"
)

func limitsCommand() command {
	return command{
		name: "limits", use: "explain --path /x [--header 'Name: value']...  |  limits docs -f site.yaml", short: "Say what limits and quotas a request meets, or document them",
		help: `explain asks a running node which limits and quotas such a request would meet, by which key, and what is left; nothing is
counted. Exit code 0 when the request would pass them now, 1 when not. -f takes the admin address and token of a site file.
docs prints a page in Markdown for the clients of an API, made of a site file. It names no single customer and no secret.`,
		setup: func(fs *flag.FlagSet) func(terminal, []string) int {
			var a asker
			a.flags(fs)
			var q console.Question
			file := fs.String("f", "", "site `FILE`")
			fs.StringVar(&q.Path, "path", "", "`PATH` of the request, with its query if it has one")
			fs.StringVar(&q.Method, "method", "", "`METHOD` of the request (GET)")
			fs.StringVar(&q.Host, "host", "", "`HOST` that the request names")
			fs.StringVar(&q.IP, "ip", "", "`IP` address that the request comes from (127.0.0.1)")
			fs.StringVar(&q.Listener, "listener", "", "`NAME` of the listener (the first that speaks http)")
			fs.Func("header", "`LINE` of the request's head, \"Name: value\"; may be given several times", func(s string) error { q.Headers = append(q.Headers, s); return nil })
			asJSON := fs.Bool("json", false, "print JSON")
			return func(t terminal, args []string) int {
				switch {
				case len(args) == 1 && args[0] == "explain" && q.Path != "":
					return explainLimits(t, a, *file, q, *asJSON)
				case len(args) == 1 && args[0] == "explain":
					return wrong(t, "limits", "say what is asked for: explain --path /x")
				case len(args) == 1 && args[0] == "docs" && *file != "":
					return documentLimits(t, *file)
				case len(args) == 1 && args[0] == "docs":
					return wrong(t, "limits", "say of which site: docs -f site.yaml")
				}
				return wrong(t, "limits", "say explain or docs")
			}
		},
	}
}

// documentLimits prints the page for clients.
func documentLimits(t terminal, file string) int {
	s, err := site.Load(file)
	if err != nil {
		return printMistakes(t, err)
	}
	if err := node.ClientDoc(t.out, s); err != nil {
		fmt.Fprintf(t.err, "evenkeel limits: the page cannot be printed: %v\n", err)
		return notRun
	}
	return held
}

// explainLimits asks the node.
func explainLimits(t terminal, a asker, file string, q console.Question, asJSON bool) int {
	var token string
	if file != "" {
		s, err := site.Load(file)
		if err != nil {
			return printMistakes(t, err)
		}
		if s.Admin.Listen == "off" {
			return wrong(t, "limits", "the site file has no admin listener, so its node cannot be asked")
		}
		a.admin, token = adminURL(s.Admin), string(s.Admin.Token)
	}
	client, err := a.client()
	if err == nil && token != "" && a.tokenFile == "" {
		conf, confErr := a.tls()
		client, err = console.NewClient(a.admin, token).WithTLS(conf), confErr
	}
	if err != nil {
		return failed(t, "limits", err)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	e, err := client.Explain(ctx, q)
	if err != nil {
		return failed(t, "limits", err)
	}
	if asJSON {
		if code := printJSON(t, e); code != held {
			return code
		}
	} else if err := printExplanation(t.out, q, e); err != nil {
		return failed(t, "limits", err)
	}
	if !e.Passes {
		return notHeld
	}
	return held
}

// adminURL is where the admin listener of a site is asked from the same machine.
func adminURL(a site.Admin) string {
	address := a.Listen
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("127.0.0.1", port)
		}
	}
	if a.TLS != nil {
		return "https://" + address
	}
	return address
}

// printExplanation writes what people want to know, a line for each limit and quota.
func printExplanation(out io.Writer, q console.Question, e console.Explanation) error {
	who := []string{cmp.Or(q.Method, "GET") + " " + q.Path, "listener " + e.Listener}
	for _, fact := range [][2]string{{"route", e.Route}, {"class", e.Class}, {"ip", e.IP}, {"customer", e.Customer}, {"user", e.User}, {"region", e.Region}} {
		if fact[1] != "" {
			who = append(who, fact[0]+" "+fact[1])
		}
	}
	fmt.Fprintln(out, console.Clean(strings.Join(who, ", "))) // what was decoded may steer a terminal, and paths are pasted from logs
	if e.Answer != "" {
		_, err := fmt.Fprintln(out, "It meets no limit: "+console.Clean(e.Answer)+".")
		return err
	}
	if len(e.Limits)+len(e.Quotas)+len(e.Rules) == 0 {
		_, err := fmt.Fprintln(out, "The site has no limits and no quotas.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range e.Limits {
		fmt.Fprintf(w, "limit\t%s\tby %s\t%s\t%s\n", l.Name, strings.Join(l.By, ", "), cmp.Or(console.Clean(l.Key), "-"), limitText(l))
	}
	for _, one := range e.Quotas {
		fmt.Fprintf(w, "quota\t%s\tby %s\t%s\t%s\n", one.Name, strings.Join(one.By, ", "), cmp.Or(console.Clean(one.Key), "-"), quotaText(one))
	}
	for _, r := range e.Rules {
		fmt.Fprintf(w, "rule\t%s\tby %s\t%s\t%s\n", r.Name, cmp.Or(strings.Join(r.By, ", "), "pattern"), cmp.Or(console.Clean(r.Key), "-"), ruleText(r))
	}
	return w.Flush()
}

func ruleText(r console.ExplainedRule) string {
	switch {
	case !r.Applies:
		return "does not apply: " + r.Why
	case r.Blocks > 0:
		return fmt.Sprintf("blocks such requests with %d", r.Blocks)
	}
	return verdict([]string{fmt.Sprintf("%d of %d in any %v left", r.Left, r.Count, time.Duration(r.Window*float64(time.Second)))}, r.Refuses, r.RetryAfter, r.Why)
}

func limitText(l console.ExplainedLimit) string {
	if !l.Applies {
		return "does not apply: " + l.Why
	}
	var parts []string
	if l.Rate > 0 {
		parts = append(parts, fmt.Sprintf("%.6g a second, burst %.6g: %.6g left", l.Rate, l.Burst, math.Floor(max(l.Left, 0))))
	}
	if l.Concurrency > 0 {
		parts = append(parts, fmt.Sprintf("%d at once: %d under way", l.Concurrency, l.InFlight))
	}
	return verdict(parts, l.Refuses, l.RetryAfter, l.Why)
}

func quotaText(q console.ExplainedQuota) string {
	if !q.Applies {
		return "does not apply: " + q.Why
	}
	per := "per " + q.Period
	switch {
	case q.Period == site.PeriodLifetime:
		per = "for ever"
	case q.Sliding:
		per = "in any " + q.Period
	}
	var parts []string
	if q.Calls > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d calls %s left", q.LeftCalls, q.Calls, per))
	}
	if q.Bytes > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d bytes %s left", q.LeftBytes, q.Bytes, per))
	}
	if q.Reset > 0 && !q.Sliding {
		parts = append(parts, "whole again in "+seconds(q.Reset))
	}
	return verdict(parts, q.Refuses, q.RetryAfter, q.Why)
}

// verdict joins what there is to say.
func verdict(parts []string, refuses bool, retryAfter float64, why string) string {
	switch {
	case refuses && retryAfter > 0:
		parts = append(parts, "refuses for another "+seconds(retryAfter))
	case refuses:
		parts = append(parts, "refuses")
	}
	if why != "" {
		parts = append(parts, why)
	}
	return strings.Join(parts, "; ")
}

// seconds is a time as people say it: the two largest units.
func seconds(s float64) string {
	d := time.Duration(math.Ceil(s)) * time.Second
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return d.String()
}
