package pool

import (
	"container/heap"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

func TestSmoothIsNginxOrder(t *testing.T) {
	got := ""
	for _, i := range smooth([]int{10, 2, 2}) {
		got += string(rune('a' + i))
	}
	if got != "aabacaa" {
		t.Errorf("weights 10, 2, 2 make %s, want aabacaa", got)
	}
}

// Every window of the sequence must hold close to the due share of each member: no bursts.
func TestSmoothHasNoBursts(t *testing.T) {
	many := make([]int, 3000)
	for i := range many {
		many[i] = 1 + i%7
	}
	for _, weights := range [][]int{{1, 1, 1}, {7, 3, 2, 1}, {100, 1}, {65535, 1, 300}, many} {
		seq := smooth(weights)
		if len(seq) > orderMax+len(weights) {
			t.Errorf("%d weights make %d turns, want at most %d", len(weights), len(seq), orderMax)
		}
		sum, count := 0.0, make([]float64, len(weights))
		for _, w := range weights {
			sum += float64(w)
		}
		worst := 0.0
		for n, i := range seq {
			count[i]++
			due := float64(n+1) * float64(weights[i]) / sum
			worst = max(worst, math.Abs(count[i]-due))
		}
		// nginx's order stays within one turn; rounding of weights that do not fit adds some.
		if limit := 2 + 0.02*float64(len(seq)); len(weights) < 100 && worst > 2 && sum < orderMax || worst > limit {
			t.Errorf("%d weights: a member is %.1f turns off its share, want less than %.1f", len(weights), worst, limit)
		}
	}
}

func TestRoundRobinTakesTurns(t *testing.T) {
	p := setup(t, site.MethodRoundRobin, 3)
	for addr, share := range shares(t, p, 3000) {
		within(t, "share of "+addr, share, 1.0/3, 1e-9)
	}
}

func TestAliasFollowsWeights(t *testing.T) {
	p := setup(t, site.MethodLeastRequests, 5, 0, 1, 5, 20, 74)
	s := p.snap.Load().groups[0].by.(*leastRequests).sampler
	count, rnd := make(map[string]float64), uint64(3)
	for range 200_000 {
		rnd = mix(rnd)
		count[s.list[s.draw(rnd)].Address] += 1.0 / 200_000
	}
	for i, want := range []float64{0, .01, .05, .2, .74} {
		within(t, fmt.Sprintf("part of endpoint %d", i+1), count[p.members[i].Address], want, 0.005)
	}
}

// lab serves exchanges of a pool in simulated time: each endpoint answers after its latency.
type lab struct {
	p     *Pool
	now   time.Time
	queue answers
	got   map[string]int
	serve func(address string, busy int64) exchange.Result
}

type answer struct {
	at time.Time
	x  *exchange.Exchange
	e  *exchange.Endpoint
	r  exchange.Result
}

type answers []answer

func (q answers) Len() int           { return len(q) }
func (q answers) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q answers) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *answers) Push(x any)        { *q = append(*q, x.(answer)) }
func (q *answers) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func newLab(t *testing.T, method string, n int, serve func(address string, busy int64) exchange.Result) *lab {
	l := &lab{now: time.Unix(1_700_000_000, 0), got: make(map[string]int), serve: serve}
	cfg := *setup(t, method, n).cfg
	p, err := newPool(&cfg, Deps{Seed: 11}, func() time.Time { return l.now })
	if err != nil {
		t.Fatal(err)
	}
	l.p = p
	return l
}

// run sends n exchanges, one each gap on average, with seeded random gaps.
func (l *lab) run(t *testing.T, n int, gap time.Duration) {
	t.Helper()
	rnd := uint64(5)
	for i := range n {
		rnd = mix(rnd)
		l.now = l.now.Add(time.Duration(float64(gap) * -math.Log(float64(rnd>>11+1)/(1<<53))))
		for len(l.queue) > 0 && !l.queue[0].at.After(l.now) {
			a := heap.Pop(&l.queue).(answer)
			at := l.now
			l.now = a.at
			l.p.Done(a.x, a.e, a.r)
			l.now = at
		}
		l.p.look(l.now)
		x := &exchange.Exchange{Shard: uint32(i)}
		e, no := l.p.Pick(x)
		if no != nil {
			t.Fatal(no)
		}
		l.got[e.Address]++
		r := l.serve(e.Address, e.InFlight.Load())
		heap.Push(&l.queue, answer{l.now.Add(r.Latency), x, e, r})
	}
}

func TestFastFailingEndpointAttractsNothing(t *testing.T) {
	for _, method := range []string{site.MethodEWMA, site.MethodPrequal} {
		for _, status := range []int{500, 503, 429} {
			l := newLab(t, method, 5, func(address string, _ int64) exchange.Result {
				if address == "10.0.0.1:80" {
					return exchange.Result{Status: status, Latency: time.Millisecond}
				}
				return exchange.Result{Status: 200, Latency: 30 * time.Millisecond}
			})
			l.run(t, 20_000, time.Millisecond)
			if share := float64(l.got["10.0.0.1:80"]) / 20_000; share > 0.2/5 {
				t.Errorf("%s: an endpoint that fails with %d in 1 ms gets %.3f, want at most %.3f", method, status, share, 0.2/5)
			}
		}
	}
}

// One failure in a thousand must not send an endpoint away for long.
func TestEWMAForgivesStrayFailures(t *testing.T) {
	n := 0
	l := newLab(t, site.MethodEWMA, 5, func(address string, _ int64) exchange.Result {
		r := exchange.Result{Status: 200, Latency: 30 * time.Millisecond}
		if address == "10.0.0.1:80" {
			if n++; n%1000 == 0 {
				r.Status = 500
			}
		}
		return r
	})
	l.run(t, 50_000, time.Millisecond)
	if share := float64(l.got["10.0.0.1:80"]) / 50_000; share < 0.1 {
		t.Errorf("an endpoint with 0.1%% failures gets %.3f, want at least 0.1 of 0.2", share)
	}
}

func TestSlowEndpointGetsLess(t *testing.T) {
	for _, method := range []string{site.MethodLeastRequests, site.MethodEWMA, site.MethodPrequal} {
		l := newLab(t, method, 5, func(address string, busy int64) exchange.Result {
			each := 10 * time.Millisecond
			if address == "10.0.0.1:80" {
				each = 100 * time.Millisecond
			}
			return exchange.Result{Status: 200, Latency: each * time.Duration(1+busy/8)}
		})
		l.run(t, 30_000, time.Millisecond/2)
		if share := float64(l.got["10.0.0.1:80"]) / 30_000; share > 0.1 || share == 0 {
			t.Errorf("%s: an endpoint 10 times as slow gets %.3f, want above 0 and at most half of its fair 0.2", method, share)
		}
	}
}

func TestMaglevSharesAndDisruption(t *testing.T) {
	ids, even := make([]uint64, 100), make([]float64, 100)
	for i := range ids {
		ids[i], even[i] = uint64(i+1)<<40|identity("p", fmt.Sprint(i))>>24, 1
	}
	count := func(table []uint16, n int) []float64 {
		out := make([]float64, n)
		for _, i := range table {
			out[i] += 1.0 / tableSize
		}
		return out
	}
	before := fill(ids, even)
	for i, share := range count(before, 100) {
		within(t, fmt.Sprintf("share of %d", i), share, 0.01, 0.0003)
	}
	after, moved := fill(ids[:99], even[:99]), 0
	for i := range before {
		if before[i] != 99 && before[i] != after[i] {
			moved++
		}
	}
	// The paper measures a few per cent of needless moves for this size.
	if part := float64(moved) / tableSize; part > 0.04 {
		t.Errorf("without one of 100, %.1f%% of the other keys move, want at most 4%%", part*100)
	}
	for i, share := range count(fill(ids[:3], []float64{1, 2, 5}), 3) {
		within(t, fmt.Sprintf("weighted share of %d", i), share, []float64{.125, .25, .625}[i], 0.001)
	}
}

func from(i int) *exchange.Exchange {
	return &exchange.Exchange{Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 1234), Shard: uint32(i)}
}

func pickOf(t testing.TB, p *Pool, x *exchange.Exchange) *exchange.Endpoint {
	t.Helper()
	e, no := p.Pick(x)
	if no != nil {
		t.Fatal(no)
	}
	return e
}

// A health change must move the keys of the sick endpoint and no others.
func TestHashMovesOnlyKeysOfTheSick(t *testing.T) {
	p := setup(t, site.MethodHash, 10)
	before := make([]string, 2000)
	for i := range before {
		e := pickOf(t, p, from(i))
		before[i] = e.Address
		p.Done(from(i), e, exchange.Result{})
	}
	sick := p.members[3].Address
	if err := p.SetState(sick, StateDown); err != nil {
		t.Fatal(err)
	}
	to := make(map[string]int)
	for i := range before {
		e := pickOf(t, p, from(i))
		p.Done(from(i), e, exchange.Result{})
		switch {
		case e.Address == sick:
			t.Fatalf("client %d goes to an endpoint that is down", i)
		case before[i] == sick:
			to[e.Address]++
		case before[i] != e.Address:
			t.Fatalf("client %d moved from %s to %s though both are up", i, before[i], e.Address)
		}
	}
	if len(to) < 5 {
		t.Errorf("the sick endpoint's clients went to %d others, want them spread", len(to))
	}
}

// While a priority spills, a client must stay on one side.
func TestHashKeepsClientsWhileSpilling(t *testing.T) {
	cfg := *setup(t, site.MethodHash, 8).cfg
	for i := range cfg.Endpoints {
		cfg.Endpoints[i].Priority = 1 + i/4
	}
	p, err := New(&cfg, Deps{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range cfg.Endpoints[:2] {
		if err := p.SetState(e.Address, StateDown); err != nil {
			t.Fatal(err)
		}
	}
	spilled := 0.0
	for i := range 2000 {
		first := pickOf(t, p, from(i))
		p.Done(from(i), first, exchange.Result{})
		for range 5 {
			x := from(i)
			x.Shard = uint32(i * 7)
			e := pickOf(t, p, x)
			p.Done(x, e, exchange.Result{})
			if e != first {
				t.Fatalf("client %d goes to %s and then to %s", i, first.Address, e.Address)
			}
		}
		if seat(first).priority == 2 {
			spilled += 1.0 / 2000
		}
	}
	within(t, "part of clients on priority 2", spilled, 0.3, 0.04)
}

func TestHashBoundsLoad(t *testing.T) {
	p := setup(t, site.MethodHash, 5, 1, 1, 2, 1, 1)
	for range 600 {
		pickOf(t, p, from(1)) // one client, all of them in flight
	}
	for _, m := range p.members {
		limit := 1.5 * 600 * float64(m.weight) / 6
		if got := float64(m.InFlight.Load()); got > limit+1 {
			t.Errorf("endpoint %s of weight %d has %.0f in flight, want at most %.0f", m.Address, m.weight, got, limit)
		}
	}
}

func TestHashSources(t *testing.T) {
	fields := func(names ...string) *wire.Request {
		r := &wire.Request{Target: []byte("/a?b=1")}
		for i := 0; i < len(names); i += 2 {
			f := wire.Field{Name: []byte(names[i]), Value: []byte(names[i+1])}
			if names[i] == "Cookie" {
				f.ID = wire.Cookie
			}
			r.Fields = append(r.Fields, f)
		}
		return r
	}
	a, b := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.1:1001")
	v6, v6b := netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("[2001:db8::2]:1")
	local := netip.MustParseAddrPort("198.51.100.1:443")
	for _, c := range []struct {
		name, by, field string
		x, y            exchange.Exchange
		same            bool
	}{
		{"ip ignores ports", site.HashIP, "", exchange.Exchange{Client: a}, exchange.Exchange{Client: b}, true},
		{"ip after proxies", site.HashIP, "", exchange.Exchange{Client: a, IP: v6.Addr()}, exchange.Exchange{Client: a, IP: v6b.Addr()}, false},
		{"mapped IPv4", site.HashIP, "", exchange.Exchange{Client: a},
			exchange.Exchange{Client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:9")}, true},
		{"2-tuple ignores the protocol", site.HashTwoTuple, "", exchange.Exchange{Client: a, Local: local},
			exchange.Exchange{Client: b, Local: local, Protocol: exchange.UDP}, true},
		{"3-tuple sees the protocol", site.HashTriple, "", exchange.Exchange{Client: a, Local: local},
			exchange.Exchange{Client: a, Local: local, Protocol: exchange.UDP}, false},
		{"http and tcp are one protocol", site.HashTriple, "", exchange.Exchange{Client: a, Protocol: exchange.HTTP2},
			exchange.Exchange{Client: b, Protocol: exchange.TCP}, true},
		{"5-tuple sees ports", site.HashFive, "", exchange.Exchange{Client: a, Local: local}, exchange.Exchange{Client: b, Local: local}, false},
		{"header", site.HashHeader, "X-User", exchange.Exchange{Client: a, Request: fields("x-user", "u1")},
			exchange.Exchange{Client: v6, Request: fields("X-User", "u1")}, true},
		{"header value", site.HashHeader, "X-User", exchange.Exchange{Client: a, Request: fields("x-user", "u1")},
			exchange.Exchange{Client: a, Request: fields("x-user", "u2")}, false},
		{"no header: ip", site.HashHeader, "X-User", exchange.Exchange{Client: a, Request: fields()}, exchange.Exchange{Client: b}, true},
		{"cookie", site.HashCookie, "sid", exchange.Exchange{Client: a, Request: fields("Cookie", "x=1; sid=7")},
			exchange.Exchange{Client: v6, Request: fields("Cookie", "sid=\"7\"; y=2")}, true},
		{"path without query", site.HashPath, "", exchange.Exchange{Client: a, Request: fields()},
			exchange.Exchange{Client: v6, Path: []byte("/a")}, true},
	} {
		k := newKeyer(site.Hash{By: c.by, Name: c.field})
		if got := k.key(&c.x) == k.key(&c.y); got != c.same {
			t.Errorf("%s: same key %v, want %v", c.name, got, c.same)
		}
	}
}

func TestRetryAvoidsTheEndpointThatFailed(t *testing.T) {
	for _, method := range []string{site.MethodRoundRobin, site.MethodWeighted, site.MethodLeastRequests, site.MethodEWMA,
		site.MethodHash, site.MethodPrequal} {
		p := setup(t, method, 3)
		for i := range 500 {
			x := from(i)
			x.Endpoint = pickOf(t, p, x)
			p.Done(x, x.Endpoint, exchange.Result{Status: 200})
			x.Attempt = 2
			if e := pickOf(t, p, x); e == x.Endpoint {
				t.Fatalf("%s: the second attempt goes where the first failed", method)
			} else {
				p.Done(x, e, exchange.Result{Status: 200})
			}
		}
		one := setup(t, method, 1)
		x := from(1)
		x.Endpoint, x.Attempt = pickOf(t, one, from(1)), 2
		pickOf(t, one, x) // better the same than none
	}
}
