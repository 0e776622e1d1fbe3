package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// show answers with what arrived.
func show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "secret/1.0")
	w.Header().Set("X-Inner", "internal")
	fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-Id", "Traceparent", "X-Added", "X-Gone", "X-Set", "Connection"} {
		for _, v := range r.Header[http.CanonicalHeaderKey(name)] {
			fmt.Fprintf(w, "%s: %s\n", name, v)
		}
	}
}

// TestRoutes asks for everything that a route can do, in every version of HTTP.
func TestRoutes(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.pair("web", "localhost", "127.0.0.1")
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}, secure: {listen: "127.0.0.1:0", tls: {certificates: [{cert: %q, key: %q}]}}}
pools: {show: {endpoints: [%q]}, none: {endpoints: ["127.0.0.1:%s"]}}
routes:
  - {name: to-tls, hosts: [old.example], redirect: {scheme: https}}
  - {name: moved, paths: [/moved/*], redirect: {path: /new, status: 301}}
  - {name: text, paths: [/text], respond: {status: 418, body: "a teapot\n", headers: {X-Pot: tea}}}
  - {name: rewritten, paths: [/api/*], pool: show, rewrite: {prefix: /v1, host: inner.example}}
  - {name: whole, paths: [/whole], pool: show, rewrite: {path: /other}}
  - {name: edited, paths: [/edit], pool: show, request: {remove: [X-Gone], set: {X-Set: ours}, add: {X-Added: more}}, response: {remove: [Server, X-Inner], set: {X-Frame-Options: DENY}}}
  - {name: nobody, paths: [/nobody], pool: none}
  - {name: small, paths: [/small], pool: show, body_bytes: 10B}
  - {name: shown, paths: [/, /show], pool: show}
`, cert, key, service(t, show), freePort(t)))
	for _, f := range fronts(t, g, a) {
		t.Run(f.name, func(t *testing.T) { routes(t, f) })
	}
}

func routes(t *testing.T, f front) {
	scheme, _, _ := strings.Cut(f.url, ":")
	host := strings.TrimPrefix(f.url, scheme+"://")
	for _, c := range []struct {
		path   string
		fields []string
		status int
		want   []string // parts of the body, or Field: value of the head; !: not
	}{
		{"/a?b=c", []string{"Host", "old.example:8080"}, 308, []string{"Location: https://old.example/a?b=c"}},
		{"/moved/x?y=1", nil, 301, []string{"Location: " + f.url + "/new?y=1"}},
		{"/text", nil, 418, []string{"X-Pot: tea", "a teapot\n"}},
		{"/api/carts?id=1", nil, 200, []string{"GET /v1/carts?id=1\n", "Host: inner.example\n", "X-Forwarded-Host: " + host + "\n"}},
		{"/api", nil, 200, []string{"GET /v1\n"}},
		{"/whole?q", nil, 200, []string{"GET /other?q\n", "Host: " + host + "\n"}},
		{"/edit", []string{"X-Gone", "1", "X-Set", "theirs", "X-Added", "one"}, 200, []string{"!X-Gone", "X-Set: ours\n", "!theirs", "X-Added: one\nX-Added: more\n", "!Server:", "!X-Inner", "X-Frame-Options: DENY"}},
		{"/", []string{"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-Id", "mine-7"}, 200,
			[]string{"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n", "X-Request-Id: mine-7\n", "X-Forwarded-Proto: " + scheme + "\n", "X-Inner: internal"}},
		{"/", []string{"X-Forwarded-For", "1.2.3.4", "X-Forwarded-Proto", "gopher", "Forwarded", "for=1.2.3.4"}, 200, []string{"X-Forwarded-For: 127.0.0.1\n", "!1.2.3.4", "!gopher"}},
		{"/nobody", nil, 502, []string{"Content-Type: application/problem+json", `"reason":"connect_failed"`, "!127.0.0.1", "!refused", "!dial"}},
		{"/nobody", []string{"Accept", "text/html,*/*"}, 502, []string{"Content-Type: text/plain", "Reason: connect_failed\n", "Request: ", "!127.0.0.1"}},
		{"/nowhere", []string{"X-Request-Id", "mine-8"}, 404, []string{`"reason":"no_route"`, `"request_id":"mine-8"`, "X-Request-Id: mine-8"}},
		{"/a/../b", nil, 400, []string{`"reason":"ambiguous_path"`}},
	} {
		resp, body := f.ask(t, f.request(t, "GET", c.path, nil, c.fields...))
		var head strings.Builder
		_ = resp.Header.Write(&head)
		all := strings.ReplaceAll(head.String(), "\r\n", "\n") + "\n" + body
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d\n%s", c.path, resp.Status, c.status, all)
		}
		for _, want := range c.want {
			part, not := strings.CutPrefix(want, "!")
			if strings.Contains(all, part) == not {
				t.Errorf("%s %q: want %q in\n%s", c.path, c.fields, want, all)
			}
		}
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
			var problem struct {
				Status    int
				RequestID string `json:"request_id"`
			}
			if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Status != c.status || problem.RequestID == "" || problem.RequestID != resp.Header.Get("X-Request-Id") {
				t.Errorf("%s: the problem is %+v, %v", c.path, problem, err)
			}
		}
	}
	if resp, body := f.ask(t, f.request(t, "POST", "/small", strings.NewReader("more than ten"))); resp.StatusCode != 413 || !strings.Contains(body, `"reason":"body_too_large"`) {
		t.Errorf("a large body: %s %s", resp.Status, body)
	}
}

// TestTrustedProxies has evenkeel behind a proxy that it believes.
func TestTrustedProxies(t *testing.T) {
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {show: {endpoints: [%q]}}
identify: {trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]}
`, service(t, show)))
	for _, f := range fronts(t, g, nil) {
		_, body := f.ask(t, f.request(t, "GET", "/", nil, "X-Forwarded-For", "192.0.2.1, 10.0.0.7", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "shop.example"))
		for _, want := range []string{"X-Forwarded-For: 192.0.2.1, 10.0.0.7, 127.0.0.1\n", "X-Forwarded-Proto: https\n", "X-Forwarded-Host: shop.example\n"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: want %q in\n%s", f.name, want, body)
			}
		}
	}
}
