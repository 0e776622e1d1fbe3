package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
)

// TestLongRetryAfter: whoever is told to come back after a time that is not waited for hears so at once, and can read it.
func TestLongRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"503 Retry-After=30"}}
		tr := New(Options{Base: p})
		saved(tr)
		began := time.Now()
		resp, err := tr.RoundTrip(request(t.Context(), "GET", nil))
		if err != nil || resp.StatusCode != 503 || time.Since(began) != 0 || p.attempts() != 1 {
			t.Fatalf("%v, %v after %v and %d attempts", resp, err, time.Since(began), p.attempts())
		}
		if RetryAfter(resp, err) != 30*time.Second {
			t.Errorf("again after %v", RetryAfter(resp, err))
		}
		_ = resp.Body.Close()
	})
	for name, c := range map[string]struct {
		resp *http.Response
		err  error
		want time.Duration
	}{
		"nothing":           {nil, nil, 0},
		"another error":     {nil, errors.New("other"), 0},
		"refused here":      {nil, &url.Error{Op: "Get", Err: &Refused{Wait: time.Minute}}, time.Minute},
		"wrapped":           {nil, fmt.Errorf("no prices: %w", &Refused{Wait: time.Second}), time.Second},
		"an answer":         {&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"7"}}}, nil, 7 * time.Second},
		"no time":           {&http.Response{StatusCode: 503, Header: http.Header{}}, nil, 0},
		"malformed":         {&http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {"soon"}}}, nil, 0},
		"an answer is well": {&http.Response{StatusCode: 200, Header: http.Header{"Retry-After": {"7"}}}, nil, 0},
	} {
		if have := RetryAfter(c.resp, c.err); have != c.want {
			t.Errorf("%s: %v, want %v", name, have, c.want)
		}
	}
}

// TestSilence: a host that asks for silence gets no repeat and no hedge until it is over or something was accepted. Requests keep it too, all but a
// tenth, when everything was refused for a while.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"503 Retry-After=30"}}
		tell := func(script ...string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.script, p.heads = script, nil
		}
		kept := ""
		tr := New(Options{Base: p, Share: 1, Random: func() float64 { return 0.5 }, NoBreaker: true, Hedge: time.Second, Observe: func(a Attempt) { kept = a.Kept }})
		saved(tr)
		get := func() string { return status(tr, request(t.Context(), "GET", nil)) }
		// One such answer: others are sent as ever, but not twice.
		get()
		if tell("reset"); get() != "read: reset" || p.attempts() != 1 || kept != "retry_after" {
			t.Errorf("%d attempts, kept for %q", p.attempts(), kept)
		}
		if left := tr.Status()[0].Silence; left[0] != 30*time.Second || left[1] != 0 {
			t.Errorf("silence is %v", left)
		}
		// Another class was told nothing.
		if tell("reset", "200"); status(tr, request(WithClass(t.Context(), Critical), "GET", nil)) != "200" || p.attempts() != 2 {
			t.Errorf("%d attempts of a critical request", p.attempts())
		}
		if tell("200 after=5s"); get() != "200" || p.attempts() != 1 {
			t.Errorf("%d attempts where a hedge might be", p.attempts())
		}
		// Something was accepted: it is over.
		if tell("reset", "200"); get() != "200" || p.attempts() != 2 {
			t.Errorf("%d attempts after silence", p.attempts())
		}
		// That of an answer that was accepted is about what it began, not about the host.
		if tell("202 Retry-After=30", "reset", "200"); get() != "202" || get() != "200" || p.attempts() != 3 {
			t.Errorf("%d attempts after an answer that was accepted", p.attempts())
		}
		// Everything is refused for a minute, so seldom that the window forgets.
		tell("503 Retry-After=60")
		for range 10 {
			_ = sleep(t.Context(), 6*time.Second)
			if have := get(); have != "503" {
				t.Fatalf("%s: requests are held back too soon", have)
			}
		}
		for range 5 {
			_ = sleep(t.Context(), 10*time.Second)
			_, err := tr.RoundTrip(request(t.Context(), "GET", nil))
			var refused *Refused
			if !errors.As(err, &refused) || refused.Stage != StageThrottle || refused.Wait <= 0 || !strings.Contains(refused.Why, "more of silence") {
				t.Fatalf("%v", err)
			}
		}
		_ = sleep(t.Context(), 30*time.Second)
		if tell("200"); get() != "200" {
			t.Error("silence does not end")
		}
	})
}

// TestSilenceOfSome: a server that refuses most and says so with long times is asked as one that says nothing.
func TestSilenceOfSome(t *testing.T) {
	sent := func(answer string) (n int) {
		synctest.Test(t, func(t *testing.T) {
			p := &play{t: t}
			for i := range 2000 {
				p.script = append(p.script, []string{"200", answer, answer}[i%3])
			}
			rnd := rand.New(rand.NewPCG(1, 1))
			tr := New(Options{Base: p, NoBreaker: true, Rules: retry.Rules{Attempts: 1}, Random: rnd.Float64})
			for range 1500 {
				_ = sleep(t.Context(), 50*time.Millisecond)
				status(tr, request(context.Background(), "GET", nil))
			}
			n = p.attempts()
		})
		return n
	}
	if with, without := sent("503 Retry-After=30"), sent("503"); with < without*9/10 {
		t.Errorf("%d are sent where %d are without its asking", with, without)
	}
}
