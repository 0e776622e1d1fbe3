package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// ends is a listener whose requests go to one endpoint, and what became of each.
func ends(t *testing.T, protocol, endpoint string, route *exchange.Route, firstByte time.Duration) (addr string, results chan exchange.Result) {
	t.Helper()
	pool := h1Pool()
	pool.Timeouts.FirstByte = firstByte
	if protocol == "h2" {
		pool.HTTP = "h2"
	}
	p := started(t, Deps{})
	send := sendTo(t, p, pool, endpoint, route)
	results = make(chan exchange.Result, 100)
	return serving(t, p, testListener("web", "http"), func(x *exchange.Exchange) *exchange.Refusal {
		if route.Deadline > 0 {
			x.Deadline = x.Start.Add(route.Deadline)
		}
		if v, is := wire.FieldNamed(x.Request.Fields, "Test-Deadline"); is { // of the client's own
			d, _ := time.ParseDuration(string(v))
			x.Deadline = x.Start.Add(min(d, route.Deadline))
		}
		r := send(x)
		results <- x.Result
		return r
	}), results
}

// TestDeadlineDuringUpload: when the deadline of the route passes while the client still sends, the endpoint is not to blame; when it passes while the endpoint thinks,
// or takes nothing of the body, it is.
func TestDeadlineDuringUpload(t *testing.T) {
	bothEnds(t, func(t *testing.T, client *http.Client, out string, serve func(http.HandlerFunc) string) {
		over := make(chan struct{})
		defer close(over)
		endpoint := serve(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/mute" {
				io.Copy(io.Discard, r.Body)
			}
			if r.URL.Path != "/" {
				<-over
			}
		})
		addr, results := ends(t, out, endpoint, &exchange.Route{Deadline: 300 * time.Millisecond}, patience)
		post := func(path string, body io.Reader) exchange.Result {
			r, err := http.NewRequest("POST", "http://"+addr+path, body)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := client.Do(r); err == nil { // else the client saw only that nobody takes the rest
				resp.Body.Close()
				if resp.StatusCode != 504 {
					t.Errorf("%s: %d", path, resp.StatusCode)
				}
			}
			return <-results
		}
		slow, w := io.Pipe()
		defer w.Close()
		go io.WriteString(w, "some of it")
		if r := post("/", slow); r.Kind != exchange.Cancelled || r.Latency != 0 {
			t.Errorf("the client is slow: %+v", r)
		}
		quick, q := io.Pipe()
		go func() {
			io.WriteString(q, "some of it")
			io.WriteString(q, "all of it")
			q.Close()
		}()
		if r := post("/hang", quick); r.Kind != exchange.TimedOut {
			t.Errorf("the endpoint thinks: %+v", r)
		}
		if r := post("/mute", io.LimitReader(zeros{}, 1<<30)); r.Kind != exchange.TimedOut {
			t.Errorf("the endpoint takes nothing: %+v", r)
		}
	})
}

// TestSilentClientIsWaitedFor: first_byte runs from the end of the request, however long its client says nothing in between; how long that may be is the listener's business. An endpoint
// that takes nothing of a body has no longer than that.
func TestSilentClientIsWaitedFor(t *testing.T) {
	bothEnds(t, func(t *testing.T, client *http.Client, out string, serve func(http.HandlerFunc) string) {
		endpoint := serve(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
		addr, results := ends(t, out, endpoint, &exchange.Route{}, 200*time.Millisecond)
		body, w := io.Pipe()
		go func() {
			io.WriteString(w, "some")
			<-time.After(time.Second)
			io.WriteString(w, " more")
			w.Close()
		}()
		r, err := http.NewRequest("POST", "http://"+addr, body)
		if err != nil {
			t.Fatal(err)
		}
		if status, text := answered(t, client, r); status != 200 || text != "some more" {
			t.Errorf("%d %q", status, text)
		}
		if r := <-results; r.Kind != exchange.Answered || r.Latency > 900*time.Millisecond {
			t.Errorf("%+v", r) // a second of it was the client's
		}
	})
}

// TestMuteEndpointDuringUpload: an HTTP/2 endpoint that gives no window for the rest of a body is not waited for longer than for an answer.
func TestMuteEndpointDuringUpload(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	endpoint := h2cServer(t, func(http.ResponseWriter, *http.Request) { <-over })
	addr, results := ends(t, "h2", endpoint, &exchange.Route{}, 200*time.Millisecond)
	resp, err := h2cClient(t).Post("http://"+addr, "text/plain", io.LimitReader(zeros{}, 100<<20))
	if err != nil || resp.StatusCode != 504 {
		t.Errorf("%v %v", resp, err)
	}
	if r := <-results; r.Kind != exchange.TimedOut {
		t.Errorf("%+v", r)
	}
}

// TestSlowClientsOfH2Endpoint: clients that read nothing of long answers keep nobody else from the answers of the same endpoint, which come over the same connection.
func TestSlowClientsOfH2Endpoint(t *testing.T) {
	endpoint := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			io.Copy(w, io.LimitReader(zeros{}, 64<<20))
			return
		}
		io.WriteString(w, "short")
	})
	addr, _ := ends(t, "h2", endpoint, &exchange.Route{}, patience)
	for range 3 * h2ConnWin / h2StreamWin {
		c := dialed(t, addr)
		c.SetReadBuffer(4 << 10)
		fmt.Fprint(c, "GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	quick, r := dialRaw(t, addr)
	for range 20 { // until then all that they make evenkeel hold is there
		fmt.Fprint(quick, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, body := readAnswer(t, r, "GET"); resp.StatusCode != 200 || body != "short" {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// TestDeadlineWithoutReader: a client that takes nothing of its answer is let go when the deadline passes, and not first after the idle timeout.
func TestDeadlineWithoutReader(t *testing.T) {
	bothEnds(t, func(t *testing.T, client *http.Client, out string, serve func(http.HandlerFunc) string) {
		endpoint := serve(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, io.LimitReader(zeros{}, 64<<20)) })
		addr, results := ends(t, out, endpoint, &exchange.Route{Deadline: 300 * time.Millisecond}, patience)
		resp, err := client.Get("http://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		select {
		case r := <-results:
			if r.Kind != exchange.Answered || r.Reason != "" {
				t.Errorf("%+v", r)
			}
		case <-time.After(patience / 2):
			t.Error("the deadline was not noticed")
		}
	})
}

// TestDeadlineDuringAnswer: when a deadline of the client's own cuts an answer off, or the route's does while the client does not take what is there, the endpoint is not to
// blame. It is when it says no more until the route's deadline.
func TestDeadlineDuringAnswer(t *testing.T) {
	bothEnds(t, func(t *testing.T, client *http.Client, out string, serve func(http.HandlerFunc) string) {
		endpoint := serve(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				io.Copy(w, io.LimitReader(zeros{}, 64<<20))
				return
			}
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		for name, c := range map[string]struct {
			path    string
			route   time.Duration
			blamed  bool
			reading bool
		}{
			"the client's own":   {"/", patience, false, true},
			"the endpoint hangs": {"/", 300 * time.Millisecond, true, true},
			"the client is away": {"/long", 300 * time.Millisecond, false, false},
		} {
			addr, results := ends(t, out, endpoint, &exchange.Route{Deadline: c.route}, patience)
			r, _ := http.NewRequest("GET", "http://"+addr+c.path, nil)
			r.Header.Set("Test-Deadline", "300ms")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if !c.reading {
				<-time.After(700 * time.Millisecond)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("%s: the answer looks whole", name)
			}
			resp.Body.Close()
			if got := <-results; got.Kind != exchange.Answered || (got.Reason != "") != c.blamed {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
}

// TestSendTakesBackAHead: a client that has got nothing of an answer whose endpoint fails is told so, and one that has got some sees that it is cut off.
func TestSendTakesBackAHead(t *testing.T) {
	for answer, status := range map[string]int{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n": 502, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab": 200} {
		endpoint := echoed(t, func(c *net.TCPConn) {
			c.Read(make([]byte, 1<<10))
			io.WriteString(c, answer)
		})
		p := newH2Proxy(t)
		send := sendTo(t, p, h1Pool(), endpoint, nil)
		results := make(chan exchange.Outcome, 1)
		rig := newH2RigOn(t, p, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
			r := send(x)
			results <- x.Outcome
			return r
		})
		one, addr := startProxy(t, h1Limits(), nil)
		one.setHandler(sendTo(t, one.Proxy, h1Pool(), endpoint, nil))
		for client, url := range map[*http.Client]string{h2cClient(t): "http://" + rig.addr + "/", {Transport: &http.Transport{}}: "http://" + addr + "/"} {
			res, err := client.Post(url, "text/plain", nil)
			if err != nil {
				t.Fatalf("%q: %v", answer, err)
			}
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
			client.CloseIdleConnections()
			if res.StatusCode != status || (err == nil) != (status == 502) {
				t.Errorf("%q: status %d, %v", answer, res.StatusCode, err)
			}
		}
		if out := <-results; out.Started != (status == 200) || out.Truncated != (status == 200) {
			t.Errorf("%q: %+v", answer, out)
		}
	}
}

// TestSendTakesBackACopiedHead: a tap that was to get a copy does not keep its client from being told, and learns that its answer was cut off.
func TestSendTakesBackACopiedHead(t *testing.T) {
	for _, taking := range []exchange.Taking{exchange.TakeNothing, exchange.TakeCopy} {
		service := echoed(t, func(c *net.TCPConn) {
			c.Read(make([]byte, 1<<10))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		})
		tap := &recorder{taking: taking, most: 100}
		p, addr := startProxy(t, h1Limits(), nil)
		send := sendTo(t, p.Proxy, h1Pool(), service, nil)
		p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
			x.Tap = tap
			return send(x)
		})
		res, err := http.Get("http://" + addr)
		if err != nil {
			t.Fatalf("taking %d: %v", taking, err)
		}
		res.Body.Close()
		tap.mu.Lock()
		if res.StatusCode != 502 || len(tap.ended) != int(taking) || taking == exchange.TakeCopy && tap.ended[0] != exchange.Cut {
			t.Errorf("taking %d: status %d, the tap was told of ends %v", taking, res.StatusCode, tap.ended)
		}
		tap.mu.Unlock()
	}
}
