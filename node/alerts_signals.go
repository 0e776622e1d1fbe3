package node

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/slo"
)

// What signals look at.
const (
	rateWindow   = 5 * time.Minute  // shares of requests are of this
	rateStep     = 10 * time.Second // counters are remembered no more often than this: 31 of them
	rateLeast    = 10               // fewer bad requests than this are no share of anything
	flapWindow   = 10 * time.Minute
	flapLeast    = 4 // changes of health within it
	silentProbes = 3 // probes that are missing in a row
)

// pastCounts are counters as they were up to rateWindow ago, oldest first.
type pastCounts []countsAt

type countsAt struct {
	at     time.Time
	routes map[string][3]uint64 // came, 429, 503
	limits map[string][2]uint64 // refused, all
	drops  uint64
}

// signals are all that holds now.
func (n *Node) signals(now time.Time, s *site.Site) (all []alert.Signal) {
	a := n.alerting
	n.mu.Lock()
	pools, reload := maps.Clone(n.pools), n.lastReload
	n.mu.Unlock()
	a.mu.Lock()
	rules := a.cfg.Rules
	queues := maps.Clone(a.queues)
	trouble, space := a.trouble, a.space
	all = append(all, a.ownSignals(now)...)
	a.mu.Unlock()
	all = append(all, burnSignals(n.promised.book.Status(now))...)
	all = append(all, n.rateSignals(now, rules)...)
	all = append(all, n.frontSignals(now, s, rules)...)
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		if cfg := s.Pools[name]; cfg != nil {
			v := pools[name].view()
			v.Breaker = n.viewBreaker(name, now)
			all = append(all, poolSignals(now, n.started, cfg, v, rules)...)
		}
	}
	if reload != nil && !reload.OK {
		all = append(all, alert.Signal{Name: alert.ReloadFailed, Text: "the site file was refused at " + reload.At.Format("15:04:05") + ": " + firstLine(reload.Error), Link: "/config"})
	}
	g := n.guard.Status()
	if g.Overloaded && g.Mode == site.ModeOn {
		all = append(all, alert.Signal{Name: alert.SelfOverloaded, Text: g.Why, Link: "/overload"})
	}
	all = append(all, fileSignals(g.FilesShare, rules)...)
	if s.StateDir != "" {
		all = append(all, diskSignals(space, s.StateDir, rules[alert.DiskFull].Threshold)...)
		for part, text := range map[string]string{"objectives": n.promised.book.Trouble(), "alerts": trouble, "quotas": n.quotaTrouble(), "events": n.records.Trouble(),
			"metrics": historyTrouble(n.monitor.Status())} {
			if text != "" {
				all = append(all, alert.Signal{Name: alert.StateNotKept, Labels: map[string]string{"part": part}, Text: text, Link: "/listeners"})
			}
		}
	}
	for name, q := range queues {
		if st := q.Status(); !st.Since.IsZero() {
			all = append(all, alert.Signal{Name: alert.ReceiverFails, Labels: map[string]string{"receiver": name}, Text: fmt.Sprintf("not reached since %s: %s", st.Since.Format("15:04:05"), st.Trouble), Link: "/alerts"})
		}
	}
	return append(all, alert.Signal{Name: alert.Watchdog, Text: "alerts are judged"})
}

// diskSignals are about the file system of a folder. One that cannot be asked says nothing.
func diskSignals(space func(string) (free, all uint64, err error), dir string, least float64) []alert.Signal {
	free, all, err := space(dir)
	if err != nil || all == 0 || float64(free) >= least*float64(all) {
		return nil
	}
	return []alert.Signal{{Name: alert.DiskFull, Link: "/",
		Text: fmt.Sprintf("%.1f%% of the file system of %s is left, %d of %d MB; history and events are dropped when nothing is", 100*float64(free)/float64(all), dir, free/1e6, all/1e6)}}
}

// diskSpace is how many bytes this process may still write where dir lies, and how many there are in all.
func diskSpace(dir string) (free, all uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// quotaTrouble is what is wrong with the files of quotas.
func (n *Node) quotaTrouble() string {
	for _, q := range n.quotaStatus() {
		if q.Trouble != "" {
			return q.Trouble
		}
	}
	return ""
}

// historyTrouble is why figures are not kept although the site says so. That the store is just being opened is none.
func historyTrouble(st monitor.Status) string {
	if st.State == monitor.StateFailed || st.State == monitor.StateRunning && st.Why != "" {
		return "figures are not kept: " + st.Why
	}
	return ""
}

// fileSignals are about file descriptors: a connection needs one, and what it asks of an endpoint another.
func fileSignals(share float64, rules map[string]alert.Rule) []alert.Signal {
	if r, on := rules[alert.NearCap]; !on || share < r.Threshold {
		return nil
	}
	return []alert.Signal{{Name: alert.NearCap, Labels: map[string]string{"of": "files"}, Link: "/overload",
		Text: fmt.Sprintf("%.0f%% of the file descriptors that are there for connections are in use (ulimit -n)", 100*share)}}
}

// burnSignals are about error budgets.
func burnSignals(all []slo.Status) (out []alert.Signal) {
	for _, st := range all {
		labels := func(window string) map[string]string {
			l := map[string]string{"objective": st.Objective.Name}
			if window != "" {
				l["window"] = window
			}
			return l
		}
		left := fmt.Sprintf("%.1f%% of the error budget of %s is left", 100*st.Left, st.Objective.Window)
		for _, b := range st.Burns {
			if !b.Due {
				continue
			}
			name := alert.BurnPage
			if b.Severity == slo.Ticket {
				name = alert.BurnTicket
			}
			out = append(out, alert.Signal{Name: name, Labels: labels(slo.Span(b.Long)), Link: "/objectives",
				Text: fmt.Sprintf("the budget burns %.4g times as fast as it may over %s, %.4g times over %s (from %.3g); %s", b.LongRate, slo.Span(b.Long), b.ShortRate, slo.Span(b.Short), b.Factor, left)})
		}
		if st.Left <= 0 && st.Window.Bad() >= st.Objective.MinFailures {
			out = append(out, alert.Signal{Name: alert.BudgetSpent, Labels: labels(""), Link: "/objectives",
				Text: fmt.Sprintf("%d of %d were bad, %.4f%% good, promised are %.4f%%", st.Window.Bad(), st.Window.Total, 100*st.Indicator, 100*st.Objective.Target)})
		}
	}
	return out
}

// countsNow reads the counters that shares are made of.
func (n *Node) countsNow(now time.Time) countsAt {
	c := countsAt{at: now, routes: map[string][3]uint64{}, limits: map[string][2]uint64{}}
	n.tallies.each(func(key tallyKey, t *tally) {
		var v sums
		t.addTo(&v)
		r := c.routes[key.route]
		c.routes[key.route] = [3]uint64{r[0] + v.Requests, r[1] + v.Told[0], r[2] + v.Told[1]}
	})
	for _, l := range n.limitStatus() {
		c.limits[l.Name] = [2]uint64{l.Refused, l.Refused + l.Admitted}
	}
	for _, q := range n.quotaStatus() {
		c.limits[q.Name] = [2]uint64{q.Refused, q.Refused + q.Admitted}
	}
	c.drops, _ = tcpExt(filepath.Join(n.guard.senses.proc, "net/netstat"), "ListenDrops")
	return c
}

// rateSignals are about shares of what came in the last minutes.
func (n *Node) rateSignals(now time.Time, rules map[string]alert.Rule) (out []alert.Signal) {
	past, c := n.alerting.past, n.countsNow(now)
	defer func() {
		if len(past) == 0 || now.Sub(past[len(past)-1].at) >= rateStep {
			past = append(past, c)
		}
		n.alerting.past = past
	}()
	if len(past) == 0 {
		past = append(past, countsAt{at: n.started, drops: c.drops}) // all counters of the node began at its start
	}
	for len(past) > 1 && now.Sub(past[1].at) >= rateWindow {
		past = past[1:]
	}
	before := past[0]
	over := now.Sub(before.at).Round(time.Second)
	for _, route := range slices.Sorted(maps.Keys(c.routes)) {
		was, is := before.routes[route], c.routes[route]
		came := less(is[0], was[0])
		for i, name := range []string{alert.Many429, alert.Many503} {
			bad := less(is[i+1], was[i+1])
			if bad < rateLeast || float64(bad) < rules[name].Threshold*float64(came) {
				continue
			}
			out = append(out, alert.Signal{Name: name, Labels: map[string]string{"route": cmp.Or(route, "(none)")}, Link: "/overload",
				Text: fmt.Sprintf("%d of %d requests of the last %s, %.1f%%", bad, came, slo.Span(over), 100*float64(bad)/float64(max(came, bad)))})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.limits)) {
		was, is := before.limits[name], c.limits[name]
		refused, all := less(is[0], was[0]), less(is[1], was[1])
		if refused >= rateLeast && float64(refused) >= rules[alert.LimitBreached].Threshold*float64(all) {
			out = append(out, alert.Signal{Name: alert.LimitBreached, Labels: map[string]string{"limit": name}, Link: "/limits",
				Text: fmt.Sprintf("%d of %d requests of the last %s refused, %.1f%%", refused, all, slo.Span(over), 100*float64(refused)/float64(max(all, refused)))})
		}
	}
	if last := past[len(past)-1]; c.drops > last.drops {
		out = append(out, alert.Signal{Name: alert.AcceptDrops, Link: "/listeners",
			Text: fmt.Sprintf("the kernel dropped %d new connections in the last %v, of any program in this network namespace", c.drops-last.drops, now.Sub(last.at).Round(time.Second))})
	}
	return out
}

// frontSignals are about listeners and their certificates.
func (n *Node) frontSignals(now time.Time, s *site.Site, rules map[string]alert.Rule) (out []alert.Signal) {
	for name, l := range n.front.views() {
		cfg := s.Listeners[name]
		if cfg == nil {
			continue
		}
		if most := cfg.Limits.Connections; most > 0 && float64(l.Open) >= rules[alert.NearCap].Threshold*float64(most) {
			out = append(out, alert.Signal{Name: alert.NearCap, Labels: map[string]string{"listener": name}, Link: "/listeners",
				Text: fmt.Sprintf("%d of %d connections are open", l.Open, most)})
		}
		for _, c := range l.Certificates {
			out = append(out, endSignals(now, name, c, rules)...)
		}
	}
	if c, ok := n.admin.certificate(); ok {
		out = append(out, endSignals(now, adminName, c, rules)...)
	}
	return out
}

// endSignals are about the end of a certificate.
func endSignals(now time.Time, listener string, c console.Certificate, rules map[string]alert.Rule) (out []alert.Signal) {
	host := strings.Join(c.Hosts[:min(len(c.Hosts), 3)], " ")
	left := c.NotAfter.Sub(now)
	text := fmt.Sprintf("it ends in %s, at %s", slo.Span(left.Round(time.Minute)), c.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
	if left <= 0 {
		text = "it has ended, at " + c.NotAfter.UTC().Format("2006-01-02 15:04 UTC")
	}
	for _, rule := range []string{alert.CertExpiry, alert.CertSoon} {
		if left <= rules[rule].Within {
			out = append(out, alert.Signal{Name: rule, Labels: map[string]string{"listener": listener, "host": host}, Text: text, Link: "/listeners"})
		}
	}
	return out
}

// poolSignals are about one pool.
func poolSignals(now, started time.Time, cfg *site.Pool, v console.Pool, rules map[string]alert.Rule) (out []alert.Signal) {
	labels, page := map[string]string{"pool": cfg.Name}, "/pools/"+url.PathEscape(cfg.Name)
	if v.HealthyShare < rules[alert.PoolCapacity].Threshold || v.Panic {
		up := 0
		for _, e := range v.Endpoints {
			if e.State == console.StateUp || e.State == console.StateSlow {
				up++
			}
		}
		out = append(out, alert.Signal{Name: alert.PoolCapacity, Labels: labels, Link: page,
			Text: fmt.Sprintf("%.0f%% of its capacity is healthy, %d of %d endpoints", 100*v.HealthyShare, up, len(v.Endpoints))})
	}
	// Who holds it open by hand knows.
	if b := v.Breaker; b != nil && b.Mode == site.ModeOn && b.State != console.BreakerClosed && !b.ByHand.After(now) {
		out = append(out, alert.Signal{Name: alert.BreakerOpen, Labels: labels, Link: page, Text: "it is " + b.Why}) // which begins with the state
	}
	var newest time.Time
	for _, e := range v.Endpoints {
		flips, before := 0, (*console.Verdict)(nil)
		for i := range e.History {
			h := &e.History[i]
			if h.At.After(newest) {
				newest = h.At
			}
			if h.Void || now.Sub(h.At) > flapWindow {
				continue
			}
			if before != nil && before.Healthy != h.Healthy {
				flips++
			}
			before = h
		}
		if most := cfg.Connections.Max; oneEach(cfg) && most > 0 && float64(e.InFlight) >= rules[alert.NearCap].Threshold*float64(most) {
			out = append(out, alert.Signal{Name: alert.NearCap, Labels: map[string]string{"pool": cfg.Name, "endpoint": e.Address}, Link: page,
				Text: fmt.Sprintf("%d of %d connections to it are in use", e.InFlight, most)})
		}
		if flips >= flapLeast {
			out = append(out, alert.Signal{Name: alert.ProbeFlapping, Labels: map[string]string{"pool": cfg.Name, "endpoint": e.Address}, Link: page,
				Text: fmt.Sprintf("its probes changed their verdict %d times in %v", flips, flapWindow)})
		}
	}
	p := cfg.Probe
	if p == nil || p.Off || len(v.Endpoints) == 0 {
		return out
	}
	if newest.IsZero() {
		newest = started
	}
	if quiet := now.Sub(newest); quiet > silentProbes*p.Every+p.Timeout {
		out = append(out, alert.Signal{Name: alert.ProberSilent, Labels: labels, Link: "/checks",
			Text: fmt.Sprintf("no probe of the pool has ended for %v, one is due every %v", quiet.Round(time.Second), p.Every)})
	}
	return out
}

// oneEach says that each request under way has a connection to its endpoint by itself.
func oneEach(p *site.Pool) bool { return p.HTTP == "h1" || p.HTTP != "h2" && p.TLS == nil }
