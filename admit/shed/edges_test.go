package shed

import (
	"math"
	"testing"
	"time"
)

// bursts tells the knee of turns bursts of n answers, so many of the first of which came before it begins to count, and returns the least and the most rate of its counts.
func bursts(k *Knee, n, turns, before int, turn float64) (least, most float64) {
	least = math.Inf(1)
	for b := range turns {
		for i := range n {
			if b == 0 && i < before {
				continue
			}
			part := gauge{count: 1}
			if i == 0 {
				part.time, part.area = turn, turn*k.limit
			}
			if k.count(part, gauge{}, 0); k.counted() {
				part, _ := k.take()
				least, most = min(least, part.rate()), max(most, part.rate())
			}
		}
	}
	return least, most
}

// TestBursts: wherever in a burst a count begins, the rate is right where places always take the same time.
func TestBursts(t *testing.T) {
	const s = 0.1
	for _, c := range []struct {
		name  string
		n     int     // of a burst
		turn  float64 // from one burst to the next
		limit float64
	}{
		{"the limit is above what there is", 40, s, 56},
		{"twice as high", 40, s, 80},
		{"below it", 30, s, 30},
		{"all share", 56, 1.4 * s, 56},
		{"few share", 7, 1.4 * s, 7},
	} {
		for _, before := range []int{0, 1, c.n / 3, c.n - 1} {
			k := NewKnee(1)
			k.known, k.service, k.limit, k.workers = true, s, c.limit, 40
			k.moments = [3]float64{100, 100 * s, 0.01 * 100 * s * s}
			k.restart()
			least, most := bursts(k, c.n, 60, before, c.turn)
			if want := float64(c.n) / c.turn; least < 0.95*want || most > 1.05*want {
				t.Errorf("%s, %d of %d before: rates from %.0f to %.0f, want %.0f", c.name, before, c.n, least, most, want)
			}
		}
	}
}

// TestEdges: what a count is where it is not blurred, and what of it is left to the next one.
func TestEdges(t *testing.T) {
	k := NewKnee(1)
	k.known, k.service, k.limit, k.moments = true, 0.1, 10, [3]float64{100, 10, 10 * 100 * 0.01} // they scatter
	k.restart()
	for range 100 {
		k.count(gauge{1, 0.01, 0.1}, gauge{}, 0)
	}
	if !k.counted() {
		t.Fatal("a hundred answers are no count")
	}
	if part, _ := k.take(); part.count != 100 || k.now.count != 0 {
		t.Errorf("%v of a hundred answers that scatter counted, and %v left; want all, and none", part.count, k.now.count)
	}
	k.moments[2] = 0.01 * 100 * 0.01
	k.restart()
	n := 0
	for !k.counted() {
		if n++; n > 100 {
			t.Fatal("no end")
		}
		k.count(gauge{1, 0.01, 0.1}, gauge{}, 0.5)
	}
	part, left := k.take()
	if math.Abs(part.rate()-100) > 1e-6 || math.Abs(part.inside()-10) > 1e-6 || math.Abs(left-part.time*50) > 0.51 {
		t.Errorf("count of %v answers, %v inside, %v left; want 100 a second, 10, half as many as answers", part.rate(), part.inside(), left)
	}
	if math.Abs(part.time+k.now.time-float64(n)*0.01) > 1e-9 || k.now.time < 0.1-1e-9 || math.Abs(k.edges.head-k.now.count*k.now.count/2*0.01) > 0.06 {
		t.Errorf("of %d answers %v s counted and %v s are left, head %v", n, part.time, k.now.time, k.edges.head)
	}
	for _, c := range []func(){
		func() { k.moments[2] = 10 * 100 * 0.01 }, // they scatter after all
		func() { k.known = false },                // whether there is room is not known: haste
	} {
		k.known, k.moments[2] = true, 0.01*100*0.01
		k.restart()
		for range 20 {
			if k.count(gauge{1, 0.01, 0.1}, gauge{1, 0.01, 0.1}, 0); k.counted() || k.edges.from > 0 {
				break
			}
		}
		for range 5 {
			k.count(gauge{1, 0.01, 0.1}, gauge{}, 0)
		}
		all := k.now.count
		c()
		if full := k.counted(); full != k.Ready() || k.edges.from != 0 {
			t.Errorf("%v of %v answers: full %v", all, k.need(), full)
		}
		k.known, k.moments[2] = true, 0.01*100*0.01
		for range 100 {
			if k.count(gauge{1, 0.01, 0.1}, gauge{}, 0); k.counted() {
				break
			}
		}
		if part, _ := k.take(); math.Abs(part.rate()-100) > 1e-6 {
			t.Errorf("counted again: %v a second, want 100", part.rate())
		}
	}
	if k.restart(); k.fresh.count != 0 {
		t.Errorf("%v answers of before a new count are fresh", k.fresh.count)
	}
	k.count(gauge{1, 0.1, 1}, gauge{}, 0)
	k.edges.from, k.service = 0.05, 0.2
	if k.take(); k.now.count != 0 || k.edges.turn != 0.2 {
		t.Errorf("S is twice as long, and %v answers stay counted, with an S of %v", k.now.count, k.edges.turn)
	}
}

// TestSeenKnee: eight tenths of the limit are a knee. Well known it moves the limit and no more; else, or where it is as good as the limit, the limit grows, as there may be none.
func TestSeenKnee(t *testing.T) {
	for _, c := range []struct {
		part        float64 // of the limit that the knee is
		answers     float64 // that told S
		known       bool
		least, most float64 // the limit afterwards
		keeps       bool    // what was answered at the limit
	}{
		{0.8, 200, true, 116, 149, true},
		{0.8, 50, true, 150, 400, false},
		{0.8, 200, false, 150, 400, false},
		{0.95, 200, true, 150, 400, false},
	} {
		k := NewKnee(1)
		k.limit, k.known, k.verified, k.nextDip = 100, c.known, true, time.Hour
		k.moments = [3]float64{100, 10, 4 * 100 * 0.01} // a variance of 4: S is known well by 110 answers
		k.service, k.low, k.high = 0.1, latency{count: c.answers, seconds: c.answers * 0.1}, gauge{1000, 1 / c.part, 100 / c.part}
		k.judge(time.Minute, Flow{InFlight: 100, Waiting: 10, Endpoints: 1})
		if k.limit < c.least || k.limit > c.most || (k.high.count > 0) != c.keeps {
			t.Errorf("%+v: limit %v, %v answers kept", c, k.limit, k.high.count)
		}
	}
}

// TestLeaversLeaveS: many clients leave. An S that 50 answers told stands, and one of fewer does not.
func TestLeaversLeaveS(t *testing.T) {
	for _, told := range []float64{49, 50} {
		k := NewKnee(1)
		k.limit, k.known, k.workers, k.low = 100, true, 100, latency{count: told, seconds: told * 0.1}
		k.leave(Flow{InFlight: 100, Waiting: 10, Endpoints: 1})
		if kept := k.low.count > 0; kept != (told >= keepsS) || k.known || k.limit >= 100 {
			t.Errorf("%v answers told S: kept %v, knee known %v, limit %v", told, kept, k.known, k.limit)
		}
	}
}

// TestLeavesInTurns: those who leave right after the limit fell for others were let in before it did.
func TestLeavesInTurns(t *testing.T) {
	k := NewKnee(1)
	k.limit, k.known, k.workers = 100, true, 100
	gone := Flow{InFlight: 100, Waiting: 10, Endpoints: 1, Left: 40, Stayed: 40}
	for range 50 {
		k.leavers.note(gone)
	}
	if !k.leaves(gone) {
		t.Fatal("forty of a hundred left, each after a second, and the limit need not fall")
	}
	k.leave(gone)
	k.pardon, k.at = 0, 499*time.Millisecond
	if k.leaves(gone) {
		t.Error("the limit falls again, half a second after it did for clients that stayed for one")
	}
	if k.at += time.Millisecond; !k.leaves(gone) {
		t.Error("half a second later clients still leave, and the limit does not fall again")
	}
}

// TestHaunted: a dip shows an S half as long again.
func TestHaunted(t *testing.T) {
	for _, c := range []struct {
		left int // of a hundred
		want float64
	}{{0, 0.15}, {9, 0.15}, {12, 0.12}, {60, 0.12}} {
		var l leavers
		for range 10 {
			l.note(Flow{Answers: 100 - c.left, Left: c.left, Stayed: float64(c.left)})
		}
		if s := l.haunted(0.15, 0.1); math.Abs(s-c.want) > 1e-9 {
			t.Errorf("%d of 100 leave: S is %v, want %v", c.left, s, c.want)
		}
		if s := l.haunted(0.11, 0.1); s != 0.11 {
			t.Errorf("%d of 100 leave, and a dip shows a tenth more: S is %v, want that", c.left, s)
		}
		for range 10 {
			l.note(Flow{Answers: 100})
		}
		if s := l.haunted(0.15, 0.1); s != 0.15 {
			t.Errorf("a thousand answers later, S is %v, want 0.15", s)
		}
	}
}

// TestDipDoubtsWhileClientsLeave: a dip of which the answers take twice as long as is known, with and without clients that leave.
func TestDipDoubtsWhileClientsLeave(t *testing.T) {
	for left, want := range map[int]float64{0: 0.2, 30: 0.12} {
		k := NewKnee(1)
		k.limit, k.known, k.workers, k.service, k.moments = 20, true, 10, 0.1, [3]float64{1000, 100, 1}
		k.low, k.high, k.verified = latency{count: 10, seconds: 1}, gauge{1000, 10, 200}, true
		for range 20 {
			k.leavers.note(Flow{Answers: 100 - left, Left: left, Stayed: float64(left)})
		}
		k.dip, k.reached, k.turned = 6, true, true
		k.now = gauge{60, 2, 12}
		k.endDip(time.Minute, Flow{InFlight: 6, Waiting: 5, Endpoints: 1})
		if s := k.low.mean(); math.Abs(s-want) > 0.005 {
			t.Errorf("%d of 100 leave: S is %.3f, want %v", left, s, want)
		}
	}
}

// TestFewQuickOnesKeepS: the first answers after the limit fell take less than S. Few of them are of light work; many show that S was of another time.
func TestFewQuickOnesKeepS(t *testing.T) {
	for answers, kept := range map[float64]bool{29: true, 1000: false} {
		k := NewKnee(1)
		k.limit, k.known, k.workers, k.service, k.moments = 14, true, 14, 0.09, [3]float64{1000, 90, 36} // doubt is more than four
		k.low, k.verified, k.nextDip = latency{count: 200, seconds: 18}, true, time.Hour
		k.now = gauge{answers, answers * 0.065 / 14, answers * 0.065}
		k.conclude(time.Minute, Flow{InFlight: 14, Waiting: 5, Endpoints: 1})
		if s := k.low.mean(); (s > 0.08) != kept {
			t.Errorf("after %v answers S is %.3f, kept should be %v", answers, s, kept)
		}
	}
}
