package node

import (
	"encoding/json"
	"hash/fnv"
	"log/slog"
	"reflect"
	"slices"

	"github.com/even-keel/evenkeel/contain/cache"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/proxy"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// newCache makes the cache of the node. It holds nothing and does nothing until a route wants one.
func (n *Node) newCache(cfg site.Cache) *cache.Cache {
	return cache.New(cfg, cache.Deps{
		Answer: func(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal {
			return n.answer(x, status, fields, body)
		},
		Alone: proxy.Alone, Cause: cause,
		Event:    func(text string) { n.event("cache", text) },
		Panicked: func(v any) { n.log.Error("a refresh panicked", slog.Any("panic", v)) },
	})
}

// caches is the stage that answers from memory; nil: the site keeps no answers. A listener none of whose routes do has it too, because a change that
// comes through it makes answers of others out of date.
func (n *Node) caches(s *site.Site, listener string) exchange.Stage {
	if !keepsAnswers(s) {
		return nil
	}
	if !n.cacheRuns && n.tasks != nil {
		n.cacheRuns = true
		n.tasks.start("cache", n.cache.Run)
	}
	policies := make([]*cache.Policy, len(s.Routes))
	for i, r := range s.Routes {
		if r.Cache != nil && (len(r.Listeners) == 0 || slices.Contains(r.Listeners, listener)) {
			policies[i] = &cache.Policy{RouteCache: *r.Cache, Route: routeName(i, r), Print: printOf(r)}
		}
	}
	return n.cache.Stage(policies)
}

// changes is the stage that only sees what requests change; nil: the site keeps no answers.
func (n *Node) changes(s *site.Site) exchange.Stage {
	if !keepsAnswers(s) {
		return nil
	}
	return n.cache.Stage(make([]*cache.Policy, len(s.Routes)))
}

func keepsAnswers(s *site.Site) bool {
	return slices.ContainsFunc(s.Routes, func(r *site.Route) bool { return r.Cache != nil })
}

// printOf changes with the settings of a route, over restarts too; 0: it cannot be told.
func printOf(r *site.Route) uint64 {
	text, err := json.Marshal(r)
	if err != nil {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write(text)
	return h.Sum64()
}

// keepCache makes the settings of next those of the cache, and forgets answers of routes that are gone, or not what they were.
func (n *Node) keepCache(old, next *site.Site) {
	was := map[string]*site.Route{}
	for i, r := range old.Routes {
		was[routeName(i, r)] = r
	}
	keeps := map[string]bool{}
	for i, r := range next.Routes {
		name := routeName(i, r)
		keeps[name] = r.Cache != nil
		if before := was[name]; before != nil && before.Cache != nil && !reflect.DeepEqual(before, r) {
			n.cache.Purge(name, "")
		}
	}
	n.cache.Keep(func(route string) bool { return keeps[route] })
	n.cache.Update(next.Cache)
}

// cause says why a refusal from behind the cache came. Stages that it does not name are told apart by their status.
func cause(r *exchange.Refusal) cache.Cause {
	switch r.Reason {
	case "client_gone", "body_too_slow", "body_too_large", "bad_body":
		return cache.CauseClient
	case "deadline":
		return cache.CauseDeadline
	case "endpoint_connections", "own_limit", "spill_full":
		return cache.CauseOverloaded
	}
	switch {
	case r.Stage == "shed", r.Stage == "bulkhead":
		return cache.CauseOverloaded
	case r.Stage == "pick", r.Stage == "breaker":
		return cache.CauseDown
	case r.Status == 503:
		return cache.CauseOverloaded
	case r.Status >= 500:
		return cache.CauseFailed
	}
	return cache.CauseClient
}
