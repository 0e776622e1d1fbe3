package exchange

import (
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/wire"
)

// Route is a route of the site file made ready for use: everything the send stage needs to change a
// request or its answer. It is built once per reload and never changed.
type Route struct {
	Name     string
	Pattern  string // the path that it was found by, as the site file writes it; empty: any
	Index    int    // position in the site file, for pre-resolved counters
	Pool     Picker
	Class    Class
	Deadline time.Duration
	// AttemptTimeout is how long one attempt may take from the whole request sent to the answer head; 0: as the pool says.
	AttemptTimeout time.Duration
	// Hedge says when a second endpoint is asked beside the first; nil: never.
	Hedge *Hedging
	// SafeCalls are paths of gRPC calls that only read; one that ends in a slash is all of a service.
	SafeCalls []string
	// TellDeadline says in which forms endpoints are told how long they may take.
	TellDeadline DeadlineForms
	MaxBody      int64 // bytes; 0: no limit
	Cost         int   // of one request, in limits that count requests
	// CostHeaders are answer fields that tell what a request cost, in canonical spelling: no more than MaxCosts. They go to x.Costs
	// instead of to the client.
	CostHeaders []string
	// Overloaded says whether the pool gets more than it can answer; nil: nobody knows.
	Overloaded func() bool

	Host        []byte // replaces the Host field; nil: the client's
	StripPrefix int    // bytes of the path's front that Prefix replaces; used when Prefix is set
	Prefix      []byte
	Path        []byte // replaces the whole path
	Request     Edits
	Response    Edits
	Redirect    *Redirect
	Respond     *Answer
}

// DeadlineForms are the forms in which an endpoint is told of a deadline, besides those in which the client told it.
type DeadlineForms struct {
	Own   bool // Evenkeel-Deadline
	Envoy bool // X-Envoy-Expected-Rq-Timeout-Ms
	GRPC  bool // grpc-timeout, for gRPC requests
}

// Hedging is when a request that only reads is sent to a second endpoint too.
type Hedging struct {
	After atomic.Int64 // ns from sending it to the first; 0: not known yet, never
}

// Picker chooses an endpoint and learns what became of it. Pools are pickers.
type Picker interface {
	// Pick returns an endpoint with InFlight counted up, or why there is none.
	Pick(x *Exchange) (*Endpoint, *Refusal)
	// Done counts InFlight down and learns from the result. It is called once for each Pick.
	Done(x *Exchange, e *Endpoint, r Result)
}

// Edits are header changes with names in canonical spelling. Removal comes first, then set, then add.
// Set fields stand in Remove too.
type Edits struct {
	Remove []string
	Add    []wire.Field
}

// Redirect is a redirect made ready. Empty parts are kept as the client sent them.
type Redirect struct {
	Status             int
	Scheme, Host, Path string
}

// Answer is a fixed answer.
type Answer struct {
	Status int
	Fields []wire.Field
	Body   []byte
}

// grpcType begins the media types of gRPC, those of gRPC-Web too.
const grpcType = "application/grpc"

// GRPC reports whether x is a call of gRPC, whose failures are in other fields.
func (x *Exchange) GRPC() bool { return string(x.Request.Method) == "POST" && GRPCType(x.Request) }

// GRPCType reports whether a request says that it is of gRPC.
func GRPCType(r *wire.Request) bool {
	kind := r.Field(wire.ContentType)
	return len(kind) >= len(grpcType) && wire.EqualFold(kind[:len(grpcType)], grpcType)
}

// SafeCall reports whether x is a call of gRPC of which its route says that it only reads.
func (x *Exchange) SafeCall() bool {
	if x.Route == nil || len(x.Route.SafeCalls) == 0 || !x.GRPC() {
		return false
	}
	for _, call := range x.Route.SafeCalls {
		if n := len(call); string(x.Path) == call || call[n-1] == '/' && len(x.Path) > n && string(x.Path[:n]) == call {
			return true
		}
	}
	return false
}
