package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// dialRaw connects to a listener under test.
func dialRaw(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testDeadline))
	return c, bufio.NewReader(c)
}

// readAnswer reads one answer with its body.
func readAnswer(t *testing.T, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the body of an answer: %v", err)
	}
	return resp, string(body)
}

// httpEndpoint is a real net/http server behind a proxy under test.
func httpEndpoint(t *testing.T, h http.HandlerFunc) (addr string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestH1SlowHeadIsRefused(t *testing.T) {
	limits := h1Limits()
	limits.HeaderTimeout = 50 * time.Millisecond
	_, addr := startProxy(t, limits, nil)
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n")
	resp, body := readAnswer(t, r, "GET")
	if resp.StatusCode != 408 || !strings.Contains(body, `"reason":"header_timeout"`) {
		t.Errorf("a head that does not end: got %d %s", resp.StatusCode, body)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestH1SlowBodyIsRefused(t *testing.T) {
	limits := h1Limits()
	limits.IdleTimeout = 50 * time.Millisecond
	p, addr := startProxy(t, limits, nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
	resp, body := readAnswer(t, r, "POST")
	if resp.StatusCode != 408 || !strings.Contains(body, `"reason":"body_too_slow"`) {
		t.Errorf("a body that does not come: got %d %s", resp.StatusCode, body)
	}
}

func TestH1HangingEndpointIsTimedOut(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	release := make(chan struct{})
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	defer close(release)
	pool := h1Pool()
	pool.Timeouts.FirstByte = 50 * time.Millisecond
	p.setHandler(sendTo(t, p.Proxy, pool, to, nil))
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, body := readAnswer(t, r, "GET")
	if resp.StatusCode != 504 || !strings.Contains(body, `"reason":"endpoint_timeout"`) {
		t.Errorf("a hanging endpoint: got %d %s", resp.StatusCode, body)
	}
}

func TestH1DeadEndpointIs502(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), ln.Addr().String(), nil))
	c, r := dialRaw(t, addr)
	for range 2 { // the connection to the client goes on after a refusal
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, body := readAnswer(t, r, "GET")
		if resp.StatusCode != 502 || !strings.Contains(body, `"reason":"connect_failed"`) {
			t.Errorf("a dead endpoint: got %d %s", resp.StatusCode, body)
		}
	}
}

func TestH1EarlyAnswer(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly the beginning")
	resp, _ := readAnswer(t, r, "POST")
	if resp.StatusCode != 403 || !resp.Close {
		t.Errorf("an answer before the end of the request: got %d, close %v", resp.StatusCode, resp.Close)
	}
}

func TestH1EventsComeWithoutDelay(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	next := make(chan struct{})
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		lines.ReadString('\n')
		next <- struct{}{} // the endpoint sends the next event only after this one arrived
	}
}

func TestH1TruncatedAnswerIsSeen(t *testing.T) {
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nhalf\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p, addr := startProxy(t, h1Limits(), nil)
			e := startEndpoint(t, answer)
			p.setHandler(sendTo(t, p.Proxy, h1Pool(), e.ln.Addr().String(), nil))
			resp, err := http.Get("http://" + addr)
			if err != nil {
				return // the head was lost with the reset: also seen
			}
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("a cut answer read as whole: %q", body)
			}
			resp.Body.Close()
		})
	}
}

// TestH1StaleConnection has the endpoint close its connection after each answer without saying so.
func TestH1StaleConnection(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done, closed := make(chan struct{}), make(chan struct{}, 100)
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := readMessage(bufio.NewReader(c)); err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			c.Close()
			closed <- struct{}{}
		}
	}()
	defer func() { ln.Close(); <-done }()
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), ln.Addr().String(), nil))
	c, r := dialRaw(t, addr)
	for i := range 50 {
		method, body := "GET", ""
		if i%2 == 1 {
			method, body = "POST", "x" // repeated only because the endpoint provably did not see it
		}
		fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
		if resp, body := readAnswer(t, r, method); resp.StatusCode != 200 {
			t.Fatalf("request %d, %s: %d %s", i, method, resp.StatusCode, body)
		}
		<-closed // the endpoint's FIN is there before the next request
	}
}

func TestH1LargeBodiesBothWays(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	for name, body := range map[string]io.Reader{"length": bytes.NewReader(data), "chunks": io.MultiReader(bytes.NewReader(data))} {
		resp, err := http.Post("http://"+addr, "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != int64(len(data)) {
			t.Errorf("%s: %d of %d bytes came back: %v", name, n, len(data), err)
		}
	}
}

// TestH1RefusedUploadIsRead: a client that reads no answer before it has sent all gets the one that refuses an upload.
func TestH1RefusedUploadIsRead(t *testing.T) {
	p := started(t, Deps{})
	addr := serving(t, p, testListener("web", "http"), func(*exchange.Exchange) *exchange.Refusal { return refuseBodyLarge })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	const size = 12 << 20
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
		t.Errorf("%.40q %v", answer, err)
	}
}
