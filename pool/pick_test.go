package pool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// setup returns a pool of n endpoints 10.0.0.1:80, … with the weights given in turn.
func setup(t testing.TB, method string, n int, weights ...int) *Pool {
	t.Helper()
	cfg := &site.Pool{Name: "shop", Method: method, Panic: 0.5, Overprovision: 1.4, SlowStart: 30 * time.Second,
		DrainTimeout: 30 * time.Second, Hash: site.Hash{By: site.HashIP, Balance: 1.5}}
	for i := range n {
		w := 1
		if len(weights) > 0 {
			w = weights[i%len(weights)]
		}
		cfg.Endpoints = append(cfg.Endpoints, site.Endpoint{Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), Weight: w, Priority: 1})
	}
	p, err := New(cfg, Deps{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shares picks n times one after the other and returns the part that each endpoint got.
func shares(t testing.TB, p *Pool, n int) map[string]float64 {
	t.Helper()
	out := make(map[string]float64)
	for i := range n {
		x := &exchange.Exchange{Shard: uint32(i)}
		e, no := p.Pick(x)
		if no != nil {
			t.Fatal(no)
		}
		out[e.Address] += 1 / float64(n)
		p.Done(x, e, exchange.Result{Status: 200, Latency: 10 * time.Millisecond})
	}
	return out
}

func within(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s: %.4f, want %.4f ± %.4f", what, got, want, tolerance)
	}
}

func TestSharesFollowWeights(t *testing.T) {
	for _, method := range []string{site.MethodWeighted, site.MethodLeastRequests} {
		p := setup(t, method, 4, 1, 2, 3, 4)
		got := shares(t, p, 40_000)
		for i, want := range []float64{.1, .2, .3, .4} {
			within(t, fmt.Sprintf("%s: share of endpoint %d", method, i+1), got[p.members[i].Address], want, 0.015)
		}
	}
}

// TestLeastRequestsFindsIdleOnes: sixty endpoints that work on one request at a time, forty of them inside. Who came to a busy one waited beside idle ones: two in five while only two were looked at.
func TestLeastRequestsFindsIdleOnes(t *testing.T) {
	p := setup(t, site.MethodLeastRequests, 60)
	r := rand.New(rand.NewPCG(1, 2))
	var inside []*exchange.Endpoint
	waited, n := 0, 20_000
	for i := range n {
		if len(inside) == 40 { // one of those that work ends
			at := r.IntN(40)
			p.Done(&exchange.Exchange{}, inside[at], exchange.Result{Status: 200, Latency: time.Millisecond})
			inside[at] = inside[39]
			inside = inside[:39]
		}
		e := pickOf(t, p, &exchange.Exchange{Shard: uint32(i)})
		if e.InFlight.Load() > 1 {
			waited++
		}
		inside = append(inside, e)
	}
	if share := float64(waited) / float64(n); share > 0.05 {
		t.Errorf("%.3f of the requests came to a busy endpoint", share)
	}
}

// TestLeastRequestsDoesNotLookForFailing: an endpoint that fails is always idle. It gets no more than it is drawn for, and where others are as good as idle not even that.
func TestLeastRequestsDoesNotLookForFailing(t *testing.T) {
	for busy, most := range map[int64]float64{1: 0, 20: 0.36} {
		p := setup(t, site.MethodLeastRequests, 6)
		for i, m := range p.members {
			m.InFlight.Store(busy)
			if i == 0 {
				m.InFlight.Store(0)
				m.fault.blend(p.nanos(), penalty, 1)
			}
		}
		got := 0
		for i := range 10_000 {
			x := &exchange.Exchange{Shard: uint32(i)}
			e := pickOf(t, p, x)
			if e == &p.members[0].Endpoint {
				got++
			}
			e.InFlight.Add(-1)
		}
		if share := float64(got) / 10_000; share > most {
			t.Errorf("others with %d inside: one that fails gets %.3f, want at most %.3f", busy, share, most)
		}
	}
}
