package site

import (
	"slices"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	const base = `
admin: {listen: "127.0.0.1:7600", token: one}
listeners: {web: {listen: ":80"}, old: {listen: ":81"}}
pools: {shop: {endpoints: ["10.0.0.1:80", "10.0.0.2:80"], tls: {}}}
routes: [{name: a, paths: [/a], pool: shop}, {name: b, paths: [/b], pool: shop, request: {set: {Authorization: x}}}, {pool: shop}]
`
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"", "", nil},
		{"token: one", "token: two", []string{"admin.token: changed"}},
		{`web: {listen: ":80"}`, `web: {listen: ":80", limits: {headers: 200}}`, []string{"listeners.web.limits.headers: 100 → 200"}},
		{`old: {listen: ":81"}`, `new: {listen: ":81"}`, []string{"listeners: - old", "listeners: + new"}},
		{`"10.0.0.2:80"]`, `"10.0.0.3:80", {address: "10.0.0.1:81"}]`,
			[]string{"pools.shop.endpoints: - 10.0.0.2:80", "pools.shop.endpoints: + 10.0.0.3:80", "pools.shop.endpoints: + 10.0.0.1:81"}},
		{`"10.0.0.2:80"]`, `{address: "10.0.0.2:80", weight: 3, zone: b}]`,
			[]string{"pools.shop.endpoints.10.0.0.2:80.weight: 1 → 3", "pools.shop.endpoints.10.0.0.2:80.zone: none → b"}},
		{", tls: {}", ", affinity: {}", []string{"pools.shop.affinity: added", "pools.shop.tls: removed"}},
		{"{name: a, paths: [/a], pool: shop}, ", "", []string{"routes: - a", "routes: - route-3", "routes: + route-2"}},
		{"{name: a, paths: [/a], pool: shop}, {name: b, paths: [/b], pool: shop, request: {set: {Authorization: x}}}",
			"{name: b, paths: [/b], pool: shop, request: {set: {Authorization: x}}}, {name: a, paths: [/a], pool: shop}", []string{"routes: order changed"}},
		{"Authorization: x", "Authorization: y", []string{"routes.b.request.set.Authorization: changed"}},
		{"paths: [/a]", "paths: [/a, /c]", []string{"routes.a.paths: + /c"}},
	} {
		text := strings.Replace(base, c.from, c.to, 1)
		old, err := Parse("old.yaml", []byte(base))
		if err != nil {
			t.Fatal(err)
		}
		changed, err := Parse("new.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := Diff(old, changed); !slices.Equal(got, c.want) {
			t.Errorf("%s → %s\ngot  %q\nwant %q", c.from, c.to, got, c.want)
		}
	}
}

func TestDiffIsBounded(t *testing.T) {
	a, err := Quick("", []string{"http://a"}, "")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Quick("", []string{"http://a"}, "")
	for range 2 * maxDiff {
		b.Pools["service"].Endpoints = append(b.Pools["service"].Endpoints, Endpoint{Address: "again:80"})
	}
	if d := Diff(a, b); len(d) != maxDiff+1 || d[maxDiff] != "and 50 more" {
		t.Errorf("%d lines: %q", len(d), d)
	}
}

func TestNear(t *testing.T) {
	for _, c := range []struct{ seen, want string }{
		{"lisen", "listen"}, {"Listen", "listen"}, {"header-timeout", "header_timeout"}, {"headerTimeout", "header_timeout"},
		{"upstreams", "pools"}, {"servers", "endpoints"}, {"poosl", "pools"}, {"crit", "critical"}, {"x", ""}, {"", ""}, {"something", ""},
	} {
		if got := Near(c.seen, []string{"", "listen", "header_timeout", "pools", "endpoints", "critical", "m"}); got != c.want {
			t.Errorf("%q: got %q, want %q", c.seen, got, c.want)
		}
	}
}
