package node

import (
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// hedging knows when requests of a route are sent to a second endpoint. It outlives reloads.
type hedging struct {
	exchange.Hedging
	share float64 // of the answers that come sooner; 0: the time is fixed

	seen   [latencyBuckets]uint64 // all answers until the last look
	recent [latencyBuckets]uint64 // those of about the last ten seconds, older ones fading, in 1/hedgeGrain
}

const (
	// hedgeLeast is how many answers tell a quantile. Before there are so many nothing is hedged.
	hedgeLeast = 100
	hedgeGrain = 64
)

// hedgingOf finds or makes when a route hedges; nil: never.
func (n *Node) hedgingOf(route string, cfg *site.Hedge) *exchange.Hedging {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cfg == nil {
		delete(n.hedges, route)
		return nil
	}
	if n.hedges == nil {
		n.hedges = map[string]*hedging{}
	}
	h := n.hedges[route]
	if h == nil {
		h = new(hedging)
		n.hedges[route] = h
	}
	h.share = 0
	if percent, is := strings.CutPrefix(cfg.After, "p"); is {
		whole, _ := strconv.Atoi(percent) // the site file was checked
		h.share = float64(whole) / 100
		return &h.Hedging
	}
	d, _ := time.ParseDuration(cfg.After)
	h.After.Store(int64(d))
	return &h.Hedging
}

// learnHedges is called once a second.
func (n *Node) learnHedges() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for route, h := range n.hedges {
		if h.share == 0 {
			continue
		}
		var now [latencyBuckets]uint64
		n.tallies.each(func(key tallyKey, t *tally) {
			if key.route == route {
				t.addLatency(&now)
			}
		})
		h.learn(&now)
	}
}

// learn takes in all answers until now.
func (h *hedging) learn(all *[latencyBuckets]uint64) {
	var total uint64
	for i := range all {
		came := all[i] - min(h.seen[i], all[i])
		h.recent[i] = h.recent[i] - h.recent[i]/10 + came*hedgeGrain
		total += h.recent[i]
	}
	h.seen = *all
	if total >= hedgeLeast*hedgeGrain {
		h.After.Store(int64(quantileOf(&h.recent, h.share)))
	}
}
