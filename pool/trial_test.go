package pool

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// TestTrialBesideWhatHangs: an endpoint that a good probe brings back is tried out though requests from before its ejection still hang there. They were taken for the one
// request that it gets on trial, so that it got none until they had ended, or slow start had.
func TestTrialBesideWhatHangs(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	cfg := *setup(t, site.MethodRoundRobin, 3).cfg
	p, err := newPool(&cfg, Deps{Seed: 3, Prober: probe.New(nil)}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.members {
		p.heard(m, m.born, probe.Verdict{At: now, Healthy: true})
	}
	p.look(now)
	m, hung := p.members[0], 0
	var under []*exchange.Exchange
	send := func(n int) (got int) {
		for i := range n {
			x := &exchange.Exchange{Request: &wire.Request{}, Shard: uint32(i)}
			if x.Endpoint = pickOf(t, p, x); x.Endpoint == &m.Endpoint {
				got++
			}
			under = append(under, x)
		}
		return got
	}
	send(60)
	for _, x := range under {
		switch {
		case x.Endpoint != &m.Endpoint:
			p.Done(x, x.Endpoint, exchange.Result{Status: 200, Latency: time.Millisecond})
		case hung < brokenMax:
			hung++
			p.Done(x, x.Endpoint, exchange.Result{Kind: exchange.TimedOut})
		}
	}
	if m.breaker() != BreakerOpen || m.InFlight.Load() == 0 {
		t.Fatalf("its breaker is %s, with %d in flight", m.breaker(), m.InFlight.Load())
	}
	now = now.Add(time.Second)
	p.heard(m, m.born, probe.Verdict{At: now, Healthy: true})
	p.look(now)
	if got := send(300); got != 1 || m.breaker() != BreakerHalfOpen {
		t.Errorf("%s, it got %d of 300 requests, want one", m.breaker(), got)
	}
}

// TestTrialBoundClients: an endpoint on trial gets one request at a time from clients that affinity binds to it, too.
func TestTrialBoundClients(t *testing.T) {
	p := withAffinity(t, site.MethodLeastRequests, 3)
	x := asking()
	e := pickOf(t, p, x)
	value, _, _ := strings.Cut(string(x.SetCookie), ";")
	p.Done(x, e, exchange.Result{Status: 200})
	m := seat(e)
	p.mu.Lock()
	m.probation.on = true
	p.weigh(m, p.clock())
	p.unlock()
	for i := range 5 {
		x := asking(value)
		if got := pickOf(t, p, x); (got == e) != (i == 0) || (x.SetCookie == nil) != (i == 0) {
			t.Errorf("request %d of clients bound to %s, which is on trial, goes to %s and sets %q", i, e.Address, got.Address, x.SetCookie)
		}
	}
}

// TestWhyWithoutProbes: once endpoints are not probed any more, no probe is the reason for what becomes of them.
func TestWhyWithoutProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := probed(t, 2)
		stop := running(t, p)
		defer stop()
		synctest.Wait()
		m := p.members[0]
		f.say(m.Address, false)
		f.say(p.members[1].Address, true)
		pass(5 * time.Second)
		cfg := *p.cfg
		cfg.Probe = &site.Probe{Off: true}
		if err := p.Update(&cfg); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := p.Status().Endpoints[0]; s.State != StateUp || s.Why != "not probed any more" {
			t.Errorf("it is %s: %s", s.State, s.Why)
		}
		p.Done(&exchange.Exchange{}, &m.Endpoint, exchange.Result{Kind: exchange.ConnectFailed, Unsent: true})
		if s := p.Status().Endpoints[0]; s.State != StateEjected || s.Why != "connect failed; ejected for 1s" {
			t.Errorf("after a connection that was refused it is %s: %s", s.State, s.Why)
		}
	})
}

// TestWhyOfWhatPeopleTookOut: what probes find meanwhile is not why an endpoint that people took out gets nothing.
func TestWhyOfWhatPeopleTookOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := probed(t, 3)
		stop := running(t, p)
		defer stop()
		synctest.Wait()
		for _, m := range p.members {
			f.say(m.Address, true)
		}
		synctest.Wait()
		held, down := p.members[0].Address, p.members[1].Address
		if err := p.SetBreaker(held, BreakerOpen, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := p.SetState(down, StateDown); err != nil {
			t.Fatal(err)
		}
		for _, well := range []bool{false, true, false} {
			for range 3 { // as many as fall asks for
				f.say(held, well)
				f.say(down, well)
			}
			s := p.Status().Endpoints
			if !strings.HasPrefix(s[0].Why, "breaker open by hand") || s[1].Why != "set by an operator" {
				t.Errorf("while probes say %t: %q and %q", well, s[0].Why, s[1].Why)
			}
		}
		pass(2 * time.Minute)
		if err := p.SetState(down, StateUp); err != nil {
			t.Fatal(err)
		}
		if s := p.Status().Endpoints[1]; s.State != StateDown || s.Why != "set by an operator; probes fail" {
			t.Errorf("given back it is %s: %s", s.State, s.Why)
		}
		if s := p.Status().Endpoints[0]; s.State != StateDown || !strings.HasSuffix(s.Why, "the time is over; probes fail") {
			t.Errorf("after the order it is %s: %s", s.State, s.Why)
		}
	})
}
