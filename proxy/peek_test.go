package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// peeker is a stage that looks at n bytes of each body before it sends the request on.
func peeker(n int, send exchange.Handler, saw func(x *exchange.Exchange, body []byte, whole bool)) exchange.Handler {
	return func(x *exchange.Exchange) *exchange.Refusal {
		body, whole, err := Peek(x, n)
		var r *exchange.Refusal
		if errors.As(err, &r) || err != nil {
			return r
		}
		saw(x, body, whole)
		return send(x)
	}
}

// summing answers with the hash of the body and its trailer.
func summing(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, _ := io.Copy(h, r.Body)
	fmt.Fprintf(w, "%d %x %s", n, h.Sum(nil), r.Trailer.Get("X-End"))
}

// TestPeek: what is looked at is the beginning of the body, and the endpoint gets all of it, however it comes and over both protocols.
func TestPeek(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	send := sendTo(t, p.Proxy, h1Pool(), httpEndpoint(t, summing), nil)
	all := make([]byte, 600<<10)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(all)
	for _, client := range []*http.Client{{Timeout: testDeadline}, h2cClient(t)} {
		for _, size := range []int{0, 1, 1000, 16 << 10, 16<<10 + 1, 100 << 10, 600 << 10} {
			for _, n := range []int{1, 1000, 16 << 10, 128 << 10, 200 << 10} {
				for _, told := range []bool{true, false} {
					var wrong atomic.Pointer[string]
					p.setHandler(peeker(n, send, func(x *exchange.Exchange, body []byte, whole bool) {
						switch {
						case !bytes.Equal(body, all[:min(n, size)]):
							wrong.Store(new(fmt.Sprintf("%d bytes were seen, and not the first", len(body))))
						case whole && n < size || !whole && n > size, whole && !x.Replayable:
							wrong.Store(new(fmt.Sprintf("whole %v, replayable %v", whole, x.Replayable)))
						}
					}))
					var in io.Reader = bytes.NewReader(all[:size])
					if !told {
						in = io.MultiReader(in) // hides its length: chunks, or HTTP/2 without content-length
					}
					what := fmt.Sprintf("%d of %d bytes, length told %v", n, size, told)
					resp, err := client.Post("http://"+addr+"/", "application/octet-stream", in)
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					got, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if want := fmt.Sprintf("%d %x ", size, sha256.Sum256(all[:size])); string(got) != want {
						t.Fatalf("%s %s: the endpoint saw %s, want %s", resp.Proto, what, got, want)
					}
					if w := wrong.Load(); w != nil {
						t.Errorf("%s %s: %s", resp.Proto, what, *w)
					}
				}
			}
		}
	}
}

// TestPeekRaw: trailers, clients that wait for 100 Continue, requests behind a body, bodies that come slowly or are no bodies.
func TestPeekRaw(t *testing.T) {
	limits := h1Limits()
	limits.IdleTimeout = 100 * time.Millisecond
	p, addr := startProxy(t, limits, nil)
	send := sendTo(t, p.Proxy, h1Pool(), httpEndpoint(t, summing), nil)
	p.setHandler(peeker(100, send, func(*exchange.Exchange, []byte, bool) {}))
	sum := func(body string) string { return fmt.Sprintf("%d %x ", len(body), sha256.Sum256([]byte(body))) }

	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX-End: here\r\n\r\n"+
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nefgh\r\n0\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nij")
	for _, want := range []string{sum("abcd") + "here", sum("efgh"), sum("ij")} {
		if resp, body := readAnswer(t, r, "POST"); resp.StatusCode != 200 || body != want {
			t.Errorf("got %d %s, want %s", resp.StatusCode, body, want)
		}
	}

	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("a client that waits got %q, %v", line, err)
	}
	_, _ = r.ReadString('\n')
	fmt.Fprint(c, "klm")
	if resp, body := readAnswer(t, r, "POST"); resp.StatusCode != 200 || body != sum("klm") {
		t.Errorf("after 100 Continue: %d %s", resp.StatusCode, body)
	}

	for what, want := range map[string]string{
		"Content-Length: 10\r\n\r\nabc":                    `"reason":"body_too_slow"`,
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz": `"reason":"bad_body"`,
	} {
		c, r := dialRaw(t, addr)
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\n"+what)
		if _, body := readAnswer(t, r, "POST"); !strings.Contains(body, want) {
			t.Errorf("%q: got %s, want %s", what, body, want)
		}
	}
}

// TestPeekLimit: a body of unknown length that is longer than it may be is refused before anybody looks at it.
func TestPeekLimit(t *testing.T) {
	limits := h1Limits()
	limits.BodyBytes = 1000
	p, addr := startProxy(t, limits, nil)
	send := sendTo(t, p.Proxy, h1Pool(), httpEndpoint(t, summing), nil)
	for _, client := range []*http.Client{{Timeout: testDeadline}, h2cClient(t)} {
		for _, size := range []int{999, 1000, 1001, 100 << 10} {
			for _, n := range []int{500, 1000, 64 << 10} {
				var seen atomic.Int64
				p.setHandler(peeker(n, send, func(_ *exchange.Exchange, body []byte, whole bool) {
					if seen.Store(int64(len(body))); whole && n < size || !whole && n > size {
						t.Errorf("%d of %d bytes: whole %v", n, size, whole)
					}
				}))
				resp, err := client.Post("http://"+addr+"/", "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", size)))) // its length is not told
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if want := map[bool]int{true: 200, false: 413}[size <= 1000]; resp.StatusCode != want {
					t.Errorf("%s: %d of %d bytes: answered with %d, want %d", resp.Proto, n, size, resp.StatusCode, want)
				}
				if size > 1000 && n > 1000 && seen.Load() != 0 {
					t.Errorf("%s: %d of %d bytes: the body was looked at", resp.Proto, n, size)
				}
			}
		}
	}
}

// TestPeekDeadline: the deadline of the request holds while its body is waited for, over both protocols.
func TestPeekDeadline(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	look := peeker(100, func(*exchange.Exchange) *exchange.Refusal { return refuseConnect }, func(*exchange.Exchange, []byte, bool) {})
	p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
		x.Deadline = time.Now().Add(50 * time.Millisecond)
		return look(x)
	})
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
	if resp, body := readAnswer(t, r, "POST"); resp.StatusCode != 504 {
		t.Errorf("got %d %s, want 504", resp.StatusCode, body)
	}
	in, out := io.Pipe()
	defer out.Close()
	resp, err := h2cClient(t).Post("http://"+addr, "text/plain", in)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 504 {
		t.Errorf("HTTP/2: got %d, want 504", resp.StatusCode)
	}
}

// TestPeekManyStreams: the bodies that the streams of one connection wait for are together larger than its window.
func TestPeekManyStreams(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	send := sendTo(t, p.Proxy, h1Pool(), httpEndpoint(t, summing), nil)
	const streams, size = 40, 100 << 10
	var arrived sync.WaitGroup
	arrived.Add(streams)
	client := h2cClient(t)
	p.setHandler(send)
	resp, err := client.Get("http://" + addr) // so that all share one connection
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	p.setHandler(peeker(size, send, func(*exchange.Exchange, []byte, bool) { arrived.Done(); arrived.Wait() }))
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			resp, err := client.Post("http://"+addr, "text/plain", strings.NewReader(strings.Repeat("x", size)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(b), fmt.Sprint(size)) {
				t.Errorf("the endpoint saw %s", b)
			}
		})
	}
	all.Wait()
}
