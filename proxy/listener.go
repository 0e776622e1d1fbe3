package proxy

import (
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// listener is one address that is served. It survives reloads: cfg and handler are swapped.
type listener struct {
	proxy    *Proxy
	name     string
	cfg      atomic.Pointer[site.Listener]
	handler  atomic.Pointer[exchange.Handler]
	tls      atomic.Pointer[tlsState]
	draining atomic.Bool  // answers carry Connection: close, HTTP/2 sends GOAWAY
	leaving  atomic.Int64 // unix ns when draining began

	open     atomic.Int64 // connections and udp sessions now
	accepted atomic.Int64
	refused  [reasons]atomic.Int64
	closed   h2Counts // HTTP/2 connections that were ended, by reason
	byIP     ipTable
	arrivals pace // accept_rate
	greets   pace // handshake_rate

	handshakes, handshakesFailed, handshakesResumed atomic.Int64

	in, out tally        // bytes of tcp and udp, from clients and to them
	dropped atomic.Int64 // datagrams that were not passed on
}

// leave makes the listener's answers end their connections.
func (l *listener) leave(now time.Time) {
	if l.leaving.CompareAndSwap(0, now.UnixNano()) {
		l.draining.Store(true)
	}
}

// weight is how many file descriptors a connection of cfg may need on its client's account. HTTP connections
// to endpoints are shared and counted when they are open, see (*Proxy).holdFD.
func weight(cfg *site.Listener) int64 {
	if cfg.Protocol == site.ProtocolTCP {
		return 2
	}
	return 1
}

// perIP is the bound of connections from one address.
func perIP(cfg *site.Listener) int {
	if n := cfg.Limits.ConnectionsPerIP; n > 0 {
		return n
	}
	return max(1, cfg.Limits.Connections/2)
}
