package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/contain/retry"
	"github.com/even-keel/evenkeel/trace"
)

// However much fails, attempts stay within a tenth of the requests and the first repeat.
func TestAmplification(t *testing.T) {
	for _, rate := range []float64{0.02, 0.5, 20, 500} {
		synctest.Test(t, func(t *testing.T) {
			p := &play{t: t, script: []string{"503"}}
			tr := New(Options{Base: p, NoThrottle: true, NoBreaker: true})
			const n = 2000
			for range n {
				status(tr, request(t.Context(), "GET", nil))
				_ = sleep(t.Context(), time.Duration(float64(time.Second)/rate))
			}
			if have := p.attempts(); have < n || float64(have) > 1.1*n+1 {
				t.Errorf("%v requests a second: %d attempts of %d requests", rate, have, n)
			}
		})
	}
}

// A server that refuses low requests is asked for few of them, and for all critical ones.
func TestThrottleByClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := map[string]int{}
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			class, code := r.Header.Get(FieldClass), 200
			if sent[class]++; class == "low" {
				code = 503
			}
			return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody}, nil
		})
		rnd := rand.New(rand.NewPCG(1, 1))
		tr := New(Options{Base: base, Random: rnd.Float64, Rules: retry.Rules{Attempts: 1}})
		for range 1000 {
			for _, class := range []Class{Critical, Low} {
				status(tr, request(WithClass(t.Context(), class), "GET", nil))
				_ = sleep(t.Context(), 10*time.Millisecond)
			}
		}
		if sent["critical"] != 1000 || sent["low"] > 150 || sent["low"] < 50 {
			t.Errorf("sent were %v", sent)
		}
		s := tr.Status()[0]
		if s.Throttled != uint64(1000-sent["low"]) || s.Throttle[2] != 0.9 || s.Throttle[1] != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"reset"}}
		tr := New(Options{Base: p, Random: func() float64 { return 0.99 }})
		var refused *Refused
		for n := 0; ; n++ {
			_, err := tr.RoundTrip(request(t.Context(), "GET", nil))
			if errors.As(err, &refused) {
				break
			}
			if n > 20 {
				t.Fatal("the breaker never opens")
			}
			_ = sleep(t.Context(), 300*time.Millisecond)
		}
		if refused.Stage != StageBreaker || refused.Wait <= 0 || !strings.Contains(refused.Error(), "GET was not sent to shop.example: breaker: open: ") {
			t.Errorf("%+v: %v", refused, refused)
		}
		p.mu.Lock()
		p.script = []string{"200"}
		p.mu.Unlock()
		_ = sleep(t.Context(), refused.Wait+time.Second)
		for range 20 { // a trial, and then all: the throttle has forgotten what was before
			if have := status(tr, request(t.Context(), "GET", nil)); have != "200" {
				t.Errorf("after it came back: %s", have)
			}
		}
		if s := tr.Status()[0]; s.Breaker.State != breaker.Closed || s.Breaker.Opened != 1 || s.Broken != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Callers that leave, and deadlines that left no time, say nothing of the host.
func TestLeavingSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"hang"}}
		tr := New(Options{Base: p})
		for range 50 {
			ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
			status(tr, request(ctx, "GET", nil))
			stop()
			ctx, stop = context.WithCancel(t.Context())
			time.AfterFunc(time.Second, stop)
			status(tr, request(ctx, "GET", nil))
		}
		if s := tr.Status()[0]; s.Attempts != 100 || s.Throttled+s.Broken != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestHedge(t *testing.T) {
	for name, c := range map[string]struct {
		method   string
		script   []string
		share    float64
		want     string
		attempts int
		took     time.Duration
		told     string // of attempts: number, h for a hedge, status
	}{
		"not needed":          {"GET", []string{"200 after=50ms"}, 0, "200", 1, 50 * time.Millisecond, "1:200"},
		"the second wins":     {"GET", []string{"200 after=5s", "200 after=50ms"}, 0, "200", 2, 150 * time.Millisecond, "2h:200 1:0"},
		"the first wins":      {"GET", []string{"200 after=120ms", "200 after=5s"}, 0, "200", 2, 120 * time.Millisecond, "1:200 2h:0"},
		"the first fails":     {"GET", []string{"503 after=120ms", "200 after=200ms"}, 0, "200", 2, 300 * time.Millisecond, "1:503 2h:200"},
		"the second fails":    {"GET", []string{"200 after=400ms", "reset after=10ms"}, 0, "200", 2, 400 * time.Millisecond, "2h:0 1:200"},
		"both fail, a third":  {"GET", []string{"503 after=200ms", "503 after=200ms", "200"}, 0, "200", 3, 300 * time.Millisecond, "1:503 2h:503 3:200"},
		"fails before":        {"GET", []string{"503", "200"}, 0, "200", 2, 0, "1:503 2:200"},
		"no budget":           {"GET", []string{"200 after=5s"}, -1, "200", 1, 5 * time.Second, "1:200"},
		"not for what writes": {"PUT", []string{"200 after=5s"}, 0, "200", 1, 5 * time.Second, "1:200"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // and it fails when a goroutine stays
				p := &play{t: t, script: c.script}
				seen := make(chan Attempt, 100)
				tr := New(Options{Base: p, Hedge: 100 * time.Millisecond, Random: func() float64 { return 0 }, Share: c.share, Observe: func(a Attempt) { seen <- a }})
				saved(tr)
				for len(seen) > 0 {
					<-seen
				}
				began := time.Now()
				have := status(tr, request(t.Context(), c.method, nil))
				if took := time.Since(began); have != c.want || p.attempts() != c.attempts || took != c.took {
					t.Errorf("%s after %d attempts in %v, want %s, %d, %v", have, p.attempts(), took, c.want, c.attempts, c.took)
				}
				synctest.Wait()
				if n := p.open.Load(); n != 0 {
					t.Errorf("%d bodies are not closed", n)
				}
				told := ""
				for range len(seen) {
					a := <-seen
					told += fmt.Sprint(a.Number, map[bool]string{true: "h"}[a.Hedge], ":", a.Status, " ")
				}
				if told = strings.TrimSpace(told); told != c.told {
					t.Errorf("told of %q, want %q", told, c.told)
				}
			})
		})
	}
}

func TestHostsAreBounded(t *testing.T) {
	tr := New(Options{Base: &play{t: t, script: []string{"200"}}, Hosts: 3})
	for i := range 100 {
		for _, host := range []string{"always", fmt.Sprint("host-", i)} {
			r := request(t.Context(), "GET", nil)
			r.URL.Host = host
			status(tr, r)
		}
	}
	names := ""
	for _, s := range tr.Status() {
		names += s.Host + " "
	}
	if names != "always host-98 host-99 " {
		t.Errorf("remembered are %s", names)
	}
}

// TestRealServer: what net/http makes of a dead, a resetting and a hanging server, with requests at once; nothing stays behind.
func TestRealServer(t *testing.T) {
	before := runtime.NumGoroutine()
	var n, got atomic.Int32
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Add(1)
		if r.URL.Path == "/hang" {
			<-hang
			return
		}
		switch n.Add(1) % 5 {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, strings.Repeat("answer", 1000))
	}))
	base := &http.Transport{}
	tr := New(Options{Base: base, Share: 1, AttemptTimeout: 5 * time.Second, NoBreaker: true, NoThrottle: true})
	client := &http.Client{Transport: tr}
	var all sync.WaitGroup
	var good atomic.Int32
	for range 8 {
		all.Go(func() {
			for range 25 {
				resp, err := client.Do(request2(t, "PUT", s.URL, strings.NewReader("order")))
				if err == nil {
					if resp.StatusCode == 200 {
						good.Add(1)
					}
					_ = resp.Body.Close()
				}
			}
		})
	}
	all.Wait()
	if good.Load() < 180 {
		t.Errorf("%d of 200 went well", good.Load())
	}
	short := New(Options{Base: base, AttemptTimeout: 50 * time.Millisecond, Rules: retry.Rules{Attempts: 2}})
	if have := status(short, request2(t, "GET", s.URL+"/hang", nil)); !strings.Contains(have, "has not answered in 50ms") {
		t.Error(have)
	}
	close(hang)
	client.CloseIdleConnections()
	s.Close()
	reasons := map[retry.Reason]int{}
	dead := New(Options{Base: base, Observe: func(a Attempt) { reasons[a.Reason]++ }})
	if have := status(dead, request2(t, "POST", s.URL, nil)); !strings.Contains(have, "refused") || reasons[retry.ConnectFailed] != 2 {
		t.Errorf("%s, %v", have, reasons)
	}
	base.CloseIdleConnections()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}

func request2(t *testing.T, method, url string, body *strings.Reader) *http.Request {
	t.Helper()
	var r *http.Request
	var err error
	if body == nil {
		r, err = http.NewRequestWithContext(t.Context(), method, url, nil)
	} else {
		r, err = http.NewRequestWithContext(t.Context(), method, url, body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Certificates do not become right by trying again.
func TestCertificate(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := New(Options{Base: base})
	status(tr, request2(t, "GET", s.URL, nil))
	if got := tr.Status()[0]; got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
	tr = New(Options{Base: roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "shop.example"}
	})})
	if status(tr, request(t.Context(), "POST", nil)); tr.Status()[0].Attempts != 2 {
		t.Errorf("%+v", tr.Status()[0])
	}
}

func TestReceive(t *testing.T) {
	for name, c := range map[string]struct {
		header  []string
		class   Class
		attempt int
		left    time.Duration // 0: none
		status  int
	}{
		"nothing said":     {nil, "", 1, 0, 200},
		"all said":         {[]string{"Evenkeel-Class", "low", "Evenkeel-Attempt", "2", "Evenkeel-Deadline", "1500"}, Low, 2, 1500 * time.Millisecond, 200},
		"malformed":        {[]string{"Evenkeel-Class", "gold", "Evenkeel-Attempt", "-2", "Evenkeel-Deadline", "1.5"}, "", 1, 0, 200},
		"envoy":            {[]string{"X-Envoy-Expected-Rq-Timeout-Ms", "20"}, "", 1, 20 * time.Millisecond, 200},
		"the shortest":     {[]string{"Evenkeel-Deadline", "900", "Grpc-Timeout", "1S"}, "", 1, 900 * time.Millisecond, 200},
		"passed":           {[]string{"Evenkeel-Deadline", "0"}, "", 1, 0, 504},
		"a year is a day":  {[]string{"Evenkeel-Deadline", "31536000000"}, "", 1, 24 * time.Hour, 200},
		"too large to say": {[]string{"Evenkeel-Deadline", "99999999999999999999"}, "", 1, 0, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := Receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					left := time.Duration(0)
					if end, has := r.Context().Deadline(); has {
						left = time.Until(end)
					}
					if ClassOf(r.Context()) != c.class || AttemptOf(r.Context()) != c.attempt || left != c.left {
						t.Errorf("class %q, attempt %d, %v left", ClassOf(r.Context()), AttemptOf(r.Context()), left)
					}
				}))
				r, w := request(t.Context(), "GET", nil, c.header...), httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != c.status || (w.Code == 504) != (w.Header().Get(retry.FieldNoRetry) == "1") {
					t.Errorf("%d, %v", w.Code, w.Header())
				}
			})
		})
	}
}

func FuzzReceive(f *testing.F) {
	f.Add("1500", "low", "2", "1S", placeA, "rojo=1")
	f.Add("0", "", "99999999999", "99999999H", "00-", "\x00")
	f.Fuzz(func(t *testing.T, deadline, class, attempt, grpc, parent, state string) {
		r := request(context.Background(), "GET", nil)
		r.Header = http.Header{"Evenkeel-Deadline": {deadline}, FieldClass: {class}, retry.FieldAttempt: {attempt}, "Grpc-Timeout": {grpc},
			FieldTraceparent: {parent}, FieldTracestate: {state}}
		ctx, stop := FromRequest(r)
		defer stop()
		if end, has := ctx.Deadline(); has && time.Until(end) > 24*time.Hour {
			t.Errorf("%v left", time.Until(end))
		}
		if n := AttemptOf(ctx); n < 1 || n > 100 {
			t.Errorf("attempt %d", n)
		}
		if c := ClassOf(ctx); c != "" && c != Critical && c != Standard && c != Low {
			t.Errorf("class %q", c)
		}
		parent, state = TraceOf(ctx)
		if _, ok := trace.Parse([]byte(parent)); ok != (parent != "") || parent == "" && state != "" || strings.ContainsAny(state, "\r\n\x00") {
			t.Errorf("traceparent %q, tracestate %q", parent, state)
		}
	})
}

// BenchmarkRoundTrip is what a call costs beside its base.
func BenchmarkRoundTrip(b *testing.B) {
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}
	base := roundTrip(func(*http.Request) (*http.Response, error) { r := *resp; return &r, nil })
	tr := New(Options{Base: base})
	r := request(b.Context(), "GET", nil)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := tr.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}
