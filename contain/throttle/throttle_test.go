package throttle

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// TestScenarios plays testdata/*.txt: a line is a time since the start, what happens, and for "chance" what must be found.
func TestScenarios(t *testing.T) {
	for _, name := range []string{"window.txt", "edges.txt", "silence.txt"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Unix(1_700_000_000, 0)
			throttle := New(Config{Window: 2 * time.Minute})
			n := 0
			for line := range strings.Lines(string(text)) {
				n++
				word := strings.Fields(line)
				if len(word) == 0 || word[0] == "#" {
					continue
				}
				play(t, fmt.Sprintf("%s:%d", name, n), throttle, start, word)
			}
		})
	}
}

func play(t *testing.T, where string, throttle *Throttle, start time.Time, word []string) {
	t.Helper()
	at, err := time.ParseDuration(word[0])
	if err != nil || len(word) != 3 && word[1] != "asked" {
		t.Fatalf("%s: want TIME VERB NUMBER, or TIME asked TIMES FOR, have %q", where, word)
	}
	now := start.Add(at)
	var v float64
	if _, err := fmt.Sscan(word[2], &v); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	switch word[1] {
	case "accepted", "refused":
		for range int(v) {
			throttle.Done(now, word[1] == "accepted")
		}
	case "asked":
		long, err := time.ParseDuration(word[3])
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		for range int(v) {
			throttle.Done(now, false)
			throttle.Ask(now, long)
		}
	case "silence":
		if have := throttle.Silence(now).Seconds(); math.Abs(have-v) > 0.0005 {
			t.Errorf("%s: %.4f s of silence are left, want %.4f", where, have, v)
		}
	case "held":
		for range int(v) {
			if !throttle.Refuse(now, 0) {
				t.Fatalf("%s: not refused here", where)
			}
		}
	case "chance":
		if have := throttle.Chance(now); math.Abs(have-v) > 0.0005 {
			t.Errorf("%s: the chance is %.4f, want %.4f", where, have, v)
		}
	case "requests":
		if have, _ := throttle.Seen(now); have != int(v) {
			t.Errorf("%s: %d requests are remembered, want %d", where, have, int(v))
		}
	default:
		t.Fatalf("%s: no verb %q", where, word[1])
	}
}

// TestRateSent: of a server that accepts 10 a second, callers ask about K times as many, whatever they want.
func TestRateSent(t *testing.T) {
	for _, wanted := range []int{15, 100, 1000} {
		throttle := New(Config{Most: 1})
		rnd := rand.New(rand.NewPCG(1, uint64(wanted)))
		now, sent := time.Unix(0, 0), 0
		for second := range 600 {
			left := 10
			for range wanted {
				now = now.Add(time.Second / time.Duration(wanted))
				if throttle.Refuse(now, rnd.Float64()) {
					continue
				}
				throttle.Done(now, left > 0)
				left--
				if second >= 300 {
					sent++
				}
			}
		}
		rate, want := float64(sent)/300, min(float64(wanted), 20)
		if rate < want*0.85 || rate > want*1.15 {
			t.Errorf("%d a second are wanted: %.1f are sent, want about %.1f", wanted, rate, want)
		}
	}
}

// TestSumsHold: the running sums are those of the parts, whatever the clock does.
func TestSumsHold(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	throttle := New(Config{Window: 10 * time.Second})
	now := time.Unix(1000, 0)
	for range 20_000 {
		now = now.Add(time.Duration(rnd.Int64N(int64(time.Second))) - 300*time.Millisecond)
		if rnd.IntN(100) == 0 {
			now = now.Add(time.Minute)
		}
		if !throttle.Refuse(now, rnd.Float64()) {
			throttle.Done(now, rnd.IntN(3) == 0)
		}
		var sum part
		for _, p := range throttle.parts {
			sum.requests += p.requests
			sum.accepts += p.accepts
		}
		if sum != throttle.sum || sum.accepts > sum.requests {
			t.Fatalf("the parts sum up to %+v, remembered is %+v", sum, throttle.sum)
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	throttle, now := New(Config{}), time.Unix(0, 0)
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		if !throttle.Refuse(now, 0.5) {
			throttle.Done(now, false)
			throttle.Ask(now, time.Minute)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkThrottle(b *testing.B) {
	throttle, now := New(Config{}), time.Unix(0, 0)
	for b.Loop() {
		now = now.Add(time.Millisecond)
		if !throttle.Refuse(now, 0.5) {
			throttle.Done(now, false)
		}
	}
}
