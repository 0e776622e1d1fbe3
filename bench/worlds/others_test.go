package worlds

import (
	"testing"
	"time"
)

// TestOthers: before endpoints with room for all, other requests that take far longer come by and by, and nothing tells which they are. Nobody should be refused. This many still are, as the share of all: a queue
// looks the same until a dip has told. Without what fewerIn and heavier say it was up to 0.65, and up to 0.26 while answers that all take the same were as often quick as not; where paths tell what is asked for it is none (TestGateLetsOthersCome).
func TestOthers(t *testing.T) {
	for _, c := range []struct {
		most        float64 // per second
		over        time.Duration
		times, work float64 // of the work of the first, which takes so many seconds
		refused     float64
	}{
		{500, 15 * time.Second, 40, 0.005, 0.015}, {250, 7 * time.Second, 40, 0.005, 0.005}, {100, 5 * time.Second, 100, 0.005, 0.005}, {250, 5 * time.Second, 160, 0.005, 0.01},
		{1000, time.Second, 40, 0.005, 0.15}, {100, 10 * time.Second, 20, 0.02, 0.005}, {50, 10 * time.Second, 10, 0.1, 0}, {300, 20 * time.Second, 4, 0.05, 0},
	} {
		refusesAtMost(t, c.refused, 300, World{Workers: 1000, Service: seconds(c.work), Dist: fixed, Timeout: time.Minute,
			Others: Others{Most: c.most, From: 5 * time.Second, Over: c.over, Times: c.times}})
	}
}

// TestAnotherMix: from one moment to the next others come as well whose requests are far heavier, before sixty places that can do with them, or nearly; nothing tells which they are. This many are refused, as
// the share of all. Without what quick answers tell it was up to 0.56, for half a minute.
func TestAnotherMix(t *testing.T) {
	for _, c := range []struct {
		most, times float64 // per second, and times the work of the first
		dist        string
		sharing     bool
		over        time.Duration
		refused     float64
	}{
		{150, 10, exp, false, 1, 0.02}, {150, 10, fixed, false, 1, 0.015}, {150, 10, heavy, false, 1, 0.03}, {150, 10, exp, true, 1, 0.01}, {60, 20, exp, true, 1, 0.02},
		{150, 10, exp, false, 5 * time.Second, 0.03}, {19, 80, exp, false, 1, 0.12}, {20, 70, mixed, false, 1, 0.03},
		{300, 6, exp, false, 1, 0.18}, // 1.04 of what can be done; who is told the truth refuses 0.04
	} {
		refusesAtMost(t, c.refused, 281, World{Workers: 20, Service: seconds(0.03), Dist: c.dist, Sharing: c.sharing, Timeout: 5 * time.Second,
			Others: Others{Most: c.most, From: 10 * time.Second, Over: c.over, Times: c.times}})
	}
}

// refusesAtMost plays w with three endpoints for half a minute, twenty times, with so many requests a second and the others.
func refusesAtMost(t *testing.T, most, rate float64, w World) {
	t.Helper()
	w.Endpoints, w.Tenants, w.Length = 3, 10, 30*time.Second
	w.Steps = []Step{{Demand: rate / w.Capacity()}}
	refused, sent := 0, 0
	for seed := range uint64(20) {
		w.Seed = seed + 1
		r := run(&w, learns, 0)
		refused, sent = refused+r.Refused, sent+r.Sent
	}
	if got := float64(refused) / float64(sent); sent < 160_000 || got > most {
		t.Errorf("%d x %d of %v, %s, and %+v: %.3f of %d were refused", w.Endpoints, w.Workers, w.Service, w.Dist, w.Others, got, sent)
	}
}
