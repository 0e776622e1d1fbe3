package client

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/contain/deadline"
	"github.com/even-keel/evenkeel/contain/retry"
)

// FieldClass is how much a request matters, to whom it is sent.
const FieldClass = "Evenkeel-Class"

// Class is how much a request matters: who can do only so much drops low ones first and critical ones last.
type Class string

// The classes. What says none is standard.
const (
	Critical Class = "critical"
	Standard Class = "standard"
	Low      Class = "low"
)

// keyOf is what is put into a context.
type keyOf int

const (
	keyClass keyOf = iota
	keyAttempt
	keyIdempotent
	keyTrace
)

// WithClass makes requests of ctx be of that class. What is no class changes nothing.
func WithClass(ctx context.Context, c Class) context.Context {
	if c != Critical && c != Standard && c != Low {
		return ctx
	}
	return context.WithValue(ctx, keyClass, c)
}

// ClassOf is the class of ctx, empty when nobody said one.
func ClassOf(ctx context.Context) Class {
	c, _ := ctx.Value(keyClass).(Class)
	return c
}

// WithAttempt says which attempt of its sender the work of ctx is: repeats are not repeated. 0 and 1 are the first.
func WithAttempt(ctx context.Context, n int) context.Context {
	if n <= 1 && AttemptOf(ctx) <= 1 {
		return ctx
	}
	return context.WithValue(ctx, keyAttempt, n)
}

// AttemptOf is which attempt of its sender the work of ctx is, 1 for the first.
func AttemptOf(ctx context.Context) int {
	n, _ := ctx.Value(keyAttempt).(int)
	return max(n, 1)
}

// WithIdempotent says that what is asked with ctx may be done twice without harm, whatever its method.
func WithIdempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, keyIdempotent, true)
}

// IsIdempotent says whether WithIdempotent was said of ctx.
func IsIdempotent(ctx context.Context) bool {
	is, _ := ctx.Value(keyIdempotent).(bool)
	return is
}

// fields are the header of an attempt with what ctx says of it. A class that the program has put there itself stays.
func fields(ctx context.Context, header http.Header, now time.Time, number int) http.Header {
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	if end, ok := ctx.Deadline(); ok {
		left := end.Sub(now)
		if said, is := deadline.Millis(h.Get(deadline.Field)); is { // by who passes a request on: time has gone by since
			left = min(left, said)
		}
		h.Set(deadline.Field, string(deadline.AppendMillis(nil, left)))
		if strings.HasPrefix(h.Get("Content-Type"), "application/grpc") && h.Get(deadline.FieldGRPC) == "" {
			h.Set(deadline.FieldGRPC, string(deadline.AppendGRPC(nil, left)))
		}
	}
	if c := ClassOf(ctx); c != "" && h.Get(FieldClass) == "" {
		h.Set(FieldClass, string(c))
	}
	// A repeat of a repeat is one more: whoever comes behind sees that somebody tries again already.
	if n := caller(ctx, h) + number - 1; n > 1 {
		h.Set(retry.FieldAttempt, strconv.Itoa(n))
	}
	return h
}

// caller is which attempt of its sender a request is, as its context or a field that is passed on says.
func caller(ctx context.Context, h http.Header) int {
	return max(AttemptOf(ctx), retry.CallerAttempt(h.Get(retry.FieldAttempt)))
}
