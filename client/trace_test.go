package client

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	placeA = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	placeB = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01"
)

// TestTraceTravels: each attempt says where in a trace it is, by the option, the context or the request itself.
func TestTraceTravels(t *testing.T) {
	ofAttempt := func(ctx context.Context) (string, string) {
		return fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e4736-%016x-01", AttemptOf(ctx)), "own=1"
	}
	inContext := func(ctx context.Context) context.Context { return WithTrace(ctx, placeA, "rojo=1") }
	for name, c := range map[string]struct {
		o      Options
		ctx    func(context.Context) context.Context
		header []string
		want   []string // traceparent and tracestate of each attempt
	}{
		"nobody says anything":          {want: []string{"", "", "", ""}},
		"by the context":                {ctx: inContext, want: []string{placeA, "rojo=1", placeA, "rojo=1"}},
		"by the option":                 {o: Options{Trace: ofAttempt}, ctx: inContext, want: []string{strings.Replace(placeB, "2-01", "1-01", 1), "own=1", placeB, "own=1"}},
		"by the option, which is mute":  {o: Options{Trace: func(context.Context) (string, string) { return "", "" }}, ctx: inContext, want: []string{placeA, "rojo=1", placeA, "rojo=1"}},
		"by the option, which is wrong": {o: Options{Trace: func(context.Context) (string, string) { return "00-x\r\nX-Evil: 1", "" }}, want: []string{"", "", "", ""}},
		"by the request": {o: Options{Trace: ofAttempt}, ctx: inContext, header: []string{"traceparent", placeA, "tracestate", "congo=2"},
			want: []string{placeA, "congo=2", placeA, "congo=2"}},
		"a state of another place":  {ctx: func(ctx context.Context) context.Context { return WithTrace(ctx, placeA, "") }, header: []string{"tracestate", "congo=2"}, want: []string{placeA, "", placeA, ""}},
		"servers that are not ours": {o: Options{Trace: ofAttempt, NoFields: true}, ctx: inContext, want: []string{"", "", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, seen := &play{t: t, script: []string{"503", "200"}}, []string{}
				c.o.Base, c.o.Observe = p, func(a Attempt) { seen = append(seen, a.Trace) }
				ctx := t.Context()
				if c.ctx != nil {
					ctx = c.ctx(ctx)
				}
				if have := status(New(c.o), request(ctx, "GET", nil, c.header...)); have != "200" {
					t.Fatal(have)
				}
				for i, h := range p.heads {
					if have := [2]string{h.Get("traceparent"), h.Get("tracestate")}; have != [2]string(c.want[2*i:2*i+2]) || seen[i] != have[0] {
						t.Errorf("attempt %d: %q, seen as %q, want %q", i+1, have, seen[i], c.want[2*i:2*i+2])
					}
				}
				if len(p.heads) != 2 {
					t.Errorf("%d attempts", len(p.heads))
				}
			})
		})
	}
}

// TestTraceOfHedges: two attempts at once are two places, and are asked for from two goroutines.
func TestTraceOfHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &play{t: t, script: []string{"200 after=5s", "200 after=50ms"}}
		var mu sync.Mutex
		asked := map[int]int{}
		tr := New(Options{Base: p, Hedge: 100 * time.Millisecond, Trace: func(ctx context.Context) (string, string) {
			mu.Lock()
			defer mu.Unlock()
			asked[AttemptOf(ctx)]++
			return fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e4736-%016x-01", AttemptOf(ctx)), ""
		}})
		saved(tr)
		if have := status(tr, request(t.Context(), "GET", nil)); have != "200" {
			t.Fatal(have)
		}
		if asked[1] != 1 || asked[2] != 1 || p.heads[0].Get("traceparent") == p.heads[1].Get("traceparent") {
			t.Errorf("asked %v, sent %v", asked, p.heads)
		}
	})
}

// TestReceiveTrace: what a sender says goes on to whom its receiver asks; what is no place in a trace does not.
func TestReceiveTrace(t *testing.T) {
	for name, c := range map[string]struct {
		parents, states []string
		want            string
	}{
		"nothing":         {nil, nil, " "},
		"a place":         {[]string{placeA}, []string{"rojo=1", "congo=2"}, placeA + " rojo=1,congo=2"},
		"two places":      {[]string{placeA, placeB}, nil, " "},
		"malformed":       {[]string{"00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, []string{"rojo=1"}, " "},
		"a state alone":   {nil, []string{"rojo=1"}, " "},
		"a state too far": {[]string{placeA}, []string{strings.Repeat("a=b,", stateMost)}, placeA + " "},
	} {
		have := ""
		h := Receive(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			parent, state := TraceOf(r.Context())
			have = parent + " " + state
		}))
		r := request(t.Context(), "GET", nil)
		r.Header["Traceparent"], r.Header["Tracestate"] = c.parents, c.states
		if h.ServeHTTP(httptest.NewRecorder(), r); have != c.want {
			t.Errorf("%s: %q, want %q", name, have, c.want)
		}
	}
}
