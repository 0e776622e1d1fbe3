package shed

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// TestGateDryRunCountsWhatABoundRefuses: where the site file bounds who is inside, a dry run counts about as many as are refused with it on, whether much more comes or twice what the places
// can take, and none when less does. The endpoints answer as many as come.
func TestGateDryRunCountsWhatABoundRefuses(t *testing.T) {
	for _, c := range []struct {
		name         string
		places, wave int
		every, took  time.Duration
		fewest       uint64
	}{
		{"waves of ten for one place", 1, 10, 400 * time.Millisecond, 900 * time.Millisecond, 2000},
		{"twice what ten places take", 10, 1, 25 * time.Millisecond, 500 * time.Millisecond, 900},
		{"half of what ten places take", 10, 1, 100 * time.Millisecond, 500 * time.Millisecond, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			count := func(mode string) (n uint64) {
				synctest.Test(t, func(t *testing.T) {
					set := on
					set.Mode, set.Max = mode, c.places
					g := New("shop", set, Deps{})
					var all sync.WaitGroup
					for range 2400 / c.wave {
						for range c.wave {
							all.Go(func() { g.Serve(newExchange(exchange.Standard), answer(c.took)) })
						}
						<-time.After(c.every)
					}
					all.Wait()
					n = g.refused[exchange.Standard].Load() + g.would[exchange.Standard].Load()
				})
				return n
			}
			refused, would := count(site.ModeOn), count(site.ModeDryRun)
			far := refused * 15 / 100 // until the first answers tell how long they take, a dry run counts nobody, and its line does not get shorter
			if refused < c.fewest || would > refused+far || refused > would+far {
				t.Errorf("refused %d when on, and counted %d in a dry run", refused, would)
			}
		})
	}
}
