package proxy

import (
	"context"
	"net"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Upstream is how one pool's endpoints are spoken to: TLS, timeouts, connection limits. It survives reloads.
type Upstream struct {
	proxy *Proxy
	cfg   *site.Pool
}

// Link is the connections to one endpoint. It is the Link of an exchange.Endpoint.
type Link struct {
	up *Upstream
	e  *exchange.Endpoint
}

// dial opens a plain TCP connection to the endpoint within the pool's connect timeout, counts it
// against the pool's limit, and gives the slot back when the connection is closed.
func (l *Link) dial(ctx context.Context) (net.Conn, error) { panic("to be written") }

// dialTLS is dial plus the TLS handshake when the pool speaks TLS; proto is the negotiated ALPN protocol.
func (l *Link) dialTLS(ctx context.Context) (c net.Conn, proto string, err error) {
	panic("to be written")
}
