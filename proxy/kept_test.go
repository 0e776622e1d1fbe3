package proxy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// keptMost is up to how many bytes the bodies of these tests are kept.
const keptMost = 64 << 10

// again is the shortest stage that tries again: a failed attempt has a successor at the next endpoint when the body can be sent.
type again struct {
	mu        sync.Mutex // guards what tests set
	endpoints []*exchange.Endpoint
	route     *exchange.Route
	budget    int64                      // bytes that bodies may hold
	between   func(x *exchange.Exchange) // called before another attempt; nil allowed

	held, most atomic.Int64
	attempts   atomic.Int32
}

// newAgain has a proxy whose requests go to the endpoints, one after the other, by h1 or h2.
func newAgain(t *testing.T, protocol string, endpoints ...string) (g *again, addr string) {
	t.Helper()
	g = &again{budget: 1 << 20}
	limits := h1Limits()
	limits.MinRate = 0
	p, addr := startProxy(t, limits, nil)
	pool := h1Pool()
	pool.HTTP, pool.Timeouts.FirstByte, pool.Timeouts.Idle = protocol, testDeadline, testDeadline
	u, err := p.Upstream(pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range endpoints {
		e := &exchange.Endpoint{Pool: pool.Name, Address: a}
		u.Attach(e)
		g.endpoints = append(g.endpoints, e)
	}
	p.setHandler(g.serve)
	t.Cleanup(u.Close)
	t.Cleanup(func() {
		eventually(t, "bodies give their memory back", func() bool { return g.held.Load() == 0 })
	})
	return g, addr
}

// set changes what the stage does from now on.
func (g *again) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *again) reserve(n int64) bool {
	if g.held.Add(n) > g.budget && n > 0 {
		g.held.Add(-n)
		return false
	}
	g.most.Store(max(g.most.Load(), g.held.Load()))
	return true
}

func (g *again) serve(x *exchange.Exchange) *exchange.Refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attempts.Store(0)
	if !x.Replayable {
		Keep(x, keptMost, g.reserve)
		defer Unkeep(x)
	}
	x.Judge, x.Route = g, g.route
	x.Path, _, _ = bytes.Cut(x.Request.Target, []byte("?"))
	for x.Attempt = 1; ; x.Attempt++ {
		x.Endpoint, x.Again = g.endpoints[x.Attempt-1], false
		g.attempts.Add(1)
		r := Send(x)
		if r == nil || r != refuseAgain && !(x.Result.Kind == exchange.Broken && g.Again(x)) {
			return r
		}
		if g.between != nil {
			g.between(x)
		}
	}
}

// Again implements exchange.Judge.
func (g *again) Again(x *exchange.Exchange) bool {
	return x.Attempt < len(g.endpoints) && (x.Kept || x.Replayable)
}

// Hedge implements exchange.Judge.
func (g *again) Hedge(*exchange.Exchange) bool { return false }

// bothEnds runs f for clients and endpoints of both protocols.
func bothEnds(t *testing.T, f func(t *testing.T, client *http.Client, protocol string, serve func(http.HandlerFunc) string)) {
	for _, in := range []string{"h1", "h2"} {
		for _, out := range []string{"h1", "h2"} {
			t.Run(in+" to "+out, func(t *testing.T) {
				client, serve := h2cClient(t), func(h http.HandlerFunc) string { return h2cServer(t, h) }
				if in == "h1" {
					tr := &http.Transport{}
					t.Cleanup(tr.CloseIdleConnections)
					client = &http.Client{Transport: tr, Timeout: testDeadline}
				}
				if out == "h1" {
					serve = func(h http.HandlerFunc) string { return httpEndpoint(t, h) }
				}
				f(t, client, out, serve)
			})
		}
	}
}

// bodyOf is a body in which no two parts are alike.
func bodyOf(n int) []byte { return randomBytes(rand.New(rand.NewPCG(1, 2)), n) }

// streamed is a PUT of a body whose length is not told.
func streamed(t *testing.T, addr string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest("PUT", "http://"+addr+"/", io.MultiReader(body)) // which hides its length
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answered sends r and returns the status and text of the answer.
func answered(t *testing.T, client *http.Client, r *http.Request) (int, string) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// breakOff ends the connection, or the stream, at once. A handler of HTTP/1.1 that panics would read the body first.
func breakOff(w http.ResponseWriter) {
	if h, is := w.(http.Hijacker); is {
		if c, _, err := h.Hijack(); err == nil {
			c.Close()
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// failing are ways in which a first endpoint fails that has read all of the body.
var failing = map[string]http.HandlerFunc{
	"reset": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		breakOff(w)
	},
	"503": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(503)
	},
}

// TestKept: a body of unknown length that reached the first endpoint whole reaches the second whole, with its trailers, when it is short enough.
func TestKept(t *testing.T) {
	all := bodyOf(keptMost + 1)
	bothEnds(t, func(t *testing.T, client *http.Client, protocol string, serve func(http.HandlerFunc) string) {
		for name, fails := range failing {
			for _, size := range []int{0, 1, 1000, bufferSize, bufferSize + 1, keptMost, keptMost + 1} {
				for _, trailer := range []string{"", "here"} {
					what := fmt.Sprintf("%s, %d bytes, trailer %q", name, size, trailer)
					var saw atomic.Int64
					first := serve(func(w http.ResponseWriter, r *http.Request) {
						n, _ := io.Copy(io.Discard, r.Body)
						saw.Add(n)
						fails(w, r)
					})
					g, addr := newAgain(t, protocol, first, serve(summing))
					r := streamed(t, addr, bytes.NewReader(all[:size]))
					if trailer != "" {
						r.Trailer = http.Header{"X-End": {trailer}}
					}
					status, body := answered(t, client, r)
					if size > keptMost {
						if status < 502 || g.attempts.Load() != 1 || saw.Load() != int64(size) {
							t.Errorf("%s: status %d after %d attempts, and the first saw %d bytes; want all in one", what, status, g.attempts.Load(), saw.Load())
						}
						continue
					}
					if want := fmt.Sprintf("%d %x %s", size, sha256.Sum256(all[:size]), trailer); status != 200 || body != want || g.attempts.Load() != 2 {
						t.Errorf("%s: got %d %s after %d attempts, want %s", what, status, body, g.attempts.Load(), want)
					}
					if most := g.most.Load(); most > bulkSize {
						t.Errorf("%s: %d bytes were held", what, most)
					}
					// The connection is as good as new: nothing of the body is left on it.
					g.set(func() { g.endpoints[0] = g.endpoints[1] })
					if status, body := answered(t, client, streamed(t, addr, strings.NewReader("abc"))); status != 200 || !strings.HasPrefix(body, "3 ") {
						t.Errorf("%s: the next request got %d %s", what, status, body)
					}
				}
			}
		}
	})
}

// TestKeptWhileItComes: nothing waits for the whole body, and an endpoint that fails in the middle of it costs nothing of what follows, however long that is.
func TestKeptWhileItComes(t *testing.T) {
	all := bodyOf(400 << 10)
	bothEnds(t, func(t *testing.T, client *http.Client, protocol string, serve func(http.HandlerFunc) string) {
		for _, how := range []string{"reset", "503"} {
			for _, size := range []int{2000, keptMost, 400 << 10} {
				failed := make(chan struct{}, 1)
				g, addr := newAgain(t, protocol, serve(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.ReadFull(r.Body, make([]byte, 1000)); err != nil {
						t.Error(err)
					}
					if how == "reset" {
						breakOff(w)
						return
					}
					_ = http.NewResponseController(w).EnableFullDuplex() // or the server would read all before it answers
					w.WriteHeader(503)
					_ = http.NewResponseController(w).Flush()
				}), serve(summing))
				g.set(func() {
					g.between = func(x *exchange.Exchange) {
						failed <- struct{}{}
						for range 20 { // as who waits for the next attempt does
							if runtime.Gosched(); Gone(x) {
								t.Error("a client that still sends is gone")
							}
						}
						looked(t, x)
					}
				})
				in, out := io.Pipe()
				go func() {
					_, _ = out.Write(all[:1000])
					<-failed // the endpoint had these, though there are more to come
					_, _ = out.Write(all[1000:size])
					_ = out.Close()
				}()
				status, body := answered(t, client, streamed(t, addr, in))
				if want := fmt.Sprintf("%d %x ", size, sha256.Sum256(all[:size])); status != 200 || body != want || g.attempts.Load() != 2 {
					t.Errorf("%s, %d bytes: got %d %s after %d attempts, want %s", how, size, status, body, g.attempts.Load(), want)
				}
			}
		}
	})
}

// looked has a connection to the endpoint of x, which takes no more of the body, woken from its wait for an answer to look whether the client is there.
func looked(t *testing.T, x *exchange.Exchange) {
	l := x.Endpoint.Link.(*Link)
	c, other := net.Pipe()
	defer other.Close()
	b := &h1Back{l: l, conn: c, x: x}
	l.up.proxy.sweep.add(&b.watched, c)
	defer b.close()
	b.end.Store(forever)
	for range 20 {
		if err := b.again(os.ErrDeadlineExceeded); err != nil {
			t.Errorf("who waits for an answer is told %v", err)
		}
		runtime.Gosched()
	}
}

// TestKeptThrice: what the second endpoint got more than can be kept cannot go to a third; what can be kept can.
func TestKeptThrice(t *testing.T) {
	all := bodyOf(keptMost + 1)
	bothEnds(t, func(t *testing.T, client *http.Client, protocol string, serve func(http.HandlerFunc) string) {
		for _, size := range []int{keptMost, keptMost + 1} {
			early := func(w http.ResponseWriter, _ *http.Request) { breakOff(w) }
			g, addr := newAgain(t, protocol, serve(early), serve(failing["reset"]), serve(summing))
			status, body := answered(t, client, streamed(t, addr, bytes.NewReader(all[:size])))
			attempts, whole := g.attempts.Load(), fmt.Sprintf("%d %x ", size, sha256.Sum256(all[:size]))
			if size <= keptMost && (status != 200 || body != whole || attempts != 3) {
				t.Errorf("%d bytes: got %d %s after %d attempts, want %s", size, status, body, attempts, whole)
			}
			if size > keptMost && (status != 502 || attempts > 2) {
				t.Errorf("%d bytes: got %d after %d attempts, want 502 after 2 at the most", size, status, attempts)
			}
		}
	})
}

// TestKeptWithoutMemory: bodies that there is no memory for go on as they come, and are not repeated.
func TestKeptWithoutMemory(t *testing.T) {
	all := bodyOf(keptMost)
	for _, budget := range []int64{0, bufferSize, bulkSize - 1} {
		for _, size := range []int{100, bufferSize + 1, keptMost} {
			var saw atomic.Int64
			g, addr := newAgain(t, "h1", httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				saw.Store(n)
				w.WriteHeader(503)
			}), httpEndpoint(t, summing))
			g.set(func() { g.budget = budget })
			status, _ := answered(t, &http.Client{Timeout: testDeadline}, streamed(t, addr, bytes.NewReader(all[:size])))
			want := 503
			if size <= bufferSize && budget >= bufferSize {
				want = 200
			}
			if status != want || saw.Load() != int64(size) || g.most.Load() > budget {
				t.Errorf("%d bytes with memory for %d: status %d, want %d; the first saw %d bytes, %d were held", size, budget, status, want, saw.Load(), g.most.Load())
			}
		}
	}
}

// TestKeptIsGivenBack: once the answer begins, or the body is too long, it holds no memory, however long both go on.
func TestKeptIsGivenBack(t *testing.T) {
	all := bodyOf(keptMost + 1)
	bothEnds(t, func(t *testing.T, client *http.Client, protocol string, serve func(http.HandlerFunc) string) {
		for _, size := range []int{1000, keptMost + 1} {
			have := make(chan struct{})
			g, addr := newAgain(t, protocol, serve(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadFull(r.Body, make([]byte, size))
				if size <= keptMost {
					_ = http.NewResponseController(w).EnableFullDuplex()
					_ = http.NewResponseController(w).Flush()
				}
				close(have)
				n, _ := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n)
			}))
			in, out := io.Pipe()
			go func() {
				_, _ = out.Write(all[:size])
				<-have
				eventually(t, "the memory is given back", func() bool { return g.held.Load() == 0 })
				_, _ = out.Write([]byte("rest"))
				_ = out.Close()
			}()
			if status, body := answered(t, client, streamed(t, addr, in)); status != 200 || body != "4" {
				t.Errorf("after %d bytes: got %d %s", size, status, body)
			}
			if g.most.Load() == 0 && size <= keptMost {
				t.Error("nothing was kept at all")
			}
		}
	})
}

// TestKeptOfClientsThatFail: when the client's side fails between two attempts, no endpoint takes what came for a whole request.
func TestKeptOfClientsThatFail(t *testing.T) {
	for name, rest := range map[string]string{"leaves": "", "is malformed": "zz\r\n"} {
		t.Run(name, func(t *testing.T) {
			failed, done := make(chan struct{}), make(chan struct{})
			var whole atomic.Int32
			g, addr := newAgain(t, "h1", httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadFull(r.Body, make([]byte, 3))
				breakOff(w)
			}), httpEndpoint(t, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadAll(r.Body); err == nil {
					whole.Add(1)
				}
			}))
			g.set(func() {
				g.between = func(x *exchange.Exchange) {
					defer close(done)
					close(failed)
					<-x.Front.(front).scratch().kept.pump.done
				}
			})
			c, r := dialRaw(t, addr)
			fmt.Fprint(c, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
			select {
			case <-failed:
			case <-time.After(testDeadline):
				t.Fatal("the first attempt does not fail")
			}
			fmt.Fprint(c, rest)
			if rest == "" {
				c.Close()
			} else if resp, _ := readAnswer(t, r, "PUT"); resp.StatusCode != 400 {
				t.Errorf("got %d, want 400", resp.StatusCode)
			}
			<-done
			eventually(t, "its memory is given back", func() bool { return g.held.Load() == 0 })
			if whole.Load() != 0 {
				t.Error("an endpoint took half a body for a whole one")
			}
		})
	}
}

// TestKeptBodyTooLarge: the limit of bodies holds for all attempts together.
func TestKeptBodyTooLarge(t *testing.T) {
	bothEnds(t, func(t *testing.T, client *http.Client, protocol string, serve func(http.HandlerFunc) string) {
		failed := make(chan struct{})
		var whole atomic.Int32
		g, addr := newAgain(t, protocol, serve(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 1000))
			breakOff(w)
		}), serve(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				whole.Add(1)
			}
		}))
		g.set(func() {
			g.between = func(*exchange.Exchange) { close(failed) }
			g.route = &exchange.Route{Name: "test", MaxBody: 1500}
		})
		in, out := io.Pipe()
		go func() {
			_, _ = out.Write(make([]byte, 1000))
			<-failed
			_, _ = out.Write(make([]byte, 1000))
			_ = out.Close()
		}()
		if status, body := answered(t, client, streamed(t, addr, in)); status != 413 || whole.Load() != 0 {
			t.Errorf("got %d %s, want 413; %d endpoints took the body for whole", status, body, whole.Load())
		}
	})
}

// TestKeptAsksFirst: a client that waits for 100 Continue is told by the endpoint that gets the body, and no body is lost with one that failed before.
func TestKeptAsksFirst(t *testing.T) {
	for _, length := range []string{"Content-Length: 3", "Transfer-Encoding: chunked"} {
		g, addr := newAgain(t, "h1", httpEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { breakOff(w) }), httpEndpoint(t, summing))
		c, r := dialRaw(t, addr)
		fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n", length)
		if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%s: a client that waits got %q, %v", length, line, err)
		}
		_, _ = r.ReadString('\n')
		body := "abc"
		if strings.HasPrefix(length, "T") {
			body = "3\r\nabc\r\n0\r\n\r\n"
		}
		fmt.Fprint(c, body)
		if resp, body := readAnswer(t, r, "PUT"); resp.StatusCode != 200 || !strings.HasPrefix(body, "3 ") || g.attempts.Load() != 2 {
			t.Errorf("%s: %d %s after %d attempts", length, resp.StatusCode, body, g.attempts.Load())
		}
	}
}
