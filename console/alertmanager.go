package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"regexp"
	"regexp/syntax"
	"runtime"
	"slices"
	"strings"
	"time"
)

// What of Alertmanager's API v2 lies below /api/v2/, so that amtool and Grafana show alerts and make silences here as they do there. Its
// alertname is the label alert here; everything else has the same name.
const alertName = "alertname"

type amAlert struct {
	Annotations  map[string]string `json:"annotations"`
	EndsAt       time.Time         `json:"endsAt"`
	Fingerprint  string            `json:"fingerprint"`
	Receivers    []amReceiver      `json:"receivers"`
	StartsAt     time.Time         `json:"startsAt"`
	Status       amAlertStatus     `json:"status"`
	UpdatedAt    time.Time         `json:"updatedAt"`
	GeneratorURL string            `json:"generatorURL"`
	Labels       map[string]string `json:"labels"`
}

type amReceiver struct {
	Name string `json:"name"`
}

type amAlertStatus struct {
	InhibitedBy []string `json:"inhibitedBy"`
	MutedBy     []string `json:"mutedBy"`
	SilencedBy  []string `json:"silencedBy"`
	State       string   `json:"state"` // active or suppressed
}

type amSilence struct {
	ID        string      `json:"id,omitempty"`
	Status    *amState    `json:"status,omitempty"`
	UpdatedAt *time.Time  `json:"updatedAt,omitempty"`
	Comment   string      `json:"comment"`
	CreatedBy string      `json:"createdBy"`
	StartsAt  time.Time   `json:"startsAt"`
	EndsAt    time.Time   `json:"endsAt"`
	Matchers  []amMatcher `json:"matchers"`
}

type amState struct {
	State string `json:"state"` // active or expired
}

type amMatcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual *bool  `json:"isEqual,omitempty"` // nil: true
}

// alertmanagerRoutes serves that part.
func (c *console) alertmanagerRoutes(mux *http.ServeMux, serve func(method, path string, h http.HandlerFunc)) {
	serve("GET", "/api/v2/status", c.amStatus)
	serve("GET", "/api/v2/receivers", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, amReceivers(c.alertsNow())) })
	serve("GET", "/api/v2/alerts", c.amAlerts)
	serve("GET", "/api/v2/alerts/groups", c.amGroups)
	mux.HandleFunc("GET /api/v2/silences", c.amSilences)
	mux.HandleFunc("POST /api/v2/silences", c.amMakeSilence)
	mux.HandleFunc("GET /api/v2/silence/{id}", c.amSilence)
	mux.HandleFunc("DELETE /api/v2/silence/{id}", c.amEndSilence)
	for path, allowed := range map[string]string{"/api/v2/silences": "GET, POST", "/api/v2/silence/{id}": "GET, DELETE"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allowed)
			amWrong(w, http.StatusMethodNotAllowed, r.URL.Path+" answers "+allowed+" only")
		})
	}
}

// amWrong answers with an error as Alertmanager does: its clients show a text.
func amWrong(w http.ResponseWriter, status int, text string) {
	if v, is := w.(*visit); is {
		v.reason = map[int]string{http.StatusBadRequest: "bad_silence", http.StatusNotFound: "unknown_silence", http.StatusNotImplemented: "not_offered"}[status]
	}
	answer(w, status, text)
}

func (c *console) amStatus(w http.ResponseWriter, _ *http.Request) {
	n := c.now().Node
	answer(w, http.StatusOK, map[string]any{
		"cluster": map[string]any{"status": "disabled", "peers": []any{}},
		"config":  map[string]string{"original": ""},
		"uptime":  n.Started,
		"versionInfo": map[string]string{"version": "evenkeel " + n.Version, "revision": n.SiteRevision, "branch": "", "buildUser": "", "buildDate": "",
			"goVersion": runtime.Version()},
	})
}

func amReceivers(a Alerts) []amReceiver {
	list := []amReceiver{}
	for _, r := range a.Receivers {
		list = append(list, amReceiver{r.Name})
	}
	return list
}

// amList are the alerts that fire, as a question asks for them.
func (c *console) amList(r *http.Request) ([]amAlert, error) {
	want, err := parseFilters(r.URL.Query()["filter"])
	if err != nil {
		return nil, err
	}
	hidden := func(what string) bool { return r.URL.Query().Get(what) == "false" }
	a, list := c.alertsNow(), []amAlert{}
	for _, one := range a.Alerts {
		labels := maps.Clone(one.Labels)
		labels[alertName], labels["severity"] = one.Name, one.Severity
		muted := len(one.Silences) > 0 || one.Inhibited != ""
		switch {
		case one.State != "firing" || !want.fit(labels):
			continue
		case !muted && hidden("active"), len(one.Silences) > 0 && hidden("silenced"), one.Inhibited != "" && hidden("inhibited"):
			continue
		}
		x := amAlert{Annotations: map[string]string{"summary": one.Summary, "description": one.Text, "runbook_url": one.Runbook}, Labels: labels, Receivers: amReceivers(a),
			StartsAt: one.Fired, UpdatedAt: a.At, EndsAt: a.At.Add(5 * time.Minute), GeneratorURL: one.Link, Status: amAlertStatus{[]string{}, []string{}, one.Silences, "active"}}
		if muted {
			x.Status.State = "suppressed"
		}
		if one.Inhibited != "" {
			x.Status.InhibitedBy = []string{one.Inhibited}
		}
		h := fnv.New64a()
		for _, l := range slices.Sorted(maps.Keys(labels)) {
			fmt.Fprintf(h, "%q=%q,", l, labels[l])
		}
		x.Fingerprint = fmt.Sprintf("%016x", h.Sum64())
		list = append(list, x)
	}
	return list, nil
}

func (c *console) amAlerts(w http.ResponseWriter, r *http.Request) {
	list, err := c.amList(r)
	if err != nil {
		amWrong(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, http.StatusOK, list)
}

// amGroups answers with one group: receivers group for themselves here.
func (c *console) amGroups(w http.ResponseWriter, r *http.Request) {
	list, err := c.amList(r)
	if err != nil {
		amWrong(w, http.StatusBadRequest, err.Error())
		return
	}
	groups := []any{}
	if len(list) > 0 {
		groups = append(groups, map[string]any{"labels": map[string]string{}, "receiver": amReceiver{"evenkeel"}, "alerts": list})
	}
	answer(w, http.StatusOK, groups)
}

func amSilenceOf(x Silence, now time.Time) amSilence {
	s := amSilence{ID: x.ID, Status: &amState{"active"}, UpdatedAt: &x.Begin, Comment: x.Comment, CreatedBy: x.By, StartsAt: x.Begin, EndsAt: x.End}
	if !now.Before(x.End) {
		s.Status.State, s.UpdatedAt = "expired", &x.End
	}
	equal := true
	for _, label := range slices.Sorted(maps.Keys(x.Matchers)) {
		m := amMatcher{Name: label, Value: x.Matchers[label], IsEqual: &equal}
		if label == "alert" {
			m.Name = alertName
		}
		if strings.Contains(m.Value, "*") {
			m.IsRegex, m.Value = true, strings.ReplaceAll(regexp.QuoteMeta(m.Value), `\*`, ".*")
		}
		s.Matchers = append(s.Matchers, m)
	}
	return s
}

func (c *console) amSilences(w http.ResponseWriter, r *http.Request) {
	want, err := parseFilters(r.URL.Query()["filter"])
	if err != nil {
		amWrong(w, http.StatusBadRequest, err.Error())
		return
	}
	a, list := c.alertsNow(), []amSilence{}
	for _, x := range a.Silences {
		s := amSilenceOf(x, a.At)
		labels := map[string]string{}
		for _, m := range s.Matchers {
			labels[m.Name] = m.Value
		}
		if want.fit(labels) {
			list = append(list, s)
		}
	}
	answer(w, http.StatusOK, list)
}

func (c *console) amSilence(w http.ResponseWriter, r *http.Request) {
	a := c.alertsNow()
	for _, x := range a.Silences {
		if x.ID == r.PathValue("id") {
			answer(w, http.StatusOK, amSilenceOf(x, a.At))
			return
		}
	}
	amWrong(w, http.StatusNotFound, "there is no silence "+r.PathValue("id"))
}

// amMakeSilence makes a silence, or with an id changes one: that ends and another takes its place.
func (c *console) amMakeSilence(w http.ResponseWriter, r *http.Request) {
	if c.deps.Silence == nil || c.deps.EndSilence == nil {
		amWrong(w, http.StatusNotImplemented, "this node silences nothing")
		return
	}
	var s amSilence
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		amWrong(w, http.StatusBadRequest, "the silence cannot be understood: "+err.Error())
		return
	}
	now := c.deps.Now()
	o := SilenceOrder{Matchers: map[string]string{}, Length: s.EndsAt.Sub(now).Round(time.Second), By: byName(r, s.CreatedBy), Comment: s.Comment}
	err := errLater
	if !s.StartsAt.After(now.Add(startSlack)) {
		err = o.take(s.Matchers)
	}
	var made Silence
	if err == nil {
		made, err = c.deps.Silence(o)
	}
	if err != nil {
		amWrong(w, http.StatusBadRequest, sentence(err))
		return
	}
	if s.ID != "" && s.ID != made.ID {
		_ = c.deps.EndSilence(s.ID) // one that has ended by itself meanwhile is as good
	}
	answer(w, http.StatusOK, map[string]string{"silenceID": made.ID})
}

// startSlack is how far a clock of a client may go before ours.
const startSlack = time.Minute

var errLater = errors.New("a silence holds from now on; one that begins later cannot be made here")

// take makes matchers of Alertmanager ours: equality, and patterns in which only .* is no letter.
func (o *SilenceOrder) take(list []amMatcher) error {
	for _, m := range list {
		name, value := m.Name, m.Value
		if name == alertName {
			name = "alert"
		}
		if m.IsEqual != nil && !*m.IsEqual {
			return fmt.Errorf("%s: silences here say what they are about, not what they are not about; write %s=… or %s=~…", m.Name, m.Name, m.Name)
		}
		if !m.IsRegex && strings.Contains(value, "*") {
			return fmt.Errorf("%s=%q: a star stands for anything here; write %s=~…", m.Name, m.Value, m.Name)
		}
		if m.IsRegex {
			var plain bool
			if value, plain = globOf(m.Value); !plain {
				return fmt.Errorf("%s=~%q: of patterns only .* is known here; make several silences instead", m.Name, m.Value)
			}
		}
		if old, twice := o.Matchers[name]; name == "" || value == "" || twice && old != value {
			return fmt.Errorf("%s=%q: each label needs one value that is not empty", m.Name, m.Value)
		}
		o.Matchers[name] = value
	}
	return nil
}

// globOf is a pattern as * for anything, if it says no more than that.
func globOf(pattern string) (glob string, plain bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", false
	}
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	for i, p := range parts {
		switch {
		case p.Op == syntax.OpLiteral && p.Flags&syntax.FoldCase == 0 && !slices.Contains(p.Rune, '*'):
			glob += string(p.Rune)
		case p.Op == syntax.OpStar && (p.Sub[0].Op == syntax.OpAnyCharNotNL || p.Sub[0].Op == syntax.OpAnyChar):
			glob += "*"
		case p.Op == syntax.OpBeginText && i == 0, p.Op == syntax.OpEndText && i == len(parts)-1:
		default:
			return "", false
		}
	}
	return glob, true
}

// amEndSilence ends one.
func (c *console) amEndSilence(w http.ResponseWriter, r *http.Request) {
	if c.deps.EndSilence == nil {
		amWrong(w, http.StatusNotImplemented, "this node silences nothing")
		return
	}
	if err := c.deps.EndSilence(r.PathValue("id")); err != nil {
		amWrong(w, http.StatusNotFound, sentence(err))
		return
	}
	w.WriteHeader(http.StatusOK)
}

// filters are conditions that all must hold.
type filters []filter

type filter struct {
	name string
	not  bool
	is   func(string) bool
}

// maxFilter is how long a condition may be: patterns cost what they are long.
const maxFilter = 500

// parseFilters reads conditions as Alertmanager's clients write them: name="value", !=, =~, !~.
func parseFilters(list []string) (all filters, err error) {
	shape := regexp.MustCompile(`^\s*([\pL_][\pL\pN_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*$`)
	for _, text := range list {
		m := shape.FindStringSubmatch(text)
		if m == nil || len(text) > maxFilter {
			return nil, fmt.Errorf("the filter %.100q cannot be understood; write label=\"value\"", text)
		}
		value := m[3]
		if len(value) >= 2 && value[0] == '"' {
			if err := json.Unmarshal([]byte(value), &value); err != nil {
				return nil, fmt.Errorf("the value of the filter %q cannot be understood", text)
			}
		}
		f := filter{name: m[1], not: m[2][0] == '!', is: func(s string) bool { return s == value }}
		if strings.HasSuffix(m[2], "~") {
			pattern, err := regexp.Compile("^(?:" + value + ")$")
			if err != nil {
				return nil, fmt.Errorf("the pattern of the filter %q cannot be understood: %w", text, err)
			}
			f.is = pattern.MatchString
		}
		all = append(all, f)
	}
	return all, nil
}

// fit reports whether labels meet all conditions.
func (all filters) fit(labels map[string]string) bool {
	return !slices.ContainsFunc(all, func(f filter) bool { return f.is(cmp.Or(labels[f.name], "")) == f.not })
}
