package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Asked is a question in PromQL. With a Step it is about a range, else about the moment To.
type Asked struct {
	Expr     string
	From, To time.Time
	Step     time.Duration
}

// Answered is what an expression is: one series for each set of labels, with one point for a question about a moment.
type Answered struct {
	Series   []AnsweredSeries
	Warnings []string
}

// AnsweredSeries is one of them. A scalar has no labels.
type AnsweredSeries struct {
	Labels map[string]string
	Points []AnsweredPoint
}

// AnsweredPoint is one value; Text is it as it came, for what is no number.
type AnsweredPoint struct {
	At    time.Time
	Value float64
	Text  string
}

// PromQL asks the node's history. raw is the answer as Prometheus' API gives it.
func (c *Client) PromQL(ctx context.Context, q Asked) (got Answered, raw []byte, err error) {
	form, path := url.Values{"query": {q.Expr}}, "/prometheus/api/v1/query"
	if q.Step > 0 {
		path += "_range"
		form.Set("start", unixSeconds(q.From))
		form.Set("end", unixSeconds(q.To))
		form.Set("step", strconv.FormatFloat(q.Step.Seconds(), 'f', -1, 64))
	} else {
		form.Set("time", unixSeconds(q.To))
	}
	raw, err = c.do(ctx, http.MethodGet, path+"?"+form.Encode())
	if err != nil {
		return got, raw, err
	}
	var body struct {
		Data struct {
			ResultType string
			Result     json.RawMessage
		}
		Warnings []string
		Infos    []string
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return got, raw, fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	got.Warnings = append(body.Warnings, body.Infos...)
	got.Series, err = readResult(body.Data.ResultType, body.Data.Result)
	return got, raw, err
}

func unixSeconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

// readResult reads the four kinds of results.
func readResult(kind string, raw json.RawMessage) (out []AnsweredSeries, err error) {
	if kind == "scalar" || kind == "string" {
		var p AnsweredPoint
		err := json.Unmarshal(raw, &p)
		return []AnsweredSeries{{Points: []AnsweredPoint{p}}}, err
	}
	var list []struct {
		Metric     map[string]string
		Value      *AnsweredPoint
		Values     []AnsweredPoint
		Histogram  *AnsweredPoint
		Histograms []AnsweredPoint
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("the result of kind %q cannot be read: %w", kind, err)
	}
	for _, s := range list {
		one := AnsweredSeries{Labels: s.Metric, Points: append(s.Values, s.Histograms...)}
		for _, p := range []*AnsweredPoint{s.Value, s.Histogram} {
			if p != nil {
				one.Points = append(one.Points, *p)
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// UnmarshalJSON reads [seconds, "value"], or a native histogram in its place.
func (p *AnsweredPoint) UnmarshalJSON(b []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	var at float64
	if err := json.Unmarshal(pair[0], &at); err != nil {
		return err
	}
	p.At = time.UnixMilli(int64(at * 1000)).UTC()
	if err := json.Unmarshal(pair[1], &p.Text); err != nil {
		var h struct{ Count, Sum string }
		if err := json.Unmarshal(pair[1], &h); err != nil {
			return err
		}
		p.Text = "count " + h.Count + ", sum " + h.Sum
		p.Value, _ = strconv.ParseFloat(h.Count, 64)
		return nil
	}
	p.Value, _ = strconv.ParseFloat(p.Text, 64) // a string has no number
	return nil
}
