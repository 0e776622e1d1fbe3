package quota

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// periodOf reads "month sliding first=…".
func periodOf(words []string) *site.Quota {
	q := &site.Quota{Name: "q", By: []string{site.ByCustomer}, Period: words[0], Keys: 1000, Headers: "auto"}
	for _, w := range words[1:] {
		if w == "sliding" {
			q.Sliding = true
		}
		if first, ok := strings.CutPrefix(w, "first="); ok {
			q.First = first
		}
	}
	return q
}

func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestPeriods(t *testing.T) {
	text, err := os.ReadFile("testdata/periods.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		part := strings.Split(line, "|")
		p := newPeriod(periodOf(strings.Fields(part[0])))
		want := strings.Fields(part[2])
		got := p.at(instant(t, part[1]))
		if got.start != instant(t, want[0]).UnixNano() || got.end != instant(t, want[1]).UnixNano() {
			t.Errorf("%s\n  is in %s to %s", line, time.Unix(0, got.start).UTC(), time.Unix(0, got.end).UTC())
		}
		n++
	}
	if n < 30 {
		t.Errorf("only %d lines were found", n)
	}
}

// TestPeriodsTile: whatever the period, every moment lies in exactly one span, and spans follow each other without a gap.
func TestPeriodsTile(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, words := range []string{"hour", "day", "week", "month", "year", "61s", "30d", "week sliding", "91s sliding", "month first=2024-02-29T23:59:59Z", "year first=2023-12-31T01:02:03Z", "month first=2030-08-31T00:00:00Z", "month first=2026-03-01T00:00:00+05:30"} {
		p := newPeriod(periodOf(strings.Fields(words)))
		for range 3000 {
			at := time.Unix(r.Int64N(9e9)-3e9, r.Int64N(1e9))
			s := p.at(at)
			if !s.holds(at.UnixNano()) {
				t.Fatalf("%s: %v is not within %v", words, at, s)
			}
			if next := p.at(time.Unix(0, s.end)); next.start != s.end {
				t.Fatalf("%s: %v is followed by %v", words, s, next)
			}
			if b := p.before(s); b.end != s.start || p.at(time.Unix(0, s.end-1)) != s {
				t.Fatalf("%s: before %v comes %v", words, s, b)
			}
		}
	}
}
