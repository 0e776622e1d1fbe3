package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

var tableRoutes = []*site.Route{
	{Name: "exact", Hosts: []string{"shop.example"}, Paths: []string{"/login"}, Pool: "shop"},
	{Name: "post", Hosts: []string{"shop.example"}, Paths: []string{"/api/*"}, Methods: []string{"POST", "PUT"}, Pool: "shop"},
	{Name: "beta", Hosts: []string{"shop.example"}, Paths: []string{"/api/*"}, Headers: map[string]string{"X-Beta": "yes"}, Pool: "shop"},
	{Name: "keyed", Hosts: []string{"shop.example"}, Paths: []string{"/api/*"}, Headers: map[string]string{"X-Key": "*"}, Pool: "shop"},
	{Name: "api", Hosts: []string{"shop.example", "*.shop.example"}, Paths: []string{"/api/*", "/v1/*"}, Pool: "shop"},
	{Name: "deep", Hosts: []string{"*.eu.shop.example"}, Pool: "shop"},
	{Name: "wild", Hosts: []string{"*.shop.example"}, Pool: "shop"},
	{Name: "early", Paths: []string{"/early/*"}, Pool: "shop"},
	{Name: "root", Hosts: []string{"shop.example"}, Paths: []string{"/"}, Pool: "shop"},
	{Name: "other", Listeners: []string{"elsewhere"}, Pool: "shop"},
	{Name: "space", Paths: []string{"/a b/*"}, Pool: "shop"},
	{Name: "rest", Hosts: []string{"shop.example"}, Paths: []string{"/*"}, Pool: "shop"},
}

func TestRouteTable(t *testing.T) {
	// The same with so many routes that paths are indexed.
	many := tableRoutes
	for i := range 50 {
		many = append(many, &site.Route{Name: fmt.Sprint("more", i), Hosts: []string{"shop.example"}, Paths: []string{fmt.Sprintf("/more/%d/*", i)}, Pool: "shop"})
	}
	for size, routes := range map[string][]*site.Route{"few": tableRoutes, "many": many} {
		st := newStages(new(fakePool), routes...)
		h := st.serveHTTP(ok)
		for _, c := range []struct{ head, want string }{
			{"GET /login HTTP/1.1\nHost: shop.example", "exact"},
			{"GET /login/x HTTP/1.1\nHost: shop.example", "rest"},
			{"GET /log%69n HTTP/1.1\nHost: shop.example", "exact"},
			{"GET //login HTTP/1.1\nHost: shop.example", "exact"},
			{"GET /login HTTP/1.1\nHost: SHOP.example.:80", "exact"},
			{"POST /api/x HTTP/1.1\nHost: shop.example", "post"},
			{"GET /api/x HTTP/1.1\nHost: shop.example", "api"},
			{"GET /api HTTP/1.1\nHost: shop.example", "api"},
			{"GET /apis HTTP/1.1\nHost: shop.example", "rest"},
			{"GET /%61pi%2fx HTTP/1.1\nHost: shop.example", "api"},
			{"GET /api\\x HTTP/1.1\nHost: shop.example", "api"},
			{"GET /api/x HTTP/1.1\nHost: shop.example\nx-beta: yes", "beta"},
			{"GET /api/x HTTP/1.1\nHost: shop.example\nX-Beta: no", "api"},
			{"GET /api/x HTTP/1.1\nHost: shop.example\nX-Key: 1", "keyed"},
			{"GET /v1/x HTTP/1.1\nHost: a.shop.example", "api"},
			{"GET /x HTTP/1.1\nHost: a.shop.example", "wild"},
			{"GET /x HTTP/1.1\nHost: a.eu.shop.example", "deep"},
			{"GET /x HTTP/1.1\nHost: eu.shop.example", "wild"},
			{"GET /early/x HTTP/1.1\nHost: nobody.example", "early"},
			{"GET /early HTTP/1.1\nHost: shop.example", "early"},
			{"GET / HTTP/1.1\nHost: shop.example", "root"},
			{"GET /a%20b/c HTTP/1.1\nHost: x", "space"},
			{"GET /.well-known/x HTTP/1.1\nHost: shop.example", "rest"},
			{"GET /...;/x HTTP/1.1\nHost: shop.example", "rest"},
			{"GET /x HTTP/1.1\nHost: nobody.example", "no_route"},
			{"GET /x HTTP/1.1\nHost: .shop.example", "no_route"},
			{"GET /a/../x HTTP/1.1\nHost: shop.example", "ambiguous_path"},
			{"GET /a/%2e%2E/x HTTP/1.1\nHost: shop.example", "ambiguous_path"},
			{"GET /a%2f..%2fx HTTP/1.1\nHost: shop.example", "ambiguous_path"},
			{"GET /a/..;v=1/x HTTP/1.1\nHost: shop.example", "ambiguous_path"},
			{"GET /a/. HTTP/1.1\nHost: shop.example", "ambiguous_path"},
			{"GET /a%00b HTTP/1.1\nHost: shop.example", "ambiguous_path"},
			{"CONNECT shop.example:443 HTTP/1.1\nHost: shop.example:443", "connect_method"},
		} {
			// A backslash is refused by strict parsers already; whoever lets it in must still not confuse routes.
			head := strings.Replace(c.head, "\\", "/", 1)
			x := request(t, head)
			if head != c.head {
				x.Request.Target = []byte("/api\\x")
			}
			got := ""
			if r := h(x); r != nil {
				got = r.Reason
			} else {
				got = x.Route.Name
			}
			if got != c.want {
				t.Errorf("%s: %q goes to %s, want %s", size, c.head, got, c.want)
			}
		}
	}
}

// TestRouteByHostField: a route that asks for the Host field finds it in HTTP/2 too, whose host is no field.
func TestRouteByHostField(t *testing.T) {
	for value, want := range map[string]bool{"a.example": true, "*": true, "b.example": false} {
		h := headerRule{"host", value}
		x := request(t, "GET / HTTP/1.1\nHost: a.example")
		if h.matches(x.Request) != want {
			t.Errorf("Host: %s: %v, want %v", value, !want, want)
		}
		x.Request.Fields = nil
		if h.matches(x.Request) != want {
			t.Errorf("Host: %s without the field: %v, want %v", value, !want, want)
		}
	}
}

func TestRedirectAndRespond(t *testing.T) {
	for _, c := range []struct{ name, head, redirect, want string }{
		{"https", "GET /a?b=c HTTP/1.1\nHost: Shop.example:8080", "scheme", "https://shop.example/a?b=c"},
		{"host", "GET /a HTTP/1.1\nHost: old.example", "host", "http://new.example:81/a"},
		{"path", "GET /a?b HTTP/1.1\nHost: old.example:80", "path", "http://old.example:80/new?b"},
		{"a query of its own", "GET /a?b HTTP/1.1\nHost: old.example:80", "query", "http://old.example:80/new?from=old&b"},
		{"two slashes name no host", "GET //evil.example/ HTTP/1.1\nHost: a", "scheme", "https://a//evil.example/"},
		{"no host", "GET / HTTP/1.0", "scheme", "no_host"},
	} {
		cfg := map[string]*site.Redirect{"scheme": {Scheme: "https"}, "host": {Host: "new.example:81"}, "path": {Path: "/new"},
			"query": {Path: "/new?from=old"}}[c.redirect]
		st := newStages(nil, &site.Route{Redirect: cfg})
		got := ""
		st.route.answer = func(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal {
			if status != 308 || len(fields) != 1 || string(fields[0].Name) != "Location" {
				t.Errorf("%s: answer %d %v", c.name, status, fields)
			}
			got = string(fields[0].Value)
			return nil
		}
		if r := st.serveHTTP(nil)(request(t, c.head)); r != nil {
			got = r.Reason
		}
		if got != c.want {
			t.Errorf("%s: redirected to %q, want %q", c.name, got, c.want)
		}
	}
	for _, c := range []struct{ from, told, want string }{
		{"10.0.0.1:9", "https", "https://a/new"}, {"10.0.0.1:9", "http", "http://a/new"}, {"10.0.0.1:9", "wss", "http://a/new"}, {"192.0.2.1:9", "https", "http://a/new"},
	} {
		st := newStages(nil, &site.Route{Redirect: &site.Redirect{Path: "/new"}})
		got := ""
		st.route.answer = func(_ *exchange.Exchange, _ int, fields []wire.Field, _ []byte) *exchange.Refusal {
			got = string(fields[0].Value)
			return nil
		}
		x := request(t, "GET / HTTP/1.1\nHost: a\nX-Forwarded-Proto: "+c.told)
		x.Client = netip.MustParseAddrPort(c.from)
		if st.serveHTTP(nil)(x); got != c.want {
			t.Errorf("from %s, which was asked by %s: redirected to %q, want %q", c.from, c.told, got, c.want)
		}
	}
	st := newStages(nil, &site.Route{Respond: &site.Respond{Status: 418, Body: "tea", Headers: map[string]string{"x-pot": "1"}}})
	said := ""
	st.route.answer = func(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal {
		said = fmt.Sprintf("%d %s: %s, %s: %s, %s", status, fields[0].Name, fields[0].Value, fields[1].Name, fields[1].Value, body)
		return nil
	}
	st.serveHTTP(nil)(request(t, "GET / HTTP/1.1\nHost: a"))
	if want := "418 X-Pot: 1, Content-Type: text/plain; charset=utf-8, tea"; said != want {
		t.Errorf("answered %q, want %q", said, want)
	}
}

func TestRewriteAndBody(t *testing.T) {
	st := newStages(new(fakePool), &site.Route{Name: "all", Paths: []string{"/old/*", "/older/*"}, Pool: "shop", BodyBytes: 10,
		Rewrite: site.Rewrite{Prefix: "/new/"}})
	h := st.serveHTTP(ok)
	x := request(t, "GET /older/a HTTP/1.1\nHost: a")
	if r := h(x); r != nil || x.Route.StripPrefix != len("/older") || string(x.Route.Prefix) != "/new" {
		t.Errorf("refusal %v, strips %d for %q", r, x.Route.StripPrefix, x.Route.Prefix)
	}
	if r := h(request(t, "GET /%6fld/a HTTP/1.1\nHost: a")); r != refuseAmbiguousPath {
		t.Errorf("a prefix that is there only once decoded: %v, want ambiguous_path", r)
	}
	if r := h(request(t, "POST /old/a HTTP/1.1\nHost: a\nContent-Length: 11")); r != refuseBody {
		t.Errorf("a body of 11 bytes: %v, want body_too_large", r)
	}
	if r := h(request(t, "POST /old/a HTTP/1.1\nHost: a\nContent-Length: 10")); r != nil {
		t.Errorf("a body of 10 bytes: %v", r)
	}
}

func TestL4Route(t *testing.T) {
	st := newStages(new(fakePool),
		&site.Route{Name: "a", Hosts: []string{"a.example"}, Pool: "shop"},
		&site.Route{Name: "http", Paths: []string{"/*"}, Pool: "shop"},
		&site.Route{Name: "rest", Pool: "shop"})
	for sni, want := range map[string]string{"A.example": "a", "": "rest", "b.example": "rest"} {
		x := &exchange.Exchange{Listener: &site.Listener{Name: "web"}, SNI: sni, Protocol: exchange.TCP, Client: netip.MustParseAddrPort("192.0.2.1:1")}
		if r := st.serveL4(ok)(x); r != nil || x.Route.Name != want {
			t.Errorf("sni %q goes to %v (%v), want %s", sni, x.Route, r, want)
		}
	}
}

func FuzzMatchPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e./x", "/a//b", "/%", "/%2", "/..%5cx", "/a%00", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		view, ok := matchPath([]byte(path), nil)
		if !ok {
			return
		}
		for _, segment := range strings.Split(string(view), "/") {
			name, _, _ := strings.Cut(segment, ";")
			if name == "." || name == ".." {
				t.Errorf("%q is shown as %q, which has a dot segment", path, view)
			}
		}
		if strings.Contains(string(view), "//") {
			t.Errorf("%q is shown as %q", path, view)
		}
	})
}

func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		var routes []*site.Route
		for i := range n {
			routes = append(routes, &site.Route{Name: fmt.Sprint(i), Hosts: []string{"shop.example"}, Paths: []string{fmt.Sprintf("/service%d/v1/*", i)}, Pool: "shop"})
		}
		st := newStages(new(fakePool), routes...)
		x := request(b, fmt.Sprintf("GET /service%d/v1/items?id=1 HTTP/1.1\nHost: shop.example", n-1))
		x.Host, x.Path = x.Request.Host, pathOf(x.Request.Target)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if st.route.Serve(x, exchange.Then(ok)) != nil {
					b.Fatal("no route")
				}
			}
		})
	}
}

func BenchmarkStages(b *testing.B) {
	st := newStages(new(fakePool), &site.Route{Name: "all", Pool: "shop"})
	h := st.serveHTTP(ok)
	x := request(b, "GET /a/b?c=d HTTP/1.1\nHost: shop.example\nUser-Agent: x\nAccept: */*")
	r := x.Request
	b.ReportAllocs()
	for b.Loop() {
		h(x)
		x.Reset()
		x.Request = r
	}
}
