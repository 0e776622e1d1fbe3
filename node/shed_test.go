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
