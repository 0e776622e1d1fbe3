package node

import (
	"github.com/even-keel/evenkeel/contain/cache"
	"github.com/even-keel/evenkeel/contain/degrade"
)

var (
	descCache        = desc("cache_requests_total", "Requests by what became of them at the cache: hit, stale, revalidated, coalesced, miss, bypass or refused.", "route", "result")
	descCacheStale   = desc("cache_stale_total", "Stale answers given, by why: max-stale, while_revalidate, if_error or if_overloaded.", "route", "why")
	descCacheBytes   = desc("cache_bytes", "Memory of stored answers.")
	descCacheLimit   = desc("cache_limit_bytes", "Memory that stored answers may take.")
	descCacheEntries = desc("cache_entries", "Stored answers.")
	descCacheComing  = desc("cache_capturing_bytes", "Memory of answers that are coming in to be stored.")
	descCacheWaiting = desc("cache_waiting", "Requests that wait for the answer to another one.")
	descCacheStored  = desc("cache_stored_total", "Answers that were stored.")
	descCacheGone    = desc("cache_removed_total", "Stored answers that were removed: evicted for want of room, invalidated by a change, or purged.", "why")
	descCacheRefresh = desc("cache_refreshes_total", "Refreshes without a client, by result: done or failed.", "result")
	descCacheAlone   = desc("cache_uncoalesced_total", "Requests that asked for themselves although another asked the same: their wait was over (late), or too many waited (crowded).", "why")
	descDiskBytes    = desc("cache_disk_bytes", "Bytes of files of stored answers.")
	descDiskLimit    = desc("cache_disk_limit_bytes", "Bytes that files of stored answers may take.")
	descDiskEntries  = desc("cache_disk_entries", "Answers in files.")
	descDiskReads    = desc("cache_disk_reads_total", "Answers looked for in files that were there, by result: hit, late (the disk took too long), busy (too many at once) or damaged.", "result")
	descDiskWrites   = desc("cache_disk_writes_total", "Answers for files, by result: done, dropped (no time, no room, or gone meanwhile) or failed.", "result")
	descDiskEvicted  = desc("cache_disk_evicted_total", "Files that went for want of room.")
	descDiskDown     = desc("cache_disk_down", "1 while files cannot be written and answers are kept in memory only.")
	descFallback     = desc("fallback_total", "Requests that a fallback answered, by what it did and why.", "route", "kind", "cause")
	descSwitch       = desc("switch_on", "1 while the switch is on.", "switch")
	descSwitches     = desc("switch_changes_total", "How often the switch went on or off.", "switch")
)

// cache shows what the cache holds, and what became of requests at it. A cache that no route uses shows nothing.
func (s sink) cache(c cache.Status) {
	if len(c.Routes) == 0 {
		return
	}
	s.gauge(descCacheBytes, float64(c.Bytes))
	s.gauge(descCacheLimit, float64(c.Most))
	s.gauge(descCacheEntries, float64(c.Entries))
	s.gauge(descCacheComing, float64(c.Capturing))
	s.gauge(descCacheWaiting, float64(c.Waiting))
	s.counter(descCacheStored, c.Stored)
	s.counter(descCacheGone, c.Evicted, "evicted")
	s.counter(descCacheGone, c.Invalidated, "invalidated")
	s.counter(descCacheGone, c.Purged, "purged")
	s.counter(descCacheRefresh, c.Refreshed, "done")
	s.counter(descCacheRefresh, c.Unrefreshed, "failed")
	s.counter(descCacheAlone, c.WaitedOut, "late")
	s.counter(descCacheAlone, c.Crowded, "crowded")
	if d := c.Disk; d != nil {
		s.disk(d)
	}
	for _, r := range c.Routes {
		for result, n := range r.Results {
			s.counter(descCache, n, r.Route, result)
		}
		for why, n := range r.Stale {
			s.counter(descCacheStale, n, r.Route, why)
		}
	}
}

func (s sink) disk(d *cache.DiskStatus) {
	s.gauge(descDiskBytes, float64(d.Bytes))
	s.gauge(descDiskLimit, float64(d.Most))
	s.gauge(descDiskEntries, float64(d.Entries))
	s.counter(descDiskReads, d.Hits, "hit")
	s.counter(descDiskReads, d.Late, "late")
	s.counter(descDiskReads, d.Busy, "busy")
	s.counter(descDiskReads, d.Damaged, "damaged")
	s.counter(descDiskWrites, d.Writes, "done")
	s.counter(descDiskWrites, d.Unwritten, "dropped")
	s.counter(descDiskWrites, d.Failed, "failed")
	s.counter(descDiskEvicted, d.Evicted)
	s.gauge(descDiskDown, number(d.Down))
}

// switches shows which features are given up.
func (s sink) switches(list []degrade.Status) {
	for _, one := range list {
		s.gauge(descSwitch, number(one.On), one.Name)
		s.counter(descSwitches, one.Changes, one.Name)
	}
}

// fallbacks shows how often fallbacks answered.
func (s sink) fallbacks(t *fallbackTallies) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, tally := range t.byName {
		for why, word := range causeNames {
			if word != "" {
				s.counter(descFallback, tally.sum(cache.Cause(why)), key.route, key.kind, word)
			}
		}
	}
}
