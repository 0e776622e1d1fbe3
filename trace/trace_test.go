package trace_test

import (
	"math"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/trace"
)

const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestParse(t *testing.T) {
	for _, one := range []struct {
		value string
		ok    bool
		says  string // what is sent on; empty: the same
	}{
		{good, true, ""},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true, ""},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", true, ""},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", true, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"},
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings", true, good},
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true, good},
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", false, ""},
		{good + "-more", false, ""},
		{"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false, ""},
		{"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false, ""},
		{"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false, ""},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false, ""},
		{"00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01x", false, ""},
		{"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false, ""},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", false, ""},
		{"", false, ""},
	} {
		c, ok := trace.Parse([]byte(one.value))
		if ok != one.ok || ok != c.Valid() {
			t.Errorf("%q: %v, want %v", one.value, ok, one.ok)
			continue
		}
		want := one.says
		if want == "" {
			want = one.value
		}
		if got := string(c.Append(nil)); ok && got != want {
			t.Errorf("%q is sent on as %q, want %q", one.value, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"))
	f.Fuzz(func(t *testing.T, v []byte) {
		c, ok := trace.Parse(v)
		if !ok {
			return
		}
		again, ok := trace.Parse(c.Append(nil))
		if !ok || again != c {
			t.Fatalf("%q is sent on as %q, which is read as %v, %v", v, c.Append(nil), again, ok)
		}
	})
}

func TestNew(t *testing.T) {
	seen := map[[16]byte]bool{}
	for range 1000 {
		c := trace.New()
		if !c.Valid() || c.Sampled() || seen[c.ID] {
			t.Fatalf("%s: new places are valid, not sampled, and differ", c.Append(nil))
		}
		seen[c.ID] = true
	}
}

func TestSample(t *testing.T) {
	asked, _ := trace.Parse([]byte(good))
	not, _ := trace.Parse([]byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"))
	now := func() int64 { return 0 }
	for _, one := range []struct {
		name            string
		rules           trace.Rules
		parent          trace.Context
		begins, trusted bool
		want            bool
	}{
		{"all that begin", trace.Rules{Share: 1}, trace.New(), true, false, true},
		{"none that begin", trace.Rules{Share: 0}, trace.New(), true, false, false},
		{"the sender says so", trace.Rules{Share: 0, Parents: trace.ParentsAll}, asked, false, false, true},
		{"the sender says no", trace.Rules{Share: 1, Parents: trace.ParentsAll}, not, false, false, false},
		{"a stranger's word does not count", trace.Rules{Share: 0, Parents: trace.ParentsTrusted}, asked, false, false, false},
		{"a stranger's no does not count", trace.Rules{Share: 1, Parents: trace.ParentsTrusted}, not, false, false, true},
		{"a trusted proxy's does", trace.Rules{Share: 0, Parents: trace.ParentsTrusted}, asked, false, true, true},
		{"nobody's does", trace.Rules{Share: 0, Parents: trace.ParentsNone}, asked, false, true, false},
	} {
		if got := trace.NewSampler(one.rules).Sample(&one.parent, one.begins, one.trusted, now); got != one.want {
			t.Errorf("%s: %v", one.name, got)
		}
	}
}

func TestSampleTakesAShare(t *testing.T) {
	s, n := trace.NewSampler(trace.Rules{Share: 0.1}), 0
	const of = 100_000
	for range of {
		if c := trace.New(); s.Sample(&c, true, false, func() int64 { return 0 }) {
			n++
		}
	}
	// Ten standard deviations.
	if math.Abs(float64(n)-of*0.1) > 10*math.Sqrt(of*0.1*0.9) {
		t.Errorf("%d of %d are recorded, want a tenth", n, of)
	}
}

func TestSampleKeepsTheRate(t *testing.T) {
	s, n := trace.NewSampler(trace.Rules{Share: 1, Rate: 50}), 0
	for ms := range int64(10_000) {
		if c := trace.New(); s.Sample(&c, true, false, func() int64 { return 1e18 + ms*int64(time.Millisecond) }) {
			n++
		}
	}
	if n < 500 || n > 552 || s.Over() != uint64(10_000-n) {
		t.Errorf("%d were recorded in 10 s at 50/s, want 500 and one second's worth at the most besides; %d were over", n, s.Over())
	}
}

func TestSpanKeepsAttempts(t *testing.T) {
	var s trace.Span
	for i := range trace.MaxAttempts + 2 {
		place, a := s.Try("shop", "a:1", i+1)
		if (a == nil) != (i >= trace.MaxAttempts) || a != s.Of(place) {
			t.Fatalf("attempt %d: %v", i+1, a)
		}
	}
	if s.Count != trace.MaxAttempts+2 || s.Of(-1) != nil || s.Of(99) != nil {
		t.Errorf("counts %d", s.Count)
	}
	var one trace.Span
	one.Try("shop", "a:1", 1)
	one.Try("shop", "a:1", 2)
	one.Forget()
	if one.Count != 1 || one.Of(1) != nil || one.Of(0) == nil {
		t.Error("the last was not taken back")
	}
}
