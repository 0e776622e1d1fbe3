package site

import (
	"fmt"
	"strings"
)

// pool checks what the fields of one pool say of each other.
func (c *checker) pool(p *Pool, path string) {
	if c.bad[path] {
		return
	}
	c.members(p, path)
	if p.Discover != nil {
		c.discover(p.Discover, path+".discover")
	}
	c.hash(p.Hash, path+".hash")
	c.probe(p.Probe, path+".probe")
	c.protections(p, path)
	if p.TLS != nil && !c.suspect(path+".tls") {
		c.endpointTLS(p.TLS, path+".tls")
	}
	if at := path + ".connections"; p.Connections.Idle > p.Connections.Max && !c.suspect(at) {
		c.wrong(at+".idle", "%d is more than max, %d", p.Connections.Idle, p.Connections.Max)
	}
	if a := path + ".proxy_protocol"; p.ProxyProtocol != "off" && p.HTTP == "h2" && !c.bad[a] && !c.bad[path+".http"] {
		c.wrong(a, "%q does not go with http: h2, where one connection carries many clients", p.ProxyProtocol)
	}
}

func (c *checker) members(p *Pool, path string) {
	at := path + ".endpoints"
	if len(p.Endpoints) == 0 && p.Discover == nil && !c.bad[at] && !c.bad[path+".discover"] {
		c.wrong(path, "has no endpoints; name them in endpoints, or find them with discover")
	}
	first, weights := map[string]int{}, 0
	for i, e := range p.Endpoints {
		one := fmt.Sprintf("%s[%d]", at, i)
		if e.Address == "" || c.suspect(one) {
			weights++
			continue
		}
		weights += e.Weight
		if j, twice := first[e.Address]; twice {
			c.wrong(one, "%s is here already, at line %d", e.Address, c.at(fmt.Sprintf("%s[%d]", at, j)).line)
			continue
		}
		first[e.Address] = i
	}
	if len(p.Endpoints) > 0 && weights == 0 && p.Discover == nil {
		c.wrong(at, "every endpoint has weight 0, so none would get traffic")
	}
}

func (c *checker) discover(d *Discover, path string) {
	switch {
	case c.suspect(path):
		return
	case d.DNS == nil && d.File == nil:
		c.wrong(path, "says neither dns nor file; give one of them")
	case d.DNS != nil && d.File != nil:
		c.wrong(path, "says both dns and file; give one of them")
	}
	if d.DNS == nil {
		return
	}
	dns, at := d.DNS, path+".dns"
	switch {
	case dns.Type == "srv" && dns.Port != 0:
		c.wrong(at+".port", "srv records bring their ports; leave port out, or use type a or aaaa")
	case dns.Type != "srv" && dns.Port == 0:
		c.wrong(at+".port", "is missing; %s records bring no port, so say which one the endpoints listen on", dns.Type)
	}
	if dns.MinTTL > dns.MaxTTL {
		c.wrong(at+".min_ttl", "%q is longer than max_ttl, %q", FormatDuration(dns.MinTTL), FormatDuration(dns.MaxTTL))
	}
}

func (c *checker) hash(h Hash, path string) {
	named := h.By == HashHeader || h.By == HashCookie
	switch {
	case c.suspect(path):
	case named && h.Name == "":
		c.wrong(path+".name", "is missing; by: %s needs the name of the %s", h.By, h.By)
	case !named && h.Name != "":
		c.wrong(path+".name", "%s has no effect with by: %s; leave it out, or write by: header or by: cookie", quote(h.Name), h.By)
	}
}

func (c *checker) probe(p *Probe, path string) {
	if p.kinds() > 1 {
		var kinds []string
		for _, f := range []struct {
			set  bool
			name string
		}{{p.HTTP != nil, "http"}, {p.TCP != nil, "tcp"}, {p.TLS != nil, "tls"}, {p.GRPC != nil, "grpc"}, {p.Exec != nil, "exec"}} {
			if f.set {
				kinds = append(kinds, f.name)
			}
		}
		c.wrong(path, "says %s; an endpoint is probed in one way", strings.Join(kinds, " and "))
	}
	if p.HTTP != nil && len(p.HTTP.Status) == 0 && !c.suspect(path+".http") {
		c.wrong(path+".http.status", "names no status, so no endpoint would ever be healthy")
	}
}

func (c *checker) endpointTLS(t *EndpointTLS, path string) {
	switch {
	case (t.Cert == "") != (t.Key == ""):
		have, need := "cert", "key"
		if t.Cert == "" {
			have, need = "key", "cert"
		}
		c.wrong(path+"."+have, "needs %s beside it", need)
	case t.Cert != "":
		c.pair(t.Cert, t.Key, path)
	}
	if t.CA != "" && !t.Verify {
		c.wrong(path+".ca", "has no effect while verify is false")
		return
	}
	c.authorities(t.CA, path+".ca")
}
