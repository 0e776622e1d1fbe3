package pipeline

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestLoadRuns reads what load generators write, each found out by its form.
func TestLoadRuns(t *testing.T) {
	now := time.Date(2026, 3, 15, 15, 0, 0, 0, time.UTC)
	file := func(name string) string {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	began := time.Date(2026, 3, 15, 14, 30, 0, 0, time.UTC)
	const own = `{"verdict":"held","target":"http://shop/","shape":"500/s","time":"2026-03-15T14:30:00Z","seconds":30,"sent":15000,"not_sent":3,"ok":14000,"refused":900,"failed":100,"goodput":466.6,
		"latency_ms":{"p50":3,"p90":7,"p99":20,"p999":40,"max":80},"service_ms":{"p50":2},"lag_ms":0.3,"thresholds":[]}`
	for text, want := range map[string]Run{
		own: {At: began, Took: 30 * time.Second, Tool: "load", Target: "http://shop/", Shape: "500/s", Verdict: VerdictHeld, Sent: 15000, NotSent: 3, OK: 14000, Refused: 900, Failed: 100, Goodput: 466.6,
			P50: 3, P90: 7, P99: 20, Max: 80, Lag: .3},
		file("vegeta.json"): {At: began, Took: 30 * time.Second, Tool: "vegeta", Shape: "100/s", Sent: 3000, OK: 2895, Refused: 90, Failed: 15, Goodput: 96.5,
			P50: 10.234567, P90: 19.876543, P99: 38.901234, Max: 98.765432},
		file("k6.json"): {At: now.Add(-30 * time.Second), Took: 30 * time.Second, Tool: "k6", Shape: "500/s", Verdict: VerdictFailed, Sent: 15000, NotSent: 12, OK: 14970, Failed: 30, Goodput: 499,
			P50: 11, P90: 19.5, Max: 230},
		`{"metrics":{"http_reqs":{"type":"counter","values":{"count":10,"rate":1}},"http_req_duration":{"values":{"med":4,"p(99)":9},"thresholds":{"p(99)<10":{"ok":true}}}}}`: {
			At: now.Add(-10 * time.Second), Took: 10 * time.Second, Tool: "k6", Shape: "1/s", Verdict: VerdictHeld, Sent: 10, OK: 10, Goodput: 1, P50: 4, P99: 9},
		`{"sent":1,"ok":1,"latency_ms":{},"time":"2036-01-01T00:00:00Z"}`: {At: now, Tool: "load", Sent: 1, OK: 1},
	} {
		r, err := Read("", []byte(text), now)
		if err != nil || len(r.Runs) != 1 || r.Runs[0] != want {
			t.Errorf("%.60s is %+v, %v, want %+v", text, r.Runs, err, want)
		}
		if failed := r.Failed(); failed > 0 != (want.Verdict == VerdictFailed) {
			t.Errorf("%.60s: %d failed", text, failed)
		}
	}
	for text, want := range map[string]string{
		`load {"sent":1,"ok":1,"latency_ms":{},"verdict":"good"}`: `the verdict is "good"; there are held, failed and invalid`,
		`load {"sent":-1}`:                              "sent is number -1; write a whole number from 0 on",
		`load {"goodput":-1}`:                           "it has a figure of -1",
		`k6 {"metrics":{}}`:                             "it has no http_reqs",
		`k6 {"metrics":{"x":{"thresholds":{"a":"b"}}}}`: "metrics is string; write an object",
		`vegeta {"earliest":"yesterday"}`:               "the report is no result of vegeta",
		`wrk {}`:                                        "there is no format",
	} {
		format, body, _ := strings.Cut(text, " ")
		if r, err := Read(format, []byte(body), now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is %+v, %v, want %q", text, r, err, want)
		}
	}
}
