package pool

import (
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// levelling lets n endpoints of different strength tell their load for a while, and returns the utilisation of each at the end.
func levelling(t *testing.T, method string, strength []float64, steps int) []float64 {
	p := setup(t, method, len(strength))
	now := time.Unix(1_700_000_000, 0)
	p.clock, p.base = func() time.Time { return now }, now
	busy := make([]float64, len(strength))
	for range steps {
		got := shares(t, p, 2000)
		for i, m := range p.members {
			busy[i] = got[m.Address] / strength[i]
			for range 10 {
				m.InFlight.Add(1)
				p.Done(&exchange.Exchange{}, &m.Endpoint, exchange.Result{Status: 200, Utilisation: float32(busy[i])})
			}
		}
		now = now.Add(levelEvery)
		p.look(now)
	}
	return busy
}

func TestLevelMovesSharesToEqualUtilisation(t *testing.T) {
	for _, method := range []string{site.MethodLeastRequests, site.MethodWeighted} {
		// The third can do a quarter of what the others can.
		busy := levelling(t, method, []float64{0.4, 0.4, 0.1}, 60)
		for i, u := range busy {
			if u < 0.6 || u > 1.4 {
				t.Errorf("%s: endpoint %d is at %.2f, want about the same for all: %.2f", method, i, u, busy)
			}
		}
	}
}

func TestLevelLeavesEqualOnesAlone(t *testing.T) {
	p := setup(t, site.MethodWeighted, 3)
	now := time.Unix(1_700_000_000, 0)
	p.clock, p.base = func() time.Time { return now }, now
	for i := range 100 {
		for j, m := range p.members {
			m.InFlight.Add(1)
			p.Done(&exchange.Exchange{}, &m.Endpoint, exchange.Result{Status: 200, Utilisation: 1 + 0.04*float32((i+j)%2)})
		}
		now = now.Add(levelEvery)
		p.look(now)
	}
	for _, m := range p.members {
		if m.vitals.factor(now) != 1 {
			t.Errorf("share of %s is %.2f when all are full, want 1", m.Address, m.vitals.factor(now))
		}
	}
	m := p.members[0]
	m.lean = 0.3
	now = now.Add(2 * reportFor)
	p.look(now)
	if m.vitals.factor(now) != 1 || p.reported.Load() {
		t.Errorf("%v after the last report the share still is %.2f", 2*reportFor, m.vitals.factor(now))
	}
}
