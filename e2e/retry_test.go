package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// heard is what an endpoint saw of requests.
type heard struct {
	mu   sync.Mutex
	list []*http.Request
	body []string
}

func (h *heard) add(r *http.Request, body []byte) {
	h.mu.Lock()
	h.list, h.body = append(h.list, r), append(h.body, string(body))
	h.mu.Unlock()
}

func (h *heard) take() (list []*http.Request, body []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list, body = h.list, h.body
	h.list, h.body = nil, nil
	return list, body
}

// twoOf is a pool of an endpoint that answers busy and one that answers well; busy may change what it says.
func twoOf(t *testing.T, speak, route string, busy http.HandlerFunc) (g *gateway, sick, well *heard) {
	t.Helper()
	sick, well = new(heard), new(heard)
	one := service(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sick.add(r, body)
		busy(w, r)
	})
	two := service(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		well.add(r, body)
		fmt.Fprint(w, "well")
	})
	g = runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {service: {endpoints: [%q, %q], http: %s, method: round_robin, retry_budget: 100%%, probe: {off: true}, outliers: {mode: "off"}}}
routes: [{name: all, pool: service%s}]
`, one, two, speak, route))
	return g, sick, well
}

// answer makes a handler that says status. A 503 would make evenkeel send less to the endpoint, a 502 does not.
func answer(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, strings.Repeat("busy ", 200))
	}
}

// TestRetryOfAnswers: an answer that says "not now" is not what the client sees while another endpoint can answer.
func TestRetryOfAnswers(t *testing.T) {
	for _, speak := range []string{"h1", "h2"} {
		g, sick, well := twoOf(t, speak, "", answer(502))
		for _, f := range fronts(t, g, nil) {
			t.Run(f.name+" to "+speak, func(t *testing.T) {
				for range 4 {
					if resp, body := f.ask(t, f.request(t, "GET", "/", nil)); resp.StatusCode != 200 || body != "well" {
						t.Fatalf("the client sees %d %q", resp.StatusCode, body)
					}
				}
				again := 0
				list, _ := well.take()
				for _, r := range list {
					if v := r.Header.Get("Evenkeel-Attempt"); v == "2" {
						again++
					} else if v != "" {
						t.Errorf("Evenkeel-Attempt: %q", v)
					}
				}
				busy, _ := sick.take()
				if again == 0 || again != len(busy) || len(list) != 4 {
					t.Errorf("of 4 requests the sick endpoint saw %d, the well one %d of which %d as second attempts", len(busy), len(list), again)
				}
			})
			t.Run(f.name+" to "+speak+" changing something", func(t *testing.T) {
				body := strings.Repeat("0123456789", 4000)
				for _, c := range []struct {
					method, key string
					told        bool // the length of the body
					repeats     bool
				}{{"POST", "", true, false}, {"POST", "\"a\"", true, true}, {"PUT", "", true, true}, {"POST", "", false, false}, {"POST", "\"a\"", false, true}, {"PUT", "", false, true}} {
					seen := map[int]int{}
					for range 4 {
						r := f.request(t, c.method, "/", &slowly{rest: body})
						if r.ContentLength = -1; c.told {
							r.ContentLength = int64(len(body))
						}
						if c.key != "" {
							r.Header.Set("Idempotency-Key", c.key)
						}
						resp, _ := f.ask(t, r)
						seen[resp.StatusCode]++
					}
					busy, _ := sick.take()
					if want := len(busy); c.repeats && seen[502] != 0 || !c.repeats && seen[502] != want || seen[200]+seen[502] != 4 {
						t.Errorf("%s with key %q, length told %v, was answered %v, the sick endpoint saw %d", c.method, c.key, c.told, seen, len(busy))
					}
					_, got := well.take()
					for _, b := range got {
						if b != body {
							t.Errorf("%s: a body of %d bytes came, want %d", c.method, len(b), len(body))
						}
					}
				}
			})
		}
	}
}

// slowly is a body that comes in pieces.
type slowly struct{ rest string }

func (s *slowly) Read(p []byte) (int, error) {
	if s.rest == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 7000)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// TestRetryEnds: three attempts, then the answer as it is; who is told not to try again does not; and when the budget is spent nobody does.
func TestRetryEnds(t *testing.T) {
	var said atomic.Value
	said.Store("")
	tried := new(heard)
	var ends []string
	for range 3 {
		ends = append(ends, strconv.Quote(service(t, func(w http.ResponseWriter, r *http.Request) {
			tried.add(r, nil)
			if name, value, ok := strings.Cut(said.Load().(string), ": "); ok {
				w.Header().Set(name, value)
			}
			answer(503)(w, r)
		})))
	}
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {service: {endpoints: [%s], probe: {off: true}, outliers: {mode: "off"}}}
`, strings.Join(ends, ", ")))
	f := fronts(t, g, nil)[0]
	ask := func() (attempts int, told string) {
		t.Helper()
		resp, body := f.ask(t, f.request(t, "GET", "/", nil))
		list, _ := tried.take()
		if resp.StatusCode != 503 || !strings.HasPrefix(body, "busy") {
			t.Errorf("the client sees %d %q", resp.StatusCode, body)
		}
		hosts := map[string]bool{}
		for _, r := range list {
			hosts[r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()] = true
		}
		if len(hosts) != len(list) {
			t.Errorf("%d attempts went to %d endpoints", len(list), len(hosts))
		}
		return len(list), resp.Header.Get("Evenkeel-No-Retry")
	}
	if n, told := ask(); n != 3 || told != "1" {
		t.Errorf("%d attempts, and the client is told %q", n, told)
	}
	said.Store("Evenkeel-No-Retry: 1")
	if n, told := ask(); n != 1 || told != "1" {
		t.Errorf("%d attempts where the endpoint forbids more, and the client is told %q", n, told)
	}
	said.Store("Retry-After: 5")
	if n, told := ask(); n != 1 || told != "" {
		t.Errorf("%d attempts where the endpoint asks for 5 s, and the client is told %q", n, told)
	}
	said.Store("")
	total, spent := 0, 0
	for range 20 {
		n, told := ask()
		total += n
		if n == 1 && told == "1" {
			spent++
		}
	}
	if total > 20+8 || spent < 10 {
		t.Errorf("20 requests made %d attempts with 8 repeats left in the budget; %d were told that it is spent", total, spent)
	}
	seesRetries(t, g)
}

// seesRetries looks at what status and metrics say after TestRetryEnds.
func seesRetries(t *testing.T, g *gateway) {
	t.Helper()
	var view struct {
		Pools []struct {
			Retries struct {
				Attempts   uint64            `json:"attempts"`
				Repeats    map[string]uint64 `json:"repeats"`
				Denied     map[string]uint64 `json:"denied"`
				BudgetLeft float64           `json:"budget_left"`
			} `json:"retries"`
		} `json:"pools"`
		Events []struct{ Kind string } `json:"events"`
	}
	if err := json.Unmarshal([]byte(read(t, "http://"+g.at["console"]+"/api/v1/status")), &view); err != nil {
		t.Fatal(err)
	}
	v := view.Pools[0].Retries
	if v.Repeats["503"] != 10 || v.Denied["forbidden"] != 1 || v.Denied["retry_after"] != 1 || v.Denied["budget"] == 0 || v.BudgetLeft > 1 || v.Attempts != 33 {
		t.Errorf("the status says %+v", v)
	}
	told := false
	for _, e := range view.Events {
		told = told || e.Kind == "retry_budget"
	}
	if !told {
		t.Error("no event says that the budget is spent")
	}
	page := read(t, "http://"+g.at["console"]+"/metrics")
	for _, want := range []string{`evenkeel_retries_total{pool="service",reason="503"} 10`, `evenkeel_attempts_total{pool="service"} 33`,
		`evenkeel_retries_denied_total{pool="service",why="forbidden"} 1`, `evenkeel_retry_budget{pool="service"} 0`} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// read gets a page.
func read(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestDeadlines: what is left is told to the endpoint, and when nothing is, the client gets its 504 and the endpoint hears of it.
func TestDeadlines(t *testing.T) {
	for _, speak := range []string{"h1", "h2"} {
		seen, left := new(heard), make(chan error, 10)
		address := service(t, func(w http.ResponseWriter, r *http.Request) {
			seen.add(r, nil)
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
				left <- r.Context().Err()
			}
		})
		g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {service: {endpoints: [%q], http: %s}}
routes: [{name: all, pool: service, deadline: 2s, tell_deadline: [evenkeel, envoy]}]
`, address, speak))
		for _, f := range fronts(t, g, nil) {
			t.Run(f.name+" to "+speak, func(t *testing.T) {
				for told, most := range map[string]int{"": 2000, "60000": 2000, "700": 700} {
					r := f.request(t, "GET", "/", nil)
					if told != "" {
						r.Header.Set("Evenkeel-Deadline", told)
					}
					f.ask(t, r)
					list, _ := seen.take()
					for _, name := range []string{"Evenkeel-Deadline", "X-Envoy-Expected-Rq-Timeout-Ms"} {
						if n, err := strconv.Atoi(list[0].Header.Get(name)); err != nil || n > most || n < most/2 || len(list[0].Header.Values(name)) != 1 {
							t.Errorf("told %q, the endpoint gets %s: %v", told, name, list[0].Header.Values(name))
						}
					}
				}
				resp, body := f.ask(t, f.request(t, "GET", "/hang", nil, "Evenkeel-Deadline", "150"))
				if resp.StatusCode != 504 || !strings.Contains(body, `"reason":"deadline"`) || resp.Header.Get("Evenkeel-No-Retry") != "1" {
					t.Errorf("the client sees %d %v %s", resp.StatusCode, resp.Header, body)
				}
				select {
				case <-left:
				case <-time.After(patience):
					t.Error("the endpoint works on")
				}
				seen.take()
				if resp, _ := f.ask(t, f.request(t, "GET", "/", nil, "Evenkeel-Deadline", "0")); resp.StatusCode != 504 {
					t.Errorf("a deadline that has passed is answered %d", resp.StatusCode)
				}
				if list, _ := seen.take(); len(list) != 0 {
					t.Error("a deadline that has passed reached the endpoint")
				}
			})
		}
		page := read(t, "http://"+g.at["console"]+"/metrics")
		for _, want := range []string{`evenkeel_deadline_expired_total{route="all",stage="send"} 2`, `evenkeel_deadline_expired_total{route="all",stage="deadline"} 2`} {
			if !strings.Contains(page, want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
	}
}

// TestAttemptTimeout: an endpoint that hangs costs one attempt, and the time of one.
func TestAttemptTimeout(t *testing.T) {
	for _, speak := range []string{"h1", "h2"} {
		g, sick, well := twoOf(t, speak, ", retry: {attempt_timeout: 200ms}", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		for _, f := range fronts(t, g, nil) {
			t.Run(f.name+" to "+speak, func(t *testing.T) {
				for range 4 {
					if resp, body := f.ask(t, f.request(t, "GET", "/", nil)); resp.StatusCode != 200 || body != "well" {
						t.Errorf("the client sees %d %q", resp.StatusCode, body)
					}
				}
				if list, _ := well.take(); len(list) != 4 {
					t.Errorf("the endpoint that answers saw %d requests", len(list))
				}
			})
		}
		if hung, _ := sick.take(); len(hung) == 0 { // until it is ejected
			t.Error("the endpoint that hangs saw no request")
		}
	}
}

// TestHedge: who waits for long is answered by another endpoint, and the first hears that it need not go on. What changes something waits.
func TestHedge(t *testing.T) {
	for _, speak := range []string{"h1", "h2"} {
		left := make(chan string, 100)
		g, sick, well := twoOf(t, speak, ", hedge: {after: 50ms}", func(_ http.ResponseWriter, r *http.Request) {
			wait := time.NewTimer(400 * time.Millisecond)
			defer wait.Stop()
			select {
			case <-wait.C:
			case <-r.Context().Done():
				left <- r.Method
			}
		})
		for _, f := range fronts(t, g, nil) {
			t.Run(f.name+" to "+speak, func(t *testing.T) {
				for range 6 {
					if resp, body := f.ask(t, f.request(t, "GET", "/", nil)); resp.StatusCode != 200 || body != "well" {
						t.Errorf("the client sees %d %q", resp.StatusCode, body)
					}
				}
				hung, _ := sick.take()
				for range hung {
					select {
					case <-left:
					case <-time.After(patience):
						t.Error("the endpoint works on")
					}
				}
				if list, _ := well.take(); len(list) != 6 || len(hung) == 0 {
					t.Errorf("of 6 requests the endpoint that answers saw %d, the other %d", len(list), len(hung))
				}
				for range 2 {
					f.ask(t, f.request(t, "POST", "/", nil))
				}
				hung, _ = sick.take()
				if list, _ := well.take(); len(list)+len(hung) != 2 {
					t.Errorf("2 POSTs made %d attempts", len(list)+len(hung))
				}
			})
		}
		if page := read(t, "http://"+g.at["console"]+"/metrics"); !strings.Contains(page, `evenkeel_retries_total{pool="service",reason="hedge"}`) {
			t.Error("the metrics lack the hedges")
		}
	}
}

// TestHedgeIsWork: a limit whose cost is measured counts the time of both endpoints, whoever wins.
func TestHedgeIsWork(t *testing.T) {
	second := make(chan struct{}, 1)
	end := service(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Evenkeel-Attempt") == "2" && r.URL.Path == "/second":
		case r.Header.Get("Evenkeel-Attempt") == "2":
			second <- struct{}{}
			<-r.Context().Done()
		case r.URL.Path == "/second":
			<-r.Context().Done()
		case r.URL.Path == "/first":
			<-second
			<-time.After(100 * time.Millisecond)
		}
	})
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {service: {endpoints: [%q, {address: %q}], retry_budget: 100%%, probe: {off: true}, outliers: {mode: "off"}}}
routes: [{name: all, pool: service, hedge: {after: 100ms}}]
limits: [{name: work, by: global, cost: measured, unit: 1ms, rate: 1/h, burst: 1000000, headers: always}]
`, end, strings.Replace(end, "127.0.0.1", "localhost", 1)))
	f := fronts(t, g, nil)[0]
	left := func(path string) (n int) {
		t.Helper()
		resp, _ := f.ask(t, f.request(t, "GET", path, nil))
		told := resp.Header.Get("RateLimit")
		if _, err := fmt.Sscanf(told, `"work";r=%d;`, &n); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s is answered with %s, %q", path, resp.Status, told)
		}
		return n
	}
	for path, want := range map[string]int{"/second": 100, "/first": 300} {
		before := left(path)
		// The request itself cost one at once, and so does the one that asks.
		if took := before - left("/"); took < want || took > want+5000 {
			t.Errorf("%s is charged %d ms, want %d and not much more", path, took, want)
		}
	}
}

// TestTrialIsInsured: an endpoint that hangs costs those nothing whose requests try out whether it is well again, though far more still wait for it than may be inside.
func TestTrialIsInsured(t *testing.T) {
	var hangs atomic.Bool
	asked, released := new(heard), make(chan struct{})
	one := service(t, func(w http.ResponseWriter, r *http.Request) {
		asked.add(r, nil)
		if hangs.Load() {
			select {
			case <-r.Context().Done():
			case <-released:
			}
		}
	})
	well := answer(http.StatusOK)
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {service: {endpoints: [%q, %q, %q], method: round_robin, probe: {off: true}, outliers: {first: 1s}}}
`, one, service(t, well), service(t, well)))
	f := fronts(t, g, nil)[0]
	for range 200 { // what is slow must be known
		f.ask(t, f.request(t, "GET", "/", nil))
	}
	hangs.Store(true)
	state := func() string { return read(t, "http://"+g.at["console"]+"/api/v1/status") }
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(released)
	for end := time.Now().Add(patience); !strings.Contains(state(), `"state": "ejected"`); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("an endpoint that hangs is not ejected:\n%s", state())
		}
		for range 10 {
			waiting.Go(func() { f.ask(t, f.request(t, "GET", "/", nil)) })
		}
	}
	for end := time.Now().Add(patience); !strings.Contains(state(), `"waiting": 0,`); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("requests wait, though two endpoints are well:\n%s", state())
		}
	}
	asked.take()
	for tried, end := 0, time.Now().Add(patience); tried < 2; {
		if resp, _ := f.ask(t, f.request(t, "GET", "/", nil)); resp.StatusCode != 200 {
			t.Errorf("on trial the client sees %d", resp.StatusCode)
		}
		list, _ := asked.take()
		if tried += len(list); time.Now().After(end) {
			t.Fatalf("the endpoint was tried out %d times", tried)
		}
	}
}

// TestShortDeadlinesHurtNobody: a caller that gives endpoints no time does not get them ejected.
func TestShortDeadlinesHurtNobody(t *testing.T) {
	address := service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	})
	other := service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	})
	for _, speak := range []string{"h1", "h2"} {
		g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {service: {endpoints: [%q, %q], http: %s}}
`, address, other, speak))
		f := fronts(t, g, nil)[0]
		for range 20 {
			if resp, _ := f.ask(t, f.request(t, "GET", "/hang", nil, "Evenkeel-Deadline", "10")); resp.StatusCode != 504 {
				t.Fatalf("a request without time is answered %d", resp.StatusCode)
			}
		}
		if said := read(t, "http://"+g.at["console"]+"/api/v1/status"); strings.Contains(said, `"state": "ejected"`) || strings.Contains(said, "without an answer") {
			t.Errorf("an endpoint is blamed:\n%s", said)
		}
	}
}
