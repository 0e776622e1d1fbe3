package probe

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// Lanes keep dear probes from crowding out cheap ones.
const (
	laneNet = iota
	laneExec
	lanes
)

// jitterPart is the part of the interval by which a turn may come early or late, in both directions: endpoints that were
// added together, and nodes that started together, drift apart within a few turns.
const jitterPart = 0.1

// lagWindow is how long the worst lag is remembered: for one to two of them.
const lagWindow = time.Minute

// turns is one target's place in the schedule. Turn n is due at base + n·every, moved by a jitter of its
// own that is never carried over: the mean rate is exact however long probes take.
type turns struct {
	owner *Handle
	every time.Duration
	base  time.Time // turn 0 on the grid
	turn  int64     // the next turn
	due   time.Time // when it comes, with its jitter
	lane  int

	slot    int  // place in the heap
	waiting bool // due, and waits for a place in its lane
	running bool
	gone    bool
	since   time.Time // when the turn that waits was due
}

// schedule decides which probes begin when. It is a pure state machine: time comes in as an argument, never
// going backwards, and randomness as a source. It belongs to one goroutine at a time.
type schedule struct {
	rnd     *rand.Rand
	heap    byDue
	lanes   [lanes]lane
	started []*turns // what start returned last, kept for its memory
	skipped uint64

	lagFrom        time.Time // start of the window that lag belongs to
	lag, lagBefore time.Duration
}

// lane is a queue of due probes before a fixed number of places. A target stands in it once at most.
type lane struct {
	places  int
	running int
	queue   []*turns
	waiting int // those in the queue that are not gone
}

func newSchedule(rnd *rand.Rand, net, exec int) schedule {
	return schedule{rnd: rnd, lanes: [lanes]lane{laneNet: {places: net}, laneExec: {places: exec}}}
}

// add gives t a first turn now and a phase of its own for all others, so that targets added together
// are spread evenly over the interval from their second turn on. That comes half an interval later than the
// phase alone says, so that a first probe that takes its time has ended by then.
func (s *schedule) add(t *turns, now time.Time, every time.Duration, lane int) {
	t.every, t.lane = every, lane
	t.base = now.Add(time.Duration((s.rnd.Float64() - 0.5) * float64(every)))
	t.turn, t.due = 0, now
	heap.Push(&s.heap, t)
}

// remove takes t away; false: it is gone already. A probe of it that runs holds its place until done.
func (s *schedule) remove(t *turns) bool {
	if t.gone {
		return false
	}
	t.gone = true
	heap.Remove(&s.heap, t.slot)
	if t.waiting {
		s.lanes[t.lane].waiting--
	}
	return true
}

// next is when start has something to do again; false: not before something else happens.
func (s *schedule) next() (time.Time, bool) {
	if len(s.heap) == 0 {
		return time.Time{}, false
	}
	return s.heap[0].due, true
}

// start returns the targets to probe now. The slice is good until the next call.
func (s *schedule) start(now time.Time) []*turns {
	s.rotate(now)
	for len(s.heap) > 0 && !s.heap[0].due.After(now) {
		t := s.heap[0]
		if t.running || t.waiting {
			s.skipped++
		} else {
			t.waiting, t.since = true, t.due
			l := &s.lanes[t.lane]
			l.queue = append(l.queue, t)
			l.waiting++
		}
		s.plan(t, now)
		heap.Fix(&s.heap, 0)
	}
	clear(s.started)
	s.started = s.started[:0]
	for i := range s.lanes {
		s.enter(&s.lanes[i], now)
	}
	return s.started
}

// plan moves t to its next turn that is still to come. Turns that passed while the node stood still (a suspended
// machine) are left out: probing them all at once would tell nothing new.
func (s *schedule) plan(t *turns, now time.Time) {
	t.turn++
	grid := t.base.Add(time.Duration(t.turn) * t.every)
	if behind := now.Sub(grid); behind >= t.every {
		missed := int64(behind / t.every)
		s.skipped += uint64(missed)
		t.turn += missed
		grid = grid.Add(time.Duration(missed) * t.every)
	}
	jitter := (2*s.rnd.Float64() - 1) * jitterPart * float64(t.every)
	t.due = grid.Add(time.Duration(jitter))
}

// enter fills the free places of a lane, first come first served.
func (s *schedule) enter(l *lane, now time.Time) {
	n := 0
	for ; n < len(l.queue) && (l.running < l.places || l.queue[n].gone); n++ {
		t := l.queue[n]
		t.waiting = false
		if t.gone {
			continue
		}
		l.waiting--
		l.running++
		t.running = true
		s.lag = max(s.lag, now.Sub(t.since))
		s.started = append(s.started, t)
	}
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
}

// done ends t's probe and says whether another waits for the place.
func (s *schedule) done(t *turns) bool {
	l := &s.lanes[t.lane]
	t.running = false
	l.running--
	return len(l.queue) > 0
}

// rotate forgets old lag.
func (s *schedule) rotate(now time.Time) {
	switch age := now.Sub(s.lagFrom); {
	case age >= 2*lagWindow:
		s.lagFrom, s.lag, s.lagBefore = now, 0, 0
	case age >= lagWindow:
		s.lagFrom, s.lag, s.lagBefore = s.lagFrom.Add(lagWindow), 0, s.lag
	}
}

func (s *schedule) status(now time.Time) Status {
	s.rotate(now)
	st := Status{Targets: len(s.heap), Skipped: s.skipped, LagMax: max(s.lag, s.lagBefore)}
	for i := range s.lanes {
		st.Running += s.lanes[i].running
		st.Waiting += s.lanes[i].waiting
	}
	return st
}

// byDue is a heap of targets, the next due on top.
type byDue []*turns

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h byDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i, j
}
func (h *byDue) Push(x any) {
	t := x.(*turns)
	t.slot = len(*h)
	*h = append(*h, t)
}
func (h *byDue) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}
