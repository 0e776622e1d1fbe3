package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// get asks for a path and returns the answer with its body.
func getWith(t testing.TB, base, path string, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

// Ten thousand requests for one thing that is not stored yet are one request at the endpoint.
func TestCacheHoldsMissesTogether(t *testing.T) {
	const clients = 10_000
	var asked atomic.Int64
	enough := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-enough
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	defer service.Close()
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0", limits: {connections_per_ip: 20000, streams: 1000}}}
pools: {shop: {endpoints: [%q]}}
routes: [{name: all, pool: shop, cache: {wait: 60s}}]
`, strings.TrimPrefix(service.URL, "http://")))
	client := &http.Client{Transport: h2cTransport()}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	var good, collapsed atomic.Int64
	for range clients {
		wg.Go(func() {
			r, err := client.Get("http://" + g.at["web"] + "/thing")
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			body, _ := io.ReadAll(r.Body)
			if r.StatusCode == 200 && string(body) == "hello" {
				good.Add(1)
			}
			if strings.Contains(r.Header.Get("Cache-Status"), "collapsed") {
				collapsed.Add(1)
			}
		})
	}
	until(t, "all others wait", func() bool {
		_, text := getWith(t, "http://"+g.at["console"], "/metrics")
		return strings.Contains(text, fmt.Sprintf("\nevenkeel_cache_waiting %d\n", clients-1))
	})
	close(enough)
	wg.Wait()
	if asked.Load() != 1 || good.Load() != clients {
		t.Errorf("%d requests at the endpoint, %d good answers, %d collapsed", asked.Load(), good.Load(), collapsed.Load())
	}
}

func h2cTransport() *http.Transport {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: p}
}

// shop is a service whose answer and health a test sets.
type shop struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Value // http.HandlerFunc
	told   atomic.Value // Evenkeel-Degrade of the last request
}

func newShop(t *testing.T, answer http.HandlerFunc) *shop {
	s := &shop{}
	s.answer.Store(answer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.told.Store(r.Header.Get("Evenkeel-Degrade"))
		s.answer.Load().(http.HandlerFunc)(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shop) address() string { return strings.TrimPrefix(s.URL, "http://") }

// page answers with a text and fields.
func page(text string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		if w.Header().Get("ETag") != "" && r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, text)
	}
}

// What comes from memory is what the endpoint sent, over HTTP/1.1 and HTTP/2 alike.
func TestCacheAnswers(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections() // or the drain waits for them
	large := strings.Repeat("0123456789", 20_000)
	service := newShop(t, page(large, "Cache-Control", "max-age=60", "ETag", `"a"`, "X-Own", "1"))
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q], affinity: {cookie: at}}}
routes: [{name: all, pool: shop, cache: {}}]
`, service.address()))
	base := "http://" + g.at["web"]
	first, body := getWith(t, base, "/x")
	if body != large || first.Header.Get("Cache-Status") != "evenkeel; fwd=uri-miss; stored" || first.Header.Get("Set-Cookie") == "" {
		t.Errorf("%v", first.Header)
	}
	h2 := &http.Client{Transport: h2cTransport()}
	defer h2.CloseIdleConnections()
	for name, client := range map[string]*http.Client{"HTTP/1.1": http.DefaultClient, "HTTP/2": h2} {
		for _, method := range []string{"GET", "HEAD"} {
			req, _ := http.NewRequest(method, base+"/x", nil)
			r, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 200 || method == "GET" && string(text) != large || method == "HEAD" && len(text) > 0 || r.ContentLength != int64(len(large)) ||
				r.Header.Get("Age") == "" || !strings.Contains(r.Header.Get("Cache-Status"), "hit") || r.Header.Get("X-Own") != "1" || r.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s %s: %d, %d bytes of %d, %v", name, method, r.StatusCode, len(text), r.ContentLength, r.Header)
			}
		}
		req, _ := http.NewRequest("GET", base+"/x", nil)
		req.Header.Set("If-None-Match", `"a"`)
		r, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != 304 || r.Header.Get("ETag") != `"a"` {
			t.Errorf("%s: %d %v", name, r.StatusCode, r.Header)
		}
	}
	if service.asked.Load() != 1 {
		t.Errorf("the endpoint was asked %d times", service.asked.Load())
	}
}

// An endpoint that dies is covered by what is stale, up to its limit, and then by the fallback.
func TestCacheThenFallback(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	service := newShop(t, page("fresh", "Cache-Control", "max-age=1, stale-if-error=3"))
	spare := newShop(t, page("spare"))
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools:
  shop: {endpoints: [%q], probe: {every: 50ms, fall: 1, timeout: 1s}, panic: 0%%}
  spare: {endpoints: [%q]}
routes:
  - {name: a, paths: [/a], pool: shop, cache: {stale_if_overloaded: 0s}, fallback: {respond: {status: 200, body: sorry, headers: {X-Kind: text}}}}
  - {name: b, paths: [/b], pool: shop, fallback: {redirect: {host: status.example, scheme: https}}}
  - {name: c, pool: shop, fallback: {pool: spare, on: [down, failed]}}
`, service.address(), spare.address()))
	base := "http://" + g.at["web"]
	if _, body := getWith(t, base, "/a"); body != "fresh" {
		t.Fatalf("body %q", body)
	}
	service.CloseClientConnections()
	service.Close()
	began := time.Now()
	stale := 0
	until(t, "the fallback answers", func() bool {
		r, body := getWith(t, base, "/a")
		switch {
		case body == "sorry":
			if r.Header.Get("Evenkeel-Fallback") == "" || r.Header.Get("X-Kind") != "text" {
				t.Errorf("%v", r.Header)
			}
			return true
		case r.StatusCode != 200 || body != "fresh":
			t.Fatalf("%s %q %v", r.Status, body, r.Header)
		case strings.Contains(r.Header.Get("Cache-Status"), "ttl=-"):
			stale++
		}
		return false
	})
	if took := time.Since(began); stale == 0 || took < 2*time.Second {
		t.Errorf("%d stale answers, the fallback answered after %s", stale, took)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := client.Get(base + "/b?q=1")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 307 || r.Header.Get("Location") != "https://status.example/b?q=1" || r.Header.Get("Evenkeel-Fallback") == "" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	for _, method := range []string{"GET", "POST"} { // nothing of it reached an endpoint, so a POST may go elsewhere too
		req, _ := http.NewRequest(method, base+"/c", strings.NewReader("body"))
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != 200 || string(body) != "spare" || r.Header.Get("Evenkeel-Fallback") == "" {
			t.Errorf("%s: %d %q %v", method, r.StatusCode, body, r.Header)
		}
	}
}

// A change that the pool standing in took makes what is stored out of date, as any other.
func TestCacheForgetsWhatAFallbackChanged(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	service, spare := newShop(t, page("old", "Cache-Control", "max-age=60")), newShop(t, page("spare"))
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools:
  shop: {endpoints: [%q], probe: {every: 50ms, fall: 1, timeout: 1s}, panic: 0%%}
  spare: {endpoints: [%q]}
routes: [{name: all, pool: shop, cache: {}, fallback: {pool: spare}}]
`, service.address(), spare.address()))
	base := "http://" + g.at["web"]
	getWith(t, base, "/a")
	service.CloseClientConnections()
	service.Close()
	if r, body := getWith(t, base, "/a"); body != "old" {
		t.Fatalf("%q %v", body, r.Header)
	}
	r, err := http.Post(base+"/a", "text/plain", strings.NewReader("new"))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if got, body := getWith(t, base, "/a"); r.Header.Get("Evenkeel-Fallback") == "" || body != "spare" {
		t.Errorf("%d %v, then %q %v", r.StatusCode, r.Header, body, got.Header)
	}
}

// A request with a body is no question for a cache, also when HTTP/2 does not tell its length.
func TestCacheLetsBodiesPass(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	service := newShop(t, page("all", "Cache-Control", "max-age=60"))
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q]}}
routes: [{name: all, pool: shop, cache: {}}]
`, service.address()))
	base := "http://" + g.at["web"]
	h2 := &http.Client{Transport: h2cTransport()}
	defer h2.CloseIdleConnections()
	for name, client := range map[string]*http.Client{"HTTP/1.1": http.DefaultClient, "HTTP/2": h2} {
		for range 2 {
			req, _ := http.NewRequest("GET", base+"/search", io.MultiReader(strings.NewReader("what")))
			r, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if got := r.Header.Get("Cache-Status"); !strings.Contains(got, "fwd=bypass") {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

// A stale answer is given at once and refreshed behind it, by one request.
func TestCacheRefreshes(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	var version atomic.Int64
	service := newShop(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=1, stale-while-revalidate=60")
		fmt.Fprint(w, version.Add(1))
	})
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q]}}
routes: [{name: all, pool: shop, cache: {}}]
`, service.address()))
	base := "http://" + g.at["web"]
	getWith(t, base, "/x")
	until(t, "something is stale", func() bool {
		r, body := getWith(t, base, "/x")
		if body == "1" && strings.Contains(r.Header.Get("Cache-Status"), "fwd") {
			t.Fatalf("a client waited for a refresh: %v", r.Header)
		}
		return body == "2"
	})
	if n := service.asked.Load(); n > 4 {
		t.Errorf("%d requests", n)
	}
}

// What the shedder would refuse is answered with something stale, and the same overload turns a switch that endpoints are told of.
func TestCacheUnderOverload(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	hold := make(chan struct{})
	service := newShop(t, page("fresh", "Cache-Control", "max-age=1"))
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q], shed: {mode: on, max: 1}}}
switches: {extras: {pool: shop, after: 0s, back: 1s}}
routes:
  - {name: slow, paths: [/slow/*], pool: shop, switches: [extras]}
  - {name: all, pool: shop, cache: {}}
`, service.address()))
	base := "http://" + g.at["web"]
	if _, body := getWith(t, base, "/x"); body != "fresh" {
		t.Fatalf("body %q", body)
	}
	getWith(t, base, "/slow/1", "Evenkeel-Degrade", "everything")
	if told := service.told.Load(); told != "" {
		t.Errorf("the endpoint was told %q, which a client made up", told)
	}
	service.answer.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-hold
		io.WriteString(w, "late")
	}))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 30 { // more than the one place takes
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r, err := http.Get(base + "/slow/1"); err == nil {
					io.Copy(io.Discard, r.Body)
					r.Body.Close()
				}
			}
		})
	}
	until(t, "something stale stands in for a refusal", func() bool {
		r, body := getWith(t, base, "/x")
		if r.StatusCode != 200 || body != "fresh" {
			t.Fatalf("%s %q %v", r.Status, body, r.Header)
		}
		return strings.Contains(r.Header.Get("Cache-Status"), "detail=stale-if-overloaded")
	})
	until(t, "the switch is on", func() bool {
		_, text := getWith(t, "http://"+g.at["console"], "/api/v1/switches")
		return strings.Contains(text, `"on": true`)
	})
	service.answer.Store(page("fresh", "Cache-Control", "max-age=1"))
	close(hold)
	until(t, "the endpoint is told", func() bool {
		getWith(t, base, "/slow/1")
		return service.told.Load() == "extras"
	})
	close(stop)
	wg.Wait()
	until(t, "the switch goes off by itself", func() bool {
		_, text := getWith(t, "http://"+g.at["console"], "/api/v1/switches")
		return strings.Contains(text, `"on": false`)
	})
	getWith(t, base, "/slow/1")
	if told := service.told.Load(); told != "" {
		t.Errorf("the endpoint is told %q", told)
	}
}

// Answers on disk outlive kill -9, in the middle of writing too. What was cut off is not served, and a change is not undone.
func TestCacheOnDisk(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	service := newShop(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, strings.Repeat(r.URL.Path+" ", 2000))
	})
	dir := t.TempDir()
	file := filepath.Join(dir, "site.yaml")
	// One port for all, because it is a part of what answers are kept under.
	text := fmt.Sprintf("listeners: {web: {listen: %q}}\ncache: {disk: {path: %q, size: 16MiB}}\n"+
		"pools: {shop: {endpoints: [%q]}}\nroutes: [{name: all, pool: shop, cache: {}}]\n", "127.0.0.1:"+freePort(t), filepath.Join(dir, "cache"), service.address())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := func(path, body string) bool { return body == strings.Repeat(path+" ", 2000) }
	for round := range 3 {
		g := run(t, "-f", file)
		base := "http://" + g.at["web"]
		until(t, "an answer is on disk", func() bool {
			_, text := getWith(t, "http://"+g.at["console"], "/metrics")
			if _, body := getWith(t, base, "/first"); !whole("/first", body) {
				t.Fatal("/first is not whole")
			}
			return !strings.Contains(text, "\nevenkeel_cache_disk_entries 0\n")
		})
		for i := range 200 { // many of which are being written as it is killed
			path := fmt.Sprintf("/%d-%d", round, i)
			if _, body := getWith(t, base, path); !whole(path, body) {
				t.Fatalf("%s is not whole", path)
			}
		}
		g.kill()
	}
	names, err := filepath.Glob(filepath.Join(dir, "cache", "*.answer"))
	if err != nil || len(names) < 2 {
		t.Fatalf("%v %v", names, err)
	}
	if err := os.Truncate(names[0], 5000); err != nil {
		t.Fatal(err)
	}
	g := run(t, "-f", file)
	base := "http://" + g.at["web"]
	until(t, "the folder is read", func() bool {
		_, text := getWith(t, "http://"+g.at["console"], "/metrics")
		return strings.Contains(text, fmt.Sprintf("\nevenkeel_cache_disk_entries %d\n", len(names)-1)) && strings.Contains(text, "evenkeel_cache_disk_reads_total{result=\"damaged\"} 1\n")
	})
	fromDisk := 0
	for round := range 3 {
		for i := range 200 {
			path := fmt.Sprintf("/%d-%d", round, i)
			r, body := getWith(t, base, path)
			if !whole(path, body) {
				t.Errorf("%s is not whole", path)
			}
			if strings.Contains(r.Header.Get("Cache-Status"), "hit; detail=disk") {
				fromDisk++
			}
		}
	}
	if fromDisk < len(names)-20 {
		t.Errorf("%d of %d files were used", fromDisk, len(names))
	}
}
