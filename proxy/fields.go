package proxy

import (
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// requestFields appends to dst what the endpoint is sent: the client's fields without hop-by-hop ones, the route's
// edits done, X-Forwarded-* and the request id added. Bytes that had to be made are appended to scratch.
// Host (or :authority) is not among them; target and host are returned apart.
func requestFields(x *exchange.Exchange, dst []wire.Field, scratch []byte) (fields []wire.Field, target, host, grown []byte) {
	panic("to be written")
}

// responseFields appends to dst what the client is sent: the endpoint's fields without hop-by-hop and framing
// ones, the route's edits done.
func responseFields(x *exchange.Exchange, r *wire.Response, dst []wire.Field) []wire.Field {
	panic("to be written")
}
