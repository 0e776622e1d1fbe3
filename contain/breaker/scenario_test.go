package breaker

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

var update = flag.Bool("update", false, "write what the scenarios print as what is expected")

// TestScenarios runs testdata/*.txt. A file is a list of blocks: commands, a line of four dashes, what they print, an empty line.
//
//	breaker key=value…       row, rowfor, failures, slow, slowshare, samples, window, open, max, after, trials, trialfor, random
//	ok|fail|push|skip [N] [took=D] [after=D]   N requests one after the other; says how many were refused
//	begin NAME               one request that goes on
//	end NAME ok|fail|push|skip [took=D] [after=D]
//	wait D
//	open D, close D, auto    by hand
//	why
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s prints another thing (-update writes it):\n%s", file, got)
			}
		})
	}
}

func replay(t *testing.T, text string) string {
	var out strings.Builder
	w := &world{t: t, now: start, open: map[string]Ticket{}}
	for _, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		w.print.Reset()
		for _, line := range strings.Split(commands, "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				w.do(strings.Fields(line))
			}
		}
		fmt.Fprintf(&out, "%s\n", commands)
		if !strings.HasPrefix(commands, "#") || w.print.Len() > 0 {
			fmt.Fprintf(&out, "----\n%s", w.print.String())
		}
		out.WriteString("\n")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

var start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// world is one scenario.
type world struct {
	t      *testing.T
	b      *Breaker
	now    time.Time
	random float64
	open   map[string]Ticket
	print  strings.Builder
}

func (w *world) do(f []string) {
	n := 1
	opts := map[string]string{}
	for _, a := range f[1:] {
		if k, v, is := strings.Cut(a, "="); is {
			opts[k] = v
		} else if i, err := strconv.Atoi(a); err == nil {
			n = i
		}
	}
	switch f[0] {
	case "breaker":
		w.make(opts)
	case "ok", "fail", "push", "skip":
		w.requests(f[0], n, opts)
	case "begin":
		ticket, ok := w.b.Allow(w.now, 0)
		if w.open[f[1]] = ticket; !ok {
			fmt.Fprintf(&w.print, "%s refused\n", f[1])
		}
	case "end":
		w.b.Done(w.open[f[1]], w.now, w.result(f[2], opts))
	case "wait":
		w.now = w.now.Add(w.duration(f[1]))
	case "open":
		w.b.Force(w.now, Open, w.now.Add(w.duration(f[1])))
	case "close":
		w.b.Force(w.now, Closed, w.now.Add(w.duration(f[1])))
	case "auto":
		w.b.Auto(w.now)
	case "why":
		fmt.Fprintln(&w.print, w.b.Why(w.now))
	default:
		w.t.Fatalf("no command %q", f[0])
	}
}

func (w *world) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) make(opts map[string]string) {
	cfg := Config{Samples: 10, Trials: 2}
	for k, v := range opts {
		number, _ := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
		length, _ := time.ParseDuration(v)
		switch k {
		case "row":
			cfg.Row = int(number)
		case "rowfor":
			cfg.RowFor = length
		case "failures":
			cfg.Failures = number / 100
		case "slow":
			cfg.Slow = length
		case "slowshare":
			cfg.SlowShare = number / 100
		case "samples":
			cfg.Samples = int(number)
		case "window":
			cfg.Window = length
		case "open":
			cfg.OpenFor = length
		case "max":
			cfg.OpenMax = length
		case "after":
			cfg.RetryAfter = length
		case "trials":
			cfg.Trials = int(number)
		case "trialfor":
			cfg.TrialFor = length
		case "random":
			w.random = number
		default:
			w.t.Fatalf("no key %q", k)
		}
	}
	w.b = New(cfg, Deps{Random: func() float64 { return w.random }, On: func(c Change) {
		fmt.Fprintf(&w.print, "%6s %s -> %s by %s: %s", c.At.Sub(start), c.From, c.To, c.Cause, c.Why)
		if c.To == Open {
			fmt.Fprintf(&w.print, " (%v)", c.For)
		}
		w.print.WriteByte('\n')
	}}, w.now)
}

func (w *world) result(word string, opts map[string]string) Result {
	r := Result{Outcome: map[string]Outcome{"ok": Success, "fail": Failure, "push": Pushback, "skip": Ignored}[word]}
	if v := opts["took"]; v != "" {
		r.Took = w.duration(v)
	}
	if v := opts["after"]; v != "" {
		r.RetryAfter = w.duration(v)
	}
	return r
}

func (w *world) requests(word string, n int, opts map[string]string) {
	refused := 0
	for range n {
		ticket, ok := w.b.Allow(w.now, 0)
		if !ok {
			refused++
			continue
		}
		w.b.Done(ticket, w.now, w.result(word, opts))
	}
	if refused > 0 {
		fmt.Fprintf(&w.print, "%d of %d refused\n", refused, n)
	}
}
