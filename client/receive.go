package client

import (
	"context"
	"net/http"
	"time"

	"github.com/even-keel/evenkeel/contain/deadline"
	"github.com/even-keel/evenkeel/contain/retry"
)

// Receive puts what a request's sender says of it — its deadline, class, attempt and trace — into its context, so that the calls made for it with a
// Transport of this package say the same. A request whose deadline has passed is answered with 504 and not worked on.
//
// The fields are believed. A server that strangers can reach stands behind a gateway that takes them away, as evenkeel does.
func Receive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, stop := FromRequest(r)
		defer stop()
		if end, has := ctx.Deadline(); has && !time.Now().Before(end) {
			NoRetry(w.Header())
			http.Error(w, "the deadline of this request has passed", http.StatusGatewayTimeout)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// FromRequest is the context of an incoming request with what its fields say: a deadline in any of the forms Evenkeel-Deadline,
// X-Envoy-Expected-Rq-Timeout-Ms and grpc-timeout (of several the shortest), a class, an attempt, a place in
// a trace. What is malformed says nothing.
func FromRequest(r *http.Request) (context.Context, context.CancelFunc) {
	ctx := traceOf(WithClass(r.Context(), Class(r.Header.Get(FieldClass))), r.Header)
	if v := r.Header.Get(retry.FieldAttempt); v != "" {
		ctx = WithAttempt(ctx, retry.CallerAttempt(v))
	}
	if left, ok := left(r.Header); ok {
		return context.WithTimeout(ctx, left)
	}
	return ctx, func() {}
}

// left is the shortest time that a head gives.
func left(h http.Header) (shortest time.Duration, ok bool) {
	for _, form := range []struct {
		name string
		read func(string) (time.Duration, bool)
	}{{deadline.Field, deadline.Millis[string]}, {deadline.FieldEnvoy, deadline.Millis[string]}, {deadline.FieldGRPC, deadline.GRPC[string]}} {
		if d, is := form.read(h.Get(form.name)); is && (!ok || d < shortest) {
			shortest, ok = d, true
		}
	}
	return shortest, ok
}

// NoRetry marks an answer, before its head is written: it is not worth trying again, or has been tried here already.
func NoRetry(h http.Header) { h.Set(retry.FieldNoRetry, "1") }
