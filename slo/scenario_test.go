package slo

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what scenarios say into their files")

// scenario plays the commands of a file in testdata. Each command is followed by what it says.
//
//	objective TARGET WINDOW [min=N] [freeze=P] [tighten=P]
//	at TIME
//	run LENGTH RATE BAD      so many events per second, of which the share BAD is bad; evaluated every ten seconds
//	detect BAD               how long alerts take when the share BAD is bad
//	status
//	restart                  what was counted goes into a file and back
//	crash                    the same, with what was in the file before the last run
//	takeover LENGTH RATE BAD while an old process still counts as much as RATE says, a new one begins to; then the old one ends
type scenario struct {
	t    *testing.T
	now  time.Time
	dir  string
	obj  Objective
	book *Book
	sum  Count // what the source of the running process has counted
	part float64
	bad  float64
	out  strings.Builder
}

const evaluation = 10 * time.Second

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d scenarios: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("it says:\n%s", got)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	s := &scenario{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), dir: t.TempDir()}
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			out.WriteString(line + "\n")
			continue
		}
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		s.out.Reset()
		s.do(strings.Fields(line))
		out.WriteString(s.out.String())
	}
	s.book.folder.Close()
	return out.String()
}

func (s *scenario) say(format string, args ...any) { fmt.Fprintf(&s.out, "  "+format+"\n", args...) }

func (s *scenario) do(args []string) {
	switch args[0] {
	case "objective":
		s.obj = Objective{Name: "o", Mark: "m", Target: s.share(args[1]), MinFailures: 5, Freeze: 0, Tighten: -1}
		var err error
		s.obj.Window, err = ParseWindow(args[2], func(text string) (time.Duration, bool) {
			d, err := time.ParseDuration(strings.Replace(text, "d", "h", 1))
			if strings.HasSuffix(text, "d") {
				d *= 24
			}
			return d, err == nil
		})
		s.check(err)
		for _, o := range args[3:] {
			name, value, _ := strings.Cut(o, "=")
			switch name {
			case "min":
				s.obj.MinFailures = uint64(s.number(value))
			case "freeze":
				s.obj.Freeze = s.share(value)
			case "tighten":
				s.obj.Tighten = s.share(value)
			}
		}
		s.book = s.open()
	case "at":
		var err error
		s.now, err = time.Parse(time.RFC3339, args[1])
		s.check(err)
	case "run":
		s.run(s.length(args[1]), s.number(args[2]), s.share(args[3]), s.book)
	case "detect":
		for _, b := range Burns(s.obj.Window) {
			d, ok := b.Detects(s.obj.Target, s.share(args[1]))
			if !ok {
				s.say("%s %.4gx %s/%s: never", b.Severity, b.Factor, Span(b.Long), Span(b.Short))
				continue
			}
			s.say("%s %.4gx %s/%s (%.0f%% of the budget): %s", b.Severity, b.Factor, Span(b.Long), Span(b.Short), 100*b.Budget, d.Round(100*time.Millisecond))
		}
	case "status":
		s.status()
	case "restart":
		s.book.Close(s.now)
		s.reopen()
	case "crash":
		s.book.folder.Close()
		s.reopen()
	case "takeover":
		s.takeover(s.length(args[1]), s.number(args[2]), s.share(args[3]))
	default:
		s.t.Fatalf("there is no command %q", args[0])
	}
}

func (s *scenario) open() *Book {
	b := NewBook(Deps{Dir: s.dir, Event: func(_, text string) { s.say("event: %s", strings.ReplaceAll(text, s.dir, "DIR")) }})
	b.Use([]Objective{s.obj}, s.now, func(string) Count { return s.sum })
	return b
}

func (s *scenario) reopen() {
	s.sum = Count{}
	s.book = s.open()
}

func (s *scenario) run(length time.Duration, rate, bad float64, books ...*Book) {
	begin, before := s.now, ""
	for s.now.Sub(begin) < length {
		s.now = s.now.Add(evaluation)
		s.part += rate * evaluation.Seconds()
		n := uint64(s.part)
		s.part -= float64(n)
		s.bad += float64(n) * bad
		failed := uint64(s.bad + 1e-9)
		s.bad -= float64(failed)
		s.sum = s.sum.plus(Count{n - failed, n})
		for _, b := range books {
			b.Step(s.now, func(string) Count { return s.sum })
		}
		if now := s.due(); now != before {
			s.say("after %s: %s", Span(s.now.Sub(begin)), now)
			before = now
		}
	}
}

// due says which alerts are due.
func (s *scenario) due() string {
	var all []string
	for _, b := range s.book.Status(s.now)[0].Burns {
		switch {
		case b.Due:
			all = append(all, fmt.Sprintf("%s %.4gx", b.Severity, b.Factor))
		case b.Few:
			all = append(all, fmt.Sprintf("%s %.4gx held back, %d bad events", b.Severity, b.Factor, b.Failures))
		}
	}
	if len(all) == 0 {
		return "nothing is due"
	}
	return strings.Join(all, ", ")
}

func (s *scenario) status() {
	st := s.book.Status(s.now)[0]
	s.say("since %s: %d events, %d bad, indicator %.4f%%, budget left %.1f%%, burn %.3g", st.Begin.Format("2006-01-02 15:04"), st.Window.Total, st.Window.Bad(), 100*st.Indicator, 100*st.Left, st.Burn)
	if st.Spent > 0 {
		s.say("spent in %s", Span(st.Spent.Round(time.Minute)))
	}
	if st.Policy != (Actions{}) {
		s.say("policy: %+v", st.Policy)
	}
	s.say("%s", s.due())
}

// takeover: both processes count, each what it served itself.
func (s *scenario) takeover(length time.Duration, rate, bad float64) {
	old := s.book
	old.Save(s.now)
	oldSum := s.sum
	s.reopen()
	for begin := s.now; s.now.Sub(begin) < length; {
		s.run(evaluation, rate, bad, s.book)
		oldSum = oldSum.plus(Count{uint64(rate * evaluation.Seconds()), uint64(rate * evaluation.Seconds())})
		old.Step(s.now, func(string) Count { return oldSum })
		s.book.Save(s.now)
		old.Save(s.now)
	}
	old.Close(s.now)
	s.book.Save(s.now)
}

func (s *scenario) share(text string) float64 {
	return s.number(strings.TrimSuffix(text, "%")) / 100
}

func (s *scenario) number(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	s.check(err)
	return f
}

func (s *scenario) length(text string) time.Duration {
	days, isDays := strings.CutSuffix(text, "d")
	if isDays {
		return time.Duration(s.number(days) * float64(day))
	}
	d, err := time.ParseDuration(text)
	s.check(err)
	return d
}

func (s *scenario) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
