package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// standingIn is a console whose node has a cache, a fallback and a switch.
func standingIn(t *testing.T) (*httptest.Server, *Client) {
	t.Helper()
	var mu sync.Mutex
	sw := FeatureSwitch{Name: "extras", Why: "nobody has set it", Since: time.Now()}
	node := httptest.NewServer(New(Deps{
		View: func() View {
			mu.Lock()
			defer mu.Unlock()
			return View{Degrade: &Degrade{
				Cache: &CacheLoad{Bytes: 1 << 20, LimitBytes: 64 << 20, Entries: 3, Routes: []CacheRoute{
					{Route: "all", Hit: 90, Stale: 5, Miss: 5, StaleWhy: map[string]uint64{"if_overloaded": 5}}}},
				Fallbacks: []FallbackLoad{{Route: "all", Kind: "respond", Used: map[string]uint64{"down": 7}}},
				Switches:  []FeatureSwitch{sw},
			}}
		},
		SetSwitch: func(name string, on bool, until time.Time, by string) error {
			mu.Lock()
			defer mu.Unlock()
			if name != "extras" {
				return errors.New("there is no switch " + name)
			}
			sw.On, sw.By, sw.Until, sw.Why = on, by, &until, "set by "+by
			if until.IsZero() {
				sw.Until = nil
			}
			return nil
		},
		Purge: func(route, prefix string) int { return len(route) + len(prefix) },
	}))
	t.Cleanup(node.Close)
	return node, NewClient(strings.TrimPrefix(node.URL, "http://"), "")
}

func TestSwitchesAndCacheOverTheAPI(t *testing.T) {
	node, c := standingIn(t)
	ctx := context.Background()
	list, err := c.SetSwitch(ctx, "extras", "on", 10*time.Minute)
	if err != nil || len(list) != 1 || !list[0].On || list[0].Until == nil || list[0].By != "hand" {
		t.Errorf("%+v %v", list, err)
	}
	if list, err = c.SetSwitch(ctx, "extras", "auto", 0); err != nil || list[0].Until != nil {
		t.Errorf("%+v %v", list, err)
	}
	if list, err = c.FeatureSwitches(ctx); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	for _, bad := range []struct {
		name, set string
		d         time.Duration
		want      string
	}{{"none", "on", time.Minute, "unknown_switch"}, {"extras", "up", 0, "bad_switch"}, {"extras", "on", 0, "too short"}, {"extras", "on", 25 * time.Hour, "up to 24h"}, {"extras", "auto", time.Minute, "takes no time"}} {
		if _, err := c.SetSwitch(ctx, bad.name, bad.set, bad.d); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	load, err := c.Cache(ctx)
	if err != nil || load.Entries != 3 || load.Routes[0].Saved() != 0.95 {
		t.Errorf("%+v %v", load, err)
	}
	if text := CacheText(load); !strings.Contains(text, "in 3 answers") || !strings.Contains(text, "95%") {
		t.Errorf("%s", text)
	}
	if n, err := c.Purge(ctx, "all", "c"); err != nil || n != 4 {
		t.Errorf("%d %v", n, err)
	}
	if n, err := c.Purge(ctx, "al", ""); err == nil || !strings.Contains(err.Error(), `no route "al" keeps answers; those that do: all (unknown_route`) {
		t.Errorf("%d %v", n, err)
	}
	if n, err := c.Purge(ctx, "", ""); err != nil || n != 0 {
		t.Errorf("%d %v", n, err)
	}
	for path, want := range map[string]int{"POST /api/v1/cache/purge": 400, "PUT /api/v1/switches": 405, "GET /api/v1/cache/purge": 405, "POST /api/v1/switches?set=on&for=soon": 400} {
		method, at, _ := strings.Cut(path, " ")
		req, _ := http.NewRequest(method, node.URL+at, nil)
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

func TestPageShowsWhatStandsIn(t *testing.T) {
	node, _ := standingIn(t)
	r, err := http.Get(node.URL + "/overload")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	for _, want := range []string{"What stands in", "On for 10 min", "down: 7", `id="switch-extras"`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	r, err = http.Get(node.URL + "/cache")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ = io.ReadAll(r.Body)
	for _, want := range []string{"if_overloaded: 5", "in 3 answers", "Purge"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("the page about the cache lacks %q", want)
		}
	}
}

func TestNothingStandsIn(t *testing.T) {
	node := httptest.NewServer(New(Deps{}))
	defer node.Close()
	c := NewClient(strings.TrimPrefix(node.URL, "http://"), "")
	if _, err := c.Cache(context.Background()); err == nil || !strings.Contains(err.Error(), "no_cache") {
		t.Errorf("%v", err)
	}
	if list, err := c.FeatureSwitches(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if _, err := c.Purge(context.Background(), "", ""); err == nil {
		t.Error("a node without a cache purges")
	}
}
