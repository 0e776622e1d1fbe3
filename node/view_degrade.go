package node

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/contain/cache"
)

// viewDegrade is what stands in for endpoints; nil when the site has nothing that could.
func (n *Node) viewDegrade(now time.Time) *console.Degrade {
	d := &console.Degrade{Cache: viewCache(n.cache.Status()), Fallbacks: n.fellBack.view(), Switches: []console.FeatureSwitch{}}
	for _, s := range n.knobs.Status(now) {
		one := console.FeatureSwitch{Name: s.Name, On: s.On, Why: s.Why, Since: s.Since, By: s.By, Pool: s.Pool, Alerts: s.Alerts, Changes: s.Changes}
		if !s.Until.IsZero() {
			one.Until = &s.Until
		}
		d.Switches = append(d.Switches, one)
	}
	if d.Cache == nil && len(d.Fallbacks)+len(d.Switches) == 0 {
		return nil
	}
	return d
}

func viewCache(c cache.Status) *console.CacheLoad {
	if len(c.Routes) == 0 {
		return nil
	}
	v := &console.CacheLoad{Bytes: c.Bytes, LimitBytes: c.Most, Entries: c.Entries, Waiting: c.Waiting, Stored: c.Stored, Evicted: c.Evicted,
		Invalidated: c.Invalidated, Purged: c.Purged, Refreshed: c.Refreshed, Unrefreshed: c.Unrefreshed}
	if d := c.Disk; d != nil {
		v.Disk = &console.CacheDisk{Bytes: d.Bytes, LimitBytes: d.Most, Entries: d.Entries, Hits: d.Hits, Damaged: d.Damaged, Evicted: d.Evicted,
			Dropped: d.Unwritten, Failed: d.Failed, Down: d.Down}
	}
	for _, r := range c.Routes {
		v.Routes = append(v.Routes, console.CacheRoute{
			Route: r.Route, Hit: r.Results["hit"], Stale: r.Results["stale"], Revalidated: r.Results["revalidated"], Coalesced: r.Results["coalesced"],
			Miss: r.Results["miss"], Bypass: r.Results["bypass"], Refused: r.Results["refused"], StaleWhy: r.Stale,
		})
	}
	return v
}

func (t *fallbackTallies) view() []console.FallbackLoad {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := []console.FallbackLoad{}
	for key, tally := range t.byName {
		one := console.FallbackLoad{Route: key.route, Kind: key.kind, Used: map[string]uint64{}}
		for why, word := range causeNames {
			if count := tally.sum(cache.Cause(why)); word != "" && count > 0 {
				one.Used[word] = count
			}
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b console.FallbackLoad) int {
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// Purge removes stored answers of a route, any for "", under URLs that begin with prefix, and says how many there were.
func (n *Node) Purge(route, prefix string) int {
	count := n.cache.Purge(route, prefix)
	what := "all stored answers"
	switch {
	case route != "" && prefix != "":
		what = "stored answers of route " + route + " under " + prefix
	case route != "":
		what = "stored answers of route " + route
	case prefix != "":
		what = "stored answers under " + prefix
	}
	n.event("cache", fmt.Sprintf("%s were purged by hand: %d", what, count))
	return count
}
