package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Run is what a load generator found.
type Run struct {
	At      time.Time // when it began
	Took    time.Duration
	Tool    string // whose format it came in
	Target  string // what was asked; empty: it does not say
	Shape   string // how much came when, in words
	Verdict string // one of verdicts, or empty: there was nothing to hold
	Sent    uint64
	NotSent uint64 // that were due and could not be sent
	OK      uint64
	Refused uint64 // 429 and 503
	Failed  uint64
	Goodput float64 // OK a second
	// Times of answers in milliseconds, and by how much the generator itself was late; 0: it does not say.
	P50, P90, P99, Max, Lag float64
}

// Verdicts of runs: what was demanded holds, does not, or the run says nothing.
const (
	VerdictHeld    = "held"
	VerdictFailed  = "failed"
	VerdictInvalid = "invalid"
)

// loadFormat is the format of a single object that a load generator wrote; empty: it is none.
func loadFormat(body []byte) string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(body, &keys) != nil {
		return ""
	}
	has := func(list ...string) bool {
		return !slices.ContainsFunc(list, func(k string) bool { return keys[k] == nil })
	}
	switch {
	case has("sent", "ok", "latency_ms"):
		return "load"
	case has("latencies", "status_codes"):
		return "vegeta"
	case has("metrics") && !has("name"):
		return "k6"
	}
	return ""
}

// readLoad reads the result of a load run.
func readLoad(format string, body []byte, now time.Time) (r Report, err error) {
	var run Run
	switch format {
	case "load":
		run, err = readOwn(body, now)
	case "vegeta":
		run, err = readVegeta(body)
	case "k6":
		run, err = readK6(body, now)
	}
	if err != nil {
		return r, fmt.Errorf("the report is no result of %s: %w", format, plain(err))
	}
	run.Tool = format
	for _, v := range []float64{run.Goodput, run.P50, run.P90, run.P99, run.Max, run.Lag, run.Took.Seconds()} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return r, fmt.Errorf("the report is no result of %s: it has a figure of %v", format, v)
		}
	}
	run.Target, run.Shape = brief(run.Target), brief(run.Shape)
	if run.At = moment(run.At.Format(time.RFC3339Nano), now); run.At.After(now) { // its clock is ahead
		run.At = now
	}
	return Report{Runs: []Run{run}}, nil
}

// readOwn reads evenkeel's own form.
func readOwn(body []byte, now time.Time) (run Run, err error) {
	var in struct {
		Time    *time.Time                           `json:"time"`
		Seconds float64                              `json:"seconds"`
		Target  string                               `json:"target"`
		Shape   string                               `json:"shape"`
		Verdict string                               `json:"verdict"`
		Sent    uint64                               `json:"sent"`
		NotSent uint64                               `json:"not_sent"`
		OK      uint64                               `json:"ok"`
		Refused uint64                               `json:"refused"`
		Failed  uint64                               `json:"failed"`
		Goodput float64                              `json:"goodput"`
		Latency struct{ P50, P90, P99, Max float64 } `json:"latency_ms"`
		Lag     float64                              `json:"lag_ms"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return run, err
	}
	if !slices.Contains([]string{"", VerdictHeld, VerdictFailed, VerdictInvalid}, in.Verdict) {
		return run, fmt.Errorf("the verdict is %q; there are held, failed and invalid", brief(in.Verdict))
	}
	took := length(fmt.Sprint(in.Seconds))
	at := now.Add(-took)
	if in.Time != nil {
		at = *in.Time
	}
	return Run{At: at, Took: took, Target: in.Target, Shape: in.Shape, Verdict: in.Verdict, Sent: in.Sent, NotSent: in.NotSent, OK: in.OK, Refused: in.Refused, Failed: in.Failed,
		Goodput: in.Goodput, P50: in.Latency.P50, P90: in.Latency.P90, P99: in.Latency.P99, Max: in.Latency.Max, Lag: in.Lag}, nil
}

// plain says of a value of the wrong kind where it is and what is allowed, in words of JSON and not of Go.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	allowed := "an object" // nothing else is read
	switch wrong.Type.Kind() {
	case reflect.Uint64:
		allowed = "a whole number from 0 on"
	case reflect.Float64:
		allowed = "a number"
	case reflect.String:
		allowed = "a string"
	case reflect.Bool:
		allowed = "true or false"
	}
	return fmt.Errorf("%s is %s; write %s", wrong.Field, wrong.Value, allowed)
}

// readVegeta reads what `vegeta report -type=json` writes. It judges nothing.
func readVegeta(body []byte) (run Run, err error) {
	var in struct {
		Earliest   time.Time         `json:"earliest"`
		End        time.Time         `json:"end"`
		Requests   uint64            `json:"requests"`
		Rate       float64           `json:"rate"`
		Throughput float64           `json:"throughput"`
		Codes      map[string]uint64 `json:"status_codes"`
		Latencies  struct {
			P50 float64 `json:"50th"`
			P90 float64 `json:"90th"`
			P99 float64 `json:"99th"`
			Max float64 `json:"max"`
		} `json:"latencies"` // in nanoseconds
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return run, err
	}
	run = Run{At: in.Earliest, Took: max(in.End.Sub(in.Earliest), 0), Shape: fmt.Sprintf("%.4g/s", in.Rate), Sent: in.Requests, Goodput: in.Throughput,
		P50: in.Latencies.P50 / 1e6, P90: in.Latencies.P90 / 1e6, P99: in.Latencies.P99 / 1e6, Max: in.Latencies.Max / 1e6}
	for code, n := range in.Codes {
		switch {
		case code == "429" || code == "503":
			run.Refused += n
		case strings.HasPrefix(code, "2") || strings.HasPrefix(code, "3"):
			run.OK += n
		default: // 0 stands for no answer
			run.Failed += n
		}
	}
	return run, nil
}

// k6Metric is a metric of a summary of k6. With --summary-export figures stand beside its thresholds, which are true when they were crossed;
// handleSummary puts them into values, and says of thresholds whether they are ok.
type k6Metric struct {
	figures map[string]json.RawMessage
	judged  bool
	crossed bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *k6Metric) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &m.figures); err != nil {
		return err
	}
	var thresholds map[string]json.RawMessage
	if raw := m.figures["thresholds"]; raw != nil {
		if err := json.Unmarshal(raw, &thresholds); err != nil {
			return err
		}
	}
	for _, raw := range thresholds {
		var crossed bool
		var told struct{ OK bool }
		if json.Unmarshal(raw, &crossed) != nil {
			if err := json.Unmarshal(raw, &told); err != nil {
				return err
			}
			crossed = !told.OK
		}
		m.judged, m.crossed = true, m.crossed || crossed
	}
	if raw := m.figures["values"]; raw != nil {
		m.figures = nil
		return json.Unmarshal(raw, &m.figures)
	}
	return nil
}

// of is a figure; 0: there is none of that name.
func (m k6Metric) of(name string) (v float64) {
	_ = json.Unmarshal(m.figures[name], &v) // what is no number is no figure
	return v
}

// readK6 reads a summary of k6. It has no time of its own: the run is said to have ended now.
func readK6(body []byte, now time.Time) (run Run, err error) {
	var in struct {
		Metrics map[string]k6Metric `json:"metrics"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return run, err
	}
	requests, times := in.Metrics["http_reqs"], in.Metrics["http_req_duration"]
	sent, rate := requests.of("count"), requests.of("rate")
	if !(sent > 0 && rate > 0) || sent > 1e15 {
		return run, errors.New("it has no http_reqs")
	}
	failed := min(max(in.Metrics["http_req_failed"].of("passes"), 0), sent) // passes are those of which it is true that they failed
	run = Run{Took: length(fmt.Sprint(sent / rate)), Shape: fmt.Sprintf("%.4g/s", rate), Sent: uint64(sent), OK: uint64(sent - failed), Failed: uint64(failed),
		NotSent: uint64(min(max(in.Metrics["dropped_iterations"].of("count"), 0), 1e15)), Goodput: (sent - failed) / sent * rate,
		P50: times.of("med"), P90: times.of("p(90)"), P99: times.of("p(99)"), Max: times.of("max")}
	run.At = now.Add(-run.Took)
	for _, m := range in.Metrics {
		switch {
		case m.crossed:
			run.Verdict = VerdictFailed
		case m.judged && run.Verdict == "":
			run.Verdict = VerdictHeld
		}
	}
	return run, nil
}
