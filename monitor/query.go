package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/even-keel/evenkeel/site"
)

const (
	queriesAtOnce = 4 // further ones wait, as long as their time is not over
	lookback      = 5 * time.Minute
	maxPoints     = 11000 // of one series in one answer, as in Prometheus
)

// Sample is one value of an answer.
type Sample struct {
	Labels map[string]string `json:"labels"`
	At     time.Time         `json:"at"`
	Value  float64           `json:"value"`
}

// Series is what an expression was over a time.
type Series struct {
	Labels map[string]string `json:"labels"`
	Points []Point           `json:"points"`
}

// Point is one value of a series.
type Point struct {
	At    time.Time `json:"at"`
	Value float64   `json:"value"`
}

var errBusy = errors.New("as many queries as may run are running already")

// engine evaluates expressions. Its limits are those in force when a query begins.
type engine struct {
	m      *Monitor
	places chan struct{}
	parser parser.Parser
	adjust func(*promql.EngineOpts) // by tests; nil: as it is
}

func newEngine(m *Monitor) *engine {
	return &engine{m: m, places: make(chan struct{}, queriesAtOnce), parser: parser.NewParser(parser.Options{})}
}

// limited makes the evaluator for one query. It costs some hundred bytes, and keeps no state between queries.
func (e *engine) limited(cfg site.MonitorQuery) *promql.Engine {
	o := promql.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: cfg.Samples, Timeout: cfg.Timeout, LookbackDelta: lookback,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: e.parser,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	}
	if e.adjust != nil {
		e.adjust(&o)
	}
	return promql.NewEngine(o)
}

// enter waits for a place among the queries that run.
func (e *engine) enter(ctx context.Context) (leave func(), err error) {
	select {
	case e.places <- struct{}{}:
		e.m.counts.queries.Add(1)
		return func() { <-e.places }, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, promql.ErrQueryCanceled("waiting for a place")
		}
		e.m.counts.queriesTurnedAway.Add(1)
		return nil, errBusy
	}
}

// window is a range of moments; a zero step is the moment from.
type window struct {
	from, to time.Time
	step     time.Duration
	lookback time.Duration // 0: the default
	perStep  bool
}

// evaluate runs one query over what q finds. When done is not nil it must be called after the last use of the result.
func (e *engine) evaluate(ctx context.Context, q storage.Queryable, expr string, w window) (query promql.Query, res *promql.Result, err error) {
	cfg := e.m.cfg.Load().Query
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	leave, err := e.enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	opts := promql.NewPrometheusQueryOpts(w.perStep, w.lookback)
	if w.step == 0 {
		query, err = e.limited(cfg).NewInstantQuery(ctx, q, opts, expr, w.from)
	} else {
		query, err = e.limited(cfg).NewRangeQuery(ctx, q, opts, expr, w.from, w.to, w.step)
	}
	if err != nil {
		return nil, nil, &badExpression{err}
	}
	res = query.Exec(ctx)
	if res.Err != nil {
		e.m.counts.queryErrors.Add(1)
		query.Close()
		return nil, res, res.Err
	}
	return query, res, nil
}

// badExpression is a query that cannot be understood.
type badExpression struct{ error }

func (b *badExpression) Unwrap() error { return b.error }

// CheckExpression says what is wrong with an expression that is to have values at a moment.
func CheckExpression(text string) error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return fmt.Errorf("is no PromQL: %w", err)
	}
	if t := expr.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		return fmt.Errorf("is a %s, and needs to be an instant vector or a scalar: it has no value at a moment", parser.DocumentedType(t))
	}
	return nil
}

// Query is the value of an expression at a moment. A scalar has no labels. Native histograms are left out: ask for a quantile
// or a count of them.
func (m *Monitor) Query(ctx context.Context, expr string, at time.Time) ([]Sample, error) {
	value, err := m.ask(ctx, expr, window{from: at})
	if err != nil {
		return nil, err
	}
	var out []Sample
	switch v := value.(type) {
	case promql.Vector:
		for _, s := range v {
			if s.H == nil {
				out = append(out, Sample{Labels: s.Metric.Map(), At: moment(s.T), Value: s.F})
			}
		}
	case promql.Scalar:
		out = append(out, Sample{Labels: map[string]string{}, At: moment(v.T), Value: v.V})
	default:
		return nil, fmt.Errorf("the expression is a %s: only instant vectors and scalars have values at a moment", value.Type())
	}
	return out, nil
}

// QueryRange is an expression at every step from a moment to another. It has at most 11,000 steps.
func (m *Monitor) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	if step <= 0 || to.Before(from) || to.Sub(from)/step > maxPoints {
		return nil, fmt.Errorf("a range from %s to %s by %s has no steps or more than %d", from, to, step, maxPoints)
	}
	value, err := m.ask(ctx, expr, window{from: from, to: to, step: step})
	if err != nil {
		return nil, err
	}
	matrix, is := value.(promql.Matrix)
	if !is {
		return nil, fmt.Errorf("the expression is a %s and has no ranges", value.Type())
	}
	out := make([]Series, 0, len(matrix))
	for _, s := range matrix {
		one := Series{Labels: s.Metric.Map(), Points: make([]Point, 0, len(s.Floats))}
		for _, p := range s.Floats {
			one.Points = append(one.Points, Point{At: moment(p.T), Value: p.F})
		}
		out = append(out, one)
	}
	return out, nil
}

// ask evaluates here, or asks the existing Prometheus.
func (m *Monitor) ask(ctx context.Context, expr string, w window) (parser.Value, error) {
	s, ctx, release, err := m.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if s.outside != nil {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.Query.Timeout)
		defer cancel()
		return s.outside.query(ctx, expr, w)
	}
	query, res, err := m.engine.evaluate(ctx, s.q, expr, w)
	if err != nil {
		return nil, err
	}
	defer query.Close()
	return copyValue(res.Value), nil
}

// copyValue is a value that stays when its query is closed: points of a closed query are used again for others.
func copyValue(v parser.Value) parser.Value {
	m, is := v.(promql.Matrix)
	if !is {
		return v
	}
	out := make(promql.Matrix, len(m))
	for i, s := range m {
		out[i] = promql.Series{Metric: s.Metric, Floats: append([]promql.FPoint(nil), s.Floats...)}
	}
	return out
}

// moment is a time of the store.
func moment(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// The oldest and newest moments that the API speaks of, as in Prometheus.
var (
	minTime = time.Unix(math.MinInt64/1000+62135596801, 0).UTC()
	maxTime = time.Unix(math.MaxInt64/1000-62135596801, 999999999).UTC()
)
