package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// conn is one accepted client connection, after its PROXY header and TLS handshake. The listener makes it, hands it
// to one of serveHTTP1, serveHTTP2 and serveTCP, and closes it when that returns.
type conn struct {
	net.Conn
	watched

	listener *listener
	cfg      *site.Listener // as it was when the connection came
	remote   netip.AddrPort
	local    netip.AddrPort
	tls      *tls.ConnectionState // nil without TLS
	peer     *exchange.Peer       // from the client's certificate; nil: none
	shard    uint32               // steady number that spreads counters
	idle     atomic.Bool          // between two requests: may be closed at any time
}

// facts fills the part of x that stays the same for the whole connection.
func (c *conn) facts(x *exchange.Exchange) {
	x.Listener, x.Client, x.Local, x.Shard = c.cfg, c.remote, c.local, c.shard
	x.Secure, x.SNI, x.Peer = c.tls != nil, "", c.peer
	if c.tls != nil {
		x.SNI = c.tls.ServerName
	}
}
