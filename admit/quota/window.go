package quota

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// window is what one key used in one span. Counting in it takes no lock. A window that is over is kept by those who
// counted in it, so that what they give back goes where it came from. 80 bytes.
type window struct {
	start     int64 // of the span
	calls     atomic.Int64
	bytes     atomic.Int64
	pastCalls atomic.Int64 // of a sliding period: what the parts before used, as it was when this part began
	pastBytes atomic.Int64
	prev      *window      // the part before in which something was counted; guarded by account.mu
	saved     used         // how much of it is in files; guarded by account.mu
	moved     bool         // it carries what was counted in a span that a wrong clock had named
	from      atomic.Int64 // the span that a wrong clock may have named, or which was right and comes again; 0: none
}

// used is an amount.
type used struct{ calls, bytes int64 }

// gone marks an account that was forgotten: who still has it looks for its successor.
const gone = math.MinInt64

// account is what one key used.
type account struct {
	hash   uint64
	packed string
	now    atomic.Pointer[window]
	mu     sync.Mutex // taken when a span begins, and to look at the past; never to count
	// dirty says that the account is in the list of those to be written, whose next is after.
	dirty atomic.Bool
	after *account
}

// total is what counts at the moment.
func (w *window) total() used {
	return used{w.pastCalls.Load() + w.calls.Load(), w.pastBytes.Load() + w.bytes.Load()}
}

// window is the window of a span that holds now; nil when the account was forgotten.
func (a *account) window(p period, now time.Time, s span) *window {
	if w := a.now.Load(); w.start == s.start {
		return w
	}
	return a.begin(p, now)
}

// begin is the window at now: a new one when a span began.
//
//go:noinline
func (a *account) begin(p period, now time.Time) *window {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.now.Load()
	if w.start == gone {
		return nil
	}
	s, moved := p.settled(now, w.start)
	if s.start == w.start {
		return w
	}
	next := &window{start: s.start}
	if moved {
		next.from.Store(w.start)
	}
	switch {
	case moved || p.again(s, w.from.Load()):
		// Nobody gets a quota twice because a clock was wrong, neither when it is put back nor when it only was back for a while.
		sum := w.total()
		next.calls.Store(sum.calls)
		next.bytes.Store(sum.bytes)
		// The files name the wrong span; who reads them moves it likewise.
		next.saved = used{sum.calls - (w.calls.Load() - w.saved.calls), sum.bytes - (w.bytes.Load() - w.saved.bytes)}
		next.moved = true
	case p.sliding:
		next.prev = w
		next.trim(p.reach(s))
	}
	a.now.Store(next)
	return next
}

// trim lets go of parts of the past from before reach and sums up the others. The caller holds account.mu.
func (w *window) trim(reach int64) {
	var sum used
	for at := w; at.prev != nil; {
		p := at.prev
		switch {
		case p.start < reach:
			at.prev = nil
		case p.calls.Load() == 0 && p.bytes.Load() == 0 && p.saved == (used{}):
			at.prev = p.prev
		default:
			sum.calls += p.calls.Load()
			sum.bytes += p.bytes.Load()
			at = p
		}
	}
	w.pastCalls.Store(sum.calls)
	w.pastBytes.Store(sum.bytes)
}

// add adds what a file says was used in the span that begins at start. It counts as saved.
func (a *account) add(p period, now time.Time, start int64, d used) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.now.Load()
	if s, moved := p.settled(now, start); moved {
		from := start
		start = s.start
		if w = a.moveIn(p, w, start, from); w == nil {
			return
		}
	}
	switch {
	case start > w.start:
		next := &window{start: start}
		if p.sliding {
			next.prev = w
		}
		next.put(d)
		a.now.Store(next)
		w = next
	case start == w.start:
		w.put(d)
	case p.sliding:
		insert(w, start, d)
	default:
		return // of a period that is over
	}
	if p.sliding {
		w.trim(p.reach(span{start: w.start}))
	}
}

// moveIn is the window that takes in what a file has of the span from, which has not come yet by the present clock and is counted in that
// of start. Of several such spans only the last counts: those before it were over. nil: this one was. The caller holds account.mu.
func (a *account) moveIn(p period, w *window, start, from int64) *window {
	was := w.from.Load()
	switch {
	case w.start != start || p.sliding:
	case was > from:
		return nil
	case was == 0:
		w.from.Store(from)
	case was < from:
		w = &window{start: start}
		w.from.Store(from)
		a.now.Store(w)
	}
	return w
}

// insert adds to a part of the past of w. The caller holds account.mu.
func insert(w *window, start int64, d used) {
	for w.prev != nil && w.prev.start >= start {
		w = w.prev
	}
	if w.start != start {
		w.prev = &window{start: start, prev: w.prev}
		w = w.prev
	}
	w.put(d)
}

// put adds what is in a file already.
func (w *window) put(d used) {
	w.calls.Add(d.calls)
	w.bytes.Add(d.bytes)
	w.saved.calls += d.calls
	w.saved.bytes += d.bytes
}

// free is when so much of what counts has left that both amounts are below their bounds, in nanoseconds since 1970;
// bounds of 0 bound nothing. It is math.MaxInt64 for never.
func (a *account) free(p period, w *window, end int64, bound used) int64 {
	if !p.sliding {
		return end
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var parts [slidingParts + 2]*window
	n := 0
	for at := w; at != nil && n < len(parts); at = at.prev {
		parts[n] = at
		n++
	}
	sum := w.total()
	at := end
	for n--; n >= 0; n-- {
		if (bound.calls == 0 || sum.calls < bound.calls) && (bound.bytes == 0 || sum.bytes < bound.bytes) {
			break
		}
		sum.calls -= parts[n].calls.Load()
		sum.bytes -= parts[n].bytes.Load()
		at = p.leaves(parts[n].start, end)
	}
	return at
}

// empty says whether nothing that the account holds counts any more at the span s, and nothing has to be written.
func (a *account) empty(p period, s span) bool {
	w := a.now.Load()
	if p.length == 0 && p.months == 0 || a.dirty.Load() {
		return false
	}
	return w.start < p.reach(s) && !p.again(s, w.from.Load())
}

// forget marks an empty account as gone. The caller takes it out of its table.
func (a *account) forget(p period, s span) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.empty(p, s) {
		return false
	}
	a.now.Store(&window{start: gone})
	return true
}
