package limits

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// A run in small plays every limiter, and says what it expects. It judges no time.
func TestInSmall(t *testing.T) {
	p := plan{keys: 2000, rounds: 2, checks: 5000}
	r, err := p.run(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range r.Rows {
		if len(one.NS) != len(measures()) || one.BytesPerKey < 0 {
			t.Errorf("%+v", one)
		}
	}
	if len(r.Rows) != len(rivals) || len(r.Expected) < 3 {
		t.Errorf("%d rows, %d expectations", len(r.Rows), len(r.Expected))
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil || strings.Count(out.String(), "\n") != 1+len(rivals)+len(r.Expected) {
		t.Errorf("%v:\n%s", err, out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.run(ctx, io.Discard); err == nil {
		t.Error("a run that is ended has a result")
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{"x"}, {"--keys", "0"}, {"--rounds", "0"}, {"--nothing"}} {
		if code := Main(t.Context(), args); code != wrongUse {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// What is slower or larger than it may be is said to be so.
func TestExpectations(t *testing.T) {
	r := &report{Keys: 1_000_000}
	for i, one := range rivals {
		values := map[string][]float64{}
		for _, m := range measures() {
			values[m.name] = []float64{float64(10 + 200*i)}
		}
		r.Rows = append(r.Rows, row{Limiter: one.name, BytesPerKey: float64(20 * i), NS: map[string]span{}, rounds: values})
	}
	r.finish(measures())
	text := strings.Join(r.Expected, "\n")
	for _, want := range []string{"NOT HELD: 40.0 bytes per key", "NOT HELD: 400 ns per check", "held: all keys, even: 400 ns, go-limiter takes 800"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said:\n%s", want, text)
		}
	}
	if r.Held {
		t.Error("all is said to hold")
	}
}
