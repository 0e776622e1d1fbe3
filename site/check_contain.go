package site

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// switchesMost is how many switches a site may have: their names travel in a header field.
const switchesMost = 32

// containment checks caches, fallbacks and switches.
func (c *checker) containment() {
	for i, r := range c.site.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		if c.bad[path] {
			continue
		}
		c.cached(r, path+".cache")
		c.safeCalls(r, path)
		if at := path + ".hedge"; r.Hedge != nil && r.Retry.Attempts == 1 && !c.suspect(at) {
			c.wrong(at, "has no effect with retry.attempts: 1, since a hedge is an attempt too; write attempts: 2 or 3")
		}
		c.fallback(r, path)
		for j, name := range r.Switches {
			if at := fmt.Sprintf("%s.switches[%d]", path, j); c.site.Switches[name] == nil && !c.bad[at] && !c.bad["switches"] {
				c.wrong(at, "there is no switch %s%s", quote(name), c.known(name, slices.Sorted(maps.Keys(c.site.Switches)), "switches"))
			}
		}
		if at := path + ".switches"; len(r.Switches) > 0 && r.Pool == "" && !c.suspect(at) {
			c.wrong(at, "has no effect on a route that sends nothing to a pool")
		}
	}
	if n := len(c.site.Switches); n > switchesMost {
		c.wrong("switches", "are %d; at most %d are allowed, because their names travel in a header field", n, switchesMost)
	}
	for _, name := range slices.Sorted(maps.Keys(c.site.Switches)) {
		c.knob(c.site.Switches[name], join("switches", name))
	}
}

// safeCalls are paths of calls: /package.Service/Method, or /package.Service/*.
func (c *checker) safeCalls(r *Route, path string) {
	at := path + ".safe_calls"
	if len(r.SafeCalls) == 0 || c.suspect(at) {
		return
	}
	if r.Pool == "" {
		c.wrong(at, "has no effect on a route that sends nothing to a pool")
		return
	}
	for i, call := range r.SafeCalls {
		service, method, ok := strings.Cut(strings.TrimPrefix(call, "/"), "/")
		if !ok || !strings.HasPrefix(call, "/") || service == "" || method == "" || strings.ContainsAny(service, "*/") || method != "*" && strings.ContainsAny(method, "*/") {
			c.wrong(fmt.Sprintf("%s[%d]", at, i), "%q is no call of gRPC; it must look like /shop.Catalogue/Get, or /shop.Search/* for all of a service", call)
		}
	}
}

func (c *checker) cached(r *Route, at string) {
	switch {
	case r.Cache == nil || c.suspect(at):
	case r.Pool == "":
		c.wrong(at, "has no effect on a route that sends nothing to a pool")
	case r.Cache.Body > c.site.Cache.Memory/8 && !c.suspect("cache"):
		c.wrong(at+".body", "%s is more than an eighth of cache.memory, which is %s; make memory larger or body smaller", r.Cache.Body, c.site.Cache.Memory)
	}
}

func (c *checker) fallback(r *Route, path string) {
	f, at := r.Fallback, path+".fallback"
	if f == nil || c.suspect(at) {
		return
	}
	var does []string
	for _, one := range []struct {
		set  bool
		name string
	}{{f.Pool != "", "pool"}, {f.Redirect != nil, "redirect"}, {f.Respond != nil, "respond"}} {
		if one.set {
			does = append(does, one.name)
		}
	}
	switch {
	case len(does) == 0:
		c.wrong(at, "says neither pool, redirect nor respond; give one of them")
	case len(does) > 1:
		c.wrong(at, "says %s; a fallback is one of them", strings.Join(does, " and "))
	case r.Pool == "":
		c.wrong(at, "has no effect on a route that sends nothing to a pool")
	case f.Pool != "" && f.Pool == r.Pool:
		c.wrong(at+".pool", "%s is the pool that cannot answer; name another one", quote(f.Pool))
	case f.Pool != "" && c.site.Pools[f.Pool] == nil && !c.bad["pools"]:
		c.wrong(at+".pool", "there is no pool %s%s", quote(f.Pool), c.known(f.Pool, slices.Sorted(maps.Keys(c.site.Pools)), "pools"))
	case slices.Contains(f.On, "switched") && len(r.Switches) == 0 && !c.suspect(path+".switches"):
		c.wrong(at+".on", "says switched, but the route names no switches")
	}
	if d := f.Redirect; d != nil && d.Scheme == "" && d.Host == "" && d.Path == "" {
		c.wrong(at+".redirect", "leads back to where the client came from; give scheme, host or path")
	}
	c.respond(f.Respond, at+".respond")
}

func (c *checker) knob(s *Switch, at string) {
	if c.suspect(at) {
		return
	}
	if first := s.Name[0]; first >= '0' && first <= '9' {
		c.wrong(at, "begins with a digit; endpoints are told the name as a token, which begins with a letter")
	}
	c.knobAlerts(s, at)
	p := c.site.Pools[s.Pool]
	switch {
	case s.Pool == "":
	case p == nil && !c.bad["pools"]:
		c.wrong(at+".pool", "there is no pool %s%s", quote(s.Pool), c.known(s.Pool, slices.Sorted(maps.Keys(c.site.Pools)), "pools"))
	case p != nil && p.Shed.Mode == ModeDryRun && s.When == "low_off" && !c.suspect(join("pools", s.Pool)):
		c.wrong(at+".when", "a dry run refuses no low requests; write shed: {mode: on} on pool %s, or when: overloaded here", s.Pool)
	case p != nil && p.Shed.Mode == ModeOff && !c.suspect(join("pools", s.Pool)):
		c.wrong(at+".pool", "pool %s has shed: {mode: off}, so that nobody knows when it is overloaded; write mode: on or mode: dry_run", s.Pool)
	}
}

// alertLabels are those that alerts can have.
var alertLabels = []string{"severity", "objective", "route", "pool", "endpoint", "listener", "limit", "receiver"}

// knobAlerts checks by which alerts a switch is turned.
func (c *checker) knobAlerts(s *Switch, at string) {
	names, shipped := alertNames(), true
	for _, o := range c.site.Alerts.Own {
		names = append(names, o.Name)
		shipped = shipped && !slices.Contains(s.Alerts, o.Name)
	}
	for i, name := range s.Alerts {
		at := fmt.Sprintf("%s.alerts[%d]", at, i)
		rule := c.site.Alerts.Rules[name]
		switch {
		case !slices.Contains(names, name):
			c.wrong(at, "there is no alert %s%s", quote(name), didYouMean(name, names))
		case name == AlertWatchdog:
			c.wrong(at, "%s fires always, and so would the switch be on", name)
		case rule != nil && rule.Off:
			c.wrong(at, "nobody looks for %s, as alerts.rules has it off", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		switch at := join(at+".labels", name); {
		case len(s.Alerts) == 0:
			c.wrong(at, "has no effect without alerts")
		case shipped && !slices.Contains(alertLabels, name): // own alerts have the labels of their series
			c.wrong(at, "alerts have no label %s%s", quote(name), c.known(name, alertLabels, "labels"))
		}
	}
}
