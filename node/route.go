package node

import (
	"bytes"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

var (
	refuseNoRoute = &exchange.Refusal{Stage: "route", Reason: "no_route", Status: 404,
		Detail: "No route leads there."}
	refuseAmbiguousPath = &exchange.Refusal{Stage: "route", Reason: "ambiguous_path", Status: 400,
		Detail: "The path can be read in more than one way."}
	refuseConnect = &exchange.Refusal{Stage: "route", Reason: "connect_method", Status: 405,
		Detail: "This is not a forward proxy."}
	refuseBody = &exchange.Refusal{Stage: "route", Reason: "body_too_large", Status: 413, Close: true,
		Detail: "The request body is larger than this route takes."}
	refuseNoHost = &exchange.Refusal{Stage: "route", Reason: "no_host", Status: 400,
		Detail: "The request names no host."}
)

// answerer answers from a stage. It is proxy.Answer.
type answerer func(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal

// route finds the route of an exchange, and answers redirects and fixed texts itself.
type route struct {
	table  *table
	answer answerer
}

// Serve implements exchange.Stage.
func (t *route) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if x.Request == nil {
		x.Host = lowerHost(x.HostBuf[:0], x.SNI)
		found := t.table.find(x.Host, nil, nil)
		if found == nil || found.route.Pool == nil {
			return refuseNoRoute
		}
		x.Route, x.Class = found.route, found.route.Class
		return next.Do(x)
	}
	found, refusal := t.lookup(x)
	if refusal != nil {
		return refusal
	}
	r := found.route
	x.Route, x.Class = r, x.Claim.Classify(r.Class)
	if r.MaxBody > 0 && x.Request.ContentLength > r.MaxBody {
		return refuseBody
	}
	switch {
	case r.Redirect != nil:
		return t.redirect(x, r.Redirect)
	case r.Respond != nil:
		return t.answer(x, r.Respond.Status, r.Respond.Fields, r.Respond.Body)
	}
	if r.Prefix != nil && found.kind == pathPrefix && !bytes.HasPrefix(x.Path, []byte(found.path)) {
		// The path matches only once decoded: which bytes the prefix is to be cut from is not clear.
		return refuseAmbiguousPath
	}
	return next.Do(x)
}

// lookup finds the rule for a request. It is not inlined, so that its buffer is not on the stack of every connection
// that waits in a later stage.
//
//go:noinline
func (t *route) lookup(x *exchange.Exchange) (*rule, *exchange.Refusal) {
	if string(x.Request.Method) == "CONNECT" {
		return nil, refuseConnect
	}
	var buf [256]byte // longer paths that need it cost an allocation
	view, ok := matchPath(x.Path, buf[:0])
	if !ok {
		return nil, refuseAmbiguousPath
	}
	found := t.table.find(x.Host, view, x.Request)
	if found == nil {
		return nil, refuseNoRoute
	}
	return found, nil
}

// redirect sends the client elsewhere. Location always is absolute, so that a path that starts with // names no other host.
// A new scheme drops the port, which belonged to the old one; without one the client keeps its own. The answer has more fields besides.
func (t *route) redirect(x *exchange.Exchange, to *exchange.Redirect, more ...wire.Field) *exchange.Refusal {
	loc := location(x, to)
	if loc == nil {
		return refuseNoHost
	}
	return t.answer(x, to.Status, append([]wire.Field{{Name: nameLocation, Value: loc, ID: wire.Location}}, more...), nil)
}

// location is where a redirect leads; nil: the request names no host.
func location(x *exchange.Exchange, to *exchange.Redirect) []byte {
	loc := make([]byte, 0, 64+len(x.Request.Target)+len(x.Request.Host))
	scheme := to.Scheme
	if scheme == "" {
		scheme = schemeOf(x)
	}
	loc = append(append(loc, scheme...), "://"...)
	switch {
	case to.Host != "":
		loc = append(loc, to.Host...)
	case len(x.Host) == 0:
		return nil
	case to.Scheme != "":
		loc = append(loc, x.Host...)
	default:
		loc = append(loc, x.Request.Host...)
	}
	target := x.Request.Target
	if to.Path != "" {
		return wire.AppendTarget(loc, []byte(to.Path), target[min(len(x.Path), len(target)):])
	}
	if len(target) > 0 && target[0] == '/' {
		loc = append(loc, target...)
	}
	return loc
}

// schemeOf is what the client asked by: the trusted proxy before evenkeel knows it, when there is one.
func schemeOf(x *exchange.Exchange) string {
	secure := x.Secure
	if x.Trusted {
		switch proto := x.Request.Field(wire.XForwardedProto); {
		case wire.EqualFold(proto, "https"):
			secure = true
		case wire.EqualFold(proto, "http"):
			secure = false
		}
	}
	if secure {
		return "https"
	}
	return "http"
}

// nameLocation is the field of redirects.
var nameLocation = []byte("Location")
