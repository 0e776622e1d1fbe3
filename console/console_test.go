package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a console with everything plugged in, and what was asked of it.
type rig struct {
	node    *fakeNode
	reloads atomic.Int32
	drains  atomic.Int32
	deps    Deps
}

func newRig() *rig {
	r := &rig{node: newFakeNode()}
	r.deps = Deps{
		View: r.node.View, SetEndpoint: r.node.SetEndpoint, Shed: r.node.Shed, Curves: r.node.curves, Listen: "127.0.0.1:7600",
		Reload:  func() error { r.reloads.Add(1); return nil },
		Drain:   func() { r.drains.Add(1) },
		Ready:   func() (bool, string) { return true, "" },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("evenkeel_up 1\n")) }),
	}
	return r
}

// ask serves one request. fields are name, value, name, value.
func ask(h http.Handler, method, target string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:7600"
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
		}
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// reason is the reason word of a problem+json answer; empty: it is none.
func reason(w *httptest.ResponseRecorder) string {
	var p Problem
	if w.Header().Get("Content-Type") != "application/problem+json" || json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Status != w.Code {
		return ""
	}
	return p.Reason
}

func TestRoutes(t *testing.T) {
	const ep = "/api/v1/pools/shop/endpoints/10.0.1.1:8000/"
	for _, c := range []struct {
		method, path string
		status       int
		want         string // reason word of an error, else a part of the body
	}{
		{"GET", "/", 200, "<b>shop</b>"},
		{"GET", "/listeners", 200, "ends in 61 d"},
		{"GET", "/pools", 200, "least_requests"},
		{"GET", "/pools/shop", 200, "10.0.1.4:8000"},
		{"GET", "/pools/none", 404, "not_found"},
		{"GET", "/live/pools/none", 200, ""},
		{"GET", "/dependencies", 200, "Needed by"},
		{"GET", "/limits", 200, "acme-imports"},
		{"GET", "/checks", 200, "1 of 8 fail"},
		{"GET", "/zones", 200, "Zone b"},
		{"GET", "/cache", 404, "not_found"},
		{"GET", "/graph", 404, "not_found"},
		{"GET", "/config", 404, "not_found"},
		{"GET", "/alerts", 404, "not_found"},
		{"GET", "/api/v1/dependencies", 200, `"error_share"`},
		{"GET", "/api/v1/limits", 200, `"quotas"`},
		{"GET", "/api/v1/checks", 200, `"took_ms"`},
		{"GET", "/api/v1/zones", 200, `"here": true`},
		{"GET", "/api/v1/config", 404, "not_offered"},
		{"HEAD", "/", 200, ""},
		{"GET", "/assets/console.js", 200, "EventSource"},
		{"GET", "/assets/console.css", 200, "prefers-color-scheme"},
		{"GET", "/assets/mark.svg", 200, "<svg"},
		{"GET", "/assets/page.html", 404, "not_found"},
		{"GET", "/api/v1/status", 200, `"site_revision": "3f9a1c2e"`},
		{"GET", "/api/v1/listeners", 200, `"name": "web"`},
		{"GET", "/api/v1/pools", 200, `"name": "mail"`},
		{"GET", "/api/v1/pools/shop", 200, `"method": "least_requests"`},
		{"GET", "/api/v1/pools/none", 404, "unknown_pool"},
		{"GET", "/api/v1/routes", 200, `"class": "critical"`},
		{"GET", "/api/v1/events", 200, `"kind": "reload"`},
		{"POST", ep + "drain", 200, `"admin": "drain"`},
		{"POST", ep + "down", 200, `"admin": "down"`},
		{"POST", ep + "up", 200, `"admin": "up"`},
		{"POST", ep + "sideways", 404, "unknown_state"},
		{"GET", ep + "drain", 405, "method_not_allowed"},
		{"POST", "/api/v1/pools/none/endpoints/10.0.1.1:8000/up", 404, "unknown_pool"},
		{"POST", "/api/v1/pools/shop/endpoints/10.9.9.9:1/up", 404, "unknown_endpoint"},
		{"POST", "/api/v1/pools/mail/endpoints/10.0.2.3:9000/down", 409, "endpoint_not_set"},
		{"POST", "/api/v1/reload", 200, "site_revision"},
		{"GET", "/api/v1/reload", 405, "method_not_allowed"},
		{"POST", "/api/v1/drain", 202, `"draining": true`},
		{"GET", "/api/v1/drain", 405, "method_not_allowed"},
		{"DELETE", "/api/v1/status", 405, "method_not_allowed"},
		{"GET", "/metrics", 200, "evenkeel_up 1"},
		{"GET", "/healthz", 200, "alive"},
		{"GET", "/readyz", 200, "ready"},
		{"GET", "/login", 303, ""},
		{"GET", "/nowhere", 404, "not_found"},
	} {
		w := ask(New(newRig().deps), c.method, c.path)
		if w.Code != c.status {
			t.Errorf("%s %s: status %d, want %d: %s", c.method, c.path, w.Code, c.status, w.Body)
		}
		if c.status >= 400 && reason(w) != c.want || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: want %q in %s", c.method, c.path, c.want, w.Body)
		}
		if w.Header().Get("Content-Security-Policy") == "" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: the answer lacks protection: %v", c.method, c.path, w.Header())
		}
	}
}

func TestNothingPluggedIn(t *testing.T) {
	h := New(Deps{Listen: "127.0.0.1:7600"})
	for path, want := range map[string]int{"POST /api/v1/reload": 501, "POST /api/v1/drain": 501, "GET /metrics": 404, "GET /api/v1/status": 200, "GET /": 200, "GET /readyz": 200} {
		method, target, _ := strings.Cut(path, " ")
		if w := ask(h, method, target); w.Code != want {
			t.Errorf("%s: status %d, want %d", path, w.Code, want)
		}
	}
	if body := ask(h, "GET", "/api/v1/status").Body.String(); strings.Contains(body, "null") {
		t.Errorf("the empty status holds a null: %s", body)
	}
}

func TestStatusIsTheView(t *testing.T) {
	rig := newRig()
	var v View
	if err := json.Unmarshal(ask(New(rig.deps), "GET", "/api/v1/status").Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if v.Node.Name != "shop" || len(v.Pools) != 2 || len(v.Pools[0].Endpoints) != 5 || len(v.Pools[0].Endpoints[3].History) != 32 || v.Routes[1].Refused["no_healthy_endpoint"] != 12 {
		t.Errorf("the view did not come through: %+v", v)
	}
	if v.At.IsZero() {
		t.Error("the view has no time")
	}
}

func TestChangesReachTheNode(t *testing.T) {
	rig := newRig()
	h := New(rig.deps)
	ask(h, "POST", "/api/v1/pools/shop/endpoints/10.0.1.2%3A8000/drain")
	ask(h, "POST", "/api/v1/reload")
	ask(h, "POST", "/api/v1/drain")
	if rig.node.admin["shop/10.0.1.2:8000"] != AdminDrain || rig.reloads.Load() != 1 || rig.drains.Load() != 1 {
		t.Errorf("asked for: %v, %d reloads, %d drains", rig.node.admin, rig.reloads.Load(), rig.drains.Load())
	}
	// What was changed shows at once, although views are shared for a moment.
	if body := ask(h, "GET", "/api/v1/pools/shop").Body.String(); !strings.Contains(body, `"state": "draining"`) {
		t.Error("the next view does not show the change")
	}
	// A form of the page without scripts goes back to the page.
	if w := ask(h, "POST", "/api/v1/reload", "Accept", "text/html,*/*"); w.Code != 303 || w.Header().Get("Location") != "/" {
		t.Errorf("form: status %d to %q", w.Code, w.Header().Get("Location"))
	}
}

func TestRefusedReloadAndNotReady(t *testing.T) {
	rig := newRig()
	rig.deps.Reload = func() error { return errors.New("site.yaml:3:5: unknown key \"lisen\", did you mean listen?") }
	rig.deps.Ready = func() (bool, string) { return false, "pool shop: no verdict yet" }
	h := New(rig.deps)
	if w := ask(h, "POST", "/api/v1/reload"); w.Code != 422 || reason(w) != "site_refused" || !strings.Contains(w.Body.String(), "3:5") {
		t.Errorf("reload: %d %s", w.Code, w.Body)
	}
	if w := ask(h, "GET", "/readyz"); w.Code != 503 || reason(w) != "not_ready" || !strings.Contains(w.Body.String(), "no verdict yet") {
		t.Errorf("readyz: %d %s", w.Code, w.Body)
	}
	if w := ask(h, "GET", "/healthz"); w.Code != 200 {
		t.Errorf("healthz: %d", w.Code)
	}
}

func TestViewsAreShared(t *testing.T) {
	rig := newRig()
	taken := 0
	rig.deps.View = func() View { taken++; return View{} }
	at := time.Unix(1e9, 0)
	rig.deps.Now = func() time.Time { return at }
	h := New(rig.deps)
	for range 5 {
		ask(h, "GET", "/api/v1/status")
	}
	at = at.Add(viewLife)
	ask(h, "GET", "/api/v1/status")
	if taken != 2 {
		t.Errorf("the node was asked for %d views, want 2", taken)
	}
}

func TestEventsAreBounded(t *testing.T) {
	v := View{Events: make([]Event, 5*EventLimit)}.settle(time.Unix(1e9, 0))
	if len(v.Events) != EventLimit {
		t.Errorf("%d events pass, want %d", len(v.Events), EventLimit)
	}
}

// stream opens a stream on a real server and returns its lines.
func stream(ctx context.Context, t *testing.T, url string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Body.Close() })
	s := bufio.NewScanner(a.Body)
	s.Buffer(nil, 1<<20)
	return a, s
}

// serveReal serves h as a node does, on a socket.
func serveReal(t *testing.T, h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config = Server(h)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func TestStreamEndsWithItsWatcher(t *testing.T) {
	done := make(chan struct{})
	h := New(newRig().deps)
	s := serveReal(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r); close(done) }))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, lines := stream(ctx, t, s.URL+"/api/v1/stream")
	if got := a.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	var seen []string
	var v View
	for len(seen) < 2 && lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				t.Fatal(err)
			}
			seen = append(seen, countText(uint64(v.Node.UptimeS)))
		}
	}
	if len(seen) != 2 || seen[0] == seen[1] {
		t.Errorf("two views were wanted that differ, got %v", seen)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the stream goes on after its watcher left")
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	s := serveReal(t, New(newRig().deps))
	_, lines := stream(t.Context(), t, s.URL+"/live")
	if !lines.Scan() {
		t.Fatal("the stream brings nothing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Config.Shutdown(ctx); err != nil {
		t.Errorf("shutdown waits for a watcher: %v", err)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(newRig().deps)
		ctx, cancel := context.WithCancel(t.Context())
		for range watcherLimit {
			go func() {
				r := httptest.NewRequest("GET", "/api/v1/stream", nil).WithContext(ctx)
				r.Host = "localhost"
				h.ServeHTTP(httptest.NewRecorder(), r)
			}()
		}
		synctest.Wait()
		if w := ask(h, "GET", "/api/v1/stream"); w.Code != 503 || reason(w) != "too_many_watchers" {
			t.Errorf("one watcher too many: status %d", w.Code)
		}
		cancel()
		synctest.Wait()
		// All left: there is room again. This watcher leaves after its first event.
		r := httptest.NewRequest("GET", "/api/v1/stream", nil).WithContext(ctx)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 200 {
			t.Errorf("after all left: status %d", w.Code)
		}
	})
}

func TestPageHoldsNoInlineCode(t *testing.T) {
	rig := newRig()
	rig.deps = rig.node.all(rig.deps)
	h := New(rig.deps)
	for _, p := range tableOf(rig.deps) {
		path := strings.ReplaceAll(p.path, "{pool}", "shop")
		body := ask(h, "GET", path).Body.String()
		for _, bad := range []string{" style=", "<style", " onclick=", "javascript:", "src=\"http", "href=\"http:"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s holds %q, which the content security policy or the promise of no outside assets forbids", path, bad)
			}
		}
		if strings.Count(body, "<table") != strings.Count(body, "<caption") {
			t.Errorf("%s: a table has no caption", path)
		}
	}
}

func TestPageEscapes(t *testing.T) {
	rig := newRig()
	rig.deps.View = func() View {
		return View{Node: Node{Name: "<script>alert(1)</script>"}, Pools: []Pool{{Name: `a"b/c`, Endpoints: []Endpoint{{Address: "[::1]:80", Why: "<img src=x>", State: StateSick, Admin: AdminUp}}}}}
	}
	body := ask(New(rig.deps), "GET", "/").Body.String() + ask(New(rig.deps), "GET", "/pools/a%22b%2Fc").Body.String()
	if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x>") {
		t.Error("text of others became markup")
	}
	if !strings.Contains(body, "/api/v1/pools/a%22b%2Fc/endpoints/%5B::1%5D:80/drain") {
		t.Error("the form's action does not name the endpoint")
	}
}

func TestLargePoolsAreCut(t *testing.T) {
	p := Pool{Name: "large"}
	for i := range 3 * rowLimit {
		e := Endpoint{Address: countText(uint64(i)), State: StateUp}
		if i == 2*rowLimit {
			e.State = StateSick
		}
		p.Endpoints = append(p.Endpoints, e)
	}
	rows := rowsOf(p)
	if len(rows) != rowLimit || rows[0].State != StateSick || rows[1].Address != "0" {
		t.Errorf("%d rows, the first %+v", len(rows), rows[0])
	}
	if !slices.ContainsFunc(p.Endpoints[:1], func(e Endpoint) bool { return e.Address == "0" }) {
		t.Error("the view was changed")
	}
}
