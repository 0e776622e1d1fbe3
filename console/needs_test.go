package console

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestNeeds: status and top show what is left of error budgets, and what fires: not what is pending, over, or a sample.
func TestNeeds(t *testing.T) {
	f := newFakeNode()
	node := httptest.NewServer(New(Deps{View: f.View, Objectives: f.Objectives, Alerts: func() Alerts {
		a := f.Alerts()
		a.Alerts = append(a.Alerts, Alert{Name: "watchdog", Severity: "none", State: "firing"}, Alert{Name: "many-503", Severity: "page", State: "firing", Sample: true})
		return a
	}}))
	defer node.Close()
	n, err := NewClient(node.Listener.Addr().String(), "").Needs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := NeedsText(&b, n); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"\nobjectives\n", "checkout-available", "99.9%", "62.0%", "critical-admitted", "-24.0%", "spent", "\nalerts\n", "burn-page", "objective shop-available, window 14m", "certificate-expiry", "silenced"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for _, not := range []string{"pool-capacity", "reload-failed", "watchdog", "many-503"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is in\n%s", not, text)
		}
	}
	m := still(t, "127.0.0.1:1")
	before := m.View()
	m = m.take(viewed{view: stillView(), needs: n})
	if got := m.View(); !strings.Contains(got, "▲ burn-page (objective shop-available") || !strings.Contains(got, "62.0% of its error budget left") || strings.Count(got, "\n") != strings.Count(before, "\n") {
		t.Errorf("the terminal shows\n%s", got)
	}
	b.Reset()
	if err := NeedsText(&b, Needs{}); err != nil || b.Len() > 0 {
		t.Errorf("a node of which nothing needs a person says %q", b.String())
	}
}

// TestNeedsAreBounded: many objectives and alerts leave room for the endpoints, and the worst are shown.
func TestNeedsAreBounded(t *testing.T) {
	var n Needs
	for i := range 30 {
		n.Objectives = append(n.Objectives, Objective{Name: fmt.Sprint("o", i), Target: .999, Left: 1 - float64(i)/30, State: StateKept})
		n.Firing = append(n.Firing, Alert{Name: fmt.Sprint("a", i), Severity: "page", State: "firing", Text: "x\x1b[31m" + strings.Repeat("y", 300)})
	}
	m := still(t, "127.0.0.1:1").take(viewed{view: stillView(), needs: n})
	lines := m.needLines()
	if len(lines) != 2*(needsShown+1)+1 || !strings.Contains(strings.Join(lines, "\n"), "o29 of") || !strings.Contains(m.View(), "10.0.1.1:8000") {
		t.Errorf("%d lines:\n%s", len(lines), m.View())
	}
	for _, line := range lines {
		if len([]rune(line)) > m.width || strings.Contains(line, "\x1b") {
			t.Errorf("a line is too wide, or steers the terminal: %q", line)
		}
	}
}
