package otlp

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// TestLaneLeavesToItsSuccessor: after a reload the sender of before may look into the queue once more. What is bound for the new collector is not its own.
func TestLaneLeavesToItsSuccessor(t *testing.T) {
	before, after := &site.OTLP{URL: "before", Timeout: time.Second}, &site.OTLP{URL: "after", Timeout: time.Second}
	present := func() *site.OTLP { return after }
	ended, end := context.WithCancel(t.Context())
	end()
	untold, cancel := context.WithTimeout(t.Context(), 5*time.Second) // no longer than that if it stays
	defer cancel()
	for name, ctx := range map[string]context.Context{"it was not told yet": untold, "it was told": ended} {
		t.Run(name, func(t *testing.T) {
			l := lane[int]{queue: make(chan bound[int], 4)}
			l.offer(1, before)
			l.offer(2, after)
			l.offer(3, after)
			got := map[string][]int{}
			to := func(c *site.OTLP) func(context.Context, []int) {
				return func(_ context.Context, batch []int) { got[c.URL] = append(got[c.URL], batch...) }
			}
			l.run(ctx, before, present, to(before))
			l.run(ended, after, present, to(after))
			if !slices.Equal(got["before"], []int{1}) || !slices.Equal(got["after"], []int{2, 3}) {
				t.Errorf("sent %v, want 1 to the collector of before and 2 and 3 to the one after", got)
			}
		})
	}
}
