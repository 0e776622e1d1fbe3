package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A burst begins when so many requests of a kind are refused within a second, and is over when for burstQuiet fewer than half as many are.
const (
	burstLeast = 10
	burstQuiet = 10 * time.Second
	burstMost  = 50 // bursts that are told of at once; with more the figures say it better
)

// bursts turns counts of refusals into events: one when it begins, one when it is over. It is stepped once a second and pure.
type bursts struct {
	last map[burstKey]uint64
	open map[burstKey]*burst
}

// burstKey is a kind of refusals, of all classes.
type burstKey struct{ route, stage, reason, limit string }

type burst struct {
	began, loud time.Time // when it began, and was last as many
	refused     uint64
	peak        uint64 // in one second
}

// told is what there is to say of a burst.
type told struct {
	text       string
	properties map[string]string
}

// step takes all counts at one moment.
func (b *bursts) step(now time.Time, counts map[burstKey]uint64) (out []told) {
	for _, key := range slices.SortedFunc(maps.Keys(counts), burstKey.compare) {
		fresh := less(counts[key], b.last[key])
		one := b.open[key]
		switch {
		case b.last == nil:
		case one == nil && fresh >= burstLeast && len(b.open) < burstMost:
			if b.open == nil {
				b.open = map[burstKey]*burst{}
			}
			b.open[key] = &burst{began: now, loud: now, refused: fresh, peak: fresh}
			out = append(out, told{fmt.Sprintf("%s: %d requests were refused within a second", key, fresh), key.properties(fresh)})
		case one != nil:
			one.refused += fresh
			one.peak = max(one.peak, fresh)
			if 2*fresh >= burstLeast {
				one.loud = now
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(b.open), burstKey.compare) {
		one := b.open[key]
		if _, there := counts[key]; there && now.Sub(one.loud) < burstQuiet {
			continue
		}
		delete(b.open, key)
		out = append(out, told{fmt.Sprintf("%s: the burst of refusals is over; %d in %v, up to %d in a second", key, one.refused,
			one.loud.Sub(one.began).Round(time.Second)+time.Second, one.peak), key.properties(one.refused)})
	}
	b.last = counts
	return out
}

func (k burstKey) compare(o burstKey) int {
	return slices.Compare([]string{k.route, k.stage, k.reason, k.limit}, []string{o.route, o.stage, o.reason, o.limit})
}

// String says in words whose requests were refused by what.
func (k burstKey) String() string {
	text := "route " + k.route
	if k.route == "" {
		text = "no route"
	}
	text += ", " + k.stage + " (" + k.reason
	if k.limit != "" {
		text += ", " + k.limit
	}
	return text + ")"
}

func (k burstKey) properties(n uint64) map[string]string {
	p := map[string]string{"route": k.route, "stage": k.stage, "reason": k.reason, "limit": k.limit, "refused": fmt.Sprint(n)}
	maps.DeleteFunc(p, func(_, v string) bool { return strings.TrimSpace(v) == "" })
	return p
}

// tickBursts looks for bursts of refusals. It is called once a second, by one goroutine.
func (n *Node) tickBursts(now time.Time, b *bursts) {
	counts := map[burstKey]uint64{}
	for route, kinds := range n.tallies.refusedAll() {
		for key, count := range kinds {
			counts[burstKey{route, key.stage, key.reason, key.limit}] += count
		}
	}
	for _, t := range b.step(now, counts) {
		n.events.addAbout(now, "refusals", t.text, t.properties)
		n.log.Info(t.text, "event", "refusals")
	}
}
