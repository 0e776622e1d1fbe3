package pool

import (
	"fmt"
	"math"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Numbers of the comparison. Chances are those of a false alarm at one look, if requests were independent.
const (
	// beatLeast is how often answers are taken in and compared; beatEach per endpoint keeps that to about a fiftieth of a core in
	// large pools, and beatMost the delay within reason.
	beatLeast = 100 * time.Millisecond
	beatEach  = 100 * time.Microsecond
	beatMost  = time.Second
	// soonFor and longFor are the time constants by which counts fade: one for what is so now, one for pools with little to do.
	soonFor = 2 * time.Second
	longFor = 30 * time.Second
	// idleFor is how long a pool without exchanges keeps looking.
	idleFor = 2 * time.Second
	// quickLook is how soon after another look a failure may ask for one more.
	quickLook = 20 * time.Millisecond

	// doubtRow bad answers in a row may lower the share, sureRow may eject (Envoy's consecutive_5xx is 5 too).
	doubtRow, sureRow = 2, 5
	doubtChance       = 0.01
	sureFails         = 2e-5
	sureSlow          = 1e-7
	// confirmFor is how long a row must last before it ejects: a pause of garbage collection or a lost database connection
	// is over by then, and costs only the share.
	confirmFor = 750 * time.Millisecond
	// tailTimes the time that one in a hundred of the others' answers exceeds is waited on top before a slow endpoint is
	// ejected, up to tailMost: where single requests are that slow, a few of them can hold all workers of an endpoint.
	tailTimes = 5
	tailMost  = 10 * time.Second
	// freshFor is how long ago a row may have grown last; a row younger than youngFor is not the rest of a fault of all.
	freshFor = 2 * beatMost
	youngFor = 3 * beatLeast
	// failsMore and failsTimes say how much more an endpoint must fail than the others: twice as much and ten points. With hash or
	// affinity, where one bad key may be all of an endpoint's traffic, stickyMore.
	failsTimes = 2.0
	failsMore  = 0.1
	stickyMore = 0.5
	// slowSlack is added to the part of slow answers that the others show, as theirs is not known exactly.
	slowSlack = 0.015
	// compareMin answers of the others, at least, are compared with; for latency compareSlow.
	compareMin, compareSlow = 5, 20
	// windowFails and windowSlow are the least answers of an endpoint that fails or is slow only partly.
	windowFails, windowSlow = 10, 20
)

// standing is what is known of an endpoint beside the others. The pool's lock guards it.
type standing struct {
	soon, long window
	seen       [ledgerLen]uint32
	seenBad    uint32
	fails      trait
	slow       trait
	slowAt     time.Duration // from here on an answer is slow; 0: not known
	typical    time.Duration // the others' median
	tail       time.Duration // what a hundredth of the others' answers exceed
	suspect    string        // why its share is lowered; empty: it is not
	told       time.Time     // dry run: when it was told of
	calm       bool          // its counts are among those that failures are compared with
}

// trait is one way to be worse than the others.
type trait struct {
	row    int       // bad answers in a row until now
	grew   time.Time // when the row last grew, or went on
	goesOn bool      // exchanges of the row wait still
	from   time.Time // the row began after this
	good   time.Time // when an answer without the trait last was seen

	seen  time.Time // the others have been well since then while the row grew; zero: they are not
	base  int       // what the row was then: the end of a common fault leaves rows behind that tell nothing
	since time.Time // the window holds enough to eject since then; zero: it does not
}

// see takes the row in as it is at now. It goes on where exchanges of it wait still: 23 of a limit of 23 hung at one of three endpoints, so that none could
// come after them, and the row of 23 was forgotten for not growing.
func (t *trait) see(now time.Time, row int, goesOn bool) {
	t.goesOn = goesOn
	if row > t.row || goesOn {
		t.grew = now
	}
	if row < t.row || row < doubtRow {
		t.seen = time.Time{}
	}
	t.row = row
}

// began says that at now there was no row, or that it began anew.
func (t *trait) began(now time.Time, good bool) {
	t.from = now
	if good {
		t.good = now
	}
}

// counts is the part of the row that came while the others were well, and for how long it has grown since. A row that does not grow
// is of another time.
func (t *trait) counts(now time.Time, witnessed func(from time.Time) bool) (row float64, lasted time.Duration) {
	if t.row < doubtRow || now.Sub(t.grew) > freshFor {
		return 0, 0
	}
	if !witnessed(t.from) {
		t.seen = time.Time{}
		return 0, 0
	}
	if t.seen.IsZero() {
		t.seen, t.base = now, t.row
		if t.row <= doubtRow || now.Sub(t.from) < youngFor {
			t.seen, t.base = t.from, 0
		}
	}
	return float64(t.row - t.base), t.grew.Sub(t.seen)
}

// grade is how much speaks against an endpoint.
type grade uint8

const (
	clean grade = iota
	doubtful
	sure
)

// finding is what a comparison found.
type finding struct {
	grade grade
	slow  bool
	why   string
}

// peers are endpoints that are compared with one another: all for failures, those of one priority and zone for latency, as
// distance is no illness.
type peers struct {
	soon, long window
}

func (p *peers) add(s *standing, n float64) {
	p.soon.add(&s.soon, n)
	p.long.add(&s.long, n)
}

// absorb takes in what the exchanges wrote down since the last time. left is what is left of older counts.
func (s *standing) absorb(l *ledger, now time.Time, leftSoon, leftLong float64, overdue int) {
	s.soon.fade(leftSoon)
	s.long.fade(leftLong)
	good, fast := uint32(0), uint32(0)
	slowStep := step(s.slowAt)
	for i := range l.steps {
		n := l.steps[i].Load()
		d := n - s.seen[i]
		if d == 0 {
			continue
		}
		s.seen[i] = n
		s.soon.steps[i] += float32(d)
		s.long.steps[i] += float32(d)
		good += d
		if s.slowAt == 0 || i < slowStep {
			fast += d
		}
	}
	bad := l.bad.Load()
	failed := bad - s.seenBad
	s.seenBad = bad
	s.soon.good += float64(good)
	s.long.good += float64(good)
	s.soon.bad += float64(failed)
	s.long.bad += float64(failed)
	if good > 0 || l.badRow.Load() == 0 {
		s.fails.began(now, good > 0)
	}
	if fast > 0 || l.slowRow.Load() == 0 && overdue == 0 {
		s.slow.began(now, fast > 0)
	}
}

// forget makes s begin anew: what was counted so far is about another time.
func (s *standing) forget(l *ledger, now time.Time) {
	*s = standing{seenBad: l.bad.Load(), slowAt: s.slowAt, typical: s.typical, tail: s.tail, told: s.told}
	for i := range l.steps {
		s.seen[i] = l.steps[i].Load()
	}
	l.badRow.Store(0)
	l.slowRow.Store(0)
	s.fails.from, s.slow.from = now, now
}

// learnOthers works out from what on answers of s are slow. others does not hold s. A bound that moves by less than a fifth stays, and a
// row counted by a lower one is void: rises tell that the others have become slower too.
func (s *standing) learnOthers(l *ledger, now time.Time, others *peers, slow float64) {
	w := &others.soon
	if w.good < compareSlow {
		w = &others.long
	}
	if w.good < compareSlow {
		s.slowAt, s.typical, s.tail = 0, 0, 0
		return
	}
	s.typical = w.median()
	s.tail = max(w.exceededBy(0.01), others.long.exceededBy(0.01))
	at := float64(max(s.typical, ledgerUnit)) * slow
	switch old := float64(s.slowAt); {
	case at > old*1.2:
		l.slowRow.Store(0)
		s.slow = trait{from: now}
	case at > old*0.8:
		return
	}
	s.slowAt = time.Duration(at)
}

// failChance is the greatest share of failures with which s would not yet be called worse than the others; 1 when they are too few.
func failChance(others *peers, more float64) float64 {
	p := 0.0
	for _, w := range []*window{&others.soon, &others.long} {
		if n := w.answers(); n >= compareMin && (n >= compareSlow || w == &others.long) {
			p = max(p, failsTimes*(w.bad+0.5)/(n+1)+more)
		}
	}
	if p == 0 {
		return 1
	}
	return p
}

// slowChance is the share of the others' answers that are as slow as d; 1 when they are too few.
func slowChance(others *peers, d time.Duration) float64 {
	p := 0.0
	for _, w := range []*window{&others.soon, &others.long} {
		if w.good >= compareSlow {
			p = max(p, (w.above(d)+2)/(w.good+2)+slowSlack)
		}
	}
	if p == 0 {
		return 1
	}
	return p
}

// judgeFails compares failures. witnessed says whether enough of the others answered well since a row began; it is asked last.
func (s *standing) judgeFails(now time.Time, others *peers, more float64, witnessed func(from time.Time) bool) finding {
	chance := failChance(others, more)
	row, lasted := s.fails.counts(now, witnessed)
	got := clean
	switch {
	case row < doubtRow || !unlikely(row, row, chance, doubtChance*2):
	case row >= sureRow && lasted >= confirmFor && unlikely(row, row, chance, sureFails):
		got = sure
	default:
		got = doubtful
	}
	ref := &others.soon
	if ref.answers() < compareSlow {
		ref = &others.long
	}
	bad, all := row, row
	if got == clean {
		w, enough := s.worst(func(w *window) (k, n float64) { return w.bad, w.answers() }, windowFails, chance)
		if w == nil || !witnessed(s.fails.from) {
			s.fails.held(now, false, 0)
			return finding{}
		}
		got, bad, all = s.fails.held(now, enough, confirmFor), w.bad, w.answers()
	}
	return finding{got, false, fmt.Sprintf("answers fail: %.0f of the last %.0f, the others' %.0f of %.0f", bad, all, ref.bad, ref.answers())}
}

// worst finds the window in which k of n is too much to have come by chance, and says whether it is enough to eject.
func (s *standing) worst(of func(*window) (k, n float64), least, chance float64) (at *window, enough bool) {
	for _, w := range []*window{&s.soon, &s.long} {
		k, n := of(w)
		switch {
		case n < least:
		case unlikely(k, n, chance, sureSlow):
			return w, true
		case at == nil && unlikely(k, n, chance, doubtChance/10):
			at = w
		}
	}
	return at, false
}

// held turns evidence that lasts into certainty.
func (t *trait) held(now time.Time, enough bool, wait time.Duration) grade {
	switch {
	case !enough:
		t.since = time.Time{}
	case t.since.IsZero():
		t.since = now
	case now.Sub(t.since) >= wait:
		return sure
	}
	return doubtful
}

// judgeSlow compares latency.
func (s *standing) judgeSlow(now time.Time, others *peers, witnessed func(from time.Time) bool) finding {
	chance := slowChance(others, s.slowAt)
	row, lasted := s.slow.counts(now, witnessed)
	wait := confirmFor + min(tailTimes*s.tail, tailMost)
	got := clean
	switch {
	case row < doubtRow || !unlikely(row, row, chance, doubtChance/2):
	case row >= sureRow && lasted >= wait && unlikely(row, row, chance, sureSlow):
		got = sure
	default:
		got = doubtful
	}
	if got != clean {
		return finding{got, true, fmt.Sprintf("answers are slow: %.0f in a row took %v or longer, the others' typically %v",
			row, short(s.slowAt), short(s.typical))}
	}
	w, enough := s.worst(func(w *window) (k, n float64) { return w.above(s.slowAt), w.good }, windowSlow, max(chance, 0.5))
	if w == nil || !witnessed(s.slow.from) {
		s.slow.held(now, false, 0)
		return finding{}
	}
	got = s.slow.held(now, enough, wait)
	return finding{got, true, fmt.Sprintf("answers are slow: typically %v, the others' %v", short(w.median()), short(s.typical))}
}

// slowRow is the row of slow answers, and of waiting exchanges when no fast answer came for as long as they wait. It goes on while there are such.
func (s *standing) slowRow(now time.Time, row, waiting int) (all int, goesOn bool) {
	if now.Sub(s.slow.good) < s.slowAt {
		return row, false
	}
	return row + waiting, waiting > 0
}

// short rounds a time for people.
func short(d time.Duration) time.Duration {
	unit := time.Duration(math.Pow10(max(int(math.Log10(float64(max(d, 1))))-1, 0)))
	return d.Round(unit)
}

// beatOf is how often a pool of n endpoints compares them.
func beatOf(n int) time.Duration {
	return min(max(beatLeast, time.Duration(n)*beatEach), beatMost)
}

// sticky says whether requests of one kind may all go to one endpoint.
func sticky(cfg *site.Pool) bool { return cfg.Method == site.MethodHash || cfg.Affinity != nil }
