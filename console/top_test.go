package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
)

// still is the model with one view, without colour.
func still(t *testing.T, admin string) top {
	return newTop(t.Context(), NewClient(admin, ""), time.Second, lipgloss.NewRenderer(io.Discard)).take(viewed{view: stillView()})
}

// press sends keys, each a word, and returns what came of it.
func press(t *testing.T, m top, keys ...string) (top, tea.Cmd) {
	t.Helper()
	special := map[string]tea.KeyType{"up": tea.KeyUp, "down": tea.KeyDown, "tab": tea.KeyTab, "shift+tab": tea.KeyShiftTab, "enter": tea.KeyEnter, "esc": tea.KeyEsc, "backspace": tea.KeyBackspace, "ctrl+c": tea.KeyCtrlC}
	var cmd tea.Cmd
	for _, k := range keys {
		msg := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
		if kind, ok := special[k]; ok {
			msg = tea.KeyMsg{Type: kind}
		}
		var next tea.Model
		next, cmd = m.Update(msg)
		m = next.(top)
	}
	return m, cmd
}

func TestTopSelects(t *testing.T) {
	for _, c := range []struct {
		keys string
		want place
	}{
		{"", place{"shop", "10.0.1.1:8000"}},
		{"up", place{"shop", "10.0.1.1:8000"}},
		{"down down", place{"shop", "10.0.1.3:8000"}},
		{"jjj", place{"shop", "10.0.1.4:8000"}},
		{"down down down down down", place{"mail", "10.0.2.1:9000"}},
		{"tab", place{"mail", "10.0.2.1:9000"}},
		{"tab tab", place{"shop", "10.0.1.1:8000"}},
		{"shift+tab down", place{"mail", "10.0.2.2:9000"}},
		{"tab down down down down", place{"mail", "10.0.2.3:9000"}},
		{"/ mail enter", place{"mail", "10.0.2.1:9000"}},
		{"/mail enter", place{"mail", "10.0.2.1:9000"}},
		{"/ sick enter", place{"shop", "10.0.1.4:8000"}},
		{"/ mailx backspace enter down", place{"mail", "10.0.2.2:9000"}},
		{"s", place{"shop", "10.0.1.1:8000"}},
		{"s up up up", place{"shop", "10.0.1.3:8000"}},             // by rate: the heaviest is first
		{"s s s up up up up up", place{"shop", "10.0.1.5:8000"}},   // by failures
		{"s s s s up up up up up", place{"shop", "10.0.1.4:8000"}}, // by state
	} {
		m, _ := press(t, still(t, "127.0.0.1:1"), strings.Fields(c.keys)...)
		if m.at != c.want {
			t.Errorf("%q selects %v, want %v", c.keys, m.at, c.want)
		}
	}
}

func TestTopAsksBeforeItChanges(t *testing.T) {
	rig := newRig()
	s := serveReal(t, New(rig.deps))
	m := still(t, s.URL)
	m, cmd := press(t, m, "down", "d")
	if cmd != nil || m.question == nil || !strings.Contains(m.View(), "drain 10.0.1.2:8000 in pool shop?") {
		t.Fatalf("d must ask first: %v", m.question)
	}
	if no, cmd := press(t, m, "n"); cmd != nil || no.question != nil || !strings.Contains(no.View(), "nothing was changed") {
		t.Error("n must change nothing")
	}
	m, cmd = press(t, m, "y")
	if cmd == nil {
		t.Fatal("y must ask the node")
	}
	next, _ := m.Update(cmd())
	if got := rig.node.admin["shop/10.0.1.2:8000"]; got != AdminDrain {
		t.Errorf("the node was told %q", got)
	}
	if m = next.(top); !strings.Contains(m.View(), "10.0.1.2:8000 in pool shop is set to drain") {
		t.Error("what was done is not shown")
	}
	m, cmd = press(t, m, "tab", "down", "down", "x", "y")
	next, _ = m.Update(cmd())
	if !strings.Contains(next.View(), "would be left without an endpoint") {
		t.Error("the node's refusal is not shown")
	}
}

func TestTopQuits(t *testing.T) {
	for _, keys := range [][]string{{"q"}, {"ctrl+c"}, {"d", "ctrl+c"}, {"/", "ctrl+c"}, {"?", "x", "q"}} {
		_, cmd := press(t, still(t, "127.0.0.1:1"), keys...)
		if cmd == nil {
			t.Fatalf("%v: nothing happens", keys)
		}
		if _, quit := cmd().(tea.QuitMsg); !quit {
			t.Errorf("%v does not quit", keys)
		}
	}
	if _, cmd := press(t, still(t, "127.0.0.1:1"), "/", "q"); cmd != nil {
		t.Error("q typed into the filter quits")
	}
}

func TestTopScreens(t *testing.T) {
	m := still(t, "127.0.0.1:1")
	for name, size := range map[string][2]int{"top-110x35.txt": {110, 35}, "top-72x20.txt": {72, 20}} {
		next, _ := m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		golden(t, name, next.View()+"\n")
	}
	// Wide enough for curves of endpoints: the last twelve of twenty rates.
	curved := m
	for i := range 20 {
		v := stillView()
		for k := range v.Pools[0].Endpoints {
			v.Pools[0].Endpoints[k].RPS *= float64((i+3*k)%12) / 11
		}
		curved = curved.take(viewed{view: v})
	}
	next, _ := curved.Update(tea.WindowSizeMsg{Width: 124, Height: 24})
	golden(t, "top-124x24.txt", next.View()+"\n")
	m, _ = press(t, m, "?")
	if !strings.Contains(m.View(), "requests to it failed") {
		t.Error("the help does not explain the states")
	}
}

// TestTopFits goes through sizes down to nothing: the screen must never be larger than the terminal.
func TestTopFits(t *testing.T) {
	m := still(t, "127.0.0.1:1")
	m.err = errors.New("no evenkeel answers at 127.0.0.1:1: connection refused")
	for w := 1; w < 130; w += 3 {
		for h := 1; h < 45; h += 2 {
			next, _ := m.Update(tea.WindowSizeMsg{Width: w, Height: h})
			lines := strings.Split(next.View(), "\n")
			if len(lines) > max(h, 2) {
				t.Fatalf("%d×%d: %d lines", w, h, len(lines))
			}
			for _, l := range lines {
				if n := utf8.RuneCountInString(l); n > w {
					t.Fatalf("%d×%d: a line has %d cells: %q", w, h, n, l)
				}
			}
		}
	}
}

func TestTopKeepsGoingWhenTheNodeIsAway(t *testing.T) {
	m := still(t, "127.0.0.1:1")
	next, cmd := m.Update(viewed{err: errors.New("no evenkeel answers")})
	if cmd == nil {
		t.Error("it does not ask again")
	}
	if s := next.View(); !strings.Contains(s, "no evenkeel answers; the figures are from 12:00:00") || !strings.Contains(s, "10.0.1.1:8000") {
		t.Errorf("the last figures and the trouble should both show:\n%s", s)
	}
}

func TestTopWithoutTerminal(t *testing.T) {
	s := serveReal(t, New(newRig().deps))
	var b bytes.Buffer
	if err := Top(t.Context(), TopOptions{Admin: s.URL, Out: &b, Once: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "shop: ready\n") || strings.Contains(b.String(), "\x1b") {
		t.Errorf("once: %q", b.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	w := &countingWriter{after: 2, then: cancel}
	if err := Top(ctx, TopOptions{Admin: s.URL, Out: w, Every: time.Nanosecond}); err != nil || w.heads != 2 {
		t.Errorf("%d texts, error %v", w.heads, err)
	}
}

// countingWriter counts status texts.
type countingWriter struct {
	heads, after int
	then         func()
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.heads += strings.Count(string(p), "shop: ready"); w.heads >= w.after {
		w.then()
	}
	return len(p), nil
}

func TestTopOnATerminal(t *testing.T) {
	s := serveReal(t, New(newRig().deps))
	in, keys := io.Pipe()
	var b bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- Top(t.Context(), TopOptions{Admin: s.URL, In: in, Out: &b, Terminal: true, Every: 200 * time.Millisecond})
	}()
	if _, err := keys.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("q does not end it")
	}
	keys.Close()
}

func TestClientSaysWhatIsWrong(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	stranger := serveReal(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>hello")) })).URL
	elsewhere := serveReal(t, http.RedirectHandler("http://"+gone, http.StatusFound)).URL
	rig := newRig()
	rig.deps.Token = secret
	rig.deps.Reload = func() error { return errors.New("site.yaml:3:5: unknown key") }
	locked := serveReal(t, New(rig.deps)).URL
	for _, c := range []struct {
		admin, token, path, want string
	}{
		{gone, "", "", "no evenkeel answers at " + gone + ": connection refused"},
		{stranger, "", "", "does not speak like evenkeel"},
		{elsewhere, secret, "", "status 302 Found"},
		{locked, "", "", "(token_required, " + locked + ")"},
		{locked, secret, "/api/v1/reload", "site.yaml:3:5: unknown key (site_refused, "},
		{"127.0.0.1:7600/%zz", "", "", "want host:port or a URL"},
	} {
		client := NewClient(c.admin, c.token)
		var err error
		if c.path == "" {
			_, err = client.Status(t.Context())
		} else {
			err = client.Post(t.Context(), c.path)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.admin, err, c.want)
		}
	}
	if v, err := NewClient(locked+"/", secret).Status(t.Context()); err != nil || v.Node.Name != "shop" {
		t.Errorf("with the token: %v", err)
	}
	var refused *RefusedError
	if err := NewClient(locked, "").Post(t.Context(), "/api/v1/drain"); !errors.As(err, &refused) || refused.Problem.Status != 401 {
		t.Errorf("the reason cannot be told apart: %v", err)
	}
}
