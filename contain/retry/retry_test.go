package retry

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what scenarios show into testdata")

// TestRules reads testdata/rules.txt: a request, an attempt, and the verdict.
func TestRules(t *testing.T) {
	file, err := os.Open("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] == "#" || strings.HasPrefix(words[0], "#") {
			continue
		}
		n++
		rules, q, a := parseRule(t, words[:len(words)-2])
		v := rules.Judge(q, a)
		if got, want := v.Reason.String()+" "+v.Denial.String(), strings.Join(words[len(words)-2:], " "); got != want {
			t.Errorf("%s: got %s", strings.Join(words, " "), got)
		}
	}
	if n < 40 {
		t.Errorf("only %d rules were found", n)
	}
}

func parseRule(t *testing.T, words []string) (Rules, Request, Attempt) {
	rules, q, a := Default(), Request{Idempotent: Idempotent(words[0])}, Attempt{Number: 1}
	kinds := map[string]Kind{"started": Started, "connect": Connect, "unsent": Unsent, "reset": Reset, "timeout": TimedOut, "cancelled": Cancelled}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		number, _ := strconv.Atoi(value)
		wait, _ := time.ParseDuration(value)
		switch name {
		case "key":
			q.Keyed = true
		case "gone":
			q.Gone = true
		case "caller":
			q.Caller = number
		case "forbidden":
			a.NoRetry = true
		case "after":
			a.RetryAfter = wait
		case "maxwait":
			rules.MaxWait = wait
		case "2nd", "3rd":
			a.Number = int(name[0] - '0')
		case "code":
			a.Status, a.Code = 200, number
		case "attempts":
			rules.Attempts = number
		case "only":
			r, ok := Named(value)
			if !ok {
				t.Fatalf("there is no reason %s", value)
			}
			rules.On = Reasons(0).With(r)
		default:
			if kind, is := kinds[name]; is {
				a.Kind = kind
			} else if status, err := strconv.Atoi(name); err == nil {
				a.Status = status
			} else {
				t.Fatalf("unknown word %q", w)
			}
		}
	}
	return rules, q, a
}

// TestBudgets plays testdata/budget.txt: commands, four dashes, what they show, an empty line.
func TestBudgets(t *testing.T) {
	raw, err := os.ReadFile("testdata/budget.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := &player{now: time.Unix(1000, 0)}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		commands, _, _ := strings.Cut(block, "----\n")
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(commands + "----\n")
		for line := range strings.Lines(commands) {
			out.WriteString(p.play(t, strings.TrimSpace(line)))
		}
	}
	if *update {
		if err := os.WriteFile("testdata/budget.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.TrimSpace(out.String()); got != strings.TrimSpace(string(raw)) {
		t.Errorf("budgets do otherwise than told (-update writes it):\n%s", got)
	}
}

type player struct {
	b   *Budget
	now time.Time
}

func (p *player) play(t *testing.T, line string) string {
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasPrefix(line, "#") {
		return ""
	}
	switch words[0] {
	case "budget":
		var share, floor float64
		if _, err := fmt.Sscanf(line, "budget share=%f%% floor=%f", &share, &floor); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		p.b = NewBudget(p.now, share/100, floor)
		return ""
	case "take":
		n, _ := strconv.Atoi(words[1])
		return fmt.Sprintln(p.take(n))
	case "left":
		return fmt.Sprintf("left %.0f\n", p.b.Left(p.now))
	case "serve", "fail":
		return p.traffic(t, line, words[0] == "fail")
	}
	d, err := time.ParseDuration(strings.TrimPrefix(line, "+"))
	if err != nil {
		t.Fatalf("unknown command %q", line)
	}
	p.now = p.now.Add(d)
	return ""
}

func (p *player) take(n int) (got int) {
	for range n {
		if ok, _ := p.b.Take(p.now); ok {
			got++
		}
	}
	return got
}

// traffic is requests of an even rate. When they fail, each wants one repeat.
func (p *player) traffic(t *testing.T, line string, fails bool) string {
	var rate, secs int
	if _, err := fmt.Sscanf(strings.Join(strings.Fields(line)[1:], " "), "%d/s for %ds", &rate, &secs); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	repeats := 0
	for i := range rate * secs {
		p.b.Request(uint32(i))
		if fails {
			repeats += p.take(1)
		}
		p.now = p.now.Add(time.Second / time.Duration(rate))
	}
	if !fails {
		return ""
	}
	return fmt.Sprintf("%d requests, %d repeats: %.1f %%\n", rate*secs, repeats, 100*float64(repeats)/float64(rate*secs))
}

// TestBudgetIsNeverExceeded plays requests at random rates and holds that no ten seconds that end with a repeat see more of them than
// a tenth of their requests, or the floor.
func TestBudgetIsNeverExceeded(t *testing.T) {
	for seed := range uint64(50) {
		now := time.Unix(1000, 0)
		b := NewBudget(now, Share, Floor)
		rnd := seed*2654435761 + 1
		type second struct{ requests, repeats float64 }
		var past []second
		for range 60 {
			rnd = rnd*6364136223846793005 + 1442695040888963407
			n := int(rnd >> 33 % 400)
			var s second
			for range n {
				b.Request(0)
				s.requests++
				if ok, _ := b.Take(now); ok {
					s.repeats++
				}
				now = now.Add(time.Second / time.Duration(n))
			}
			now = time.Unix(1000+int64(len(past))+1, 0)
			past = append(past, s)
			var sum second
			for _, p := range past[max(0, len(past)-seconds):] {
				sum.requests, sum.repeats = sum.requests+p.requests, sum.repeats+p.repeats
			}
			if most := max(Floor*seconds, Share*sum.requests); s.repeats > 0 && sum.repeats > most {
				t.Fatalf("seed %d: ten seconds until %d saw %v repeats of %v requests", seed, len(past), sum.repeats, sum.requests)
			}
		}
	}
}

func TestBudgetTellsOnceThatItIsSpent(t *testing.T) {
	now, told := time.Unix(1000, 0), 0
	b := NewBudget(now, Share, Floor)
	for range 20 {
		if _, spent := b.Take(now); spent {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
	b.Return()
	if ok, _ := b.Take(now); !ok {
		t.Error("what was given back cannot be taken")
	}
}

func TestWait(t *testing.T) {
	for _, c := range []struct {
		name   string
		a      Attempt
		random float64
		want   time.Duration
	}{
		{"no connection, another endpoint", Attempt{Number: 1, Kind: Connect}, 0.5, 0},
		{"unsent", Attempt{Number: 1, Kind: Unsent}, 0.5, 0},
		{"no connection again", Attempt{Number: 2, Kind: Connect}, 0.5, 25 * time.Millisecond},
		{"status", Attempt{Number: 1, Status: 503}, 0.5, 12500 * time.Microsecond},
		{"the least", Attempt{Number: 1, Status: 503}, 0, 0},
		{"the most", Attempt{Number: 30, Status: 503}, 1, 2 * time.Second},
		{"asked for", Attempt{Number: 1, Status: 503, RetryAfter: time.Second}, 1, time.Second + 25*time.Millisecond},
	} {
		if got := Wait(c.a, c.random); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFields(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"3": 3 * time.Second, "": 0, "x": 0, "-3": 0, "99999999999999999999": 0, "999999999": 24 * time.Hour,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := After(text, now); got != want {
			t.Errorf("Retry-After: %s is %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]int{"": 1, "1": 1, "2": 2, "0": 1, "-1": 1, "x": 1, "999": 100} {
		if got := CallerAttempt(text); got != want {
			t.Errorf("Evenkeel-Attempt: %s is %d, want %d", text, got, want)
		}
	}
	for text, want := range map[string]int{"": 1, "1": 2, "x": 1} {
		if got := PreviousAttempts(text); got != want {
			t.Errorf("grpc-previous-rpc-attempts: %s is attempt %d, want %d", text, got, want)
		}
	}
	for text, want := range map[string]bool{"": false, "0": false, "?0": false, "false": false, "1": true, "?1": true, "true": true} {
		if got := ForbidsRetry(text); got != want {
			t.Errorf("Evenkeel-No-Retry: %s forbids %v, want %v", text, got, want)
		}
	}
	if d, no := Pushback("0"); d != time.Nanosecond || no {
		t.Errorf("a pushback of 0 is %v, %v", d, no)
	}
	if d, no := Pushback("150"); d != 150*time.Millisecond || no {
		t.Errorf("a pushback of 150 is %v, %v", d, no)
	}
	for _, text := range []string{"-1", "soon", ""} {
		if _, no := Pushback(text); !no {
			t.Errorf("a pushback of %q does not forbid", text)
		}
	}
	for r := None; r < ReasonCount; r++ {
		got, ok := Named(r.String())
		if ok != (r != None && r != Hedge) || ok && got != r {
			t.Errorf("%s is named as %v, %v", r, got, ok)
		}
	}
}
