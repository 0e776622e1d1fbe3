package shed

import (
	"math"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// told makes a core of which the truth is known: 10 places of 100 ms.
func told() *Core {
	c := NewCore(Config{Endpoints: 1, ReserveStandard: 0.04, ReserveLow: 0.01, SwitchLow: true})
	c.Told(10, 0.1)
	return c
}

func TestCoreRefusesTheLeastEntitled(t *testing.T) {
	c := told()
	bound := c.bound()
	for i := range bound {
		if a, _ := c.Arrive(0, &Waiter{Class: exchange.Low, Tenant: uint64(i)}, false); a != Wait {
			t.Fatalf("newcomer %d of %d: %d, want to wait", i, bound, a)
		}
	}
	if a, out := c.Arrive(0, &Waiter{Class: exchange.Low, Tenant: 99}, false); a != Overloaded || out != nil {
		t.Errorf("a low newcomer to a full queue: %d, %v", a, out)
	}
	if a, out := c.Arrive(0, &Waiter{Class: exchange.Critical}, false); a != Wait || out == nil || out.Class != exchange.Low {
		t.Errorf("a critical newcomer to a full queue: %d, %v", a, out)
	}
	if w, _ := c.Next(0); w.Class != exchange.Critical {
		t.Errorf("the first grant goes to %v", w.Class)
	}
}

// TestCoreRefusesNobodyByAGuess: 512 come at once to a gate that knows nothing. The first answers are slow and look like a queue before one place, as connections are new;
// what was answered in all says nothing yet. Nobody has waited for long.
func TestCoreRefusesNobodyByAGuess(t *testing.T) {
	c := NewCore(Config{Endpoints: 1})
	for i := range 200 {
		if a, _ := c.Arrive(0, &Waiter{}, false); a != Wait {
			t.Fatalf("newcomer %d: %d, want to wait", i, a)
		}
	}
	var win Window
	for place := 1; place <= 13; place++ {
		win.Add(place, 0.002*float64(place))
		win.First = append(win.First, First{nil, place, 0.002 * float64(place)})
	}
	now := 26 * time.Millisecond
	c.Look(now, &win, Flow{InFlight: 8, Endpoints: 1, Answers: 13, Area: 13 * 0.014})
	if _, service := c.Estimate(); service == 0 {
		t.Fatal("the first answers told nothing: the test tests nothing")
	}
	for i := range 300 {
		if a, _ := c.Arrive(now, &Waiter{}, false); a != Wait {
			t.Fatalf("newcomer %d after the first answers: %d, want to wait", i, a)
		}
	}
}

// TestCoreLetsCriticalPass: 60 are inside and 14 may be. A critical request comes with each answer, and waits for half of what the work takes; then one enters for each two answers.
func TestCoreLetsCriticalPass(t *testing.T) {
	for class, passes := range map[exchange.Class]bool{exchange.Critical: true, exchange.Standard: false} {
		c, inside, answers, entered := told(), 60, 0, 0
		for now := time.Duration(0); inside > c.Limit(); {
			c.Arrive(now, &Waiter{Class: class}, false)
			now += 5 * time.Millisecond
			inside--
			answers++
			c.Look(now, nil, Flow{InFlight: inside, Waiting: c.Waiting(), Endpoints: 1, Answers: 1, Area: 0.3})
			for inside > c.Limit() && c.Pass(now) {
				if w, a := c.Next(now); w == nil || a != Enter {
					t.Fatalf("after %v %v is told %d", now, w, a)
				}
				inside++
				entered++
			}
			if now <= 50*time.Millisecond && entered > 0 || float64(entered) > passShare*float64(answers) {
				t.Fatalf("%s: after %v %d entered for %d answers", class, now, entered, answers)
			}
		}
		if got := entered > answers/3; got != passes {
			t.Errorf("%s: %d entered for %d answers", class, entered, answers)
		}
	}
}

// TestCorePassesAreFew: as many answers come as might, with nobody waiting, and only a few may pass for them; none once the limit is kept.
func TestCorePassesAreFew(t *testing.T) {
	for kept, want := range map[bool]int{false: passMost, true: 0} {
		c, inside := told(), 60
		c.Look(0, nil, Flow{InFlight: inside, Endpoints: 1, Answers: 40})
		if kept {
			c.Look(0, nil, Flow{InFlight: c.Limit(), Endpoints: 1, Answers: 1})
		}
		passed := 0
		for range int(2 * passMost) {
			c.Arrive(0, &Waiter{Class: exchange.Critical}, false)
		}
		for c.Pass(80 * time.Millisecond) {
			c.Next(80 * time.Millisecond)
			passed++
		}
		if passed != want {
			t.Errorf("%d pass, want %d; the limit is kept: %v", passed, want, kept)
		}
	}
}

func TestCoreMindsDeadlines(t *testing.T) {
	c := told()
	if a, _ := c.Arrive(0, &Waiter{Deadline: 50 * time.Millisecond}, false); a != TooLate {
		t.Errorf("50 ms for what takes 100: %d", a)
	}
	w := &Waiter{Deadline: 150 * time.Millisecond}
	if a, _ := c.Arrive(0, w, false); a != Wait {
		t.Fatalf("150 ms for what takes 100: %d", a)
	}
	if got := c.Patience(0, w); got != 50*time.Millisecond {
		t.Errorf("it may wait %v, want 50ms", got)
	}
	if got, a := c.Next(100 * time.Millisecond); got != w || a != TooLate {
		t.Errorf("its turn came too late, and it is told %d", a)
	}
}

func TestCoreSwitchesLowOffAndOn(t *testing.T) {
	c := told()
	now := time.Second
	// Of ten standard requests a second, refused are...
	standard := func(of time.Duration, every int) {
		for i, end := 1, now+of; now < end; i, now = i+1, now+100*time.Millisecond {
			c.standard(now, 1, 0)
			if i%every == 0 {
				c.Refused(now, exchange.Standard)
			}
			c.watch(now)
		}
	}
	standard(3*time.Second, 8)
	if a, _ := c.Arrive(now, &Waiter{Class: exchange.Low}, true); a != Enter {
		t.Errorf("one in eight standard requests is refused, and a low one is told %d", a)
	}
	standard(1500*time.Millisecond, 2)
	if a, _ := c.Arrive(now, &Waiter{Class: exchange.Low}, true); a != Off {
		t.Errorf("half of the standard requests were refused for 1.5 s, and a low one is told %d", a)
	}
	if a, _ := c.Arrive(now, &Waiter{}, true); a != Enter {
		t.Errorf("a standard one is told %d", a)
	}
	now += lowBackAfter + 100*time.Millisecond
	if a, _ := c.Arrive(now, &Waiter{Class: exchange.Low}, true); a != Enter {
		t.Errorf("after %v of peace a low one is told %d", lowBackAfter, a)
	}
}

func TestCoreQueueIsShortOnceItGrows(t *testing.T) {
	for name, grows := range map[string]bool{"more come than are served": true, "callers wait for each other": false} {
		t.Run(name, func(t *testing.T) {
			c := told()
			calm := c.bound()
			for range 10 {
				c.Arrive(0, &Waiter{}, false)
			}
			for now := time.Duration(0); now < 5*time.Second; now += 100 * time.Millisecond {
				if c.Next(now); c.queue.Len() == 0 {
					t.Fatal("nobody waits")
				}
				c.Arrive(now, &Waiter{}, false)
				if grows {
					c.Arrive(now, &Waiter{}, false)
				}
			}
			if c.behind != grows || c.bound() < calm != grows {
				t.Errorf("behind %v, %d may wait after %d", c.behind, c.bound(), calm)
			}
			for w, a := c.Next(5 * time.Second); w != nil; w, a = c.Next(5 * time.Second) {
				if old := 5*time.Second-w.since > c.StaleWait(); grows && (a == Overloaded) != old {
					t.Errorf("who waited %v is told %d", 5*time.Second-w.since, a)
				}
			}
			c.watch(7 * time.Second)
			if c.behind {
				t.Error("the queue is empty, and it is still behind")
			}
		})
	}
}

// server answers as one with some places does that all take the same time, while as many are inside as may be.
type server struct {
	workers, service float64
	now              time.Duration
}

// answer lets the next answer come, with as many inside as k allows and others waiting.
func (s *server) answer(k *Knee) {
	n := k.Limit()
	past := seconds(s.service / min(n, s.workers))
	s.now += past
	win := &Window{}
	win.Add(int(n), s.service*line(n, s.workers))
	k.Look(s.now, win, Flow{InFlight: int(n), Waiting: 10, Answers: 1, Area: n * past.Seconds(), Endpoints: 1})
}

func TestKneeFindsTheBend(t *testing.T) {
	for _, workers := range []float64{1, 2, 5, 40, 300, 2000} {
		k, s := NewKnee(1), &server{workers: workers, service: 0.1}
		k.limit = firstPlaces
		for range int(200 * max(workers, 10)) {
			s.answer(k)
		}
		if k.limit < workers || k.limit > 2.2*workers+2 {
			t.Errorf("%v places: the limit is %.1f (knee %.1f, service %.3f)", workers, k.limit, k.workers, k.service)
		}
	}
}

// TestKneeFollowsChanges: whichever of places and service time changes, the limit is right again after some turns.
func TestKneeFollowsChanges(t *testing.T) {
	for _, change := range []struct{ places, slow float64 }{{0.4, 1}, {2, 1}, {1, 3}, {1, 0.4}, {0.5, 2}} {
		k, s := NewKnee(1), &server{workers: 50, service: 0.1}
		k.limit = firstPlaces
		for range 10_000 {
			s.answer(k)
		}
		s.workers, s.service = s.workers*change.places, s.service*change.slow
		changed := s.now
		for s.now < changed+seconds(40*s.service) {
			s.answer(k)
		}
		if k.limit < s.workers || k.limit > 2.5*s.workers {
			t.Errorf("places x %v, service time x %v: of %v places the limit is %.1f (service %.3f)", change.places, change.slow, s.workers, k.limit, k.service)
		}
	}
}

// TestKneeIsNotInTheWayOfCalm: with nobody waiting the limit stays above what is inside, however that grows.
func TestKneeIsNotInTheWayOfCalm(t *testing.T) {
	k, now := NewKnee(1), time.Duration(0)
	for n := 1.0; n < 1000; n *= 1.02 {
		if k.Limit() < n {
			t.Fatalf("with %.0f inside the limit is %.0f", n, k.Limit())
		}
		win := &Window{}
		for range int(n) + 1 {
			win.Add(int(n), 0.1)
		}
		now += 100 * time.Millisecond
		k.Look(now, win, Flow{InFlight: int(n), Answers: int(n) + 1, Area: n / 10, Endpoints: 1})
	}
}

func TestHarms(t *testing.T) {
	for _, c := range []struct {
		name          string
		known, noise  float64
		answers, late float64
		harms         bool
	}{
		{"twice as late", 100, 0.1, 20, 2, true},
		{"a half later", 100, 0.1, 20, 1.5, false},
		{"twice as late, of work by chance", 100, 3, 20, 2, true},
		{"the same, of few", 100, 3, 4, 2, false},
		{"nothing is known yet", 7, 0.1, 20, 2, false},
	} {
		k := NewKnee(1)
		k.low = alike(c.known, 0.1)
		k.moments = [3]float64{100, 10, c.noise}
		win := &Window{}
		for range int(c.answers) {
			win.Add(1, 0.1*c.late)
		}
		if k.harms(win) != c.harms {
			t.Errorf("%s: %v", c.name, !c.harms)
		}
	}
}

// TestKneeDoesNotGrowWithHarm: a surge fills ten places ever more, and nobody waits at the gate yet. What is used is no longer used without harm.
func TestKneeDoesNotGrowWithHarm(t *testing.T) {
	for _, c := range []struct {
		name  string
		took  func(n float64, i int) float64
		grows bool
	}{
		{"all take longer", func(n float64, _ int) float64 { return 0.1 * line(n, 10) }, false},
		{"there is room", func(float64, int) float64 { return 0.1 }, true},
		{"a few take longer", func(n float64, i int) float64 { return 0.1 * []float64{1, line(n, 6)}[max(0, i%8-6)] }, true},
	} {
		k, now := NewKnee(1), time.Duration(0)
		window := func(n float64) {
			win := &Window{}
			for i := range int(max(n, 10)) {
				win.Add(int(n), c.took(n, i))
			}
			now += 100 * time.Millisecond
			k.Look(now, win, Flow{InFlight: int(n), Endpoints: 1, Answers: int(win.Total), Area: n / 10})
		}
		for range 50 {
			window(6)
		}
		was := k.limit
		for n := 6.0; n < 28; n *= 1.25 {
			window(n)
		}
		if k.limit > 3*was != c.grows {
			t.Errorf("%s: the limit went from %v to %v", c.name, was, k.limit)
		}
	}
}

func TestKneeFollowsTheEndpoints(t *testing.T) {
	k := NewKnee(4)
	k.workers = 40
	k.Look(time.Second, &Window{}, Flow{Endpoints: 3})
	if k.workers != 30 {
		t.Errorf("one of four endpoints went, and of 40 places %v are left, want 30", k.workers)
	}
}

// TestKneeWithdrawsWhatNoDipShows: S of the first, quick answers was far too short, and who is inside takes too long for dips to show it. Before 51 places the limit
// stayed at seven for it.
func TestKneeWithdrawsWhatNoDipShows(t *testing.T) {
	k := NewKnee(1)
	k.limit, k.known = 20, true
	k.high, k.low = gauge{count: 40, time: 2, area: 40}, latency{count: 40, seconds: 2}
	for i := range inVain {
		if k.low.mean() != 0.05 {
			t.Fatalf("after %d dips S is %v, want 0.05", i, k.low.mean())
		}
		k.startDip(time.Duration(i)*time.Second, 1, Flow{Waiting: 10})
		k.endDip(time.Duration(i+1)*time.Second, Flow{Waiting: 10})
	}
	if k.low.mean() != 1 {
		t.Errorf("after %d dips in vain S is %v, want what answers take, 1", inVain, k.low.mean())
	}
}

// TestFewQuickAnswersAreNoCalm: work of very different lengths, of which the long ones come later, is not late.
func TestFewQuickAnswersAreNoCalm(t *testing.T) {
	was := latency{count: 9, seconds: 9 * 0.4, told: 9, logs: 9 * math.Log(0.2)}
	is := latency{count: 60, seconds: 60 * 1.5, told: 60, logs: 60 * math.Log(1.4)}
	if later(was, is, 5) || !later(was, is, 0.5) {
		t.Errorf("nine answers: late %v where they scatter widely, want no; %v where they do not, want yes", later(was, is, 5), later(was, is, 0.5))
	}
}

// TestQuickOnesDoNotTellS: a thousand are inside, 600 answers of calm times took 334 ms in the mean, and the limit is new. The first 256 answers come within 50 ms, as the quick ones
// of work of different lengths do, and tell nothing. As many as are inside do.
func TestQuickOnesDoNotTellS(t *testing.T) {
	for _, c := range []struct{ answers, seconds, least, most float64 }{
		{256, 0.05, 0.3, 0.334},
		{1000, 0.2, 0.2, 0.2},
	} {
		k := NewKnee(1)
		k.limit, k.low = 1000, latency{count: 600, seconds: 200.4}
		k.now = gauge{count: c.answers, time: c.seconds, area: 1000 * c.seconds}
		k.conclude(time.Second, Flow{InFlight: 1000, Endpoints: 1, Waiting: 10})
		if s := k.low.mean(); s < c.least-1e-9 || s > c.most+1e-9 {
			t.Errorf("after %v answers in %v s S is %.3f s, want %v to %v", c.answers, c.seconds, s, c.least, c.most)
		}
	}
}

// TestLowerLimitShortensAnswers: 100 answers a second with 200 inside take two seconds each, and with 20 inside a fifth of one.
func TestLowerLimitShortensAnswers(t *testing.T) {
	k := NewKnee(1)
	k.limit, k.high = 200, gauge{count: 300, time: 3, area: 600}
	k.set(20)
	if took := k.high.area / k.high.count; math.Abs(took-0.2) > 1e-9 || math.Abs(k.high.rate()-100) > 1e-9 {
		t.Errorf("at the lower limit answers take %v s, %v a second; want 0.2 s, 100", took, k.high.rate())
	}
	k.set(40)
	if took := k.high.area / k.high.count; math.Abs(took-0.2) > 1e-9 {
		t.Errorf("at a higher limit, before anything was seen there, they take %v s; want 0.2 as before", took)
	}
}

// TestSIsNotOfAHigherLimit: 430 a second were answered with 135 inside, as each takes 250 ms. A burst of failures made nine of it, and a tenth is answered.
func TestSIsNotOfAHigherLimit(t *testing.T) {
	k := NewKnee(1)
	k.limit, k.known, k.workers, k.moments = 135, true, 86, [3]float64{100, 25, 7}
	k.low, k.service = alike(800, 0.25), 0.25
	k.high = gauge{count: 314, time: 0.73, area: 0.73 * 86}
	k.recent, k.here = k.high, k.high
	if k.set(9); k.here.count != 0 {
		t.Errorf("%v answers of a higher limit count for how long they take at nine", k.here.count)
	}
	k.now = gauge{count: 10, time: 0.2, area: 10 * 0.175}
	k.conclude(time.Minute, Flow{InFlight: 9, Waiting: 8, Endpoints: 1})
	if s := k.low.mean(); s < 0.17 {
		t.Errorf("S is %.3f s, want what answers take at nine, or more", s)
	}
	for range 40 { // what lasts does tell
		k.dip, k.nextDip, k.limit = 0, time.Hour, 9
		k.now = gauge{count: 100, time: 1, area: 9}
		k.conclude(time.Minute, Flow{InFlight: 9, Waiting: 8, Endpoints: 1})
	}
	if s := k.low.mean(); s > 0.1 {
		t.Errorf("each answer takes 90 ms with nine inside, and S is %.3f s", s)
	}
}

// TestTakes: what answers take at the limit, by the rate of before and by what was seen since it is what it is.
func TestTakes(t *testing.T) {
	for _, c := range []struct {
		here gauge
		want float64
	}{
		{gauge{}, 0.4},
		{gauge{10, 0.1, 0.5}, 0.4}, // the quick ones come first
		{gauge{10, 0.1, 9}, 0.9},
	} {
		k := NewKnee(1)
		k.high, k.here = gauge{100, 1, 40}, c.here
		if got := k.takes(); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v s, want %v", c.here, got, c.want)
		}
	}
	k := NewKnee(1)
	k.known, k.limit, k.high, k.recent, k.here = true, 40, gauge{1000, 10, 400}, gauge{1000, 10, 400}, gauge{1000, 10, 400}
	k.now = gauge{1000, 100, 4000}
	if k.conclude(time.Second, Flow{Endpoints: 1}); k.here != k.high || k.here.count != 1000 {
		t.Errorf("after capacity changed %v answers of before count for how long they take", k.here.count)
	}
}

// TestBusy: whoever answers a hundred a second with some inside all the time is one place at least.
func TestBusy(t *testing.T) {
	for _, c := range []struct {
		name    string
		s       float64
		answers float64
		want    float64
		known   bool
	}{
		{"ten places", 0.1, 100, 0.1, true},
		{"one", 0.01, 100, 0.01, true},
		{"seven tenths of one", 0.007, 100, 0.01, true},
		{"of few answers", 0.007, 30, 0.007, true},
		{"a fifth: S is not known at all", 0.002, 100, 0.4, false},
		{"nothing was known", 0, 100, 0, true},
	} {
		k := NewKnee(1)
		k.known, k.high = true, gauge{c.answers, c.answers / 100, c.answers * 0.4}
		if c.s > 0 {
			k.low = latency{count: 50, seconds: 50 * c.s}
		}
		if k.busy(4); math.Abs(k.low.mean()-c.want) > 1e-9 || k.known != c.known {
			t.Errorf("%s: S %.4f s, known %v; want %.4f, %v", c.name, k.low.mean(), k.known, c.want, c.known)
		}
	}
	k := NewKnee(1)
	k.limit, k.known, k.verified, k.nextDip, k.service, k.moments = 2, true, true, time.Hour, 0.007, [3]float64{100, 1, 0.01}
	k.low, k.high, k.now = latency{count: 50, seconds: 50 * 0.007}, gauge{100, 1, 2}, gauge{100, 1, 2}
	if k.conclude(time.Minute, Flow{InFlight: 2, Waiting: 8, Endpoints: 1}); math.Abs(k.service-0.01) > 1e-9 {
		t.Errorf("two are inside and a hundred a second answered: S %.4f s, want 0.01", k.service)
	}
}

// TestVouch: at a limit of 20 there were 100 answers a second, each of some 100 ms by itself.
func TestVouch(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit float64
		rate  float64
		known float64 // S in seconds as dips told it
		want  float64 // W
	}{
		{"six times the limit answers as many: they only wait", 120, 100, 1, 20},
		{"half as many more", 120, 150, 1, 30},
		{"fewer", 120, 80, 1, 20},
		{"as many times more: there were so many places", 120, 600, 0.1, 60},
		{"a lower limit shows nothing", 10, 50, 1, 50},
	} {
		k := NewKnee(1)
		k.moments = [3]float64{1000, 100, 0.001} // all take the same time
		k.fewer, k.fewest = gauge{count: 1e5, time: 1e3, area: 2e4}, 20
		k.limit, k.high = c.limit, gauge{count: 1e3 * c.rate, time: 1e3, area: 1e3 * c.limit}
		k.low = latency{count: 50, seconds: 50 * c.known}
		k.vouch()
		if w := k.high.rate() * k.low.mean(); math.Abs(w-c.want) > 0.1 {
			t.Errorf("%s: W %.2f, want %v", c.name, w, c.want)
		}
	}
}

// TestRaisedLimitIsNotHasty: those who are met inside take (1+v)/2 times what others do, v being the squared coefficient of variation of work.
func TestRaisedLimitIsNotHasty(t *testing.T) {
	k := NewKnee(1)
	k.limit, k.known, k.service = 20, true, 0.1
	k.moments = [3]float64{1000, 100, 45} // of mixed work
	if k.set(40); math.Abs(k.skip-40*(1+4.5)/2) > 0.1 {
		t.Errorf("%.1f answers after a raise to 40 say nothing yet, want %.1f", k.skip, 40*(1+4.5)/2)
	}
	if k.set(30); k.skip != 30 {
		t.Errorf("%.1f answers after the limit fell to 30 say nothing yet, want 30", k.skip)
	}
}

// TestDoubtIsNotHidden: the clients of heavy requests left, and what is answered takes the same time.
func TestDoubtIsNotHidden(t *testing.T) {
	k := NewKnee(1)
	k.moments, k.service = [3]float64{1000, 30, 0.01}, 0.03
	if d := k.doubt(); d > 0.06 {
		t.Errorf("nothing else is known: doubt %.2f, want 0.05", d)
	}
	k.alone = sample{count: 100, seconds: 10, squares: 5.5}
	if d := k.doubt(); math.Abs(d-noiseHidden*4.5) > 0.01 {
		t.Errorf("in calm times work scattered by 4.5: doubt %.2f, want %.2f", d, noiseHidden*4.5)
	}
}
