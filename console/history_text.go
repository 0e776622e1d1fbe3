package console

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Sizes of tables and bars in a terminal.
const (
	cellMost = 80 // characters of a cell; --json shows all
	barWidth = 40
)

// PrintQuery writes an answer for people: a table, or the chart that was asked for.
func PrintQuery(w io.Writer, a QueryAnswer) error {
	drawn, err := false, error(nil)
	if a.Render != "" && a.Render != "table" && len(a.Rows) > 0 {
		drawn, err = printChart(w, a)
	}
	if !drawn && err == nil {
		err = printTable(w, a)
	}
	if err == nil && a.Truncated {
		_, err = fmt.Fprintf(w, "the first %d rows; there are more (events.query.rows)\n", len(a.Rows))
	}
	return err
}

// printTable aligns columns: numbers to the right.
func printTable(w io.Writer, a QueryAnswer) error {
	if len(a.Rows) == 0 {
		_, err := fmt.Fprintln(w, "no rows")
		return err
	}
	widths := make([]int, len(a.Columns))
	lines := make([][]string, 0, len(a.Rows)+1)
	head := make([]string, len(a.Columns))
	for i, c := range a.Columns {
		head[i] = clean(c.Name)
	}
	lines = append(lines, head)
	for _, row := range a.Rows {
		line := make([]string, len(row))
		for i, cell := range row {
			line[i] = short80(clean(CellText(cell)))
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(pad(cell, widths[i], numericType(a.Columns[i].Type)))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

func short80(s string) string {
	if utf8.RuneCountInString(s) <= cellMost {
		return s
	}
	return string([]rune(s)[:cellMost-1]) + "…"
}

func numericType(t string) bool { return t == "long" || t == "real" || t == "timespan" }

// CellText is a cell as people read it.
func CellText(cell any) string {
	switch v := cell.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return strconv.FormatFloat(v, 'f', 0, 64)
		}
		return strconv.FormatFloat(v, 'g', 6, 64)
	case json.Number:
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
			return CellText(f)
		}
		return v.String()
	case json.RawMessage:
		return string(v)
	}
	if b, err := json.Marshal(cell); err == nil {
		return string(b)
	}
	return fmt.Sprint(cell)
}

// numberOf is a cell as a number.
func numberOf(cell any) (float64, bool) {
	switch v := cell.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	}
	return 0, false
}

// plotted is an answer as series: over time when it has a column of moments, else over names.
type plotted struct {
	Series []AnsweredSeries // over time
	Names  []string         // else
	Values []float64
	What   string // of the values
}

// plot finds what can be drawn; false: nothing.
func (a QueryAnswer) plot() (p plotted, ok bool) {
	at, value, label := -1, -1, -1
	for i, c := range a.Columns {
		switch {
		case c.Type == "datetime" && at < 0:
			at = i
		case numericType(c.Type) && value < 0:
			value = i
		case (c.Type == "string" || c.Type == "bool" || c.Type == "dynamic") && label < 0:
			label = i
		}
	}
	if value < 0 {
		return p, false
	}
	p.What = a.Columns[value].Name
	if at < 0 || a.Render == "barchart" || a.Render == "columnchart" || a.Render == "piechart" {
		return a.bars(p, max(label, at), value), true
	}
	where := map[string]int{}
	for _, row := range a.Rows {
		t, err := time.Parse(time.RFC3339Nano, CellText(row[at]))
		if err != nil {
			continue
		}
		for i := value; i < len(row); i++ {
			v, is := numberOf(row[i])
			if !is || !numericType(a.Columns[i].Type) {
				continue
			}
			labels := map[string]string{"__name__": a.Columns[i].Name}
			if label >= 0 {
				labels[a.Columns[label].Name] = CellText(row[label])
			}
			name := seriesName(labels)
			k, known := where[name]
			if !known {
				k = len(p.Series)
				where[name], p.Series = k, append(p.Series, AnsweredSeries{Labels: labels})
			}
			p.Series[k].Points = append(p.Series[k].Points, AnsweredPoint{At: t, Value: v})
		}
	}
	for _, s := range p.Series {
		slices.SortFunc(s.Points, func(a, b AnsweredPoint) int { return a.At.Compare(b.At) })
	}
	return p, len(p.Series) > 0
}

// bars are the values by name, in the order of the answer.
func (a QueryAnswer) bars(p plotted, label, value int) plotted {
	for i, row := range a.Rows {
		v, is := numberOf(row[value])
		if !is {
			continue
		}
		name := strconv.Itoa(i + 1)
		if label >= 0 {
			name = CellText(row[label])
		}
		p.Names, p.Values = append(p.Names, name), append(p.Values, v)
	}
	return p
}

// span is the time that series lie in, and the least distance of two points.
func (p plotted) span() (from, to time.Time, step time.Duration) {
	for _, s := range p.Series {
		for i, point := range s.Points {
			if from.IsZero() || point.At.Before(from) {
				from = point.At
			}
			if point.At.After(to) {
				to = point.At
			}
			if i > 0 {
				if d := point.At.Sub(s.Points[i-1].At); d > 0 && (step == 0 || d < step) {
					step = d
				}
			}
		}
	}
	return from, to, max(step, time.Second)
}

// printChart draws an answer; false: there is nothing to draw in it.
func printChart(w io.Writer, a QueryAnswer) (drawn bool, err error) {
	p, ok := a.plot()
	if !ok {
		return false, nil
	}
	if len(p.Series) > 0 {
		from, to, step := p.span()
		return true, printCurves(w, Asked{From: from, To: to.Add(step), Step: step}, p.Series)
	}
	most, wide := 0.0, 0
	for i, v := range p.Values {
		most, wide = max(most, v), max(wide, utf8.RuneCountInString(short80(clean(p.Names[i]))))
	}
	for i, v := range p.Values {
		length := 0
		if most > 0 && v > 0 {
			length = max(int(math.Round(v/most*barWidth)), 1)
		}
		if _, err := fmt.Fprintf(w, "%s  %s %s\n", pad(short80(clean(p.Names[i])), wide, false), strings.Repeat("█", length), brief(v)); err != nil {
			return true, err
		}
	}
	return true, nil
}

// EventsText writes events for people, oldest first as in a log.
func EventsText(w io.Writer, p EventPage) error {
	for _, e := range slices.Backward(p.Events) {
		if _, err := fmt.Fprintf(w, "%s  %s  %s\n", e.At.Local().Format("2006-01-02 15:04:05"), pad(clean(e.Kind), 18, false), clean(e.Text)); err != nil {
			return err
		}
	}
	if len(p.Events) == 0 {
		_, err := fmt.Fprintln(w, "no events")
		return err
	}
	return nil
}
