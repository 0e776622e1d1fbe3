package dashboard_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/dashboard"
)

// plain is an expression of a dashboard with Grafana's choices made.
func plain(expr string) string {
	return regexp.MustCompile(`\$\w+`).ReplaceAllStringFunc(expr, func(v string) string {
		if v == "$__rate_interval" {
			return "1m"
		}
		return ".*"
	})
}

// metrics are the names of metrics in an expression, as docs/metrics.md has them.
func metrics(t *testing.T, expr string) (out []string) {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if v, is := n.(*parser.VectorSelector); is {
			out = append(out, strings.TrimSuffix(v.Name, "_bucket"))
		}
		return nil
	})
	return out
}

// documented are the metrics of docs/metrics.md.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cells[1], -1) {
				out[name[1]] = true
			}
		}
	}
	return out
}

// TestMetricsAreShown: every metric that a dashboard or rule asks for is one that evenkeel shows.
func TestMetricsAreShown(t *testing.T) {
	shown := documented(t)
	if len(shown) < 100 {
		t.Fatalf("only %d metrics were found in docs/metrics.md", len(shown))
	}
	check := func(where, expr string) {
		for _, name := range metrics(t, expr) {
			if !shown[name] && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "go_") {
				t.Errorf("%s: %s is not in docs/metrics.md", where, name)
			}
		}
	}
	n := 0
	for _, b := range dashboard.Boards(nil) {
		for _, expr := range b.Exprs() {
			check(b.Name, plain(expr))
			n++
		}
	}
	for _, r := range alert.Shipped() {
		expr, _ := dashboard.Cause(dashboard.Alert{Name: r.Name, Threshold: r.Threshold})
		check(r.Name, expr)
	}
	if n < 60 {
		t.Errorf("only %d expressions were found", n)
	}
}

// TestCausesAreOfShippedAlerts: an alert that is not shipped any more has no cause left behind.
func TestCausesAreOfShippedAlerts(t *testing.T) {
	text := string(dashboard.Rules(nil))
	if strings.Count(text, "- alert:") != 1 {
		t.Fatalf("rules of no alerts are\n%s", text)
	}
	known := 0
	for _, r := range alert.Shipped() {
		if _, is := dashboard.Cause(dashboard.Alert{Name: r.Name}); is {
			known++
		}
	}
	if known != dashboard.Known() {
		t.Errorf("%d causes are of shipped alerts, there are %d", known, dashboard.Known())
	}
	if got := dashboard.RuleName("many-503"); got != "EvenkeelMany503" {
		t.Errorf("many-503 becomes %s", got)
	}
}

// TestBoardsAreWhole: panels do not overlap, ids differ, every variable is asked for.
func TestBoardsAreWhole(t *testing.T) {
	for _, b := range dashboard.Boards([]float64{1, 6, 14.4}) {
		text, err := b.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			UID    string
			Panels []struct {
				ID      int
				Type    string
				GridPos struct{ H, W, X, Y int }
				Targets []struct{ Expr, RefID string }
			}
			Templating struct{ List []struct{ Name string } }
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		ids, taken := map[int]bool{}, map[[2]int]bool{}
		for _, p := range got.Panels {
			if ids[p.ID] {
				t.Errorf("%s: id %d is there twice", b.Name, p.ID)
			}
			ids[p.ID] = true
			for y := range p.GridPos.H {
				for x := range p.GridPos.W {
					at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					if taken[at] || at[0] >= 24 {
						t.Fatalf("%s: panel %d overlaps or is too wide at %v", b.Name, p.ID, at)
					}
					taken[at] = true
				}
			}
		}
		for _, v := range got.Templating.List[1:] {
			if !strings.Contains(string(text), "$"+v.Name) {
				t.Errorf("%s: nothing asks for %s", b.Name, v.Name)
			}
		}
	}
}
