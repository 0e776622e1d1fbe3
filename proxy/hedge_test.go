package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// couple is a pool of two endpoints, and the Judge of requests to them: the second is asked beside the first after a moment.
type couple struct {
	first, second *exchange.Endpoint
	done          atomic.Int64
}

func (p *couple) Pick(*exchange.Exchange) (*exchange.Endpoint, *exchange.Refusal) {
	return p.first, nil
}

func (p *couple) Done(*exchange.Exchange, *exchange.Endpoint, exchange.Result) { p.done.Add(1) }

func (p *couple) Again(*exchange.Exchange) bool { return false }

func (p *couple) Hedge(x *exchange.Exchange) bool {
	x.Endpoint, x.SetCookie = p.second, []byte("at=second")
	return true
}

// hedged sends one GET through an exchange that begins as it would at the first of two endpoints, and returns the answer and the exchange as Send left it.
func hedged(t *testing.T, first, second http.HandlerFunc) (*http.Response, string, exchange.Exchange) {
	t.Helper()
	p := started(t, Deps{})
	up, err := p.Upstream(h1Pool())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	both := &couple{first: &exchange.Endpoint{Address: httpEndpoint(t, first)}, second: &exchange.Endpoint{Address: httpEndpoint(t, second)}}
	up.Attach(both.first)
	up.Attach(both.second)
	route := &exchange.Route{Pool: both, Hedge: new(exchange.Hedging)}
	route.Hedge.After.Store(int64(50 * time.Millisecond))
	left := make(chan exchange.Exchange, 1)
	addr := serving(t, p, testListener("web", "http"), func(x *exchange.Exchange) *exchange.Refusal {
		x.Route, x.Endpoint, x.Judge, x.Attempt, x.SetCookie = route, both.first, both, 1, []byte("at=first")
		r := Send(x)
		left <- *x
		return r
	})
	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body), <-left
}

// TestHedgeBinds: the cookie that binds a client to an endpoint is that of the one whose answer it gets.
func TestHedgeBinds(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	name := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }
	}
	for want, h := range map[string][2]http.HandlerFunc{"first": {name("first"), hang}, "second": {hang, name("second")}} {
		resp, body, _ := hedged(t, h[0], h[1])
		if got := resp.Header.Get("Set-Cookie"); body != want || got != "at="+want {
			t.Errorf("the answer of the %s came from the %s with %q", want, body, got)
		}
	}
}

// TestHedgeCounts: a second attempt beside the first is one of those that a request may have, and its endpoint is remembered if it failed.
func TestHedgeCounts(t *testing.T) {
	late := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
		}
		w.WriteHeader(503)
	}
	soon := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
	for name, c := range map[string]struct {
		first, second http.HandlerFunc
		attempt       int
		remembered    bool
	}{"it was not needed": {soon, soon, 1, false}, "both failed": {late, soon, 2, true}, "it was called off": {late, late, 2, false}} {
		_, _, x := hedged(t, c.first, c.second)
		if x.Attempt != c.attempt || (x.Tried[0] != nil) != c.remembered || x.Tried[0] == x.Endpoint {
			t.Errorf("%s: attempt %d, tried %v", name, x.Attempt, x.Tried)
		}
	}
}

// TestHedgeCalledOff: a client that leaves after the first attempt failed ends the second too, which was only connecting then.
func TestHedgeCalledOff(t *testing.T) {
	for _, connects := range []bool{false, true} {
		comes, fails, failed, asked, over, of := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan *h2Front, 1)
		first := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-fails
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
		}))
		t.Cleanup(first.Close)
		second := echoed(t, func(c *net.TCPConn) {
			close(comes)
			<-failed
			if connects {
				s := tls.Server(c, first.TLS)
				s.Read(make([]byte, 1<<10))
				close(asked)
				s.Read(make([]byte, 1))
			} else {
				io.Copy(io.Discard, c)
			}
			close(over)
		})
		pool := h1Pool()
		pool.TLS, pool.Timeouts.Connect, pool.Timeouts.FirstByte = &site.EndpointTLS{}, time.Minute, time.Minute
		p := newH2Proxy(t)
		up, err := p.Upstream(pool)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(up.Close)
		both := &couple{first: &exchange.Endpoint{Address: first.Listener.Addr().String()}, second: &exchange.Endpoint{Address: second}}
		up.Attach(both.first)
		up.Attach(both.second)
		route := &exchange.Route{Pool: both, Hedge: new(exchange.Hedging)}
		route.Hedge.After.Store(int64(time.Millisecond))
		rig := newH2RigOn(t, p, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
			x.Route, x.Endpoint, x.Judge, x.Attempt = route, both.first, both, 1
			of <- x.Front.(*h2Front)
			return Send(x)
		})
		ctx, leave := context.WithCancel(t.Context())
		client := h2cClient(t)
		go func() {
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+rig.addr, nil)
			if res, err := client.Do(r); err == nil {
				res.Body.Close()
			}
		}()
		<-comes
		close(fails)
		f := <-of
		eventually(t, "the client is watched for an attempt that is connecting", func() bool {
			f.h.mu.Lock()
			defer f.h.mu.Unlock()
			_, is := f.watched.(connecting)
			return is
		})
		close(failed)
		if connects {
			<-asked
		}
		leave()
		select {
		case <-over:
		case <-time.After(testDeadline):
			t.Errorf("connects %v: the second attempt goes on", connects)
		}
	}
}
