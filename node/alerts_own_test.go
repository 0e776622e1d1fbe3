package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/site"
)

// oracle answers expressions.
type oracle struct {
	mu   sync.Mutex
	list []monitor.Sample
	err  error
}

func (o *oracle) say(err error, list ...monitor.Sample) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err, o.list = err, list
}

func (o *oracle) ask(context.Context, string, time.Time) ([]monitor.Sample, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.list, o.err
}

func waits(instance string, v float64) monitor.Sample {
	return monitor.Sample{Labels: map[string]string{"__name__": "waits", "instance": instance, "alertname": "other"}, Value: v}
}

// ownWorld is a node with an alert of its own, whose expression the oracle answers.
func ownWorld(t *testing.T) (*traffic, *oracle) {
	s := testSite("web", "a=old")
	s.Alerts.Own = []*site.OwnAlert{{Name: "disk-waits", Expr: "waits > 0.5", For: 30 * time.Second, Hold: time.Minute, Severity: "page", Summary: "Work waits for the disk"}}
	o := new(oracle)
	f := newTraffic(t, s, func(n *Node) { n.alerting.ask = o.ask })
	f.healthy()
	return f, o
}

func (f *traffic) own() (all []console.Alert) {
	for _, a := range f.viewAlerts().Alerts {
		if a.Name == "disk-waits" && a.State == alert.Firing {
			all = append(all, a)
		}
	}
	return all
}

// TestOwnAlert: each series of the expression is an alert with its labels, which waits, fires and is over as the site says.
func TestOwnAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := ownWorld(t)
		pass(time.Minute)
		synctest.Wait()
		if len(f.own()) != 0 {
			t.Fatal("it fires without a cause")
		}
		o.say(nil, waits("b", 0.75), waits("a", 0.6))
		took := f.until(t, time.Minute, false, func() bool { return len(f.own()) == 2 })
		if took < 30*time.Second || took > 55*time.Second {
			t.Errorf("fires after %v", took)
		}
		one := f.own()[0]
		if one.Severity != "page" || one.Labels["instance"] != "a" || len(one.Labels) != 1 || one.Summary != "Work waits for the disk" || one.Text != "the value is 0.6" ||
			one.Link != "/graph?expr=waits+%3E+0.5" || one.Runbook != alert.Runbook("alerts-of-your-own") {
			t.Errorf("%+v", one)
		}
		groups := f.alerting.RuleGroups()
		if r := groups[len(groups)-1].Rules; len(groups) != 2 || len(r) != 1 || r[0].Query != "waits > 0.5" || r[0].State != alert.Firing || len(r[0].Alerts) != 2 || r[0].Health != "ok" {
			t.Errorf("the API shows %+v", groups[1:])
		}
		rules := f.viewAlerts().Rules
		if r := rules[len(rules)-1]; r.Name != "disk-waits" || r.Expr != "waits > 0.5" || len(rules) != len(alert.Shipped())+1 {
			t.Errorf("the console shows %+v", r)
		}
		o.say(nil)
		if took := f.until(t, 2*time.Minute, false, func() bool { return len(f.own()) == 0 }); took < 40*time.Second {
			t.Errorf("it is over after %v, and is held for a minute", took)
		}
		// Another look that gives too much makes a hundred alerts and says so.
		var many []monitor.Sample
		for i := range 2 * ownMost {
			many = append(many, waits(fmt.Sprint(i), 1))
		}
		o.say(nil, many...)
		f.until(t, 3*time.Minute, false, func() bool {
			return len(f.own()) == ownMost && strings.Contains(f.viewAlerts().Trouble, "it gives 200 series")
		})
	})
}

// TestOwnAlertThatCannotBeLookedFor: what fired goes on for five minutes, people are told after one, and that it is looked for again.
func TestOwnAlertThatCannotBeLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := ownWorld(t)
		o.say(nil, waits("a", 0.6))
		f.until(t, time.Minute, false, func() bool { return len(f.own()) == 1 })
		o.say(errors.New("the store is not open"))
		pass(50 * time.Second)
		synctest.Wait()
		if tr := f.viewAlerts().Trouble; tr != "" || len(f.own()) != 1 {
			t.Errorf("told too soon: %q", tr)
		}
		took := f.until(t, 10*time.Minute, false, func() bool { return len(f.own()) == 0 })
		if took < 4*time.Minute || took > 7*time.Minute {
			t.Errorf("without an answer it is over after %v", took)
		}
		if tr := f.viewAlerts().Trouble; tr != "alert disk-waits cannot be looked for: the store is not open" {
			t.Errorf("trouble is %q", tr)
		}
		if r := f.alerting.RuleGroups()[1].Rules[0]; r.Health != "err" || r.LastError != "the store is not open" {
			t.Errorf("the API shows %+v", r)
		}
		o.say(nil)
		pass(15 * time.Second)
		synctest.Wait()
		if tr := f.viewAlerts().Trouble; tr != "" {
			t.Errorf("trouble is %q", tr)
		}
		for _, want := range []string{"cannot be looked for: the store", "is looked for again"} {
			if !slices.ContainsFunc(f.View().Events, func(e console.Event) bool { return strings.Contains(e.Text, want) }) {
				t.Errorf("no event says %q", want)
			}
		}
	})
}

// TestOwnAlertOverTheHistory: a node's own store is asked.
func TestOwnAlertOverTheHistory(t *testing.T) {
	s, err := site.Parse("test", []byte("listeners: {web: {listen: \"127.0.0.1:0\"}}\nadmin: {listen: \"off\"}\npools: {a: {endpoints: [\"127.0.0.1:1\"]}}\n"+
		"alerts: {every: 100ms, own: [{name: self, expr: 'up{job=\"evenkeel\"} == 1', summary: It looks at itself}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(Options{Site: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for {
		if slices.ContainsFunc(n.viewAlerts().Alerts, func(a console.Alert) bool {
			return a.Name == "self" && a.State == alert.Firing && a.Labels["job"] == "evenkeel"
		}) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it does not fire: %+v", n.viewAlerts())
		}
	}
}

// TestCheckOfExpressions: what is no PromQL is told with the place in the file.
func TestCheckOfExpressions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.yaml")
	text := `listeners: {web: {listen: ":8080"}}
pools: {shop: {endpoints: ["10.0.0.1:80"]}}
alerts:
  own:
    - {name: good, expr: "up == 0", summary: x}
    - {name: open, expr: "sum(up", summary: x}
    - name: range
      expr: up[5m]
      summary: x
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := site.Load(file, Check)
	var all *site.Mistakes
	if !errors.As(err, &all) || len(all.List) != 2 {
		t.Fatalf("%v", err)
	}
	for i, want := range []string{":6:26: alerts.own[1].expr: is no PromQL: 1:7: parse error: unclosed left parenthesis", ":8:13: alerts.own[2].expr: is a range vector, and needs"} {
		if got := all.List[i].String(); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
