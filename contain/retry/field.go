package retry

import (
	"net/http"
	"strconv"
	"time"
)

// Names of fields in HTTP heads.
const (
	// FieldAttempt tells the next server which attempt a request is, when it is not the first: 2 or more.
	FieldAttempt = "Evenkeel-Attempt"
	// FieldNoRetry in an answer forbids to try again: its value is 1.
	FieldNoRetry = "Evenkeel-No-Retry"
	// FieldKey makes a request repeatable whatever its method (draft-ietf-httpapi-idempotency-key-header).
	FieldKey = "Idempotency-Key"
	// FieldPushback is how gRPC servers say when to try again, in milliseconds; negative: not at all (gRPC A6).
	FieldPushback = "grpc-retry-pushback-ms"
	// FieldPrevious is how gRPC clients say how many attempts came before (gRPC A6).
	FieldPrevious = "grpc-previous-rpc-attempts"
)

// attemptMax bounds the attempt that a sender may claim. It only takes repeats away, so nobody gains by a lie.
const attemptMax = 100

// CallerAttempt reads Evenkeel-Attempt: which attempt of its sender a request is, 1 for what is no such number.
func CallerAttempt[T string | []byte](v T) int { return max(1, whole(v, attemptMax)) }

// PreviousAttempts reads grpc-previous-rpc-attempts and returns the same as CallerAttempt.
func PreviousAttempts[T string | []byte](v T) int { return 1 + max(0, whole(v, attemptMax)) }

// whole reads digits, up to most; -1 for anything else.
func whole[T string | []byte](v T, most int) int {
	if len(v) == 0 || len(v) > 9 {
		return -1
	}
	n := 0
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return -1
		}
		n = n*10 + int(v[i]-'0')
	}
	return min(n, most)
}

// ForbidsRetry reads Evenkeel-No-Retry. Everything but nothing, 0, ?0 and false forbids.
func ForbidsRetry[T string | []byte](v T) bool {
	switch string(v) {
	case "", "0", "?0", "false":
		return false
	}
	return true
}

// atOnce is what a server asks for that wants no wait, but to be asked again: more than nothing, which says that it did not ask.
const atOnce = time.Nanosecond

// Pushback reads grpc-retry-pushback-ms. As gRPC A6 has it, what is not a number forbids, as a negative one does. Who says 0 wants no wait, but has asked to be asked again.
func Pushback[T string | []byte](v T) (wait time.Duration, forbids bool) {
	ms := whole(v, 1e9)
	if ms < 0 {
		return 0, true
	}
	return max(time.Duration(ms)*time.Millisecond, atOnce), false
}

// longestAsked bounds what a Retry-After may ask for. Who asks for more means "not today".
const longestAsked = 24 * time.Hour

// After reads Retry-After, in seconds or as a date (RFC 9110 §10.2.3); 0 when it is absent, malformed or past.
func After(v string, now time.Time) time.Duration {
	if len(v) > 64 {
		return 0
	}
	if n, err := strconv.ParseUint(v, 10, 63); err == nil {
		return time.Duration(min(n, uint64(longestAsked/time.Second))) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestAsked)
}
