package site

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// checker finds what no single field can know: names that must exist, fields that exclude or need each other.
type checker struct {
	*decoder
	site *Site
}

func (c *checker) all() {
	c.admin()
	if len(c.site.Listeners) == 0 && !c.bad["listeners"] {
		// An editor that truncates before it writes must not make a reload close every listener.
		c.wrong("listeners", "no listener is named, so nothing would be served")
	}
	for _, name := range slices.Sorted(maps.Keys(c.site.Listeners)) {
		c.listener(c.site.Listeners[name], join("listeners", name))
	}
	c.sameAddress()
	for _, name := range slices.Sorted(maps.Keys(c.site.Pools)) {
		c.pool(c.site.Pools[name], join("pools", name))
	}
	c.routes()
	c.protection()
	c.containment()
	c.monitor()
	c.telemetry()
	c.events()
	c.objectives()
	c.alerts()
}

// suspect says whether path or anything in it is a mistake already.
func (c *checker) suspect(path string) bool { return c.bad[path] || c.badInside[path] }

func loopback(listen string) bool {
	host, _, _ := net.SplitHostPort(listen)
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

func (c *checker) listener(l *Listener, path string) {
	http := l.Protocol == ProtocolHTTP
	if l.TLS != nil {
		c.listenerTLS(l, join(path, "tls"))
	}
	p := l.ProxyProtocol
	switch at := join(path, "proxy_protocol"); {
	case c.suspect(path):
	case p.Accept != "off" && l.Protocol == ProtocolUDP:
		c.wrong(at+".accept", "a udp listener takes no PROXY header; leave it off")
	case p.Accept == "off" && len(p.From) > 0:
		c.wrong(at+".from", "has no effect while accept is off; write accept: optional or accept: required")
	}
	if l.Limits.BodyBytes > 0 && !http && !c.suspect(path) {
		c.wrong(path+".limits.body_bytes", "holds for http listeners only; a %s listener sees no bodies", l.Protocol)
	}
}

func (c *checker) listenerTLS(l *Listener, path string) {
	if l.Protocol == ProtocolUDP {
		c.wrong(path, "a udp listener cannot end TLS; leave tls out, or use protocol http or tcp")
		return
	}
	for i, pair := range l.TLS.Certificates {
		if at := fmt.Sprintf("%s.certificates[%d]", path, i); !c.suspect(at) {
			c.pair(pair.Cert, pair.Key, at)
		}
	}
	switch {
	case c.bad[path+".client_auth"] || c.bad[path+".client_ca"]:
	case l.TLS.ClientAuth != "none" && l.TLS.ClientCA == "":
		c.wrong(path+".client_auth", "%q needs client_ca, the file of authorities whose certificates are believed", l.TLS.ClientAuth)
	case l.TLS.ClientAuth == "none" && l.TLS.ClientCA != "":
		c.wrong(path+".client_ca", "has no effect while client_auth is none; write client_auth: request or client_auth: require")
	default:
		c.authorities(l.TLS.ClientCA, path+".client_ca")
	}
}

// sameAddress finds two listeners, the admin listener too, that the system would not let open one address.
func (c *checker) sameAddress() {
	type taken struct{ what, host string }
	byPort := map[string][]taken{}
	claim := func(what, path, listen, transport string) {
		host, port, err := net.SplitHostPort(listen)
		if err != nil || port == "0" || c.bad[path] {
			return
		}
		key := transport + ":" + port
		for _, other := range byPort[key] {
			if clash(host, other.host) {
				c.wrong(path, "%s is taken by %s already", quote(listen), other.what)
				return
			}
		}
		byPort[key] = append(byPort[key], taken{what, host})
	}
	names := slices.Sorted(maps.Keys(c.site.Listeners))
	slices.SortStableFunc(names, func(a, b string) int { // the later line is the one to change
		return before(c.at(join("listeners", a)), c.at(join("listeners", b)))
	})
	for _, name := range names {
		l, transport := c.site.Listeners[name], "tcp"
		if l.Protocol == ProtocolUDP {
			transport = "udp"
		}
		claim("listener "+name, "listeners."+name+".listen", l.Listen, transport)
	}
	if c.site.Admin.Listen != "off" {
		claim("a listener of the site", "admin.listen", c.site.Admin.Listen, "tcp")
	}
}

// clash says whether two hosts cannot share a port: they are the same, or one of them is all addresses.
func clash(a, b string) bool {
	all := func(h string) bool { return h == "" || h == "0.0.0.0" || h == "::" }
	return strings.EqualFold(a, b) || all(a) || all(b)
}
