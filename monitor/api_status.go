package monitor

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/tsdb/index"
)

// RuleGroup is a group of rules as the API shows it. Times are seconds.
type RuleGroup struct {
	Name           string    `json:"name"`
	File           string    `json:"file"`
	Rules          []Rule    `json:"rules"`
	Interval       float64   `json:"interval"`
	Limit          int       `json:"limit"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
}

// Rule is one rule. A recording rule has no State, Duration, KeepFiringFor, Annotations and Alerts.
type Rule struct {
	State          string            `json:"state,omitempty"` // inactive, pending, firing
	Name           string            `json:"name"`
	Query          string            `json:"query"`
	Duration       float64           `json:"duration,omitempty"`
	KeepFiringFor  float64           `json:"keepFiringFor,omitempty"`
	Labels         map[string]string `json:"labels"`
	Annotations    map[string]string `json:"annotations,omitempty"`
	Alerts         []Alert           `json:"alerts,omitempty"`
	Health         string            `json:"health"` // ok, err, unknown
	LastError      string            `json:"lastError,omitempty"`
	EvaluationTime float64           `json:"evaluationTime"`
	LastEvaluation time.Time         `json:"lastEvaluation"`
	Type           string            `json:"type"` // RuleAlerting or RuleRecording
}

// The types of rules.
const (
	RuleAlerting  = "alerting"
	RuleRecording = "recording"
)

// Alert is one alert that is pending or firing.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	State       string            `json:"state"`
	ActiveAt    time.Time         `json:"activeAt"`
	Value       string            `json:"value"`
}

func (a *api) groups() []RuleGroup {
	if a.m.deps.Rules == nil {
		return []RuleGroup{}
	}
	return append([]RuleGroup{}, a.m.deps.Rules.RuleGroups()...)
}

// rules are those that whoever evaluates them has.
func (a *api) rules(_ *session, r *http.Request) (answer, *apiError) {
	want := r.Form.Get("type")
	if want != "" && want != "alert" && want != "record" {
		return answer{}, badParameter("type", fmt.Errorf("not supported value %q", want))
	}
	skip := func(form url.Values, key, value string) bool {
		return len(form[key]) > 0 && !slices.Contains(form[key], value)
	}
	out := []RuleGroup{}
	for _, g := range a.groups() {
		if skip(r.Form, "rule_group[]", g.Name) || skip(r.Form, "file[]", g.File) {
			continue
		}
		kept := []Rule{}
		for _, one := range g.Rules {
			if skip(r.Form, "rule_name[]", one.Name) || want == "alert" && one.Type != RuleAlerting || want == "record" && one.Type != RuleRecording {
				continue
			}
			if r.Form.Get("exclude_alerts") == "true" {
				one.Alerts = nil
			}
			kept = append(kept, one)
		}
		if g.Rules = kept; len(kept) > 0 || len(r.Form["rule_name[]"]) == 0 {
			out = append(out, g)
		}
	}
	return answer{data: map[string]any{"groups": out}}, nil
}

// alerts are those that are pending or firing.
func (a *api) alerts(*session, *http.Request) (answer, *apiError) {
	out := []Alert{}
	for _, g := range a.groups() {
		for _, r := range g.Rules {
			out = append(out, r.Alerts...)
		}
	}
	return answer{data: map[string]any{"alerts": out}}, nil
}

// alertmanagers: this store sends alerts to none.
func (a *api) alertmanagers(*session, *http.Request) (answer, *apiError) {
	return answer{data: map[string]any{"activeAlertmanagers": []any{}, "droppedAlertmanagers": []any{}}}, nil
}

// metadata is what metrics say of themselves.
func (a *api) metadata(s *session, r *http.Request) (answer, *apiError) {
	limit := -1
	if text := r.Form.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil {
			return answer{}, &apiError{kindBadData, errors.New("limit must be a number")}
		}
	}
	type about struct {
		Type model.MetricType `json:"type"`
		Help string           `json:"help"`
		Unit string           `json:"unit"`
	}
	out := map[string][]about{}
	only := r.Form.Get("metric")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.names)) {
		if limit >= 0 && len(out) >= limit {
			break
		}
		if m := s.names[name]; only == "" || only == name {
			out[name] = []about{{m.Type, m.Help, m.Unit}}
		}
	}
	return answer{data: out}, nil
}

// targets are the endpoints that are scraped.
func (a *api) targets(s *session, _ *http.Request) (answer, *apiError) {
	type shown struct {
		Discovered map[string]string `json:"discoveredLabels"`
		Labels     map[string]string `json:"labels"`
		Pool       string            `json:"scrapePool"`
		URL        string            `json:"scrapeUrl"`
		GlobalURL  string            `json:"globalUrl"`
		LastError  string            `json:"lastError"`
		LastScrape time.Time         `json:"lastScrape"`
		Took       float64           `json:"lastScrapeDuration"`
		Health     string            `json:"health"`
		Interval   string            `json:"scrapeInterval"`
		Timeout    string            `json:"scrapeTimeout"`
	}
	out := []shown{}
	every := model.Duration(s.cfg.ScrapeEvery).String()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.states)) {
		t := s.states[key]
		t.mu.Lock()
		one := shown{
			Discovered: map[string]string{"__address__": t.instance}, Labels: map[string]string{"job": t.job, "instance": t.instance},
			Pool: t.job, URL: t.url, GlobalURL: t.url, LastError: t.failed, LastScrape: t.last, Took: t.took.Seconds(), Health: "up", Interval: every, Timeout: every,
		}
		t.mu.Unlock()
		switch {
		case one.LastScrape.IsZero():
			one.Health = "unknown"
		case one.LastError != "":
			one.Health = "down"
		}
		out = append(out, one)
	}
	return answer{data: map[string]any{"activeTargets": out, "droppedTargets": []any{}, "droppedTargetCounts": map[string]int{}}}, nil
}

// apiVersion is the version of Prometheus whose API this one is like: Grafana looks at it to know what it may ask.
const apiVersion = "3.15.0"

func (a *api) buildInfo(*session, *http.Request) (answer, *apiError) {
	return answer{data: map[string]string{
		"version": apiVersion, "revision": "evenkeel " + a.m.deps.Version, "branch": "", "buildUser": "", "buildDate": "", "goVersion": runtime.Version(),
	}}, nil
}

func (a *api) runtimeInfo(s *session, _ *http.Request) (answer, *apiError) {
	keep := options(s.cfg, s.store.temporary)
	return answer{data: map[string]any{
		"goroutineCount": runtime.NumGoroutine(), "GOMAXPROCS": runtime.GOMAXPROCS(0), "corruptionCount": len(a.m.Status().Aside),
		"storageRetention": (time.Duration(keep.RetentionDuration) * time.Millisecond).String() + " or " + strconv.FormatInt(keep.MaxBytes, 10) + "B",
		"serverTime":       a.m.deps.Now().UTC(), "reloadConfigSuccess": true,
	}}, nil
}

// config is the little that a Prometheus would be told to do the same; Grafana reads the interval from it.
func (a *api) config(s *session, _ *http.Request) (answer, *apiError) {
	every := model.Duration(s.cfg.ScrapeEvery).String()
	return answer{data: map[string]string{"yaml": "global:\n  scrape_interval: " + every + "\n  scrape_timeout: " + every + "\n"}}, nil
}

func (a *api) flags(s *session, _ *http.Request) (answer, *apiError) {
	keep := options(s.cfg, s.store.temporary)
	return answer{data: map[string]string{
		"query.timeout": s.cfg.Query.Timeout.String(), "query.max-samples": strconv.Itoa(s.cfg.Query.Samples), "query.max-concurrency": strconv.Itoa(queriesAtOnce),
		"query.lookback-delta": lookback.String(), "storage.tsdb.retention.time": model.Duration(time.Duration(keep.RetentionDuration) * time.Millisecond).String(),
		"storage.tsdb.retention.size": strconv.FormatInt(keep.MaxBytes, 10) + "B", "web.enable-remote-write-receiver": "true", "web.enable-admin-api": "false",
	}}, nil
}

// tsdb says what fills the store's memory.
func (a *api) tsdb(s *session, r *http.Request) (answer, *apiError) {
	const most = 10000
	limit := 10
	if text := r.Form.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return answer{}, &apiError{kindBadData, errors.New("limit must be a positive number")}
		}
		if n > most {
			return answer{}, &apiError{kindBadData, fmt.Errorf("limit must not exceed %d", most)}
		}
		limit = n
	}
	head := s.store.db.Head()
	st := head.Stats(model.MetricNameLabel, limit)
	type stat struct {
		Name  string `json:"name"`
		Value uint64 `json:"value"`
	}
	list := func(in []index.Stat) []stat {
		out := []stat{}
		for _, one := range in {
			out = append(out, stat{one.Name, one.Count})
		}
		return out
	}
	return answer{data: map[string]any{
		"headStats": map[string]any{
			"numSeries": st.NumSeries, "numLabelPairs": st.IndexPostingStats.NumLabelPairs, "chunkCount": 0,
			"minTime": st.MinTime, "maxTime": st.MaxTime, // of an empty store: the last and the first moment there is
		},
		"seriesCountByMetricName":     list(st.IndexPostingStats.CardinalityMetricsStats),
		"labelValueCountByLabelName":  list(st.IndexPostingStats.CardinalityLabelStats),
		"memoryInBytesByLabelName":    list(st.IndexPostingStats.LabelValueStats),
		"seriesCountByLabelValuePair": list(st.IndexPostingStats.LabelValuePairsStats),
	}}, nil
}
