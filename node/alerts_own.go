package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/site"
)

const (
	ownSection = "alerts-of-your-own" // of docs/alerts.md, for alerts that name no page
	ownMost    = 100                  // alerts of one expression: what gives more says nothing to anybody
	ownKeep    = 5 * time.Minute      // what was found holds for so long while the expression cannot be evaluated
	ownPatient = time.Minute          // and nobody is told of that before: after a start the store opens first
)

// ownFound is what the expression of an alert gave.
type ownFound struct {
	signals []alert.Signal
	good    time.Time // when it was evaluated last
	at      time.Time // when that was tried last
	took    time.Duration
	failed  time.Time // since when it cannot be evaluated; zero: it can
	why     string
	told    bool
}

// Check is what only a node sees of a site: expressions in PromQL that cannot be understood.
func Check(s *site.Site, wrong func(path, text string)) {
	for i, o := range s.Alerts.Own {
		if err := monitor.CheckExpression(o.Expr); err != nil {
			wrong(fmt.Sprintf("alerts.own[%d].expr", i), err.Error())
		}
	}
}

// lookOwn evaluates the alerts that the site makes itself, as often as the site says. It has a goroutine of its own: what is slow here holds up no other alert.
func (n *Node) lookOwn(ctx context.Context) error {
	for {
		n.mu.Lock()
		s := n.site
		n.mu.Unlock()
		n.findOwn(ctx, s)
		wait := time.NewTimer(cmp.Or(s.Alerts.Every, judgeEvery))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
	}
}

// findOwn evaluates each once.
func (n *Node) findOwn(ctx context.Context, s *site.Site) {
	a := n.alerting
	a.mu.Lock()
	was, ask := a.own, a.ask
	a.mu.Unlock()
	if ask == nil {
		ask = n.monitor.Query
	}
	found := make(map[string]ownFound, len(s.Alerts.Own))
	for _, o := range s.Alerts.Own {
		f, began := was[o.Name], time.Now()
		list, err := ask(ctx, o.Expr, began)
		if ctx.Err() != nil {
			return
		}
		if err == nil && len(list) > ownMost {
			err = fmt.Errorf("it gives %d series, of which %d are alerts: let it give fewer, with sum by or topk", len(list), ownMost)
		}
		f.at, f.took = began, time.Since(began)
		if err == nil || len(list) > 0 {
			f.signals, f.good = signalsOf(o, list), began
		}
		switch {
		case err == nil && f.told:
			n.event("alert", "alert "+o.Name+" is looked for again")
		case err != nil && f.failed.IsZero():
			f.failed = began
		case err != nil && !f.told && began.Sub(f.failed) >= ownPatient:
			f.told = true
			n.event("alert", "alert "+o.Name+" cannot be looked for: "+err.Error())
		}
		f.why = ""
		if err != nil {
			f.why = err.Error()
		} else {
			f.failed, f.told = time.Time{}, false
		}
		found[o.Name] = f
	}
	a.mu.Lock()
	a.own = found
	a.mu.Unlock()
}

// signalsOf makes every series of an answer a signal.
func signalsOf(o *site.OwnAlert, list []monitor.Sample) (all []alert.Signal) {
	for _, x := range list {
		labels := maps.Clone(x.Labels)
		for _, l := range []string{"__name__", "alertname", "alert", "severity"} { // the alert has its own
			delete(labels, l)
		}
		all = append(all, alert.Signal{Name: o.Name, Labels: labels, Text: "the value is " + strconv.FormatFloat(x.Value, 'g', 6, 64), Link: "/graph?expr=" + url.QueryEscape(o.Expr)})
	}
	slices.SortFunc(all, func(a, b alert.Signal) int { return cmp.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)) }) // maps are printed in order
	return all[:min(len(all), ownMost)]
}

// ownSignals are those of all expressions. a.mu is held.
func (a *alerting) ownSignals(now time.Time) (all []alert.Signal) {
	for _, f := range a.own {
		if f.failed.IsZero() || now.Sub(f.good) < ownKeep {
			all = append(all, f.signals...)
		}
	}
	return all
}

// ownTrouble says which alerts cannot be looked for, in one sentence. a.mu is held.
func (a *alerting) ownTrouble() string {
	for _, name := range slices.Sorted(maps.Keys(a.own)) {
		if f := a.own[name]; f.told {
			return "alert " + name + " cannot be looked for: " + f.why
		}
	}
	return ""
}

// show says how the expression of a rule fares.
func (f ownFound) show(r *monitor.Rule, expr string) {
	r.Query, r.LastEvaluation, r.EvaluationTime, r.LastError = expr, f.at, f.took.Seconds(), f.why
	switch {
	case f.at.IsZero():
		r.Health = "unknown"
	case f.why != "":
		r.Health = "err"
	}
}
