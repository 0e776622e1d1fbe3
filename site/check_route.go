package site

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// before orders two places as they are read.
func before(a, b place) int {
	return cmp.Or(cmp.Compare(a.src.order, b.src.order), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
}

func (c *checker) routes() {
	if len(c.site.Routes) == 0 && len(c.site.Listeners) > 0 && !c.bad["routes"] && !c.bad["pools"] {
		text := "no pool and no route is named, so listeners lead nowhere"
		if len(c.site.Pools) > 1 {
			text = "are needed, because there are several pools to choose from"
		}
		c.wrong("routes", "%s", text)
		return
	}
	names := map[string]int{}
	for i, r := range c.site.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		if c.bad[path] {
			continue
		}
		if j, twice := names[r.Name]; twice && !c.bad[path+".name"] {
			c.wrong(path+".name", "%s is the name of the route at line %d already", quote(r.Name), c.at(fmt.Sprintf("routes[%d]", j)).line)
		}
		names[r.Name] = i
		c.answer(r, path)
		c.changes(r, path)
		c.references(r, path)
	}
	for _, name := range slices.Sorted(maps.Keys(c.site.Listeners)) {
		l := c.site.Listeners[name]
		if path := "listeners." + name; !c.bad["routes"] && !c.bad[path] && !c.bad[path+".protocol"] {
			c.reach(l, path)
		}
	}
}

// answer checks that a route does exactly one thing.
func (c *checker) answer(r *Route, path string) {
	var does []string
	for _, f := range []struct {
		set  bool
		name string
	}{{r.Pool != "", "pool"}, {r.Redirect != nil, "redirect"}, {r.Respond != nil, "respond"}} {
		if f.set || c.bad[path+"."+f.name] {
			does = append(does, f.name)
		}
	}
	switch {
	case len(does) == 0:
		c.wrong(path, "says neither pool, redirect nor respond; give one of them")
	case len(does) > 1:
		c.wrong(path, "says %s; a route does one of them", strings.Join(does, " and "))
	}
	if d := r.Redirect; d != nil && d.Scheme == "" && d.Host == "" && d.Path == "" && !c.suspect(path+".redirect") {
		c.wrong(path+".redirect", "leads back to where the client came from; give scheme, host or path")
	}
	c.respond(r.Respond, path+".respond")
}

// respond checks a fixed answer, nil for none.
func (c *checker) respond(a *Respond, at string) {
	if a == nil {
		return
	}
	if a.Body != "" && (a.Status == http.StatusNoContent || a.Status == http.StatusResetContent || a.Status == http.StatusNotModified) {
		c.wrong(at+".body", "an answer with status %d has no body", a.Status)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		c.editable(name, at+".headers."+name)
	}
}

// kept are fields that evenkeel writes itself: changing them would break the framing of messages or the connection.
var kept = []string{"connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

// changes checks rewrite, request and response.
func (c *checker) changes(r *Route, path string) {
	w := r.Rewrite
	switch at := path + ".rewrite"; {
	case w == (Rewrite{}) || c.suspect(at):
	case r.Pool == "" && (r.Redirect != nil || r.Respond != nil):
		c.wrong(at, "has no effect on a route that sends nothing to a pool")
	case w.Prefix != "" && w.Path != "":
		c.wrong(at, "says prefix and path; give one of them")
	case w.Prefix != "" && len(r.Paths) == 0 && !c.bad[path+".paths"]:
		c.wrong(at+".prefix", "replaces the prefix that paths names, but this route names none")
	}
	c.edits(r.Request, path+".request")
	c.edits(r.Response, path+".response")
}

func (c *checker) edits(e Edits, path string) {
	for i, name := range e.Remove {
		c.editable(name, fmt.Sprintf("%s.remove[%d]", path, i))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		c.editable(name, path+".set."+name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Add)) {
		c.editable(name, path+".add."+name)
	}
}

func (c *checker) editable(name, path string) {
	if low := strings.ToLower(name); slices.Contains(kept, low) && !c.bad[path] {
		help := ""
		if low == "host" && strings.Contains(path, ".request.") {
			help = "; use rewrite.host"
		}
		c.wrong(path, "%s is written by evenkeel itself and cannot be changed%s", name, help)
	}
}

// references checks that the names in a route exist and fit.
func (c *checker) references(r *Route, path string) {
	if at := path + ".pool"; r.Pool != "" && c.site.Pools[r.Pool] == nil && !c.bad[at] && !c.bad["pools"] {
		c.wrong(at, "there is no pool %s%s", quote(r.Pool), c.known(r.Pool, slices.Sorted(maps.Keys(c.site.Pools)), "pools"))
	}
	for i, name := range r.Listeners {
		at := fmt.Sprintf("%s.listeners[%d]", path, i)
		l := c.site.Listeners[name]
		switch {
		case c.bad[at] || c.bad["listeners"]:
		case l == nil:
			c.wrong(at, "there is no listener %s%s", quote(name), c.known(name, slices.Sorted(maps.Keys(c.site.Listeners)), "listeners"))
		case slices.Contains(r.Listeners[:i], name):
			c.wrong(at, "%s is named twice", quote(name))
		case !c.bad["listeners."+name+".protocol"]:
			c.fits(r, l, path, at)
		}
	}
}

func (c *checker) known(seen string, names []string, what string) string {
	if w := Near(seen, names); w != "" {
		return "; did you mean " + w + "?"
	}
	if len(names) == 0 || len(names) > 12 { // more would push the sentence off the screen
		return ""
	}
	return "; the " + what + " are " + strings.Join(names, ", ")
}

// fits checks that a route which names a tcp or udp listener asks nothing that only HTTP knows.
func (c *checker) fits(r *Route, l *Listener, path, at string) {
	if l.Protocol == ProtocolHTTP {
		return
	}
	if why := httpOnly(r); why != "" {
		c.wrong(at, "listener %s speaks %s and knows no %s; name http listeners only, or leave %s out", l.Name, l.Protocol, why, why)
		return
	}
	switch {
	case len(r.Hosts) > 0 && l.Protocol == ProtocolUDP:
		c.wrong(path+".hosts", "listener %s speaks udp and knows no hosts; leave hosts out", l.Name)
	case len(r.Hosts) > 0 && l.TLS != nil:
		c.wrong(path+".hosts", "listener %s ends TLS itself, so its routes cannot go by SNI; leave tls out to pass it through, or hosts out", l.Name)
	}
	p := c.site.Pools[r.Pool]
	switch {
	case p == nil:
	case l.Protocol == ProtocolUDP && p.TLS != nil:
		c.wrong(path+".pool", "pool %s speaks TLS to its endpoints, which udp listener %s cannot", p.Name, l.Name)
	case l.Protocol == ProtocolUDP && p.ProxyProtocol != "off":
		c.wrong(path+".pool", "pool %s sends PROXY headers, which udp listener %s cannot", p.Name, l.Name)
	case p.Affinity != nil:
		c.wrong(path+".pool", "pool %s keeps clients by a cookie, which %s listener %s does not know", p.Name, l.Protocol, l.Name)
	case p.Method == MethodHash && slices.Contains([]string{HashHeader, HashCookie, HashPath}, p.Hash.By):
		c.wrong(path+".pool", "pool %s hashes by %s, which %s listener %s does not know; hash by ip or a tuple", p.Name, p.Hash.By, l.Protocol, l.Name)
	}
}

// httpOnly names the first field of a route that only makes sense for HTTP, or "".
func httpOnly(r *Route) string {
	for _, f := range []struct {
		set  bool
		name string
	}{
		{len(r.Paths) > 0, "paths"}, {len(r.Methods) > 0, "methods"}, {len(r.Headers) > 0, "headers"},
		{r.Redirect != nil, "redirect"}, {r.Respond != nil, "respond"}, {r.Rewrite != Rewrite{}, "rewrite"},
		{r.Cache != nil, "cache"}, {r.Fallback != nil, "fallback"}, {len(r.Switches) > 0, "switches"},
		{len(r.Request.Remove)+len(r.Request.Set)+len(r.Request.Add) > 0, "request"},
		{len(r.Response.Remove)+len(r.Response.Set)+len(r.Response.Add) > 0, "response"},
	} {
		if f.set {
			return f.name
		}
	}
	return ""
}

// Takes says whether a route can hold for a listener at all: the listener is named, or none is and the route asks
// nothing that the listener's protocol does not know.
func (r *Route) Takes(l *Listener) bool {
	if len(r.Listeners) > 0 {
		return slices.Contains(r.Listeners, l.Name)
	}
	switch l.Protocol {
	case ProtocolTCP:
		return httpOnly(r) == "" && (len(r.Hosts) == 0 || l.TLS == nil)
	case ProtocolUDP:
		return httpOnly(r) == "" && len(r.Hosts) == 0
	}
	return true
}

// reach walks the routes of one listener in order. A route that takes everything ends the walk: what names the listener
// behind it is never reached. A tcp or udp listener needs one such route, an http listener any (the rest is answered 404).
func (c *checker) reach(l *Listener, path string) {
	taken, some := "", false
	for i, r := range c.site.Routes {
		at := fmt.Sprintf("routes[%d]", i)
		if c.bad[at] || c.suspect(at+".listeners") || c.suspect(at+".hosts") || c.suspect(at+".paths") {
			return // the walk says nothing sure any more
		}
		if !r.Takes(l) {
			continue
		}
		some = true
		if taken != "" && (len(r.Listeners) > 0 || len(c.site.Listeners) == 1) {
			// Not c.wrong: the route itself is sound, and the walks of other listeners go through it.
			c.report(c.at(at), at, fmt.Sprintf("is never reached: route %s before it takes everything from listener %s", taken, l.Name))
			continue
		}
		if taken == "" && len(r.Hosts)+len(r.Paths)+len(r.Methods)+len(r.Headers) == 0 {
			taken = r.Name
		}
	}
	switch {
	case !some:
		c.wrong(path, "no route leads from here; add one with listeners: [%s]", l.Name)
	case taken == "" && l.Protocol != ProtocolHTTP:
		c.wrong(path, "no route takes what none of the hosts fits; add one with listeners: [%s] and without hosts", l.Name)
	}
}
