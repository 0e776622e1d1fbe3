package proxy

import (
	"sync/atomic"

	"github.com/even-keel/evenkeel/exchange"
)

// listener is one address that is served. It survives reloads: cfg and handler are swapped.
type listener struct {
	proxy    *Proxy
	handler  atomic.Pointer[exchange.Handler]
	draining atomic.Bool // answers carry Connection: close, HTTP/2 sends GOAWAY
}
