package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
)

// play is a server that answers one attempt after the other as it is told, in fake time: "200", "503 Retry-After=1", "dial", "reset",
// "hang", "200 after=1s".
type play struct {
	t *testing.T

	mu     sync.Mutex
	script []string // the last one is said again and again
	heads  []http.Header
	bodies []string
	at     []time.Time
	open   atomic.Int32 // bodies of answers that are not closed
	read   atomic.Int32 // bodies of answers that were read to their end
}

func (p *play) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		text, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
		body = string(text)
	}
	p.mu.Lock()
	line := p.script[min(len(p.heads), len(p.script)-1)]
	p.heads, p.bodies, p.at = append(p.heads, r.Header), append(p.bodies, body), append(p.at, time.Now())
	p.mu.Unlock()
	word := strings.Fields(line)
	h := http.Header{}
	for _, w := range word[1:] {
		name, value, _ := strings.Cut(w, "=")
		if name == "after" {
			d, err := time.ParseDuration(value)
			if err != nil {
				p.t.Error(err)
			}
			if err := sleep(r.Context(), d); err != nil {
				return nil, err
			}
			continue
		}
		h.Set(name, value)
	}
	switch word[0] {
	case "dial":
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	case "reset":
		return nil, &net.OpError{Op: "read", Err: errors.New("reset")}
	case "hang":
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	var status int
	if _, err := fmt.Sscan(word[0], &status); err != nil {
		p.t.Error(err)
	}
	p.open.Add(1)
	return &http.Response{StatusCode: status, Header: h, Body: &watched{p: p, Reader: strings.NewReader("answer")}, Request: r}, nil
}

// watched is a body that says whether it was read and closed.
type watched struct {
	*strings.Reader
	p    *play
	once sync.Once
}

func (w *watched) Close() error {
	w.once.Do(func() {
		w.p.open.Add(-1)
		if w.Len() == 0 {
			w.p.read.Add(1)
		}
	})
	return nil
}

// saved lets a transport earn some repeats.
func saved(t *Transport) {
	for range 50 {
		t.hosts.Of("shop.example", time.Now())
	}
}

func (p *play) attempts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.heads)
}

// request makes one.
func request(ctx context.Context, method string, body io.Reader, header ...string) *http.Request {
	r, err := http.NewRequestWithContext(ctx, method, "http://shop.example/", body)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// status sends a request and says what came: a status or an error.
func status(t *Transport, r *http.Request) string {
	resp, err := t.RoundTrip(r)
	if err != nil {
		var refused *Refused
		if errors.As(err, &refused) {
			return refused.Stage
		}
		return err.Error()
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}

func TestWhatIsRepeated(t *testing.T) {
	key := []string{"Idempotency-Key", "a"}
	for name, c := range map[string]struct {
		method   string
		header   []string
		script   []string
		want     string
		attempts int
		kept     string
	}{
		"success":                    {"GET", nil, []string{"200"}, "200", 1, ""},
		"503 then 200":               {"GET", nil, []string{"503", "200"}, "200", 2, ""},
		"connect then reset":         {"GET", nil, []string{"dial", "reset", "200"}, "200", 3, ""},
		"three at the most":          {"GET", nil, []string{"502"}, "502", 3, "attempts"},
		"400 never":                  {"GET", nil, []string{"400"}, "400", 1, ""},
		"plain 500 never":            {"GET", nil, []string{"500"}, "500", 1, ""},
		"429 without a time":         {"GET", nil, []string{"429"}, "429", 1, ""},
		"429 with a short time":      {"GET", nil, []string{"429 Retry-After=1", "200"}, "200", 2, ""},
		"429 with a long time":       {"GET", nil, []string{"429 Retry-After=9"}, "429", 1, "retry_after"},
		"post after 503":             {"POST", nil, []string{"503", "200"}, "503", 1, "unsafe"},
		"post with a key":            {"POST", key, []string{"503", "200"}, "200", 2, ""},
		"post without a connection":  {"POST", nil, []string{"dial", "200"}, "200", 2, ""},
		"post after a reset":         {"POST", nil, []string{"reset"}, "read: reset", 1, "unsafe"},
		"forbidden":                  {"GET", nil, []string{"503 Evenkeel-No-Retry=1"}, "503", 1, "forbidden"},
		"repeat of a sender":         {"GET", []string{"Evenkeel-Attempt", "2"}, []string{"503"}, "503", 1, "nested"},
		"grpc status":                {"POST", key, []string{"200 Content-Type=application/grpc Grpc-Status=14", "200"}, "200", 2, ""},
		"grpc pushback":              {"POST", key, []string{"200 Content-Type=application/grpc Grpc-Status=8 Grpc-Retry-Pushback-Ms=20", "200"}, "200", 2, ""},
		"grpc forbids":               {"POST", key, []string{"200 Content-Type=application/grpc Grpc-Status=14 Grpc-Retry-Pushback-Ms=-1"}, "200", 1, "forbidden"},
		"grpc status of another one": {"POST", key, []string{"200 Grpc-Status=14"}, "200", 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &play{t: t, script: c.script}
				last := Attempt{}
				tr := New(Options{Base: p, Share: 1, Observe: func(a Attempt) { last = a }})
				saved(tr)
				if have := status(tr, request(t.Context(), c.method, nil, c.header...)); have != c.want {
					t.Errorf("it came to %s, want %s", have, c.want)
				}
				if p.attempts() != c.attempts || last.Number != c.attempts || last.Kept != c.kept {
					t.Errorf("%d attempts, the last is %+v, want %d and %q", p.attempts(), last, c.attempts, c.kept)
				}
				if n := p.open.Load(); n != 0 {
					t.Errorf("%d bodies are not closed", n)
				}
			})
		})
	}
}

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"503", "429 Retry-After=1", "200"}}
		tr := New(Options{Base: p, Share: 1, Random: func() float64 { return 0.5 }})
		saved(tr)
		if have := status(tr, request(t.Context(), "GET", nil)); have != "200" {
			t.Fatal(have)
		}
		first, second := p.at[1].Sub(p.at[0]), p.at[2].Sub(p.at[1])
		if first != 12500*time.Microsecond || second != time.Second+25*time.Millisecond {
			t.Errorf("waits were %v and %v, want half of 25 ms, and a second and half of 50 ms", first, second)
		}
		if p.read.Load() != 3 {
			t.Errorf("%d bodies were read to their end, want all, for their connections' sake", p.read.Load())
		}
	})
}

// No wait goes beyond the deadline: the answer that is there is handed out at once.
func TestNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"503 Retry-After=1"}}
		var kept string
		tr := New(Options{Base: p, Observe: func(a Attempt) { kept = a.Kept }})
		ctx, stop := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer stop()
		began := time.Now()
		resp, err := tr.RoundTrip(request(ctx, "GET", nil))
		if err != nil || kept != "deadline" || time.Since(began) != 0 {
			t.Fatalf("%v, kept for %q after %v", err, kept, time.Since(began))
		}
		if resp.Header.Get(retry.FieldNoRetry) != "1" {
			t.Error("whoever passes this on is not told that it was tried")
		}
		_ = resp.Body.Close()
	})
}

// Only an answer that was tried is marked: the sender of a repeat, or one who knows that it may be done twice, may go on.
func TestMark(t *testing.T) {
	for name, c := range map[string]struct {
		method, attempt, script string
		marked                  bool
	}{
		"all attempts": {"GET", "", "503", true}, "a repeat": {"GET", "2", "503", false}, "unsafe": {"POST", "", "503", false}, "well": {"GET", "", "200", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := New(Options{Base: &play{t: t, script: []string{c.script}}})
			saved(tr)
			resp, err := tr.RoundTrip(request(t.Context(), c.method, nil, "Evenkeel-Attempt", c.attempt))
			if err != nil {
				t.Fatal(err)
			}
			if have := resp.Header.Get(retry.FieldNoRetry) == "1"; have != c.marked {
				t.Errorf("%s: marked %v", name, have)
			}
			_ = resp.Body.Close()
		})
	}
}

// A request that is not sent has its body closed all the same, as net/http wants it.
func TestRefusedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := New(Options{Base: &play{t: t, script: []string{"503"}}, Random: func() float64 { return 0 }, Rules: retry.Rules{Attempts: 1}})
		for range 5 {
			status(tr, request(t.Context(), "PUT", nil))
		}
		r := request(t.Context(), "PUT", strings.NewReader("x"))
		closed := &closing{ReadCloser: r.Body}
		r.Body = closed
		if have := status(tr, r); have != StageThrottle || closed.times.Load() != 1 {
			t.Errorf("%s, closed %d times", have, closed.times.Load())
		}
	})
}

func TestDeadlines(t *testing.T) {
	for name, c := range map[string]struct {
		o        Options
		deadline time.Duration
		script   []string
		want     string
		took     time.Duration
	}{
		"of the context":              {Options{}, time.Second, []string{"hang"}, "context deadline exceeded", time.Second},
		"of the options":              {Options{Timeout: 2 * time.Second}, 0, []string{"hang"}, "context deadline exceeded", 2 * time.Second},
		"context before options":      {Options{Timeout: 2 * time.Second}, 3 * time.Second, []string{"hang"}, "context deadline exceeded", 3 * time.Second},
		"of an attempt, then another": {Options{AttemptTimeout: time.Second}, 3 * time.Second, []string{"hang", "200"}, "200", time.Second},
		"of an attempt, not again":    {Options{AttemptTimeout: time.Second, Rules: retry.Rules{Attempts: 1}}, 0, []string{"hang"}, "client: shop.example has not answered in 1s: context deadline exceeded", time.Second},
		"in the wait":                 {Options{}, 0, []string{"503 Retry-After=1"}, "context canceled", 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				if c.deadline > 0 {
					ctx, stop = context.WithTimeout(t.Context(), c.deadline)
				}
				defer stop()
				if name == "in the wait" {
					time.AfterFunc(c.took, stop)
				}
				c.o.Base, c.o.Random = &play{t: t, script: c.script}, func() float64 { return 0 }
				began := time.Now()
				if have := status(New(c.o), request(ctx, "GET", nil)); have != c.want || time.Since(began) != c.took {
					t.Errorf("%s after %v, want %s after %v", have, time.Since(began), c.want, c.took)
				}
			})
		})
	}
}

// The context of an answer ends with its body, not before.
func TestAnswerIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inner context.Context
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			inner = r.Context()
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("answer"))}, nil
		})
		resp, err := New(Options{Base: base, Timeout: time.Minute, AttemptTimeout: time.Second}).RoundTrip(request(t.Context(), "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := sleep(t.Context(), 10*time.Second); err != nil || inner.Err() != nil {
			t.Fatalf("%v, and the context ended with %v: the time of an attempt counts to the head only", err, inner.Err())
		}
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "answer" || inner.Err() == nil {
			t.Errorf("%q, %v; the context has not ended: %v", text, err, inner.Err() == nil)
		}
		_ = resp.Body.Close()
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestBodies(t *testing.T) {
	large := strings.Repeat("x", replayMost+1)
	for name, c := range map[string]struct {
		body     func() io.Reader
		want     string
		attempts int
	}{
		"GetBody":           {func() io.Reader { return strings.NewReader("order") }, "order", 2},
		"large GetBody":     {func() io.Reader { return strings.NewReader(large) }, large, 2},
		"kept":              {func() io.Reader { return io.MultiReader(strings.NewReader("or"), strings.NewReader("der")) }, "order", 2},
		"kept to the limit": {func() io.Reader { return io.LimitReader(strings.NewReader(large), replayMost) }, large[1:], 2},
		"too large":         {func() io.Reader { return io.MultiReader(strings.NewReader(large)) }, large, 1},
		"no body":           {func() io.Reader { return nil }, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &play{t: t, script: []string{"503", "200"}}
				r := request(t.Context(), "PUT", c.body())
				closed := &closing{ReadCloser: r.Body}
				if r.Body != nil {
					r.Body = closed
				}
				status(New(Options{Base: p}), r)
				if p.attempts() != c.attempts {
					t.Fatalf("%d attempts, want %d", p.attempts(), c.attempts)
				}
				for i, body := range p.bodies {
					if body != c.want {
						t.Errorf("attempt %d had %d bytes, want %d", i+1, len(body), len(c.want))
					}
				}
				if r.Body != nil && closed.times.Load() == 0 {
					t.Error("the body of the request is not closed")
				}
			})
		})
	}
}

type closing struct {
	io.ReadCloser
	times atomic.Int32
}

func (c *closing) Close() error { c.times.Add(1); return c.ReadCloser.Close() }

// A body that still comes is not waited for, and a read that waits is ended by its sender's Close.
func TestBodyUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		attempts := 0
		base := roundTrip(func(r *http.Request) (*http.Response, error) {
			attempts++
			ended := make(chan struct{})
			go func() { defer close(ended); _, _ = io.Copy(io.Discard, r.Body) }()
			go func() { <-ended; _ = r.Body.Close() }()
			return nil, &net.OpError{Op: "read", Err: errors.New("reset")}
		})
		go func() { _, _ = out.Write([]byte("half")) }()
		if have := status(New(Options{Base: base}), request(t.Context(), "PUT", in)); have != "read: reset" || attempts != 1 {
			t.Errorf("%s after %d attempts", have, attempts)
		}
		_ = out.Close()
	})
}

func TestFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"503", "200"}}
		ctx, stop := context.WithTimeout(WithClass(t.Context(), Critical), 1500*time.Millisecond)
		defer stop()
		r := request(ctx, "PUT", strings.NewReader("x"), "Content-Type", "application/grpc+proto", "X-Own", "a")
		if have := status(New(Options{Base: p, Random: func() float64 { return 1 }}), r); have != "200" {
			t.Fatal(have)
		}
		for i, want := range []map[string]string{
			{"Evenkeel-Deadline": "1500", "Grpc-Timeout": "1500m", "Evenkeel-Class": "critical", "Evenkeel-Attempt": "", "X-Own": "a"},
			{"Evenkeel-Deadline": "1475", "Grpc-Timeout": "1475m", "Evenkeel-Class": "critical", "Evenkeel-Attempt": "2", "X-Own": "a"},
		} {
			for name, value := range want {
				if have := p.heads[i].Get(name); have != value {
					t.Errorf("attempt %d: %s is %q, want %q", i+1, name, have, value)
				}
			}
		}
		if len(r.Header) != 2 {
			t.Errorf("the caller's own header was changed: %v", r.Header)
		}
		p = &play{t: t, script: []string{"200"}}
		status(New(Options{Base: p, NoFields: true}), request(ctx, "GET", nil))
		status(New(Options{Base: p}), request(WithAttempt(t.Context(), 3), "GET", nil, "Evenkeel-Class", "low"))
		status(New(Options{Base: p}), request(ctx, "GET", nil, "Evenkeel-Deadline", "20"))
		if h := p.heads[0]; len(h) != 0 {
			t.Errorf("sent %v to a server that is not ours", h)
		}
		if h := p.heads[1]; h.Get("Evenkeel-Attempt") != "3" || h.Get("Evenkeel-Class") != "low" || h.Get("Evenkeel-Deadline") != "" {
			t.Errorf("sent %v", h)
		}
		if h := p.heads[2]; h.Get("Evenkeel-Deadline") != "20" {
			t.Errorf("a deadline that is passed on was made longer: %v", h)
		}
	})
}

// TestDrain: what is read of an answer that is thrown away is bounded, in bytes and in time.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, drip := 0, roundTrip(nil)
		drip = func(r *http.Request) (*http.Response, error) {
			if n++; n == 2 {
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
			}
			body := reader(func(p []byte) (int, error) {
				err := sleep(r.Context(), 20*time.Millisecond)
				return copy(p, "."), err
			})
			return &http.Response{StatusCode: 503, Header: http.Header{}, Body: io.NopCloser(body)}, nil
		}
		began := time.Now()
		if have := status(New(Options{Base: drip, Random: func() float64 { return 0 }}), request(t.Context(), "GET", nil)); have != "200" || time.Since(began) != drainFor {
			t.Errorf("%s after %v", have, time.Since(began))
		}
	})
	endless := &counted{}
	e := ending{resp: &http.Response{Body: io.NopCloser(endless)}, stop: func() {}}
	if e.discard(); endless.n > 2*drainMost {
		t.Errorf("%d bytes were read", endless.n)
	}
}

type reader func([]byte) (int, error)

func (f reader) Read(p []byte) (int, error) { return f(p) }

type counted struct{ n int }

func (c *counted) Read(p []byte) (int, error) {
	clear(p)
	c.n += len(p)
	return len(p), nil
}

// Answers to an upgrade are written to as well.
func TestUpgrade(t *testing.T) {
	var buf bytes.Buffer
	base := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 101, Header: http.Header{}, Body: struct {
			io.ReadCloser
			io.Writer
		}{http.NoBody, &buf}}, nil
	})
	resp, err := New(Options{Base: base}).RoundTrip(request(t.Context(), "GET", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if w, is := resp.Body.(io.ReadWriteCloser); !is {
		t.Error("the body cannot be written")
	} else if _, err := w.Write([]byte("hello")); err != nil || buf.String() != "hello" {
		t.Errorf("%v, %q", err, buf.String())
	}
}
