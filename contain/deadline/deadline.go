// Package deadline reads and writes how long a request may still take, in the forms that callers and endpoints know.
package deadline

import (
	"strconv"
	"time"
)

// Names of fields in HTTP heads.
const (
	// Field is evenkeel's own: the time left for the whole answer, in whole milliseconds. Time left and not a moment, because the
	// clocks of two machines differ.
	Field = "Evenkeel-Deadline"
	// FieldEnvoy says the same in the same form, to and from Envoy.
	FieldEnvoy = "X-Envoy-Expected-Rq-Timeout-Ms"
	// FieldGRPC is that of gRPC: up to eight digits and a unit of H, M, S, m, u or n.
	FieldGRPC = "grpc-timeout"
)

// Longest bounds what is read and written. Nothing waits longer for an answer, and sums with it do not overflow.
const Longest = 24 * time.Hour

// Millis reads Evenkeel-Deadline and X-Envoy-Expected-Rq-Timeout-Ms: digits, nothing else. ok is false for what is none, which says
// nothing then; 0 is a deadline that has passed.
func Millis[T string | []byte](v T) (left time.Duration, ok bool) {
	n, ok := digits(v, 15)
	if !ok {
		return 0, false
	}
	return time.Duration(min(n, int64(Longest/time.Millisecond))) * time.Millisecond, true
}

// GRPC reads grpc-timeout (gRPC over HTTP/2, "Timeout").
func GRPC[T string | []byte](v T) (left time.Duration, ok bool) {
	if len(v) < 2 {
		return 0, false
	}
	unit := unitOf(v[len(v)-1])
	n, ok := digits(v[:len(v)-1], 8)
	if unit == 0 || !ok {
		return 0, false
	}
	if n > int64(Longest/unit) {
		return Longest, true
	}
	return time.Duration(n) * unit, true
}

func unitOf(c byte) time.Duration {
	switch c {
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	case 'S':
		return time.Second
	case 'm':
		return time.Millisecond
	case 'u':
		return time.Microsecond
	case 'n':
		return time.Nanosecond
	}
	return 0
}

// digits reads a number of up to most digits.
func digits[T string | []byte](v T, most int) (n int64, ok bool) {
	if len(v) == 0 || len(v) > most {
		return 0, false
	}
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(v[i]-'0')
	}
	return n, true
}

// AppendMillis appends the time left as Millis reads it, rounded down: who is told less gives up in time.
func AppendMillis(dst []byte, left time.Duration) []byte {
	return strconv.AppendInt(dst, int64(bounded(left)/time.Millisecond), 10)
}

// AppendGRPC appends the time left as GRPC reads it, rounded down to milliseconds, or to microseconds below a tenth of a second.
func AppendGRPC(dst []byte, left time.Duration) []byte {
	left = bounded(left)
	if left < 100*time.Millisecond {
		return append(strconv.AppendInt(dst, int64(left/time.Microsecond), 10), 'u')
	}
	return append(strconv.AppendInt(dst, int64(left/time.Millisecond), 10), 'm')
}

func bounded(left time.Duration) time.Duration { return min(max(left, 0), Longest) }
