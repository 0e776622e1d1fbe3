package node

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// A class that is refused by hand comes back by itself or by hand, outlives a reload, and leaves events.
func TestShedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old", "b=old"))
		out := func() string {
			var words []string
			for _, p := range w.viewOverload(w.site, time.Now()).Pools {
				for _, class := range []string{"low", "standard"} {
					if until, is := p.ByHand[class]; is {
						words = append(words, p.Pool+" "+class+" "+time.Until(until).String())
					}
				}
			}
			return strings.Join(words, ", ")
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		must(w.Shed("a", "low", time.Now().Add(10*time.Minute)))
		if got := out(); got != "a low 10m0s" {
			t.Errorf("out is %q", got)
		}
		must(w.Shed("", "standard", time.Now().Add(time.Minute)))
		if got := out(); got != "a low 10m0s, a standard 1m0s, b low 1m0s, b standard 1m0s" {
			t.Errorf("out is %q", got)
		}
		if err := w.Shed("a", "low", time.Time{}); !errors.Is(err, errLowFirst) {
			t.Errorf("low before standard: %v", err)
		}
		must(w.Shed("b", "standard", time.Time{}))
		if got := out(); got != "a low 10m0s, a standard 1m0s" {
			t.Errorf("out is %q", got)
		}
		w.swap(testSite("web", "a=new", "b=old"), w.pools)
		if got := out(); got != "a low 10m0s, a standard 1m0s" {
			t.Errorf("after a reload out is %q", got)
		}
		<-time.After(61 * time.Second)
		w.endSwitches(time.Now())
		if got := out(); got != "a low 8m59s" {
			t.Errorf("after a minute out is %q", got)
		}
		<-time.After(9 * time.Minute)
		w.endSwitches(time.Now())
		if got := out(); got != "" {
			t.Errorf("after their time out is %q", got)
		}
		if err := w.Shed("none", "low", time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), `"none"`) {
			t.Errorf("a pool that is not there: %v", err)
		}
		w.site.Pools["a"].Shed = site.Shed{Mode: "off"}
		if err := w.Shed("a", "low", time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "no shedder") {
			t.Errorf("a pool without shedder: %v", err)
		}
		var told []string
		for _, e := range w.events.newest(10) {
			if e.Kind == "shed" {
				told = append(told, e.Text)
			}
		}
		all := strings.Join(told, "\n")
		for _, want := range []string{"low requests of pool a are refused by hand until", "standard and low requests of pools a, b are refused", "brought back by hand", "standard requests of pool a are let through again: their time is over"} {
			if !strings.Contains(all, want) {
				t.Errorf("events lack %q:\n%s", want, all)
			}
		}
	})
}

// A class that is refused by hand stays so for a shedder that is made later: when a route leads to the pool, or the site switched it off and on.
func TestShedByHandOutlivesShedders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := func(mode string, routed bool) *site.Site {
			s := testSite("web", "a=old")
			s.Pools["a"].Shed.Mode = mode
			if !routed {
				s.Routes = nil
			}
			return s
		}
		w := newWorld(t, with(site.ModeOn, false))
		if err := w.Shed("a", "standard", time.Now().Add(10*time.Minute)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			mode string
			out  int
		}{{site.ModeOn, 2}, {site.ModeOff, 0}, {site.ModeDryRun, 2}} {
			if w.next = with(c.mode, true); w.Reload() != nil {
				t.Fatal("no reload")
			}
			shown := w.viewOverload(w.site, time.Now()).Pools[0].ByHand
			if len(shown) != c.out {
				t.Errorf("with mode %s %v are shown as refused", c.mode, shown)
			}
			if g := w.gates["a"]; g != nil && len(g.Status().ByHand) != c.out {
				t.Errorf("with mode %s the shedder refuses %v", c.mode, g.Status().ByHand)
			}
		}
	})
}

// An order for all pools is one for those that have a shedder; bringing back is for all.
func TestShedByHandLeavesOutPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old", "b=old"))
		w.site.Listeners["raw"] = &site.Listener{Name: "raw", Protocol: "tcp"}
		out := func() (words string) {
			for _, p := range w.viewOverload(w.site, time.Now()).Pools {
				for class := range p.ByHand {
					words += p.Pool + " " + class + " "
				}
			}
			return words
		}
		for _, c := range []struct {
			a, b string // modes
			off  bool
			err  error
			out  string
		}{
			{"off", "", false, nil, "b low "},
			{"tcp", "off", false, errNoPool, ""},
			{"tcp", "", false, nil, "b low "},
			{"off", "off", false, errNoPool, ""},
			{"off", "off", true, nil, ""},
			{"", "", true, nil, ""},
		} {
			w.site.Pools["a"].Shed.Mode, w.site.Pools["b"].Shed.Mode = c.a, c.b
			w.site.Routes[0].Listeners = nil
			if c.a == "tcp" {
				w.site.Routes[0].Listeners = []string{"raw"}
			}
			until := time.Now().Add(time.Minute)
			if c.off {
				until = time.Time{}
			}
			if err := w.Shed("", "low", until); !errors.Is(err, c.err) || out() != c.out {
				t.Errorf("modes %q and %q: %v, out is %q", c.a, c.b, err, out())
			}
		}
	})
}
