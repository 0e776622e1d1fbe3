package retry

// Reason is what failed, of a closed set: a label of metrics.
type Reason uint8

// The reasons. Hedge is a second attempt beside the first, not after it; it is never the reason of a failure.
const (
	None Reason = iota
	ConnectFailed
	WasReset
	Timeout
	Status429
	Status502
	Status503
	Status504
	Unavailable
	ResourceExhausted
	Hedge
	ReasonCount = iota
)

// String is the reason as the site file and metrics write it.
func (r Reason) String() string {
	return [ReasonCount]string{"none", "connect", "reset", "timeout", "429", "502", "503", "504", "grpc_unavailable", "grpc_resource_exhausted", "hedge"}[r]
}

// Reasons is a set of reasons.
type Reasons uint16

// All are all reasons that a failure can have.
const All Reasons = 1<<Hedge - 1<<ConnectFailed

// Has reports whether r is in the set.
func (s Reasons) Has(r Reason) bool { return s>>r&1 != 0 }

// With is the set with r.
func (s Reasons) With(r Reason) Reasons { return s | 1<<r }

// Named is the reason of that name, and whether a failure can have it.
func Named(name string) (Reason, bool) {
	for r := ConnectFailed; r < Hedge; r++ {
		if r.String() == name {
			return r, true
		}
	}
	return None, false
}

// Denial is why something that failed was not repeated, of a closed set: a label of metrics.
type Denial uint8

// The denials.
const (
	Granted     Denial = iota
	Final              // nothing that another attempt would mend: a success, a 400, a plain 500, an answer that had begun
	Off                // the rules leave this reason out
	Forbidden          // the server said so
	Exhausted          // it was tried often enough
	BodyGone           // the body cannot be sent again
	Unsafe             // it may have had its effect
	Nested             // it is a repeat of its sender
	TooLong            // the server asked for a longer wait than is waited for
	NoTime             // the deadline comes before the wait is over
	Spent              // the budget has nothing left
	Left               // whoever asked has left during the wait
	DenialCount = iota
)

// String is the denial as metrics write it.
func (d Denial) String() string {
	return [DenialCount]string{"granted", "final", "off", "forbidden", "attempts", "body_gone", "unsafe", "nested", "retry_after", "deadline", "budget", "client_left"}[d]
}
