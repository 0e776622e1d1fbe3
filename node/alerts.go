package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/alert/receiver"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/keep"
	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/site"
)

// Where alerts are kept within state_dir.
const (
	alertsDir  = "alerts"
	alertsFile = "alerts"
	alertsKind = "alerts"
)

const (
	alertRest   = 2 * time.Minute // after a start, alerts from before stay as they are for so long
	alertResave = 5 * time.Minute // what is kept is written anew after this even when nothing has changed
	sampleFor   = time.Minute     // a sample fires for so long
)

// alerting is what looks for alerts and has receivers told.
type alerting struct {
	mu      sync.Mutex
	set     *alert.Set
	cfg     alert.Config
	folder  *keep.Folder // nil: nothing outlives a restart
	stuck   bool         // what is in the file cannot be read or understood: it must not be overwritten
	owned   bool         // this process tells, and writes the file; else a predecessor that still drains does
	trouble string
	savedAt time.Time
	dirty   bool
	past    pastCounts
	queues  map[string]*receiverQueue
	space   func(dir string) (free, all uint64, err error) // bytes of a file system
	own     map[string]ownFound                            // what the expressions of own alerts gave last, by name

	ask func(ctx context.Context, expr string, at time.Time) ([]monitor.Sample, error) // nil: the monitor is asked
}

// receiverQueue is a receiver that runs.
type receiverQueue struct {
	*receiver.Queue
	cfg  *site.Receiver
	task *task
}

func newAlerting(s *site.Site) *alerting {
	a := &alerting{queues: map[string]*receiverQueue{}, owned: s.StateDir == "", space: diskSpace}
	if s.StateDir != "" {
		a.folder = keep.NewFolder(filepath.Join(s.StateDir, alertsDir))
	}
	a.cfg = alertConfig(s)
	a.set = alert.NewSet(a.cfg)
	return a
}

// alertConfig is what a site says of alerts, over what is shipped.
func alertConfig(s *site.Site) alert.Config {
	a := s.Alerts
	cfg := alert.Config{Rules: map[string]alert.Rule{}, Inhibitions: alert.ShippedInhibitions(), GroupBy: a.GroupBy, GroupWait: a.GroupWait, GroupInterval: a.GroupInterval, Repeat: a.Repeat}
	for _, r := range alert.Shipped() {
		if c := a.Rules[r.Name]; c != nil {
			if c.Off {
				continue
			}
			r.Severity, r.For = cmp.Or(c.Severity, r.Severity), cmp.Or(c.For, r.For)
			r.Threshold, r.Within = cmp.Or(float64(c.Threshold), r.Threshold), cmp.Or(c.Within, r.Within)
		}
		cfg.Rules[r.Name] = r
	}
	for _, in := range a.Inhibit {
		cfg.Inhibitions = append(cfg.Inhibitions, alert.Inhibition{Source: in.Source, Target: in.Target, Equal: in.Equal})
	}
	for _, o := range a.Own {
		cfg.Rules[o.Name] = alert.Rule{Name: o.Name, Severity: o.Severity, Summary: o.Summary, For: o.For, Hold: o.Hold, Expr: o.Expr, Runbook: cmp.Or(o.Runbook, alert.Runbook(ownSection))}
	}
	watched := false
	for _, r := range a.Receivers {
		watched = watched || slices.Contains(r.Alerts, alert.Watchdog)
		cfg.Receivers = append(cfg.Receivers, alert.Receiver{Name: r.Name, Severities: r.Severities, Alerts: r.Alerts, Resolved: r.Resolved, Raw: r.Alertmanager != nil})
	}
	if !watched { // nobody listens to it
		delete(cfg.Rules, alert.Watchdog)
	}
	return cfg
}

// useAlerts makes what s says of alerts hold. Receivers that have not changed keep what waits for them.
func (n *Node) useAlerts(s *site.Site) {
	a := n.alerting
	a.mu.Lock()
	a.cfg = alertConfig(s)
	a.set.Use(a.cfg)
	old := a.queues
	a.queues = map[string]*receiverQueue{}
	for _, r := range s.Alerts.Receivers {
		if q := old[r.Name]; q != nil && reflect.DeepEqual(q.cfg, r) {
			a.queues[r.Name] = q
			delete(old, r.Name)
			continue
		}
		q := receiver.NewQueue(r.Name, receiver.New(r), n.alertSite, func(text string) { n.event("alert", text) })
		a.queues[r.Name] = &receiverQueue{q, r, n.tasks.start("receiver "+r.Name, q.Run)}
	}
	a.mu.Unlock()
	for _, q := range old {
		q.task.stop(partStop)
	}
}

// alertSite is what notifications say of this node.
func (n *Node) alertSite() receiver.Site {
	n.mu.Lock()
	s := n.site
	n.mu.Unlock()
	link := s.Alerts.Link
	if link == "" && s.Admin.Listen != "off" {
		link = "http://" + s.Admin.Listen
		if s.Admin.TLS != nil {
			link = "https://" + s.Admin.Listen
		}
	}
	return receiver.Site{Name: s.Name, Link: strings.TrimSuffix(link, "/")}
}

// judgeAlerts looks for alerts, and has those told who are to be.
func (n *Node) judgeAlerts(now time.Time, s *site.Site) {
	a := n.alerting
	n.own(now)
	signals := n.signals(now, s)
	a.mu.Lock()
	changes := a.set.Step(now, signals)
	var told []alert.Notification
	if a.owned {
		told = a.set.Notify(now)
	}
	a.dirty = a.dirty || len(changes) > 0 || len(told) > 0
	for _, x := range told {
		if q := a.queues[x.Receiver]; q != nil {
			q.Add(x)
		}
	}
	a.mu.Unlock()
	for _, c := range changes {
		switch {
		case c.Alert.State == alert.Firing:
			n.event("alert", alertWords(c.Alert)+" fires: "+cmp.Or(c.Alert.Text, c.Alert.Summary))
		case c.Alert.State == alert.Resolved:
			n.event("alert", alertWords(c.Alert)+" is over")
		}
	}
	n.saveAlerts(now)
}

// fires is the first alert with one of some names and all of some labels that fires, whoever is told of it; empty: none does. Samples fire for no cause.
func (a *alerting) fires(names []string, labels map[string]string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.set.Alerts() {
		if one.State == alert.Firing && !one.Sample && slices.Contains(names, one.Name) && one.Has(labels) {
			return alertWords(one)
		}
	}
	return ""
}

func alertWords(a alert.Alert) string {
	var parts []string
	for _, l := range slices.Sorted(maps.Keys(a.Labels)) {
		parts = append(parts, l+" "+a.Labels[l])
	}
	if len(parts) == 0 {
		return a.Name
	}
	return a.Name + " (" + strings.Join(parts, ", ") + ")"
}

// own takes over what was kept, once no predecessor tells any more.
func (n *Node) own(now time.Time) {
	a := n.alerting
	a.mu.Lock()
	if a.owned || a.folder == nil {
		a.mu.Unlock()
		return
	}
	owned, err := a.folder.Own()
	warning := ""
	if owned {
		var body []byte
		if body, warning, err = a.folder.Read(alertsFile, alertsKind, now); err == nil && body != nil {
			kept := alert.NewSet(a.cfg)
			if err = json.Unmarshal(body, kept); err == nil {
				kept.Rest(now, alertRest)
				a.set = kept
			}
		}
	}
	// A folder that cannot be used must not keep anybody from being told.
	a.owned, a.stuck = owned || err != nil, owned && err != nil
	event := a.note(err)
	a.mu.Unlock()
	for _, text := range []string{warning, event} {
		if text != "" {
			n.event("alert", text)
		}
	}
}

// note remembers what is wrong with the file, and returns what to tell of it. a.mu is held.
func (a *alerting) note(err error) (event string) {
	was := a.trouble
	a.trouble = ""
	if err != nil {
		a.trouble = "alerts and silences cannot be kept, so that a restart may forget them: " + err.Error()
	}
	switch {
	case was == "" && a.trouble != "":
		return a.trouble
	case was != "" && a.trouble == "":
		return "alerts and silences are kept again"
	}
	return ""
}

// saveAlerts writes what has changed.
func (n *Node) saveAlerts(now time.Time) {
	a := n.alerting
	a.mu.Lock()
	if a.folder == nil || !a.owned || a.stuck || !a.dirty && now.Sub(a.savedAt) < alertResave {
		a.mu.Unlock()
		return
	}
	owned, err := a.folder.Own()
	if err == nil && owned {
		var body []byte
		if body, err = json.Marshal(a.set); err == nil {
			err = a.folder.Write(alertsFile, alertsKind, body)
		}
	}
	if err == nil {
		a.dirty, a.savedAt = false, now
	}
	event := a.note(err)
	a.mu.Unlock()
	if event != "" {
		n.event("alert", event)
	}
}

// closeAlerts writes all, and that those who were not reached were not told.
func (n *Node) closeAlerts(now time.Time) {
	a := n.alerting
	a.mu.Lock()
	for _, q := range a.queues {
		for _, x := range q.Untold() {
			a.set.Forget(x.Group)
		}
	}
	a.dirty = true
	a.mu.Unlock()
	n.saveAlerts(now)
	if a.folder != nil {
		a.folder.Close()
	}
}

// viewAlerts is what needs a person.
func (n *Node) viewAlerts() console.Alerts {
	a := n.alerting
	a.mu.Lock()
	all, silences, queues, rules := a.set.Alerts(), a.set.Silences(), maps.Clone(a.queues), rulesView(a.cfg.Rules)
	trouble := cmp.Or(a.trouble, a.ownTrouble())
	a.mu.Unlock()
	v := console.Alerts{At: time.Now(), Trouble: trouble, Rules: rules}
	for _, one := range all {
		v.Alerts = append(v.Alerts, console.Alert{Name: one.Name, Severity: one.Severity, State: one.State, Labels: one.Labels, Summary: one.Summary, Text: one.Text,
			Runbook: one.Page(), Link: one.Link, Since: one.Since, Fired: one.Fired, Ended: one.Ended, Silences: one.Silences, Inhibited: one.Inhibited, Sample: one.Sample})
	}
	for _, x := range silences {
		v.Silences = append(v.Silences, console.Silence(x))
	}
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		st := queues[name].Status()
		v.Receivers = append(v.Receivers, console.AlertReceiver{Name: name, Kind: receiverKind(queues[name].cfg), Waiting: st.Waiting, Sent: st.Sent, Failed: st.Failed, Lost: st.Lost, Trouble: st.Trouble})
	}
	return v
}

// rulesView is what is looked for, with what the site changes.
func rulesView(on map[string]alert.Rule) (list []console.AlertRule) {
	for _, r := range alert.Shipped() {
		now, looked := on[r.Name]
		if looked {
			r = now
		}
		list = append(list, console.AlertRule{Name: r.Name, Severity: r.Severity, Summary: r.Summary, Off: !looked, ForS: r.For.Seconds(), Threshold: r.Threshold,
			WithinS: r.Within.Seconds(), Runbook: alert.Runbook(r.Name)})
	}
	for _, name := range slices.Sorted(maps.Keys(on)) {
		if r := on[name]; r.Expr != "" {
			list = append(list, console.AlertRule{Name: r.Name, Severity: r.Severity, Summary: r.Summary, ForS: r.For.Seconds(), Expr: r.Expr, Runbook: r.Runbook})
		}
	}
	return list
}

func receiverKind(r *site.Receiver) string {
	switch {
	case r.Alertmanager != nil:
		return "alertmanager"
	case r.Webhook != nil:
		return "webhook"
	case r.Slack != nil:
		return "slack"
	case r.Teams != nil:
		return "teams"
	case r.PagerDuty != nil:
		return "pagerduty"
	case r.Email != nil:
		return "email"
	}
	return "exec"
}

// Silence keeps alerts from being told for a while.
func (n *Node) Silence(o console.SilenceOrder) (console.Silence, error) {
	now := time.Now()
	a := n.alerting
	a.mu.Lock()
	x, err := a.set.Silence(now, now.Add(o.Length), o.Matchers, o.By, o.Comment)
	a.dirty = true
	a.mu.Unlock()
	if err != nil {
		return console.Silence{}, err
	}
	n.event("alert", fmt.Sprintf("silence %s holds until %s%s", x.ID, x.End.Format("2006-01-02 15:04:05"), byWhom(o)))
	n.saveAlerts(now)
	return console.Silence(x), nil
}

func byWhom(o console.SilenceOrder) string {
	text := ""
	for _, l := range slices.Sorted(maps.Keys(o.Matchers)) {
		text += " " + l + "=" + o.Matchers[l]
	}
	text = " for" + text
	if o.By != "" {
		text += ", by " + o.By
	}
	if o.Comment != "" {
		text += ": " + o.Comment
	}
	return text
}

// EndSilence ends a silence.
func (n *Node) EndSilence(id string) error {
	now := time.Now()
	a := n.alerting
	a.mu.Lock()
	err := a.set.EndSilence(now, id)
	a.dirty = a.dirty || err == nil
	a.mu.Unlock()
	if err != nil {
		return err
	}
	n.event("alert", "silence "+id+" was ended")
	n.saveAlerts(now)
	return nil
}

// TestAlert sends a sample of an alert to all who would be told of it.
func (n *Node) TestAlert(name string) error {
	now := time.Now()
	a := n.alerting
	a.mu.Lock()
	defer a.mu.Unlock()
	rule, on := a.cfg.Rules[name]
	if i := slices.IndexFunc(alert.Shipped(), func(r alert.Rule) bool { return r.Name == name }); !on && i < 0 {
		return fmt.Errorf("%w: %q", console.ErrUnknownAlert, name)
	} else if !on {
		rule = alert.Shipped()[i]
	}
	if len(a.cfg.Receivers) == 0 {
		return errNobody
	}
	a.set.Try(now, now.Add(sampleFor), rule)
	return nil
}

var errNobody = errors.New("the site file names no receivers in alerts.receivers, so nobody would be told")

// endJudging is the last look at everything.
func (n *Node) endJudging(every time.Duration) {
	n.judgeOnce(time.Now(), every)
	n.promised.book.Close(time.Now())
	n.closeAlerts(time.Now())
}
