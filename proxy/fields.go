package proxy

import (
	"net/netip"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// noBody as the length of an answer says that its status or the request's method forbids a body, so that
// no framing is added and a Content-Length among the fields (HEAD, 304) is passed on as it is.
const noBody = -2

// Names of fields that evenkeel adds, in the spelling of HTTP/1.1.
var (
	nameForwardedFor   = []byte("X-Forwarded-For")
	nameForwardedProto = []byte("X-Forwarded-Proto")
	nameForwardedHost  = []byte("X-Forwarded-Host")
	nameRequestID      = []byte("X-Request-Id")
	nameClass          = []byte("Evenkeel-Class")
	nameDegrade        = []byte("Evenkeel-Degrade")
	nameAttempt        = []byte("Evenkeel-Attempt")
	nameDeadline       = []byte("Evenkeel-Deadline")
	nameTraceparent    = []byte("traceparent")
	nameEnvoyTimeout   = []byte("X-Envoy-Expected-Rq-Timeout-Ms")
	nameGRPCTimeout    = []byte("grpc-timeout")
	nameNoRetry        = []byte("Evenkeel-No-Retry")
	valueOne           = []byte("1")
	valueMinusOne      = []byte("-1")
	nameTE             = []byte("TE")
	nameHost           = []byte("Host")
	nameUpgrade        = []byte("Upgrade")
	nameContentType    = []byte("Content-Type")
	nameRetryAfter     = []byte("Retry-After")
	nameRateLimit      = []byte("RateLimit")
	nameRatePolicy     = []byte("RateLimit-Policy")
	nameCacheControl   = []byte("Cache-Control")
	nameAuthenticate   = []byte("WWW-Authenticate")
	nameSetCookie      = []byte("Set-Cookie")
	nameDate           = []byte("Date")
	nameGRPCStatus     = []byte("grpc-status")
	nameGRPCMessage    = []byte("grpc-message")
	nameGRPCPushback   = []byte("grpc-retry-pushback-ms")
	valueTrailers      = []byte("trailers")
	valueCritical      = []byte("critical")
	valueLow           = []byte("low")
	valueHTTP          = []byte("http")
	valueHTTPS         = []byte("https")
)

// scratch is the memory of one exchange's send stage, reused by the next exchange.
type scratch struct {
	fields []wire.Field
	shared int // how many fields of an answer are meant for every client; those behind are for this one
	bytes  []byte
	out    []byte // the request head as written
	target []byte
	host   []byte
	resp   wire.Response
	kept   *kept // of the request body; nil: nothing is
}

// requestFields prepares what the endpoint is sent in s.fields, s.target and s.host: the client's fields without
// hop-by-hop and framing ones, the route's edits done, X-Forwarded-*, the request id and the class added. The back end
// adds framing, and Host or :authority.
func (s *scratch) requestFields(x *exchange.Exchange) {
	r, route := x.Request, x.Route
	s.fields, s.bytes = s.fields[:0], s.bytes[:0]
	s.target, s.host = r.Target, r.Host
	if route != nil {
		s.rewrite(x)
	}
	var forwardedFor []byte
	hasHost := false
	var told deadlineForms
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.ID {
		case wire.Other:
		case wire.Host, wire.ContentLength, wire.XRequestID, wire.EvenkeelClass, wire.EvenkeelDegrade:
			continue
		case wire.EvenkeelAttempt:
			if x.Attempt > 1 {
				continue
			}
		case wire.EvenkeelDeadline, wire.EnvoyTimeout, wire.GRPCTimeout:
			if !x.Deadline.IsZero() {
				told = told.with(f.ID)
				continue
			}
		case wire.Traceparent, wire.Tracestate:
			if !passesTrace(x, f.ID) {
				continue
			}
		case wire.TE:
			if wire.HasToken(f.Value, "trailers") {
				s.fields = append(s.fields, wire.Field{Name: nameTE, Value: valueTrailers, ID: wire.TE})
			}
			continue
		case wire.XForwardedFor:
			if x.Trusted {
				forwardedFor = s.join(forwardedFor, f.Value)
			}
			continue
		case wire.XForwardedProto, wire.Forwarded:
			if !x.Trusted {
				continue
			}
		case wire.XForwardedHost:
			if !x.Trusted {
				continue
			}
			hasHost = true
		default:
			if wire.HopByHop(f.ID) {
				continue
			}
		}
		if r.NamedByConnection(f.Name) || route != nil && removed(route.Request.Remove, f.Name) {
			continue
		}
		s.fields = append(s.fields, *f)
	}
	s.addForwarded(x, forwardedFor, hasHost)
	s.addOwn(x, told)
	if route != nil {
		s.fields = append(s.fields, route.Request.Add...)
	}
}

// addOwn adds what evenkeel says of the request to endpoints that listen.
func (s *scratch) addOwn(x *exchange.Exchange, told deadlineForms) {
	if x.Class != exchange.Standard {
		s.addClass(x)
	}
	if x.Attempt > 1 {
		s.number(nameAttempt, int64(x.Attempt)+max(int64(x.Caller), 1)-1)
	}
	if !x.Deadline.IsZero() {
		s.addDeadline(x, told)
	}
	if x.Trace.Told.Valid() {
		s.addTrace(x)
	}
	if len(x.Degrade) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameDegrade, Value: x.Degrade, ID: wire.EvenkeelDegrade})
	}
}

// addForwarded adds what evenkeel knows about the client.
func (s *scratch) addForwarded(x *exchange.Exchange, before []byte, hasHost bool) {
	start := len(s.bytes)
	if len(before) > 0 {
		s.bytes = append(append(s.bytes, before...), ", "...)
	}
	s.bytes = appendAddr(s.bytes, x.Client.Addr())
	s.fields = append(s.fields, wire.Field{Name: nameForwardedFor, Value: s.bytes[start:], ID: wire.XForwardedFor})
	if !x.Trusted || wireField(s.fields, wire.XForwardedProto) == nil {
		proto := valueHTTP
		if x.Secure {
			proto = valueHTTPS
		}
		s.fields = append(s.fields, wire.Field{Name: nameForwardedProto, Value: proto, ID: wire.XForwardedProto})
	}
	if !hasHost && len(x.Request.Host) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameForwardedHost, Value: x.Request.Host, ID: wire.XForwardedHost})
	}
	if len(x.RequestID) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameRequestID, Value: x.RequestID, ID: wire.XRequestID})
	}
}

// addClass tells the endpoint how much the request matters, so that it can shed by the same order. It stands for what
// evenkeel found, never for what the client said; of the standard class nothing is said.
func (s *scratch) addClass(x *exchange.Exchange) {
	if x.Route != nil && removed(x.Route.Request.Remove, nameClass) {
		return
	}
	value := valueCritical
	if x.Class == exchange.Low {
		value = valueLow
	}
	s.fields = append(s.fields, wire.Field{Name: nameClass, Value: value, ID: wire.EvenkeelClass})
}

// passesTrace reports whether a field of the sender about its trace goes to the endpoint.
func passesTrace(x *exchange.Exchange, id wire.ID) bool {
	if id == wire.Tracestate {
		return !x.Trace.Anew
	}
	return !x.Trace.Told.Valid()
}

// addTrace tells the endpoint whose part in the trace its own is: the attempt's, when that is recorded.
func (s *scratch) addTrace(x *exchange.Exchange) {
	if x.Route != nil && removed(x.Route.Request.Remove, nameTraceparent) {
		return
	}
	if x.Trace.Record != nil {
		x.Trace.Asked(s.target, x.Endpoint != nil && x.Endpoint.Link.(*Link).up.cfg().TLS != nil)
	}
	start := len(s.bytes)
	s.bytes = x.Trace.Told.Append(s.bytes)
	s.fields = append(s.fields, wire.Field{Name: nameTraceparent, Value: s.bytes[start:], ID: wire.Traceparent})
}

// rewrite changes target and host as the route says.
func (s *scratch) rewrite(x *exchange.Exchange) {
	route := x.Route
	if route.Host != nil {
		s.host = route.Host
	}
	if route.Path == nil && route.Prefix == nil || len(s.target) == 0 || s.target[0] != '/' {
		return
	}
	start := len(s.bytes)
	front, rest := route.Path, s.target[min(len(x.Path), len(s.target)):]
	if front == nil {
		front, rest = route.Prefix, s.target[min(route.StripPrefix, len(s.target)):]
	}
	if len(front) == 0 && (len(rest) == 0 || rest[0] != '/') {
		s.bytes = append(s.bytes, '/')
	}
	s.bytes = wire.AppendTarget(s.bytes, front, rest)
	s.target = s.bytes[start:]
}

// responseFields prepares what the client is sent in s.fields: the endpoint's fields without hop-by-hop and framing
// ones, the route's edits done. bodyless keeps Content-Length, which then only describes.
func (s *scratch) responseFields(x *exchange.Exchange, r *wire.Response, bodyless bool) {
	s.fields = s.fields[:0]
	route := x.Route
	edits := route != nil && len(route.Response.Remove) > 0
	var costs []string
	if route != nil {
		costs = route.CostHeaders
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != wire.Other {
			if wire.HopByHop(f.ID) || f.ID == wire.ContentLength && !bodyless || x.NoRetry && (f.ID == wire.EvenkeelNoRetry || f.ID == wire.GRPCPushback) {
				continue
			}
		} else if len(f.Name) >= len(nameLoadReport) && reportsLoad(x, f) {
			continue
		}
		if r.NamedByConnection(f.Name) || edits && removed(route.Response.Remove, f.Name) {
			continue
		}
		if costs != nil && takeCost(x, costs, f) {
			continue
		}
		s.fields = append(s.fields, *f)
	}
	if route != nil {
		s.fields = append(s.fields, route.Response.Add...)
	}
	s.shared = len(s.fields)
	if x.NoRetry {
		s.fields = append(s.fields, wire.Field{Name: nameNoRetry, Value: valueOne, ID: wire.EvenkeelNoRetry})
		if x.Result.Code != 0 { // nothing but a status: clients of gRPC know it by another name
			s.fields = append(s.fields, wire.Field{Name: nameGRPCPushback, Value: valueMinusOne, ID: wire.GRPCPushback})
		}
	}
	if len(x.SetCookie) > 0 {
		s.fields = append(s.fields, wire.Field{Name: nameSetCookie, Value: x.SetCookie, ID: wire.SetCookie})
	}
	if x.Allowed > 0 {
		s.allowances(x, nil)
	}
}

// join appends more to a list, for fields that came several times.
func (s *scratch) join(list, more []byte) []byte {
	if len(list) == 0 {
		return more
	}
	start := len(s.bytes)
	s.bytes = append(append(append(s.bytes, list...), ", "...), more...)
	return s.bytes[start:]
}

// wireField is the value of the first field with that ID, nil if there is none.
func wireField(fields []wire.Field, id wire.ID) []byte {
	for i := range fields {
		if fields[i].ID == id {
			return fields[i].Value
		}
	}
	return nil
}

// removed reports whether name is in the list.
func removed(list []string, name []byte) bool {
	for _, n := range list {
		if wire.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// appendAddr writes an address as X-Forwarded-For has it: IPv4 mapped into IPv6 as IPv4, without zone.
func appendAddr(dst []byte, a netip.Addr) []byte {
	return a.Unmap().WithZone("").AppendTo(dst)
}
