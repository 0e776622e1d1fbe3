package node

import "testing"

func TestTrimmer(t *testing.T) {
	var tr trimmer
	for i, step := range []struct {
		requests uint64
		want     bool
	}{{0, false}, {0, false}, {0, false}, {5, false}, {5, false}, {5, false}, {5, true}, {5, true}, {5, true}, {5, false}, {5, false}, {6, false}, {6, false}, {6, false}, {6, true}} {
		if got := tr.step(step.requests); got != step.want {
			t.Errorf("second %d, %d requests: collect %v, want %v", i, step.requests, got, step.want)
		}
	}
}
