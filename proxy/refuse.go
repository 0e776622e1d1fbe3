package proxy

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

var (
	typeProblem = []byte("application/problem+json")
	typeText    = []byte("text/plain; charset=utf-8")
	noStore     = []byte("no-store")
)

// refuse writes r as the answer of x. It is the one place where refusals become answers: a problem+json body
// (RFC 9457), or plain text for clients that accept text and not JSON, with the reason word and the request id; the body that the
// refusal brings; or a gRPC status for those who asked in gRPC.
func refuse(f front, x *exchange.Exchange, r *exchange.Refusal) error {
	x.Outcome.Refusal = r
	if x.Outcome.Started {
		f.abort()
		return nil
	}
	if c, ok := f.(*h1Work); ok && r.Close {
		c.closing = true
	}
	s := f.scratch()
	text, head := false, false
	if x.Request != nil {
		if exchange.GRPCType(x.Request) {
			return refuseGRPC(f, x, r, x.Request.Field(wire.ContentType))
		}
		accept := x.Request.Field(wire.Accept)
		text = bytes.Contains(accept, []byte("text/")) && !bytes.Contains(accept, []byte("json"))
		head = string(x.Request.Method) == "HEAD"
	}
	s.fields = append(s.fields[:0], wire.Field{Name: nameDate, Value: f.date(), ID: wire.Date})
	var body, kind []byte
	switch {
	case r.Body != nil:
		s.bytes, body, kind = s.bytes[:0], r.Body, r.ContentType
		if kind == nil {
			kind = typeText
		}
	case text:
		s.bytes = appendText(s.bytes[:0], x, r)
		body, kind = s.bytes, typeText
	default:
		s.bytes = AppendProblem(s.bytes[:0], x, r)
		body, kind = s.bytes, typeProblem
	}
	s.fields = append(s.fields, wire.Field{Name: nameContentType, Value: kind, ID: wire.ContentType},
		wire.Field{Name: nameCacheControl, Value: noStore})
	if len(x.RequestID) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameRequestID, Value: x.RequestID})
	}
	if wait := waitOf(x, r); wait > 0 {
		name := r.RetryName
		if name == nil {
			name = nameRetryAfter
		}
		s.number(name, wholeSeconds(wait))
	}
	if x.Allowed > 0 {
		s.allowances(x, r)
	}
	if x.NoRetry {
		s.fields = append(s.fields, wire.Field{Name: nameNoRetry, Value: valueOne, ID: wire.EvenkeelNoRetry})
	}
	if r.Challenge != nil {
		s.fields = append(s.fields, wire.Field{Name: nameAuthenticate, Value: r.Challenge})
	}
	if err := f.begin(x, r.Status, s.fields, int64(len(body))); err != nil {
		return err
	}
	if !head {
		if err := f.write(body, true); err != nil {
			return err
		}
		x.Outcome.BytesOut = int64(len(body))
	}
	return f.end(nil)
}

// refuseGRPC answers a gRPC call with its status in the head and nothing else ("Trailers-Only", gRPC over HTTP/2), so
// that clients see why, and may try again as their retry policy says: a body or a head of its own would commit the call.
func refuseGRPC(f front, x *exchange.Exchange, r *exchange.Refusal, kind []byte) error {
	s := f.scratch()
	s.fields = append(s.fields[:0], wire.Field{Name: nameDate, Value: f.date(), ID: wire.Date},
		wire.Field{Name: nameContentType, Value: kind, ID: wire.ContentType},
		wire.Field{Name: nameGRPCStatus, Value: grpcCode(r)})
	b := append(append(append(s.bytes[:0], r.Stage...), ": "...), r.Reason...)
	if r.Detail != "" {
		b = appendPercent(append(b, ". "...), r.Detail)
	}
	s.fields = append(s.fields, wire.Field{Name: nameGRPCMessage, Value: b})
	s.bytes = b
	if len(x.RequestID) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameRequestID, Value: x.RequestID})
	}
	if x.NoRetry {
		s.fields = append(s.fields, wire.Field{Name: nameGRPCPushback, Value: valueMinusOne, ID: wire.GRPCPushback},
			wire.Field{Name: nameNoRetry, Value: valueOne, ID: wire.EvenkeelNoRetry})
	} else if wait := waitOf(x, r); wait > 0 {
		s.number(nameGRPCPushback, int64((wait+time.Millisecond-1)/time.Millisecond))
	}
	if x.Allowed > 0 {
		s.allowances(x, r)
	}
	if err := f.begin(x, http.StatusOK, s.fields, 0); err != nil {
		return err
	}
	return f.end(nil)
}

// The codes of gRPC that refusals become.
var (
	grpcUnknown          = []byte("2")
	grpcDeadlineExceeded = []byte("4")
	grpcPermissionDenied = []byte("7")
	grpcExhausted        = []byte("8")
	grpcUnimplemented    = []byte("12")
	grpcInternal         = []byte("13")
	grpcUnavailable      = []byte("14")
	grpcUnauthenticated  = []byte("16")
)

// grpcCode is the code for r. What the caller used up is exhausted, whatever status of HTTP its limit answers with: the 403 of quotas would be
// PERMISSION_DENIED, which must not be said of that (google.golang.org/grpc/codes) and which no client waits out.
func grpcCode(r *exchange.Refusal) []byte {
	if r.Problem == exchange.ProblemQuota && r.Status < 500 {
		return grpcExhausted
	}
	return grpcStatus(r.Status)
}

// grpcStatus is the code for an HTTP status as gRPC maps them ("HTTP to gRPC Status Code Mapping"), save that a
// refusal by a limit or a deadline of ours is called what it is.
func grpcStatus(status int) []byte {
	switch status {
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcPermissionDenied
	case 404, 405, 501:
		return grpcUnimplemented
	case 413, 429, 431:
		return grpcExhausted
	case 408, 504:
		return grpcDeadlineExceeded
	case 502, 503:
		return grpcUnavailable
	}
	return grpcUnknown
}

// appendPercent appends a grpc-message: what is not printable ASCII, and the percent sign, is encoded (gRPC over HTTP/2, "Status-Message").
func appendPercent(dst []byte, text string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// problemTitle is the title of a problem type, which does not change from one refusal to the next (RFC 9457 §3.1.3).
func problemTitle(r *exchange.Refusal) string {
	switch r.Problem {
	case exchange.ProblemQuota:
		return "Request cannot be satisfied as assigned quota has been exceeded"
	case exchange.ProblemReduced:
		return "Request cannot be satisfied due to temporary server capacity constraints"
	case exchange.ProblemAbnormal:
		return "Request not satisfied due to detection of abnormal request pattern"
	}
	return http.StatusText(r.Status)
}

// AppendProblem appends the body of a refusal for programs (RFC 9457).
func AppendProblem(dst []byte, x *exchange.Exchange, r *exchange.Refusal) []byte {
	dst = append(dst, `{"type":"`...)
	if r.Problem == "" {
		dst = append(dst, "about:blank"...)
	}
	dst = append(dst, r.Problem...)
	dst = append(append(dst, `","title":"`...), problemTitle(r)...)
	dst = strconv.AppendInt(append(dst, `","status":`...), int64(r.Status), 10)
	dst = append(append(dst, `,"reason":"`...), r.Reason...)
	dst = append(dst, '"')
	if r.Detail != "" {
		dst = appendJSON(append(dst, `,"detail":`...), r.Detail)
	}
	if r.Limit != "" {
		dst = appendJSON(append(dst, `,"limit":`...), r.Limit)
	}
	if x.Allowed > 0 || r.Problem == exchange.ProblemQuota && r.Limit != "" {
		dst = appendViolated(dst, x, r)
	}
	if len(x.RequestID) > 0 {
		dst = appendJSON(append(dst, `,"request_id":`...), x.RequestID)
	}
	return append(dst, "}\n"...)
}

// appendViolated names the limits that refused (draft-ietf-httpapi-ratelimit-headers, "violated-policies"). The member is left out
// when it would be empty.
func appendViolated(dst []byte, x *exchange.Exchange, r *exchange.Refusal) []byte {
	const member = `,"violated-policies":[`
	n := 0
	for i := range x.Allowances[:x.Allowed] {
		a := &x.Allowances[i]
		if !a.Violated {
			continue
		}
		if n++; n == 1 {
			dst = append(dst, member...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, a.Of.Name)
	}
	if n == 0 {
		if r.Problem != exchange.ProblemQuota || r.Limit == "" {
			return dst
		}
		dst = appendJSON(append(dst, member...), r.Limit)
	}
	return append(dst, ']')
}

// appendJSON appends text, which is UTF-8, as a JSON string.
func appendJSON[T string | []byte](dst []byte, text T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// appendText writes the body for people.
func appendText(dst []byte, x *exchange.Exchange, r *exchange.Refusal) []byte {
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(append(append(dst, ' '), http.StatusText(r.Status)...), '\n')
	if r.Detail != "" {
		dst = append(append(dst, r.Detail...), '\n')
	}
	dst = append(append(append(dst, "Reason: "...), r.Reason...), '\n')
	if len(x.RequestID) > 0 {
		dst = append(append(append(dst, "Request: "...), x.RequestID...), '\n')
	}
	return dst
}

// Answer answers x from a stage, without an endpoint. It returns nil, as a handler does after an answer.
func Answer(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal {
	f := x.Front.(front)
	length := int64(len(body))
	if status == 204 || status == 304 {
		length = noBody
	}
	if dated := wireField(fields, wire.Date) != nil; !dated || x.Allowed > 0 { // RFC 9110 §6.6.1
		s := f.scratch()
		s.fields, s.bytes = s.fields[:0], s.bytes[:0]
		if !dated {
			s.fields = append(s.fields, wire.Field{Name: nameDate, Value: f.date(), ID: wire.Date})
		}
		s.fields = append(s.fields, fields...)
		if x.Allowed > 0 {
			s.allowances(x, nil)
		}
		fields = s.fields
	}
	if f.begin(x, status, fields, length) != nil {
		x.Outcome.Aborted = true
		return nil
	}
	if string(x.Request.Method) != "HEAD" && length > 0 {
		if f.write(body, true) != nil {
			x.Outcome.Aborted = true
			return nil
		}
		x.Outcome.BytesOut = length
	}
	if f.end(nil) != nil {
		x.Outcome.Aborted = true
	}
	return nil
}
