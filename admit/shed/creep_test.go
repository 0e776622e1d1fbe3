package shed

import (
	"math"
	"testing"
	"time"
)

// alike are answers that took so many seconds each.
func alike(count, each float64) latency {
	return latency{count, count * each, count, count * math.Log(each)}
}

// TestCreep: for two minutes of calm S was 100 ms, and has followed what answers take now, with ten inside and nobody waiting.
func TestCreep(t *testing.T) {
	for _, c := range []struct {
		name  string
		took  float64 // by an answer
		based float64 // seconds of calm
		crept bool
	}{
		{"four times as long", 0.4, 120, true},
		{"twice", 0.2, 120, false},
		{"after three seconds of calm", 0.4, 3, false},
	} {
		k := NewKnee(1)
		k.at, k.moments, k.period, k.limit = 2*time.Minute, [3]float64{1000, 100, 10}, gauge{30, 1, 10}, 40
		k.low, k.calmer, k.service = alike(200, c.took), alike(50, c.took), c.took
		k.base, k.based = alike(200, 0.1), c.based
		k.calm(&Window{Total: 3, Seconds: 3 * c.took, Logs: 3 * math.Log(c.took)}, Flow{InFlight: 10, Endpoints: 1})
		if k.crept != c.crept {
			t.Errorf("%s: crept %v", c.name, k.crept)
		}
		if c.crept && (k.limit != 10 || k.low.mean() > 0.101 || k.verified) {
			t.Errorf("%s: limit %v, S %.3f s, verified %v; want 10, as many as are inside, 0.1 s, and no", c.name, k.limit, k.low.mean(), k.verified)
		}
	}
}

// TestCreptLowersNothing: with an S that is a guess, only a dip may say that there are fewer places.
func TestCreptLowersNothing(t *testing.T) {
	for _, crept := range []bool{false, true} {
		k := NewKnee(1)
		k.known, k.workers, k.limit, k.verified, k.crept, k.moments = true, 30, 40, true, crept, [3]float64{1000, 100, 0.5}
		k.low, k.high = alike(1000, 0.1), gauge{2600, 10, 400}
		k.judge(time.Minute, Flow{InFlight: 40, Waiting: 5, Endpoints: 1})
		if crept != (k.limit == 40) || crept != (k.dip > 0) {
			t.Errorf("crept %v: limit %v, dip to %v", crept, k.limit, k.dip)
		}
	}
}

// TestBaseFades: after a minute of calm in which answers take twice as long, the base has followed by 1-1/e, however many came before.
func TestBaseFades(t *testing.T) {
	k := NewKnee(1)
	k.service = 0.01
	for i := range 700 {
		k.period.time = 1
		if i == 640 {
			k.service = 0.02
		}
		k.settle(50, 50*k.service, 50*k.service*k.service, 50*math.Log(k.service))
	}
	if got := k.base.mean(); math.Abs(got-0.0163) > 0.0002 {
		t.Errorf("base of %.4f s, want 0.0163", got)
	}
}

// calmed is a knee that knows S of 100 ms from two minutes of calm, in which answers scattered as noise says. At a limit of forty 100 a second are answered: by that S there are ten places.
func calmed(noise float64) *Knee {
	k := NewKnee(1)
	k.limit, k.known, k.workers, k.service = 40, true, 10, 0.1
	k.moments, k.high = [3]float64{100, 10, 1}, gauge{100, 1, 40}
	k.base, k.low, k.based = alike(200, 0.1), alike(400, 0.1), 120
	k.spread = sample{200, 20, 2 * (1 + noise)}
	return k
}

// TestDipProves: a dip that shows an S of twice that of calm tells it only where fewer were inside than there are places by that of calm, or less was answered than at the limit. If it was not, the next one is.
func TestDipProves(t *testing.T) {
	for _, c := range []struct {
		name   string
		dip, s float64 // places of the dip, and the seconds that its answers took
		based  float64 // seconds of calm
		proves bool
	}{
		{"above the knee of calm times", 20, 0.2, 120, true},
		{"less is answered", 20, 0.3, 120, false},
		{"a little longer", 20, 0.13, 120, false},
		{"below it", 6, 0.3, 120, false},
		{"after three seconds of calm", 20, 0.2, 3, false},
	} {
		k := calmed(1)
		k.based = c.based
		k.dip, k.reached, k.turned, k.verified = c.dip, true, true, true
		k.now = gauge{60, 60 * c.s / c.dip, 60 * c.s}
		k.fresh = k.now
		k.endDip(time.Minute, Flow{InFlight: int(c.dip), Endpoints: 1})
		if k.proves != c.proves || c.proves && (k.low.mean() != 0.1 || k.nextDip != time.Minute || k.deeper) {
			t.Errorf("%s: to prove %v, S %.3f s, the next dip at %v, half as deep again %v", c.name, k.proves, k.low.mean(), k.nextDip, k.deeper)
		}
		if !c.proves {
			continue
		}
		k.limit, k.workers = 40, 40
		if k.startDip(time.Minute, 36, Flow{InFlight: 40, Waiting: 8, Endpoints: 1}); k.dip != 6 { // 0.65 of ten places
			t.Errorf("the next dip is to %v, want 6", k.dip)
		}
	}
}

// TestCreepKnowsQuick: S of the long run told which answers are quick, and not what it had crept to.
func TestCreepKnowsQuick(t *testing.T) {
	k := calmed(1)
	k.quick.service = 0.4
	if k.creep(Flow{InFlight: 10, Endpoints: 1}); math.Abs(k.quick.service-0.1) > 1e-9 {
		t.Errorf("quick answers are those of an S of %.3f s, want 0.1", k.quick.service)
	}
}

// TestDipOfAnotherMix: answers of calm became slower, and a dip shows an S of twice that of before with six tenths of the answers. Where S of before is what is in question it does not speak against that.
func TestDipOfAnotherMix(t *testing.T) {
	for _, crept := range []bool{true, false} {
		k := calmed(8)
		k.dip, k.reached, k.turned, k.verified, k.crept = 12, true, true, true, crept
		k.now = gauge{60, 60.0 / 59, 12 * 60.0 / 59}
		k.fresh = k.now
		k.endDip(time.Minute, Flow{InFlight: 12, Endpoints: 1})
		if learned := k.low.mean() > 0.1; learned != crept {
			t.Errorf("calm times in question %v: S %.3f s", crept, k.low.mean())
		}
	}
}

// TestCalmOfAnotherMix: three times as many are inside as usual, and answers take longer, or those inside do. S follows where each takes what its kind takes, and not where nobody knows, or all are slower.
func TestCalmOfAnotherMix(t *testing.T) {
	for _, c := range []struct {
		name                  string
		sorted                bool
		seconds, stays, times float64 // what answers take in the mean, how long those inside are there, and times what their kinds take
		follows               bool
	}{
		{"another mix", true, 0.14, 0.14, 1, true},
		{"kinds are not known", false, 0.14, 0.14, 1, false},
		{"all are slower", true, 0.14, 0.14, 1.3, false},
		{"the same mix", true, 0.11, 0.11, 1, false},
		{"those who take long are not answered yet", true, 0.1, 0.3, 1, true},
		{"nor are they, and nobody knows kinds", false, 0.1, 0.3, 1, false},
	} {
		k := calmed(1)
		k.known, k.usual, k.at = false, 2, time.Minute
		k.low = alike(100, 0.1)
		k.period = gauge{60, 10 * c.stays, 60 * c.stays}
		k.calm(&Window{Total: 60, Seconds: 60 * c.seconds, Logs: 60 * math.Log(0.1*c.times), Squares: 60 * c.seconds * c.seconds, Sorted: c.sorted}, Flow{InFlight: 6, Endpoints: 1})
		if follows := k.low.count != 100; follows != c.follows {
			t.Errorf("%s: S follows %v: %.3f s", c.name, follows, k.low.mean())
		}
		if longest := max(c.seconds, c.stays); c.follows && !(k.low.mean() > (0.1+longest)/2) {
			t.Errorf("%s: S is %.3f s after 60 answers of %.2f", c.name, k.low.mean(), longest)
		}
	}
}

// TestCalmCountsForSoMuch: dips showed nothing yet since something changed. S of 400 answers of calm then counts for eight variances, which are eight answers where work takes its time by chance.
func TestCalmCountsForSoMuch(t *testing.T) {
	for _, c := range []struct {
		name            string
		based           float64 // seconds of calm
		verified        bool
		before, answers float64 // S of before counts for so many of these
	}{
		{"nothing verified", 120, false, fades * 8, 12},
		{"verified", 120, true, fades * 400, 12},
		{"no calm", 0, false, 0, 12}, // what is known is of another time
	} {
		k := calmed(1)
		k.based, k.dip, k.reached, k.turned, k.verified = c.based, 6, true, true, c.verified
		k.now = gauge{12, 12 * 0.15 / 6, 12 * 0.15}
		k.fresh = k.now
		k.endDip(time.Minute, Flow{InFlight: 6, Endpoints: 1})
		if want := (c.before*0.1 + c.answers*0.15) / (c.before + c.answers); math.Abs(k.low.mean()-want) > 1e-9 {
			t.Errorf("%s: S %.4f s, want %.4f", c.name, k.low.mean(), want)
		}
	}
}

// TestCalmKnowsHowWorkScatters: where the heavy requests are not answered any more, what is left is alike.
func TestCalmKnowsHowWorkScatters(t *testing.T) {
	for based, want := range map[float64]float64{120: 2.25, 3: 0.1} {
		k := calmed(4.5)
		k.moments, k.based = [3]float64{100, 10, 0.1}, based
		if got := k.doubt(); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %v s of calm doubt is %v, want %v", based, got, want)
		}
	}
	k := NewKnee(1)
	k.period.time, k.service = 1, 0.1
	for range 20 {
		k.settle(10, 1, 0.3, 10*math.Log(0.1))
	}
	if got := k.spread.variance(); math.Abs(got-2) > 1e-9 {
		t.Errorf("answers of 0.1 s whose squares are 0.03 in the mean scatter by %v, want 2", got)
	}
	if k.rebase(); k.spread.count != 0 {
		t.Error("how answers scattered outlives what they took")
	}
}

// TestLeaversCount: who left after a second counts as an answer that took one.
func TestLeaversCount(t *testing.T) {
	var w Window
	for range 90 {
		w.Add(20, 0.1)
	}
	w.leave(10, 10)
	if w.Total != 100 || math.Abs(w.Seconds-19) > 1e-9 || math.Abs(w.Squares-10.9) > 1e-9 || math.Abs(w.Logs-90*math.Log(0.1)) > 1e-9 {
		t.Errorf("%+v", w)
	}
	for _, c := range []struct {
		s    float64 // that is known; 0: none
		top  int     // 0: nothing was answered ever
		want int64
	}{{0, 0, 0}, {0, 1, 3}, {1.5, 1, 3}, {2.5, 1, 0}} {
		k := NewKnee(1)
		k.fill.top = c.top
		if c.s > 0 {
			k.low = alike(100, c.s)
		}
		if k.gone(Flow{Left: 3, Stayed: 3}); k.batch.Total != c.want {
			t.Errorf("%+v: %d of those who left after a second count", c, k.batch.Total)
		}
	}
}
