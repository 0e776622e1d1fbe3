package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/jsonutil"
	"github.com/prometheus/prometheus/util/stats"
)

// overHTTP is a query engine as Prometheus' own tests want one. Each query goes through our API as a request, and what comes
// back is read from the JSON of its answer.
type overHTTP struct {
	t       *testing.T
	direct  *promql.Engine // evaluates once more, for histograms, whose JSON leaves out how they were made
	asked   *int
	m       *Monitor
	handler http.Handler
}

func (o *overHTTP) NewInstantQuery(_ context.Context, q storage.Queryable, _ promql.QueryOpts, expr string, at time.Time) (promql.Query, error) {
	return o.query(q, expr, window{from: at})
}

func (o *overHTTP) NewRangeQuery(_ context.Context, q storage.Queryable, _ promql.QueryOpts, expr string, from, to time.Time, step time.Duration) (promql.Query, error) {
	return o.query(q, expr, window{from: from, to: to, step: step})
}

func (o *overHTTP) query(q storage.Queryable, expr string, w window) (promql.Query, error) {
	var inner promql.Query
	var err error
	if w.step == 0 {
		inner, err = o.direct.NewInstantQuery(o.t.Context(), q, nil, expr, w.from)
	} else {
		inner, err = o.direct.NewRangeQuery(o.t.Context(), q, nil, expr, w.from, w.to, w.step)
	}
	if err != nil {
		return nil, err
	}
	return &askedQuery{o: o, q: q, expr: expr, w: w, inner: inner}, nil
}

// askedQuery is one query on its way through the API.
type askedQuery struct {
	o     *overHTTP
	q     storage.Queryable
	expr  string
	w     window
	inner promql.Query
}

func (a *askedQuery) Close()                      { a.inner.Close() }
func (a *askedQuery) Statement() parser.Statement { return a.inner.Statement() }
func (a *askedQuery) Stats() *stats.Statistics    { return a.inner.Stats() }
func (a *askedQuery) Cancel()                     { a.inner.Cancel() }
func (a *askedQuery) String() string              { return a.expr }

// Exec asks by HTTP.
func (a *askedQuery) Exec(ctx context.Context) *promql.Result {
	form, path := url.Values{"query": {a.expr}}, "query"
	if a.w.step == 0 {
		form.Set("time", seconds(a.w.from))
	} else {
		path = "query_range"
		form.Set("start", seconds(a.w.from))
		form.Set("end", seconds(a.w.to))
		form.Set("step", strconv.FormatFloat(a.w.step.Seconds(), 'f', -1, 64))
	}
	*a.o.asked++
	// Odd ones by GET, even ones by POST: both are forms of the API.
	r := httptest.NewRequest(http.MethodGet, Prefix+"/api/v1/"+path+"?"+form.Encode(), nil)
	if *a.o.asked%2 == 0 {
		r = httptest.NewRequest(http.MethodPost, Prefix+"/api/v1/"+path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	a.o.m.use(&session{m: a.o.m, cfg: a.o.m.cfg.Load(), q: a.q, over: context.Background()})
	a.o.handler.ServeHTTP(w, r.WithContext(ctx))
	var got struct {
		Status, Error   string
		Data            struct{ ResultType parser.ValueType }
		Warnings, Infos []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		return &promql.Result{Err: fmt.Errorf("the answer is no JSON: %w: %s", err, w.Body)}
	}
	res := &promql.Result{}
	if got.Status != "success" {
		res.Err = errors.New(got.Error)
		return res
	}
	for _, text := range got.Warnings {
		res.Warnings.Add(&told{text, annotations.PromQLWarning})
	}
	for _, text := range got.Infos {
		res.Warnings.Add(&told{text, annotations.PromQLInfo})
	}
	res.Value, res.Err = a.decode(ctx, got.Data.ResultType, w.Body.Bytes())
	return res
}

// told is an annotation that came as text.
type told struct {
	text string
	kind error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.kind }

// decode reads the value. What JSON does not carry of a histogram comes from the direct evaluation, once its JSON was found
// to be what Prometheus' own encoder makes of it.
func (a *askedQuery) decode(ctx context.Context, kind parser.ValueType, body []byte) (parser.Value, error) {
	var got struct {
		Data struct{ Result json.RawMessage }
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return nil, err
	}
	value, err := decodeValue(kind, got.Data.Result)
	if err != nil || !strings.Contains(string(got.Data.Result), `"histogram`) {
		return value, err
	}
	direct := a.inner.Exec(ctx)
	if direct.Err != nil {
		return nil, direct.Err
	}
	var want, have any
	if err := json.Unmarshal(theirs(direct.Value), &want); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(got.Data.Result, &have); err != nil {
		return nil, err
	}
	if v, is := direct.Value.(promql.Vector); is && len(v) > 1 {
		return direct.Value, sameSets(want, have)
	}
	if !reflect.DeepEqual(want, have) {
		return nil, fmt.Errorf("the API answers %s, Prometheus would answer %s", got.Data.Result, theirs(direct.Value))
	}
	return direct.Value, nil
}

// sameSets compares vectors, whose order is not promised.
func sameSets(want, have any) error {
	a, b := want.([]any), have.([]any)
	count := map[string]int{}
	for _, one := range a {
		text, _ := json.Marshal(one)
		count[string(text)]++
	}
	for _, one := range b {
		text, _ := json.Marshal(one)
		count[string(text)]--
	}
	for text, n := range count {
		if n != 0 {
			return fmt.Errorf("%s stands in one of both answers", text)
		}
	}
	return nil
}

// theirs is a value as Prometheus' own functions write it.
func theirs(v parser.Value) []byte {
	s := jsoniter.NewStream(jsoniter.ConfigCompatibleWithStandardLibrary, nil, 512)
	metric := func(ls labels.Labels) {
		s.WriteObjectStart()
		s.WriteObjectField("metric")
		s.WriteVal(ls.Map())
	}
	pair := func(t int64, write func()) {
		s.WriteArrayStart()
		jsonutil.MarshalTimestamp(t, s)
		s.WriteMore()
		write()
		s.WriteArrayEnd()
	}
	s.WriteArrayStart()
	switch v := v.(type) {
	case promql.Vector:
		for i, one := range v {
			if i > 0 {
				s.WriteMore()
			}
			metric(one.Metric)
			s.WriteMore()
			if one.H != nil {
				s.WriteObjectField("histogram")
				pair(one.T, func() { jsonutil.MarshalHistogram(one.H, s) })
			} else {
				s.WriteObjectField("value")
				pair(one.T, func() { jsonutil.MarshalFloat(one.F, s) })
			}
			s.WriteObjectEnd()
		}
	case promql.Matrix:
		for i, one := range v {
			if i > 0 {
				s.WriteMore()
			}
			metric(one.Metric)
			for k, p := range one.Floats {
				s.WriteMore()
				if k == 0 {
					s.WriteObjectField("values")
					s.WriteArrayStart()
				}
				pair(p.T, func() { jsonutil.MarshalFloat(p.F, s) })
			}
			if len(one.Floats) > 0 {
				s.WriteArrayEnd()
			}
			for k, p := range one.Histograms {
				s.WriteMore()
				if k == 0 {
					s.WriteObjectField("histograms")
					s.WriteArrayStart()
				}
				pair(p.T, func() { jsonutil.MarshalHistogram(p.H, s) })
			}
			if len(one.Histograms) > 0 {
				s.WriteArrayEnd()
			}
			s.WriteObjectEnd()
		}
	}
	s.WriteArrayEnd()
	return s.Buffer()
}
