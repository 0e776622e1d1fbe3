package pool

import (
	"fmt"
	"math"
	"testing"
)

func TestSpill(t *testing.T) {
	for _, c := range []struct {
		tiers []tier
		want  []float64
	}{
		{[]tier{{total: 10, healthy: 10}, {total: 10, healthy: 10}}, []float64{1, 0}},
		{[]tier{{total: 100, healthy: 72}, {total: 10, healthy: 10}}, []float64{1, 0}},
		{[]tier{{total: 100, healthy: 71}, {total: 10, healthy: 10}}, []float64{.994, .006}},
		{[]tier{{total: 4, healthy: 2}, {total: 1, healthy: 1}}, []float64{.7, .3}},
		{[]tier{{total: 4, healthy: 0}, {total: 10, healthy: 2}, {total: 5, healthy: 5}}, []float64{0, .28, .72}},
		{[]tier{{total: 10, healthy: 2}, {total: 10, healthy: 1}}, []float64{2. / 3, 1. / 3}}, // together too little: by proportion
		{[]tier{{total: 10}, {}}, []float64{0, 0}},
		{[]tier{{}, {total: 1, healthy: 1}}, []float64{0, 1}},
	} {
		got := spill(c.tiers, 1.4)
		for i := range got {
			if math.Abs(got[i]-c.want[i]) > 1e-9 {
				t.Errorf("%+v: %.4f, want %.4f", c.tiers, got, c.want)
				break
			}
		}
	}
}

func TestLocal(t *testing.T) {
	for _, c := range []struct {
		localHealthy, localTotal, healthy float64
		want                              float64
	}{
		{4, 4, 10, 1}, {3, 4, 9, 1}, {2, 4, 8, .7}, {0, 4, 6, 0}, {0, 0, 6, 0}, {1, 4, 1, 1}, // nobody else is well
	} {
		tier := tier{total: 10, healthy: c.healthy, localTotal: c.localTotal, localHealthy: c.localHealthy}
		within(t, fmt.Sprintf("local part of %+v", tier), local(tier, 1.4), c.want, 1e-9)
	}
}

// Whatever is healthy, the parts of a plan add up to one and hold nobody who may not be used.
func TestPlansAreWhole(t *testing.T) {
	rnd := uint64(9)
	draw := func(n uint64) int { rnd = mix(rnd); return int(rnd % n) }
	for range 3000 {
		p := setup(t, "least_requests", 1+draw(12))
		p.cfg.Panic, p.deps.Zone = 0.5, []string{"", "x"}[draw(2)]
		for _, m := range p.members {
			m.probed, m.weight, m.priority, m.zone = true, draw(4), 1+draw(3), []string{"", "x", "y"}[draw(3)]
			m.admin = []string{StateUp, StateUp, StateUp, StateDrain, StateDown}[draw(5)]
			if draw(4) > 0 {
				m.health.Step(probeVerdict(draw(3) > 0))
			}
		}
		do, sum := arrange(p.members, p.deps.Zone, p.cfg), 0.0
		for _, part := range do.parts {
			sum += part.share
			for _, m := range part.list {
				if !m.allowed() || m.weight == 0 || !do.panics && !do.unknown && !m.healthy() {
					t.Fatalf("%s in state %s is used", m.Address, m.admin)
				}
			}
		}
		usable := false
		for _, m := range p.members {
			usable = usable || m.weight > 0 && m.healthy()
		}
		if len(do.parts) > 0 && math.Abs(sum-1) > 1e-9 || usable && len(do.parts) == 0 {
			t.Fatalf("the parts add up to %v: %+v", sum, do)
		}
	}
}
