package site

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// protection checks identify, limits, quotas, rules and screening: what names what, and what excludes what.
func (c *checker) protection() {
	c.identify(c.site.Identify)
	c.bulkheads()
	names := map[string]string{}
	for i, l := range c.site.Limits {
		path := fmt.Sprintf("limits[%d]", i)
		c.once(names, l.Name, path)
		c.limit(l, path)
	}
	c.limitsTogether()
	for i, q := range c.site.Quotas {
		path := fmt.Sprintf("quotas[%d]", i)
		c.once(names, q.Name, path)
		c.quota(q, path)
	}
	for i, r := range c.site.Rules {
		path := fmt.Sprintf("rules[%d]", i)
		c.once(names, r.Name, path)
		c.rule(r, path)
	}
	for i, r := range c.site.Routes {
		if at := fmt.Sprintf("routes[%d].screen", i); r.Screen != nil && r.Pool == "" && !c.suspect(at) {
			c.wrong(at, "has no effect on a route that sends nothing to a pool")
		}
	}
}

// once finds names that limits, quotas and rules have in common: clients and metrics tell them apart by name alone.
func (c *checker) once(names map[string]string, name, path string) {
	if name == "" || c.bad[path] || c.bad[path+".name"] {
		return
	}
	if first, twice := names[name]; twice {
		c.wrong(path+".name", "%s is the name of %s already", quote(name), first)
		return
	}
	names[name] = path
}

func (c *checker) identify(id Identify) {
	c.source(id.Customer, "identify.customer")
	c.source(id.User, "identify.user")
	if r := id.Region; r != nil && !c.suspect("identify.region") {
		switch {
		case r.Header == "" && len(r.Prefixes) == 0 && r.MMDB == "":
			c.wrong("identify.region", "says neither header, prefixes nor mmdb; give one of them")
		case r.Header != "" && len(id.TrustedProxies) == 0:
			c.wrong("identify.region.header", "is believed from trusted proxies only; name them in identify.trusted_proxies")
		}
	}
	if id.Class.Header != "" && len(id.Class.From) == 0 && len(id.TrustedProxies) == 0 && !c.suspect("identify.class") {
		c.wrong("identify.class.header", "nobody may raise a class with it; name senders in identify.class.from or identify.trusted_proxies")
	}
	seen := map[string]bool{}
	for i, one := range id.Customers {
		at := fmt.Sprintf("identify.customers[%d]", i)
		switch {
		case c.suspect(at):
		case id.Customer == nil:
			c.wrong(at, "no customer is ever found; say where it stands in identify.customer")
			return
		case seen[one.ID]:
			c.wrong(at+".id", "%s is here already", quote(one.ID))
		}
		seen[one.ID] = true
	}
}

func (c *checker) source(s *Source, path string) {
	if s == nil || c.suspect(path) {
		return
	}
	var does []string
	for _, f := range []struct {
		set  bool
		name string
	}{{s.Header != "", "header"}, {s.Cookie != "", "cookie"}, {s.Query != "", "query"}, {s.Path != 0, "path"}, {s.JWT != nil, "jwt"}, {s.MTLS != "", "mtls"}, {s.Basic, "basic"}} {
		if f.set {
			does = append(does, f.name)
		}
	}
	switch {
	case len(does) == 0:
		c.wrong(path, "says none of header, cookie, query, path, jwt, mtls and basic; give one of them")
	case len(does) > 1:
		c.wrong(path, "says %s; a fact stands in one place", strings.Join(does, " and "))
	}
	if j := s.JWT; j != nil {
		keys := 0
		for _, set := range []bool{j.JWKS != "", j.Key != "", j.Secret != ""} {
			if set {
				keys++
			}
		}
		if keys != 1 {
			c.wrong(path+".jwt", "needs exactly one of jwks, key and secret: a token that nobody verified says nothing")
		}
		if strings.HasPrefix(j.JWKS, "http://") && !loopbackURL(j.JWKS) {
			c.wrong(path+".jwt.jwks", "keys that come without TLS can be exchanged on their way; use https, or a file")
		}
	}
	if s.MTLS != "" && !c.anyClientCA() {
		c.wrong(path+".mtls", "no listener asks for client certificates; give one tls.client_ca and tls.client_auth")
	}
}

// loopbackURL says whether a URL leads to this machine.
func loopbackURL(u string) bool {
	host := strings.TrimPrefix(u, "http://")
	host, _, _ = strings.Cut(host, "/")
	if !strings.Contains(host, ":") {
		host += ":80"
	}
	return loopback(host)
}

func (c *checker) anyClientCA() bool {
	for _, l := range c.site.Listeners {
		if l.TLS != nil && l.TLS.ClientCA != "" {
			return true
		}
	}
	return false
}

func (c *checker) limit(l *Limit, path string) {
	if c.suspect(path) {
		return
	}
	c.by(l.By, path)
	c.scope(l.Routes, path)
	switch {
	case l.Rate == 0 && l.Concurrency == 0:
		c.wrong(path, "limits nothing; give rate, concurrency or both")
	case l.Burst > 0 && l.Rate == 0:
		c.wrong(path+".burst", "has no effect without a rate")
	case l.Cost != CostRequest && l.Rate == 0:
		c.wrong(path+".cost", "has no effect without a rate")
	case l.Cost == CostHeader && l.CostHeader == "":
		c.wrong(path+".cost", "%q needs cost_header, the name of the answer header", l.Cost)
	case l.Cost != CostHeader && l.CostHeader != "":
		c.wrong(path+".cost_header", "has no effect unless cost is header")
	}
	keys := map[string]string{}
	for i, o := range l.Overrides {
		at := fmt.Sprintf("%s.overrides[%d]", path, i)
		c.override(o, at, o.Calls > 0 || o.Bytes > 0, "calls and bytes hold for quotas; give rate, burst or concurrency")
		c.overrideKey(o.Key, l.By, at, keys)
	}
	c.limitAnswer(l.Answer, path+".answer")
}

func (c *checker) quota(q *Quota, path string) {
	if c.suspect(path) {
		return
	}
	c.by(q.By, path)
	c.scope(q.Routes, path)
	if q.Calls == 0 && q.Bytes == 0 {
		c.wrong(path, "bounds nothing; give calls, bytes or both")
	}
	if q.Sliding && q.Period == PeriodLifetime {
		c.wrong(path+".sliding", "a lifetime does not slide")
	}
	if q.Sliding && q.First != "" {
		c.wrong(path+".first", "has no effect on a sliding period")
	}
	if q.First != "" && q.Period == PeriodLifetime {
		c.wrong(path+".first", "has no effect on a lifetime")
	}
	keys := map[string]string{}
	for i, o := range q.Overrides {
		at := fmt.Sprintf("%s.overrides[%d]", path, i)
		c.override(o, at, o.Rate > 0 || o.Burst > 0 || o.Concurrency > 0, "rate, burst and concurrency hold for limits; give calls or bytes")
		c.overrideKey(o.Key, q.By, at, keys)
	}
	c.limitAnswer(q.Answer, path+".answer")
}

func (c *checker) override(o Override, at string, foreign bool, help string) {
	switch {
	case c.suspect(at):
	case foreign:
		c.wrong(at, "%s", help)
	case o.Unlimited && (o.Rate > 0 || o.Burst > 0 || o.Concurrency > 0 || o.Calls > 0 || o.Bytes > 0):
		c.wrong(at+".unlimited", "does not go with a number")
	case !o.Unlimited && o.Rate == 0 && o.Burst == 0 && o.Concurrency == 0 && o.Calls == 0 && o.Bytes == 0:
		c.wrong(at, "changes nothing; give a number, or unlimited: true")
	}
}

// by checks what is counted apart, and that the facts are found at all.
func (c *checker) by(by []string, path string) {
	id := c.site.Identify
	for i, word := range by {
		at := fmt.Sprintf("%s.by[%d]", path, i)
		missing := map[string]bool{ByCustomer: id.Customer == nil, ByUser: id.User == nil, ByRegion: id.Region == nil}
		switch {
		case slices.Contains(by[:i], word):
			c.wrong(at, "%s is named twice", quote(word))
		case word == ByGlobal && len(by) > 1:
			c.wrong(at, "global counts everything together and does not combine")
		case missing[word]:
			c.wrong(at, "no request ever has a %s; say where it is found in identify.%s", word, word)
		}
	}
}

func (c *checker) scope(routes []string, path string) {
	var names []string
	for _, r := range c.site.Routes {
		names = append(names, r.Name)
	}
	for i, name := range routes {
		if at := fmt.Sprintf("%s.routes[%d]", path, i); !slices.Contains(names, name) && !c.bad[at] && !c.badInside["routes"] {
			c.wrong(at, "there is no route %s%s", quote(name), c.known(name, names, "routes"))
		}
	}
}

func (c *checker) limitAnswer(a LimitAnswer, path string) {
	if a.Status != 0 && a.Status < 400 && !c.suspect(path) {
		c.wrong(path+".status", "%d does not say no; allowed is 400 to 599", a.Status)
	}
}

func (c *checker) rule(r *Rule, path string) {
	if c.suspect(path) {
		return
	}
	c.by(r.By, path)
	switch {
	case r.Action == "limit" && r.Count == 0:
		c.wrong(path+".action", "\"limit\" needs count, the requests per window")
	case r.Action != "limit" && (r.Count > 0 || len(r.By) > 0):
		c.wrong(path+".action", "%s counts nothing apart; leave out count and by, or write action: limit", quote(r.Action))
	case r.Status != 0 && (r.Action == "allow" || r.Action == "count"):
		c.wrong(path+".status", "%s refuses nothing", quote(r.Action))
	case r.Status != 0 && r.Status < http.StatusBadRequest:
		c.wrong(path+".status", "%d does not say no; allowed is 400 to 599", r.Status)
	case len(r.Regions) > 0 && c.site.Identify.Region == nil:
		c.wrong(path+".regions", "no request ever has a region; say where it is found in identify.region")
	}
	if len(r.Paths)+len(r.Hosts)+len(r.Methods)+len(r.Headers)+len(r.From)+len(r.Regions) == 0 && r.PathMatch+r.UserAgent+r.Query == "" {
		c.wrong(path, "has no pattern, so it would hold for every request; give paths, headers, from or another")
	}
}

// checkExclusion takes what may stand in exclude: the number of a rule, a range of them, or a tag.
func checkExclusion(s string) (string, error) {
	if len(s) > 0 && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z') {
		for _, c := range []byte(s) {
			if !alphanumeric(c) && !strings.ContainsRune("_./:-", rune(c)) {
				return s, fmt.Errorf("%s is not a tag; letters, digits and _ . / : - are allowed", quote(s))
			}
		}
		return s, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	from, err := strconv.ParseUint(first, 10, 31)
	to := from
	if err == nil && isRange {
		to, err = strconv.ParseUint(last, 10, 31)
	}
	if err != nil || from == 0 || to < from {
		return s, fmt.Errorf("%s names no rules; write a number such as 942100, a range such as 942000-942999, or a tag such as attack-sqli", quote(s))
	}
	return s, nil
}

// protections checks what the fields of a pool's protections say of each other.
func (c *checker) protections(p *Pool, path string) {
	if o := p.Outliers; o.Max < o.First && !c.suspect(path+".outliers") {
		c.wrong(path+".outliers.max", "%v is less than first, %v", o.Max, o.First)
	}
	c.breaker(p.Breaker, path+".breaker")
	if s := p.Shed; s.ReserveLow+s.ReserveStd > 0.5 && !c.suspect(path+".shed") {
		c.wrong(path+".shed.reserve_standard", "together with reserve_low it leaves less than half of the places to critical requests")
	}
	if at := path + ".shed.fair"; p.Shed.Fair == ByUser && c.site.Identify.User == nil && !c.bad[at] {
		c.wrong(at, "no request ever has a user; say where it is found in identify.user")
	}
}

// PeriodLength is the length of a quota's period that is not of the calendar; ok is false for the words.
func (q *Quota) PeriodLength() (d time.Duration, ok bool) {
	if slices.Contains([]string{"hour", "day", "week", "month", "year", PeriodLifetime}, q.Period) {
		return 0, false
	}
	d, err := ParseDuration(q.Period)
	return d, err == nil
}

// LimitNames are the names of all limits, quotas and rules, sorted: the closed set of a metric's label.
func (s *Site) LimitNames() []string {
	names := map[string]bool{}
	for _, l := range s.Limits {
		names[l.Name] = true
	}
	for _, q := range s.Quotas {
		names[q.Name] = true
	}
	for _, r := range s.Rules {
		names[r.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
