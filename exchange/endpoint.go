package exchange

import "sync/atomic"

// Endpoint is one address that does the work, as the pool hands it to the send stage. The pool
// owns it; pick counts InFlight up and the pool's Done counts it down.
type Endpoint struct {
	Pool     string
	Address  string // host:port
	Zone     string
	InFlight atomic.Int64
	// Gone is set once the endpoint is drained, down or removed, so that udp
	// sessions and idle connections leave it.
	Gone atomic.Bool
	// Insure is after how many ns without an answer a request that only reads is sent to another endpoint too, though its route does
	// not hedge; 0: never. The pool sets it while it tries out whether this one is well again: the client is not to pay for that.
	Insure atomic.Int64
	// Link is what the sender keeps for this endpoint: its connections. It is set once, before the
	// endpoint is first picked.
	Link any
	// Seat is what the pool keeps for this endpoint. Only package pool looks inside.
	Seat any
	// Usual is what the shedder keeps for this endpoint: what its answers take in calm times. Only package admit/shed looks inside.
	Usual atomic.Value
	// Strays counts, for all endpoints of the pool together, the exchanges that Strand found; nil: nobody wants to know.
	Strays *atomic.Int64

	beat    atomic.Uint32 // the pool's clock for what follows; 0: nobody counts
	awaited [BeatsKept]atomic.Int32
	ancient atomic.Int32
	cut     atomic.Uint32 // exchanges of beats before it are strays
}

// BeatsKept is for how many of the pool's beats it is known how many exchanges wait since then; those that wait longer are
// counted together. At ten beats per second these are 6.4 s: longer than nearly all answers take, in 256 bytes.
const BeatsKept = 64

// Await notes that x waits for its answer head from now on. The pool calls it as it picks the endpoint.
func (e *Endpoint) Await(x *Exchange) {
	x.Beat, x.Stray = e.beat.Load(), false
	if x.Beat != 0 {
		e.awaited[x.Beat%BeatsKept].Add(1)
	}
}

// Heard notes that x waits no more: its answer head is there, or it has ended without one. It may be called again.
func (e *Endpoint) Heard(x *Exchange) {
	beat := x.Beat
	if beat == 0 {
		return
	}
	x.Beat, x.Stray = 0, beat < e.cut.Load()
	switch {
	case x.Stray:
		e.stray(-1)
	case e.beat.Load()-beat < BeatsKept:
		e.awaited[beat%BeatsKept].Add(-1)
	default:
		e.ancient.Add(-1)
	}
}

// Tick begins another beat. Only the pool calls it, one call at a time. A Heard that comes just as its beat gets too old is taken from
// the new one and made up for when that grows old itself, and one that comes just as it becomes a stray likewise.
func (e *Endpoint) Tick() {
	next := e.beat.Load() + 1
	if next == 0 {
		next = BeatsKept // wrapped after 13 years
		e.cut.Store(0)
	}
	if n := e.awaited[next%BeatsKept].Swap(0); next-BeatsKept < e.cut.Load() && next > BeatsKept {
		e.stray(n)
	} else {
		e.ancient.Add(n)
	}
	e.beat.Store(next)
}

// Strand makes strays of all that wait now: the endpoint is out of service, and whoever waits for it takes nothing of what the others can do, even when
// the endpoint is back. Only the pool calls it, not while it calls Tick.
func (e *Endpoint) Strand() {
	e.Tick()
	now := e.beat.Load()
	e.cut.Store(now) // first: whoever is heard meanwhile is a stray already, and found below
	sum := e.ancient.Swap(0)
	for i := range e.awaited {
		if uint32(i) != now%BeatsKept {
			sum += e.awaited[i].Swap(0)
		}
	}
	e.stray(sum)
}

func (e *Endpoint) stray(n int32) {
	if e.Strays != nil {
		e.Strays.Add(int64(n))
	}
}

// Overdue is how many exchanges have waited for at least n whole beats, n from 0 to BeatsKept.
func (e *Endpoint) Overdue(n int) int {
	now, sum := e.beat.Load(), e.ancient.Load()
	if now == 0 {
		return 0
	}
	for age := n + 1; age < BeatsKept; age++ {
		sum += e.awaited[(now-uint32(age))%BeatsKept].Load()
	}
	return int(max(sum, 0))
}
