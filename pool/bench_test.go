package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

var methods = []string{site.MethodRoundRobin, site.MethodWeighted, site.MethodLeastRequests, site.MethodEWMA, site.MethodHash, site.MethodPrequal}

func TestPicksAllocateNothing(t *testing.T) {
	for _, method := range methods {
		for _, p := range []*Pool{setup(t, method, 5, 1, 2), withAffinity(t, method, 5)} {
			x := asking("a=b; keel=0123456789abcdef")
			x.Client = from(1).Client
			r := exchange.Result{Status: 200, Latency: time.Millisecond}
			allocs := testing.AllocsPerRun(1000, func() {
				x.Shard++
				e, no := p.Pick(x)
				if no != nil {
					t.Fatal(no)
				}
				p.Done(x, e, r)
			})
			if allocs != 0 {
				t.Errorf("%s: Pick and Done allocate %v times, want 0", method, allocs)
			}
		}
	}
	// Nor does comparing answers cost any, nor an endpoint on trial.
	f := newFleet(t, site.MethodLeastRequests, 5, 1, 1, fixed(time.Millisecond))
	f.now = f.now.Add(time.Second)
	f.p.look(f.now)
	y := asking("a=b")
	for _, r := range []exchange.Result{{Status: 200, Latency: time.Millisecond}, {Status: 500, Latency: time.Millisecond}} {
		if allocs := testing.AllocsPerRun(1000, func() {
			e, _ := f.p.Pick(y)
			f.p.Done(y, e, r)
		}); allocs != 0 {
			t.Errorf("Pick and Done with comparison of answers allocate %v times, want 0", allocs)
		}
	}
	// A failing endpoint must not cost more either, once it is known.
	p := setup(t, site.MethodLeastRequests, 1)
	x := from(1)
	if allocs := testing.AllocsPerRun(1000, func() {
		e, _ := p.Pick(x)
		p.Done(x, e, exchange.Result{Kind: exchange.ConnectFailed})
	}); allocs != 0 {
		t.Errorf("Pick and Done of an endpoint that fails allocate %v times, want 0", allocs)
	}
}

func BenchmarkPickDone(b *testing.B) {
	for _, method := range methods {
		for _, n := range []int{5, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", method, n), func(b *testing.B) {
				p := setup(b, method, n)
				x := from(1)
				x.Request = &wire.Request{}
				r := exchange.Result{Status: 200, Latency: time.Millisecond}
				b.ReportAllocs()
				for b.Loop() {
					e, _ := p.Pick(x)
					p.Done(x, e, r)
				}
			})
		}
	}
}

// BenchmarkCompared is what comparing answers adds to an exchange, and a look at a pool of some size.
func BenchmarkCompared(b *testing.B) {
	b.Run("exchange", func(b *testing.B) {
		f := newFleet(b, site.MethodLeastRequests, 5, 1, 1, fixed(time.Millisecond))
		f.now = f.now.Add(time.Second)
		f.p.look(f.now)
		x := from(1)
		x.Request = &wire.Request{}
		r := exchange.Result{Status: 200, Latency: time.Millisecond}
		b.ReportAllocs()
		for b.Loop() {
			e, _ := f.p.Pick(x)
			f.p.Done(x, e, r)
		}
	})
	for _, n := range []int{5, 100, 10_000} {
		b.Run(fmt.Sprintf("look/%d", n), func(b *testing.B) {
			f := newFleet(b, site.MethodLeastRequests, n, 1, 1, fixed(time.Millisecond))
			for _, m := range f.p.members {
				for range 30 {
					m.note(&exchange.Result{Status: 200, Latency: time.Millisecond})
					m.done.Add(1)
				}
			}
			for b.Loop() {
				f.now = f.now.Add(time.Second)
				f.p.look(f.now)
			}
		})
	}
}

func BenchmarkRebuild(b *testing.B) {
	for _, method := range methods {
		b.Run(method, func(b *testing.B) {
			p := setup(b, method, endpointsMax)
			for b.Loop() {
				p.mu.Lock()
				p.rebuild(p.clock())
				p.unlock()
			}
		})
	}
}
