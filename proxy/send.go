package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// What the send stage says when an endpoint does not answer.
var (
	refuseConnect     = &exchange.Refusal{Stage: "send", Reason: "connect_failed", Status: 502, Detail: "The service could not be reached."}
	refuseConnectTime = &exchange.Refusal{Stage: "send", Reason: "connect_timeout", Status: 504, Detail: "The service could not be reached in time."}
	refuseConnections = &exchange.Refusal{Stage: "send", Reason: "endpoint_connections", Status: 503, Detail: "The service takes no more connections.", RetryAfter: time.Second}
	refuseOwnLimit    = &exchange.Refusal{Stage: "send", Reason: "own_limit", Status: 503, Detail: "The gateway has no connections left to give.", RetryAfter: time.Second}
	refuseBroken      = &exchange.Refusal{Stage: "send", Reason: "endpoint_broken", Status: 502, Detail: "The service ended the connection without an answer."}
	refuseBadAnswer   = &exchange.Refusal{Stage: "send", Reason: "endpoint_bad_answer", Status: 502, Detail: "The service gave an answer that is not valid HTTP."}
	refuseTimeout     = &exchange.Refusal{Stage: "send", Reason: "endpoint_timeout", Status: 504, Detail: "The service did not answer in time."}
	refuseDeadline    = &exchange.Refusal{Stage: "send", Reason: "deadline", Status: 504, Detail: "The deadline of the request passed."}
	refuseBodySlow    = &exchange.Refusal{Stage: "send", Reason: "body_too_slow", Status: 408, Detail: "The request body came too slowly.", Close: true}
	refuseBodyLarge   = &exchange.Refusal{Stage: "send", Reason: "body_too_large", Status: 413, Detail: "The request body is larger than allowed.", Close: true}
	refuseBodyBad     = &exchange.Refusal{Stage: "send", Reason: "bad_body", Status: 400, Detail: "The request body is not well formed.", Close: true}
)

// Send is the last handler of every list of stages: it carries x to x.Endpoint and the answer back.
// x.Result says what the attempt showed of the endpoint.
func Send(x *exchange.Exchange) *exchange.Refusal {
	switch x.Protocol {
	case exchange.TCP:
		return relayTCP(x)
	case exchange.UDP:
		return openUDP(x)
	}
	f := x.Front.(front)
	l := x.Endpoint.Link.(*Link)
	if limit := maxBody(x); limit > 0 && x.Request.ContentLength > limit {
		x.Result = exchange.Result{Kind: exchange.Cancelled}
		return refuseBodyLarge
	}
	for fresh := x.Attempt > 1 && x.Anew; ; fresh = true {
		b, used, err := l.reach(x, fresh)
		if err != nil {
			return connectFailed(x, err)
		}
		a := attempt{x: x, f: f, b: b, start: x.Start}
		if !x.Begun.IsZero() {
			a.start = x.Begun
		}
		if fresh || x.Attempt > 1 { // the first begins with the exchange: reading the clock is a fiftieth of a request's cost
			a.start = time.Now()
		}
		r := a.run()
		// A connection that was unused may have been closed by the endpoint just as the request went out, and one of HTTP/2 may end with many requests
		// on it: one more try on a new one costs no endpoint anything, as this one provably saw nothing of it. Whatever it may have seen is the business
		// of the retry stage, which has a budget.
		if r != nil && (used || a.away) && !fresh && x.Result.Kind == exchange.Broken && x.Replayable && x.Result.Unsent {
			continue
		}
		return r
	}
}

// maxInformational is how many 1xx answers an endpoint may send before the last one: a sign of life every half minute for
// an hour, while an endpoint that sends nothing else cannot keep a request, and what it costs, for ever.
const maxInformational = 120

// maxBody is the limit for the request body of x; 0: none.
func maxBody(x *exchange.Exchange) int64 {
	if x.Route != nil && x.Route.MaxBody > 0 {
		return x.Route.MaxBody
	}
	return int64(x.Listener.Limits.BodyBytes)
}

func connectFailed(x *exchange.Exchange, err error) *exchange.Refusal {
	reason := connectReason(err)
	x.Result = exchange.Result{Kind: exchange.ConnectFailed, Reason: reason, Unsent: true}
	switch reason {
	case "connections":
		x.Result.Kind = exchange.Cancelled // says nothing about the endpoint's health
		return refuseConnections
	case "own_limit":
		x.Result.Kind = exchange.Cancelled
		return refuseOwnLimit
	case "timeout":
		if !x.Deadline.IsZero() && !time.Now().Before(x.Deadline) { // the endpoint may not have had its time
			x.Result.Kind = exchange.Cancelled
			return refuseDeadline
		}
		return refuseConnectTime
	}
	return refuseConnect
}

// attempt is one try at an endpoint.
type attempt struct {
	x     *exchange.Exchange
	f     front
	b     back
	start time.Time
	pump  *pump        // nil: the body went out with the head
	tap   exchange.Tap // gets a copy of the body; nil: nobody wants it
	never bool         // an attempt beside this one was told not to try again
	away  bool         // the endpoint ended the connection as it should, and had not begun with this
}

func (a *attempt) run() *exchange.Refusal {
	x, s := a.x, a.f.scratch()
	s.requestFields(x)
	body, whole, err := a.atHand(s.kept)
	if err != nil { // nothing was sent
		a.b.release(false)
		x.Result = exchange.Result{Kind: exchange.Cancelled}
		return a.badBody(err)
	}
	a.f.watchCancel(a.b)
	if unsent, err := a.b.send(x, s, body, whole); err != nil {
		return a.fail(unsent, err)
	}
	x.Outcome.BytesIn = int64(len(body))
	a.carry(s.kept, whole)
	race := a.hedge(body, whole)
	for n := 0; ; n++ {
		unsent, err := a.b.head(x, &s.resp)
		if race != nil {
			unsent, err = race.end(a, s, unsent, err)
			race = nil
		}
		if err != nil {
			return a.fail(unsent, err)
		}
		x.Endpoint.Heard(x)
		if s.resp.Status == 101 && x.Request.Upgrade != nil {
			return a.upgrade(s)
		}
		if s.resp.Status >= 200 {
			break
		}
		if s.resp.Status == 101 || n == maxInformational { // nobody asked for it, or for so many
			return a.fail(false, wire.ErrBadStatusLine)
		}
		if err := a.f.inform(&s.resp); err != nil {
			return a.clientLeft()
		}
	}
	now := time.Now()
	x.Outcome.FirstByte = now.Sub(x.Start)
	x.Work += now.Sub(a.start)
	x.Result = exchange.Result{Kind: exchange.Answered, Status: s.resp.Status, Latency: a.took(now)}
	if s.resp.Status == 429 || s.resp.Status == 503 {
		x.Result.RetryAfter = retryAfter(s.resp.Field(wire.RetryAfter), now)
	}
	x.Result.NoRetry = a.never
	length := a.b.length()
	if a.unwanted(s) {
		return a.discard(s)
	}
	if s.kept != nil {
		s.kept.drop()
	}
	if x.Held != nil {
		x.Held.Answered(x, length == -1 || length > longBody)
	}
	s.responseFields(x, &s.resp, length == noBody)
	x.Endpoint.Link.(*Link).loadOf(x, &s.resp)
	if x.Tap != nil && a.tapped(s, length) {
		return a.takeAll()
	}
	return a.pass(s, length)
}

// pass gives the client the answer, whose fields are prepared in s.
func (a *attempt) pass(s *scratch, length int64) *exchange.Refusal {
	x := a.x
	a.f.endBy(x.Deadline)
	if err := a.f.begin(x, s.resp.Status, s.fields, length); err != nil {
		return a.clientLeft()
	}
	if length == -1 && !a.b.ready() { // a stream of events may say nothing for long, and its client waits for the head
		if err := a.f.flush(); err != nil {
			return a.clientLeft()
		}
	}
	return a.answer(length)
}

// longBody is the length from which an answer may take much longer than the endpoint's work on it: it passes what sockets buffer.
const longBody = 64 << 10

// retryAfterMax bounds what an endpoint may ask for. Who asks for more means "not today".
const retryAfterMax = 24 * time.Hour

// retryAfter is what a Retry-After asks for, in seconds or as a date (RFC 9110 §10.2.3); 0 when it is absent, malformed or past.
func retryAfter(v []byte, now time.Time) time.Duration {
	if len(v) == 0 || len(v) > 64 {
		return 0
	}
	seconds := int64(0)
	for _, c := range v {
		if c < '0' || c > '9' {
			at, err := http.ParseTime(string(v))
			if err != nil {
				return 0
			}
			return min(max(at.Sub(now), 0), retryAfterMax)
		}
		seconds = min(seconds*10+int64(c-'0'), int64(retryAfterMax/time.Second))
	}
	return time.Duration(seconds) * time.Second
}

// answer carries the body of the answer.
func (a *attempt) answer(length int64) *exchange.Refusal {
	out, dated := &a.x.Outcome, !a.x.Deadline.IsZero()
	awaited := true // it is the endpoint that is waited for, since before the deadline
	for {
		p, more, err := a.next(length)
		if dated && err == nil && len(p) > 0 && out.BytesOut > 0 && a.late() { // a body that always moves waits for nothing that would notice
			p, err = nil, os.ErrDeadlineExceeded
		}
		if len(p) > 0 {
			if err := a.f.write(p, more); err != nil {
				return a.clientLeft()
			}
			out.BytesOut += int64(len(p))
			awaited = !dated || !more && !a.late()
		}
		if err == io.EOF {
			break
		}
		if err != nil && (errors.Is(err, errClientGone) || a.pump != nil && a.pump.clientErr() != nil) {
			return a.clientLeft() // or its body was bad: the endpoint is not to blame
		}
		if err != nil && a.retract() {
			return a.fail(false, err)
		}
		if err != nil {
			cutOff(a.f, err)
			a.finish(false)
			out.Truncated = true
			if awaited && !callers(a.x) || !a.givenUp(err) && !(errors.Is(err, os.ErrDeadlineExceeded) && a.late()) {
				a.x.Result.Reason = "truncated" // else the client's own deadline, or its pace, cut the answer off
			}
			return nil
		}
	}
	trailers := a.b.trailers()
	if len(trailers) > 0 {
		ended(a.x, trailers)
	}
	a.untap(a.complete())
	if err := a.f.end(reportsIn(a.x, trailers)); err != nil {
		return a.clientLeft()
	}
	a.finish(true)
	return nil
}

// retract takes an answer back of which the client got nothing: it is told why then, where it saw its connection reset without one byte. For a tap that
// answer was cut off, and another may follow.
func (a *attempt) retract() bool {
	out := &a.x.Outcome
	if out.BytesOut > 0 || !a.f.retract() {
		return false
	}
	a.untap(exchange.Cut)
	out.Started, out.Status, out.FirstByte = false, 0, 0
	a.start = time.Now() // what it worked until its head was counted then
	return true
}

// late reports whether the deadline has passed.
func (a *attempt) late() bool { return !a.x.Deadline.IsZero() && !time.Now().Before(a.x.Deadline) }

// finish ends the attempt: the pump has ended when it returns, and the connection went back or was closed.
func (a *attempt) finish(reuse bool) {
	a.untap(exchange.Cut)
	if a.pump != nil {
		if !a.pump.ended() && !(a.f.bodyRead() && a.pump.soon()) {
			a.f.stopBody()
			a.b.cancel()
			if k := a.f.scratch().kept; k != nil {
				k.stop()
			}
			reuse = false
		}
		n, err := a.pump.wait()
		a.x.Outcome.BytesIn += n
		reuse = reuse && err == nil
	}
	a.f.watchCancel(nil)
	a.b.release(reuse)
}

// clientLeft ends an attempt whose client cannot be written to any more.
func (a *attempt) clientLeft() *exchange.Refusal {
	a.finish(false)
	if a.x.Result.Kind != exchange.Answered || a.x.Result.Status == 0 {
		a.x.Result = exchange.Result{Kind: exchange.Cancelled}
	}
	a.x.Outcome.Aborted = true
	a.f.abort()
	return nil
}

// fail ends an attempt that brought no answer, and says why.
func (a *attempt) fail(unsent bool, err error) *exchange.Refusal {
	var bodyErr error
	asked := false // it was the client that was waited for
	if a.pump != nil {
		bodyErr, asked = a.pump.clientErr(), a.pump.asks.Load()
	}
	a.part(false)
	x := a.x
	if !unsent {
		x.Work += time.Since(a.start)
	}
	a.f.scratch().resp.Reset()
	// What the pump took of the body is gone, unless it is kept, and then for this pool alone: nobody else can send it again.
	x.Result = exchange.Result{Kind: exchange.Broken, Reason: "broken", Unsent: unsent && a.pump == nil, Refused: unsent, NoRetry: a.never}
	a.away = errors.Is(err, errH2Away)
	var bad *wire.Error
	switch {
	case bodyErr != nil:
		x.Result = exchange.Result{Kind: exchange.Cancelled}
		return a.badBody(bodyErr)
	case errors.Is(err, errClientGone):
		x.Result = exchange.Result{Kind: exchange.Cancelled, Latency: a.waited()}
		x.Outcome.Aborted = true
		a.f.abort()
		return nil
	case a.givenUp(err):
		// The client's deadline passed at the endpoint first. A 502 would call that a broken service, to the client and to the pool.
		x.Result = exchange.Result{Kind: exchange.Cancelled, Latency: a.waited()}
		x.Outcome.Aborted = true
		cutOff(a.f, err)
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.Result.Kind, x.Result.Reason = exchange.TimedOut, "timeout"
		if a.late() {
			// Who asks for too little, or sends too slowly, must not make endpoints look dead: a few slow uploads at once had all of a pool ejected.
			if asked || callers(x) {
				x.Result = exchange.Result{Kind: exchange.Cancelled, Latency: a.waited()}
			}
			return refuseDeadline
		}
		return refuseTimeout
	case errors.As(err, &bad):
		x.Result.Reason = bad.Reason
		return refuseBadAnswer
	}
	return refuseBroken
}

// took is how long the endpoint has taken by now for what it had of the request: a client that sends slowly must not make it look slow.
func (a *attempt) took(now time.Time) time.Duration {
	d := now.Sub(a.start)
	if a.pump != nil {
		d = max(min(d, now.Sub(a.pump.born)-time.Duration(a.pump.came.Load())), 0)
	}
	return d
}

// waited is how long the endpoint has kept the client waiting; 0 when the client's own body may have been what was waited for.
func (a *attempt) waited() time.Duration {
	if a.pump != nil {
		return 0
	}
	return time.Since(a.start)
}

// givenUp reports whether err is how an endpoint says that the deadline of a call passed there first: by CANCEL, just before it passes here, as it was told less. A CANCEL
// before that is a failure as any reset: an endpoint that answered all calls by it was never noticed.
func (a *attempt) givenUp(err error) bool {
	x := a.x
	return errors.Is(err, errH2Cancelled) && x.Request.Field(wire.GRPCTimeout) != nil && !x.Deadline.IsZero() && time.Until(x.Deadline) < watchTick
}

// badBody is the answer when the client's body was the reason.
func (a *attempt) badBody(err error) *exchange.Refusal {
	var bad *wire.Error
	switch {
	case errors.Is(err, errBodySlow):
		return refuseBodySlow
	case errors.Is(err, errBodyLarge):
		return refuseBodyLarge
	case errors.As(err, &bad):
		return refuseBodyBad
	}
	a.x.Outcome.Aborted = true
	a.f.abort()
	return nil
}

// errClientGone is what a back end's calls return after its client left.
var errClientGone = errors.New("the client left")

// pump carries a request body on a goroutine of its own, so that the answer may begin, or be over, while it still comes.
type pump struct {
	done chan struct{}
	in   *Proxy
	asks atomic.Bool // it waits for the client now
	born time.Time
	came atomic.Int64 // when the client's last bytes were there, in ns after born
	mu   sync.Mutex
	n    int64
	from error // the client's side failed
	to   error // the endpoint's side failed
}

// taker takes a request body in parts: an endpoint, or what keeps it on its way to one.
type taker interface {
	sendBody(p []byte) error
	endBody(trailers []wire.Field) error
	cancel()
}

func startPump(f front, b taker, limit int64, in *Proxy) *pump {
	p := &pump{done: make(chan struct{}), in: in, born: time.Now()}
	go p.run(f, b, limit)
	return p
}

func (p *pump) run(f front, b taker, limit int64) {
	defer close(p.done)
	defer p.recovered(b)
	var n int64
	for {
		p.asks.Store(true)
		data, err := f.readBody()
		p.asks.Store(false)
		p.came.Store(int64(time.Since(p.born)))
		if err == io.EOF {
			p.set(n, nil, b.endBody(f.requestTrailers()))
			return
		}
		n += int64(len(data))
		if err == nil && limit > 0 && n > limit {
			err = errBodyLarge
		}
		if err != nil {
			p.set(n, err, nil)
			b.cancel()
			return
		}
		if err := b.sendBody(data); err != nil {
			// The endpoint takes no more, perhaps because it has answered already: its answer decides.
			p.set(n, nil, err)
			return
		}
	}
}

// errPump says that a request ended by a fault of evenkeel.
var errPump = errors.New("the request body was lost by a fault of the gateway")

// recovered makes a panic cost one request, not the process.
func (p *pump) recovered(b taker) {
	if v := recover(); v != nil {
		p.in.panicked("a request body panicked", v)
		p.set(0, errPump, nil)
		b.cancel()
	}
}

func (p *pump) set(n int64, from, to error) {
	p.mu.Lock()
	p.n, p.from, p.to = n, from, to
	p.mu.Unlock()
}

// ended reports whether the pump is done.
func (p *pump) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// pumpGrace is how long a pump that has read its whole body may take to end by itself. It mostly needs to be scheduled only:
// the endpoint answers the last bytes before the pump has seen that they were the last. Without it, both connections were closed then.
const pumpGrace = 10 * time.Millisecond

// soon reports whether the pump ends within a grace.
func (p *pump) soon() bool {
	grace := time.NewTimer(pumpGrace)
	defer grace.Stop()
	select {
	case <-p.done:
		return true
	case <-grace.C:
		return false
	}
}

// clientErr is the failure of the client's side so far.
func (p *pump) clientErr() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from
}

// wait waits for the end and returns the bytes carried and why it ended early.
func (p *pump) wait() (int64, error) {
	<-p.done
	return p.n, errors.Join(p.from, p.to)
}
