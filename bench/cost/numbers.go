package cost

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// span is the middle of some values and how far they go.
type span struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spanOf sorts; no values are a span of zeros.
func spanOf(values []float64) span {
	if len(values) == 0 {
		return span{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return span{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// ratios divides round by round: both values of a quotient were measured within seconds of each other.
func ratios(values, reference []float64) (list []float64) {
	for i := range min(len(values), len(reference)) {
		if reference[i] > 0 {
			list = append(list, values[i]/reference[i])
		}
	}
	return list
}

// bound is an expectation: the median of evenkeel's ratio to the first rival, or of its cost, is at most (or at least) a value.
type bound struct {
	text, kase, what, op string
	value                float64
}

var boundForm = regexp.MustCompile(`^([a-z0-9][\w-]*)(?::(ratio|cost|rate))?(<=|>=)(\d+(?:\.\d+)?)$`)

// readBound reads CASE[:ratio|cost|rate]<=VALUE.
func readBound(text string) (bound, error) {
	m := boundForm.FindStringSubmatch(text)
	if m == nil {
		return bound{}, fmt.Errorf("--expect %q is not CASE<=VALUE, CASE>=VALUE, or with :ratio, :cost or :rate after CASE", text)
	}
	b := bound{text: text, kase: m[1], what: m[2], op: m[3]}
	if b.what == "" {
		b.what = "ratio"
	}
	if _, err := findCases(b.kase); err != nil {
		return b, fmt.Errorf("--expect %q: %w", text, err)
	}
	b.value, _ = strconv.ParseFloat(m[4], 64) // the form lets nothing else through
	return b, nil
}

// holds compares.
func (b bound) holds(v float64) bool {
	if b.op == "<=" {
		return v <= b.value
	}
	return v >= b.value
}
