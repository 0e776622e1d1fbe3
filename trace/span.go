package trace

import (
	"net/netip"
	"time"
)

// MaxAttempts is how many attempts are told of one request: three at its own pool, one beside the first, and as many at a pool that stands in.
const MaxAttempts = 8

// Span is what is kept of one request that is recorded. It holds nothing of the request's memory.
type Span struct {
	Context         // of this part of the trace
	Parent  [8]byte // zero: the trace begins here
	Remote  bool    // Parent is of another program
	State   string  // tracestate of the sender
	Begun   time.Time
	Took    time.Duration
	Request Request
	Answer  Answer

	Attempts []Attempt // as many as find a place
	Count    int       // of attempts, those too that found no place here
}

// Request is what was asked.
type Request struct {
	Listener, Route, Pattern, Class string
	Method, Scheme, Path            string
	Host                            string // with its port, when it was named
	Version                         string // of HTTP: 1.1, 2
	Agent, ID                       string
	Client                          netip.Addr     // who asks, behind trusted proxies
	Peer                            netip.AddrPort // who connected
	Body                            int64          // bytes that came
}

// Answer is what became of it.
type Answer struct {
	Status             int
	Call               string // how a call of gRPC failed, by the name of its code; empty: it did not, or is none
	RefusedBy, Reason  string // the stage that said no, and why; empty: none did
	Away               bool   // it said so of its own accord; false: it could not be served
	Limit              string // that was met
	Cache              string // what the cache did; empty: it was not asked
	Body               int64  // bytes that were sent
	Aborted, Truncated bool
}

// Attempt is one try at an endpoint.
type Attempt struct {
	Span           [8]byte
	Begun          time.Time
	Took           time.Duration
	Pool, Endpoint string
	Scheme, Path   string // as the endpoint is asked; empty: it was not reached
	Number         int    // 1: the first
	Hedge          bool   // beside the first, which had no answer in time
	Status         int    // 0: no answer
	FirstByte      time.Duration
	Failure        string // in a word; empty: an answer came, or nobody waited any more
	Cancelled      bool
}

// Try begins an attempt. It returns its place, for Of; nil: there is no place for it.
func (s *Span) Try(pool, endpoint string, number int) (place int, a *Attempt) {
	place = s.Count
	s.Count++
	if place >= MaxAttempts {
		return place, nil
	}
	s.Attempts = append(s.Attempts, Attempt{Span: NewSpan(), Begun: time.Now(), Pool: pool, Endpoint: endpoint, Number: number})
	return place, &s.Attempts[place]
}

// Forget takes the last attempt back, which was not made.
func (s *Span) Forget() {
	s.Count--
	s.Attempts = s.Attempts[:min(s.Count, len(s.Attempts))]
}

// Of is an attempt by its place; nil: none is kept.
func (s *Span) Of(place int) *Attempt {
	if place < 0 || place >= len(s.Attempts) {
		return nil
	}
	return &s.Attempts[place]
}
