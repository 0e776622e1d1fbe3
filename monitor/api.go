package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

// Prefix is where Handler stands in the admin listener. Grafana is told the URL up to here.
const Prefix = "/prometheus"

// api is the part of Prometheus' HTTP API that is promised to stay: what Grafana, promtool and senders ask.
type api struct {
	m       *Monitor
	writing chan struct{}
}

// kind is a kind of error, with its word in answers and its status.
type kind struct {
	word   string
	status int
}

var (
	kindTimeout     = kind{"timeout", http.StatusServiceUnavailable}
	kindCanceled    = kind{"canceled", 499}
	kindExec        = kind{"execution", http.StatusUnprocessableEntity}
	kindBadData     = kind{"bad_data", http.StatusBadRequest}
	kindInternal    = kind{"internal", http.StatusInternalServerError}
	kindUnavailable = kind{"unavailable", http.StatusServiceUnavailable}
	kindNotFound    = kind{"not_found", http.StatusNotFound}
)

// apiError is an error as callers see it.
type apiError struct {
	kind kind
	err  error
}

// answer is what a question of the API brings.
type answer struct {
	data  any // marshalled as JSON, unless it is json.RawMessage
	notes annotations.Annotations
	expr  string // of notes: they point into it
}

// Handler answers what is below Prefix. Who may ask is the caller's business.
func (m *Monitor) Handler() http.Handler {
	a := &api{m: m, writing: make(chan struct{}, senders)}
	mux := http.NewServeMux()
	both := func(path string, f func(s *session, r *http.Request) (answer, *apiError)) {
		mux.HandleFunc("GET "+Prefix+"/api/v1/"+path, a.serve(f))
		mux.HandleFunc("POST "+Prefix+"/api/v1/"+path, a.serve(f))
	}
	get := func(path string, f func(s *session, r *http.Request) (answer, *apiError)) {
		mux.HandleFunc("GET "+Prefix+"/api/v1/"+path, a.serve(f))
	}
	both("query", a.query)
	both("query_range", a.queryRange)
	both("query_exemplars", a.exemplars)
	both("format_query", a.format)
	both("labels", a.labels)
	both("series", a.series)
	get("label/{name}/values", a.values)
	get("metadata", a.metadata)
	get("targets", a.targets)
	get("rules", a.rules)
	get("alerts", a.alerts)
	get("alertmanagers", a.alertmanagers)
	get("status/buildinfo", a.buildInfo)
	get("status/runtimeinfo", a.runtimeInfo)
	get("status/config", a.config)
	get("status/flags", a.flags)
	get("status/tsdb", a.tsdb)
	mux.HandleFunc("POST "+Prefix+"/api/v1/write", a.write)
	for _, word := range []string{"healthy", "ready"} {
		mux.HandleFunc("GET "+Prefix+"/-/"+word, a.well)
	}
	mux.HandleFunc(Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &apiError{kindNotFound, errors.New("there is nothing at " + r.URL.Path)})
	})
	return mux
}

// serve answers a question from our store, or lets the existing Prometheus answer.
func (a *api) serve(f func(s *session, r *http.Request) (answer, *apiError)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ctx, release, err := a.m.hold(r.Context())
		if err != nil {
			refuse(w, &apiError{kindUnavailable, err})
			return
		}
		defer release()
		r = r.WithContext(ctx)
		if s.outside != nil {
			path := strings.TrimPrefix(r.URL.Path, Prefix)
			r.URL.Path, r.URL.RawPath = path, strings.TrimPrefix(r.URL.RawPath, Prefix)
			s.outside.proxy.ServeHTTP(w, r)
			return
		}
		if err := r.ParseForm(); err != nil {
			refuse(w, &apiError{kindBadData, fmt.Errorf("error parsing form values: %w", err)})
			return
		}
		got, bad := f(s, r)
		if bad != nil {
			refuse(w, bad)
			return
		}
		respond(w, got)
	}
}

// well says that the API answers; promtool and load balancers ask.
func (a *api) well(w http.ResponseWriter, _ *http.Request) {
	_, _, release, err := a.m.hold(context.Background())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	release()
	fmt.Fprintln(w, "evenkeel answers.")
}

// respond writes an answer.
func respond(w http.ResponseWriter, got answer) {
	data, is := got.data.(json.RawMessage)
	if !is {
		var err error
		if data, err = marshal(got.data); err != nil {
			refuse(w, &apiError{kindInternal, err})
			return
		}
	}
	out := make([]byte, 0, len(data)+64)
	out = append(out, `{"status":"success","data":`...)
	out = append(out, data...)
	warnings, infos := got.notes.AsStrings(got.expr, 10, 10)
	for _, list := range []struct {
		word string
		list []string
	}{{"warnings", warnings}, {"infos", infos}} {
		if len(list.list) > 0 {
			b, _ := marshal(list.list)
			out = append(append(out, `,"`+list.word+`":`...), b...)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(out, '}'))
}

// refuse writes an error.
func refuse(w http.ResponseWriter, bad *apiError) {
	b, _ := marshal(struct {
		Status    string `json:"status"`
		ErrorType string `json:"errorType"`
		Error     string `json:"error"`
	}{"error", bad.kind.word, bad.err.Error()})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(bad.kind.status)
	_, _ = w.Write(b)
}

// badParameter is an error in one parameter.
func badParameter(name string, err error) *apiError {
	return &apiError{kindBadData, fmt.Errorf("invalid parameter %q: %w", name, err)}
}

// failedQuery is an error of evaluating.
func failedQuery(err error) *apiError {
	var bad *badExpression
	var canceled promql.ErrQueryCanceled
	var timeout promql.ErrQueryTimeout
	var storage promql.ErrStorage
	switch {
	case errors.As(err, &bad):
		return badParameter("query", bad.error)
	case errors.Is(err, errBusy):
		return &apiError{kindTimeout, err}
	case errors.As(err, &canceled):
		return &apiError{kindCanceled, err}
	case errors.As(err, &timeout):
		return &apiError{kindTimeout, err}
	case errors.As(err, &storage):
		return &apiError{kindInternal, err}
	}
	return &apiError{kindExec, err}
}

// timeOf reads a moment: seconds since 1970, or RFC 3339.
func timeOf(text string) (time.Time, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		s, ns := math.Modf(f)
		ns = math.Round(ns*1000) / 1000
		return time.Unix(int64(s), int64(ns*float64(time.Second))).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, edge := range []time.Time{minTime, maxTime} { // years that time.Parse does not know
		if text == edge.Format(time.RFC3339Nano) {
			return edge, nil
		}
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", text)
}

// lengthOf reads a length: seconds, or with units.
func lengthOf(text string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		ns := f * float64(time.Second)
		if ns > float64(math.MaxInt64) || ns < float64(math.MinInt64) {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", text)
		}
		return time.Duration(ns), nil
	}
	if d, err := model.ParseDuration(text); err == nil {
		return time.Duration(d), nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", text)
}

// limitOf reads how many results are wanted; 0: all.
func limitOf(form url.Values) (int, *apiError) {
	text := form.Get("limit")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err == nil && n < 0 {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return 0, badParameter("limit", err)
	}
	return n, nil
}

// span reads start and end, which may be absent.
func span(form url.Values) (from, to time.Time, bad *apiError) {
	from, to = minTime, maxTime
	for _, one := range []struct {
		name string
		at   *time.Time
	}{{"start", &from}, {"end", &to}} {
		if text := form.Get(one.name); text != "" {
			var err error
			if *one.at, err = timeOf(text); err != nil {
				return from, to, badParameter(one.name, fmt.Errorf("invalid time value for '%s': %w", one.name, err))
			}
		}
	}
	return from, to, nil
}

// selectors reads match[].
func (a *api) selectors(form url.Values) ([][]*labels.Matcher, error) {
	sets, err := a.m.engine.parser.ParseMetricSelectors(form["match[]"])
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		empty := true
		for _, one := range set {
			empty = empty && one.Matches("")
		}
		if empty {
			return nil, errors.New("match[] must contain at least one non-empty matcher")
		}
	}
	return sets, nil
}
