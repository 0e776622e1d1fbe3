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
	// Link is what the sender keeps for this endpoint: its connections. It is set once, before the
	// endpoint is first picked.
	Link any
	// Seat is what the pool keeps for this endpoint. Only package pool looks inside.
	Seat any
}
