package console

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Sizes of a chart in a terminal.
const (
	chartWidth  = 60 // columns of a curve
	chartHeight = 8  // lines of the curve of a single series
	chartSeries = 40 // curves; what is more is only counted
)

// PrintAnswer writes an answer for people: a table for a moment, curves for a range.
func PrintAnswer(w io.Writer, q Asked, got Answered) error {
	for _, note := range got.Warnings {
		fmt.Fprintln(w, "note:", note)
	}
	if len(got.Series) == 0 {
		_, err := fmt.Fprintln(w, "no series")
		return err
	}
	if q.Step > 0 {
		return printCurves(w, q, got.Series)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range got.Series {
		for _, p := range s.Points {
			fmt.Fprintf(t, "%s\t%s\n", p.Text, seriesName(s.Labels))
		}
	}
	return t.Flush()
}

// seriesName is a series as PromQL writes it.
func seriesName(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name != "__name__" {
			parts = append(parts, name+"="+strconv.Quote(labels[name]))
		}
	}
	if len(parts) == 0 {
		return labels["__name__"]
	}
	return labels["__name__"] + "{" + strings.Join(parts, ", ") + "}"
}

// printCurves draws each series over the range, and says its lowest, highest and last value.
func printCurves(w io.Writer, q Asked, list []AnsweredSeries) error {
	for i, s := range list {
		if i == chartSeries {
			fmt.Fprintf(w, "and %d more\n", len(list)-i)
			break
		}
		values := columns(q, s.Points)
		low, high, last := extremes(s.Points)
		height := 1
		if len(list) == 1 {
			height = chartHeight
		}
		if name := seriesName(s.Labels); name != "" {
			fmt.Fprintln(w, name)
		}
		for line := range height {
			side := ""
			switch {
			case height == 1:
				side = fmt.Sprintf("%s to %s, now %s", brief(low), brief(high), brief(last))
			case line == 0:
				side = brief(high)
			case line == height-1:
				side = brief(low) + ", now " + brief(last)
			}
			fmt.Fprintln(w, strings.TrimRight("  "+row(values, low, high, height-1-line, height)+"  "+side, " "))
		}
	}
	_, err := fmt.Fprintf(w, "  %-*s%s\n", chartWidth-8, q.From.Local().Format(time.TimeOnly), q.To.Local().Format(time.TimeOnly))
	return err
}

// columns are the values of a series, one for each column of the curve: the mean of what falls there; NaN where nothing does.
func columns(q Asked, points []AnsweredPoint) []float64 {
	sum, count := make([]float64, chartWidth), make([]int, chartWidth)
	for _, p := range points {
		share := 1.0
		if length := q.To.Sub(q.From); length > 0 {
			share = float64(p.At.Sub(q.From)) / float64(length)
		}
		at := min(max(int(share*chartWidth), 0), chartWidth-1)
		sum[at] += p.Value
		count[at]++
	}
	for i := range sum {
		sum[i] /= float64(count[i]) // 0/0 is NaN
	}
	// A step wider than a column would leave holes: the value before holds until the next.
	hold := int(math.Ceil(float64(q.Step) / float64(max(q.To.Sub(q.From), 1)) * chartWidth))
	for i, since := 0, chartWidth; i < chartWidth; i++ {
		if count[i] > 0 {
			since = 0
		} else if since++; since < hold && i > 0 {
			sum[i] = sum[i-1]
		}
	}
	return sum
}

// extremes are the lowest, the highest and the last value.
func extremes(points []AnsweredPoint) (low, high, last float64) {
	low, high, last = math.Inf(1), math.Inf(-1), math.NaN()
	for _, p := range points {
		if !math.IsNaN(p.Value) {
			low, high = min(low, p.Value), max(high, p.Value)
		}
		last = p.Value
	}
	return low, high, last
}

// row draws one line of a curve; line 0 is the lowest of height.
func row(values []float64, low, high float64, line, height int) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range values {
		eighths := 0.0
		if high > low {
			eighths = (v - low) / (high - low) * float64(height*len(blocks)-1)
		}
		switch part := int(eighths) - line*len(blocks); {
		case math.IsNaN(v) || part < 0:
			b.WriteByte(' ')
		default:
			b.WriteRune(blocks[min(part, len(blocks)-1)])
		}
	}
	return b.String()
}

// brief is a number that fits beside a curve.
func brief(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
