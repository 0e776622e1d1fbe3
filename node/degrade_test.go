package node

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// A shedder that only counts tells by what it would refuse that its pool is overloaded.
func TestPressureOfADryRun(t *testing.T) {
	g := shed.New("shop", shed.Settings{Shed: site.Shed{Mode: site.ModeDryRun, Max: 1, Fair: "off"}}, shed.Deps{})
	n := &Node{gates: map[string]*shed.Gate{"shop": g}, would: map[string]uint64{}}
	if p := n.pressure("none"); p.Overloaded || p.LowOff {
		t.Errorf("a pool that is not protected: %+v", p)
	}
	n.pressure("shop")
	var nested func(depth int) exchange.Handler
	nested = func(depth int) exchange.Handler {
		return func(x *exchange.Exchange) *exchange.Refusal {
			if depth == 0 {
				return nil
			}
			return g.Serve(request(t, "GET / HTTP/1.1\nHost: a"), exchange.Then(nested(depth-1)))
		}
	}
	if p := n.pressure("shop"); p.Overloaded {
		t.Errorf("without requests: %+v", p)
	}
	nested(12_000)(nil) // more than any queue would take
	if p := n.pressure("shop"); !p.Overloaded {
		t.Errorf("with 12,000 at once where one is right: %+v", p)
	}
	if p := n.pressure("shop"); p.Overloaded {
		t.Errorf("and then without: %+v", p)
	}
}

// TestAlertsTurnSwitches: an alert that fires turns on what names it, and what wants other labels stays; a sample turns nothing.
func TestAlertsTurnSwitches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old")
		s.Guard.Mode = site.ModeOff
		turned := func(labels map[string]string) *site.Switch {
			return &site.Switch{Alerts: []string{alert.ReloadFailed, alert.Many503}, Labels: labels, After: 2 * time.Second, Back: 30 * time.Second}
		}
		s.Switches = map[string]*site.Switch{"any": turned(nil), "one": turned(map[string]string{"route": "none"}), "ticket": turned(map[string]string{"severity": "ticket"})}
		f := newTraffic(t, s)
		f.healthy()
		on := func() (names []string) {
			for _, one := range f.knobs.Status(time.Now()) {
				if one.On {
					names = append(names, one.Name+": "+one.Why)
				}
			}
			return names
		}
		is := func(want ...string) func() bool { return func() bool { return slices.Equal(on(), want) } }
		rule := alert.Shipped()[slices.IndexFunc(alert.Shipped(), func(r alert.Rule) bool { return r.Name == alert.Many503 })]
		f.alerting.mu.Lock()
		f.alerting.set.Try(time.Now(), time.Now().Add(time.Minute), rule)
		f.alerting.mu.Unlock()
		f.run(t, 30*time.Second)
		if !slices.Contains(f.firing(), alert.Many503) || !is()() {
			t.Errorf("while a sample fires, on are %q; firing are %q", on(), f.firing())
		}
		f.nextErr = errors.New("site.yaml:3:1: no")
		_ = f.Reload()
		f.until(t, time.Minute, false, is("any: alert reload-failed fires", "ticket: alert reload-failed fires"))
		f.next, f.nextErr = f.site, nil
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		f.until(t, 3*time.Minute, false, is())
	})
}
