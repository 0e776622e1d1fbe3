package node

import (
	"testing"
	"testing/synctest"

	"github.com/even-keel/evenkeel/site"
)

// How many exchanges may be inside follows connections.max with a reload, but where a connection carries many.
func TestShedFollowsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := func(http string, most int) *site.Site {
			s := testSite("web", "a=old")
			s.Pools["a"].HTTP, s.Pools["a"].Shed.Mode, s.Pools["a"].Connections.Max = http, site.ModeOn, most
			return s
		}
		w := newWorld(t, with("h1", 4))
		for _, c := range []struct {
			http      string
			max, want int
		}{{"h1", 4, 4}, {"h1", 100, 100}, {"h2", 3, 0}, {"auto", 5, 5}} {
			if w.next = with(c.http, c.max); w.Reload() != nil {
				t.Fatal("no reload")
			}
			if got := w.viewShed("a"); got.Max != c.want {
				t.Errorf("%s with %d connections: %d exchanges may be inside, want %d", c.http, c.max, got.Max, c.want)
			}
		}
	})
}

// The view says what is true of pools that no request comes to: a shedder is on where a route may come to lead, and tcp meets none.
func TestShedOfPoolsWithoutRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old", "raw=old", "spare=old")
		for _, p := range s.Pools {
			p.Shed.Mode = site.ModeOn
		}
		s.Listeners["db"] = &site.Listener{Name: "db", Protocol: "tcp"}
		s.Routes[0].Listeners, s.Routes[1].Listeners, s.Routes = []string{"web"}, []string{"db"}, s.Routes[:2]
		w := newWorld(t, s)
		for pool, want := range map[string]string{"a": site.ModeOn, "raw": site.ModeOff, "spare": site.ModeOn} {
			if v := w.viewShed(pool); v.Mode != want || (v.Limit > 0) != (pool == "a") {
				t.Errorf("pool %s: %s with a limit of %v, want %s", pool, v.Mode, v.Limit, want)
			}
		}
	})
}
