package shed

import (
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Status is what a gate knows, as plain data.
type Status struct {
	Pool              string               `json:"pool"`
	Mode              string               `json:"mode"`      // on or dry_run
	Limit             float64              `json:"limit"`     // exchanges that may be in flight now
	Max               int                  `json:"max"`       // the limit never passes this; 0: not bounded
	InFlight          int                  `json:"in_flight"` // waiting for their answer to begin, without…
	Strays            int                  `json:"strays"`    // …those whose endpoint was taken out of service since they were sent there
	Waiting           int                  `json:"waiting"`
	QueueMS           float64              `json:"queue_ms"`            // for how long the longest waiting has waited
	ServiceMS         float64              `json:"service_ms"`          // an answer takes this when nothing queues at the endpoints; 0: not known yet
	CapacityPerSecond float64              `json:"capacity_per_second"` // answers of all endpoints together, as far as was seen; 0: not known yet
	Behind            bool                 `json:"behind"`              // the queue has stood for a while: waits are short
	LowOff            bool                 `json:"low_off"`             // low requests are refused by themselves
	ByHand            map[string]time.Time `json:"by_hand,omitempty"`   // classes that are switched off by hand, until when
	Classes           []ClassStatus        `json:"classes"`             // critical, standard, low
}

// ClassStatus counts the exchanges of one class since the start.
type ClassStatus struct {
	Class       string `json:"class"`
	Demand      uint64 `json:"demand"` // admitted, refused and waiting
	Admitted    uint64 `json:"admitted"`
	Refused     uint64 `json:"refused"`
	WouldRefuse uint64 `json:"would_refuse"` // admitted because of dry_run
}

// ranked are the classes in their order of importance.
var ranked = [...]exchange.Class{exchange.Critical, exchange.Standard, exchange.Low}

// Status returns what the gate knows. It takes the lock of the gate for some µs.
func (g *Gate) Status() Status {
	now := g.now()
	set := g.set.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lay(now) // when nobody asks for a place any more, nobody else does, and those who left stay in the figures
	c, strays := g.core, g.deps.Strays()
	c.watch(now)
	s := Status{Pool: g.pool, Mode: set.Mode, Limit: float64(c.Limit()), Max: c.cfg.Max, InFlight: int(max(g.inFlight.Load()-int64(strays), 0)), Strays: strays,
		Waiting: c.queue.Len(), QueueMS: milliseconds(c.queue.Oldest(now)), ServiceMS: c.knee.service * 1000,
		CapacityPerSecond: c.knee.Capacity(), Behind: c.behind, LowOff: c.lowOff}
	for _, class := range ranked {
		if until := c.byHand[class.Rank()]; now < until {
			if s.ByHand == nil {
				s.ByHand = map[string]time.Time{}
			}
			s.ByHand[class.String()] = g.epoch.Add(until)
		}
		one := ClassStatus{Class: class.String(), Refused: g.refused[class].Load(), WouldRefuse: g.would[class].Load()}
		for i := range g.shards {
			one.Admitted += g.shards[i].admitted[class].Load()
		}
		one.Demand = one.Admitted + one.Refused + uint64(c.queue.Waiting(class))
		s.Classes = append(s.Classes, one)
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Switch switches a class off by hand until a time, or on again when that is past. Critical requests cannot be switched off: it returns false.
func (g *Gate) Switch(class exchange.Class, until time.Time) bool {
	if class == exchange.Critical {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.core.byHand[class.Rank()] = until.Sub(g.epoch)
	g.publish(g.now())
	return true
}

// Pressure is how the pool is: 0 calm, 1 behind, 2 low requests are refused. It takes no lock, and may be some 10 ms old.
func (g *Gate) Pressure() int { return int(g.pressure.Load()) }
