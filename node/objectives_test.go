package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// promise is an objective with the defaults of a site file.
func promise(name string, change func(*site.Objective)) *site.Objective {
	o := &site.Objective{Name: name, Kind: site.KindAvailability, Target: 0.999, Window: "30d", Limited: site.CountNeutral, MinFailures: 5,
		Shed: site.CountShed{Critical: site.CountBad, Standard: site.CountBad, Low: site.CountNeutral}}
	if change != nil {
		change(o)
	}
	return o
}

// traffic is a node in fake time that is asked ten times a second; answer says what comes of it.
type traffic struct {
	*world
	ask    exchange.Handler
	answer func(x *exchange.Exchange) *exchange.Refusal
}

func newTraffic(t *testing.T, s *site.Site, prepare ...func(n *Node)) *traffic {
	f := &traffic{world: newWorld(t, s, prepare...), answer: ok}
	f.send = func(x *exchange.Exchange) *exchange.Refusal { return f.answer(x) }
	f.ask = f.handlers(f.site, parts(f.pools))["web"]
	return f
}

func (f *traffic) run(t *testing.T, length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end); {
		for range 10 {
			f.ask(request(t, "GET / HTTP/1.1\nHost: a"))
		}
		pass(time.Second)
	}
	synctest.Wait()
}

func fail(x *exchange.Exchange) *exchange.Refusal {
	x.Outcome.Status = 500
	return nil
}

// TestObjectiveOfAPoolOverAReload: a route that failed with another pool does not spend the budget of the one that it is led to.
func TestObjectiveOfAPoolOverAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := func(pool string) *site.Site {
			s := testSite("web", "blue=old", "green=old")
			s.Routes = []*site.Route{{Name: "rest", Pool: pool}}
			s.Objectives = []*site.Objective{promise("green", func(o *site.Objective) { o.Pool = "green" })}
			return s
		}
		f := newTraffic(t, with("blue"))
		f.answer = fail
		f.run(t, 10*time.Minute)
		if f.next = with("green"); f.Reload() != nil {
			t.Fatal("no reload")
		}
		f.ask, f.answer = f.handlers(f.site, parts(f.pools))["web"], ok
		f.run(t, time.Minute)
		if v := f.viewObjectives().Objectives[0]; v.Total != 600 || v.Indicator != 1 || v.Alerts[0].Due {
			t.Errorf("a minute after the reload: %+v", v)
		}
		f.run(t, 3*time.Second) // and the reload comes before the next look
		if f.next = with("blue"); f.Reload() != nil {
			t.Fatal("no reload")
		}
		f.run(t, time.Minute)
		if v := f.viewObjectives().Objectives[0]; v.Total != 630 {
			t.Errorf("what was counted for the pool is %d requests", v.Total)
		}
	})
}

// TestOutageThroughTheNode: requests through the stages, an hour and a half of fake time, and an outage that is seen in the computed time.
func TestOutageThroughTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old")
		s.Objectives = []*site.Objective{promise("available", func(o *site.Objective) { o.Route = "to-a" })}
		f := newTraffic(t, s)
		f.run(t, 90*time.Minute)
		v := f.viewObjectives().Objectives[0]
		if v.Total < 53000 || v.Indicator != 1 || v.Left != 1 || v.Alerts[0].Due {
			t.Fatalf("after an hour and a half without a failure: %+v", v)
		}
		computed := time.Duration(v.Alerts[0].OutageS * float64(time.Second))
		if computed.Round(100*time.Millisecond) != 51800*time.Millisecond {
			t.Errorf("computed is %v", computed)
		}
		f.answer = fail
		began := time.Now()
		for !f.viewObjectives().Objectives[0].Alerts[0].Due && time.Since(began) < time.Hour {
			f.run(t, time.Second)
		}
		if took := time.Since(began); took < computed-judgeEvery || took > computed+judgeEvery {
			t.Errorf("the page came after %v, computed were %v", took, computed)
		}
		text := scrape(t, f.Node)
		for _, want := range []string{`evenkeel_slo_alert_due{objective="available",severity="page",window="1h"} 1`, `evenkeel_slo_frozen{objective="available"} 1`,
			`evenkeel_slo_target{objective="available"} 0.999`, `evenkeel_slo_good_events_total{objective="available"} 54000`} {
			if !strings.Contains(text, want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
		f.answer = ok
		f.run(t, 6*time.Minute)
		if v := f.viewObjectives().Objectives[0]; v.Alerts[0].Due || v.Left > 0 {
			t.Errorf("six minutes after the outage: %+v", v)
		}
		if !slices.ContainsFunc(f.View().Events, func(e console.Event) bool {
			return strings.HasPrefix(e.Text, "objective available: changes should wait, -")
		}) {
			t.Error("no event says that changes should wait")
		}
	})
}

// TestWhatCountsAsBad: what was shed counts as the objective says for its class, what a limit refused does not, what no endpoint
// could take does.
func TestWhatCountsAsBad(t *testing.T) {
	away := map[string]*exchange.Refusal{
		"shed": {Stage: "shed", Reason: "overloaded", Status: 503}, "limit": {Stage: "limit", Reason: "rate", Status: 429}, "screen": {Stage: "screen", Reason: "attack", Status: 403},
		"pick": {Stage: "pick", Reason: "no_healthy_endpoint", Status: 503}, "gone": {Stage: "shed", Reason: "client_gone", Status: 503},
	}
	for _, c := range []struct {
		name  string
		class exchange.Class
		obj   func(*site.Objective)
		want  map[string]string // stage: good of total
	}{
		{"standard", exchange.Standard, nil, map[string]string{"shed": "0/1", "limit": "0/0", "screen": "0/0", "pick": "0/1", "gone": "0/0", "": "1/1"}},
		{"low", exchange.Low, nil, map[string]string{"shed": "0/0", "pick": "0/1", "": "1/1"}},
		{"low counts", exchange.Low, func(o *site.Objective) { o.Shed.Low = site.CountBad }, map[string]string{"shed": "0/1"}},
		{"limits count", exchange.Critical, func(o *site.Objective) { o.Limited = site.CountBad }, map[string]string{"limit": "0/1", "screen": "0/0"}},
		{"shed ratio", exchange.Critical, func(o *site.Objective) { o.Kind = site.KindShed }, map[string]string{"shed": "0/1", "limit": "0/0", "pick": "1/1", "": "1/1"}},
		{"another class", exchange.Low, func(o *site.Objective) { o.Classes = []string{"critical"} }, map[string]string{"shed": "0/0", "": "0/0"}},
		{"latency", exchange.Low, func(o *site.Objective) { o.Kind, o.Latency = site.KindLatency, 300*time.Millisecond }, map[string]string{"shed": "0/0", "": "1/1", "slow": "0/1"}},
	} {
		for stage, want := range c.want {
			n, err := New(Options{Site: testSite("web", "a=old")})
			if err != nil {
				t.Fatal(err)
			}
			n.site.Objectives = []*site.Objective{promise("o", c.obj)}
			x := &exchange.Exchange{Class: c.class}
			status, took := 200, 10*time.Millisecond
			if stage == "slow" {
				took = 301 * time.Millisecond
			}
			if r := away[stage]; r != nil {
				status = r.Status
				n.tallies.reasons("to-a").count(r, c.class, 0)
			}
			n.tallies.get("web", "to-a").shard(0).count(x, status, away[stage] != nil, took)
			got := n.objectiveCounts(n.site, time.Now())["o"]
			if fmt.Sprintf("%d/%d", got.Good, got.Total) != want {
				t.Errorf("%s, stage %q: %d good of %d, want %s", c.name, stage, got.Good, got.Total, want)
			}
		}
	}
}

// TestProbesAndZones: probes and attempts are counted once each, and moments without a healthy endpoint are not fresh.
func TestProbesAndZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old")
		s.Objectives = []*site.Objective{
			promise("probes", func(o *site.Objective) { o.Kind, o.Pool = site.KindProbes, "a" }),
			promise("fresh", func(o *site.Objective) { o.Kind, o.Pool, o.Freshness = site.KindFreshness, "a", time.Minute }),
			promise("zone", func(o *site.Objective) { o.Pool, o.Zone = "a", "east" }),
		}
		w := newWorld(t, s)
		e := console.Endpoint{Address: "x", Zone: "east"}
		for i := range 60 {
			e.Picks, e.Failures = uint64(100*i), uint64(10*i)
			e.History = append(e.History, console.Verdict{At: time.Now(), Healthy: i < 30, Void: i == 40})
			e.History = e.History[max(0, len(e.History)-32):]
			w.show("a", e)
			pass(10 * time.Second)
			synctest.Wait()
		}
		for i, want := range []string{"30/59", "35/60", "5310/5900"} {
			v := w.viewObjectives().Objectives[i]
			if got := fmt.Sprintf("%d/%d", v.GoodCount, v.Total); got != want {
				t.Errorf("%s: %s good, want %s", v.Name, got, want)
			}
		}
	})
}

// TestTighten: with little budget left, low requests of the pool are refused, and come back when nothing asks for that any more.
func TestTighten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old")
		s.Objectives = []*site.Objective{promise("o", func(o *site.Objective) { o.Route, o.Window, o.Policy.Tighten = "to-a", "1d", 0.25 })}
		f := newTraffic(t, s)
		f.run(t, time.Minute)
		f.answer = fail
		f.run(t, 15*time.Second)
		if !f.switches.until("a", exchange.Low).After(time.Now()) {
			t.Fatal("low requests are let through although the budget is spent")
		}
		f.next = testSite("web", "a=old")
		f.next.Objectives = []*site.Objective{promise("o", func(o *site.Objective) { o.Route, o.Window = "to-a", "1d" })}
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		f.run(t, time.Minute)
		if f.switches.until("a", exchange.Low).After(time.Now()) {
			t.Error("low requests are still refused")
		}
	})
}

// TestPolicyHook: a program is told what the policy asks for, and that it does not any more, each once; one that fails is tried again with the newest.
func TestPolicyHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := filepath.Join(t.TempDir(), "told")
		s := testSite("web", "a=old")
		s.Name = "shop"
		s.Objectives = []*site.Objective{promise("o", func(o *site.Objective) {
			o.Route, o.Window, o.Policy.Hook = "to-a", "1d", &site.Hook{Command: []string{"tee", "-a", told}, Timeout: time.Minute}
		})}
		f := newTraffic(t, s)
		f.run(t, time.Minute)
		if _, err := os.Stat(told); err == nil {
			t.Error("the program was told of nothing")
		}
		read := func() (all []policyAsks) {
			body, _ := os.ReadFile(told)
			for d := json.NewDecoder(bytes.NewReader(body)); ; {
				var p policyAsks
				if d.Decode(&p) != nil {
					return all
				}
				all = append(all, p)
			}
		}
		f.answer = fail
		f.until(t, time.Minute, true, func() bool { return len(read()) > 0 })
		if p := read()[0]; p.Site != "shop" || p.Objective != "o" || !p.Freeze || p.Tighten || !p.Abort || p.Left > 0 || p.Burn < 14.4 {
			t.Errorf("told was %+v", p)
		}
		f.answer = ok
		f.until(t, 10*time.Minute, true, func() bool { return len(read()) > 1 })
		if p := read()[1]; !p.Freeze || p.Abort {
			t.Errorf("when nothing burns any more: %+v", p)
		}
		if !slices.ContainsFunc(f.View().Events, func(e console.Event) bool { return strings.HasPrefix(e.Text, "objective o: experiments may go on") }) {
			t.Error("no event says that experiments may go on")
		}
		f.run(t, time.Minute)
		if n := len(read()); n != 2 {
			t.Errorf("told %d times", n)
		}
		// After a reload a program that is new is told how it is.
		f.next = testSite("web", "a=old")
		f.next.Objectives = []*site.Objective{promise("o", func(o *site.Objective) {
			o.Route, o.Window, o.Policy.Hook = "to-a", "1d", &site.Hook{Command: []string{"tee", "-a", "--", told}, Timeout: time.Minute}
		})}
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		f.until(t, time.Minute, true, func() bool { return len(read()) > 2 })
	})
}

func TestPolicyHookThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []string
		var got []bool
		fails := 3
		h := newHook("o", &site.Hook{}, func(text string) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, text)
		})
		h.exec = func(_ context.Context, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if fails--; fails >= 0 {
				return errors.New("exit status 1")
			}
			var p policyAsks
			err := json.Unmarshal(body, &p)
			got = append(got, p.Freeze)
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = h.run(ctx); close(done) }()
		h.tell(policyAsks{Objective: "o", At: time.Now(), Abort: true})
		synctest.Wait()
		h.tell(policyAsks{Objective: "o", At: time.Now(), Freeze: true})
		pass(3 * time.Second)
		synctest.Wait()
		mu.Lock()
		if len(got) != 0 {
			t.Errorf("told %v within the first two pauses", got)
		}
		mu.Unlock()
		pass(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		if !slices.Equal(got, []bool{true}) || len(events) != 2 || !strings.Contains(events[0], "cannot be told: exit status 1") || !strings.Contains(events[1], "told again") {
			t.Errorf("told %v, events %q", got, events)
		}
		// What nobody takes is given up after two hours.
		fails = 1000
		mu.Unlock()
		h.tell(policyAsks{Objective: "o", At: time.Now()})
		pass(3 * time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if h.next != nil || fails > 1000-100 || fails < 1000-200 {
			t.Errorf("after three hours %d attempts", 1000-fails)
		}
		cancel()
		<-done
	})
}

// TestReloadKeepsObjectives: counts go on where what is counted stays, whatever the target.
func TestReloadKeepsObjectives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSite("web", "a=old")
		s.Objectives = []*site.Objective{promise("o", nil)}
		f := newTraffic(t, s)
		f.run(t, time.Minute)
		next := testSite("web", "a=old")
		next.Objectives = []*site.Objective{promise("new", nil), promise("o", func(o *site.Objective) { o.Target = 0.99 })}
		f.next = next
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		f.run(t, 15*time.Second)
		all := f.viewObjectives().Objectives
		if len(all) != 2 || all[1].Total < 650 || all[1].Target != 0.99 || all[0].Total > 250 {
			t.Errorf("%+v", all)
		}
	})
}
