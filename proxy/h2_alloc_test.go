//go:build !race

package proxy

import "testing"

// The race detector makes sync.Pool forget things, so allocations are counted without it.

// TestH2AllocatesNothing: a request and its answer cost no allocation once everything is warm.
func TestH2AllocatesNothing(t *testing.T) {
	if res := testing.Benchmark(BenchmarkH2Front); res.N > 1000 && res.AllocsPerOp() > 0 {
		t.Errorf("%d allocations per request", res.AllocsPerOp())
	}
}
