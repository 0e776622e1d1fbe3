// Package proxy moves bytes between clients and endpoints: listeners, the HTTP/1.1 and HTTP/2 engines, tcp and udp relays, and connections to endpoints.
package proxy

// Proxy is the set of listeners of a node.
type Proxy struct {
	sweep *sweeper
	engine
}
