package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/site"
)

// running runs p until stop is called, which waits for it.
func running(t *testing.T, p *Pool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// probes stands in for the prober: verdicts are given by hand.
type probes struct {
	mu      sync.Mutex
	on      map[string]func(probe.Verdict)
	started int
}

func (f *probes) watch(t probe.Target, _ *site.Probe, on func(probe.Verdict)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on[t.Address] = on
	f.started++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.on, t.Address)
	}
}

func (f *probes) say(address string, healthy bool) {
	f.mu.Lock()
	on := f.on[address]
	f.mu.Unlock()
	if on != nil {
		on(probe.Verdict{At: time.Now(), Healthy: healthy, Reason: "said"})
	}
}

func probed(t *testing.T, n int) (*Pool, *probes) {
	f := &probes{on: make(map[string]func(probe.Verdict))}
	cfg := *setup(t, site.MethodLeastRequests, n).cfg
	p, err := New(&cfg, Deps{Seed: 3, Prober: probe.New(nil)})
	if err != nil {
		t.Fatal(err)
	}
	p.watch = f.watch
	return p, f
}

func TestReadyWithTheFirstVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := probed(t, 3)
		stop := running(t, p)
		defer stop()
		synctest.Wait()
		f.say("10.0.0.1:80", true)
		f.say("10.0.0.2:80", false)
		synctest.Wait()
		if p.Ready() {
			t.Error("ready though the verdict on one endpoint is missing")
		}
		f.say("10.0.0.3:80", true)
		synctest.Wait()
		if !p.Ready() {
			t.Error("not ready though all verdicts are there")
		}
		for range 100 {
			if e := pickOf(t, p, from(1)); e.Address == "10.0.0.2:80" {
				t.Fatal("an endpoint whose first verdict was bad is picked")
			}
		}
	})
}

func TestReadyDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := probed(t, 2)
		stop := running(t, p)
		defer stop()
		f.say("10.0.0.1:80", true)
		pass(10 * time.Second)
		synctest.Wait()
		if !p.Ready() {
			t.Error("not ready 10s after the start, with a probe that hangs")
		}
	})
}

func TestProbesFollowMembersAndConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := probed(t, 3)
		stop := running(t, p)
		synctest.Wait()
		f.say("10.0.0.1:80", true)
		late := f.on["10.0.0.2:80"]
		cfg := *p.cfg
		cfg.Endpoints = cfg.Endpoints[1:]
		if err := p.Update(&cfg); err != nil {
			t.Fatal(err)
		}
		if len(f.on) != 2 || f.on["10.0.0.1:80"] != nil {
			t.Errorf("%d endpoints are probed, want the two that stayed", len(f.on))
		}
		started := f.started
		if err := p.Update(p.cfg); err != nil || f.started != started {
			t.Errorf("an update that changes nothing starts %d probes (%v)", f.started-started, err)
		}
		next := *p.cfg
		next.Probe = &site.Probe{TCP: &site.ProbeTCP{}, Every: time.Second, Rise: 2, Fall: 2}
		if err := p.Update(&next); err != nil || f.started != started+2 {
			t.Errorf("another probe starts %d probes, want 2 (%v)", f.started-started, err)
		}
		late(probe.Verdict{Healthy: false})
		if e := p.Status().Endpoints[0]; e.State != StateUnknown || len(e.Verdicts) != 0 {
			t.Errorf("a verdict of the probe that was stopped is taken: %+v", e)
		}
		pass(time.Second)
		synctest.Wait()
		stop()
		if len(f.on) != 0 {
			t.Errorf("%d endpoints are probed after the end of Run", len(f.on))
		}
	})
}

func TestUpdateFailsWhole(t *testing.T) {
	p := setup(t, site.MethodLeastRequests, 2)
	twice := *p.cfg
	twice.Endpoints = append(twice.Endpoints[:2:2], twice.Endpoints[0])
	if err := p.Update(&twice); err == nil || !strings.Contains(err.Error(), "stands twice") {
		t.Errorf("an endpoint twice: %v", err)
	}
	many := *p.cfg
	for i := range endpointsMax {
		many.Endpoints = append(many.Endpoints, site.Endpoint{Address: fmt.Sprintf("h%d:80", i), Weight: 1})
	}
	if err := p.Update(&many); err == nil || !strings.Contains(err.Error(), "at most 10000") {
		t.Errorf("too many endpoints: %v", err)
	}
	boom := errors.New("no such file")
	q, _ := probed(t, 1)
	q.deps.ProbeTLS = func(*site.Pool) (*tls.Config, error) { return nil, boom }
	secure := *q.cfg
	secure.TLS = &site.EndpointTLS{}
	if err := q.Update(&secure); !errors.Is(err, boom) {
		t.Errorf("tls that cannot be had: %v", err)
	}
	if len(p.members) != 2 || q.cfg.TLS != nil {
		t.Error("an update that failed changed something")
	}
}

func TestUpdateKeepsWhatStays(t *testing.T) {
	p := setup(t, site.MethodEWMA, 3)
	e := pickOf(t, p, from(1))
	p.Done(from(1), e, exchange.Result{Status: 200, Latency: time.Second})
	pickOf(t, p, from(1)) // stays in flight somewhere
	was := p.Status()
	cfg := *p.cfg
	cfg.Method, cfg.Endpoints = site.MethodHash, append(cfg.Endpoints[:3:3], site.Endpoint{Address: "10.9.9.9:80", Weight: 1})
	if err := p.Update(&cfg); err != nil {
		t.Fatal(err)
	}
	for i, now := range p.Status().Endpoints[:3] {
		before := was.Endpoints[i]
		if now.Picks != before.Picks || now.InFlight != before.InFlight || (now.EWMA > 0) != (before.EWMA > 0) {
			t.Errorf("endpoint %s was %+v and is %+v", now.Address, before, now)
		}
	}
	if p.total.Load() != 1 {
		t.Errorf("%d in flight for the hash method, want 1", p.total.Load())
	}
}

// All at once, for the race detector and for the counters: nothing may be lost.
func TestConcurrentUse(t *testing.T) {
	var attached, detached atomic.Int64
	cfg := *setup(t, site.MethodHash, 8, 1, 2, 3).cfg
	cfg.DrainTimeout = time.Millisecond
	p, err := New(&cfg, Deps{Seed: 1, Attach: func(*exchange.Endpoint) { attached.Add(1) },
		Detach: func(*exchange.Endpoint) { detached.Add(1) }, Event: func(string, string) {}})
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, p)
	methods := []string{site.MethodRoundRobin, site.MethodWeighted, site.MethodLeastRequests, site.MethodEWMA, site.MethodHash, site.MethodPrequal}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3000 {
				x := from(g*5000 + i)
				e, no := p.Pick(x)
				if no != nil {
					continue
				}
				r := exchange.Result{Kind: exchange.ResultKind(max(0, i%40-35)), Status: []int{200, 200, 503}[i%3], Latency: time.Millisecond}
				p.Done(x, e, r)
			}
		})
	}
	wg.Go(func() {
		for i := range 60 {
			c := cfg
			c.Method, c.Endpoints = methods[i%len(methods)], cfg.Endpoints[i%3:]
			if err := p.Update(&c); err != nil {
				t.Error(err)
			}
			if err := p.SetState(cfg.Endpoints[5].Address, []string{StateDrain, StateDown, StateUp}[i%3]); err != nil {
				t.Error(err)
			}
			p.Status()
		}
	})
	wg.Wait()
	stop()
	for _, e := range p.Status().Endpoints {
		if e.InFlight != 0 {
			t.Errorf("endpoint %s has %d in flight at the end", e.Address, e.InFlight)
		}
	}
	if attached.Load() < 8 || detached.Load() > attached.Load() {
		t.Errorf("%d attached, %d detached", attached.Load(), detached.Load())
	}
}

// pass lets d of a bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

// With the real prober on real sockets: an endpoint that dies is out, and back when it listens again.
func TestPoolWithProber(t *testing.T) {
	cfg := *setup(t, site.MethodLeastRequests, 0).cfg
	var lines []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		lines = append(lines, l)
		cfg.Endpoints = append(cfg.Endpoints, site.Endpoint{Address: l.Addr().String(), Weight: 1, Priority: 1})
	}
	cfg.Probe = &site.Probe{Every: 20 * time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 3}
	prober, events := probe.New(nil), make(chan string, 100)
	p, err := New(&cfg, Deps{Seed: 1, Prober: prober, Event: func(kind, text string) { events <- kind + " " + text }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- prober.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	defer running(t, p)()
	wait := func(want string) {
		t.Helper()
		late := time.After(10 * time.Second)
		for {
			select {
			case e := <-events:
				if strings.HasPrefix(e, want) {
					return
				}
			case <-late:
				t.Fatalf("no event %q within 10s", want)
			}
		}
	}
	wait("pool_ready pool shop: ready: 3 of 3")
	sick := lines[1].Addr().String()
	lines[1].Close()
	wait("endpoint_down pool shop: endpoint " + sick + " is down, was up: probe failed: ")
	for range 200 {
		e := pickOf(t, p, from(1))
		p.Done(from(1), e, exchange.Result{Status: 200})
		if e.Address == sick {
			t.Fatal("a dead endpoint is picked")
		}
	}
	again, err := net.Listen("tcp", sick)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	wait("endpoint_slow_start pool shop: endpoint " + sick + " is slow_start, was down: probe passed: ")
}

// A source that was asked before the configuration changed must not bring its set back.
func TestLateSourceIsPassedOver(t *testing.T) {
	p := setup(t, site.MethodLeastRequests, 1)
	cfg := *p.cfg
	cfg.Discover = &site.Discover{File: &site.DiscoverFile{Path: "/nowhere"}}
	if err := p.Update(&cfg); err != nil {
		t.Fatal(err)
	}
	no := p.sourceNo
	p.refresh(no, setOf(4), nil)
	if len(p.members) != 4 {
		t.Fatalf("%d members, want 4", len(p.members))
	}
	none := cfg
	none.Discover = nil
	if err := p.Update(&none); err != nil {
		t.Fatal(err)
	}
	p.refresh(no, setOf(4), nil)
	if len(p.members) != 1 {
		t.Errorf("%d members after discovery was taken away, want 1", len(p.members))
	}
}

// A set that shrinks lets endpoints go with what they have in flight.
func TestLeavingEndpointsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone []string
		cfg := *setup(t, site.MethodRoundRobin, 2).cfg
		p, err := New(&cfg, Deps{Seed: 1, Detach: func(e *exchange.Endpoint) { gone = append(gone, e.Address) }})
		if err != nil {
			t.Fatal(err)
		}
		defer running(t, p)()
		e := pickOf(t, p, from(1))
		none := cfg
		none.Endpoints = nil
		if err := p.Update(&none); err != nil {
			t.Fatal(err)
		}
		if _, no := p.Pick(from(1)); no == nil || !e.Gone.Load() {
			t.Errorf("an endpoint that left is picked (%v), gone %v", no, e.Gone.Load())
		}
		pass(2 * time.Second)
		synctest.Wait()
		if len(gone) != 1 || gone[0] == e.Address {
			t.Errorf("detached %v, want the idle endpoint only", gone)
		}
		p.Done(from(1), e, exchange.Result{Status: 200})
		pass(time.Second)
		synctest.Wait()
		if len(gone) != 2 || len(p.Status().Endpoints) != 0 {
			t.Errorf("detached %v, want both", gone)
		}
	})
}

func probeVerdict(healthy bool) probe.Verdict { return probe.Verdict{Healthy: healthy} }

// Between two looks of Run a failed endpoint must be out already.
func TestEjectionIsAtOnce(t *testing.T) {
	for _, method := range methods {
		p := setup(t, method, 4)
		p.running = true // as if Run had no time
		e := pickOf(t, p, from(1))
		p.Done(from(1), e, exchange.Result{Kind: exchange.ConnectFailed})
		if !e.Gone.Load() {
			t.Errorf("%s: idle connections stay with an ejected endpoint", method)
		}
		for i := range 200 {
			got := pickOf(t, p, from(i))
			if got == e {
				t.Fatalf("%s: an ejected endpoint is picked", method)
			}
			p.Done(from(i), got, exchange.Result{Status: 200})
		}
	}
}
