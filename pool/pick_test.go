package pool

import (
	"fmt"
	"math"
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
