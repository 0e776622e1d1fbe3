package e2e_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// screen is a terminal of tmux in which a program runs.
type screen struct {
	t      *testing.T
	folder string // of tmux' socket
}

// openScreen runs a command in a terminal of 124 × 34.
func openScreen(t *testing.T, command string, env ...string) *screen {
	t.Helper()
	need(t, "tmux")
	folder, err := os.MkdirTemp("", "screen") // a short path, as sockets need
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t, folder}
	t.Cleanup(func() {
		_ = s.tmux("kill-server").Run()
		os.RemoveAll(folder)
	})
	start := s.tmux("-f", "/dev/null", "new-session", "-d", "-x", "124", "-y", "34", command)
	start.Env = append(start.Env, env...)
	if out, err := start.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	return s
}

func (s *screen) tmux(args ...string) *exec.Cmd {
	cmd := exec.Command("tmux", append([]string{"-S", s.folder + "/tmux"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color")
	return cmd
}

// text is what stands there; empty when the program has ended.
func (s *screen) text() string {
	out, _ := s.tmux("capture-pane", "-p").Output()
	return string(out)
}

// press presses keys, by their names in tmux.
func (s *screen) press(keys ...string) {
	s.t.Helper()
	for _, key := range keys {
		if out, err := s.tmux("send-keys", key).CombinedOutput(); err != nil {
			s.t.Fatalf("tmux: %v\n%s", err, out)
		}
	}
}

// shows waits for texts to stand there together.
func (s *screen) shows(texts ...string) {
	s.t.Helper()
	text := ""
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the screen shows\n%s", text)
		}
	}()
	until(s.t, "the screen shows "+strings.Join(texts, ", "), func() bool {
		text = s.text()
		for _, want := range texts {
			if !strings.Contains(text, want) {
				return false
			}
		}
		return true
	})
}

// row is the line of an endpoint; events tell of it too, behind their time.
func (s *screen) row(address string) string {
	for line := range strings.Lines(s.text()) {
		if _, rest, _ := strings.Cut(line, " "); strings.HasPrefix(strings.TrimSpace(rest), address) {
			return line
		}
	}
	return ""
}

// TestTopInTerminal works the terminal view of a real node with keys: curves move, it sorts and filters, and drains an endpoint once that is confirmed.
func TestTopInTerminal(t *testing.T) {
	f := newShopfront(t)
	s := openScreen(t, "evenkeel top --admin "+f.at["console"], "EVENKEEL_TOKEN="+hand)
	s.shows(f.one, f.two, "moody", "lately", "sort: site order")
	until(t, "curves grow", func() bool { return strings.Count(s.row(f.one), "█") > 2 && strings.Contains(s.text(), "█") })

	s.press("/", "m", "o", "o", "d", "Enter")
	s.shows(`filter "mood"`)
	until(t, "the filter hides others", func() bool { return s.row(f.one) == "" })
	s.press("Escape")
	s.shows(f.one)
	s.press("s")
	s.shows("sort: req/s")
	s.press("s", "s", "s", "s")
	s.shows("sort: site order")

	for range 4 {
		s.press("Down")
	}
	until(t, "an endpoint is selected", func() bool { return strings.HasPrefix(s.row(f.two), "›") })
	s.press("d")
	s.shows("drain "+f.two+" in pool shop?", "y yes")
	s.press("n")
	s.shows("nothing was changed")
	before := f.asked[1].Load()
	until(t, "the endpoint is asked as before", func() bool { return f.asked[1].Load() > before })
	s.press("d", "y")
	s.shows("is set to drain", "draining")
	f.moved(5)
	before = f.asked[1].Load()
	f.moved(100)
	if n := f.asked[1].Load() - before; n != 0 {
		t.Errorf("a drained endpoint got %d of 100 requests", n)
	}
	s.press("u", "y")
	s.shows("is set to up")
	until(t, "it is asked again", func() bool { return f.asked[1].Load() > before })
	s.press("o")
	s.shows("refuse by hand")
	s.press("q")
	until(t, "it has quit", func() bool { return s.tmux("has-session").Run() != nil })

	s = openScreen(t, "evenkeel top --admin "+f.at["console"], "EVENKEEL_TOKEN="+eye)
	s.shows(f.one)
	s.press("d", "y")
	s.shows("needs the role operate")
}
