package node

import (
	"strings"
	"testing"
	"time"
)

// TestBursts: a burst is told of when it begins and when it is over, whatever it does between.
func TestBursts(t *testing.T) {
	var b bursts
	key := burstKey{route: "rest", stage: "limit", reason: "over_limit", limit: "all"}
	quiet := burstKey{stage: "route", reason: "no_route"}
	now, count := time.Unix(0, 0), uint64(1000) // what was before the first look is no burst
	var said []string
	for second, fresh := range []uint64{0, 0, 9, 30, 0, 0, 0, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} {
		count += fresh
		for _, told := range b.step(now.Add(time.Duration(second)*time.Second), map[burstKey]uint64{key: count, quiet: uint64(second)}) {
			said = append(said, told.text)
		}
	}
	want := []string{
		"route rest, limit (over_limit, all): 30 requests were refused within a second",
		"route rest, limit (over_limit, all): the burst of refusals is over; 38 in 5s, up to 30 in a second",
	}
	if strings.Join(said, "\n") != strings.Join(want, "\n") {
		t.Errorf("said was\n%s", strings.Join(said, "\n"))
	}
	// A kind that is gone with its route is over.
	b.step(now.Add(time.Minute), map[burstKey]uint64{key: count + 100})
	if out := b.step(now.Add(61*time.Second), map[burstKey]uint64{}); len(out) != 1 || len(b.open) != 0 {
		t.Errorf("after the route is gone: %v", out)
	}
	// However many kinds there are, what is told is bounded.
	many := map[burstKey]uint64{}
	for i := range 500 {
		many[burstKey{route: strings.Repeat("x", i)}] = 100
	}
	if out := b.step(now.Add(62*time.Second), many); len(out) != burstMost {
		t.Errorf("%d bursts are told of at once", len(out))
	}
}
