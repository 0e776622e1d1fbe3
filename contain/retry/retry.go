// Package retry decides whether an attempt that failed may be made again, after which wait, and how many repeats a budget has left.
package retry

import "time"

// Limits of trying again.
const (
	// Attempts is how often a request is tried at the most, the first time included. Three find a healthy endpoint when a third of a
	// pool died since the last look in 96 of 100 cases; more would multiply the load of an outage.
	Attempts = 3
	// MaxWait is the longest Retry-After or pushback that is waited for: who asks for more is taken at its word, by whoever asked us.
	MaxWait = time.Second
	// CallerMaxWait is the same for callers, who hold nothing of others while they wait: a gateway that begins to refuse asks for one or two seconds, and
	// for up to four when it is short of something itself. Of longer ones callers hear at once.
	CallerMaxWait = 4 * time.Second
)

// Rules say what is repeated. The zero value repeats nothing; Default is what is sane.
type Rules struct {
	Attempts int           // in all, the first included; 0 and 1: no repeat
	On       Reasons       // failures that are repeated
	MaxWait  time.Duration // longest Retry-After or pushback that is waited for; more: not repeated
}

// Default are the rules for who says nothing: everything that is safe, three attempts.
func Default() Rules { return Rules{Attempts: Attempts, On: All, MaxWait: MaxWait} }

// Request is what of a request counts for its repeats.
type Request struct {
	Idempotent bool // its method may be sent twice without harm: see Idempotent
	Keyed      bool // it carries an Idempotency-Key: the server tells a repeat from a new request
	Gone       bool // its body, or a part of it, can not be sent again
	Caller     int  // which attempt of its sender it is, as Evenkeel-Attempt says; 0 and 1: the first
}

// Kind is how an attempt ended.
type Kind uint8

// The kinds of ends. Of an answer the status decides; what is neither Connect nor Unsent may have reached the server.
const (
	Answered  Kind = iota // an answer head came, and nothing of it was passed on
	Started               // bytes of the answer were passed on: never repeated
	Connect               // no connection
	Unsent                // the connection ended, and provably the server saw nothing of the request
	Reset                 // the connection ended before the answer head
	TimedOut              // the time of this attempt, not that of the whole, was over before the answer head
	Cancelled             // whoever asked has left, or the whole deadline passed
)

// Attempt is how one attempt ended.
type Attempt struct {
	Number     int // 1 for the first
	Kind       Kind
	Status     int           // of the answer
	Code       int           // grpc-status of an answer that is nothing but a status; 0 for others
	RetryAfter time.Duration // what Retry-After or grpc-retry-pushback-ms asked for; 0: nothing
	NoRetry    bool          // the server forbade it, by Evenkeel-No-Retry or a negative pushback
}

// Verdict is what becomes of an attempt that ended.
type Verdict struct {
	Reason Reason // what failed; None: nothing that is ever repeated
	Denial Denial // why it is not repeated; Granted: it may be, if there is budget and time
}

// Judge says whether a request may be tried again after an attempt.
func (r *Rules) Judge(q Request, a Attempt) Verdict {
	reason := reasonOf(a)
	v := Verdict{Reason: reason}
	unseen := a.Kind == Connect || a.Kind == Unsent
	switch {
	case reason == None:
		v.Denial = Final
	case !r.On.Has(reason):
		v.Denial = Off
	case a.NoRetry:
		v.Denial = Forbidden
	case a.Number >= r.Attempts:
		v.Denial = Exhausted
	case q.Gone:
		v.Denial = BodyGone
	case !unseen && !q.Idempotent && !q.Keyed:
		v.Denial = Unsafe
	case !unseen && q.Caller > 1:
		v.Denial = Nested // whoever sent it tries again already: one layer is enough, two multiply
	case a.RetryAfter > r.MaxWait:
		v.Denial = TooLong
	}
	return v
}

// The codes of gRPC that may pass when tried again.
const (
	codeExhausted   = 8
	codeUnavailable = 14
)

func reasonOf(a Attempt) Reason {
	switch a.Kind {
	case Connect:
		return ConnectFailed
	case Unsent, Reset:
		return WasReset
	case TimedOut:
		return Timeout
	case Answered:
	default:
		return None
	}
	switch {
	case a.Status == 502:
		return Status502
	case a.Status == 503:
		return Status503
	case a.Status == 504:
		return Status504
	case a.Status == 429 && a.RetryAfter > 0: // who does not say when means: not soon
		return Status429
	case a.Code == codeUnavailable:
		return Unavailable
	case a.Code == codeExhausted && a.RetryAfter > 0:
		return ResourceExhausted
	}
	return None
}

// Failed reports whether an answer is one that rules might repeat, by its status and gRPC code alone: a cheap question
// before all others.
func Failed(status, code int) bool {
	return status == 429 || status >= 502 && status <= 504 || code == codeExhausted || code == codeUnavailable
}

// Idempotent reports whether a method may be sent twice without harm (RFC 9110 §9.2.2).
func Idempotent[T string | []byte](method T) bool {
	switch string(method) {
	case "PUT", "DELETE":
		return true
	}
	return Safe(method)
}

// Safe reports whether a method only reads (RFC 9110 §9.2.1): it may even be sent twice at once.
func Safe[T string | []byte](method T) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}
