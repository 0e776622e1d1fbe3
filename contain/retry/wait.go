package retry

import "time"

// The waits before repeats, with full jitter: anything from nothing to a ceiling that doubles. Full jitter spreads
// those who failed at one moment better than any wait with a floor (AWS Architecture Blog, "Exponential Backoff And Jitter").
const (
	FirstWait = 25 * time.Millisecond
	LastWait  = 2 * time.Second
)

// Backoff is the wait after failed attempts, by a random number from 0 to 1.
func Backoff(failed int, random float64) time.Duration {
	ceiling := LastWait
	if n := max(failed, 1) - 1; n < 10 {
		ceiling = min(FirstWait<<n, LastWait)
	}
	return time.Duration(float64(ceiling) * min(max(random, 0), 1))
}

// Wait is how long to wait after an attempt that may be repeated, by a random number from 0 to 1. Another place is there for the
// first repeat of what no server saw: it is tried at once. What a server asked for is waited for, and jitter comes on top, so that
// those whom it told the same do not come back at the same moment.
func Wait(a Attempt, random float64) time.Duration {
	if a.Number <= 1 && a.RetryAfter == 0 && (a.Kind == Connect || a.Kind == Unsent) {
		return 0
	}
	return max(a.RetryAfter, 0) + Backoff(a.Number, random)
}
