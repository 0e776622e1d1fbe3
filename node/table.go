package node

import (
	"bytes"
	"sort"
	"strings"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// indexFrom is the number of rules of one host from which paths are looked up and not compared one by one.
const indexFrom = 16

// table finds the route of a request on one listener: the first in the site file's order that matches. It is built
// once per site: by host first, then by path, so that a thousand routes cost little more than one.
type table struct {
	exact map[string]*ruleSet // rules that hold for this very host, wildcard and any-host rules included
	wild  map[string]*ruleSet // by suffix with its leading dot
	any   *ruleSet
}

// rule is one path of one route. A route with several paths has as many rules, because what is cut
// off a path depends on which one matched.
type rule struct {
	order   int // in the file
	kind    pathKind
	path    string // as matchPath shows it; a prefix without its last slash
	methods []string
	headers []headerRule
	hosts   []string
	route   *exchange.Route
}

type pathKind uint8

const (
	pathAny pathKind = iota
	pathExact
	pathPrefix
)

type headerRule struct {
	name  string
	value string // * : any
}

// rules makes the rules of one route of the site.
func rules(order int, cfg *site.Route, routeFor func(pattern string) *exchange.Route) []*rule {
	base := rule{order: order, methods: cfg.Methods, hosts: lowerAll(cfg.Hosts)}
	for name, value := range cfg.Headers {
		base.headers = append(base.headers, headerRule{name, value})
	}
	sort.Slice(base.headers, func(i, j int) bool { return base.headers[i].name < base.headers[j].name })
	if len(cfg.Paths) == 0 {
		r := base
		r.route = routeFor("")
		return []*rule{&r}
	}
	var out []*rule
	for _, pattern := range cfg.Paths {
		r := base
		r.kind, r.path = pathExact, pattern
		if prefix, ok := strings.CutSuffix(pattern, "/*"); ok {
			r.kind, r.path = pathPrefix, prefix
		}
		if view, ok := matchPath([]byte(r.path), nil); ok {
			r.path = string(view)
		}
		r.route = routeFor(pattern)
		out = append(out, &r)
	}
	return out
}

// newTable makes a table of rules in the file's order.
func newTable(all []*rule) *table {
	t := &table{exact: map[string]*ruleSet{}, wild: map[string]*ruleSet{}}
	for _, r := range all {
		for _, h := range r.hosts {
			if suffix, ok := strings.CutPrefix(h, "*"); ok {
				t.wild[suffix] = nil
			} else {
				t.exact[h] = nil
			}
		}
	}
	for host := range t.exact {
		t.exact[host] = newRuleSet(all, host)
	}
	for suffix := range t.wild {
		// A name of which only the suffix is known: no exact rule is asked for it.
		t.wild[suffix] = newRuleSet(all, "*"+suffix)
	}
	t.any = newRuleSet(all, "")
	return t
}

// holds reports whether the rule holds for a host, or for all hosts below a *.suffix.
func (r *rule) holds(host string) bool {
	if len(r.hosts) == 0 {
		return true
	}
	for _, h := range r.hosts {
		if h == host {
			return true
		}
		if suffix, ok := strings.CutPrefix(h, "*"); ok && len(host) > len(suffix) && strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// hostRules are the rules for a host in lower case without port.
func (t *table) hostRules(host []byte) *ruleSet {
	if len(t.exact) > 0 {
		if s, ok := t.exact[string(host)]; ok {
			return s
		}
	}
	if len(t.wild) > 0 {
		for rest := host; ; {
			dot := bytes.IndexByte(rest, '.')
			if dot < 0 {
				break
			}
			if s, ok := t.wild[string(rest[dot:])]; ok && len(rest[dot:]) < len(host) {
				return s
			}
			rest = rest[dot+1:]
		}
	}
	return t.any
}

// find returns the first rule that matches, nil if none does. path is what matchPath shows.
func (t *table) find(host, path []byte, r *wire.Request) *rule {
	return t.hostRules(host).find(path, r)
}

// ruleSet are the rules that may hold for one host, in order.
type ruleSet struct {
	list     []*rule
	indexed  bool
	anyPath  []int32            // places in list
	exact    map[string][]int32 // places in list, ascending
	prefix   map[string][]int32
	longest  int // bytes of the longest prefix
	hasExact bool
}

func newRuleSet(all []*rule, host string) *ruleSet {
	s := &ruleSet{exact: map[string][]int32{}, prefix: map[string][]int32{}}
	for _, r := range all {
		if !r.holds(host) {
			continue
		}
		at := int32(len(s.list))
		s.list = append(s.list, r)
		switch r.kind {
		case pathAny:
			s.anyPath = append(s.anyPath, at)
		case pathExact:
			s.exact[r.path] = append(s.exact[r.path], at)
			s.hasExact = true
		case pathPrefix:
			s.prefix[r.path] = append(s.prefix[r.path], at)
			s.longest = max(s.longest, len(r.path))
		}
	}
	s.indexed = len(s.list) >= indexFrom
	return s
}

func (s *ruleSet) find(path []byte, r *wire.Request) *rule {
	if !s.indexed {
		for _, rule := range s.list {
			if rule.matchesPath(path) && rule.matchesHead(r) {
				return rule
			}
		}
		return nil
	}
	best := int32(len(s.list))
	best = s.first(s.anyPath, best, r)
	if s.hasExact {
		best = s.first(s.exact[string(path)], best, r)
	}
	if len(path) > 0 && path[0] == '/' {
		// Every place where a prefix may end: before a slash, and at the end.
		for i := 0; i <= len(path) && i <= s.longest; i++ {
			if i == len(path) || path[i] == '/' {
				best = s.first(s.prefix[string(path[:i])], best, r)
			}
		}
	}
	if int(best) == len(s.list) {
		return nil
	}
	return s.list[best]
}

// first is the first of places below best whose rule takes the head, else best.
func (s *ruleSet) first(places []int32, best int32, r *wire.Request) int32 {
	for _, at := range places {
		if at >= best {
			break
		}
		if s.list[at].matchesHead(r) {
			return at
		}
	}
	return best
}

func (r *rule) matchesPath(path []byte) bool {
	switch r.kind {
	case pathExact:
		return string(path) == r.path
	case pathPrefix:
		n := len(r.path)
		return len(path) >= n && string(path[:n]) == r.path && (len(path) > n && path[n] == '/' || len(path) == n && n > 0)
	}
	return true
}

// matchesHead reports whether method and headers match. There is no head on tcp and udp: a rule that asks for one does not match.
func (r *rule) matchesHead(q *wire.Request) bool {
	if len(r.methods) == 0 && len(r.headers) == 0 {
		return true
	}
	if q == nil {
		return false
	}
	if len(r.methods) > 0 && !contains(r.methods, q.Method) {
		return false
	}
	for i := range r.headers {
		if !r.headers[i].matches(q) {
			return false
		}
	}
	return true
}

func (h *headerRule) matches(q *wire.Request) bool {
	seen := false
	for i := range q.Fields {
		f := &q.Fields[i]
		if !wire.EqualFold(f.Name, h.name) {
			continue
		}
		if h.value == "*" || string(f.Value) == h.value {
			return true
		}
		seen = true
	}
	// HTTP/2 has its host elsewhere.
	return !seen && len(q.Host) > 0 && strings.EqualFold(h.name, "host") && (h.value == "*" || string(q.Host) == h.value)
}

func contains(list []string, b []byte) bool {
	for _, s := range list {
		if s == string(b) {
			return true
		}
	}
	return false
}

func lowerAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.TrimSuffix(strings.ToLower(s), ".")
	}
	return out
}
