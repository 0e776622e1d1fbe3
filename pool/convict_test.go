package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// TestAcquit: a site file that says that answers eject no more takes back what they did. Nobody looked at answers from then on, so that an endpoint in doubt
// kept a tenth of its share for ever, and one on trial got one request at a time for ever.
func TestAcquit(t *testing.T) {
	for name, c := range map[string]struct {
		sick  time.Duration // until the reload
		waits time.Duration // well by then
		state string        // of its breaker then
	}{
		"in doubt": {500 * time.Millisecond, 0, BreakerClosed},
		"ejected":  {5 * time.Second, 0, BreakerOpen},
		"on trial": {5 * time.Second, 27 * time.Second, BreakerHalfOpen},
	} {
		for _, mode := range []string{site.ModeOff, site.ModeDryRun} {
			f := newFleet(t, site.MethodRoundRobin, 4, 50, 3, fixed(20*time.Millisecond))
			f.run(t, 100, 5*time.Second)
			m := f.p.members[1]
			f.nth(1).fails = 1
			f.run(t, 100, c.sick)
			f.nth(1).fails = 0
			f.run(t, 1, c.waits)
			if m.breaker() != c.state || c.state == BreakerClosed && m.doubt == 0 {
				t.Fatalf("%s: its breaker is %s and the doubt %v\n%s", name, m.breaker(), m.doubt, f.log.String())
			}
			cfg := *f.p.cfg
			cfg.Outliers.Mode = mode
			if err := f.p.Update(&cfg); err != nil {
				t.Fatal(err)
			}
			f.run(t, 100, 40*time.Second) // slow start ends
			f.begin()
			f.run(t, 100, 20*time.Second)
			if m.breaker() != BreakerClosed || m.standing.suspect != "" || f.share(1) < 0.24 {
				t.Errorf("%s, then %s: its breaker is %s, suspect %q, its share %.3f of 0.25\n%s", name, mode, m.breaker(), m.standing.suspect, f.share(1), f.log.String())
			}
		}
	}
}

// TestDryBoundsJudgeToo: fixed bounds that are only tried out do not keep the comparison from an endpoint that is beyond them.
func TestDryBoundsJudgeToo(t *testing.T) {
	f := newFleet(t, site.MethodRoundRobin, 4, 50, 3, fixed(20*time.Millisecond))
	cfg := *f.p.cfg
	cfg.Breaker = site.Breaker{Mode: site.ModeDryRun, Endpoint: site.EndpointBreaker{Samples: 20, SlowShare: 0.5, Row: 5}}
	if err := f.p.Update(&cfg); err != nil {
		t.Fatal(err)
	}
	f.run(t, 100, 5*time.Second)
	f.nth(1).fails = 1
	f.run(t, 100, 10*time.Second)
	if m := f.p.members[1]; m.breaker() != BreakerOpen || !strings.Contains(f.log.String(), "would be ejected: answers fail: 5 in a row") {
		t.Errorf("its breaker is %s\n%s", m.breaker(), f.log.String())
	}
}
