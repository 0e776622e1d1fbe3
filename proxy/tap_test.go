package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// recorder is a tap that takes as it is told.
type recorder struct {
	taking exchange.Taking
	most   int // bytes after which it wants no more
	mu     sync.Mutex
	status int
	length int64
	server string
	cookie bool
	body   strings.Builder
	ended  []exchange.Ending
}

func (r *recorder) Head(_ *exchange.Exchange, status int, fields []wire.Field, length int64) (exchange.Taking, []wire.Field) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.length = status, length
	r.server = string(wireField(fields, wire.Server))
	r.cookie = wireField(fields, wire.SetCookie) != nil
	return r.taking, []wire.Field{{Name: []byte("X-More"), Value: []byte("1")}}
}

func (r *recorder) Body(_ *exchange.Exchange, p []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.body.Write(p)
	return r.body.Len() <= r.most
}

func (r *recorder) End(_ *exchange.Exchange, how exchange.Ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, how)
}

// Taps see the answers of endpoints, copy them or keep them from the client.
func TestTaps(t *testing.T) {
	text := strings.Repeat("0123456789", 10_000)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "own")
		switch r.URL.Path {
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "x")
			w.Header().Set("X-Sum", "1")
		case "/none":
			w.WriteHeader(http.StatusNotModified)
		default:
			io.WriteString(w, text)
		}
	}))
	defer service.Close()
	for _, one := range []struct {
		name, path string
		taking     exchange.Taking
		most       int
		status     int    // that the client gets
		got        int    // bytes that the client gets
		tapped     int    // bytes that the tap got; -1: some of them
		ended      string // what the tap is told at the end
	}{
		{"passes", "/", exchange.TakeNothing, 1 << 20, 200, len(text), 0, ""},
		{"is copied", "/", exchange.TakeCopy, 1 << 20, 200, len(text), len(text), "whole"},
		{"is copied in part", "/", exchange.TakeCopy, 10, 200, len(text), -1, "cut"},
		{"is taken", "/", exchange.TakeAll, 1 << 20, 299, 3, len(text), "whole"},
		{"is taken in part", "/", exchange.TakeAll, 10, 299, 3, -1, "cut"},
		{"has no body", "/none", exchange.TakeAll, 10, 299, 3, 0, "whole"},
		{"has trailers", "/trailer", exchange.TakeCopy, 10, 200, 1, 1, "trailed"},
	} {
		t.Run(one.name, func(t *testing.T) {
			p, addr := startProxy(t, h1Limits(), nil)
			r := &recorder{taking: one.taking, most: one.most}
			send := sendTo(t, p.Proxy, h1Pool(), service.Listener.Addr().String(), nil)
			p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
				x.Tap, x.SetCookie = r, []byte("at=1")
				refusal := send(x)
				x.Tap = nil
				if refusal == nil && !x.Outcome.Started {
					return Answer(x, 299, nil, []byte("own"))
				}
				return refusal
			})
			req, _ := http.NewRequest("GET", "http://"+addr+one.path, nil)
			a, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(a.Body)
			a.Body.Close()
			r.mu.Lock()
			defer r.mu.Unlock()
			ended := ""
			for _, how := range r.ended {
				ended += []string{"cut", "whole", "trailed"}[how]
			}
			if err != nil || a.StatusCode != one.status || len(body) != one.got || one.tapped >= 0 && r.body.Len() != one.tapped || ended != one.ended {
				t.Errorf("the client got %d and %d bytes, %v; the tap %d bytes and %q", a.StatusCode, len(body), err, r.body.Len(), ended)
			}
			if r.server != "own" || r.cookie || (a.Header.Get("X-More") == "1") != (one.taking != exchange.TakeAll) || (a.Header.Get("Set-Cookie") != "") != (one.taking != exchange.TakeAll) {
				t.Errorf("the tap saw server %q, a cookie %v; the client %v", r.server, r.cookie, a.Header)
			}
		})
	}
}

// An exchange without a client gets its answer to its tap, and can be ended.
func TestAlone(t *testing.T) {
	hold := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
		io.WriteString(w, "hello")
	}))
	defer service.Close()
	defer close(hold)
	p, _ := startProxy(t, h1Limits(), nil)
	send := sendTo(t, p.Proxy, h1Pool(), service.Listener.Addr().String(), nil)
	alone := func(path string) (*exchange.Exchange, *recorder, func()) {
		r := &recorder{taking: exchange.TakeAll, most: 100}
		x := &exchange.Exchange{Listener: &site.Listener{Name: "web", Limits: h1Limits()}, Tap: r, Request: &wire.Request{Method: []byte("GET"), Target: []byte(path), Host: []byte("a"), Minor: 1, ContentLength: -1}}
		return x, r, Alone(x)
	}
	x, r, cancel := alone("/")
	if refusal := send(x); refusal != nil || r.body.String() != "hello" || x.Result.Status != 200 {
		t.Errorf("%v, %q, %+v", refusal, r.body.String(), x.Result)
	}
	cancel() // after the end: nothing happens
	x, _, cancel = alone("/hold")
	done := make(chan *exchange.Refusal, 1)
	go func() { done <- send(x) }()
	cancel()
	if refusal := <-done; refusal != nil || !x.Outcome.Aborted || x.Result.Kind != exchange.Cancelled {
		t.Errorf("what was ended: %v, %+v, %+v", refusal, x.Outcome, x.Result)
	}
	x, r, _ = alone("/")
	r.taking = exchange.TakeNothing
	if send(x); !x.Outcome.Aborted {
		t.Error("an answer that nobody takes was written somewhere")
	}
}

// awaited is a recorder that says how the answer ended.
type awaited struct {
	recorder
	done chan exchange.Ending
}

func (r *awaited) End(_ *exchange.Exchange, how exchange.Ending) { r.done <- how }

// A client that lets no byte of a body through does not hold up those for whom the answer is copied, if it is short or comes in one piece.
func TestCopiesDoNotWaitForTheClient(t *testing.T) {
	const length = 60_000
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			http.NewResponseController(w).Flush()
			io.WriteString(w, "hello")
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(length))
		if r.URL.Path == "/late" {
			http.NewResponseController(w).Flush()
		}
		io.WriteString(w, strings.Repeat("x", length))
	}))
	defer service.Close()
	for path, want := range map[string]int{"/": length, "/late": length, "/chunked": len("hello")} {
		t.Run(path[1:], func(t *testing.T) {
			p := newH2Proxy(t)
			tap := &awaited{recorder: recorder{taking: exchange.TakeCopy, most: 1 << 20}, done: make(chan exchange.Ending, 2)}
			send := sendTo(t, p, h1Pool(), service.Listener.Addr().String(), nil)
			r := dialRawH2(t, newH2RigOn(t, p, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
				x.Tap = tap
				defer func() { x.Tap = nil }()
				return send(x)
			}))
			defer r.c.Close()
			r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			r.headers(1, true, ":method: GET", ":scheme: http", ":path: "+path, ":authority: a")
			select {
			case how := <-tap.done:
				if how != exchange.Whole || tap.body.Len() != want {
					t.Errorf("%d bytes were copied, ended as %d", tap.body.Len(), how)
				}
			case <-time.After(5 * time.Second):
				t.Error("the copy waits for the client")
			}
		})
	}
}
