package monitor

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// marshal is JSON as Prometheus writes it: < and > stay readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// appendValue writes the result of a query. Numbers are strings in it, because JSON has no NaN and no infinity.
func appendValue(b []byte, v parser.Value) []byte {
	switch v := v.(type) {
	case promql.Matrix:
		b = append(b, '[')
		for i, s := range v {
			b = appendSeries(comma(b, i), s)
		}
		return append(b, ']')
	case promql.Vector:
		b = append(b, '[')
		for i, s := range v {
			b = appendSample(comma(b, i), s)
		}
		return append(b, ']')
	case promql.Scalar:
		b = append(strconv.AppendFloat(append(b, '['), float64(v.T)/1000, 'f', -1, 64), `,"`...) // in Prometheus too another form than below
		return append(strconv.AppendFloat(b, v.V, 'f', -1, 64), `"]`...)
	case promql.String:
		b = append(strconv.AppendFloat(append(b, '['), float64(v.T)/1000, 'f', -1, 64), ',')
		return append(appendText(b, v.V), ']')
	}
	return append(b, "null"...)
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

func appendSeries(b []byte, s promql.Series) []byte {
	b = appendLabels(append(b, `{"metric":`...), s.Metric)
	for i, p := range s.Floats {
		if i == 0 {
			b = append(b, `,"values":[`...)
		}
		b = append(appendTime(append(comma(b, i), '['), p.T), ',')
		b = append(appendFloat(b, p.F), ']')
	}
	if len(s.Floats) > 0 {
		b = append(b, ']')
	}
	for i, p := range s.Histograms {
		if i == 0 {
			b = append(b, `,"histograms":[`...)
		}
		b = append(appendTime(append(comma(b, i), '['), p.T), ',')
		b = append(appendHistogram(b, p.H), ']')
	}
	if len(s.Histograms) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendSample(b []byte, s promql.Sample) []byte {
	b = appendLabels(append(b, `{"metric":`...), s.Metric)
	if s.H != nil {
		b = append(appendTime(append(b, `,"histogram":[`...), s.T), ',')
		return append(appendHistogram(b, s.H), `]}`...)
	}
	b = append(appendTime(append(b, `,"value":[`...), s.T), ',')
	return append(appendFloat(b, s.F), `]}`...)
}

func appendLabels(b []byte, ls labels.Labels) []byte {
	b = append(b, '{')
	i := 0
	ls.Range(func(l labels.Label) {
		b = append(appendText(comma(b, i), l.Name), ':')
		b = appendText(b, l.Value)
		i++
	})
	return append(b, '}')
}

// appendTime writes seconds since 1970, with milliseconds where there are any.
func appendTime(b []byte, ms int64) []byte {
	if ms < 0 {
		b, ms = append(b, '-'), -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if rest := ms % 1000; rest != 0 {
		b = append(b, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return b
}

// appendFloat writes a number as a string, very small and very large ones with an exponent.
func appendFloat(b []byte, f float64) []byte {
	form := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		form = 'e'
	}
	return append(strconv.AppendFloat(append(b, '"'), f, form, -1, 64), '"')
}

// appendHistogram writes a native histogram: its buckets with the kind of their borders (0 open left, 1 open right, 2 open, 3 closed).
func appendHistogram(b []byte, h *histogram.FloatHistogram) []byte {
	b = appendFloat(append(b, `{"count":`...), h.Count)
	b = appendFloat(append(b, `,"sum":`...), h.Sum)
	n := 0
	for it := h.AllBucketIterator(); it.Next(); {
		bucket := it.At()
		if bucket.Count == 0 {
			continue
		}
		if n == 0 {
			b = append(b, `,"buckets":[`...)
		}
		border := byte('2')
		switch {
		case bucket.LowerInclusive && bucket.UpperInclusive:
			border = '3'
		case bucket.LowerInclusive:
			border = '1'
		case bucket.UpperInclusive:
			border = '0'
		}
		b = append(comma(b, n), '[', border, ',')
		b = append(appendFloat(b, bucket.Lower), ',')
		b = append(appendFloat(b, bucket.Upper), ',')
		b = append(appendFloat(b, bucket.Count), ']')
		n++
	}
	if n > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendText writes a string. Most labels need no escaping.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := marshal(s)
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendExemplars writes the answer to a question for exemplars.
func appendExemplars(b []byte, list []exemplar.QueryResult) []byte {
	b = append(b, '[')
	for i, r := range list {
		b = appendLabels(append(comma(b, i), `{"seriesLabels":`...), r.SeriesLabels)
		b = append(b, `,"exemplars":[`...)
		for k, e := range r.Exemplars {
			b = appendLabels(append(comma(b, k), `{"labels":`...), e.Labels)
			b = appendFloat(append(b, `,"value":`...), e.Value)
			b = append(appendTime(append(b, `,"timestamp":`...), e.Ts), '}')
		}
		b = append(b, `]}`...)
	}
	return append(b, ']')
}
