package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// errTruncated is the warning of an answer that was cut at its limit, in Prometheus' words.
var errTruncated = errors.New("results truncated due to limit")

// query is the value of an expression at a moment.
func (a *api) query(s *session, r *http.Request) (answer, *apiError) {
	limit, bad := limitOf(r.Form)
	if bad != nil {
		return answer{}, bad
	}
	w := window{from: a.m.deps.Now()}
	if text := r.Form.Get("time"); text != "" {
		var err error
		if w.from, err = timeOf(text); err != nil {
			return answer{}, badParameter("time", fmt.Errorf("invalid time value for 'time': %w", err))
		}
	}
	return a.evaluate(r.Context(), s.q, r.Form, w, limit)
}

// queryRange is an expression at every step of a range.
func (a *api) queryRange(s *session, r *http.Request) (answer, *apiError) {
	limit, bad := limitOf(r.Form)
	if bad != nil {
		return answer{}, bad
	}
	var w window
	for _, one := range []struct {
		name string
		at   *time.Time
	}{{"start", &w.from}, {"end", &w.to}} {
		var err error
		if *one.at, err = timeOf(r.Form.Get(one.name)); err != nil {
			return answer{}, badParameter(one.name, err)
		}
	}
	if w.to.Before(w.from) {
		return answer{}, badParameter("end", errors.New("end timestamp must not be before start time"))
	}
	var err error
	if w.step, err = lengthOf(r.Form.Get("step")); err != nil {
		return answer{}, badParameter("step", err)
	}
	if w.step <= 0 {
		return answer{}, badParameter("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	if w.to.Sub(w.from)/w.step > maxPoints {
		return answer{}, &apiError{kindBadData, errors.New("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")}
	}
	return a.evaluate(r.Context(), s.q, r.Form, w, limit)
}

// evaluate runs a query with what both forms of it may be told.
func (a *api) evaluate(ctx context.Context, q storage.Queryable, form url.Values, w window, limit int) (answer, *apiError) {
	if text := form.Get("timeout"); text != "" {
		d, err := lengthOf(text)
		if err != nil {
			return answer{}, badParameter("timeout", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if text := form.Get("lookback_delta"); text != "" {
		var err error
		if w.lookback, err = lengthOf(text); err != nil {
			return answer{}, &apiError{kindBadData, fmt.Errorf("error parsing lookback delta duration: %w", err)}
		}
	}
	w.perStep = form.Get("stats") == "all"
	expr := form.Get("query")
	query, res, err := a.m.engine.evaluate(ctx, q, expr, w)
	if err != nil {
		return answer{}, failedQuery(err)
	}
	defer query.Close()
	value, notes := truncate(res, limit)
	b := append([]byte(`{"resultType":"`), value.Type()...)
	b = append(appendValue(append(b, `","result":`...), value), '}')
	if form.Get("stats") != "" {
		st, err := marshal(stats.NewQueryStats(query.Stats()))
		if err != nil {
			return answer{}, &apiError{kindInternal, err}
		}
		b = append(append(append(b[:len(b)-1], `,"stats":`...), st...), '}')
	}
	return answer{data: json.RawMessage(b), notes: notes, expr: expr}, nil
}

// truncate cuts a result at its limit; 0: there is none.
func truncate(res *promql.Result, limit int) (parser.Value, annotations.Annotations) {
	notes := res.Warnings
	if limit <= 0 {
		return res.Value, notes
	}
	switch v := res.Value.(type) {
	case promql.Matrix:
		if len(v) > limit {
			return v[:limit], notes.Add(errTruncated)
		}
	case promql.Vector:
		if len(v) > limit {
			return v[:limit], notes.Add(errTruncated)
		}
	}
	return res.Value, notes
}

// exemplars are single requests that stand behind a value.
func (a *api) exemplars(s *session, r *http.Request) (answer, *apiError) {
	from, to, bad := span(r.Form)
	if bad != nil {
		return answer{}, bad
	}
	if to.Before(from) {
		return answer{}, &apiError{kindBadData, errors.New("end timestamp must not be before start timestamp")}
	}
	expr, err := a.m.engine.parser.ParseExpr(r.Form.Get("query"))
	if err != nil {
		return answer{}, &apiError{kindBadData, err}
	}
	q, err := s.store.db.ExemplarQuerier(r.Context())
	if err != nil {
		return answer{}, failedQuery(err)
	}
	list, err := q.Select(timestamp.FromTime(from), timestamp.FromTime(to), parser.ExtractSelectors(expr)...)
	if err != nil {
		return answer{}, failedQuery(err)
	}
	return answer{data: json.RawMessage(appendExemplars(nil, list))}, nil
}

// format writes an expression in its usual form.
func (a *api) format(_ *session, r *http.Request) (answer, *apiError) {
	expr, err := a.m.engine.parser.ParseExpr(r.Form.Get("query"))
	if err != nil {
		return answer{}, badParameter("query", err)
	}
	return answer{data: expr.Pretty(0)}, nil
}

// collect asks for names by every selector, and returns them sorted and cut at the limit.
func collect(sets int, limit int, ask func(set int) ([]string, annotations.Annotations, error)) (answer, *apiError) {
	names := []string{}
	var notes annotations.Annotations
	for i := range max(sets, 1) {
		list, warned, err := ask(i)
		if err != nil {
			return answer{}, &apiError{kindExec, err}
		}
		notes.Merge(warned)
		names = append(names, list...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if limit > 0 && len(names) > limit {
		names, notes = names[:limit], notes.Add(errTruncated)
	}
	return answer{data: names, notes: notes}, nil
}
