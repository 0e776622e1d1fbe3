package pipeline

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 28, 7, 0, 0, 0, time.UTC)

func TestJUnit(t *testing.T) {
	body, err := os.ReadFile("testdata/newman.xml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Read("", body, now)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, one := range r.Results {
		lines = append(lines, fmt.Sprint(one.At.Format("15:04"), " ", one.Suite, ": ", one.Name, " ", one.Success, " ", one.Took, " ", strings.ReplaceAll(one.Message, "\n", "|")))
	}
	want := []string{
		"06:00 Shop after release/checkout: api.cart is shown true 250ms ",
		"06:00 Shop after release/checkout: api.order is taken false 16m40.5s expected 201|got 503|      at step 2",
		"06:01 Shop after release/checkout/inner: deep false 0s broke",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") || r.Skipped != 1 || r.Failed() != 2 {
		t.Errorf("read was\n%s\nskipped %d", strings.Join(lines, "\n"), r.Skipped)
	}
}

func TestJSON(t *testing.T) {
	for _, text := range []string{
		`[{"name":"home","success":true,"duration_ms":12.5,"suite":"api","time":"2026-11-28T06:00:00Z"},{"name":"build_seconds","value":42,"properties":{"branch":"main"}},{"event":"deployed v42"}]`,
		`{"name":"home","success":true,"duration_ms":12.5,"suite":"api","time":"2026-11-28T06:00:00Z"}
{"name":"build_seconds","value":42,"properties":{"branch":"main"}} {"event":"deployed v42"}`,
	} {
		r, err := Read("json", []byte(text), now)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(r), "{[{2026-11-28 06:00:00 +0000 UTC home api true 12.5ms }] [{2026-11-28 07:00:00 +0000 UTC build_seconds 42 map[branch:main]}] [{2026-11-28 07:00:00 +0000 UTC deployed v42}] [] 0}"; got != want {
			t.Errorf("read was %s", got)
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		``: "nothing in the report", `[]`: "nothing in the report", `[{"name":"a"}]`: `entry 1 of the report, "a", has neither success nor value`,
		`[{"success":true}]`: "has no name", `[{"name":"a","value":1},{"nam":"b"}]`: `entry 2 of the report is wrong: json: unknown field "nam"`,
		`[{"name":"a","value":1}`: "no whole JSON", `{"name":"a","success":true,"duration_ms":-1}`: "duration_ms is -1",
		`<html/>`: "begins with <html>", `<testsuite`: "no JUnit XML", `<?xml version="1.0"?>`: "no testsuite",
		"<testsuite>" + strings.Repeat("<testsuite>", 100) + strings.Repeat("</testsuite>", 101): "within each other",
		"<testsuite>" + strings.Repeat(`<testcase name="a"/>`, mostResults+1) + "</testsuite>":   "more than 20000 results",
	} {
		if _, err := Read("", []byte(text), now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", text, err, want)
		}
	}
	if _, err := Read("yaml", nil, now); err == nil {
		t.Error("yaml is taken")
	}
}

// FuzzRead: no report breaks the reader, and what it takes has sane moments.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`<testsuites><testsuite name="a" timestamp="2026-11-28T06:00:00"><testcase name="b" time="1.5"/></testsuite></testsuites>`))
	f.Add([]byte(`[{"name":"home","success":true,"duration_ms":12.5},{"name":"n","value":1e300},{"event":"x"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := Read("", body, now)
		if err != nil {
			return
		}
		for _, one := range r.Results {
			if one.At.Year() < 1970 || one.At.Year() > 2262 || one.Took < 0 {
				t.Errorf("%+v", one)
			}
		}
	})
}
