package proxy

import (
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// waitOf is how long the client of a refused exchange is asked to wait; 0: it is not told.
func waitOf(x *exchange.Exchange, r *exchange.Refusal) time.Duration {
	if x.RetryAfter > 0 {
		return x.RetryAfter
	}
	return r.RetryAfter
}

// wholeSeconds rounds up: a client that comes a moment too early is refused once more.
func wholeSeconds(d time.Duration) int64 {
	return int64((max(d, 0) + time.Second - 1) / time.Second)
}

// number adds a field whose value is n.
func (s *scratch) number(name []byte, n int64) {
	start := len(s.bytes)
	s.bytes = strconv.AppendInt(s.bytes, n, 10)
	s.fields = append(s.fields, wire.Field{Name: name, Value: s.bytes[start:]})
}

// allowances adds RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10: lists of strings with parameters) with what
// limits have left for the sender, and the further fields that some limits want. r is nil for an answer that is no refusal, and then only those
// limits are told that are told always. Fields that the endpoint sent stay: several lines of a list are one list (RFC 9110 §5.3).
func (s *scratch) allowances(x *exchange.Exchange, r *exchange.Refusal) {
	told := x.Allowances[:x.Allowed]
	start, n := len(s.bytes), 0
	for i := range told {
		if p := told[i].Of; r != nil || p.Always {
			if n++; n > 1 {
				s.bytes = append(s.bytes, ", "...)
			}
			s.bytes = append(s.bytes, p.Field...)
		}
	}
	if n == 0 {
		return
	}
	s.fields = append(s.fields, wire.Field{Name: nameRatePolicy, Value: s.bytes[start:]})
	start, n = len(s.bytes), 0
	for i := range told {
		a := &told[i]
		if r == nil && !a.Of.Always {
			continue
		}
		if n++; n > 1 {
			s.bytes = append(s.bytes, ", "...)
		}
		reset := wholeSeconds(a.Reset)
		if r != nil && a.Violated && waitOf(x, r) > 0 { // Retry-After must not name an earlier time than t does, and who refused knows best
			reset = min(reset, wholeSeconds(waitOf(x, r)))
		}
		s.bytes = append(append(s.bytes, a.Of.Quoted...), ";r="...)
		s.bytes = strconv.AppendInt(s.bytes, max(a.Left, 0), 10)
		s.bytes = strconv.AppendInt(append(s.bytes, ";t="...), reset, 10)
	}
	s.fields = append(s.fields, wire.Field{Name: nameRateLimit, Value: s.bytes[start:]})
	for i := range told {
		if a := &told[i]; a.Of.Remaining != nil && (r != nil || a.Of.Always) {
			s.number(a.Of.Remaining, max(a.Left, 0))
		}
	}
}
