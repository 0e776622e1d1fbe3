package client

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
)

// Names of fields that a request takes along.
const (
	// FieldDeadline is how many milliseconds are left for the whole answer.
	FieldDeadline = "Evenkeel-Deadline"
	// FieldClass is how much the request matters.
	FieldClass = "Evenkeel-Class"
	// fieldTimeout is the same as FieldDeadline for gRPC.
	fieldTimeout = "Grpc-Timeout"
)

// Class is how much a request matters: who can do only so much drops low ones first and critical ones last.
type Class string

// The classes. What says none is standard.
const (
	Critical Class = "critical"
	Standard Class = "standard"
	Low      Class = "low"
)

// classes is how many there are.
const classes = 3

func (c Class) index() int {
	switch c {
	case Critical:
		return 1
	case Low:
		return 2
	}
	return 0
}

// keyOf is what is put into a context.
type keyOf int

const (
	keyClass keyOf = iota
	keyAttempt
	keyIdempotent
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

// fields are the header of an attempt with what ctx says of it. What the program has put there itself stays.
func fields(ctx context.Context, header http.Header, now time.Time, number int) http.Header {
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	if deadline, ok := ctx.Deadline(); ok && h.Get(FieldDeadline) == "" {
		left := max(deadline.Sub(now), 0)
		h.Set(FieldDeadline, strconv.FormatInt(left.Milliseconds(), 10))
		if strings.HasPrefix(h.Get("Content-Type"), "application/grpc") && h.Get(fieldTimeout) == "" {
			h.Set(fieldTimeout, grpcTimeout(left))
		}
	}
	if c := ClassOf(ctx); c != "" && h.Get(FieldClass) == "" {
		h.Set(FieldClass, string(c))
	}
	// A repeat of a repeat is one more: whoever comes behind sees that somebody tries again already.
	if n := AttemptOf(ctx) + number - 1; n > 1 {
		h.Set(retry.FieldAttempt, strconv.Itoa(n))
	}
	return h
}

// grpcTimeout writes at most 8 digits and a unit (gRPC over HTTP/2, "Timeout").
func grpcTimeout(d time.Duration) string {
	const most = 99_999_999
	switch {
	case d <= most*time.Microsecond:
		return strconv.FormatInt(d.Microseconds(), 10) + "u"
	case d <= most*time.Millisecond:
		return strconv.FormatInt(d.Milliseconds(), 10) + "m"
	}
	return strconv.FormatInt(min(int64(d/time.Second), most), 10) + "S"
}
