package limit

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

var update = flag.Bool("update", false, "write what scenarios show into testdata")

// desk plays requests against the limits of a site, in fake time.
type desk struct {
	t          *testing.T
	set        *Set
	routes     map[string]*exchange.Route
	now        time.Time
	random     uint32
	overloaded bool
	under      map[string]*underWay
}

// underWay is a request that has not been answered yet.
type underWay struct {
	x    *exchange.Exchange
	end  chan struct{}
	over chan struct{}
}

// newDesk makes a desk of the limits that text says, the parts of a site file from identify on.
func newDesk(t *testing.T, text string) *desk {
	t.Helper()
	d := &desk{t: t, now: time.Unix(1_000_000, 0), under: map[string]*underWay{}}
	d.load(text)
	return d
}

// siteOf reads the parts of a site file that limits need, with the rest added.
func siteOf(t *testing.T, text string) *site.Site {
	t.Helper()
	s, err := site.Parse("test.yaml", []byte("listeners: {web: {listen: \":80\"}}\npools: {shop: {endpoints: [\"127.0.0.1:1\"]}}\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// load makes the limits of text those in force, as a reload does.
func (d *desk) load(text string) {
	d.t.Helper()
	s := siteOf(d.t, text)
	cfg := Config{Limits: s.Limits, IPv6: s.Identify.IPv6Prefix, Now: func() time.Time { return d.now },
		Rand: func() uint32 { return d.random }, Overloaded: func(*exchange.Exchange) bool { return d.overloaded }}
	d.routes = map[string]*exchange.Route{}
	for i, r := range s.Routes {
		cfg.Routes = append(cfg.Routes, r.Name)
		d.routes[r.Name] = &exchange.Route{Name: r.Name, Index: i, Cost: r.Cost}
	}
	set, err := New(cfg, d.set)
	if err != nil {
		d.t.Fatal(err)
	}
	set.Use()
	d.set = set
}

// request makes an exchange of words such as customer=acme.
func (d *desk) request(words []string) (x *exchange.Exchange, as string) {
	x = &exchange.Exchange{Start: d.now, Route: d.routes["all"]}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "customer":
			x.Customer = []byte(value)
		case "user":
			x.User = []byte(value)
		case "region":
			x.Region = []byte(value)
		case "ip":
			x.IP = netip.MustParseAddr(value)
		case "route":
			x.Route = d.routes[value]
		case "class":
			x.Class = map[string]exchange.Class{"low": exchange.Low, "critical": exchange.Critical}[value]
		case "as":
			as = value
		default:
			d.outcome(x, name, value)
		}
	}
	return x, as
}

// outcome sets what an answer will show.
func (d *desk) outcome(x *exchange.Exchange, name, value string) {
	number, err := strconv.ParseFloat(value, 64)
	switch name {
	case "in":
		x.Outcome.BytesIn = int64(number)
	case "out":
		x.Outcome.BytesOut = int64(number)
	case "cost":
		x.Costs[0] = exchange.NewCost(number)
	case "work":
		x.Work, err = time.ParseDuration(value)
	default:
		d.t.Fatalf("%s=%s is not known", name, value)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// serve plays one request and says what became of it. With a name, it stays under way.
func (d *desk) serve(x *exchange.Exchange, as string) string {
	u := &underWay{x: x, end: make(chan struct{}), over: make(chan struct{})}
	entered := make(chan bool, 1)
	var refusal *exchange.Refusal
	work, costs, out := x.Work, x.Costs, x.Outcome
	go func() {
		defer close(u.over)
		refusal = d.set.Stage().Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			entered <- true
			<-u.end
			x.Work, x.Costs, x.Outcome = max(work, x.Work), costs, out
			return nil
		}))
	}()
	select {
	case <-entered:
	case <-u.over:
	}
	if as == "" {
		close(u.end)
		<-u.over
	} else if refusal == nil {
		d.under[as] = u
	}
	text := "passes"
	if refusal != nil {
		text = fmt.Sprintf("%s %s %d, retry in %v", refusal.Limit, refusal.Reason, refusal.Status, x.RetryAfter)
	}
	for _, a := range x.Allowances[:x.Allowed] {
		text += fmt.Sprintf("; %s %d left, whole in %v", a.Of.Name, a.Left, a.Reset)
		if a.Violated {
			text += ", violated"
		}
	}
	return text
}

// play plays one line of a scenario: a time since the beginning, and a request or another word.
func (d *desk) play(line string) string {
	words := strings.Fields(line)
	after, err := time.ParseDuration(words[0])
	if err != nil || len(words) < 2 {
		d.t.Fatalf("%q: want a time and a word", line)
	}
	d.now = time.Unix(1_000_000, 0).Add(after)
	switch words[1] {
	case "end":
		u := d.under[words[2]]
		delete(d.under, words[2])
		for _, w := range words[3:] {
			name, value, _ := strings.Cut(w, "=")
			d.outcome(u.x, name, value)
		}
		close(u.end)
		<-u.over
		return "ended"
	case "overloaded":
		d.overloaded = words[2] == "yes"
		return "so be it"
	case "flood": // flood N customer=…: how many of N pass
		n, _ := strconv.Atoi(words[2])
		passed := 0
		for range n {
			if x, _ := d.request(words[3:]); d.serve(x, "") == "passes" || x.Allowed > 0 && !x.Allowances[x.Allowed-1].Violated {
				passed++
			}
		}
		return fmt.Sprint(passed, " pass")
	}
	x, as := d.request(words[1:])
	return d.serve(x, as)
}

// Every file in testdata is a site, a line of three dashes, and requests with what becomes of each.
func TestScenarios(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) < 5 {
		t.Fatalf("%d scenarios, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			head, script, found := strings.Cut(string(raw), "---\n")
			if !found {
				t.Fatal("no line of three dashes")
			}
			d := newDesk(t, head)
			var out strings.Builder
			out.WriteString(head + "---\n")
			for i, line := range strings.Split(strings.TrimSuffix(script, "\n"), "\n") {
				if line == "" || line[0] == '#' {
					out.WriteString(line + "\n")
					continue
				}
				do, want, _ := strings.Cut(line, " -> ")
				got := d.play(do)
				fmt.Fprintf(&out, "%s -> %s\n", strings.TrimSpace(do), got)
				if !*update && got != strings.TrimSpace(want) {
					t.Errorf("line %d of the script: %s\n got %s\nwant %s", i+1, do, got, want)
				}
			}
			for as, u := range d.under {
				t.Errorf("%s is still under way", as)
				close(u.end)
				<-u.over
			}
			if *update {
				if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
