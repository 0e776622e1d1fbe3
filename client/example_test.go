package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/contain/retry"
)

// A server that cannot answer the first request.
func ExampleNew() {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "hello, attempt", r.Header.Get("Evenkeel-Attempt"))
	}))
	defer server.Close()

	shop := &http.Client{Transport: client.New(client.Options{
		Timeout:        3 * time.Second, // of requests whose context has no deadline
		AttemptTimeout: time.Second,
	})}
	resp, err := shop.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	fmt.Print(string(text), err)
	// Output:
	// hello, attempt 2
	// <nil>
}

// Two services, one behind the other: what the first is told travels to the second with the context.
func ExampleReceive() {
	stock := httptest.NewServer(client.Receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end, has := r.Context().Deadline()
		fmt.Fprintf(w, "stock: class %s, %v, half a second left: %v\n", client.ClassOf(r.Context()), has, time.Until(end) < 500*time.Millisecond)
	})))
	defer stock.Close()

	calls := &http.Client{Transport: client.New(client.Options{})}
	shop := httptest.NewServer(client.Receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, stock.URL, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		resp, err := calls.Do(out)
		if err != nil {
			client.NoRetry(w.Header()) // it was tried here
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	})))
	defer shop.Close()

	ctx, stop := context.WithTimeout(client.WithClass(context.Background(), client.Critical), 500*time.Millisecond)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, shop.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := calls.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	fmt.Print(string(text), err)
	// Output:
	// stock: class critical, true, half a second left: true
	// <nil>
}

// A program that uses OpenTelemetry: the span of a context is the parent of what its requests make servers do.
func ExampleOptions_trace() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Traceparent"))
	}))
	defer server.Close()

	shop := &http.Client{Transport: client.New(client.Options{
		Trace: func(ctx context.Context) (traceparent, tracestate string) {
			fields := propagation.MapCarrier{}
			propagation.TraceContext{}.Inject(ctx, fields)
			return fields["traceparent"], fields["tracestate"]
		},
	})}

	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0: 0x4b, 15: 0x36}, SpanID: trace.SpanID{7: 0xb7}, TraceFlags: trace.FlagsSampled})
	r, err := http.NewRequestWithContext(trace.ContextWithSpanContext(context.Background(), span), http.MethodGet, server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := shop.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	fmt.Println(string(text), err)
	// Output: 00-4b000000000000000000000000000036-00000000000000b7-01 <nil>
}

// A server that refuses everything is soon asked for a tenth of it.
func ExampleRefused() {
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer busy.Close()

	shop := &http.Client{Transport: client.New(client.Options{Rules: retry.Rules{Attempts: 1}})}
	for {
		resp, err := shop.Get(busy.URL)
		var refused *client.Refused
		if errors.As(err, &refused) {
			fmt.Println("not sent, because of the", refused.Stage)
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = resp.Body.Close()
	}
	// Output: not sent, because of the throttle
}

// A server that wants to be left alone for a while.
func ExampleRetryAfter() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()

	shop := &http.Client{Transport: client.New(client.Options{})}
	resp, err := shop.Get(server.URL)
	if wait := client.RetryAfter(resp, err); wait > 0 {
		fmt.Println("prices are from yesterday; the shop asks for", wait, "of silence")
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	// Output: prices are from yesterday; the shop asks for 30s of silence
}

// What is seen of every attempt, for a log or counters.
func ExampleOptions_observe() {
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer flaky.Close()

	calls := client.New(client.Options{Observe: func(a client.Attempt) {
		fmt.Printf("attempt %d: status %d, kept back: %q\n", a.Number, a.Status, a.Kept)
	}})
	resp, err := (&http.Client{Transport: calls}).Post(flaky.URL, "text/plain", nil) // may have had its effect
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = resp.Body.Close()
	for _, h := range calls.Status() {
		fmt.Printf("%d request, %d attempt, breaker %v\n", h.Requests, h.Attempts, h.Breaker.State)
	}
	// Output:
	// attempt 1: status 502, kept back: "unsafe"
	// 1 request, 1 attempt, breaker closed
}
