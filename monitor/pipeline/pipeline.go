// Package pipeline reads what build and test pipelines report: JUnit XML, results and figures as JSON, and what load generators found.
package pipeline

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of one report.
const (
	mostResults = 20_000 // results and figures: as many as wait for the store at once, and more
	mostDepth   = 32     // suites within each other
	messageMost = 2 << 10
)

// Result is a test that passed or failed. Skipped ones are none.
type Result struct {
	At      time.Time
	Name    string
	Suite   string
	Success bool
	Took    time.Duration
	Message string
}

// Figure is a number.
type Figure struct {
	At         time.Time
	Name       string
	Value      float64
	Properties map[string]string
}

// Note is something that happened.
type Note struct {
	At   time.Time
	Text string
}

// Report is what a pipeline brought.
type Report struct {
	Results []Result
	Figures []Figure
	Notes   []Note
	Runs    []Run
	Skipped int
}

// Failed is how many tests and load runs failed.
func (r Report) Failed() (n int) {
	for _, one := range r.Results {
		if !one.Success {
			n++
		}
	}
	for _, run := range r.Runs {
		if run.Verdict == VerdictFailed || run.Verdict == VerdictInvalid {
			n++
		}
	}
	return n
}

// Read reads a report. format is junit, json, load, k6 or vegeta; empty: what it looks like. now stands for moments that it does not tell.
func Read(format string, body []byte, now time.Time) (Report, error) {
	if format == "" {
		format = loadFormat(body)
	}
	switch {
	case format == "load", format == "k6", format == "vegeta":
		return readLoad(format, body, now)
	case format == "junit", format == "" && bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		return readJUnit(body, now)
	case format == "json", format == "":
		return readJSON(body, now)
	}
	return Report{}, fmt.Errorf("there is no format %q; there are junit, json, load, k6 and vegeta", format)
}

var errMany = fmt.Errorf("the report has more than %d results", mostResults)

// suite is a testsuite of JUnit, or the testsuites around them.
type suite struct {
	Name      string  `xml:"name,attr"`
	Timestamp string  `xml:"timestamp,attr"`
	Suites    []suite `xml:"testsuite"`
	Cases     []struct {
		Name      string   `xml:"name,attr"`
		Class     string   `xml:"classname,attr"`
		Time      string   `xml:"time,attr"`
		Timestamp string   `xml:"timestamp,attr"`
		Failure   *failure `xml:"failure"`
		Error     *failure `xml:"error"`
		Skipped   *failure `xml:"skipped"`
	} `xml:"testcase"`
}

type failure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func readJUnit(body []byte, now time.Time) (r Report, err error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.Token()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("there is no testsuite in it")
			}
			return r, fmt.Errorf("the report is no JUnit XML: %w", err)
		}
		start, is := t.(xml.StartElement)
		if !is {
			continue
		}
		if start.Name.Local != "testsuites" && start.Name.Local != "testsuite" {
			return r, fmt.Errorf("the report is no JUnit XML: it begins with <%s>, want <testsuites> or <testsuite>", start.Name.Local)
		}
		var s suite
		if err := d.DecodeElement(&s, &start); err != nil {
			return r, fmt.Errorf("the report is no JUnit XML: %w", err)
		}
		return r, r.add(s, "", now, 0)
	}
}

// add takes the tests of a suite and of those within it.
func (r *Report) add(s suite, outer string, at time.Time, depth int) error {
	if depth > mostDepth {
		return fmt.Errorf("more than %d suites stand within each other", mostDepth)
	}
	at = moment(s.Timestamp, at)
	name := s.Name
	if outer != "" && name != "" {
		name = outer + "/" + name
	} else if name == "" {
		name = outer
	}
	for _, c := range s.Cases {
		if c.Skipped != nil {
			r.Skipped++
			continue
		}
		if len(r.Results) == mostResults {
			return errMany
		}
		one := Result{At: moment(c.Timestamp, at), Name: c.Name, Suite: name, Success: true, Took: length(c.Time)}
		if c.Class != "" && c.Class != c.Name {
			one.Name = c.Class + "." + c.Name
		}
		for _, f := range []*failure{c.Failure, c.Error} {
			if f != nil {
				one.Success, one.Message = false, brief(f.Message+"\n"+f.Text)
			}
		}
		r.Results = append(r.Results, one)
	}
	for _, inner := range s.Suites {
		if err := r.add(inner, name, at, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// brief is the beginning of a message.
func brief(s string) string {
	s = strings.TrimSpace(s)
	return s[:min(len(s), messageMost)]
}

// moment reads a timestamp; without a zone it is UTC, as most writers mean it.
func moment(s string, or time.Time) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() >= 1970 && t.Year() < 2262 {
			return t
		}
	}
	return or
}

// length reads seconds, with or without commas between thousands.
func length(s string) time.Duration {
	v, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
	if err != nil || !(v > 0) || v > 1e9 {
		return 0
	}
	return time.Duration(v * float64(time.Second))
}

// entry is one thing in a JSON report.
type entry struct {
	Time       *time.Time        `json:"time"`
	Name       string            `json:"name"`
	Suite      string            `json:"suite"`
	Success    *bool             `json:"success"`
	DurationMS float64           `json:"duration_ms"`
	Message    string            `json:"message"`
	Value      *float64          `json:"value"`
	Event      string            `json:"event"`
	Properties map[string]string `json:"properties"`
}

// readJSON reads entries, as an array or one behind the other: {name, success, duration_ms, message, suite} is a test, {name, value} a
// figure, {event} something that happened; each may have a time.
func readJSON(body []byte, now time.Time) (r Report, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	array := bytes.HasPrefix(bytes.TrimSpace(body), []byte("["))
	if array {
		if _, err := d.Token(); err != nil {
			return r, err
		}
	}
	for n := 1; d.More(); n++ {
		var e entry
		if err := d.Decode(&e); err != nil {
			return r, fmt.Errorf("entry %d of the report is wrong: %w", n, err)
		}
		if n > mostResults {
			return r, errMany
		}
		at := now
		if e.Time != nil {
			at = moment(e.Time.Format(time.RFC3339Nano), now)
		}
		switch {
		case e.Event != "":
			r.Notes = append(r.Notes, Note{at, brief(e.Event)})
		case e.Name == "":
			return r, fmt.Errorf("entry %d of the report has no name", n)
		case e.Success != nil:
			if !(e.DurationMS >= 0 && e.DurationMS < 1e12) {
				return r, fmt.Errorf("entry %d of the report: duration_ms is %v", n, e.DurationMS)
			}
			r.Results = append(r.Results, Result{at, e.Name, e.Suite, *e.Success, time.Duration(e.DurationMS * 1e6), brief(e.Message)})
		case e.Value != nil && !math.IsInf(*e.Value, 0):
			r.Figures = append(r.Figures, Figure{at, e.Name, *e.Value, e.Properties})
		default:
			return r, fmt.Errorf("entry %d of the report, %q, has neither success nor value", n, e.Name)
		}
	}
	if array {
		if _, err := d.Token(); err != nil {
			return r, fmt.Errorf("the report is no whole JSON: %w", err)
		}
	}
	if len(r.Results)+len(r.Figures)+len(r.Notes) == 0 {
		return r, errors.New("there is nothing in the report")
	}
	return r, nil
}
