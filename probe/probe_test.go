package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// fake is a Prober whose probes are made by ask, running in a bubble of fake time until the returned stop.
func fake(t *testing.T, ask func(ctx context.Context, t Target) finding) (p *Prober, stop func()) {
	p = New(nil)
	p.ask = func(_ *plan, ctx context.Context, t Target) finding { return ask(ctx, t) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
}

func TestProberTenThousandEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const targets, intervals = 10000, 5
		// One in ten hangs, the others take as long as a slow endpoint may.
		p, stop := fake(t, func(ctx context.Context, t Target) finding {
			if strings.HasSuffix(t.Address, "0") {
				<-ctx.Done()
				return finding{late: true}
			}
			wait(ctx, 300*time.Millisecond)
			return good("status 200")
		})
		cfg := &site.Probe{Every: 5 * time.Second, Timeout: 2 * time.Second}
		counts := make([]atomic.Int32, targets)
		for i := range targets {
			sick := i%10 == 0
			p.Add(Target{Address: fmt.Sprint(i)}, cfg, func(v Verdict) {
				counts[i].Add(1)
				if v.Healthy == sick || sick && v.Reason != "timeout after 2s" {
					t.Errorf("target %d: %+v", i, v)
				}
			})
		}
		wait(t.Context(), intervals*cfg.Every)
		st := p.Status()
		for i := range counts {
			if n := counts[i].Load(); n < intervals-1 || n > intervals+1 {
				t.Errorf("target %d got %d verdicts in %d intervals", i, n, intervals)
			}
		}
		// Hung ones that waited for a place at the very start may have run into their second turn.
		if st.Targets != targets || st.Skipped > targets/100 || st.Probes < targets*(intervals-1) {
			t.Errorf("status %+v", st)
		}
		// Only the very first turns waited, for the 4,096 places.
		if st.LagMax > time.Second {
			t.Errorf("lag %v", st.LagMax)
		}
		stop()
	})
}

func TestProberFirstVerdictComesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fake(t, func(context.Context, Target) finding { return good("connected") })
		began := time.Now()
		got := make(chan Verdict, 1)
		h := p.Add(Target{Address: "a:1"}, &site.Probe{Every: time.Hour}, func(v Verdict) { got <- v })
		v := <-got
		if late := time.Since(began); late > tick || !v.Healthy || v.Reason != "connected" || !v.At.Equal(time.Now()) {
			t.Errorf("%+v after %v", v, late)
		}
		h.Stop()
		h.Stop()
		if st := p.Status(); st.Targets != 0 {
			t.Errorf("%d targets after Stop", st.Targets)
		}
		stop()
	})
}

func TestProberStopCutsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fake(t, func(ctx context.Context, _ Target) finding {
			<-ctx.Done()
			return bad("cut short")
		})
		h := p.Add(Target{}, &site.Probe{Timeout: time.Hour}, func(v Verdict) { t.Errorf("verdict %+v of a probe cut short", v) })
		p.Add(Target{}, &site.Probe{Timeout: time.Hour}, func(v Verdict) { t.Errorf("verdict %+v of a probe cut short", v) })
		synctest.Wait()
		if st := p.Status(); st.Running != 2 {
			t.Fatalf("%d running, want 2", st.Running)
		}
		h.Stop()
		synctest.Wait()
		if st := p.Status(); st.Running != 1 || len(p.plans) != 1 {
			t.Errorf("%d running and %d plans after Stop, want 1", st.Running, len(p.plans))
		}
		stop()
	})
}

func TestProberSlowCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fake(t, func(context.Context, Target) finding { return good("connected") })
		var at atomic.Int32
		p.Add(Target{}, &site.Probe{Every: time.Second}, func(Verdict) {
			if at.Add(1) != 1 {
				t.Error("two callbacks of one target at once")
			}
			wait(t.Context(), 2500*time.Millisecond)
			at.Add(-1)
		})
		wait(t.Context(), 30*time.Second)
		if st := p.Status(); st.Probes < 8 || st.Probes > 12 || st.Skipped < 15 {
			t.Errorf("%d probes and %d skipped turns in 30 s with a callback of 2.5 s", st.Probes, st.Skipped)
		}
		wait(t.Context(), 0)
		stop()
	})
}

func TestProberVoidSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines atomic.Int32
		p, stop := fake(t, func(context.Context, Target) finding {
			return finding{void: true, reason: "not probed: no descriptors"}
		})
		p.log = slog.New(slog.NewTextHandler(lineCount{&lines}, nil))
		h := Health{}
		p.Add(Target{}, &site.Probe{Every: time.Second}, func(v Verdict) { h.Step(v) })
		wait(t.Context(), 90*time.Second)
		if st := p.Status(); st.Void < 80 || lines.Load() != 2 {
			t.Errorf("%d void verdicts and %d lines of log, want 90 and 2", st.Void, lines.Load())
		}
		stop()
		if h.Known() {
			t.Error("void verdicts made health known")
		}
	})
}

func TestProberRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fake(t, nil)
		synctest.Wait()
		if err := p.Run(t.Context()); !errors.Is(err, errRunsAlready) {
			t.Errorf("second Run: %v", err)
		}
		stop()
	})
}

// TestProberRealSockets asks 2,000 endpoints on loopback over real sockets, of which every tenth takes connections and
// never says a word.
func TestProberRealSockets(t *testing.T) {
	const targets = 2000
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	go greet(ln)
	p := New(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	verdicts := make(chan bool, 16)
	cfg := &site.Probe{TCP: &site.ProbeTCP{Expect: "^hello"}, Every: 500 * time.Millisecond, Timeout: 30 * time.Second}
	for i := range targets {
		at := ln.Addr().String()
		if i%10 == 0 {
			at = mute.Addr().String()
		}
		p.Add(Target{Address: at}, cfg, func(v Verdict) {
			if v.Void {
				return
			}
			select {
			case verdicts <- v.Healthy:
			case <-ctx.Done():
			}
		})
	}
	limit := time.After(30 * time.Second)
	for n := 0; n < 3*targets; n++ {
		select {
		case healthy := <-verdicts:
			if !healthy {
				t.Fatal("an endpoint that greets was called sick")
			}
		case <-limit:
			t.Fatalf("%d verdicts in 30 s, want %d: %+v", n, 3*targets, p.Status())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if st := p.Status(); st.Running != 0 {
		t.Errorf("%d probes run after Run ended", st.Running)
	}
}

// greet says hello to everyone who connects.
func greet(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		c.Write([]byte("hello\n"))
		c.Close()
	}
}

// wait lets d of a bubble's time pass.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// lineCount counts what is written to it.
type lineCount struct{ n *atomic.Int32 }

func (l lineCount) Write(b []byte) (int, error) {
	l.n.Add(1)
	return len(b), nil
}
