package proxy

import (
	"errors"
	"net"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Refusals of tcp and udp. Nobody reads their status; it says how an HTTP client would have been told.
var (
	refusedConnect = &exchange.Refusal{Stage: "send", Reason: "connect", Status: 502, Detail: "The service could not be reached."}
	refusedNoRoute = &exchange.Refusal{Stage: "send", Reason: "no_endpoint", Status: 503, Detail: "The service has no endpoint."}
)

// tcpRun is the front of a tcp exchange.
type tcpRun struct {
	x    exchange.Exchange
	c    *conn
	name [256]byte // backs x.Host
}

// serveTCP runs a tcp connection through the stages. It returns when the connection has ended.
func (p *Proxy) serveTCP(c *conn) {
	run := p.runs.Get().(*tcpRun)
	x := &run.x
	run.c = c
	x.Reset()
	x.Protocol, x.SNI, x.Secure, x.Front, x.Start = exchange.TCP, "", false, run, time.Now()
	c.facts(x)
	if c.cfg.Sniff && c.tls == nil {
		if why, ok := p.sniff(c, x); !ok {
			c.listener.refused[why].Add(1)
			abort(c.Conn)
			p.dropRun(run)
			return
		}
	}
	if x.SNI != "" {
		x.Host = append(run.name[:0], x.SNI...)
	}
	if refusal := (*c.listener.handler.Load())(x); refusal != nil {
		abort(c.Conn)
	}
	p.dropRun(run)
}

func (p *Proxy) dropRun(run *tcpRun) {
	run.x.Reset()
	run.x.Front, run.x.Listener, run.x.SNI, run.c = nil, nil, "", nil
	p.runs.Put(run)
}

// relayTCP is the last handler of tcp exchanges: it connects to x.Endpoint and returns when the connection has
// ended. A refusal means that the endpoint could not be reached and that nothing was sent, so that another may be tried.
func relayTCP(x *exchange.Exchange) *exchange.Refusal {
	run, ok := x.Front.(*tcpRun)
	if !ok || x.Endpoint == nil {
		return refusedNoRoute
	}
	c := run.c
	p := c.listener.proxy
	link := x.Endpoint.Link.(*Link)
	began := time.Now()
	to, err := link.dialSession(c.shard)
	if err != nil {
		return connectFailed(x, err)
	}
	defer to.Close()
	took := time.Since(began)
	cfg := poolOf(link)
	if v := cfg.ProxyProtocol; v == proxyV1 || v == proxyV2 {
		var buf [proxyV1Max]byte
		if _, plain := to.(*plainConn); !plain { // there it is the first the kernel is given, and taken at once
			to.SetWriteDeadline(time.Now().Add(cfg.Timeouts.Connect))
			defer to.SetWriteDeadline(time.Time{})
		}
		if _, err := to.Write(appendProxyHeader(buf[:0], v, c.remote, c.local, false)); err != nil {
			x.Result = exchange.Result{Kind: exchange.ConnectFailed, Reason: "proxy_header", Unsent: true}
			return refusedConnect
		}
	}
	x.Outcome.Started = true
	x.Outcome.FirstByte = began.Add(took).Sub(x.Start)
	in, out, err := p.relay(c.Conn, to, relayOptions{
		watched: &c.watched, idle: idleTimeout(c.cfg, cfg), in: &c.listener.in, out: &c.listener.out, shard: c.shard,
	})
	x.Outcome.BytesIn, x.Outcome.BytesOut = in, out
	x.Result = exchange.Result{Kind: exchange.Answered, Latency: took}
	switch {
	case err == nil:
	case errors.Is(err, errRelayEndpoint):
		x.Outcome.Truncated = true
		if out == 0 {
			x.Result = exchange.Result{Kind: exchange.Broken, Reason: "reset"}
		}
	default:
		x.Outcome.Aborted = true
	}
	return nil
}

// poolOf is the configuration of a link's pool.
func poolOf(l *Link) *site.Pool { return l.up.cfg() }

// idleTimeout is the shorter of the listener's and the pool's.
func idleTimeout(cfg *site.Listener, pool *site.Pool) time.Duration {
	d := cfg.Limits.IdleTimeout
	if t := pool.Timeouts.Idle; d == 0 || t > 0 && t < d {
		d = t
	}
	return d
}

var _ net.Conn = (*bothConns)(nil)
