package overload

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// stormRetries is how often a client of a storm tries again at once.
const stormRetries = 2

// stormLoad is demand without a low class: that is switched off for five seconds after an overload, on purpose.
func stormLoad(rate float64) []stream {
	return []stream{{"critical", "", criticalShare * rate}, {"standard", "", (1 - criticalShare) * rate}}
}

// storm makes all endpoints fail a part of their requests after having worked on them, and then be well again. Clients that fail try twice more
// at once, as impatient people and careless programs do.
func storm(ctx context.Context, t *trial) error {
	c := healthy().capacity() * poolSize
	load := stormLoad(0.6 * c)
	for _, part := range []float64{0.3, 1} {
		ill := healthy()
		ill.fails, ill.status = part, http.StatusServiceUnavailable
		set := func(can works) func() {
			return func() {
				for _, e := range t.five {
					e.change(can)
				}
			}
		}
		all := func() (n int) {
			for _, e := range t.five {
				n += e.counted()
			}
			return n
		}
		before := 0
		r := t.pool(ctx, stormRetries, phase{long: t.long(4, 2), streams: load, begin: func() { before = all() }},
			phase{long: t.long(10, 4), streams: load, begin: set(ill)},
			phase{long: t.long(10, 6), streams: load, begin: set(healthy())})
		w := r.window(0, 2, 0)
		at := fmt.Sprintf(" at %.0f%%", 100*part)
		t.atMost("attempts for a request"+at, float64(all()-before)/float64(max(w.attempts, 1)), 1.1, times)
		sick := r.window(1, 1, 0)
		t.tell("requests a client made meanwhile"+at, float64(sick.attempts)/float64(max(sick.sent, 1)), times)
		t.tell("answered meanwhile"+at, share(sick.answered, sick.sent), percent)
		took, ok := r.recovery(r.began[2], r.began[3])
		t.within("recovery"+at, took, 2*time.Second, ok)
	}
	return nil
}
