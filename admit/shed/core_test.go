package shed

import (
	"math"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

func TestLevels(t *testing.T) {
	last := -1
	for n := 1; n < 60_000; n++ {
		i := levelOf(n)
		if i < last || i > last+1 {
			t.Fatalf("level of %d is %d after %d", n, i, last)
		}
		last = i
		if off := math.Abs(middle(i)-float64(n)) / float64(n); off > 0.07 {
			t.Fatalf("%d counts as %.1f: %.0f %% off", n, middle(i), 100*off)
		}
	}
	if i := levelOf(math.MaxInt32); i != levels-1 {
		t.Errorf("the most is at level %d, want the last", i)
	}
}

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
	if got, late := c.Next(100 * time.Millisecond); got != w || !late {
		t.Errorf("its turn came too late, and late is %v", late)
	}
}

func TestCoreSwitchesLowOffAndOn(t *testing.T) {
	c := told()
	now := time.Second
	for ; now < 2500*time.Millisecond; now += 100 * time.Millisecond {
		c.Refused(now, exchange.Standard)
		c.watch(now)
	}
	if a, _ := c.Arrive(now, &Waiter{Class: exchange.Low}, true); a != Off {
		t.Errorf("standard requests were refused for 1.5 s, and a low one is told %d", a)
	}
	if a, _ := c.Arrive(now, &Waiter{}, true); a != Enter {
		t.Errorf("a standard one is told %d", a)
	}
	now += lowBackAfter + time.Second
	if a, _ := c.Arrive(now, &Waiter{Class: exchange.Low}, true); a != Enter {
		t.Errorf("after 6 s of peace a low one is told %d", a)
	}
	for end := now + 1500*time.Millisecond; now < end; now += 100 * time.Millisecond {
		c.Refused(now, exchange.Standard)
		c.watch(now)
	}
	if c.lowHold != 2*lowBackAfter {
		t.Errorf("after a relapse low requests stay off for %v, want twice as long", c.lowHold)
	}
}

func TestCoreQueueIsShortOnceItStands(t *testing.T) {
	c := told()
	calm := c.bound()
	c.Arrive(0, &Waiter{}, false)
	c.watch(2 * time.Second)
	if !c.behind || c.bound() >= calm {
		t.Errorf("behind %v, %d may wait after %d", c.behind, c.bound(), calm)
	}
	c.Next(2 * time.Second)
	c.watch(3 * time.Second)
	if c.behind {
		t.Error("the queue is empty, and it is still behind")
	}
}

// line of a server that really has these places and this service time.
func TestKneeFindsTheBend(t *testing.T) {
	for _, workers := range []float64{2, 5, 40, 300} {
		k := NewKnee(1)
		now := time.Duration(0)
		for range 400 {
			n := k.Limit()
			rate := min(n, workers) / 0.1
			win := Window{}
			past := k.Again(now) - now
			for range int(rate*past.Seconds() + 0.5) {
				win.Add(int(n), n/rate)
			}
			now += past
			k.Look(now, &win, Flow{InFlight: int(n), Waiting: 10, Behind: true, Endpoints: 1})
		}
		if k.limit < workers || k.limit > 3*workers+2 {
			t.Errorf("%v places: the limit is %.1f (knee %.1f, service %.3f)", workers, k.limit, k.workers, k.service)
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
