package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/even-keel/evenkeel/site"
)

// outside is an existing Prometheus that is asked instead of a store of our own.
type outside struct {
	base   *url.URL
	token  string
	client *http.Client
	proxy  *httputil.ReverseProxy
}

const outsideMax = 64 << 20 // bytes of an answer

func newOutside(cfg *site.MonitorPrometheus) (*outside, error) {
	base, err := url.Parse(strings.TrimSuffix(cfg.URL, "/"))
	if err != nil {
		return nil, fmt.Errorf("the existing Prometheus cannot be asked: %w", err)
	}
	transport, err := transportFor(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("the existing Prometheus cannot be asked: %w", err)
	}
	o := &outside{base: base, token: string(cfg.Token), client: &http.Client{Transport: transport, CheckRedirect: stay}}
	o.proxy = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.Host = base.Host
			// What opens this node's console is nobody else's business.
			r.Out.Header.Del("Cookie")
			r.Out.Header.Del("Authorization")
			o.authorize(r.Out)
		},
		ModifyResponse: func(a *http.Response) error {
			a.Header.Del("Set-Cookie")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			refuse(w, &apiError{kindUnavailable, fmt.Errorf("the existing Prometheus does not answer: %w", err)})
		},
	}
	return o, nil
}

func (o *outside) authorize(r *http.Request) {
	if o.token != "" {
		r.Header.Set("Authorization", "Bearer "+o.token)
	}
}

// answered is the form of an answer of the API.
type answered struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		ResultType parser.ValueType `json:"resultType"`
		Result     json.RawMessage  `json:"result"`
	} `json:"data"`
}

// query asks for the value of an expression.
func (o *outside) query(ctx context.Context, expr string, w window) (parser.Value, error) {
	form, path := url.Values{"query": {expr}}, "/api/v1/query"
	if w.step == 0 {
		form.Set("time", seconds(w.from))
	} else {
		path = "/api/v1/query_range"
		form.Set("start", seconds(w.from))
		form.Set("end", seconds(w.to))
		form.Set("step", strconv.FormatFloat(w.step.Seconds(), 'f', -1, 64))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.base.String()+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	o.authorize(r)
	a, err := o.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("the existing Prometheus does not answer: %w", err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(io.LimitReader(a.Body, outsideMax))
	if err != nil {
		return nil, fmt.Errorf("the answer of the existing Prometheus broke off: %w", err)
	}
	var got answered
	if err := json.Unmarshal(body, &got); err != nil {
		return nil, fmt.Errorf("what answers with %s is no Prometheus: %w", a.Status, err)
	}
	if got.Status != "success" {
		return nil, errors.New(got.Error)
	}
	return decodeValue(got.Data.ResultType, got.Data.Result)
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

// pair is [time, "value"].
type pair struct {
	t int64
	v float64
	s string
}

func (p *pair) UnmarshalJSON(b []byte) error {
	var both [2]json.RawMessage
	if err := json.Unmarshal(b, &both); err != nil {
		return err
	}
	at, err := strconv.ParseFloat(string(both[0]), 64)
	if err != nil {
		return err
	}
	if p.t = int64(at*1000 + 0.5); at < 0 {
		p.t = int64(at*1000 - 0.5)
	}
	if err := json.Unmarshal(both[1], &p.s); err != nil {
		return err
	}
	p.v, _ = strconv.ParseFloat(p.s, 64) // a string value has none
	return nil
}

// decodeValue reads the result of a query.
func decodeValue(kind parser.ValueType, raw []byte) (parser.Value, error) {
	var list []struct {
		Metric map[string]string `json:"metric"`
		Value  *pair             `json:"value"`
		Values []pair            `json:"values"`
	}
	switch kind {
	case parser.ValueTypeScalar, parser.ValueTypeString:
		var p pair
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, err
		}
		if kind == parser.ValueTypeString {
			return promql.String{T: p.t, V: p.s}, nil
		}
		return promql.Scalar{T: p.t, V: p.v}, nil
	case parser.ValueTypeVector, parser.ValueTypeMatrix:
	default:
		return nil, fmt.Errorf("a result of type %q is not known", kind)
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if kind == parser.ValueTypeVector {
		out := promql.Vector{}
		for _, s := range list {
			if s.Value != nil {
				out = append(out, promql.Sample{Metric: labels.FromMap(s.Metric), T: s.Value.t, F: s.Value.v})
			}
		}
		return out, nil
	}
	out := promql.Matrix{}
	for _, s := range list {
		one := promql.Series{Metric: labels.FromMap(s.Metric)}
		for _, p := range s.Values {
			one.Floats = append(one.Floats, promql.FPoint{T: p.t, F: p.v})
		}
		out = append(out, one)
	}
	return out, nil
}
