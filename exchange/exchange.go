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
// site is built, so that an exchange costs no allocation. A stage that is nil is left out: what a site does not use costs nothing.
func Chain(end Handler, stages ...Stage) Handler {
	n := Then(end)
	for i := len(stages) - 1; i >= 0; i-- {
		if stages[i] != nil {
			n = &Next{stage: stages[i], after: n}
		}
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
	Peer     *Peer          // the client's certificate; nil: none that an authority of the listener vouches for
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
	Customer  []byte     // who pays, nil: unknown (identify)
	User      []byte     // who acts, nil: unknown (identify)
	Region    []byte     // where the client is, nil: unknown (identify)
	Claim     Claim      // what the sender says of the class (identify); the route stage makes Class of it
	Weight    uint16     // the customer's fair share, 0 counts as 1 (identify)
	Host      []byte     // host without port, lower case (identify)
	Path      []byte     // path of the target without query; as sent (identify)
	Route     *Route     // nil until routed
	Class     Class
	Deadline  time.Time // zero: none
	Endpoint  *Endpoint // where this attempt goes (pick)
	Attempt   int       // 1 for the first (retry)
	// Tried are endpoints that failed this exchange before the last, which Endpoint still is when the pool is asked again (retry).
	Tried [MaxTried]*Endpoint
	// Judge may have an answer thrown away before anything of it is passed on; nil: all are passed on (retry).
	Judge Judge
	// Caller is which attempt of its sender the request is; 0: nobody has looked (retry).
	Caller uint8
	// Again says that the last attempt is to be made again, after Pause (retry).
	Again bool
	Pause time.Duration
	// Anew asks for a new connection, because that of the last attempt broke (retry).
	Anew bool
	// NoRetry says in the answer that trying again is of no use (retry, deadline).
	NoRetry   bool
	Beat      uint32 // since when this attempt waits for its answer, by Endpoint.Await; 0: it does not (pick)
	Stray     bool   // the endpoint was taken out of service before its answer head came, by Endpoint.Heard (pool)
	SetCookie []byte // value of a Set-Cookie field for the answer, nil for none (pick: affinity)
	Screened  bool   // a rule let it through unscreened (rules: allow)
	// RetryAfter goes before that of the refusal, when it is known for this very exchange; 0: it is not.
	RetryAfter time.Duration
	// Allowances are what limits have left for the sender, for RateLimit fields of the answer; Allowed of them are set.
	Allowances [MaxAllowances]Allowance
	Allowed    uint8
	// Held is told when the answer head is there, before the first byte goes to the client; nil: nobody wants to know.
	// A long body then holds no place at its endpoint's shedder.
	Held Holder
	// Trial is of who was told by Held of an answer that is thrown away, and wants to be told of the next attempt's too; nil: nobody does (breaker).
	Trial Holder
	// Tap sees the answer of an endpoint before the client does, and may keep it; nil: nobody wants to (cache).
	Tap Tap
	// Degrade names the switches that are on for this exchange, as the endpoint is told: recommendations, search. nil: none (switches).
	Degrade []byte
	// Place is how many exchanges its pool had in flight with this one as it was let in (shed).
	Place  int32
	Rank   int32  // how many its endpoint had in flight with this one as it was picked (pool)
	Era    uint32 // of its pool's gate as it was let in (shed)
	Berth  Berth  // places that bulkheads gave it (bulkhead)
	Trace  Trace  // its part in a trace (trace)
	Cached string // what the cache did, in a word; empty: it was not asked (cache)
	// Begun is when the first attempt began, when a stage before it waited for something; zero: at Start.
	Begun time.Time

	// Filled by the send stage. Result is about the last attempt, Outcome about the exchange.
	// Kept says, after an attempt that failed, that all that was taken of a request body of unknown length is at hand for another (proxy.Keep).
	Kept    bool
	Result  Result
	Outcome Outcome
	Work    time.Duration  // that endpoints took, in all attempts, until an answer head was there or the attempt was given up
	Costs   [MaxCosts]Cost // what the answer said in the fields that Route.CostHeaders names

	IDBuf   [32]byte  // backs RequestID when evenkeel made it
	HostBuf [256]byte // backs Host when it had to be made lower case
	FactBuf []byte    // backs Customer and User when they had to be decoded; made when first needed, kept by Reset
}

// Peer is the client certificate of a connection, verified by the TLS handshake. It is never changed. Empty: the certificate
// has no such name.
type Peer struct {
	Subject []byte // distinguished name after RFC 2253: CN=shop,O=Example
	Name    []byte // its common name
	AltName []byte // first alternative name that is a DNS name, URI, mail or IP address, as text
}

// Claim is what a sender says about the class of its request, already bounded by what it may say.
type Claim struct {
	Class Class
	Set   bool // false: the route decides
	Lower bool // the sender is not trusted: Class holds only where it is lower than the route's
}

// Rank orders classes: 0 is the most important.
func (c Class) Rank() int { return [...]int{1, 0, 2}[c] }

// Classify is the class of a request that says claim on a route of class route.
func (c Claim) Classify(route Class) Class {
	if !c.Set || c.Lower && c.Class.Rank() < route.Rank() {
		return route
	}
	return c.Class
}

// A Holder holds something for an exchange until its answer begins.
type Holder interface {
	// Answered is called at most once, on the goroutine of x, as the answer head is there. long: the body is of unknown length or
	// large, or the connection was upgraded, so that the exchange may last much longer than the endpoint's work.
	Answered(x *Exchange, long bool)
}

// A Tap sees the answer of an endpoint on its way to the client. It is called on the goroutine of the exchange, with slices that
// are valid during the call only.
type Tap interface {
	// Head is told the final answer head as every client would get it: without framing and hop-by-hop fields, and without what is meant for this
	// client alone. length is that of the body, -1 unknown. It says what becomes of the answer, and which fields the client gets besides.
	Head(x *Exchange, status int, fields []wire.Field, length int64) (Taking, []wire.Field)
	// Body is told the next part of the body. false: no more is wanted.
	Body(x *Exchange, p []byte) bool
	// End is told how the answer ended. It is called once after each Head that did not pass. After an end by Cut, Head may be told of another answer.
	End(x *Exchange, how Ending)
}

// Ending is how an answer ended for a tap.
type Ending uint8

// The ways to end.
const (
	Cut     Ending = iota // something is missing, or the tap wanted no more
	Whole                 // all of it came
	Trailed               // all of it came, and trailers that Body has not seen
)

// Taking is what a tap does with an answer.
type Taking uint8

// The ways to take an answer.
const (
	TakeNothing Taking = iota // it passes; Body and End are not called
	TakeCopy                  // the client gets it, and the tap a copy
	TakeAll                   // the client gets nothing of it: the send stage returns nil, and who set the tap answers
)

// Berth is what bulkheads gave an exchange. Only they look inside.
type Berth struct {
	Has  uint8
	Seat [2]uint32
	Prev Holder // who held something for the exchange before; is told by them
}

// MaxTried is how many endpoints an exchange remembers besides the last. Nothing is tried more than three times.
const MaxTried = 2

// A Judge decides about answers that say that the endpoint could not answer.
type Judge interface {
	// Again is called, on the goroutine of x, when the head of a failed answer is there and x.Result tells of it. true: nothing of it is
	// passed on, and the send stage returns.
	Again(x *Exchange) bool
	// Hedge is called, on any goroutine, when the endpoint of a first attempt has no answer in time. x is a copy for a second attempt
	// beside the first; true: its Endpoint is another, which the pool is to be told of by Done.
	Hedge(x *Exchange) bool
}

// Plain is an address as prefixes hold it: IPv4 in its short form, and without a zone, since no prefix holds an address that has one. Link-local
// senders have.
func Plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// MaxCosts is how many different answer fields a site may name for costs.
const MaxCosts = site.MaxCostHeaders

// Cost is a number that an endpoint told, at least 0. The zero value says that it told none.
type Cost float64

// NewCost is a cost of n; what is no number from 0 to 1e12 is none told.
func NewCost(n float64) Cost {
	if !(n >= 0 && n <= 1e12) {
		return 0
	}
	return Cost(n + 1)
}

// Or is the cost that was told, or n.
func (c Cost) Or(n float64) float64 {
	if c == 0 {
		return n
	}
	return float64(c) - 1
}

// MaxAllowances is how many limits one answer tells of. More would be header bytes that nobody reads.
const MaxAllowances = 3

// Allowance is what one limit has left for the sender of an exchange.
type Allowance struct {
	Of       *Policy
	Left     int64         // requests or bytes that could be sent at once
	Reset    time.Duration // until the whole budget is back
	Violated bool          // this limit refused the exchange
}

// Policy is a limit as clients are told of it, made once per site.
type Policy struct {
	Name      string // of the limit
	Field     []byte // ready-made member of RateLimit-Policy: "per-customer";q=100;w=1
	Quoted    []byte // ready-made beginning of a member of RateLimit: "per-customer"
	Endless   bool   // what was used never comes back: no time is told
	Always    bool   // told in all answers; else only when it refused
	Remaining []byte // name of a further answer field with what is left; nil: none
}

// Allow notes what a limit has left. When there is no place any more, a violated limit takes the place of the last.
func (x *Exchange) Allow(a Allowance) {
	switch {
	case int(x.Allowed) < len(x.Allowances):
		x.Allowances[x.Allowed] = a
		x.Allowed++
	case a.Violated:
		x.Allowances[len(x.Allowances)-1] = a
	}
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
	Reached   bool          // something of an attempt may have reached an endpoint (pick)
	Refusal   *Refusal      // set when evenkeel answered with a refusal
}

// Result is what one attempt showed of its endpoint. The pool learns from it.
type Result struct {
	Kind    ResultKind
	Status  int           // of the answer, when there is one; of a call of gRPC that failed, what its code means (StatusOfCode)
	Latency time.Duration // from sending, or what came last of a body that was sent as it came, to the answer head, or to when the client left without one; 0: unknown
	Reason  string        // what failed, in one word of a closed set
	Unsent  bool          // provably nothing reached the endpoint: safe to repeat whatever the method
	Refused bool          // provably the endpoint did nothing for it, but what it was sent of the body may be gone
	// RetryAfter is what a 429 or 503 answer asked for, or a gRPC pushback; 0: nothing. The endpoint gets less until then.
	RetryAfter time.Duration
	// Utilisation is what the endpoint said of its own load in its answer, 1 for full; 0: nothing.
	Utilisation float32
	// Code is the grpc-status of a call, as far as it is known: with the head of an answer that is nothing but a status, else with the trailers. 0: OK, or
	// no call of gRPC.
	Code uint8
	// NoRetry says that the endpoint forbade to try again.
	NoRetry bool
}

// ResultKind sorts results.
type ResultKind uint8

// The kinds of results.
const (
	Answered      ResultKind = iota // an answer came, whatever its status
	ConnectFailed                   // no connection
	Broken                          // the connection broke before the answer head
	TimedOut                        // no answer in time
	Cancelled                       // the client left first: says no more about the endpoint than that it took at least Latency
)

// Reset makes x ready for the next request of the same connection, whose facts stay.
func (x *Exchange) Reset() {
	x.Request, x.RequestID, x.Host, x.Path = nil, nil, nil, nil
	x.IP, x.Trusted, x.Route, x.Class = netip.Addr{}, false, nil, Standard
	x.Customer, x.User, x.Region, x.Claim, x.Weight = nil, nil, nil, Claim{}, 0
	x.Screened, x.RetryAfter, x.Allowed, x.Held, x.Trial = false, 0, 0, nil, nil
	x.Tap, x.Degrade = nil, nil
	x.Place, x.Rank, x.Era, x.Begun, x.Berth = 0, 0, 0, time.Time{}, Berth{}
	x.Trace, x.Cached = Trace{}, ""
	x.Tried, x.Judge, x.Caller, x.Again, x.Anew, x.NoRetry = [MaxTried]*Endpoint{}, nil, 0, false, false, false
	x.Deadline, x.Endpoint, x.Attempt, x.Beat, x.Stray, x.Replayable, x.Kept, x.SetCookie = time.Time{}, nil, 0, 0, false, false, false, nil
	x.Result, x.Outcome, x.Work, x.Costs = Result{}, Outcome{}, 0, [MaxCosts]Cost{}
}
