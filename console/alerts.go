package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Alerts is what needs a person, and who is told of it.
type Alerts struct {
	At        time.Time       `json:"at"`
	Trouble   string          `json:"trouble,omitempty"` // why alerts and silences may not outlive a restart; empty: they do
	Alerts    []Alert         `json:"alerts"`            // what fires first, pages before tickets
	Silences  []Silence       `json:"silences"`
	Receivers []AlertReceiver `json:"receivers"`
	Rules     []AlertRule     `json:"rules"` // what is looked for, in the order of the documents
}

// AlertRule is one alert that evenkeel looks for, as the site has it.
type AlertRule struct {
	Name      string  `json:"name"`
	Severity  string  `json:"severity"`
	Summary   string  `json:"summary"`
	Off       bool    `json:"off,omitempty"`
	ForS      float64 `json:"for_s,omitempty"`
	Threshold float64 `json:"threshold,omitempty"` // share, 0 to 1
	WithinS   float64 `json:"within_s,omitempty"`
	Runbook   string  `json:"runbook"`
	Expr      string  `json:"expr,omitempty"` // PromQL of an alert that the site makes itself
}

// Alert is one thing that needs, or needed, a person.
type Alert struct {
	Name      string            `json:"name"`
	Severity  string            `json:"severity"` // page, ticket or none
	State     string            `json:"state"`    // pending, firing or resolved
	Labels    map[string]string `json:"labels"`   // what it is about
	Summary   string            `json:"summary"`
	Text      string            `json:"text"` // the same with figures
	Runbook   string            `json:"runbook"`
	Link      string            `json:"link"` // path in the console
	Since     time.Time         `json:"since"`
	Fired     time.Time         `json:"fired,omitzero"`
	Ended     time.Time         `json:"ended,omitzero"`
	Silences  []string          `json:"silences"`            // that cover it
	Inhibited string            `json:"inhibited,omitempty"` // alert that leaves it out
	Sample    bool              `json:"sample,omitempty"`
}

// Silence keeps alerts from being told for a while.
type Silence struct {
	ID       string            `json:"id"`
	Matchers map[string]string `json:"matchers"` // label: value, in which * stands for anything
	Begin    time.Time         `json:"begin"`
	End      time.Time         `json:"end"`
	By       string            `json:"by"`
	Comment  string            `json:"comment"`
}

// AlertReceiver is somebody who is told, and how that goes.
type AlertReceiver struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Waiting int    `json:"waiting"`
	Sent    uint64 `json:"sent"`
	Failed  uint64 `json:"failed"` // attempts
	Lost    uint64 `json:"lost"`   // notifications
	Trouble string `json:"trouble,omitempty"`
}

// SilenceOrder is a silence that is asked for.
type SilenceOrder struct {
	Matchers map[string]string
	Length   time.Duration
	By       string
	Comment  string
}

// ErrUnknownAlert says that there is no alert of that name.
var ErrUnknownAlert = errors.New("there is no such alert")

// settle leaves no list or map null.
func (a Alerts) settle(now time.Time) Alerts {
	if a.At.IsZero() {
		a.At = now
	}
	a.Alerts, a.Silences, a.Receivers, a.Rules = copied(a.Alerts), copied(a.Silences), copied(a.Receivers), copied(a.Rules)
	for i := range a.Alerts {
		one := &a.Alerts[i]
		one.Silences = copied(one.Silences)
		if one.Labels == nil {
			one.Labels = map[string]string{}
		}
	}
	return a
}

// alertRoutes serves alerts and silences.
func (c *console) alertRoutes(serve func(method, path string, h http.HandlerFunc)) {
	serve("GET", "/api/v1/alerts", c.alerts)
	serve("POST", "/api/v1/alerts/silence", c.silence)
	serve("POST", "/api/v1/alerts/silences/{id}/end", c.endSilence)
	serve("POST", "/api/v1/alerts/test/{name}", c.testAlert)
}

func (c *console) alerts(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, c.alertsNow())
}

// alertsNow are the alerts, silences and receivers.
func (c *console) alertsNow() Alerts {
	var a Alerts
	if c.deps.Alerts != nil {
		a = c.deps.Alerts()
	}
	return a.settle(c.deps.Now())
}

// silence takes what is asked from the query or a form: for, match (label=value, several times, or several with spaces between), by, comment.
func (c *console) silence(w http.ResponseWriter, r *http.Request) {
	made, err := c.makeSilence(r)
	switch {
	case err == nil:
		done(w, r, http.StatusOK, made)
	case errors.Is(err, errNotOffered):
		problem(w, http.StatusNotImplemented, "not_offered", "this node silences nothing")
	case strings.Contains(r.Header.Get("Accept"), "text/html"):
		c.silenceWrong(w, r, sentenceOf(sentence(err)))
	default:
		problem(w, http.StatusBadRequest, "bad_silence", sentence(err))
	}
}

var errNotOffered = errors.New("not offered")

func (c *console) makeSilence(r *http.Request) (made Silence, err error) {
	if c.deps.Silence == nil {
		return made, errNotOffered
	}
	if err := r.ParseForm(); err != nil {
		return made, fmt.Errorf("what is asked cannot be read: %w", err)
	}
	o := SilenceOrder{By: byName(r, r.Form.Get("by")), Comment: r.Form.Get("comment")}
	if o.Length, err = time.ParseDuration(r.Form.Get("for")); err != nil {
		return made, fmt.Errorf("for is %q; want a time such as 2h", r.Form.Get("for"))
	}
	conditions := r.Form["match"]
	if len(r.PostForm) > 0 { // people write all into one field
		conditions = strings.Fields(strings.Join(conditions, " "))
	}
	if o.Matchers, err = ParseMatchers(conditions); err != nil {
		return made, err
	}
	return c.deps.Silence(o)
}

// ParseMatchers reads label=value.
func ParseMatchers(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, m := range list {
		label, value, ok := strings.Cut(m, "=")
		if !ok || label == "" || value == "" {
			return nil, fmt.Errorf("%q does not say which alerts; write LABEL=VALUE, such as alert=many-429 or pool=shop", m)
		}
		out[label] = value
	}
	return out, nil
}

func (c *console) endSilence(w http.ResponseWriter, r *http.Request) {
	if c.deps.EndSilence == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node silences nothing")
		return
	}
	if err := c.deps.EndSilence(r.PathValue("id")); err != nil {
		problem(w, http.StatusNotFound, "unknown_silence", sentence(err))
		return
	}
	done(w, r, http.StatusOK, map[string]string{"ended": r.PathValue("id")})
}

func (c *console) testAlert(w http.ResponseWriter, r *http.Request) {
	if c.deps.TestAlert == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node tells nobody")
		return
	}
	err := c.deps.TestAlert(r.PathValue("name"))
	switch {
	case errors.Is(err, ErrUnknownAlert):
		problem(w, http.StatusNotFound, "unknown_alert", sentence(err))
	case err != nil:
		problem(w, http.StatusConflict, "not_tested", sentence(err))
	default:
		done(w, r, http.StatusAccepted, map[string]string{"test": r.PathValue("name")})
	}
}

// Objectives asks for the objectives.
func (c *Client) Objectives(ctx context.Context) (o Objectives, err error) {
	return o, c.get(ctx, "/api/v1/objectives", &o)
}

// Alerts asks for the alerts.
func (c *Client) Alerts(ctx context.Context) (a Alerts, err error) {
	return a, c.get(ctx, "/api/v1/alerts", &a)
}

// Silence asks for a silence.
func (c *Client) Silence(ctx context.Context, o SilenceOrder) (made Silence, err error) {
	q := url.Values{"for": {o.Length.String()}, "by": {o.By}, "comment": {o.Comment}}
	for _, label := range slices.Sorted(maps.Keys(o.Matchers)) {
		q.Add("match", label+"="+o.Matchers[label])
	}
	body, err := c.do(ctx, http.MethodPost, "/api/v1/alerts/silence?"+q.Encode())
	if err != nil {
		return made, err
	}
	return made, c.read(body, &made)
}

// EndSilence ends one.
func (c *Client) EndSilence(ctx context.Context, id string) error {
	return c.Post(ctx, "/api/v1/alerts/silences/"+url.PathEscape(id)+"/end")
}

// TestAlert sends a sample to everybody who would be told of the alert.
func (c *Client) TestAlert(ctx context.Context, name string) error {
	return c.Post(ctx, "/api/v1/alerts/test/"+url.PathEscape(name))
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	body, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	return c.read(body, into)
}

func (c *Client) read(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	return nil
}

// name is an alert with what it is about.
func (a Alert) name() string {
	if len(a.Labels) == 0 {
		return a.Name
	}
	return a.Name + " (" + matchersText(a.Labels) + ")"
}

// matchersText are labels and values, in order.
func matchersText(m map[string]string) string {
	var all []string
	for _, label := range slices.Sorted(maps.Keys(m)) {
		all = append(all, label+"="+m[label])
	}
	return strings.Join(all, " ")
}
