package shed

import (
	"math"
	"testing"
	"time"
)

// TestRecall: forty are inside, a hundred a second are answered, and S is taken for 0.4 s. Half a minute ago ninety a second were with eight.
func TestRecall(t *testing.T) {
	for _, c := range []struct {
		name  string
		level gauge
		ago   time.Duration
		most  float64 // places that S may tell of
	}{
		{"as many were answered with eight", gauge{900, 10, 80}, 30 * time.Second, 20}, // no less than half at once
		{"twenty were inside then", gauge{900, 10, 200}, 30 * time.Second, 23.3},       // 20 x 100/90, and chance
		{"a third was answered", gauge{300, 10, 80}, 30 * time.Second, 28.5},
		{"of few answers", gauge{9, 0.1, 0.8}, 30 * time.Second, 40},
		{"long ago", gauge{900, 10, 80}, 10 * time.Minute, 40},
	} {
		k := NewKnee(1)
		k.at, k.service, k.limit, k.moments = time.Hour, 0.4, 40, [3]float64{1000, 100, 10}
		k.low, k.high = alike(100, 0.4), gauge{1000, 10, 400}
		k.levels[rung(c.level.inside())] = level{c.level, k.at - c.ago}
		k.recall()
		if got := k.high.rate() * k.low.mean(); math.Abs(got-c.most) > 0.1 {
			t.Errorf("%s: %.1f places, want %.1f", c.name, got, c.most)
		}
	}
}

// TestSurpriseForgetsLevels: what was answered before capacity changed says nothing of now.
func TestSurpriseForgetsLevels(t *testing.T) {
	k := NewKnee(1)
	k.limit = 8
	k.note(gauge{90, 1, 8}, false)
	k.limit = 40
	k.note(gauge{10, 1, 40}, true)
	if k.levels[rung(8)].count != 0 || k.levels[rung(40)].count != 10 {
		t.Errorf("%v answers at 8 and %v at 40, want 0 and 10", k.levels[rung(8)].count, k.levels[rung(40)].count)
	}
}

// TestLevelsOfManyPlaces: what is known fades with new answers, but not so fast that eight for each of 400 places are never there. They are after eleven turns.
func TestLevelsOfManyPlaces(t *testing.T) {
	k := NewKnee(1)
	k.at, k.service, k.limit, k.moments = time.Hour, 0.4, 400, [3]float64{1000, 400, 1600} // doubt at its most
	l := &k.levels[rung(400)]
	for turn := range 30 {
		k.note(gauge{400, 0.4, 160}, false)
		if known := k.holds(l, k.doubt()); known != (turn >= 10) {
			t.Fatalf("after %d turns known is %v", turn+1, known)
		}
	}
}

// TestCalmIsALevel: what is answered while nobody waits is known after eleven turns of those who are inside.
func TestCalmIsALevel(t *testing.T) {
	k := NewKnee(1)
	k.service, k.low = 0.1, alike(100, 0.1)
	for turn := range 12 {
		k.at += 100 * time.Millisecond
		k.period = gauge{60, 0.1, 6}
		k.calm(&Window{Total: 60, Seconds: 6, Logs: 60 * math.Log(0.1), Squares: 0.6}, Flow{InFlight: 60, Endpoints: 1})
		if known := k.holds(&k.rest, k.doubt()); known != (turn >= 10) {
			t.Fatalf("after %d turns known is %v, of %v answers with %v inside", turn+1, known, k.rest.count, k.rest.inside())
		}
	}
}

// answered is what was answered at a limit, all of it used.
func answered(limit, rate, answers float64) gauge {
	return gauge{answers, answers / rate, answers / rate * limit}
}

// trying is a search with a limit of twenty that knows that once so many a second were answered with so many inside.
func trying(places, once float64) *Knee {
	k := NewKnee(1)
	k.at, k.service, k.known, k.workers, k.limit = time.Hour, 0.2, true, 10, 20
	k.moments, k.low = [3]float64{1000, 200, 40}, alike(100, 0.2)
	k.levels[rung(places)] = level{answered(places, once, 900), k.at}
	return k
}

// concludes is a conclusion from so many answers at the limit of k.
func concludes(k *Knee, rate, answers float64) {
	k.now, k.nextDip, k.verified = answered(k.limit, rate, answers), time.Duration(math.MaxInt64), true
	k.conclude(k.at, Flow{Endpoints: 1})
}

// TestTrial: twenty are inside and fifty a second are answered. Once it was more, with more inside.
func TestTrial(t *testing.T) {
	for _, c := range []struct {
		name         string
		places, once float64 // answers per second with so many
		answers      float64 // since the limit is twenty
		setup        func(*Knee)
		limit        float64 // 0: none is tried
	}{
		{"twice as many", 40, 100, 600, nil, 40},
		{"four times as many", 40, 200, 600, nil, 40},
		{"no more than twice the limit is tried", 80, 200, 600, nil, 40},
		{"as many", 40, 50, 600, nil, 0},
		{"a third more, with twice as many inside", 40, 65, 600, nil, 0},
		{"a few more, with a few more inside", 27, 59.5, 600, nil, 0},
		{"twice as many, and one was in vain just now", 40, 100, 600, func(k *Knee) { k.trial.next = k.at + 1 }, 0},
		{"twice as many, and one was in vain at a limit of 34", 40, 100, 600, func(k *Knee) { k.trial.next, k.trial.vain = k.at+1, 34 }, 40},
		{"twice as many, and one was in vain at a limit of 33", 40, 100, 600, func(k *Knee) { k.trial.next, k.trial.vain = k.at+1, 33 }, 0},
		{"twice as many, but clients leave", 40, 100, 600, func(k *Knee) { k.ceilingEnd = 5 }, 0},
		{"eight times as many, of few answers", 40, 400, 600, func(k *Knee) { k.levels[rung(40)].gauge = answered(40, 400, 300) }, 0},
		{"eight times as many, an hour ago", 40, 400, 600, func(k *Knee) { k.levels[rung(40)].last = 0 }, 0},
		{"eight times as many, and the limit has hardly been used yet", 40, 400, 19, nil, 0},
		{"twice as many, by chance", 40, 100, 30, func(k *Knee) { k.moments[2] *= 8 }, 0},
		{"twice as many in calm times", 80, 50, 600, func(k *Knee) { k.rest = level{answered(70, 100, 900), k.at} }, 40},
		{"twice as many in calm times, before a surprise", 80, 50, 600, func(k *Knee) { k.rest = level{answered(70, 100, 900), k.at}; k.note(gauge{}, true) }, 40},
		{"twice as many in calm times, with fewer inside", 80, 50, 600, func(k *Knee) { k.rest = level{answered(5, 100, 900), k.at} }, 0},
		{"twice as many in calm times, with not quite three times as many inside", 80, 50, 600, func(k *Knee) { k.rest = level{answered(59, 100, 900), k.at} }, 0},
		{"twice as many in calm times, of few answers", 80, 50, 600, func(k *Knee) { k.rest = level{answered(70, 100, 500), k.at} }, 0},
		{"twice as many in calm times, an hour ago", 80, 50, 600, func(k *Knee) { k.rest = level{answered(70, 100, 900), 0} }, 0},
		{"twice as many in calm times, and an endpoint went since then", 80, 50, 600, func(k *Knee) {
			k.rest = level{answered(70, 100, 900), k.at}
			k.endpoints = 2
			k.scale(1)
			k.limit, k.moments, k.low = 20, [3]float64{1000, 200, 40}, alike(100, 0.2)
		}, 0},
	} {
		k := trying(c.places, c.once)
		if c.setup != nil {
			c.setup(k)
		}
		if concludes(k, 50, c.answers); (k.trial.limit > 0) != (c.limit > 0) || c.limit > 0 && k.limit != c.limit || k.limit < 10 {
			t.Errorf("%s: the limit is %v, want %v; the trial's %v", c.name, k.limit, c.limit, k.trial.limit)
		}
	}

	k := trying(40, 100)
	k.now = answered(20, 50, 600)
	if k.conclude(k.at, Flow{Endpoints: 1, Busy: 1}); k.trial.limit > 0 {
		t.Error("a higher limit is tried though endpoints say that they have enough to do")
	}

	k = trying(40, 100)
	concludes(k, 50, 600)
	if concludes(k, 100, 600); k.limit <= 40 || math.Abs(k.service-0.4) > 1e-9 || k.trial.limit != 0 {
		t.Errorf("more is answered: the limit is %v with an S of %v, want more than 40 and 0.4", k.limit, k.service)
	}

	k = trying(40, 100)
	concludes(k, 50, 600)
	k.at += time.Second
	if concludes(k, 45, 600); k.limit != 20 || k.low.mean() != 0.2 || k.high.rate() != 50 || k.levels[rung(40)].count != 0 || k.trial.next != k.at+40*time.Second {
		t.Errorf("no more is answered: the limit is %v, S %v, %v a second; %v answers are known of forty, and the next trial is %v later; want 20, 0.2, 50, 0 and 40s",
			k.limit, k.low.mean(), k.high.rate(), k.levels[rung(40)].count, k.trial.next-k.at)
	}

	k = trying(40, 200)
	k.moments[2] *= 5 // doubt is 5: what 60 answers show is less than two and a half standard deviations
	concludes(k, 50, 600)
	if concludes(k, 80, 60); k.low.mean() != 0.4 {
		t.Errorf("six tenths more are answered with twice as many, by 60 answers: S is %v, want 0.4", k.low.mean())
	}

	for name, happens := range map[string]func(*Knee){
		"the limit falls":  func(k *Knee) { k.set(15) },
		"a surprise":       func(k *Knee) { k.tries(true, Flow{}) },
		"many leave":       func(k *Knee) { k.workers = 25; k.leave(Flow{InFlight: 40, Endpoints: 1}) },
		"calm":             func(k *Knee) { k.calm(&Window{Total: 1, Seconds: 0.2}, Flow{InFlight: 1, Endpoints: 1}) },
		"an endpoint more": func(k *Knee) { k.scale(2) },
	} {
		k := trying(40, 100)
		if concludes(k, 50, 600); k.trial.limit == 0 {
			t.Fatal("no trial")
		}
		if happens(k); k.trial.limit != 0 {
			t.Errorf("%s, and the trial goes on", name)
		}
	}
}

// TestTrialBlind: less than half of what was answered in calm times is, by so few at once that dips tell nothing.
func TestTrialBlind(t *testing.T) {
	for _, c := range []struct {
		name                  string
		calm, answers, spread float64 // answers per second in calm times, since the limit is four, and how many times they scatter
		waiting               int
		tried                 bool
	}{
		{"less than half", 21, 200, 5, 3, true},
		{"half", 20, 200, 5, 3, false},
		{"nobody waits", 21, 200, 5, 0, false},
		{"it is not well known yet", 21, 120, 5, 3, false},
		{"work does not scatter, and dips tell", 21, 200, 2, 3, false},
		{"no calm times", 0, 200, 5, 3, false},
	} {
		k := trying(80, 1)
		k.limit, k.moments[2] = 4, k.moments[2]*c.spread
		if c.calm > 0 {
			k.rest = level{answered(3, c.calm, 900), 0}
		}
		k.now, k.nextDip, k.verified = answered(4, 10, c.answers), time.Duration(math.MaxInt64), true
		k.conclude(k.at, Flow{Waiting: c.waiting, Endpoints: 1})
		if tried := k.trial.limit == 4 && k.limit == 8; tried != c.tried {
			t.Errorf("%s: the limit is %v, the trial's %v", c.name, k.limit, k.trial.limit)
		}
		if !c.tried {
			continue
		}
		if concludes(k, 15, 100); k.trial.limit != 4 { // where a higher limit is known to have done more, it would be
			t.Errorf("half as many again, by a hundred answers that scatter so far, is taken for proof: S is %v", k.low.mean())
		}
	}
}

// TestTrialUndecided: a quarter more is answered with twice as many inside, where half as many again would tell. More answers may, and if they do not it was in vain.
func TestTrialUndecided(t *testing.T) {
	k := trying(40, 100)
	concludes(k, 50, 600)
	if concludes(k, 62, 60); k.limit != 40 || k.trial.limit != 20 { // a quarter more, where half as many again would tell
		t.Fatalf("undecided: the limit is %v, and the trial's %v", k.limit, k.trial.limit)
	}
	if concludes(k, 85, 120); k.low.mean() != 0.4 {
		t.Errorf("decided by more answers: S is %v, want 0.4", k.low.mean())
	}

	k = trying(40, 100)
	concludes(k, 50, 600)
	for range trialTurns {
		if k.trial.limit != 20 {
			t.Fatalf("undecided: the trial's limit is %v", k.trial.limit)
		}
		concludes(k, 62, 60)
	}
	if k.trial.limit != 0 || k.limit != 20 || k.trial.vain != 20 {
		t.Errorf("never decided: the limit is %v, the trial's %v, in vain at %v", k.limit, k.trial.limit, k.trial.vain)
	}
}
