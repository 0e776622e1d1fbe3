// Package exchange is one request on its way: its facts, class, deadline, endpoint, outcome and refusal, and what a stage is.
package exchange

import (
	"net/netip"
	"time"

	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// A Handler carries an exchange further. It returns nil when an answer was started, which
// x.Outcome then describes, and otherwise the refusal that the engine writes to the client.
// Handlers are called on the goroutine of the exchange and may block; they must not keep x.
type Handler func(x *Exchange) *Refusal

// A Stage is one step on the way of an exchange. It sees x on its way in, carries it on by next.Do any number
// of times (none: it answers or refuses itself; several: it tries again), and sees the outcome
// on its way out. Stages are shared by all exchanges at once.
type Stage interface {
	Serve(x *Exchange, next *Next) *Refusal
}

// Next is what comes after a stage. Do is inlined: a function per step would put a frame of its own between every two
// stages, and stacks are most of what a waiting connection costs.
type Next struct {
	stage Stage
	after *Next
}

// Do carries x on.
func (n *Next) Do(x *Exchange) *Refusal { return n.stage.Serve(x, n.after) }

// Then is what comes after a stage when that is h alone.
func Then(h Handler) *Next { return &Next{stage: last(h)} }

// last is the end of the way.
type last Handler

// Serve implements Stage.
func (h last) Serve(x *Exchange, _ *Next) *Refusal { return h(x) }

// Chain makes one handler of stages, in order, with end at the end. It is called when the
// site is built, so that an exchange costs no allocation.
func Chain(end Handler, stages ...Stage) Handler {
	n := Then(end)
	for i := len(stages) - 1; i >= 0; i-- {
		n = &Next{stage: stages[i], after: n}
	}
	return n.Do
}

// Protocol is what the client speaks.
type Protocol uint8

// The protocols of exchanges.
const (
	HTTP1 Protocol = iota
	HTTP2
	TCP
	UDP
)

// String is the protocol in logs and metrics.
func (p Protocol) String() string { return [...]string{"http/1", "http/2", "tcp", "udp"}[p] }

// Class is how much a request matters. The zero value is the standard class.
type Class uint8

// The classes. Refusing starts with the last.
const (
	Standard Class = iota
	Critical
	Low
)

// String is the class as the site file writes it.
func (c Class) String() string {
	return [...]string{site.ClassStandard, site.ClassCritical, site.ClassLow}[c]
}

// Exchange is one request and its answer, or one tcp connection, or one udp session. An engine fills the first
// part, stages the second, the send stage the third. Byte slices point into the engine's buffer
// and are valid until the exchange ends. An Exchange is reused; Reset clears it.
type Exchange struct {
	// Filled by the engine.
	Listener *site.Listener
	Protocol Protocol
	Client   netip.AddrPort // who connected, after a PROXY header
	Local    netip.AddrPort // where it connected to
	Secure   bool           // TLS ended here
	SNI      string         // server name of the TLS handshake, for tcp too
	Request  *wire.Request  // nil for tcp and udp
	Start    time.Time      // when the first byte of the request was there
	Shard    uint32         // spreads counters over cores: any value, steady for one connection
	Front    any            // the engine's side of the exchange; only package proxy looks inside
	// Replayable says that the request body is absent or wholly in memory, so that a second attempt can send it again.
	Replayable bool

	// Filled by stages.
	IP        netip.Addr // the client's address after trusted proxies (identify)
	RequestID []byte     // passed on and shown in errors (identify)
	Trusted   bool       // the sender is a trusted proxy (identify)
	Host      []byte     // host without port, lower case (identify)
	Path      []byte     // path of the target without query; as sent (identify)
	Route     *Route     // nil until routed
	Class     Class
	Deadline  time.Time // zero: none
	Endpoint  *Endpoint // where this attempt goes (pick)
	Attempt   int       // 1 for the first (retry)
	SetCookie []byte    // value of a Set-Cookie field for the answer, nil for none (pick: affinity)

	// Filled by the send stage. Result is about the last attempt, Outcome about the exchange.
	Result  Result
	Outcome Outcome

	IDBuf   [32]byte  // backs RequestID when evenkeel made it
	HostBuf [256]byte // backs Host when it had to be made lower case
}

// Outcome is what became of an exchange.
type Outcome struct {
	Status    int           // status sent to the client; 0: none (tcp, or the client left first)
	Started   bool          // a byte of the answer went to the client: no retry any more
	BytesIn   int64         // body bytes from the client
	BytesOut  int64         // body bytes to the client
	FirstByte time.Duration // from Start to the endpoint's answer head
	Aborted   bool          // the client left, or was cut off, before the end
	Truncated bool          // the endpoint ended its answer too early
	Refusal   *Refusal      // set when evenkeel answered with a refusal
}

// Result is what one attempt showed of its endpoint. The pool learns from it.
type Result struct {
	Kind    ResultKind
	Status  int           // of the answer, when there is one
	Latency time.Duration // from sending to the answer head; 0: unknown
	Reason  string        // what failed, in one word of a closed set
	Unsent  bool          // provably nothing reached the endpoint: safe to repeat whatever the method
	// RetryAfter is what a 429 or 503 answer asked for; 0: nothing. The endpoint gets less until then.
	RetryAfter time.Duration
}

// ResultKind sorts results.
type ResultKind uint8

// The kinds of results.
const (
	Answered      ResultKind = iota // an answer came, whatever its status
	ConnectFailed                   // no connection
	Broken                          // the connection broke before the answer head
	TimedOut                        // no answer in time
	Cancelled                       // the client left first: says nothing about the endpoint
)

// Reset makes x ready for the next request of the same connection, whose facts stay.
func (x *Exchange) Reset() {
	x.Request, x.RequestID, x.Host, x.Path = nil, nil, nil, nil
	x.IP, x.Trusted, x.Route, x.Class = netip.Addr{}, false, nil, Standard
	x.Deadline, x.Endpoint, x.Attempt, x.Replayable, x.SetCookie = time.Time{}, nil, 0, false, nil
	x.Result, x.Outcome = Result{}, Outcome{}
}
