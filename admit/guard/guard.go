// Package guard decides when evenkeel itself is overloaded, and then which share of which class it refuses: just enough.
package guard

import (
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Window is the time between two samples: long enough for a percentile of a quiet node, short enough that three in a row are
// less than a second.
const Window = 250 * time.Millisecond

// Numbers of the controller. They are not settings: the thresholds are, and what follows from them is the same for all.
const (
	rise        = 3    // hot windows in a row before the first refusal: one is a garbage collection or a burst
	calmAt      = 0.7  // of the threshold: below it shares fall again. Between it and the threshold they stay, so that they do not flap
	allStandard = 4    // times the threshold: all standard requests may be refused. With 50 ms that is 200 ms, of which a request has two or three
	anyCritical = 6    // from here on critical ones
	allCritical = 10   // and here all of them
	firstShare  = 0.10 // of requests refused when refusing begins
	moreShare   = 0.05 // added for each further hot window, times how far above the threshold it was, at most steepest
	steepest    = 4.0
	keepShare   = 0.95 // of the share stays after a calm window
	quietShare  = 0.80 // stays after a window in which the processors had time: 0.5 is gone in five seconds
	quietAt     = 0.2  // of the threshold
	quietCPU    = 0.5  // of the processors
	leastShare  = 0.01
	mostShare   = 0.98 // something is let through always, or nobody would learn that it is over
	leastWaits  = 50   // a percentile of fewer waits says nothing
	leastCPU    = 0.10 // of the processors. Below it there is next to nothing that refusing could save
	crowdedBy   = 1.0  // waits for each time of work from which the machine is crowded
	patience    = 4    // times the threshold holds on a crowded machine: whoever has more work than it is given time for passes that soon
	memoryBack  = 0.05 // how far memory has to fall below a threshold for its refusals to end
	memoryRise  = 2    // windows in a row
	acceptFull  = 0.9  // of an accept queue
	roomFull    = 0.95 // of the connections that there is room for: at 1 new ones are refused
	stillStood  = 4    // windows: a longer one is a process that was stopped or a machine that was moved, and says nothing
	calmRaise   = 4    // calm windows between two steps back of softer measures
	leastShift  = 1.0 / 16
	idleFirst   = 32 * time.Second // idle for longer is closed first; half of it a second later
	idleLast    = time.Second      // who asked within this time is left alone
)

// Config is from which point on evenkeel is overloaded. It comes from site.Guard.
type Config struct {
	Scheduler time.Duration // 99th percentile of the wait for a processor
	Memory    float64       // share of the memory that may be used, 0 to 1
	Files     float64       // share of the file descriptors, 0 to 1
}

// Sample is what was seen in one window.
type Sample struct {
	Took      time.Duration // how long the window was
	Scheduler time.Duration // 99th percentile of the time that runnable work waited for a processor
	Waits     uint64        // of how many waits
	CPU       float64       // share of the processors that this process used, 0 to 1
	Crowded   float64       // how long this process's threads waited for a processor for each time that they ran; 0: not known
	Memory    float64       // share of the memory limit in use, 0 to 1
	Files     float64       // share of the descriptors in use, 0 to 1
	Room      float64       // share of the connections in use that descriptors and memory have room for, 0 to 1
	Accept    float64       // fullest accept queue, 0 to 1
	Demand    [3]uint64     // requests by class, let in or not; all 0: not counted
}

// Why is the reason for refusals.
type Why uint8

// The reasons.
const (
	Calm Why = iota
	Scheduler
	Accept
	Memory
)

// String is the reason for people.
func (w Why) String() string {
	return [...]string{"", "work waits too long for a processor", "an accept queue is full", "memory is nearly used up"}[w]
}

// Orders are what is to be done until the next window.
type Orders struct {
	Refuse  [3]float64    // share of the requests of each exchange.Class that is refused, 0 to 1
	Why     Why           // Calm: nothing is refused
	Watch   bool          // Demand is wanted in the next sample
	Streams float64       // share of the HTTP/2 streams that a connection is allowed otherwise
	Idle    time.Duration // connections that were idle for longer are to be closed; 0: none
}

// Core is the controller. It is no stage, reads no clock and is used by one goroutine.
type Core struct {
	cfg     Config
	hot     int        // windows in a row above the threshold
	calm    int        // windows in a row well below it
	share   float64    // of all requests that is refused for want of a processor
	peak    float64    // pressure, falling no faster than the share
	cause   Why        // of share
	demand  [3]float64 // smoothed
	high    int        // windows in a row with too much memory
	memory  int        // 1: low and standard are refused, 2: all
	streams float64
	idle    time.Duration
	idleFor int // windows
}

// New makes a controller in calm.
func New(cfg Config) *Core { return &Core{cfg: cfg, streams: 1} }

// Update changes the thresholds. What is refused just now is found out anew by the next samples.
func (c *Core) Update(cfg Config) { c.cfg = cfg }

// Step takes the sample of a window and says what is to be done in the next.
func (c *Core) Step(s Sample) Orders {
	if s.Took > stillStood*Window {
		s.Waits, s.Accept = 0, 0
	}
	for i, n := range s.Demand {
		c.demand[i] = (c.demand[i] + float64(n)) / 2
	}
	pressure, why := c.pressure(s)
	c.peak = max(pressure, c.peak*keepShare)
	c.shed(pressure, why, s.CPU)
	c.remember(s.Memory)
	c.soften(pressure, s)
	return c.orders(pressure)
}

// pressure is how far evenkeel is towards overload of its processors, 1 at the threshold.
func (c *Core) pressure(s Sample) (p float64, why Why) {
	if s.Waits >= leastWaits && s.CPU >= leastCPU && c.cfg.Scheduler > 0 {
		p, why = float64(s.Scheduler)/float64(c.cfg.Scheduler), Scheduler
		if s.Crowded > crowdedBy { // other processes take the time: refusing would not give it back
			p /= patience
		}
	}
	if a := s.Accept / acceptFull; a > p && (a >= 1 || p == 0) {
		p, why = a, Accept
	}
	return p, why
}

// shed moves the share: up by steps while the threshold is passed, down in proportion when all is well. So the share hangs just
// above what is needed, as the window of a TCP sender hangs below what the path takes.
func (c *Core) shed(pressure float64, why Why, cpu float64) {
	switch {
	case pressure >= 1:
		c.hot, c.calm = c.hot+1, 0
		if c.share > 0 {
			c.share, c.cause = max(c.share, min(c.share+moreShare*min(pressure, steepest), c.bound(pressure))), why
		} else if c.hot >= rise {
			c.share, c.cause = min(firstShare, max(c.bound(pressure), leastShare)), why
		}
	case pressure < calmAt:
		c.hot, c.calm = 0, c.calm+1
		if pressure < quietAt && cpu < quietCPU {
			c.share *= quietShare
		} else {
			c.share *= keepShare
		}
		if c.share < leastShare {
			c.share, c.cause = 0, Calm
		}
	default:
		c.hot, c.calm = 0, 0
	}
}

// bound is how far the share may grow at a pressure. At the threshold all low requests may be refused; of standard ones the more
// the longer work waits, and of critical ones only when even that was not enough. To be served late is better than to be refused:
// clients that send the next request as soon as they have an answer, refusal or not, keep the wait long whatever is refused, and must not
// bring it about that nearly all are.
func (c *Core) bound(pressure float64) float64 {
	standard, critical := may(pressure)
	total := c.demand[exchange.Low] + c.demand[exchange.Standard] + c.demand[exchange.Critical]
	if total == 0 {
		return standard * mostShare
	}
	share := (c.demand[exchange.Low] + standard*c.demand[exchange.Standard] + critical*c.demand[exchange.Critical]) / total
	return min(share, mostShare)
}

// may is which share of the standard and of the critical requests may be refused at a pressure.
func may(pressure float64) (standard, critical float64) {
	return min(max((pressure-1)/(allStandard-1), 0), 1), min(max((pressure-anyCritical)/(allCritical-anyCritical), 0), 1)
}

// remember moves the level of memory. Memory does not come back at once when less is let in, so there is no share to feel for.
func (c *Core) remember(used float64) {
	all := c.cfg.Memory + (1-c.cfg.Memory)/2
	switch {
	case c.cfg.Memory <= 0:
		c.memory = 0
	case used >= c.cfg.Memory:
		c.high++
		if c.high >= memoryRise {
			c.memory = max(c.memory, 1)
			if used >= all {
				c.memory = 2
			}
		}
	default:
		c.high = 0
	}
	if c.memory == 2 && used < all-memoryBack/2 {
		c.memory = 1
	}
	if c.memory == 1 && used < c.cfg.Memory-memoryBack {
		c.memory = 0
	}
}

// soften moves what hurts nobody much: how many streams a connection may open, and for how long it may be idle.
func (c *Core) soften(pressure float64, s Sample) {
	tight := c.cfg.Memory > 0 && s.Memory >= c.cfg.Memory-memoryBack
	switch {
	case pressure >= 1 || tight:
		c.streams = max(c.streams/2, leastShift)
		c.calm = 0
	case c.calm >= calmRaise && c.streams < 1:
		c.streams, c.calm = min(c.streams*2, 1), 0
	}
	if !tight && (c.cfg.Files <= 0 || s.Files < c.cfg.Files) && s.Room < roomFull {
		c.idle, c.idleFor = 0, 0
		return
	}
	if c.idle == 0 {
		c.idle = idleFirst
	} else if c.idleFor++; c.idleFor%calmRaise == 0 {
		c.idle = max(c.idle/2, idleLast)
	}
}

// orders makes shares by class: the least important class goes first, and the next only when all of it is not enough.
func (c *Core) orders(pressure float64) Orders {
	o := Orders{Watch: pressure >= 1 || c.share > 0 || c.memory > 0, Streams: c.streams, Idle: c.idle}
	if c.share > 0 {
		o.Why = c.cause
		total := c.demand[exchange.Low] + c.demand[exchange.Standard] + c.demand[exchange.Critical]
		need := c.share * total
		for _, class := range [...]exchange.Class{exchange.Low, exchange.Standard, exchange.Critical} {
			if d := c.demand[class]; need > 0 && d > 0 {
				o.Refuse[class] = min(need/d, 1)
				need -= d
			}
		}
		if total == 0 { // nothing is known of the classes yet
			o.Refuse[exchange.Low], o.Refuse[exchange.Standard] = 1, c.share
		}
		// When the least important have gone, the share is not for those that are left.
		standard, critical := may(c.peak)
		o.Refuse[exchange.Standard] = min(o.Refuse[exchange.Standard], max(standard, leastShare))
		o.Refuse[exchange.Critical] = min(o.Refuse[exchange.Critical], critical)
		if o.Refuse[exchange.Standard] > 0 {
			o.Refuse[exchange.Low] = 1
		}
	}
	if c.memory > 0 {
		o.Why = Memory
		o.Refuse[exchange.Low], o.Refuse[exchange.Standard] = 1, 1
		if c.memory == 2 {
			o.Refuse[exchange.Critical] = 1
		}
	}
	return o
}

// Status is what the guard does, as plain data.
type Status struct {
	Mode           string  `json:"mode"`
	Overloaded     bool    `json:"overloaded"` // something is refused, or would be
	Why            string  `json:"why,omitempty"`
	SchedulerP99MS float64 `json:"scheduler_p99_ms"` // of the last window
	CPUShare       float64 `json:"cpu_share"`        // of the processors that evenkeel may use, 0 to 1
	MemoryShare    float64 `json:"memory_share"`     // of the limit, without garbage and caches, 0 to 1
	FilesShare     float64 `json:"files_share"`      // of the file descriptors, 0 to 1
	FlightShare    float64 `json:"flight_share"`     // of the requests that may be in flight, 0 to 1
	AcceptShare    float64 `json:"accept_share"`     // of the fullest accept queue, 0 to 1
	// ListenOverflows is how many clients found an accept queue full since the start, of any program in this network namespace.
	ListenOverflows uint64   `json:"listen_overflows"`
	StreamsShare    float64  `json:"streams_share"` // of the HTTP/2 streams otherwise allowed, 0 to 1
	RefuseLow       float64  `json:"refuse_low"`    // shares that are refused now, 0 to 1
	RefuseStandard  float64  `json:"refuse_standard"`
	RefuseCritical  float64  `json:"refuse_critical"`
	Refused         uint64   `json:"refused"`
	WouldRefuse     uint64   `json:"would_refuse"` // in dry_run
	IdleClosed      uint64   `json:"idle_closed"`
	Warnings        []string `json:"warnings,omitempty"` // about the machine, each with its remedy
}
