package node

import (
	"sync"
	"time"

	"github.com/even-keel/evenkeel/console"
)

// eventLimit is how many events are remembered: a day of a quiet site, minutes of a storm.
const eventLimit = 1000

// events is a ring of what happened, for people.
type events struct {
	mu   sync.Mutex
	ring []console.Event
	next int
	seen uint64
	tell func(at time.Time, kind, text string) // nil: nobody else is told
	// keep has an event remembered for longer; it must not wait. nil: nobody does.
	keep func(ev console.Event, properties map[string]string)
}

// add remembers one event, and forgets the oldest when there are too many.
func (e *events) add(at time.Time, kind, text string) { e.addAbout(at, kind, text, nil) }

// addAbout is add, with what the event is about.
func (e *events) addAbout(at time.Time, kind, text string, properties map[string]string) {
	ev := console.Event{At: at, Kind: kind, Text: text}
	if e.keep != nil {
		e.keep(ev, properties)
	}
	if e.tell != nil {
		e.tell(at, kind, text)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen++
	if len(e.ring) < eventLimit {
		e.ring = append(e.ring, ev)
		return
	}
	e.ring[e.next] = ev
	e.next = (e.next + 1) % eventLimit
}

// newest returns up to n events, newest first.
func (e *events) newest(n int) []console.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	n = min(n, len(e.ring))
	out := make([]console.Event, 0, n)
	for i := range n {
		at := (e.next - 1 - i + 2*len(e.ring)) % len(e.ring)
		out = append(out, e.ring[at])
	}
	return out
}
