package host

import (
	"fmt"
	"time"
)

// Stages of a client that refuse.
const (
	StageThrottle = "throttle"
	StageBreaker  = "breaker"
)

// Refused is the error of a request that was not sent, as it would most likely have failed. Find it with errors.As.
type Refused struct {
	Method string
	Host   string
	Stage  string        // StageThrottle or StageBreaker
	Why    string        // one sentence
	Wait   time.Duration // before it is worth trying again, at the least; 0: unknown
}

// Error implements error.
func (r *Refused) Error() string {
	return fmt.Sprintf("client: %s was not sent to %s: %s: %s", r.Method, r.Host, r.Stage, r.Why)
}
