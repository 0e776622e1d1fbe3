package cost

import (
	"os"
	"strings"
	"testing"
)

func TestLoadToolsAreRead(t *testing.T) {
	for _, k := range []struct {
		file   string
		read   func(string) (burst, error)
		edit   [2]string // replaced in the file before
		want   burst
		detail string
	}{
		{"wrk.txt", readWrk, [2]string{}, burst{Count: 102543, Seconds: 1}, ""},
		{"wrk.txt", readWrk, [2]string{"1.00s", "950.00ms"}, burst{Count: 102543, Seconds: 0.95}, ""},
		{"wrk-errors.txt", readWrk, [2]string{}, burst{Count: 147467, Seconds: 1.1, Errors: 147467}, "Non-2xx or 3xx responses: 147467"},
		{"wrk.txt", readWrk, [2]string{"Requests/sec", "  Socket errors: connect 1, read 2, write 3, timeout 4\nRequests/sec"}, burst{Count: 102543, Seconds: 1, Errors: 10}, "Socket errors"},
		{"wrk-errors.txt", readRefusals, [2]string{}, burst{Count: 147467, Seconds: 1.1}, ""},
		{"wrk-errors.txt", readRefusals, [2]string{"responses: 147467", "responses: 147460"}, burst{Count: 147467, Seconds: 1.1, Errors: 7}, "147460 were refused"},
		{"wrk.txt", readRefusals, [2]string{}, burst{Count: 102543, Seconds: 1, Errors: 102543}, "0 were refused"},
		{"h2load.txt", readH2load, [2]string{}, burst{Count: 131631, Seconds: 1}, ""},
		{"h2load.txt", readH2load, [2]string{"0 failed, 0 errored, 0 timeout", "1 failed, 2 errored, 3 timeout"}, burst{Count: 131631, Seconds: 1, Errors: 6}, "2 errored"},
		{"h2load.txt", readH2load, [2]string{"0 4xx, 0 5xx", "5 4xx, 7 5xx"}, burst{Count: 131631, Seconds: 1, Errors: 12}, "7 5xx"},
	} {
		b, err := os.ReadFile("testdata/" + k.file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if k.edit[0] != "" {
			if !strings.Contains(text, k.edit[0]) {
				t.Fatalf("%s has no %q", k.file, k.edit[0])
			}
			text = strings.Replace(text, k.edit[0], k.edit[1], 1)
		}
		got, err := k.read(text)
		if err != nil || got.Count != k.want.Count || got.Errors != k.want.Errors || abs(got.Seconds-k.want.Seconds) > 1e-9 || !strings.Contains(got.Detail, k.detail) {
			t.Errorf("%s with %q: %+v, %v; want %+v with %q", k.file, k.edit[1], got, err, k.want, k.detail)
		}
	}
	for _, read := range []func(string) (burst, error){readWrk, readH2load} {
		if b, err := read("unable to connect to 127.0.0.1:7 Connection refused\n"); err == nil {
			t.Errorf("no total is read as %+v", b)
		}
	}
}

func abs(f float64) float64 { return max(f, -f) }

func TestSpan(t *testing.T) {
	for _, k := range []struct {
		values []float64
		want   span
	}{
		{nil, span{}},
		{[]float64{3}, span{3, 3, 3}},
		{[]float64{9, 1, 4}, span{4, 1, 9}},
		{[]float64{8, 2, 6, 4}, span{5, 2, 8}},
	} {
		if got := spanOf(k.values); got != k.want {
			t.Errorf("%v: %v, want %v", k.values, got, k.want)
		}
	}
}

// A ratio is taken inside a round: that a machine became slower half-way must not show.
func TestRatiosAreTakenInsideARound(t *testing.T) {
	made := func(costs ...float64) (list []sample) {
		for _, c := range costs {
			list = append(list, sample{Cost: c})
		}
		return list
	}
	k := &table{Case: "h1-100B-64", Rows: []*row{
		{Proxy: evenkeel, Rounds: made(8, 16, 80)},
		{Proxy: "haproxy", Rounds: made(10, 20, 100)},
		{Proxy: "nginx", Rounds: made(5, 5), Invalid: "it ended"},
	}}
	k.sum("haproxy")
	if got, want := k.row(evenkeel).Ratio, (span{0.8, 0.8, 0.8}); got != want {
		t.Errorf("ratio %v, want %v", got, want)
	}
	if got := k.row("nginx").Ratio; got != (span{}) {
		t.Errorf("an invalid row has the ratio %v", got)
	}
	if got := ratios([]float64{1, 2, 3}, []float64{2, 0}); len(got) != 1 || got[0] != 0.5 {
		t.Errorf("ratios with a zero and a round missing: %v", got)
	}
}

func TestBounds(t *testing.T) {
	r := func() *report {
		return &report{Cases: []*table{
			{Case: "h1-100B-64", Rows: []*row{{Proxy: evenkeel, Ratio: span{Median: 0.85}, Cost: span{Median: 17}, Rate: span{Median: 50000}}}},
			{Case: "l4-bulk", Rows: []*row{{Proxy: evenkeel}}},
		}}
	}
	for _, k := range []struct {
		text, verdict string
		code          int
	}{
		{"h1-100B-64<=0.90", "held", held},
		{"h1-100B-64:ratio<=0.8", "NOT HELD", notHeld},
		{"h1-100B-64:cost<=17", "held", held},
		{"h1-100B-64:rate>=60000", "NOT HELD", notHeld},
		{"l4-bulk<=0.5", "INVALID", silent},
		{"idle-10k:cost<=6144", "INVALID", silent},
	} {
		b, err := readBound(k.text)
		if err != nil {
			t.Errorf("%s: %v", k.text, err)
			continue
		}
		report := r()
		if code := report.judge([]bound{b}); code != k.code || report.Bounds[0].Verdict != k.verdict {
			t.Errorf("%s: exit code %d, %+v; want %d, %s", k.text, code, report.Bounds[0], k.code, k.verdict)
		}
	}
	invalid := r()
	invalid.Cases[0].Rows[0].Invalid = "12 errors"
	if code := invalid.judge(nil); code != silent {
		t.Errorf("a case with errors gives exit code %d, want %d", code, silent)
	}
	for _, text := range []string{"", "h1-100B-64", "h1-100B-64<0.9", "none<=1", "h1-100B-64:pss<=1", "h1-100B-64<=-1", "h1-100B-64<=x"} {
		if b, err := readBound(text); err == nil {
			t.Errorf("%q is read as %+v", text, b)
		}
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{"--cases", "none"}, {"--rounds", "2"}, {"--seconds", "0"}, {"--rivals", "apache"}, {"h1-100B-64"}, {"--expect", "x"}, {"--no"}} {
		if p, err := readPlan(args); err == nil {
			t.Errorf("%v is read as %+v", args, p)
		}
	}
}
