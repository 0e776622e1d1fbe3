package node

import (
	"cmp"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// handlers builds the stages of every listener of s. Counters, budgets and gauges are found by name, so that they
// outlive the reload.
func (n *Node) handlers(s *site.Site, pools map[string]poolPart) map[string]exchange.Handler {
	out := map[string]exchange.Handler{}
	n.built = map[string]*stages{}
	n.hull.update(s, n.guard.limit)
	n.useSampler(s)
	for name, cfg := range s.Listeners {
		st := n.stages(s, cfg, pools)
		n.built[name] = st
		if cfg.Protocol == site.ProtocolHTTP {
			out[name] = st.serveHTTP(n.send)
		} else {
			out[name] = st.serveL4(n.send)
		}
	}
	return out
}

// stages builds the stages of one listener.
func (n *Node) stages(s *site.Site, cfg *site.Listener, pools map[string]poolPart) *stages {
	rec := &record{
		none: n.tallies.get(cfg.Name, ""), noRoute: n.tallies.reasons(""),
		flight: n.flight(cfg.Name), log: &n.accessLog, telling: &n.telling,
	}
	if ev := s.Events; !ev.Off && !ev.Requests.Off && ev.Retention.Size > 0 {
		rec.keep = n.keeps
	}
	dead := &deadline{now: time.Now, cut: make([]*atomic.Uint64, len(s.Routes))}
	to := n.newWay(len(s.Routes))
	var all []*rule
	for i, rc := range s.Routes {
		rec.routes = append(rec.routes, nil)
		rec.reasons = append(rec.reasons, nil)
		if len(rc.Listeners) > 0 && !slices.Contains(rc.Listeners, cfg.Name) {
			continue
		}
		name := routeName(i, rc)
		rec.routes[i], rec.reasons[i] = n.tallies.get(cfg.Name, name), n.tallies.reasons(name)
		if rc.Pool != "" {
			n.lead(&to, s, i, rc.Pool, pools[rc.Pool])
			dead.cut[i] = n.cutOf(name)
		}
		hedge := n.hedgingOf(name, rc.Hedge)
		all = append(all, rules(i, rc, func(pattern string) *exchange.Route {
			r := newRoute(i, rc, cfg, pools, pattern)
			r.CostHeaders = n.limits.CostHeaders()
			r.Hedge, r.Overloaded, r.Pattern = hedge, to.overloaded(i), pattern
			if r.Pool != nil {
				r.Pool = n.traced(r.Pool)
			}
			return r
		})...)
	}
	entry, byClass := n.guardStages(s, cfg)
	limits := n.limits.Stage()
	if n.quotas != nil {
		limits = limits.Before(n.quotas.Patience)
	}
	return &stages{
		record:   rec,
		trace:    n.newTracing(s),
		entry:    entry,
		identify: &identify{trusted: s.Identify.TrustedProxies, finder: n.finder},
		route:    &route{table: newTable(all), answer: n.answer},
		byClass:  byClass,
		limit:    limits,
		screen:   n.screen.Stage(s),
		quota:    n.quotas,
		degrade:  n.degrading(s),
		fallback: n.fallbacks(s, cfg.Name, pools),
		cache:    n.caches(s, cfg.Name),
		deadline: dead,
		way:      to,
	}
}

// routeName is the route's name in counters and logs.
func routeName(i int, cfg *site.Route) string {
	return cmp.Or(cfg.Name, fmt.Sprintf("route-%d", i+1))
}

// newRoute makes one route of the site ready for use. pattern is the path it was found by, "" for any.
func newRoute(i int, cfg *site.Route, l *site.Listener, pools map[string]poolPart, pattern string) *exchange.Route {
	r := &exchange.Route{
		Name: routeName(i, cfg), Index: i, Deadline: cfg.Deadline,
		Class:          classOf(cfg.Class),
		Cost:           cfg.Cost,
		AttemptTimeout: cfg.Retry.AttemptTimeout,
		TellDeadline: exchange.DeadlineForms{Own: slices.Contains(cfg.Tell, "evenkeel"), Envoy: slices.Contains(cfg.Tell, "envoy"),
			GRPC: slices.Contains(cfg.Tell, "grpc")},
		MaxBody: int64(cmp.Or(cfg.BodyBytes, l.Limits.BodyBytes)),
		Request: newEdits(cfg.Request), Response: newEdits(cfg.Response),
	}
	if p := pools[cfg.Pool]; p != nil {
		r.Pool = p
	}
	for _, call := range cfg.SafeCalls {
		r.SafeCalls = append(r.SafeCalls, strings.TrimSuffix(call, "*"))
	}
	if h := cfg.Rewrite.Host; h != "" {
		r.Host = []byte(h)
	}
	if p := cfg.Rewrite.Path; p != "" {
		r.Path = []byte(p)
	}
	if p := cfg.Rewrite.Prefix; p != "" {
		// /old/* with prefix /new: /old/a becomes /new/a. With prefix / it becomes /a.
		prefix, isPrefix := strings.CutSuffix(pattern, "/*")
		if isPrefix {
			r.StripPrefix = len(prefix)
		}
		r.Prefix = []byte(strings.TrimSuffix(p, "/"))
	}
	if rd := cfg.Redirect; rd != nil {
		r.Redirect = newRedirect(rd)
	}
	if rs := cfg.Respond; rs != nil {
		r.Respond = newAnswer(rs)
	}
	return r
}

func newRedirect(cfg *site.Redirect) *exchange.Redirect {
	return &exchange.Redirect{Status: cmp.Or(cfg.Status, 308), Scheme: cfg.Scheme, Host: cfg.Host, Path: cfg.Path}
}

func classOf(word string) exchange.Class {
	switch word {
	case site.ClassCritical:
		return exchange.Critical
	case site.ClassLow:
		return exchange.Low
	}
	return exchange.Standard
}

// newEdits makes header changes ready: names in canonical spelling, in an order that does not change.
func newEdits(cfg site.Edits) exchange.Edits {
	var e exchange.Edits
	for _, name := range cfg.Remove {
		e.Remove = append(e.Remove, textproto.CanonicalMIMEHeaderKey(name))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Set)) {
		f := newField(name, cfg.Set[name])
		e.Remove, e.Add = append(e.Remove, string(f.Name)), append(e.Add, f)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Add)) {
		e.Add = append(e.Add, newField(name, cfg.Add[name]))
	}
	return e
}

func newField(name, value string) wire.Field {
	n := []byte(textproto.CanonicalMIMEHeaderKey(name))
	return wire.Field{Name: n, Value: []byte(value), ID: wire.FieldID(n)}
}

// newAnswer makes a fixed answer ready. Text without a Content-Type is plain text.
func newAnswer(cfg *site.Respond) *exchange.Answer {
	a := &exchange.Answer{Status: cmp.Or(cfg.Status, 200), Body: []byte(cfg.Body)}
	typed := false
	for _, name := range slices.Sorted(maps.Keys(cfg.Headers)) {
		f := newField(name, cfg.Headers[name])
		typed = typed || f.ID == wire.ContentType
		a.Fields = append(a.Fields, f)
	}
	if !typed && len(a.Body) > 0 {
		a.Fields = append(a.Fields, newField("Content-Type", "text/plain; charset=utf-8"))
	}
	return a
}
