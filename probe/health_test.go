package probe

import (
	"fmt"
	"strings"
	"testing"
)

// TestHealth steps through rows of verdicts, written as + for healthy, - for failed, ? for void. Below each stands
// what follows: u for up, d for down, . for not known, and ! after it where Step reports a change.
func TestHealth(t *testing.T) {
	for _, c := range []struct {
		name       string
		rise, fall int
		verdicts   string
		want       string
	}{
		{"first good decides at once", 5, 3, "+", "u!"},
		{"first bad decides at once", 1, 3, "-", "d!"},
		{"fall counts a row", 1, 3, "+--+---", "u! u u u u u d!"},
		{"rise counts a row", 2, 1, "-+-++", "d! d d d u!"},
		{"rise and fall of one", 1, 1, "+-+-", "u! d! u! d!"},
		{"zero value takes each at its word", 0, 0, "-+-", "d! u! d!"},
		{"void is no verdict", 1, 2, "??+?-?-", ". . u! u u u d!"},
		{"void does not break a row", 2, 2, "-+?+", "d! d d u!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Health{Rise: c.rise, Fall: c.fall}
			var got []string
			for _, r := range c.verdicts {
				changed := h.Step(Verdict{Healthy: r == '+', Void: r == '?'})
				s := "."
				if h.Known() {
					s = map[bool]string{true: "u", false: "d"}[h.Up()]
				}
				if changed {
					s += "!"
				}
				got = append(got, s)
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("%s gives %s, want %s", c.verdicts, g, c.want)
			}
		})
	}
}

func TestHistoryKeepsTheLast(t *testing.T) {
	var h Health
	if len(h.History()) != 0 {
		t.Error("history before the first verdict")
	}
	for i := range 100 {
		h.Step(Verdict{Reason: fmt.Sprint(i)})
		past := h.History()
		if want := min(i+1, historyMax); len(past) != want {
			t.Fatalf("history after %d verdicts has %d, want %d", i+1, len(past), want)
		}
		for j, v := range past {
			if want := fmt.Sprint(i + 1 - len(past) + j); v.Reason != want {
				t.Fatalf("history after %d verdicts has %s at %d, want %s", i+1, v.Reason, j, want)
			}
		}
	}
}
