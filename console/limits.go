package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Question is a request that is only thought of. Empty fields mean: GET, no Host, no headers, from 127.0.0.1, the first HTTP listener.
type Question struct {
	Listener string
	Method   string
	Path     string // with the query, if there is one
	Host     string
	IP       string   // who connects
	Headers  []string // Name: value
}

// Explanation says which limits and quotas such a request meets. Lists keep the order of the site file.
type Explanation struct {
	Listener string           `json:"listener"`
	Route    string           `json:"route"` // empty: none was reached
	Class    string           `json:"class"`
	IP       string           `json:"ip"`
	Customer string           `json:"customer,omitempty"`
	User     string           `json:"user,omitempty"`
	Region   string           `json:"region,omitempty"`
	Answer   string           `json:"answer,omitempty"` // what ends the request before limits: a refusal, redirect or fixed text
	Passes   bool             `json:"passes"`           // nothing of what is told here would refuse it now
	Limits   []ExplainedLimit `json:"limits"`
	Quotas   []ExplainedQuota `json:"quotas"`
	Rules    []ExplainedRule  `json:"rules"` // own rules that limit, and the one that blocks it
}

// ExplainedLimit is a limit as a request meets it. Times are in seconds.
type ExplainedLimit struct {
	Name        string   `json:"name"`
	By          []string `json:"by"`
	Key         string   `json:"key,omitempty"`
	Applies     bool     `json:"applies"`
	Why         string   `json:"why,omitempty"`
	DryRun      bool     `json:"dry_run,omitempty"`
	Refuses     bool     `json:"refuses"` // now
	Rate        float64  `json:"rate"`    // cost per second; 0: not limited
	Burst       float64  `json:"burst"`
	Left        float64  `json:"left"`
	Concurrency int      `json:"concurrency"` // 0: not limited
	InFlight    int      `json:"in_flight"`
	Reset       float64  `json:"reset_s"`
	RetryAfter  float64  `json:"retry_after_s"`
}

// ExplainedRule is an own rule with action limit as a request meets it, or the one that blocks it. Times are in seconds.
type ExplainedRule struct {
	Name       string   `json:"name"`
	By         []string `json:"by"`
	Key        string   `json:"key,omitempty"`
	Applies    bool     `json:"applies"`
	Why        string   `json:"why,omitempty"`
	Refuses    bool     `json:"refuses"` // now
	Count      int      `json:"count"`
	Window     float64  `json:"window_s"` // in which so many may come
	Left       int      `json:"left"`
	RetryAfter float64  `json:"retry_after_s"`
	Blocks     int      `json:"blocks,omitempty"` // the status with which the rule blocks it; 0: its action is limit
}

// ExplainedQuota is a quota as a request meets it. Times are in seconds.
type ExplainedQuota struct {
	Name       string    `json:"name"`
	By         []string  `json:"by"`
	Key        string    `json:"key,omitempty"`
	Applies    bool      `json:"applies"`
	Why        string    `json:"why,omitempty"`
	DryRun     bool      `json:"dry_run,omitempty"`
	Refuses    bool      `json:"refuses"` // now
	Period     string    `json:"period"`
	Sliding    bool      `json:"sliding,omitempty"`
	Begins     time.Time `json:"begins,omitzero"` // of the present period
	Calls      int64     `json:"calls"`           // 0: not counted
	UsedCalls  int64     `json:"used_calls"`
	LeftCalls  int64     `json:"left_calls"`
	Bytes      int64     `json:"bytes"` // 0: not counted
	UsedBytes  int64     `json:"used_bytes"`
	LeftBytes  int64     `json:"left_bytes"`
	Reset      float64   `json:"reset_s"`       // until the whole quota is back; 0: never
	RetryAfter float64   `json:"retry_after_s"` // until one passes again; 0: now, or never
}

// Bounds of a question.
const maxQuestionHeaders = 100

// explain says what a request would meet.
func (c *console) explain(w http.ResponseWriter, r *http.Request) {
	if c.deps.Explain == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node explains no limits")
		return
	}
	v := r.URL.Query()
	q := Question{Listener: v.Get("listener"), Method: v.Get("method"), Path: v.Get("path"), Host: v.Get("host"), IP: v.Get("ip"), Headers: v["header"]}
	if len(q.Headers) > maxQuestionHeaders {
		problem(w, http.StatusBadRequest, "bad_question", fmt.Sprintf("%d headers are asked about, at most %d are taken", len(q.Headers), maxQuestionHeaders))
		return
	}
	e, err := c.deps.Explain(q)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad_question", sentence(err))
		return
	}
	e.Limits, e.Quotas, e.Rules = copied(e.Limits), copied(e.Quotas), copied(e.Rules)
	answer(w, http.StatusOK, e)
}

// Explain asks which limits and quotas a request would meet.
func (c *Client) Explain(ctx context.Context, q Question) (Explanation, error) {
	var e Explanation
	v := url.Values{"path": {q.Path}, "header": q.Headers}
	for name, value := range map[string]string{"listener": q.Listener, "method": q.Method, "host": q.Host, "ip": q.IP} {
		if value != "" {
			v.Set(name, value)
		}
	}
	body, err := c.do(ctx, http.MethodGet, "/api/v1/limits/explain?"+v.Encode())
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return e, fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	return e, nil
}
