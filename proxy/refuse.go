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
// (RFC 9457), or plain text for clients that accept text and not JSON, with the reason word and the request id.
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
		accept = x.Request.Field(wire.Accept)
		head = string(x.Request.Method) == "HEAD"
	}
	text := bytes.Contains(accept, []byte("text/")) && !bytes.Contains(accept, []byte("json"))
	s.fields = s.fields[:0]
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
