package proxy

import (
	"io"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// refuseAgain is what Send returns after an answer that x.Judge wanted thrown away. No client sees it: the retry stage tries again.
var refuseAgain = &exchange.Refusal{Stage: "send", Reason: "tried_again", Status: 502, Detail: "The service could not answer."}

// discardMost is how much of an unwanted answer is read to keep its connection. Pages that say "unavailable" are short.
const discardMost = 16 << 10

// doubtful reports whether a status says that the endpoint could not answer.
func doubtful(status int) bool { return status == 429 || status >= 502 && status <= 504 }

// unwanted reports whether the answer is to be thrown away, because x is tried again.
func (a *attempt) unwanted(s *scratch) bool {
	x := a.x
	if !doubtful(s.resp.Status) && (s.resp.Status != 200 || !x.GRPC()) {
		return false
	}
	mind(x, s)
	if x.Judge == nil {
		return false
	}
	if s.kept != nil {
		x.Kept = s.kept.hold()
	}
	return x.Judge.Again(x)
}

// mind takes in what a failed answer says of trying again.
func mind(x *exchange.Exchange, s *scratch) {
	r := &x.Result
	for i := range s.resp.Fields {
		switch f := &s.resp.Fields[i]; f.ID {
		case wire.EvenkeelNoRetry:
			r.NoRetry = r.NoRetry || len(f.Value) > 0 && string(f.Value) != "0" && string(f.Value) != "?0"
		case wire.GRPCStatus: // in the head it means that nothing follows
			if s.resp.Status == 200 && x.GRPC() {
				coded(x, f.Value)
			}
		case wire.GRPCPushback:
			ms, ok := parseH2Length(f.Value)
			if !ok { // negative, or no number: gRPC A6 has both forbid
				r.NoRetry, r.RetryAfter = true, 0
				break
			}
			r.RetryAfter = max(time.Duration(min(ms, int64(retryAfterMax/time.Millisecond)))*time.Millisecond, 1) // 0 asks for no wait, but it does ask
		}
	}
}

// coded takes in the grpc-status of a call. What it says of the endpoint counts as the status of HTTP that says the same, for all who learn from results.
func coded(x *exchange.Exchange, v []byte) {
	n, ok := parseH2Length(v)
	if !ok || n > int64(exchange.CodeMax) {
		return
	}
	r := &x.Result
	r.Code = uint8(n)
	if n == codeDeadline && !x.Deadline.IsZero() && callers(x) {
		return // who asks for too little must not make endpoints look dead
	}
	if meant := exchange.StatusOfCode(r.Code); meant != 0 {
		r.Status = meant
	}
}

// codeDeadline is DEADLINE_EXCEEDED.
const codeDeadline = 4

// ended takes in what trailers say of a call.
func ended(x *exchange.Exchange, trailers []wire.Field) {
	if !x.GRPC() {
		return
	}
	for i := range trailers {
		if trailers[i].ID == wire.GRPCStatus {
			coded(x, trailers[i].Value)
		}
	}
}

// discard ends an attempt whose answer is not wanted. What is there of a short body is read, so that the connection can go on.
func (a *attempt) discard(s *scratch) *exchange.Refusal {
	a.x.Endpoint.Link.(*Link).loadOf(a.x, &s.resp)
	whole := false
	for n := 0; n <= discardMost && a.b.ready(); {
		p, _, err := a.b.body()
		n += len(p)
		if err != nil {
			whole = err == io.EOF
			break
		}
	}
	a.part(whole)
	s.resp.Reset()
	return refuseAgain
}

// firstByte is how long an endpoint may take from the whole request to the answer head.
func (u *Upstream) firstByte(x *exchange.Exchange) time.Duration {
	d := u.cfg().Timeouts.FirstByte
	if x != nil && x.Route != nil && x.Route.AttemptTimeout > 0 {
		d = min(d, x.Route.AttemptTimeout)
	}
	return d
}
