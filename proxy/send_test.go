package proxy

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
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
