package clients

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// played is a run in fake time, without a network: only the seed decides.
func played(t *testing.T, p plan, name string, wrap func(*service) http.RoundTripper) (o outcome) {
	t.Helper()
	chosen, err := choose(name)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newService(p.Workers, p.Work)
		o = p.drive(t.Context(), chosen[0], s, wrap(s), "http://shop.example/").judge(chosen[0])
	})
	t.Logf("%-14s %.2f attempts per request, goodput in the spike %.2f, after it %.2f, well again %v after %.0f s, backlog %.1f s", o.Client, o.Amp, o.During, o.After,
		o.Well, o.Seconds, o.Backlog)
	return o
}

func bare(s *service) http.RoundTripper { return s }

// small is the standard experiment with fewer clients and a server that can do less, so that it takes little time with the race detector too.
func small() plan {
	p := standard()
	p.Clients, p.Workers = p.Clients/4, p.Workers/4
	return p
}

// A server without any protection: package client brings it back, soonest of all; retries at once keep it down for as long as one looks.
func TestServerComesBack(t *testing.T) {
	p := small()
	got := map[string]outcome{}
	for _, k := range kinds() {
		got[k.name] = played(t, p, k.name, bare)
	}
	got[ours] = played(t, standard(), ours, bare)
	we := got[ours]
	if we.Verdict != verdictHeld || we.Amp > ampMost || !we.Well {
		t.Errorf("package client: %+v", we)
	}
	for name, o := range got {
		if name != ours && o.Well && o.Seconds <= we.Seconds {
			t.Errorf("%s: well again after %.0f s, package client after %.0f s", name, o.Seconds, we.Seconds)
		}
	}
	storm := got["retry-at-once"]
	if storm.Well || storm.After > 0.1 || storm.Backlog < 10 {
		t.Errorf("retries at once are no storm, and so this shows nothing: %+v", storm)
	}
	if plain := got["plain"]; plain.Amp != 1 {
		t.Errorf("a client that never tries again: %+v", plain)
	}
}

// The same holds for other seeds, few clients that ask much, and a longer spike.
func TestServerComesBackInOtherWorlds(t *testing.T) {
	for name, change := range map[string]func(*plan){
		"another seed": func(p *plan) { p.Seed = 7 },
		"ten":          func(p *plan) { p.Clients = 10 },
		"one":          func(p *plan) { p.Clients, p.Spike = 1, 2 },
		"a minute":     func(p *plan) { p.SpikeFor = time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			p := small()
			change(&p)
			if o := played(t, p, ours, bare); o.Verdict != verdictHeld {
				t.Errorf("%+v", o)
			}
		})
	}
}

// sensible is a server that says no in time, as a gateway with a shedder makes it: the longer it has had to, the longer it asks for silence.
type sensible struct {
	s    *service
	most time.Duration // that it asks for

	mu   sync.Mutex
	from time.Time // it refuses since
	last time.Time // … and did so last
}

func (g *sensible) RoundTrip(r *http.Request) (*http.Response, error) {
	now := time.Now()
	if g.s.backlog(now) < 200*time.Millisecond {
		return g.s.RoundTrip(r)
	}
	g.mu.Lock()
	if now.Sub(g.last) > time.Second {
		g.from = now
	}
	g.last = now
	wait := min(max(now.Sub(g.from), time.Second), g.most)
	g.mu.Unlock()
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {strconv.Itoa(int(wait.Seconds()))}},
		Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

// In front of a server that refuses in time goodput holds for everybody; package client asks least for it.
func TestServerRefuses(t *testing.T) {
	for _, most := range []time.Duration{time.Second, 30 * time.Second} {
		for clients, limit := range map[int]float64{250: 5, 5: 8} { // that ask seldom; and much, whose throttles have to forget what was refused
			p := small()
			p.Clients = clients
			got := map[string]outcome{}
			for _, name := range []string{ours, "plain", "retry-at-once"} {
				got[name] = played(t, p, name, func(s *service) http.RoundTripper { return &sensible{s: s, most: most} })
			}
			if we := got[ours]; we.Verdict != verdictHeld || we.During < 0.9 || we.Seconds > limit {
				t.Errorf("package client, %d of them, times up to %v: %+v", clients, most, we)
			}
			if got["retry-at-once"].AmpHard < 2 || got[ours].AmpHard > ampMost {
				t.Errorf("attempts per request in the spike: %v", got)
			}
		}
	}
}

// TestOverRealConnections is the command in small. It judges no figure.
func TestOverRealConnections(t *testing.T) {
	p := small()
	p.Clients, p.Warm, p.SpikeFor, p.After = 50, time.Second, time.Second, 3*time.Second
	chosen, err := choose(ours + ",plain")
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.all(t.Context(), chosen, false, io.Discard)
	if err != nil || len(list) != 2 || list[0].Sent < 200 || list[0].Amp == 0 {
		t.Errorf("%v, %+v", err, list)
	}
	var out bytes.Buffer
	if table(&out, list); strings.Count(out.String(), "\n") < 3 || !strings.Contains(out.String(), "evenkeel") {
		t.Error(out.String())
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := p.all(ctx, chosen, false, io.Discard); err == nil {
		t.Error("an interrupted run has a result")
	}
}

func TestVerdicts(t *testing.T) {
	for want, list := range map[int][]outcome{
		held: {{Verdict: verdictHeld}, {Verdict: verdictNone}}, notHeld: {{Verdict: verdictNotHeld}}, silent: {{Verdict: verdictNotHeld}, {Verdict: verdictInvalid}},
	} {
		if have := exitCode(list); have != want {
			t.Errorf("%+v: %d, want %d", list, have, want)
		}
	}
	for _, args := range [][]string{{"more"}, {"-kinds", "none"}, {"-clients", "0"}, {"-after", "2s"}, {"-spike", "2h"}, {"-nothing"}} {
		if code := Main(t.Context(), args); code != wrongUse {
			t.Errorf("%v: %d", args, code)
		}
	}
}

// TestService: what the server can do is exact.
func TestService(t *testing.T) {
	s, now := newService(4, 100*time.Millisecond), time.Unix(0, 0)
	rnd := rand.New(rand.NewPCG(1, 1))
	last, n := now, 2000
	for range n {
		last = s.take(now)
		now = now.Add(time.Duration(rnd.Int64N(int64(10 * time.Millisecond)))) // five times what it can do
	}
	// The workers began one after the other, and never stood still after that.
	if have, want := last.Sub(time.Unix(0, 0)), time.Duration(n/4)*100*time.Millisecond; have < want || have > want+40*time.Millisecond {
		t.Errorf("%d requests take %v, want %v", n, have, want)
	}
}
