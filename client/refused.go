package client

import (
	"fmt"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
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

// Attempt is one attempt that ended, or a request that was not sent.
type Attempt struct {
	Host   string
	Number int  // 1 for the first
	Hedge  bool // made beside another one
	Status int  // of the answer; 0: there was none
	Err    error
	Took   time.Duration // until the head of the answer
	Reason retry.Reason  // what failed; retry.None: nothing that is ever repeated
	// Kept is why what failed is not repeated: a word of retry.Denial, or a stage; empty: it is repeated, or has not failed.
	Kept string
}
