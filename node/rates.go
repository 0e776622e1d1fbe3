package node

import (
	"sync"
	"time"
)

// rateHistory is how many seconds of requests per second are kept for the console's curve.
const rateHistory = 120

// rates turns counters into rates. It is stepped once a second.
type rates struct {
	mu      sync.Mutex
	at      time.Time
	last    map[string]uint64
	perSec  map[string]float64
	history []float64 // of the node, oldest first
}

// nodeKey is the key of the node's own requests.
const nodeKey = "node"

// step takes the counters at one moment. A counter that is new, or went back because its part was made anew, has no rate yet.
func (r *rates) step(now time.Time, counters map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	past := now.Sub(r.at).Seconds()
	if r.last != nil && past > 0 {
		r.perSec = make(map[string]float64, len(counters))
		for key, n := range counters {
			if before, ok := r.last[key]; ok && n >= before {
				r.perSec[key] = float64(n-before) / past
			}
		}
		if len(r.history) == rateHistory {
			r.history = append(r.history[:0], r.history[1:]...)
		}
		r.history = append(r.history, r.perSec[nodeKey])
	}
	r.at, r.last = now, counters
}

// of is the rate of one counter over the last second.
func (r *rates) of(key string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.perSec[key]
}

// curve is a copy of the history, and its mean over the last ten seconds.
func (r *rates) curve() (history []float64, mean10 float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	history = append([]float64{}, r.history...)
	last := history[max(0, len(history)-10):]
	for _, v := range last {
		mean10 += v / float64(len(last))
	}
	return history, mean10
}
