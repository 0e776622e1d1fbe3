package node

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/admit/limit"
	"github.com/even-keel/evenkeel/admit/quota"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/proxy"
	"github.com/even-keel/evenkeel/site"
)

// ClientDoc writes a page in Markdown for the clients of an API: which limits and quotas the site sets, what they are told,
// and how they should behave. What only holds for single keys, and what is on trial, is not told.
func ClientDoc(w io.Writer, s *site.Site) error {
	d := &clientDoc{Writer: bufio.NewWriter(w), site: s}
	d.say("# Limits and quotas of %s\n", s.Name)
	d.say("This page says how much clients may ask for, what they are told of it, and what to do when a request is refused.\n")
	var limits []*site.Limit
	for _, l := range s.Limits {
		if !l.DryRun {
			limits = append(limits, l)
		}
	}
	var quotas []*site.Quota
	for _, q := range s.Quotas {
		if !q.DryRun {
			quotas = append(quotas, q)
		}
	}
	if len(limits)+len(quotas) == 0 {
		d.say("There are no limits on how fast requests may come, and no quotas.\n")
	}
	if len(limits) > 0 {
		d.say("## How fast requests may come\n")
		for _, l := range limits {
			d.limit(l)
		}
	}
	if len(quotas) > 0 {
		d.say("## How much may be asked for in a period\n")
		for _, q := range quotas {
			d.quota(q)
		}
	}
	if len(limits)+len(quotas) > 0 {
		d.fields(limits, quotas)
		d.refused(limits, quotas)
	}
	d.behave()
	return d.Flush()
}

type clientDoc struct {
	*bufio.Writer
	site *site.Site
}

// say writes one paragraph. Errors wait for Flush.
func (d *clientDoc) say(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *clientDoc) limit(l *site.Limit) {
	d.say("### %s\n", l.Name)
	per := each(l.By)
	_, _, refusal, burst := limit.Told(l)
	if l.Rate > 0 {
		d.say("%s %s on average, and %s at once after a pause.", per, rateText(float64(l.Rate), l.Cost), decimal(burst))
	}
	if l.Concurrency > 0 {
		d.say("%s %s under way at once.", per, counted(l.Concurrency, "request"))
	}
	switch l.Cost {
	case site.CostRequest:
		if l.Rate > 0 {
			d.prices(l)
		}
	case site.CostBytes:
		d.say("A request costs one for every %s of its body and of its answer.", sizeText(int64(l.UnitBytes)))
	case site.CostHeader:
		d.say("What a request costs is found out while it is answered: some cost more than others.")
	case site.CostMeasured:
		d.say("A request costs one for every %s of work that it causes, charged after its answer: heavy requests use up the limit faster than light ones.", l.Unit)
	}
	if l.Adaptive {
		d.say("When the service is busy, less important requests get less than this.")
	}
	d.scope(l.Routes, l.Classes)
	d.say("A request beyond it is answered with %d.\n", refusal.Status)
}

func (d *clientDoc) quota(q *site.Quota) {
	d.say("### %s\n", q.Name)
	when := map[string]string{"hour": "in every hour of the clock", "day": "on every day", "week": "in every week from Monday", "month": "in every month", "year": "in every year"}[q.Period]
	from := " (UTC)"
	switch {
	case q.Period == site.PeriodLifetime:
		when, from = "in all", ""
	case q.Sliding:
		when, from = "within any "+q.Period+" back from now", ""
	case when == "":
		when = "in every period of " + q.Period
	}
	if q.First != "" {
		from = fmt.Sprintf(", counted from %s", q.First)
	}
	per := each(q.By)
	if q.Calls > 0 {
		d.say("%s %s %s%s.", per, counted(q.Calls, "request"), when, from)
	}
	if q.Bytes > 0 {
		d.say("%s %s, requests and answers together, %s%s. Bytes are counted when an answer has ended; the request that passes the quota is still answered, the next is not.", per, sizeText(int64(q.Bytes)), when, from)
	}
	d.scope(q.Routes, q.Classes)
	_, _, refusal, _ := quota.Told(q)
	d.say("Requests that are refused are not counted. A request beyond the quota is answered with %d.\n", refusal.Status)
}

// scope says which requests are meant.
func (d *clientDoc) scope(names, classes []string) {
	var what []string
	for i, r := range d.site.Routes {
		if slices.Contains(names, routeName(i, r)) {
			what = append(what, requestsOf(r))
		}
	}
	if len(what) > 0 {
		d.say("It holds for %s.", strings.Join(what, "; "))
	}
	if len(classes) > 0 {
		d.say("It holds for requests of class %s.", strings.Join(classes, ", "))
	}
}

// requestsOf says which requests a route takes. Values of headers may be secrets, and are not told.
func requestsOf(r *site.Route) string {
	paths := r.Paths
	if len(paths) == 0 {
		paths = []string{"/*"}
	}
	text := "`" + strings.Join(paths, "`, `") + "`"
	if len(r.Methods) > 0 {
		text = strings.Join(r.Methods, " and ") + " " + text
	}
	if len(r.Hosts) > 0 {
		text += " of " + strings.Join(r.Hosts, " and ")
	}
	if len(r.Headers) > 0 {
		text += " with certain values of " + strings.Join(slices.Sorted(maps.Keys(r.Headers)), " and ")
	}
	return text
}

// prices says what requests cost in a limit that counts them, where that is not one.
func (d *clientDoc) prices(l *site.Limit) {
	for i, r := range d.site.Routes {
		switch {
		case r.Pool == "" || r.Cost == 1 || len(l.Routes) > 0 && !slices.Contains(l.Routes, routeName(i, r)):
		case r.Cost == 0:
			d.say("A request for %s is not counted.", requestsOf(r))
		default:
			d.say("A request for %s counts as %d.", requestsOf(r), r.Cost)
		}
	}
}

// fields shows the fields of answers.
func (d *clientDoc) fields(limits []*site.Limit, quotas []*site.Quota) {
	d.say("## What answers tell\n")
	d.say("`RateLimit-Policy` names the limits that hold: `q` is how much may be asked for, `w` in how many seconds, `qu` in what when that is not requests.")
	d.say("`RateLimit` says what is left: `r` is how much may be asked for at once, `t` after how many seconds all of it is there again.")
	d.say("Both are lists: a client may meet several limits. It should take no number for granted, they can change at any time.\n")
	d.say("```\nHTTP/1.1 200 OK")
	d.told(examples(limits, quotas), false)
	d.say("```\n")
	for _, l := range limits {
		if l.Answer.Remaining != "" {
			d.say("`%s` carries what is left of %s, for clients of older forms.\n", l.Answer.Remaining, l.Name)
		}
	}
	for _, q := range quotas {
		if q.Answer.Remaining != "" {
			d.say("`%s` carries what is left of %s, for clients of older forms.\n", q.Answer.Remaining, q.Name)
		}
	}
}

// example is one limit or quota with made-up numbers, as answers really tell of it.
type example struct {
	policies []*exchange.Policy
	refusal  *exchange.Refusal
	left     int64         // of the first policy
	reset    time.Duration // of the first policy; 0: never
}

// examples are the first limit and the first quota.
func examples(limits []*site.Limit, quotas []*site.Quota) (out []example) {
	for _, l := range limits[:min(len(limits), 1)] {
		rate, busy, refusal, burst := limit.Told(l)
		e := example{refusal: refusal, left: max(int64(burst), 1) - 1, reset: time.Second}
		if rate == nil {
			rate, busy, e.left = busy, nil, int64(l.Concurrency)-1
		}
		if rate != nil { // headers: off
			e.policies = append(e.policies, rate)
		}
		out = append(out, e)
	}
	for _, q := range quotas[:min(len(quotas), 1)] {
		calls, data, refusal, period := quota.Told(q)
		e := example{refusal: refusal, left: int64(cmp.Or(q.Calls, int(q.Bytes))) * 3 / 4, reset: period / 3}
		if calls = cmp.Or(calls, data); q.Headers != "off" {
			e.policies = append(e.policies, calls)
		}
		out = append(out, e)
	}
	return out
}

// told are the RateLimit fields of an answer. In all answers stand those that say so, in a refusal its own.
func (d *clientDoc) told(of []example, refused bool) {
	var policy, left []string
	for _, e := range of {
		for _, p := range e.policies {
			if !p.Always && !refused {
				continue
			}
			r := e.left
			if refused {
				r = 0
			}
			member := fmt.Sprintf("%s;r=%d", p.Quoted, r)
			if e.reset > 0 && !p.Endless {
				member += fmt.Sprintf(";t=%d", max(1, int64(e.reset/time.Second)))
			}
			policy, left = append(policy, string(p.Field)), append(left, member)
		}
	}
	if len(policy) > 0 {
		d.say("RateLimit-Policy: %s\nRateLimit: %s", strings.Join(policy, ", "), strings.Join(left, ", "))
	}
}

// refused shows answers to requests that were refused.
func (d *clientDoc) refused(limits []*site.Limit, quotas []*site.Quota) {
	d.say("## When a request is refused\n")
	for _, e := range examples(limits, quotas) {
		r := e.refusal
		d.say("```\nHTTP/1.1 %d %s", r.Status, http.StatusText(r.Status))
		if e.reset > 0 {
			name := "Retry-After"
			if r.RetryName != nil {
				name = string(r.RetryName)
			}
			d.say("%s: %d", name, max(1, int64(e.reset/time.Second)))
		}
		d.told([]example{e}, true)
		if r.Body != nil {
			d.say("Content-Type: %s\n\n%s\n```\n", r.ContentType, strings.TrimSpace(string(r.Body)))
			continue
		}
		d.say("Content-Type: application/problem+json\n")
		d.Write(proxy.AppendProblem(nil, &exchange.Exchange{RequestID: []byte("9f86d081884c7d65")}, r))
		d.say("```\n")
	}
	d.say("The body is of the form of RFC 9457, and `reason` stays the same from release to release: program against that and the status, not against `detail`.")
	d.say("An answer with 503 says that the service, and not the client, has more to do than it can; it carries a `Retry-After` too.\n")
}

func (d *clientDoc) behave() {
	d.say("## How to behave\n")
	d.say("- Read `Retry-After` of a 429, 403 or 503 and wait so many seconds, and a little longer by chance: clients that all come back at the same moment are refused together once more.")
	d.say("- Without `Retry-After`, do not try again by a program: waiting does not help then.")
	d.say("- Try again at the most three times, each time after at least twice the wait, and give up then. Only repeat what may be done twice.")
	d.say("- Keep an eye on `r` of `RateLimit`, and slow down before it reaches 0: spread what is left over the `t` seconds.")
	d.say("- Reuse connections, and ask for many things in one request where the API lets you.")
}

// each begins a sentence on who gets an amount.
func each(by []string) string {
	words := map[string]string{site.ByCustomer: "customer", site.ByUser: "user", site.ByIP: "IP address", site.ByRegion: "region", site.ByRoute: "part of the API"}
	var parts []string
	for _, b := range by {
		if words[b] != "" {
			parts = append(parts, words[b])
		}
	}
	switch len(parts) {
	case 0:
		return "All clients together have"
	case 1:
		return "Each " + parts[0] + " has"
	}
	return "Each combination of " + strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1] + " has"
}

// rateText is a rate in a unit that makes it a whole number, if there is one.
func rateText(perSecond float64, cost string) string {
	noun := "request"
	if cost != site.CostRequest && cost != "" {
		noun = "unit"
	}
	for _, u := range []struct {
		name    string
		seconds float64
	}{{"second", 1}, {"minute", 60}, {"hour", 3600}} {
		if n := perSecond * u.seconds; n >= 1 && math.Abs(n-math.Round(n)) < 1e-6*n {
			return counted(int(math.Round(n)), noun) + " a " + u.name
		}
	}
	return decimal(perSecond) + " " + noun + "s a second"
}

// decimal is a number as people write it, without an exponent.
func decimal(f float64) string { return strconv.FormatFloat(math.Round(f*1e6)/1e6, 'f', -1, 64) }

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// sizeText is a number of bytes in the largest unit that makes it whole.
func sizeText(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
