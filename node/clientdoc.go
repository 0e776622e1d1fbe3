package node

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/admit/quota"
	"github.com/even-keel/evenkeel/exchange"
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
	if l.Rate > 0 {
		burst := cmp.Or(float64(l.Burst), max(1, math.Ceil(float64(l.Rate))))
		d.say("%s %s on average, and %s at once after a pause.", per, rateText(float64(l.Rate), l.Cost), decimal(burst))
	}
	if l.Concurrency > 0 {
		d.say("%s %s under way at once.", per, counted(l.Concurrency, "request"))
	}
	switch l.Cost {
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
	d.say("A request beyond it is answered with %d.\n", limitStatusOf(l))
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
	d.say("Requests that are refused are not counted. A request beyond the quota is answered with %d.\n", quota.StatusOf(q))
}

// scope says which requests are meant.
func (d *clientDoc) scope(names, classes []string) {
	var paths []string
	for i, r := range d.site.Routes {
		if !slices.Contains(names, routeName(i, r)) {
			continue
		}
		for _, p := range r.Paths {
			paths = append(paths, "`"+p+"`")
		}
		if len(r.Paths) == 0 {
			paths = append(paths, "`/*`")
		}
		for _, h := range r.Hosts {
			paths[len(paths)-1] += " of " + h
		}
	}
	if len(paths) > 0 {
		d.say("It holds for %s.", strings.Join(slices.Compact(paths), ", "))
	}
	if len(classes) > 0 {
		d.say("It holds for requests of class %s.", strings.Join(classes, ", "))
	}
}

// fields shows the fields of answers.
func (d *clientDoc) fields(limits []*site.Limit, quotas []*site.Quota) {
	d.say("## What answers tell\n")
	d.say("`RateLimit-Policy` names the limits that hold: `q` is how much may be asked for, `w` in how many seconds, `qu` in what when that is not requests.")
	d.say("`RateLimit` says what is left: `r` is how much may be asked for at once, `t` after how many seconds all of it is there again.")
	d.say("Both are lists: a client may meet several limits. It should take no number for granted, they can change at any time.\n")
	policy, left := exampleFields(limits, quotas, false)
	d.say("```\nHTTP/1.1 200 OK\nRateLimit-Policy: %s\nRateLimit: %s\n```\n", policy, left)
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

// exampleFields are values of RateLimit-Policy and RateLimit.
func exampleFields(limits []*site.Limit, quotas []*site.Quota, refused bool) (policy, left string) {
	add := func(name string, q, r int64, w time.Duration, unit string) {
		if policy != "" {
			policy, left = policy+", ", left+", "
		}
		policy += fmt.Sprintf("%q;q=%d%s", name, q, unit)
		left += fmt.Sprintf("%q;r=%d", name, r)
		if w > 0 {
			policy += fmt.Sprintf(";w=%d", int64(w/time.Second))
			left += fmt.Sprintf(";t=%d", max(1, int64(w/time.Second)/3))
		}
	}
	share := func(n int64) int64 {
		if refused {
			return 0
		}
		return n * 3 / 4
	}
	for _, l := range limits[:min(len(limits), 1)] {
		if l.Rate > 0 {
			n := int64(cmp.Or(float64(l.Burst), max(1, math.Ceil(float64(l.Rate)))))
			add(l.Name, n, share(n), time.Duration(max(1, math.Ceil(float64(n)/float64(l.Rate))))*time.Second, "")
		} else {
			add(l.Name, int64(l.Concurrency), share(int64(l.Concurrency)), 0, `;qu="concurrent-requests"`)
		}
	}
	for _, q := range quotas[:min(len(quotas), 1)] {
		w := quota.Window(q)
		if q.Calls > 0 {
			add(q.Name, int64(q.Calls), share(int64(q.Calls)), w, "")
		} else {
			add(q.Name, int64(q.Bytes), share(int64(q.Bytes)), w, `;qu="content-bytes"`)
		}
	}
	return policy, left
}

// refused shows answers to requests that were refused.
func (d *clientDoc) refused(limits []*site.Limit, quotas []*site.Quota) {
	d.say("## When a request is refused\n")
	for _, l := range limits[:min(len(limits), 1)] {
		policy, left := exampleFields([]*site.Limit{l}, nil, true)
		d.example(limitStatusOf(l), cmp.Or(l.Answer.RetryAfter, "Retry-After"), "1", policy, left, l.Answer,
			exchange.ProblemQuota, "limit", cmp.Or(l.Answer.Detail, "The limit "+l.Name+" is used up."), l.Name)
	}
	for _, q := range quotas[:min(len(quotas), 1)] {
		policy, left := exampleFields(nil, []*site.Quota{q}, true)
		wait := ""
		if w := quota.Window(q); w > 0 {
			wait = strconv.FormatInt(max(1, int64(w/time.Second)/3), 10)
		}
		d.example(quota.StatusOf(q), cmp.Or(q.Answer.RetryAfter, "Retry-After"), wait, policy, left, q.Answer,
			exchange.ProblemQuota, "quota", quota.DetailOf(q), q.Name)
	}
	d.say("The body is of the form of RFC 9457, and `reason` stays the same from release to release: program against that and the status, not against `detail`.")
	d.say("An answer with 503 says that the service, and not the client, has more to do than it can; it carries a `Retry-After` too.\n")
}

// example is one answer to a request that was refused.
func (d *clientDoc) example(status int, waitName, wait, policy, left string, a site.LimitAnswer, problem, reason, detail, name string) {
	d.say("```\nHTTP/1.1 %d %s", status, http.StatusText(status))
	if wait != "" {
		d.say("%s: %s", waitName, wait)
	}
	d.say("RateLimit-Policy: %s\nRateLimit: %s", policy, left)
	if a.Body != "" {
		d.say("Content-Type: %s\n\n%s\n```\n", a.ContentType, strings.TrimSpace(a.Body))
		return
	}
	d.say("Content-Type: application/problem+json\n")
	d.say(`{"type":%q,"title":%q,"status":%d,"reason":%q,"detail":%q,"violated-policies":[%q]}`, problem, http.StatusText(status), status, reason, detail, name)
	d.say("```\n")
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

// limitStatusOf is the status of a limit's refusals.
func limitStatusOf(l *site.Limit) int {
	if l.Answer.Status != 0 {
		return l.Answer.Status
	}
	if slices.Contains(l.By, site.ByGlobal) {
		return http.StatusServiceUnavailable
	}
	return http.StatusTooManyRequests
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

func decimal(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }

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
