package node

import (
	"bytes"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/contain/cache"
	"github.com/even-keel/evenkeel/contain/degrade"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

func TestCauses(t *testing.T) {
	for _, one := range []struct {
		stage, reason string
		status        int
		want          cache.Cause
	}{
		{"shed", "overloaded", 503, cache.CauseOverloaded}, {"shed", "class_off", 503, cache.CauseOverloaded}, {"shed", "client_gone", 503, cache.CauseClient},
		{"shed", "deadline", 503, cache.CauseDeadline}, {"send", "deadline", 504, cache.CauseDeadline}, {"bulkhead", "full", 503, cache.CauseOverloaded},
		{"pick", "no_endpoint", 503, cache.CauseDown}, {"pick", "spill_full", 503, cache.CauseOverloaded}, {"breaker", "open", 503, cache.CauseDown}, {"send", "endpoint_connections", 503, cache.CauseOverloaded},
		{"send", "connect_failed", 502, cache.CauseFailed}, {"send", "endpoint_timeout", 504, cache.CauseFailed}, {"send", "body_too_large", 413, cache.CauseClient},
		{"other", "new", 503, cache.CauseOverloaded}, {"other", "new", 500, cache.CauseFailed}, {"other", "new", 400, cache.CauseClient},
	} {
		if got := cause(&exchange.Refusal{Stage: one.stage, Reason: one.reason, Status: one.status}); got != one.want {
			t.Errorf("%s %s: %d, want %d", one.stage, one.reason, got, one.want)
		}
	}
}

// second is how often and with what the pool that stands in was asked.
type second struct {
	asked  int
	route  *exchange.Route
	refuse *exchange.Refusal
}

func fallbackStage(cfg *site.Fallback, s *second) *fallback {
	p := &fallbackPlan{tally: new(fallbackTally)}
	for cause, word := range causeNames {
		for _, on := range cfg.On {
			p.on[cause] = p.on[cause] || word == on
		}
	}
	f := &fallback{plans: []*fallbackPlan{p}, answer: func(x *exchange.Exchange, status int, fields []wire.Field, _ []byte) *exchange.Refusal {
		x.Outcome.Status = status
		return nil
	}}
	switch {
	case cfg.Respond != nil:
		p.respond = newAnswer(cfg.Respond)
		p.calls = exchange.GRPCType(&wire.Request{Fields: p.respond.Fields})
	case cfg.Redirect != nil:
		p.redirect = newRedirect((*site.Redirect)(cfg.Redirect))
	default:
		p.pool = new(fakePool)
	}
	f.through = func(x *exchange.Exchange) *exchange.Refusal {
		s.asked++
		s.route = x.Route
		x.Outcome.Status = 200
		return s.refuse
	}
	return f
}

func TestFallback(t *testing.T) {
	down := &exchange.Refusal{Stage: "pick", Reason: "no_endpoint", Status: 503}
	failed := &exchange.Refusal{Stage: "send", Reason: "endpoint_broken", Status: 502}
	const call = "POST /shop.S/M HTTP/1.1\nHost: a\nContent-Type: application/grpc"
	for _, one := range []struct {
		name   string
		cfg    site.Fallback
		head   string
		before func(x *exchange.Exchange)
		first  *exchange.Refusal
		second *exchange.Refusal
		status int // 0: the first refusal stands
		asked  int
	}{
		{name: "an answer is an answer", cfg: site.Fallback{On: []string{"down"}}, status: 204},
		{name: "text", cfg: site.Fallback{Respond: &site.Respond{Status: 203}, On: []string{"down"}}, first: down, status: 203},
		{name: "another cause", cfg: site.Fallback{Respond: &site.Respond{}, On: []string{"failed"}}, first: down},
		{name: "pool", cfg: site.Fallback{On: []string{"down"}}, first: down, status: 200, asked: 1},
		{name: "that pool is down too", cfg: site.Fallback{On: []string{"down"}}, first: down, second: failed, asked: 1},
		{name: "a change that may have happened", cfg: site.Fallback{On: []string{"failed"}}, head: "POST / HTTP/1.1\nHost: a", first: failed,
			before: func(x *exchange.Exchange) { x.Outcome.Reached = true }},
		{name: "a change that cannot have happened", cfg: site.Fallback{On: []string{"failed"}}, head: "POST / HTTP/1.1\nHost: a", first: failed, status: 200, asked: 1},
		{name: "a safe request that may have arrived", cfg: site.Fallback{On: []string{"failed"}}, first: failed, status: 200, asked: 1,
			before: func(x *exchange.Exchange) { x.Outcome.Reached = true }},
		{name: "no time left", cfg: site.Fallback{On: []string{"down"}}, first: down,
			before: func(x *exchange.Exchange) { x.Deadline = time.Now().Add(-time.Second) }},
		{name: "switched", cfg: site.Fallback{Respond: &site.Respond{Status: 203}, On: []string{"switched"}}, status: 203,
			before: func(x *exchange.Exchange) { x.Degrade = []byte("extras") }},
		{name: "text for a call", cfg: site.Fallback{Respond: &site.Respond{}, On: []string{"down"}}, head: call, first: down},
		{name: "an answer to calls", cfg: site.Fallback{Respond: &site.Respond{Status: 200, Headers: map[string]string{"Content-Type": "application/grpc", "Grpc-Status": "14"}},
			On: []string{"down"}}, head: call, first: down, status: 200},
		{name: "a redirect for a call", cfg: site.Fallback{Redirect: &site.Detour{Status: 307, Host: "b"}, On: []string{"down"}}, head: call, first: down},
		{name: "a pool for a call", cfg: site.Fallback{On: []string{"down"}}, head: call, first: down, status: 200, asked: 1},
		{name: "a call that is switched off", cfg: site.Fallback{Respond: &site.Respond{}, On: []string{"switched"}}, head: call, second: refuseSwitched,
			before: func(x *exchange.Exchange) { x.Degrade = []byte("extras") }},
		{name: "a redirect", cfg: site.Fallback{Redirect: &site.Detour{Status: 307, Path: "/sorry"}, On: []string{"down"}}, first: down, status: 307},
		{name: "a redirect to where the client is", cfg: site.Fallback{Redirect: &site.Detour{Status: 307, Path: "/sorry"}, On: []string{"down"}},
			head: "GET /sorry?a HTTP/1.1\nHost: a", first: down},
		{name: "a redirect to another host", cfg: site.Fallback{Redirect: &site.Detour{Status: 307, Host: "b", Path: "/sorry"}, On: []string{"down"}},
			head: "GET /sorry HTTP/1.1\nHost: a", first: down, status: 307},
		{name: "a redirect to TLS of who has it", cfg: site.Fallback{Redirect: &site.Detour{Status: 307, Scheme: "https"}, On: []string{"down"}}, first: down,
			before: func(x *exchange.Exchange) { x.Secure = true }},
		{name: "a redirect for who names no host", cfg: site.Fallback{Redirect: &site.Detour{Status: 307, Path: "/sorry"}, On: []string{"down"}}, head: "GET / HTTP/1.0", first: down},
		{name: "switched, and redirected to where the client is", cfg: site.Fallback{Redirect: &site.Detour{Status: 307, Path: "/"}, On: []string{"switched"}}, status: 204,
			before: func(x *exchange.Exchange) { x.Degrade = []byte("extras") }},
		{name: "switched, and no time left", cfg: site.Fallback{On: []string{"switched"}}, second: refuseLate,
			before: func(x *exchange.Exchange) { x.Degrade, x.Deadline = []byte("extras"), time.Now().Add(-time.Second) }},
		{name: "switched, and the other pool is down", cfg: site.Fallback{On: []string{"switched"}}, second: down, asked: 1,
			before: func(x *exchange.Exchange) { x.Degrade = []byte("extras") }},
	} {
		t.Run(one.name, func(t *testing.T) {
			s := &second{refuse: one.second}
			f := fallbackStage(&one.cfg, s)
			if one.head == "" {
				one.head = "GET / HTTP/1.1\nHost: a"
			}
			x := request(t, one.head)
			own := &exchange.Route{Name: "all"}
			x.Route, x.Host = own, x.Request.Host
			x.Path, _, _ = bytes.Cut(x.Request.Target, []byte("?"))
			if one.before != nil {
				one.before(x)
			}
			got := f.Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
				if one.first == nil {
					x.Outcome.Status = 204
				}
				return one.first
			}))
			want := one.first
			if one.status != 0 {
				want = nil
			} else if one.first == nil {
				want = one.second
			}
			if got != want || one.status != 0 && x.Outcome.Status != one.status || s.asked != one.asked || x.Route != own {
				t.Errorf("refusal %v, status %d, the other pool was asked %d times", got, x.Outcome.Status, s.asked)
			}
			if s.asked > 0 && (s.route == own || len(s.route.Response.Add) != 1 || len(own.Response.Add) != 0) {
				t.Errorf("it was asked as %+v", s.route)
			}
		})
	}
}

func TestSwitchedRoutesAllocateNothing(t *testing.T) {
	set := degrade.New(nil)
	now := time.Now()
	set.Update(map[string]*site.Switch{"extras": {}}, now)
	st := &degrading{groups: []*degrade.Group{set.Group([]string{"extras"}, now)}}
	if err := set.Hold("extras", degrade.Hold{On: true, Until: now.Add(time.Hour), By: "hand"}, now); err != nil {
		t.Fatal(err)
	}
	x := request(t, "GET / HTTP/1.1\nHost: a")
	x.Route = &exchange.Route{}
	h := exchange.Chain(ok, st)
	if n := testing.AllocsPerRun(100, func() { h(x) }); n != 0 || string(x.Degrade) != "extras" {
		t.Errorf("%v allocations, told %q", n, x.Degrade)
	}
}

func TestRoutesTellWhichPoolStandsIn(t *testing.T) {
	n := &Node{tallies: newTallies()}
	if r := n.viewRoute("shop", &site.Route{Pool: "a", Fallback: &site.Fallback{Pool: "b"}}, nil); r.Pool != "a" || r.Fallback != "b" {
		t.Errorf("%+v", r)
	}
}
