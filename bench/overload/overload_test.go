package overload

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEndpointHasOneQueue(t *testing.T) {
	e := &endpoint{rnd: rand.New(rand.NewPCG(1, 1))}
	e.change(works{workers: 2, mean: 100 * time.Millisecond, kind: fixed})
	now := time.Unix(1_700_000_000, 0)
	at := func(n int) (due time.Duration) {
		for range n {
			d, _ := e.assign(now)
			due = d.Sub(now)
		}
		return due
	}
	if d := at(2); d != 100*time.Millisecond {
		t.Errorf("the second of two workers is done after %v, want 100ms", d)
	}
	if d := at(3); d != 300*time.Millisecond {
		t.Errorf("the fifth request is done after %v, want 300ms", d)
	}
	// Of the workers the busiest stays, and new ones begin at once.
	e.change(works{workers: 1, mean: 100 * time.Millisecond, kind: fixed})
	if d := at(1); d != 400*time.Millisecond {
		t.Errorf("with one worker the next is done after %v, want 400ms", d)
	}
	e.change(works{workers: 3, mean: 100 * time.Millisecond, kind: fixed, times: 10})
	if d := at(1); d != time.Second {
		t.Errorf("a new worker, ten times as slow, is done after %v, want 1s", d)
	}
	e.change(works{workers: 3, mean: 100 * time.Millisecond, kind: fixed, fails: 1, failIn: time.Millisecond})
	if d, fails := e.assign(now); !fails || d.Sub(now) != time.Millisecond {
		t.Errorf("a failure comes after %v, %v, want 1ms", d.Sub(now), fails)
	}
	if e.attempts != 8 {
		t.Errorf("%d attempts counted, want 8", e.attempts)
	}
}

func TestWorkTakesWhatItSays(t *testing.T) {
	for _, kind := range []string{fixed, exp, heavy} {
		w, rnd := works{workers: 5, mean: 100 * time.Millisecond, kind: kind, times: 1}, rand.New(rand.NewPCG(1, 1))
		list, sum := make([]time.Duration, 200_000), 0.0
		for i := range list {
			list[i] = w.draw(rnd)
			sum += list[i].Seconds() / float64(len(list))
		}
		if math.Abs(sum-0.1) > 0.004 {
			t.Errorf("%s work takes %.4f s on average, want 0.1", kind, sum)
		}
		if tail := float64(quantile(list, 0.99)) / float64(quantile(list, 0.5)); kind == heavy && math.Abs(tail-20) > 1 {
			t.Errorf("the 99th percentile is %.1f times the median, want 20", tail)
		}
	}
	if c := healthy().capacity(); math.Abs(c-50) > 1e-9 {
		t.Errorf("capacity is %v, want 50", c)
	}
}

func TestArrivalsFollowTheirRates(t *testing.T) {
	phases := []phase{{long: 100 * time.Second, streams: []stream{{"critical", "", 20}, {"low", "", 80}}}, {long: 50 * time.Second}}
	list, began := arrivals(phases, 7)
	again, _ := arrivals(phases, 7)
	critical := 0
	for i, a := range list {
		if a != again[i] {
			t.Fatal("the same seed gives another list")
		}
		if a.at >= began[1] || i > 0 && a.at < list[i-1].at {
			t.Fatalf("arrival %d is at %v, after %v", i, a.at, list[max(i-1, 0)].at)
		}
		if a.of.class == "critical" {
			critical++
		}
	}
	if n := len(list); math.Abs(float64(n)-10_000) > 400 || math.Abs(float64(critical)/float64(n)-0.2) > 0.02 {
		t.Errorf("%d arrivals, %d of them critical; want about 10,000 and a fifth", n, critical)
	}
	if began[2] != 150*time.Second {
		t.Errorf("the end is at %v, want 150s", began[2])
	}
}

// made is a run with so many requests in each second, of which so many are good.
func made(seconds ...[2]int) *drive {
	d := &drive{}
	for s, n := range seconds {
		for i := range n[0] {
			r := request{due: time.Duration(s)*time.Second + time.Duration(i)*time.Millisecond, took: 100 * time.Millisecond, class: "critical", attempts: 1}
			if i < n[1] {
				r.status = 200
			} else {
				r.status, r.refused = 503, true
			}
			d.requests = append(d.requests, r)
		}
	}
	d.began = []time.Duration{0, time.Duration(len(seconds)) * time.Second}
	return d
}

func TestMeasures(t *testing.T) {
	d := made([2]int{100, 10}, [2]int{100, 96}, [2]int{100, 50}, [2]int{100, 95}, [2]int{100, 100}, [2]int{100, 97})
	if took, ok := d.recovery(0, 6*time.Second); !ok || took != 3*time.Second {
		t.Errorf("recovery after %v, %v, want 3s", took, ok)
	}
	if took, ok := d.recovery(0, 5*time.Second); ok || took != 5*time.Second {
		t.Errorf("recovery after %v, %v, want none within 5s", took, ok)
	}
	if took, ok := d.reaches(0, 6*time.Second, 90); !ok || took != 3*time.Second {
		t.Errorf("90 a second after %v, %v, want 3s", took, ok)
	}
	w := d.window(0, 0, time.Second)
	if w.sent != 500 || w.good != 438 || w.refused != 62 || w.criticalGood != 438 || len(w.admitted) != 438 || math.Abs(w.perSecond()-87.6) > 1e-9 {
		t.Errorf("%+v", w)
	}
	late := request{status: 200, took: 501 * time.Millisecond}
	if late.good() || share(0, 0) != 1 || share(1, 4) != 0.25 {
		t.Error("a late answer is no good one, and of nothing all was well")
	}
}

func TestExitCodeGoesByEvenkeel(t *testing.T) {
	for _, c := range []struct {
		list []*outcome
		want int
	}{
		{[]*outcome{{Proxy: evenkeel, Verdict: verdictHeld}, {Proxy: haproxyStock, Verdict: verdictNotHeld}}, held},
		{[]*outcome{{Proxy: evenkeel, Verdict: verdictNotHeld}}, notHeld},
		{[]*outcome{{Proxy: evenkeel, Verdict: verdictNotHeld}, {Proxy: evenkeel, Verdict: verdictInvalid}}, silent},
	} {
		if got := exitCode(c.list); got != c.want {
			t.Errorf("exit code %d, want %d", got, c.want)
		}
	}
	var out bytes.Buffer
	l := &trial{}
	l.atMost("refused", 0.02, 0.001, percent)
	l.atLeast("goodput", 0.97, 0.95)
	l.within("recovery", time.Second, 2*time.Second, false)
	table(&out, []*outcome{{Scenario: "spike", Proxy: evenkeel, Verdict: verdictNotHeld, Figures: l.figures}})
	for _, want := range []string{"spike", "<= 0.1 %", "2 %", ">= 95 %", "97 %", "1000 ms  !", verdictNotHeld} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestNamesAreChecked(t *testing.T) {
	if _, err := choose("steps,none"); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("a scenario that is none: %v", err)
	}
	if list, err := choose(""); err != nil || len(list) != len(scenarios()) {
		t.Errorf("%d scenarios, %v", len(list), err)
	}
	if _, err := rivals("nobody"); err == nil {
		t.Error("a rival that is none is taken")
	}
}

// TestOverloadInSmall drives real load through the real program. Times decide nothing in it: what it asks is that answers come through,
// that demand far beyond what the endpoint can do is refused and not queued for ever, and that every endpoint sees requests.
func TestOverloadInSmall(t *testing.T) {
	program := filepath.Join(t.TempDir(), "evenkeel")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/evenkeel").CombinedOutput(); err != nil {
		t.Fatalf("evenkeel cannot be built: %v\n%s", err, out)
	}
	l := &lab{dir: t.TempDir(), program: program, quick: true, seed: 1, talk: &bytes.Buffer{}}
	got := map[string]counts{}
	small := func(ctx context.Context, t *trial) error {
		got["single"] = t.single(ctx, 0, phase{long: 3 * time.Second, streams: demand(250, 20)}).window(0, 0, 0)
		got["pool"] = t.pool(ctx, 0, phase{long: time.Second, streams: demand(100, 20)}).window(0, 0, 0)
		for _, e := range t.five {
			if e.counted() == 0 {
				t.figures = append(t.figures, figure{Name: e.address + " saw nothing", Failed: true})
			}
		}
		return nil
	}
	o := l.try(context.Background(), scenario{"small", "", small}, evenkeel)
	if o.Verdict != verdictHeld && o.Verdict != verdictInvalid {
		t.Fatalf("%+v", o)
	}
	if _, err := json.Marshal(o); err != nil {
		t.Error(err)
	}
	for name, w := range got {
		if w.sent == 0 || w.answered == 0 || w.attempts < w.sent {
			t.Errorf("%s: %d sent in %d attempts, %d answered", name, w.sent, w.attempts, w.answered)
		}
	}
	if w := got["single"]; w.refused == 0 {
		t.Errorf("none of %d requests at five times what the endpoint can do was refused", w.sent)
	}
	if o := l.try(context.Background(), scenario{"none", "", small}, "nobody"); o.Verdict != verdictNotRun || o.Why == "" {
		t.Errorf("a proxy that is none: %+v", o)
	}
}
