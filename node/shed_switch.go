package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// switches are the classes that people have refused by hand. They outlive reloads, and end by themselves.
type switches struct {
	mu  sync.Mutex
	set map[switchKey]time.Time
}

type switchKey struct {
	pool  string
	class exchange.Class
}

var (
	errLowFirst = errors.New("standard requests are refused by hand, and low ones matter less: bring standard back, low comes with it")
	errNoPool   = errors.New("this node has no pool whose requests could be refused")
)

// shedsNot reports whether no request of a pool meets a shedder: it is off, or only tcp and udp come there.
func shedsNot(s *site.Site, pool string) bool {
	if p := s.Pools[pool]; p != nil && p.Shed.Mode == site.ModeOff {
		return true
	}
	led := false
	for _, r := range s.Routes {
		if r.Pool != pool && (r.Fallback == nil || r.Fallback.Pool != pool) {
			continue
		}
		led = true
		for name, l := range s.Listeners {
			if l.Protocol == site.ProtocolHTTP && (len(r.Listeners) == 0 || slices.Contains(r.Listeners, name)) {
				return false
			}
		}
	}
	return led
}

// Shed refuses requests of class low, or of standard and low, of a pool until a moment; of all pools that have a shedder when pool is "". A zero until
// brings them back.
func (n *Node) Shed(pool, class string, until time.Time) error {
	c := classOf(class)
	n.mu.Lock()
	defer n.mu.Unlock()
	pools := []string{pool}
	switch {
	case pool == "":
		pools = slices.DeleteFunc(slices.Sorted(maps.Keys(n.pools)), func(name string) bool { return shedsNot(n.site, name) && !until.IsZero() })
		if len(pools) == 0 {
			return errNoPool
		}
	case n.pools[pool] == nil:
		return fmt.Errorf("there is no pool %q", pool)
	case shedsNot(n.site, pool) && !until.IsZero():
		return fmt.Errorf("pool %s has shed: {mode: off}, or only tcp and udp come there: it has no shedder that could refuse", pool)
	}
	for _, name := range pools {
		if until.IsZero() && c == exchange.Low && n.switches.until(name, exchange.Standard).After(time.Now()) {
			return errLowFirst
		}
	}
	classes := []exchange.Class{exchange.Low}
	if c == exchange.Standard {
		classes = []exchange.Class{exchange.Standard, exchange.Low}
	}
	for _, name := range pools {
		for _, one := range classes {
			key := switchKey{name, one}
			n.switchTo(key, n.switches.put(key, until, one != c))
		}
	}
	where := "pool " + strings.Join(pools, ", ")
	if len(pools) > 1 {
		where = "pools " + strings.Join(pools, ", ")
	}
	what := "low"
	if c == exchange.Standard {
		what = "standard and low"
	}
	if until.IsZero() {
		n.event("shed", what+" requests of "+where+" are let through again: brought back by hand")
	} else {
		n.event("shed", what+" requests of "+where+" are refused by hand until "+until.Format("15:04:05"))
	}
	return nil
}

// switchTo tells the shedder of a pool. n.mu is held.
func (n *Node) switchTo(key switchKey, until time.Time) {
	if g := n.gates[key.pool]; g != nil {
		g.Switch(key.class, until)
	}
}

// put remembers a switch and returns until when it holds. With along, for a class that goes along with another, one that is out for longer stays so.
func (s *switches) put(key switchKey, until time.Time, along bool) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[switchKey]time.Time{}
	}
	if until.IsZero() {
		delete(s.set, key)
		return until
	}
	if old := s.set[key]; along && old.After(until) {
		return old
	}
	s.set[key] = until
	return until
}

// until is until when a class is out; zero: it is not.
func (s *switches) until(pool string, class exchange.Class) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set[switchKey{pool, class}]
}

// over takes what has ended by now, or belongs to a pool that is gone, and returns what has ended, in order.
func (s *switches) over(now time.Time, pools func(string) bool) (ended []switchKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, until := range s.set {
		switch {
		case !pools(key.pool):
			delete(s.set, key)
		case !until.After(now):
			delete(s.set, key)
			ended = append(ended, key)
		}
	}
	slices.SortFunc(ended, func(a, b switchKey) int {
		return strings.Compare(a.pool+" "+a.class.String(), b.pool+" "+b.class.String())
	})
	return ended
}

// byHand are the classes of a pool that are refused by hand, and until when: none while its settings leave it without a shedder.
func (n *Node) byHand(pool string, now time.Time) map[string]time.Time {
	n.mu.Lock()
	s := n.site
	n.mu.Unlock()
	if shedsNot(s, pool) {
		return nil
	}
	return n.switches.of(pool, now)
}

// of are the classes of a pool that are out, and until when.
func (s *switches) of(pool string, now time.Time) map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]time.Time{}
	for key, until := range s.set {
		if key.pool == pool && until.After(now) {
			out[key.class.String()] = until
		}
	}
	return out
}

// endSwitches says which classes came back by themselves.
func (n *Node) endSwitches(now time.Time) {
	n.mu.Lock()
	pools := maps.Clone(n.pools)
	n.mu.Unlock()
	for _, key := range n.switches.over(now, func(name string) bool { return pools[name] != nil }) {
		n.event("shed", fmt.Sprintf("%s requests of pool %s are let through again: their time is over", key.class, key.pool))
	}
}
