package console

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// still is the fake load at the height of its wave.
func stillLoad() Overload {
	f := newFakeNode()
	f.now = func() time.Time { return time.Unix(600*2_000_000+44, 0).UTC() }
	return f.load(f.now()).settle()
}

// TestExplanationIsNeverNull: who reads lists of a request that meets nothing gets empty ones.
func TestExplanationIsNeverNull(t *testing.T) {
	h := New(Deps{Explain: func(Question) (Explanation, error) { return Explanation{}, nil }})
	if w := ask(h, "GET", "/api/v1/limits/explain?path=/"); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "null") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOverloadJSON(t *testing.T) {
	text, err := json.MarshalIndent(stillLoad(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "overload.json", string(text)+"\n")
	empty, _ := json.Marshal(Overload{}.settle())
	if strings.Contains(string(empty), "null") {
		t.Errorf("a list is null: %s", empty)
	}
	empty, _ = json.Marshal(Series{}.settle())
	if strings.Contains(string(empty), "null") {
		t.Errorf("a column is null: %s", empty)
	}
}

func TestOverloadIsBounded(t *testing.T) {
	var o Overload
	for i := range 3 * RefusedLimit {
		o.Refused = append(o.Refused, RefusedLoad{Stage: "limit", Limit: fmt.Sprint(i), RPS: float64(i)})
	}
	l := LimitLoad{Name: "all"}
	for i := range 50 {
		l.Top = append(l.Top, KeyLoad{fmt.Sprint(i), uint64(i)})
	}
	o.Limits = []LimitLoad{l}
	s := o.settle()
	if len(s.Refused) != RefusedLimit || s.Refused[0].RPS != 3*RefusedLimit-1 {
		t.Errorf("%d kinds, first %v", len(s.Refused), s.Refused[0])
	}
	if top := s.Limits[0].Top; len(top) != TopLimit || top[0].Key != "49" {
		t.Errorf("%d keys, first %v", len(top), top[0])
	}
	if o.Refused[0].RPS != 0 || len(o.Limits[0].Top) != 50 && o.Limits[0].Top[0].Key != "0" {
		t.Error("settling wrote into what the node keeps")
	}
}

func TestJudge(t *testing.T) {
	class := func(name string, asked, shed float64) ClassLoad {
		return ClassLoad{Class: name, DemandRPS: asked, AdmittedRPS: asked - shed, RefusedRPS: shed, ShedRPS: shed}
	}
	for _, c := range []struct {
		p                  PoolLoad
		state, why, advice string
	}{
		{PoolLoad{}, LoadCalm, "", ""},
		{PoolLoad{Limit: 40, InFlight: 12}, LoadCalm, "", ""},
		{PoolLoad{Limit: 40, InFlight: 36}, LoadNear, "little room", ""},
		{PoolLoad{Limit: 1, InFlight: 1}, LoadCalm, "", ""},
		{PoolLoad{Limit: 40, InFlight: 40, Waiting: 3, QueueMS: 4}, LoadNear, "after waiting up to 4.0 ms", ""},
		{PoolLoad{Limit: 40, InFlight: 40, Waiting: 3, Behind: true, CapacityPerSecond: 100}, LoadOver, "about 100/s can be done", "queue should empty"},
		{PoolLoad{LowOff: true}, LoadNear, "low requests are refused as a whole", ""},
		{PoolLoad{Classes: []ClassLoad{class("critical", 10, 0), class("low", 100, 40)}}, LoadOver, "40% of low", "Nothing has to be done"},
		{PoolLoad{Classes: []ClassLoad{class("standard", 100, 10), class("low", 100, 100)}}, LoadOver, "all low, 10% of standard", "Critical requests all pass"},
		{PoolLoad{Classes: []ClassLoad{class("critical", 100, 10)}}, LoadOver, "10% of critical", "Even critical"},
		{PoolLoad{Classes: []ClassLoad{class("critical", 100, 10)}, ByHand: map[string]time.Time{"standard": time.Unix(1, 0)}}, LoadOver, "10% of critical", "add endpoints"},
	} {
		c.p.State, c.p.Why = c.p.judge()
		if c.p.State != c.state || !strings.Contains(c.p.Why, c.why) || c.why == "" && c.p.Why != "" {
			t.Errorf("%+v is %s, %q; want %s, %q", c.p, c.p.State, c.p.Why, c.state, c.why)
		}
		if got := c.p.advice(); !strings.Contains(got, c.advice) || c.advice == "" && got != "" {
			t.Errorf("%+v: advice %q, want %q", c.p, got, c.advice)
		}
	}
	o := Overload{Guard: &GuardLoad{Overloaded: true, Why: "memory"}}
	if state, why := o.judge(); state != LoadOver || !strings.Contains(why, "itself is overloaded: memory") {
		t.Errorf("guard: %s, %s", state, why)
	}
	o = Overload{Pools: []PoolLoad{{Pool: "a", State: LoadNear}, {Pool: "b", State: LoadOver, Why: "x"}, {Pool: "c", State: LoadOver}, {Pool: "d", State: LoadOver}, {Pool: "e", State: LoadOver}}}
	if state, why := o.judge(); state != LoadOver || why != "4 pools, first b, c, d" {
		t.Errorf("pools: %s, %s", state, why)
	}
	o = Overload{Refused: []RefusedLoad{{Stage: "limit", RPS: 3}, {Stage: "bulkhead", RPS: 400}, {Stage: "bulkhead", RPS: 1}, {Stage: "screen"}}}
	if state, why := o.judge(); state != LoadCalm || why != "there is room for all that is not refused by bulkhead and limit" {
		t.Errorf("%s, %s", state, why)
	}
}

func TestShedAPI(t *testing.T) {
	const on = "/api/v1/shed?class=low&for=10m"
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"POST", on, 200, `"class": "low"`},
		{"POST", on + "&pool=shop", 200, `"pool": "shop"`},
		{"POST", "/api/v1/shed?class=standard&for=24h", 200, `"class": "standard"`},
		{"POST", "/api/v1/shed?class=low&off=true", 200, `"switched": []`},
		{"GET", "/api/v1/shed", 200, `"switched": []`},
		{"POST", on + "&pool=none", 404, "unknown_pool"},
		{"POST", "/api/v1/shed?class=critical&for=10m", 400, "bad_shed"},
		{"POST", "/api/v1/shed?class=high&for=10m", 400, "bad_shed"},
		{"POST", "/api/v1/shed?class=low", 400, "bad_shed"},
		{"POST", "/api/v1/shed?class=low&for=25h", 400, "bad_shed"},
		{"POST", "/api/v1/shed?class=low&for=0s", 400, "bad_shed"},
		{"POST", "/api/v1/shed?class=low&for=-3m", 400, "bad_shed"},
		{"POST", "/api/v1/shed?class=low&for=soon", 400, "bad_shed"},
		{"DELETE", "/api/v1/shed", 405, "method_not_allowed"},
		{"GET", "/api/v1/overload", 200, `"series": [`},
		{"GET", "/api/v1/overload?since=2026-01-31T09:00:00Z&pool=shop", 200, `"pool": "shop"`},
		{"GET", "/api/v1/overload?since=yesterday", 400, "bad_since"},
		{"GET", "/api/v1/overload?pool=none", 404, "unknown_pool"},
		{"GET", "/overload", 200, "Requests per second"},
		{"GET", "/overload?span=10m", 200, "data-live=\"/live/overload?span=10m\""},
	} {
		w := ask(New(newRig().deps), c.method, c.path)
		if w.Code != c.status || c.status >= 400 && reason(w) != c.want || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: status %d, want %d with %q: %s", c.method, c.path, w.Code, c.status, c.want, w.Body)
		}
	}
	h := New(Deps{Listen: "127.0.0.1:7600"})
	if w := ask(h, "POST", on); w.Code != 501 {
		t.Errorf("a node that sheds nothing by hand: %d", w.Code)
	}
	if w := ask(h, "GET", "/overload"); w.Code != 200 || !strings.Contains(w.Body.String(), "No pools") || !strings.Contains(w.Body.String(), "nothing to draw yet") {
		t.Errorf("an empty node: %d", w.Code)
	}
}

func TestClientSheds(t *testing.T) {
	s := httptest.NewServer(New(newRig().deps))
	defer s.Close()
	c := NewClient(s.URL, "")
	list, err := c.Shed(t.Context(), "shop", "low", 10*time.Minute)
	if err != nil || len(list) != 1 || list[0].Pool != "shop" || list[0].Class != "low" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := c.Shed(t.Context(), "none", "low", time.Minute); err == nil || !strings.Contains(err.Error(), "unknown_pool") {
		t.Errorf("an unknown pool: %v", err)
	}
	if list, err = c.Shed(t.Context(), "shop", "low", 0); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if list, err = c.Switched(t.Context()); err != nil || list == nil {
		t.Errorf("%v, %v", list, err)
	}
}

func TestSlots(t *testing.T) {
	at, values := []int64{1000, 1001, 1003, 1004, 1004}, []float64{1, 2, 4, 5, 7}
	got := slots(at, values, 1005, chartSlots)
	if tail := fmt.Sprint(got[chartSlots-7:]); tail != "[NaN 1 2 2 4 6 6]" {
		t.Errorf("the end is %s", tail)
	}
	if got := slots(at, values, 1004, 600); latest(got) != 3.8 {
		t.Errorf("five seconds in one slot give %v", got[chartSlots-3:])
	}
	for v, want := range map[float64]float64{0: 1, .3: .3, 1: 1, 1.2: 1.5, 37: 40, 620: 800, 999: 1000, 3001: 4000, math.NaN(): 1, math.Inf(1): 1} {
		if got := niceTop(v); math.Abs(got-want) > 1e-9*want {
			t.Errorf("the scale of %v ends at %v, want %v", v, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	nan := math.NaN()
	if got := linePath([]float64{nan, 0, 5, 5, nan, 10}, 10); got != "M10 300l10-150h10M50 0" {
		t.Errorf("line %q", got)
	}
	if got := areaPath([]float64{0, 0, 0, 0}, []float64{nan, 10, 0, nan}, 10); got != "M10 0l10 300h-10Z" {
		t.Errorf("area %q", got)
	}
	if got := areaPath([]float64{0, 0}, []float64{nan, 10}, 10); got != "" {
		t.Errorf("an area of one point: %q", got)
	}
}

// However much there is to show, what the stream sends each second stays small.
func TestOverloadPageIsBounded(t *testing.T) {
	rig := newRig()
	c := New(rig.deps)
	w := ask(c, "GET", "/overload?span=10m")
	if n := w.Body.Len(); n > 60_000 {
		t.Errorf("two pools take %d bytes", n)
	}
	view := rig.node.View
	rig.deps.View = func() View {
		v := view()
		for i := range 300 {
			p := v.Overload.Pools[1]
			p.Pool = fmt.Sprintf("pool-%03d", i)
			v.Overload.Pools = append(v.Overload.Pools, p)
			v.Overload.Limits = append(v.Overload.Limits, LimitLoad{Name: p.Pool, By: []string{"ip"}})
			v.Overload.Refused = append(v.Overload.Refused, RefusedLoad{Stage: "limit", Reason: "rate", Limit: p.Pool, Count: uint64(i)})
		}
		return v
	}
	w = ask(New(rig.deps), "GET", "/overload")
	if n := w.Body.Len(); n > 450_000 {
		t.Errorf("300 pools take %d bytes", n)
	}
	if !strings.Contains(w.Body.String(), "more pools; all are in") {
		t.Error("the page does not say that there are more pools")
	}
}
