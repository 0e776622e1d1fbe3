package kql

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Has says whether term stands in s as a whole word, whatever its case: the function kql_has of the SQL that Compile writes.
func Has(s, term string) bool {
	s, term = strings.ToLower(s), strings.ToLower(term)
	if term == "" {
		return true
	}
	for from := 0; ; {
		i := strings.Index(s[from:], term)
		if i < 0 {
			return false
		}
		i += from
		before, _ := utf8.DecodeLastRuneInString(s[:i])
		after, _ := utf8.DecodeRuneInString(s[i+len(term):])
		if !inWord(before) && !inWord(after) {
			return true
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		from = i + size
	}
}

func inWord(r rune) bool { return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) }

// Extract is a group of the first match in s, empty when there is none: the function kql_extract.
func Extract(pattern *regexp.Regexp, group int, s string) string {
	if m := pattern.FindStringSubmatch(s); group >= 0 && group < len(m) {
		return m[group]
	}
	return ""
}

// sketchGrowth is the ratio of two bounds of a Sketch: values are known to within a hundredth.
const sketchGrowth = 1.02

// Sketch counts numbers so that percentiles can be told to within 1 %: the function kql_percentile. Its size is bounded by the range of
// float64, and in practice by some hundreds of buckets. The zero value is empty.
type Sketch struct {
	buckets map[int]*pile // by logarithm of the distance from zero; that of negative numbers lies below zero
	count   uint64
}

// pile is the numbers of one bucket: their mean stands for all.
type pile struct {
	n   uint64
	sum float64
}

// Add counts one number.
func (s *Sketch) Add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	if s.buckets == nil {
		s.buckets = map[int]*pile{}
	}
	s.count++
	at := bucket(v)
	if s.buckets[at] == nil {
		s.buckets[at] = new(pile)
	}
	s.buckets[at].n++
	s.buckets[at].sum += v
}

// bucketZero is the distance of the bucket of the smallest numbers from that of zero, so that it is positive for every number.
const bucketZero = 40_000

func bucket(v float64) int {
	switch at := bucketZero + int(math.Floor(math.Log(math.Abs(v))/math.Log(sketchGrowth))); {
	case v > 0:
		return at
	case v < 0:
		return -at
	}
	return 0
}

// Percentile is the number below which p of 100 stay; false when nothing was counted.
func (s *Sketch) Percentile(p float64) (float64, bool) {
	if s.count == 0 || math.IsNaN(p) {
		return 0, false
	}
	want := max(uint64(math.Ceil(min(max(p, 0), 100)/100*float64(s.count))), 1)
	var seen uint64
	last := 0.0
	for _, at := range slices.Sorted(maps.Keys(s.buckets)) {
		b := s.buckets[at]
		last = b.sum / float64(b.n)
		if seen += b.n; seen >= want {
			break
		}
	}
	return last, true
}
