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
// (RFC 9457), or plain text for clients that accept text and not JSON, with the reason word and the request id; or a
// gRPC status for those who asked in gRPC.
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
	var accept []byte
	head := false
	if x.Request != nil {
		if kind := x.Request.Field(wire.ContentType); len(kind) >= len(grpcType) && wire.EqualFold(kind[:len(grpcType)], grpcType) {
			return refuseGRPC(f, x, r, kind)
		}
		accept = x.Request.Field(wire.Accept)
		head = string(x.Request.Method) == "HEAD"
	}
	text := bytes.Contains(accept, []byte("text/")) && !bytes.Contains(accept, []byte("json"))
	s.fields = append(s.fields[:0], wire.Field{Name: nameDate, Value: f.date(), ID: wire.Date})
	if text {
		s.bytes = appendText(s.bytes[:0], x, r)
		s.fields = append(s.fields, wire.Field{Name: nameContentType, Value: typeText})
	} else {
		s.bytes = appendProblem(s.bytes[:0], x, r)
		s.fields = append(s.fields, wire.Field{Name: nameContentType, Value: typeProblem})
	}
	body := s.bytes
	s.fields = append(s.fields, wire.Field{Name: nameCacheControl, Value: noStore})
	if len(x.RequestID) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameRequestID, Value: x.RequestID})
	}
	if r.RetryAfter > 0 {
		start := len(s.bytes)
		s.bytes = strconv.AppendInt(s.bytes, int64((r.RetryAfter+time.Second-1)/time.Second), 10)
		s.fields = append(s.fields, wire.Field{Name: nameRetryAfter, Value: s.bytes[start:]})
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

// grpcType begins the media types of gRPC, those of gRPC-Web too.
const grpcType = "application/grpc"

// refuseGRPC answers a gRPC call with its status in the head and nothing else ("Trailers-Only", gRPC over HTTP/2), so
// that clients see why, and may try again as their retry policy says: a body or a head of its own would commit the call.
func refuseGRPC(f front, x *exchange.Exchange, r *exchange.Refusal, kind []byte) error {
	s := f.scratch()
	s.fields = append(s.fields[:0], wire.Field{Name: nameDate, Value: f.date(), ID: wire.Date},
		wire.Field{Name: nameContentType, Value: kind, ID: wire.ContentType},
		wire.Field{Name: nameGRPCStatus, Value: grpcStatus(r.Status)})
	b := append(append(append(s.bytes[:0], r.Stage...), ": "...), r.Reason...)
	if r.Detail != "" {
		b = append(append(b, ". "...), r.Detail...)
	}
	s.fields = append(s.fields, wire.Field{Name: nameGRPCMessage, Value: b})
	if len(x.RequestID) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameRequestID, Value: x.RequestID})
	}
	if r.RetryAfter > 0 {
		start := len(b)
		b = strconv.AppendInt(b, r.RetryAfter.Milliseconds(), 10)
		s.fields = append(s.fields, wire.Field{Name: nameGRPCPushback, Value: b[start:]})
	}
	s.bytes = b
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

// appendProblem writes the body for programs.
func appendProblem(dst []byte, x *exchange.Exchange, r *exchange.Refusal) []byte {
	dst = append(dst, `{"type":"about:blank","title":"`...)
	dst = append(dst, http.StatusText(r.Status)...)
	dst = append(dst, `","status":`...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, `,"reason":"`...)
	dst = append(dst, r.Reason...)
	if r.Detail != "" {
		dst = append(dst, `","detail":"`...)
		dst = append(dst, r.Detail...)
	}
	if len(x.RequestID) > 0 {
		dst = append(dst, `","request_id":`...)
		dst = strconv.AppendQuoteToASCII(dst, string(x.RequestID))
		return append(dst, "}\n"...)
	}
	return append(dst, "\"}\n"...)
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
	if wireField(fields, wire.Date) == nil { // RFC 9110 §6.6.1
		s := f.scratch()
		s.fields = append(append(s.fields[:0], wire.Field{Name: nameDate, Value: f.date(), ID: wire.Date}), fields...)
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
