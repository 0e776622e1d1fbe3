package wire

import (
	"bytes"
	"encoding/binary"
)

// ID names a known field, so that stages compare one byte where they would compare text.
type ID uint8

// The known fields.
const (
	Other ID = iota
	Host
	Connection
	KeepAlive
	ProxyConnection
	TransferEncoding
	ContentLength
	Upgrade
	TE
	Trailer
	Expect
	Forwarded
	XForwardedFor
	XForwardedProto
	XForwardedHost
	XRequestID
	Traceparent
	Cookie
	SetCookie
	Accept
	ContentType
	Authorization
	Date
	Server
	Via
	RetryAfter
	Location
	UserAgent
	Referer
	HTTP2Settings
	EvenkeelClass
	EvenkeelAttempt
	EvenkeelDeadline
	EvenkeelNoRetry
	EnvoyTimeout
	GRPCTimeout
	GRPCStatus
	GRPCPushback
	IdempotencyKey
	EvenkeelDegrade
	Tracestate
)

// knownField is a known name as two words that cover all of it up to 16 octets. The masks fold letters to lower
// case and leave all else, so that a comparison of words is exact.
type knownField struct {
	name           string
	id             ID
	lo, hi         uint64
	loMask, hiMask uint64
}

// knownFields are the known names by length.
var knownFields = makeKnownFields()

func makeKnownFields() (t [31][]knownField) {
	for id, name := range [...]string{
		Host: "host", Connection: "connection", KeepAlive: "keep-alive", ProxyConnection: "proxy-connection",
		TransferEncoding: "transfer-encoding", ContentLength: "content-length", Upgrade: "upgrade", TE: "te",
		Trailer: "trailer", Expect: "expect", Forwarded: "forwarded", XForwardedFor: "x-forwarded-for",
		XForwardedProto: "x-forwarded-proto", XForwardedHost: "x-forwarded-host", XRequestID: "x-request-id",
		Traceparent: "traceparent", Tracestate: "tracestate", Cookie: "cookie", SetCookie: "set-cookie", Accept: "accept",
		ContentType: "content-type", Authorization: "authorization", Date: "date", Server: "server", Via: "via",
		RetryAfter: "retry-after", Location: "location", UserAgent: "user-agent", Referer: "referer",
		HTTP2Settings: "http2-settings", EvenkeelClass: "evenkeel-class",
		EvenkeelDegrade: "evenkeel-degrade", EvenkeelAttempt: "evenkeel-attempt", EvenkeelDeadline: "evenkeel-deadline", EvenkeelNoRetry: "evenkeel-no-retry",
		EnvoyTimeout: "x-envoy-expected-rq-timeout-ms", GRPCTimeout: "grpc-timeout", GRPCStatus: "grpc-status", GRPCPushback: "grpc-retry-pushback-ms", IdempotencyKey: "idempotency-key",
	} {
		if name == "" {
			continue
		}
		mask := make([]byte, len(name))
		for i := range mask {
			if 'a' <= name[i] && name[i] <= 'z' {
				mask[i] = 0x20
			}
		}
		k := knownField{name: name, id: ID(id)}
		k.lo, k.hi = words([]byte(name))
		k.loMask, k.hiMask = words(mask)
		t[len(name)] = append(t[len(name)], k)
	}
	return t
}

// words is the first and the last eight octets of b, which overlap in names shorter than 16.
func words(b []byte) (lo, hi uint64) {
	switch n := len(b); {
	case n >= 8:
		return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		return uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n == 3:
		return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16, 0
	case n == 2:
		return uint64(b[0]) | uint64(b[1])<<8, 0
	}
	return 0, 0
}

// FieldID is the known field that name names, in letters of either case, or Other.
func FieldID(name []byte) ID {
	if len(name) >= len(knownFields) {
		return Other
	}
	list := knownFields[len(name)]
	if len(list) == 0 {
		return Other
	}
	lo, hi := words(name)
	for i := range list {
		k := &list[i]
		if lo|k.loMask == k.lo && hi|k.hiMask == k.hi && (len(name) <= 16 || EqualFold(name, k.name)) {
			return k.id
		}
	}
	return Other
}

// HopByHop reports whether a field is about one connection, not the message, and so is never passed on (RFC 9110
// §7.6.1). Upgrade is among them: who relays an upgrade writes it anew. Trailer is not, since trailers are passed on.
func HopByHop(id ID) bool {
	const set = 1<<Connection | 1<<KeepAlive | 1<<ProxyConnection | 1<<TransferEncoding | 1<<Upgrade | 1<<TE |
		1<<HTTP2Settings
	return uint64(set)>>id&1 != 0
}

// FieldNamed is the value of the first field called name, in letters of either case.
func FieldNamed(fields []Field, name string) ([]byte, bool) {
	for i := range fields {
		if len(fields[i].Name) == len(name) && EqualFold(fields[i].Name, name) {
			return fields[i].Value, true
		}
	}
	return nil, false
}

func firstField(fields []Field, id ID) []byte {
	for i := range fields {
		if fields[i].ID == id {
			return fields[i].Value
		}
	}
	return nil
}

// Field is the first value of a known field, nil when there is none.
func (r *Request) Field(id ID) []byte { return firstField(r.Fields, id) }

// Field is the first value of a known field, nil when there is none.
func (r *Response) Field(id ID) []byte { return firstField(r.Fields, id) }

// NamedByConnection reports whether a Connection option names this field, so that it is not passed on. It
// costs one comparison unless Connection has options besides close, keep-alive and upgrade. Host and Content-Length are
// never taken away so: a client that could do that would change how the message is framed or routed.
func (r *Request) NamedByConnection(name []byte) bool { return r.named && named(r.Fields, name) }

// NamedByConnection is like that of Request.
func (r *Response) NamedByConnection(name []byte) bool { return r.named && named(r.Fields, name) }

func named(fields []Field, name []byte) bool {
	if id := FieldID(name); id == Host || id == ContentLength {
		return false
	}
	for i := range fields {
		if fields[i].ID != Connection {
			continue
		}
		list := fields[i].Value
		for more := true; more; {
			var option []byte
			option, list, more = cutList(list)
			if len(option) == len(name) && bytes.EqualFold(option, name) {
				return true
			}
		}
	}
	return false
}
