package degrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// world plays a set second by second.
type world struct {
	*Set
	now    time.Time
	events []string
	firing string // an alert of shop
}

func (w *world) fires(names []string, labels map[string]string) string {
	if slices.Contains(names, w.firing) && (labels["route"] == "" || labels["route"] == "shop") {
		return w.firing + " (route shop)"
	}
	return ""
}

func newWorld(cfg map[string]*site.Switch) *world {
	w := &world{now: time.Unix(1e9, 0)}
	w.Set = New(func(text string) { w.events = append(w.events, fmt.Sprintf("%ds: %s", w.now.Unix()-1e9, text)) })
	w.Update(cfg, w.now)
	return w
}

func (w *world) play(seconds int, p Pressure) {
	for range seconds {
		w.Step(w.now, Senses{Pressure: func(string) Pressure { return p }, Fires: w.fires})
		w.now = w.now.Add(time.Second)
	}
}

func (w *world) told() string {
	s := strings.Join(w.events, "\n")
	w.events = nil
	return s
}

func TestOverloadTurnsOnAndCalmTurnsOff(t *testing.T) {
	w := newWorld(map[string]*site.Switch{
		"extras": {Pool: "shop", When: "overloaded", After: 2 * time.Second, Back: 10 * time.Second},
		"images": {Pool: "shop", When: "low_off", After: 0, Back: 10 * time.Second},
		"hand":   {},
	})
	w.play(5, Pressure{})
	w.play(2, Pressure{Overloaded: true}) // too short
	w.play(1, Pressure{})
	w.play(3, Pressure{Overloaded: true})
	w.play(2, Pressure{LowOff: true})
	for range 20 { // flapping keeps it on
		w.play(5, Pressure{})
		w.play(1, Pressure{Overloaded: true})
	}
	w.play(20, Pressure{})
	want := `10s: switch extras is on: pool shop is overloaded
11s: switch images is on: low requests of pool shop are refused
23s: switch images is off: pool shop is well
143s: switch extras is off: pool shop is well`
	if got := w.told(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAlertsTurnOnAndTheirEndTurnsOff(t *testing.T) {
	w := newWorld(map[string]*site.Switch{
		"burns":  {Alerts: []string{"burn-page", "many-503"}, After: 2 * time.Second, Back: 10 * time.Second},
		"either": {Pool: "shop", Alerts: []string{"many-503"}, Back: 10 * time.Second},
		"other":  {Alerts: []string{"many-503"}, Labels: map[string]string{"route": "search"}, Back: 10 * time.Second},
	})
	for i, want := range []string{"none of its alerts fires", "pool shop is well, and none of its alerts fires", "none of its alerts fires"} {
		if w.play(1, Pressure{}); w.Status(w.now)[i].Why != want {
			t.Errorf("%+v, want %s", w.Status(w.now)[i], want)
		}
	}
	w.firing = "many-503"
	w.play(5, Pressure{})
	w.firing = ""
	w.play(5, Pressure{})
	w.play(1, Pressure{Overloaded: true})
	w.firing = "burn-page"
	w.play(3, Pressure{})
	w.firing = ""
	w.play(20, Pressure{})
	want := `3s: switch either is on: alert many-503 (route shop) fires
5s: switch burns is on: alert many-503 (route shop) fires
24s: switch either is off: pool shop is well, and none of its alerts fires
27s: switch burns is off: none of its alerts fires`
	if got := w.told(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHoldStandsAboveTheRest(t *testing.T) {
	w := newWorld(map[string]*site.Switch{"extras": {Pool: "shop", Back: 5 * time.Second}})
	hold := func(on bool, d time.Duration) {
		h := Hold{On: on, By: "hand"}
		if d > 0 {
			h.Until = w.now.Add(d)
		}
		if err := w.Hold("extras", h, w.now); err != nil {
			t.Fatal(err)
		}
	}
	hold(true, 10*time.Second)
	if s := w.Status(w.now)[0]; !s.On || s.By != "hand" || s.Until.IsZero() || s.Changes != 1 {
		t.Errorf("%+v", s)
	}
	w.play(15, Pressure{})
	w.play(3, Pressure{Overloaded: true})
	hold(false, 10*time.Second)
	w.play(12, Pressure{Overloaded: true})
	hold(false, 10*time.Second)
	hold(false, 0)
	want := `0s: switch extras is on: set on by hand
10s: switch extras is off: pool shop is well
15s: switch extras is on: pool shop is overloaded
18s: switch extras is off: set off by hand
28s: switch extras is on: pool shop is overloaded
30s: switch extras is off: set off by hand
30s: switch extras is on: pool shop is overloaded`
	if got := w.told(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := w.Hold("nothing", Hold{}, w.now); err == nil {
		t.Error("an unknown switch was set")
	}
}

func TestGroupsTellNames(t *testing.T) {
	cfg := map[string]*site.Switch{"a": {}, "b": {}, "c": {}}
	w := newWorld(cfg)
	g := w.Group([]string{"c", "a"}, w.now)
	if g.Value() != nil || w.Group(nil, w.now) != nil {
		t.Error("something is on")
	}
	on := Hold{On: true, Until: w.now.Add(time.Hour), By: "hand"}
	for _, name := range []string{"a", "b", "c"} {
		if err := w.Hold(name, on, w.now); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(g.Value()); got != "c, a" {
		t.Errorf("told %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { g.Value() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	delete(cfg, "c")
	w.Update(cfg, w.now) // a reload: what is on stays on
	if got := string(w.Group([]string{"a"}, w.now).Value()); got != "a" {
		t.Errorf("after a reload %q", got)
	}
}
